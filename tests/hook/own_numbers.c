/* SPDX-License-Identifier: Apache-2.0 */
/*
 * own_numbers LIMIT_MIB HOLD_MIB GO READY DONE: waits for the file GO, starts the driver,
 * holds memory, and is told by CUDA and NVML of itself alone, while a program of another
 * slice does the same. Makes READY, waits for DONE and looks again.
 */
#include <fcntl.h>
#include <unistd.h>

#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>

#include "check.h"

#define FLOOR (100 * MIB)

static void wait_for(const char *path)
{
	for (unsigned i = 0; access(path, F_OK) != 0; i++) {
		CHECK(i < 3000000);
		usleep(10);
	}
}

static void look(size_t limit, size_t hold)
{
	nvmlProcessInfo_t rows[8];
	nvmlDevice_t device;
	nvmlMemory_t memory;
	size_t free_bytes, total_bytes;
	unsigned count = 8;

	OK(cuMemGetInfo(&free_bytes, &total_bytes));
	CHECK_RESULT(total_bytes, limit);
	CHECK_RESULT(free_bytes, limit - FLOOR - hold);
	OK(nvmlDeviceGetHandleByIndex_v2(0, &device));
	OK(nvmlDeviceGetMemoryInfo(device, &memory));
	CHECK(memory.total == limit && memory.used == FLOOR + hold);
	OK(nvmlDeviceGetComputeRunningProcesses_v3(device, &count, rows));
	CHECK_RESULT(count, 1);
	CHECK_RESULT(rows[0].pid, getpid());
	CHECK_RESULT(rows[0].usedGpuMemory, FLOOR + hold);
}

int main(int argc, char **argv)
{
	size_t limit, hold;
	CUdeviceptr p;

	CHECK(argc == 6);
	limit = (size_t)atol(argv[1]) * MIB;
	hold = (size_t)atol(argv[2]) * MIB;
	wait_for(argv[3]);
	(void)check_context();
	OK(cuMemAlloc(&p, hold));
	OK(nvmlInit_v2());
	look(limit, hold);
	CHECK(close(open(argv[4], O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) == 0);
	wait_for(argv[5]);
	look(limit, hold);
	CHECK_RESULT(cuMemAlloc(&p, limit - FLOOR - hold + MIB), CUDA_ERROR_OUT_OF_MEMORY);
	return 0;
}
