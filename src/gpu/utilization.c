/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdbool.h>

#include "gpu/gpu.h"
#include "gpu/nvml_table.h"

/* The driver keeps 100 samples; a newer one may keep more. */
#define SAMPLES_MAX 1024

static nvmlReturn_t ask_first_abi(nvmlDevice_t device, uint64_t after_us,
				  struct tr_gpu_sample *rows, unsigned *count)
{
	static nvmlProcessUtilizationSample_t told[SAMPLES_MAX];
	unsigned n = SAMPLES_MAX;
	nvmlReturn_t r = tr_nvml.nvmlDeviceGetProcessUtilization(device, told, &n,
								 after_us);

	if (r != NVML_SUCCESS)
		return r;
	if (n < *count)
		*count = n;
	for (unsigned i = 0; i < *count; i++)
		rows[i] = (struct tr_gpu_sample){ (pid_t)told[i].pid, told[i].smUtil,
						  told[i].timeStamp };
	return NVML_SUCCESS;
}

static nvmlReturn_t ask_second_abi(nvmlDevice_t device, uint64_t after_us,
				   struct tr_gpu_sample *rows, unsigned *count)
{
	static nvmlProcessUtilizationInfo_v1_t told[SAMPLES_MAX];
	nvmlProcessesUtilizationInfo_t info = {
		.version = nvmlProcessesUtilizationInfo_v1,
		.processSamplesCount = SAMPLES_MAX,
		.lastSeenTimeStamp = after_us,
		.procUtilArray = told,
	};
	nvmlReturn_t r = tr_nvml.nvmlDeviceGetProcessesUtilizationInfo(device, &info);

	if (r != NVML_SUCCESS)
		return r;
	if (info.processSamplesCount < *count)
		*count = info.processSamplesCount;
	for (unsigned i = 0; i < *count; i++)
		rows[i] = (struct tr_gpu_sample){ (pid_t)told[i].pid, told[i].smUtil,
						  told[i].timeStamp };
	return NVML_SUCCESS;
}

static bool is_lacking(nvmlReturn_t r)
{
	return r == NVML_ERROR_NOT_SUPPORTED || r == NVML_ERROR_FUNCTION_NOT_FOUND ||
	       r == NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
}

int tr_gpu_utilization(const char *uuid, uint64_t after_us, struct tr_gpu_sample *rows,
		       size_t *count, struct tr_err *err)
{
	unsigned n = *count > SAMPLES_MAX ? SAMPLES_MAX : (unsigned)*count;
	nvmlDevice_t device;
	nvmlReturn_t r = tr_nvml.nvmlDeviceGetHandleByUUID(uuid, &device);

	*count = 0;
	if (r != NVML_SUCCESS)
		return tr_nvml_fail(err, uuid, r);
	r = NVML_ERROR_NOT_SUPPORTED;
	if (tr_nvml.nvmlDeviceGetProcessUtilization)
		r = ask_first_abi(device, after_us, rows, &n);
	if (is_lacking(r) && tr_nvml.nvmlDeviceGetProcessesUtilizationInfo)
		r = ask_second_abi(device, after_us, rows, &n);
	if (is_lacking(r))
		return tr_fail(err, ENODATA, "%s: no utilisation by process here", uuid);
	/* "Not found": nothing ran since. */
	if (r != NVML_SUCCESS && r != NVML_ERROR_NOT_FOUND)
		return tr_nvml_fail(err, uuid, r);
	*count = r == NVML_SUCCESS ? n : 0;
	return 0;
}
