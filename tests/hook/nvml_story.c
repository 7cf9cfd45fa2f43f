/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA and NVML tell one story: total, free, used, both structs, and the slice's processes.
 * Slice: limit 1 GiB, floor 100 MiB, the first of two devices. */
#include <dlfcn.h>
#include <unistd.h>

#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>

#include "check.h"

#define LIMIT (1024 * MIB)
#define FLOOR (100 * MIB)

static void *nvml;

/* As every NVML client does. */
static void *find(const char *name)
{
	void *found = dlsym(nvml, name);

	CHECK(found);
	return found;
}

#define NVML(name) ((__typeof__(&name))find(#name))

static void check_memory(nvmlDevice_t device)
{
	nvmlMemory_v2_t second = { .version = nvmlMemory_v2 };
	size_t free_bytes, total_bytes;
	nvmlMemory_t first;

	OK(cuMemGetInfo(&free_bytes, &total_bytes));
	OK(NVML(nvmlDeviceGetMemoryInfo)(device, &first));
	OK(NVML(nvmlDeviceGetMemoryInfo_v2)(device, &second));
	CHECK(first.total == LIMIT && first.total == total_bytes);
	CHECK(first.free == free_bytes && first.used == LIMIT - free_bytes);
	CHECK(second.total == first.total && second.free == first.free &&
	      second.used == first.used && second.reserved == 0);
	second.version = 12345;
	CHECK(NVML(nvmlDeviceGetMemoryInfo_v2)(device, &second) != NVML_SUCCESS);
	CHECK(NVML(nvmlDeviceGetMemoryInfo)(device, NULL) != NVML_SUCCESS);
}

static void check_processes(nvmlDevice_t device, size_t bytes)
{
	nvmlProcessInfo_v1_t old[4];
	nvmlProcessInfo_t rows[4];
	unsigned count = 0;

	CHECK_RESULT(NVML(nvmlDeviceGetComputeRunningProcesses_v3)(device, &count, NULL),
		     NVML_ERROR_INSUFFICIENT_SIZE);
	CHECK_RESULT(count, 1);
	count = 4;
	OK(NVML(nvmlDeviceGetComputeRunningProcesses_v3)(device, &count, rows));
	CHECK_RESULT(count, 1);
	CHECK(rows[0].pid == (unsigned)getpid() && rows[0].usedGpuMemory == bytes &&
	      rows[0].gpuInstanceId == 0xFFFFFFFFu);
	count = 4;
	OK(NVML(nvmlDeviceGetComputeRunningProcesses_v2)(device, &count, rows));
	CHECK(count == 1 && rows[0].usedGpuMemory == bytes);
	count = 4;
	OK(NVML(nvmlDeviceGetComputeRunningProcesses)(device, &count, old));
	CHECK(count == 1 && old[0].usedGpuMemory == bytes);
	count = 4;
	OK(NVML(nvmlDeviceGetGraphicsRunningProcesses_v3)(device, &count, rows));
	CHECK_RESULT(count, 0);
	CHECK(NVML(nvmlDeviceGetComputeRunningProcesses_v3)(device, NULL, rows) !=
	      NVML_SUCCESS);
}

/* The newest list is the same list. */
static void check_details(nvmlDevice_t device, size_t bytes)
{
	nvmlProcessDetail_v1_t rows[4];
	nvmlProcessDetailList_t list = { .version = nvmlProcessDetailList_v1 };

	CHECK_RESULT(NVML(nvmlDeviceGetRunningProcessDetailList)(device, &list),
		     NVML_ERROR_INSUFFICIENT_SIZE);
	CHECK_RESULT(list.numProcArrayEntries, 1);
	list.procArray = rows;
	list.numProcArrayEntries = 4;
	OK(NVML(nvmlDeviceGetRunningProcessDetailList)(device, &list));
	CHECK_RESULT(list.numProcArrayEntries, 1);
	CHECK(rows[0].pid == (unsigned)getpid() && rows[0].usedGpuMemory == bytes);
	list.mode = NVML_PROCESS_MODE_GRAPHICS;
	list.numProcArrayEntries = 4;
	OK(NVML(nvmlDeviceGetRunningProcessDetailList)(device, &list));
	CHECK_RESULT(list.numProcArrayEntries, 0);
	list.version = 7;
	CHECK(NVML(nvmlDeviceGetRunningProcessDetailList)(device, &list) != NVML_SUCCESS);
	CHECK(NVML(nvmlDeviceGetRunningProcessDetailList)(device, NULL) != NVML_SUCCESS);
}

int main(void)
{
	nvmlDevice_t device, other;
	CUdeviceptr pointer;
	nvmlMemory_t memory;
	CUcontext ctx;

	nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
	CHECK(nvml);
	OK(NVML(nvmlInit_v2)());
	OK(NVML(nvmlDeviceGetHandleByIndex_v2)(0, &device));
	OK(NVML(nvmlDeviceGetMemoryInfo)(device,
					 &memory)); /* a reader: there is no seat yet */
	CHECK(memory.total == LIMIT && memory.used == 0);
	(void)check_context();
	check_memory(device);
	OK(cuMemAlloc(&pointer, 200 * MIB));
	check_memory(device);
	check_processes(device, 200 * MIB + FLOOR);
	check_details(device, 200 * MIB + FLOOR);
	/* The second card of the machine is not in the slice. */
	OK(NVML(nvmlDeviceGetHandleByIndex_v2)(1, &other));
	CHECK_RESULT(NVML(nvmlDeviceGetMemoryInfo)(other, &memory),
		     NVML_ERROR_NO_PERMISSION);
	CHECK_RESULT(cuDevicePrimaryCtxRetain(&ctx, 1), CUDA_ERROR_NOT_PERMITTED);
	return 0;
}
