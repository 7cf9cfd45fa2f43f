/* SPDX-License-Identifier: Apache-2.0 */
/* The first GPU says that its NVLinks go to the second, which says that its own go to switches. */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>
#include <stdbool.h>
#include <string.h>

static nvmlReturn_t second_of(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	nvmlDevice_t second;
	unsigned index;
	nvmlReturn_t r = nvmlDeviceGetIndex(device, &index);

	if (r != NVML_SUCCESS || index != 0)
		return NVML_ERROR_NOT_FOUND;
	r = nvmlDeviceGetHandleByIndex_v2(1, &second);
	return r == NVML_SUCCESS ? nvmlDeviceGetPciInfo_v3(second, pci) : r;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link,
						 nvmlPciInfo_t *pci)
{
	nvmlPciInfo_t found;

	(void)link;
	memset(pci, 0, sizeof(*pci));
	if (second_of(device, &found) == NVML_SUCCESS)
		*pci = found;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link,
						 nvmlIntNvLinkDeviceType_t *type)
{
	nvmlPciInfo_t pci;
	bool is_first = second_of(device, &pci) == NVML_SUCCESS;

	(void)link;
	*type = is_first ? NVML_NVLINK_DEVICE_TYPE_GPU : NVML_NVLINK_DEVICE_TYPE_SWITCH;
	return NVML_SUCCESS;
}
