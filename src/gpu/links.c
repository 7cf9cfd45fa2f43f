/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "gpu/nvml_table.h"
#include "gpu/place.h"

static enum tr_gpu_near nearness(nvmlGpuTopologyLevel_t level)
{
	switch (level) {
	case NVML_TOPOLOGY_INTERNAL:
		return TR_GPU_NEAR_BOARD;
	case NVML_TOPOLOGY_SINGLE:
		return TR_GPU_NEAR_SWITCH;
	case NVML_TOPOLOGY_MULTIPLE:
		return TR_GPU_NEAR_SWITCHES;
	case NVML_TOPOLOGY_HOSTBRIDGE:
		return TR_GPU_NEAR_HOSTBRIDGE;
	case NVML_TOPOLOGY_NODE:
		return TR_GPU_NEAR_NODE;
	case NVML_TOPOLOGY_SYSTEM:
		return TR_GPU_NEAR_SYSTEM;
	default:
		return TR_GPU_NEAR_UNKNOWN;
	}
}

enum tr_gpu_near tr_gpu_near(const char *uuid, const char *other)
{
	nvmlGpuTopologyLevel_t level;
	nvmlDevice_t one, two;

	if (!tr_nvml.nvmlDeviceGetTopologyCommonAncestor ||
	    tr_nvml.nvmlDeviceGetHandleByUUID(uuid, &one) != NVML_SUCCESS ||
	    tr_nvml.nvmlDeviceGetHandleByUUID(other, &two) != NVML_SUCCESS ||
	    tr_nvml.nvmlDeviceGetTopologyCommonAncestor(one, two, &level) != NVML_SUCCESS)
		return TR_GPU_NEAR_UNKNOWN;
	return nearness(level);
}

static bool read_link(nvmlDevice_t device, unsigned link, struct tr_gpu_link *out)
{
	nvmlIntNvLinkDeviceType_t type = NVML_NVLINK_DEVICE_TYPE_UNKNOWN;
	nvmlEnableState_t state = NVML_FEATURE_DISABLED;
	nvmlPciInfo_t pci = { 0 };

	if (tr_nvml.nvmlDeviceGetNvLinkState(device, link, &state) != NVML_SUCCESS ||
	    state != NVML_FEATURE_ENABLED ||
	    tr_nvml.nvmlDeviceGetNvLinkRemotePciInfo_v2(device, link, &pci) != NVML_SUCCESS)
		return false;
	if (tr_nvml.nvmlDeviceGetNvLinkRemoteDeviceType)
		(void)tr_nvml.nvmlDeviceGetNvLinkRemoteDeviceType(device, link, &type);
	(void)snprintf(out->remote, sizeof(out->remote), "%.31s", pci.busId);
	out->is_switch = type == NVML_NVLINK_DEVICE_TYPE_SWITCH;
	return true;
}

int tr_gpu_links(const char *uuid, struct tr_gpu_link *rows, size_t *count,
		 struct tr_err *err)
{
	size_t room = *count;
	nvmlDevice_t device;
	nvmlReturn_t r = tr_nvml.nvmlDeviceGetHandleByUUID(uuid, &device);

	*count = 0;
	if (r != NVML_SUCCESS)
		return tr_nvml_fail(err, uuid, r);
	if (!tr_nvml.nvmlDeviceGetNvLinkState ||
	    !tr_nvml.nvmlDeviceGetNvLinkRemotePciInfo_v2)
		return 0;
	for (unsigned i = 0; i < TR_GPU_LINKS_MAX && *count < room; i++)
		if (read_link(device, i, &rows[*count]))
			++*count;
	return 0;
}
