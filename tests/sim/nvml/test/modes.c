/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings and faults, one machine each (argv[1]): which pid NVML shows, and an error on
 * demand from one function while the others work.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"
#include "nvml/sim_nvml.h"

/* In a process whose own pid is 1: what NVML shows of it in MODE. HOST_PID is the parent's
 * view. */
static int look_from_inside(const char *mode, pid_t host_pid)
{
	nvmlProcessInfo_t rows[4];
	struct rm_phys context;
	unsigned int n = 4;
	nvmlDevice_t device;

	if (nvmlInit_v2() != NVML_SUCCESS || rm_open() != 0 ||
	    rm_phys_alloc(&context, 0, 2 << 20, RM_CONTEXT) != 0 ||
	    nvmlDeviceGetHandleByIndex_v2(0, &device) != NVML_SUCCESS ||
	    nvmlDeviceGetComputeRunningProcesses_v3(device, &n, rows) != NVML_SUCCESS)
		return 1;
	printf("%s: %u rows, first %u; own pid %d, on the host %d\n", mode, n,
	       n > 0 ? rows[0].pid : 0, (int)getpid(), (int)host_pid);
	fflush(stdout);
	if (strcmp(mode, "none") == 0)
		return n != 0;
	if (strcmp(mode, "own") == 0)
		return n != 1 || rows[0].pid != (unsigned int)getpid();
	return n != 1 || rows[0].pid != (unsigned int)host_pid;
}

/* The machine runs in this pid namespace, its client in a new one. */
static int show_processes(const char *mode)
{
	int told[2], status = 1;
	pid_t child;

	machine_prepare("a100-80", mode);
	if (rm_open() != 0 || pipe(told) != 0)
		return 1;
	if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
		printf("skipped: no new pid namespace for this user: %s\n",
		       strerror(errno));
		return 77;
	}
	child = fork();
	if (child == 0) {
		pid_t host_pid = 0;

		if (read(told[0], &host_pid, sizeof(host_pid)) != sizeof(host_pid))
			_exit(1);
		_exit(look_from_inside(mode, host_pid));
	}
	if (child < 0 || write(told[1], &child, sizeof(child)) != sizeof(child) ||
	    waitpid(child, &status, 0) != child)
		return 1;
	return status != 0;
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

/* Driver 11.0 has the first process list and memory query, not their later versions. */
static int be_older(void)
{
	nvmlMemory_v2_t two = { .version = nvmlMemory_v2 };
	nvmlMemory_t one;
	nvmlDevice_t device;
	unsigned int n = 0;

	setenv("TRANCHE_SIM_DRIVER", "11.0", 1);
	machine_prepare("t4", "host");
	if (nvmlInit_v2() != NVML_SUCCESS ||
	    nvmlDeviceGetHandleByIndex_v2(0, &device) != NVML_SUCCESS)
		return 1;
	if (nvmlDeviceGetMemoryInfo(device, &one) != NVML_SUCCESS ||
	    nvmlDeviceGetComputeRunningProcesses(device, &n, NULL) != NVML_SUCCESS)
		return 2;
	if (nvmlDeviceGetMemoryInfo_v2(device, &two) != NVML_ERROR_FUNCTION_NOT_FOUND)
		return 3;
	return nvmlDeviceGetComputeRunningProcesses_v2(device, &n, NULL) !=
	       NVML_ERROR_FUNCTION_NOT_FOUND;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	if (strcmp(argv[1], "fault") == 0)
		return fail_on_demand();
	if (strcmp(argv[1], "lost") == 0)
		return lose_device();
	if (strcmp(argv[1], "older") == 0)
		return be_older();
	return show_processes(argv[1]);
}
