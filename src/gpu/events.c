/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "gpu/live.h"
#include "gpu/nvml_table.h"

static nvmlEventSet_t set;

static bool register_one(const char *uuid)
{
	unsigned long long types = 0;
	nvmlDevice_t device;

	if (tr_nvml.nvmlDeviceGetHandleByUUID(uuid, &device) != NVML_SUCCESS)
		return false;
	if (tr_nvml.nvmlDeviceGetSupportedEventTypes &&
	    tr_nvml.nvmlDeviceGetSupportedEventTypes(device, &types) == NVML_SUCCESS &&
	    !(types & nvmlEventTypeXidCriticalError))
		return false;
	return tr_nvml.nvmlDeviceRegisterEvents(device, nvmlEventTypeXidCriticalError,
						set) == NVML_SUCCESS;
}

int tr_gpu_events_open(const struct tr_gpus *gpus, struct tr_err *err)
{
	bool any = false;
	nvmlReturn_t r;

	tr_gpu_events_close();
	if (!tr_nvml.nvmlEventSetCreate || !tr_nvml.nvmlDeviceRegisterEvents ||
	    (!tr_nvml.nvmlEventSetWait_v2 && !tr_nvml.nvmlEventSetWait))
		return tr_fail(err, ENODATA, "this driver tells no XIDs");
	r = tr_nvml.nvmlEventSetCreate(&set);
	if (r != NVML_SUCCESS) {
		set = NULL;
		return tr_nvml_fail(err, "XIDs cannot be watched", r);
	}
	for (unsigned i = 0; i < gpus->count; i++)
		any |= register_one(gpus->gpus[i].uuid);
	if (any)
		return 0;
	tr_gpu_events_close();
	return tr_fail(err, ENODATA, "no device here tells XIDs");
}

void tr_gpu_events_close(void)
{
	if (set && tr_nvml.nvmlEventSetFree)
		(void)tr_nvml.nvmlEventSetFree(set);
	set = NULL;
}

static int instance_of(unsigned id)
{
	return id > INT_MAX ? -1 : (int)id;
}

int tr_gpu_events_wait(unsigned timeout_ms, struct tr_gpu_event *out, struct tr_err *err)
{
	nvmlEventData_t data = { .gpuInstanceId = UINT_MAX, .computeInstanceId = UINT_MAX };
	nvmlReturn_t r;

	if (!set)
		return 0;
	r = tr_nvml.nvmlEventSetWait_v2
		    ? tr_nvml.nvmlEventSetWait_v2(set, &data, timeout_ms)
		    : tr_nvml.nvmlEventSetWait(set, &data, timeout_ms);
	if (r == NVML_ERROR_TIMEOUT)
		return 0;
	if (r != NVML_SUCCESS) {
		(void)tr_nvml_fail(err, "waiting for XIDs", r);
		return -EIO;
	}
	*out = (struct tr_gpu_event){
		.xid = (unsigned)data.eventData,
		.gpu_instance = instance_of(data.gpuInstanceId),
		.compute_instance = instance_of(data.computeInstanceId),
	};
	if (tr_nvml.nvmlDeviceGetUUID(data.device, out->uuid, sizeof(out->uuid)) !=
	    NVML_SUCCESS)
		out->uuid[0] = '\0';
	return data.eventType & nvmlEventTypeXidCriticalError ? 1 : 0;
}
