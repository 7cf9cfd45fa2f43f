/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NVML tells what the machine's driver counts: this program takes memory through the
 * driver's client side, as the simulated libcuda does, and compares every way of asking.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine.h"
#include "nvml/sim_nvml.h"

#define MIB      ((uint64_t)1 << 20)
#define ok(call) assert_int_equal(call, NVML_SUCCESS)

/* Deprecated functions are asked too: clients still use them. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static nvmlDevice_t device_at(unsigned int index)
{
	nvmlDevice_t device = NULL;

	ok(nvmlDeviceGetHandleByIndex_v2(index, &device));
	return device;
}

static void assert_one_story(nvmlDevice_t device, uint64_t used)
{
	nvmlMemory_v2_t two = { .version = nvmlMemory_v2 };
	nvmlMemory_t one;

	ok(nvmlDeviceGetMemoryInfo(device, &one));
	ok(nvmlDeviceGetMemoryInfo_v2(device, &two));
	assert_int_equal(two.used, used);
	assert_int_equal(two.total, two.reserved + two.used + two.free);
	assert_int_equal(one.total, two.total);
	assert_int_equal(one.free, two.free);
	assert_int_equal(one.used, two.used + two.reserved);
}

static void count_memory(void **state)
{
	nvmlDevice_t first = device_at(0), second = device_at(1);
	struct rm_phys context, block;

	(void)state;
	assert_one_story(first, 0);
	assert_int_equal(rm_phys_alloc(&context, 0, 512 * MIB, RM_CONTEXT), 0);
	assert_one_story(first, 512 * MIB);
	assert_int_equal(rm_phys_alloc(&block, 0, 2 * MIB, RM_BLOCK), 0);
	assert_one_story(first, 514 * MIB);
	assert_one_story(second, 0);
	assert_int_equal(rm_phys_unref(block.id), 0);
	assert_int_equal(rm_phys_unref(context.id), 0);
	assert_one_story(first, 0);
}

static void refuse_other_versions(void **state)
{
	nvmlMemory_v2_t memory = { .version = nvmlMemory_v2 + 1 };
	nvmlProcessDetailList_t list = { 0 };

	(void)state;
	assert_int_equal(nvmlDeviceGetMemoryInfo_v2(device_at(0), &memory),
			 NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
	assert_int_equal(nvmlDeviceGetRunningProcessDetailList(device_at(0), &list),
			 NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
}

/* All process lists of DEVICE are one row: PID with BYTES. */
static void assert_one_process(nvmlDevice_t device, unsigned int pid, uint64_t bytes)
{
	nvmlProcessInfo_v1_t v1[4];
	nvmlProcessInfo_v2_t v2[4], v3[4];
	nvmlProcessDetail_v1_t detail[4];
	nvmlProcessDetailList_t list = { .version = nvmlProcessDetailList_v1,
					 .numProcArrayEntries = 4,
					 .procArray = detail };
	unsigned int n = 0;

	assert_int_equal(nvmlDeviceGetComputeRunningProcesses_v3(device, &n, NULL),
			 NVML_ERROR_INSUFFICIENT_SIZE);
	assert_int_equal(n, 1);
	n = 4;
	ok(nvmlDeviceGetComputeRunningProcesses(device, &n, v1));
	assert_int_equal(n, 1);
	assert_int_equal(v1[0].pid, pid);
	assert_int_equal(v1[0].usedGpuMemory, bytes);
	n = 4;
	ok(nvmlDeviceGetComputeRunningProcesses_v2(device, &n, v2));
	n = 4;
	ok(nvmlDeviceGetComputeRunningProcesses_v3(device, &n, v3));
	assert_int_equal(n, 1);
	assert_memory_equal(&v2[0].pid, &v3[0].pid, sizeof(v2[0].pid));
	assert_int_equal(v3[0].pid, pid);
	assert_int_equal(v3[0].usedGpuMemory, bytes);
	assert_int_equal(v2[0].usedGpuMemory, bytes);
	assert_int_equal(v3[0].gpuInstanceId, 0xffffffffu);
	ok(nvmlDeviceGetRunningProcessDetailList(device, &list));
	assert_int_equal(list.numProcArrayEntries, 1);
	assert_int_equal(detail[0].pid, pid);
	n = 4;
	ok(nvmlDeviceGetGraphicsRunningProcesses_v3(device, &n, v3));
	assert_int_equal(n, 0);
	n = 4;
	ok(nvmlDeviceGetMPSComputeRunningProcesses_v3(device, &n, v3));
	assert_int_equal(n, 0);
}

static void list_processes(void **state)
{
	struct rm_phys context, block;
	unsigned int n = 0;

	(void)state;
	ok(nvmlDeviceGetComputeRunningProcesses_v3(device_at(0), &n, NULL));
	assert_int_equal(rm_phys_alloc(&context, 0, 300 * MIB, RM_CONTEXT), 0);
	assert_int_equal(rm_phys_alloc(&block, 0, 4 * MIB, RM_BLOCK), 0);
	assert_one_process(device_at(0), (unsigned int)getpid(), 304 * MIB);
	n = 0;
	ok(nvmlDeviceGetComputeRunningProcesses_v3(device_at(1), &n, NULL));
	assert_int_equal(rm_phys_unref(block.id), 0);
	assert_int_equal(rm_phys_unref(context.id), 0);
}

static void find_by_any_name(void **state)
{
	char uuid[80], serial[30];
	nvmlPciInfo_t pci;
	nvmlDevice_t found;

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		nvmlDevice_t device = device_at(i);

		ok(nvmlDeviceGetUUID(device, uuid, sizeof(uuid)));
		ok(nvmlDeviceGetHandleByUUID(uuid, &found));
		assert_ptr_equal(found, device);
		ok(nvmlDeviceGetSerial(device, serial, sizeof(serial)));
		ok(nvmlDeviceGetHandleBySerial(serial, &found));
		assert_ptr_equal(found, device);
		ok(nvmlDeviceGetPciInfo_v3(device, &pci));
		ok(nvmlDeviceGetHandleByPciBusId_v2(pci.busId, &found));
		assert_ptr_equal(found, device);
		ok(nvmlDeviceGetHandleByPciBusId_v2(pci.busIdLegacy, &found));
		assert_ptr_equal(found, device);
	}
	assert_int_equal(nvmlDeviceGetHandleByUUID("GPU-0", &found), NVML_ERROR_NOT_FOUND);
	assert_int_equal(nvmlDeviceGetHandleByPciBusId_v2("fe:1e.0", &found),
			 NVML_ERROR_NOT_FOUND);
	assert_int_equal(nvmlDeviceGetHandleByPciBusId_v2("nonsense", &found),
			 NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlDeviceGetHandleByIndex_v2(2, &found),
			 NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlDeviceGetUUID(device_at(0), uuid, 8),
			 NVML_ERROR_INSUFFICIENT_SIZE);
}

/* The first versions of the struct were shorter: what lies behind is the caller's. */
static void keep_to_old_sizes(void **state)
{
	union {
		nvmlPciInfo_t pci;
		unsigned char bytes[sizeof(nvmlPciInfo_t)];
	} u;

	(void)state;
	memset(&u, 0xa5, sizeof(u));
	ok(nvmlDeviceGetPciInfo(device_at(0), &u.pci));
	for (size_t i = 32; i < sizeof(u); i++)
		assert_int_equal(u.bytes[i], 0xa5);
	ok(nvmlDeviceGetPciInfo_v2(device_at(0), &u.pci));
	for (size_t i = 52; i < sizeof(u); i++)
		assert_int_equal(u.bytes[i], 0xa5);
}

static void wait_for_events(void **state)
{
	struct timespec before, after;
	nvmlEventData_t event;
	nvmlEventSet_t set;
	int64_t waited_ms;

	(void)state;
	ok(nvmlEventSetCreate(&set));
	ok(nvmlDeviceRegisterEvents(device_at(0), nvmlEventTypeXidCriticalError, set));
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(nvmlEventSetWait_v2(set, &event, 50), NVML_ERROR_TIMEOUT);
	clock_gettime(CLOCK_MONOTONIC, &after);
	waited_ms = (after.tv_sec - before.tv_sec) * 1000 +
		    (after.tv_nsec - before.tv_nsec) / 1000000;
	assert_true(waited_ms >= 49);
	ok(nvmlEventSetFree(set));
	assert_int_equal(nvmlEventSetFree(set), NVML_ERROR_INVALID_ARGUMENT);
	assert_int_equal(nvmlEventSetWait_v2(set, &event, 0), NVML_ERROR_INVALID_ARGUMENT);
}

static void answer_fields_one_by_one(void **state)
{
	nvmlFieldValue_t values[2] = { { .fieldId = NVML_FI_DEV_NVLINK_LINK_COUNT },
				       { .fieldId = 0xffff } };

	(void)state;
	ok(nvmlDeviceGetFieldValues(device_at(0), 2, values));
	assert_int_equal(values[0].nvmlReturn, NVML_SUCCESS);
	assert_int_equal(values[0].value.uiVal, 18);
	assert_int_equal(values[1].nvmlReturn, NVML_ERROR_NOT_SUPPORTED);
}

/* A real NVML goes on in a forked child. */
static void go_on_after_fork(void **state)
{
	int status = -1;
	pid_t child;

	(void)state;
	child = fork();
	if (child == 0) {
		nvmlMemory_t memory;
		nvmlDevice_t device;

		_exit(nvmlDeviceGetHandleByIndex_v2(1, &device) != NVML_SUCCESS ||
		      nvmlDeviceGetMemoryInfo(device, &memory) != NVML_SUCCESS ||
		      memory.total == 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static int start(void **state)
{
	(void)state;
	return nvmlInit_v2() != NVML_SUCCESS || rm_open() != 0;
}

static int end(void **state)
{
	(void)state;
	return nvmlShutdown() != NVML_SUCCESS;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(count_memory),
		cmocka_unit_test(refuse_other_versions),
		cmocka_unit_test(list_processes),
		cmocka_unit_test(find_by_any_name),
		cmocka_unit_test(keep_to_old_sizes),
		cmocka_unit_test(wait_for_events),
		cmocka_unit_test(answer_fields_one_by_one),
		cmocka_unit_test(go_on_after_fork),
	};

	machine_prepare("2xh100", "own");
	setenv("CUDA_VISIBLE_DEVICES", "1", 1); /* NVML does not care */
	return cmocka_run_group_tests(tests, start, end);
}
