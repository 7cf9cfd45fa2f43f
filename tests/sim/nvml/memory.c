/* SPDX-License-Identifier: Apache-2.0 */
#include "nvml/sim_nvml.h"

#include <errno.h>
#include <stdlib.h>

/*
 * Memory and processes, as the machine counts them: the one source that the simulated
 * libcuda also asks. In version 1 "used" includes what the driver reserves, in version 2 it
 * does not.
 */

#define PROCESSES_AT_ONCE 256

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	struct nv_device dev;
	struct rm_memory m;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device, &dev);
	if (!memory)
		return NVML_ERROR_INVALID_ARGUMENT;
	r = nv_memory(dev.index, &m);
	if (r != NVML_SUCCESS)
		return r;
	memory->total = nv_mig_bytes(&dev, m.total);
	memory->free = nv_mig_bytes(&dev, m.free);
	memory->used = nv_mig_bytes(&dev, m.used + m.reserved);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	struct nv_device dev;
	struct rm_memory m;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device, &dev);
	if (!memory)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (memory->version != nvmlMemory_v2)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	r = nv_memory(dev.index, &m);
	if (r != NVML_SUCCESS)
		return r;
	memory->total = nv_mig_bytes(&dev, m.total);
	memory->reserved = nv_mig_bytes(&dev, m.reserved);
	memory->free = nv_mig_bytes(&dev, m.free);
	memory->used = nv_mig_bytes(&dev, m.used);
	return NVML_SUCCESS;
}

/* As large as the device's memory, rounded up to a power of two; NVML's own small mapping
 * in it. */
nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *bar1Memory)
{
	struct nv_device dev;
	uint64_t bytes = 256u << 20;

	NV_ENTER_DEVICE(device, &dev);
	if (!bar1Memory)
		return NVML_ERROR_INVALID_ARGUMENT;
	while (!dev.board->has_display && bytes < dev.facts->total_bytes)
		bytes *= 2;
	bar1Memory->bar1Total = bytes;
	bar1Memory->bar1Used = 2u << 20;
	bar1Memory->bar1Free = bytes - bar1Memory->bar1Used;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryBusWidth(nvmlDevice_t device, unsigned int *busWidth)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!busWidth)
		return NVML_ERROR_INVALID_ARGUMENT;
	*busWidth = dev.facts->bus_width_bits;
	return NVML_SUCCESS;
}

/* ---- process lists ------------------------------------------------------------------- */

/* All rows of a device, *rows to be freed by the caller. A process that starts between the
 * two calls makes the list longer: asked again, with room to spare. */
static nvmlReturn_t read_processes(uint32_t index, struct rm_process **rows, size_t *n)
{
	size_t room = PROCESSES_AT_ONCE;
	int r;

	*rows = NULL;
	if (rm_machine()->pid_mode == RM_PIDS_NONE) {
		*n = 0;
		return NVML_SUCCESS;
	}
	for (;;) {
		struct rm_process *more = realloc(*rows, room * sizeof(*more));

		if (!more)
			break;
		*rows = more;
		*n = room;
		r = rm_processes(index, *rows, n);
		if (r != -ENOSPC)
			return nv_result(r);
		room = *n + PROCESSES_AT_ONCE;
	}
	free(*rows);
	*rows = NULL;
	return NVML_ERROR_MEMORY;
}

enum { FORM_V1 = 1, FORM_V2 };

static void put_process(void *infos, size_t i, int form, const struct rm_process *row)
{
	if (form == FORM_V1) {
		nvmlProcessInfo_v1_t *out = (nvmlProcessInfo_v1_t *)infos + i;

		out->pid = (unsigned int)row->pid;
		out->usedGpuMemory = row->bytes;
	} else {
		nvmlProcessInfo_v2_t *out = (nvmlProcessInfo_v2_t *)infos + i;

		out->pid = (unsigned int)row->pid;
		out->usedGpuMemory = row->bytes;
		out->gpuInstanceId = 0xffffffffu;
		out->computeInstanceId = 0xffffffffu;
	}
}

/* A context makes a process a compute process; nothing here draws, and there is no MPS. */
static nvmlReturn_t list_compute(const struct nv_device *dev, unsigned int *count,
				 void *infos, int form)
{
	struct rm_process *rows;
	nvmlReturn_t r;
	size_t n;

	if (!count || (*count != 0 && !infos))
		return NVML_ERROR_INVALID_ARGUMENT;
	r = read_processes(dev->index, &rows, &n);
	if (r != NVML_SUCCESS)
		return r;
	if (n > *count)
		r = NVML_ERROR_INSUFFICIENT_SIZE;
	else
		for (size_t i = 0; i < n; i++)
			put_process(infos, i, form, &rows[i]);
	*count = (unsigned int)n;
	free(rows);
	return r;
}

static nvmlReturn_t list_nothing(unsigned int *count, const void *infos)
{
	if (!count || (*count != 0 && !infos))
		return NVML_ERROR_INVALID_ARGUMENT;
	*count = 0;
	return NVML_SUCCESS;
}

#define PROCESS_LIST(name, row, listed)                                             \
	nvmlReturn_t name(nvmlDevice_t device, unsigned int *infoCount, row *infos) \
	{                                                                           \
		struct nv_device dev;                                               \
                                                                                    \
		NV_ENTER_DEVICE(device, &dev);                                      \
		return listed;                                                      \
	}

#define COMPUTE_LIST(name, row, form) \
	PROCESS_LIST(name, row, list_compute(&dev, infoCount, infos, form))
#define EMPTY_LIST(name, row) PROCESS_LIST(name, row, list_nothing(infoCount, infos))

COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t, FORM_V1)
COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_v2_t, FORM_V2)
COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t, FORM_V2)
EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t)
EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t)
EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t)

static nvmlReturn_t fill_details(const struct nv_device *dev,
				 nvmlProcessDetailList_v1_t *list)
{
	struct rm_process *rows;
	nvmlReturn_t r;
	size_t n;

	r = read_processes(dev->index, &rows, &n);
	if (r != NVML_SUCCESS)
		return r;
	if (n > list->numProcArrayEntries)
		r = NVML_ERROR_INSUFFICIENT_SIZE;
	for (size_t i = 0; r == NVML_SUCCESS && i < n; i++) {
		list->procArray[i] = (nvmlProcessDetail_v1_t){
			.pid = (unsigned int)rows[i].pid,
			.usedGpuMemory = rows[i].bytes,
			.gpuInstanceId = 0xffffffffu,
			.computeInstanceId = 0xffffffffu,
		};
	}
	list->numProcArrayEntries = (unsigned int)n;
	free(rows);
	return r;
}

/* mode: 0 compute, 1 graphics, 2 MPS */
nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
						   nvmlProcessDetailList_t *plist)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!plist)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (plist->version != nvmlProcessDetailList_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (plist->mode > 2 || (plist->numProcArrayEntries != 0 && !plist->procArray))
		return NVML_ERROR_INVALID_ARGUMENT;
	if (plist->mode == 0)
		return fill_details(&dev, plist);
	plist->numProcArrayEntries = 0;
	return NVML_SUCCESS;
}
