/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings and faults, one machine each (argv[1]): which pid NVML shows, and an error on
 * demand from one function while the others work.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"
#include "nvml/sim_nvml.h"

static int show_processes(const char *mode)
{
	nvmlProcessInfo_t rows[4];
	struct rm_phys context;
	unsigned int n = 4;
	nvmlDevice_t device;

	machine_prepare("a100-80", mode);
	if (nvmlInit_v2() != NVML_SUCCESS || rm_open() != 0 ||
	    rm_phys_alloc(&context, 0, 2 << 20, RM_CONTEXT) != 0 ||
	    nvmlDeviceGetHandleByIndex_v2(0, &device) != NVML_SUCCESS ||
	    nvmlDeviceGetComputeRunningProcesses_v3(device, &n, rows) != NVML_SUCCESS)
		return 1;
	printf("pids %s: %u rows\n", mode, n);
	if (strcmp(mode, "none") == 0)
		return n != 0;
	if (n != 1)
		return 1;
	printf("shown %u, own %d\n", rows[0].pid, (int)getpid());
	if (strcmp(mode, "own") == 0)
		return rows[0].pid != (unsigned int)getpid();
	/* The machine's namespace is this one here: the host's pid is our own. */
	return rows[0].pid != (unsigned int)getpid();
}

static int fail_on_demand(void)
{
	nvmlMemory_t memory;
	nvmlDevice_t device;
	unsigned int count;

	setenv("TRANCHE_SIM_FAULT", "nvmlDeviceGetMemoryInfo:2=999", 1);
	machine_prepare("l4", "host");
	if (nvmlInit_v2() != NVML_SUCCESS ||
	    nvmlDeviceGetCount_v2(&count) != NVML_SUCCESS ||
	    nvmlDeviceGetHandleByIndex_v2(0, &device) != NVML_SUCCESS)
		return 1;
	if (nvmlDeviceGetMemoryInfo(device, &memory) != NVML_SUCCESS)
		return 2;
	if (nvmlDeviceGetMemoryInfo(device, &memory) != NVML_ERROR_UNKNOWN)
		return 3;
	if (nvmlDeviceGetMemoryInfo(device, &memory) != NVML_SUCCESS)
		return 4;
	return 0;
}

static int lose_device(void)
{
	nvmlMemory_t memory;

	setenv("TRANCHE_SIM_FAULT", "*=lost", 1);
	machine_prepare("l4", "host");
	if (nvmlInit_v2() != NVML_SUCCESS)
		return 1;
	return nvmlDeviceGetMemoryInfo(NULL, &memory) != NVML_ERROR_GPU_IS_LOST;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	if (strcmp(argv[1], "fault") == 0)
		return fail_on_demand();
	if (strcmp(argv[1], "lost") == 0)
		return lose_device();
	return show_processes(argv[1]);
}
