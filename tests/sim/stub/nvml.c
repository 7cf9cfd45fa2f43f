/* SPDX-License-Identifier: Apache-2.0 */
/* What of NVML must give something out; all else is the generated default, success. */

#include <string.h>

#include "nvml/sim_nvml.h"
#include "stub.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

static char device_token;

nvmlReturn_t nv_unsupported(const char *entry)
{
	return NVML_SUCCESS;
}

static nvmlReturn_t give_device(nvmlDevice_t *device)
{
	*device = (nvmlDevice_t)(void *)&device_token;
	return NVML_SUCCESS;
}

static nvmlReturn_t give_text(char *to, unsigned int room, const char *text)
{
	if (room <= strlen(text))
		return NVML_ERROR_INSUFFICIENT_SIZE;
	strcpy(to, text);
	return NVML_SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t result)
{
	return result == NVML_SUCCESS ? "Success" : "Error";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
	return give_text(version, length, "580.65.06");
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *cudaDriverVersion)
{
	*cudaDriverVersion = STUB_DRIVER_VERSION;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int *deviceCount)
{
	*deviceCount = 1;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *deviceCount)
{
	*deviceCount = 1;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device)
{
	return index ? NVML_ERROR_INVALID_ARGUMENT : give_device(device);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
	return index ? NVML_ERROR_INVALID_ARGUMENT : give_device(device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
	return strcmp(uuid, STUB_UUID_TEXT) != 0 ? NVML_ERROR_NOT_FOUND
						 : give_device(device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *pciBusId, nvmlDevice_t *device)
{
	return give_device(device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *pciBusId, nvmlDevice_t *device)
{
	return give_device(device);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
	*index = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minorNumber)
{
	*minorNumber = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
	return give_text(name, length, STUB_NAME);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
	return give_text(uuid, length, STUB_UUID_TEXT);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	memory->total = STUB_TOTAL_BYTES;
	memory->used = STUB_RESERVED_BYTES + STUB_USED_BYTES;
	memory->free = STUB_TOTAL_BYTES - STUB_RESERVED_BYTES - STUB_USED_BYTES;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	memory->total = STUB_TOTAL_BYTES;
	memory->reserved = STUB_RESERVED_BYTES;
	memory->used = STUB_USED_BYTES;
	memory->free = STUB_TOTAL_BYTES - STUB_RESERVED_BYTES - STUB_USED_BYTES;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device,
						     unsigned int *infoCount,
						     nvmlProcessInfo_t *infos)
{
	*infoCount = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device,
						      unsigned int *infoCount,
						      nvmlProcessInfo_t *infos)
{
	*infoCount = 0;
	return NVML_SUCCESS;
}
