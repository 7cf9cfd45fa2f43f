/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How busy devices and processes are, by every function that says so: this program keeps
 * device 0 busy for half of the time, a child device 1 for all of it. The machine runs work
 * in its own time, however busy the processor is.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine.h"
#include "nvml/sim_nvml.h"
#include "rm/time.h"

#define ok(call) assert_int_equal(call, NVML_SUCCESS)
#define MS       1000000ull
#define ROOM     200u
#define SIXTH_US 166667

static const char *mode = "host";

static nvmlDevice_t device_at(unsigned int index)
{
	nvmlDevice_t device = NULL;

	ok(nvmlDeviceGetHandleByIndex_v2(index, &device));
	return device;
}

static uint64_t wall_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* Milliseconds of a kernel and of a copy in turn. */
static int submit(uint32_t device, unsigned int times, uint64_t kernel_ms, uint64_t copy_ms,
		  uint64_t *channel, uint64_t *ticket)
{
	const struct rm_work kernel = { .kind = RM_WORK_KERNEL,
					.sms = 1,
					.ns = kernel_ms * MS };
	const struct rm_work copy = { .kind = RM_WORK_COPY_IN, .ns = copy_ms * MS };
	int r = rm_time_open();

	if (r == 0)
		r = rm_channel_open(device, 0, channel);
	for (unsigned int i = 0; r == 0 && i < times; i++) {
		r = rm_submit(*channel, &kernel, ticket);
		if (r == 0 && copy_ms)
			r = rm_submit(*channel, &copy, ticket);
	}
	return r;
}

static void be_idle(void **state)
{
	nvmlProcessUtilizationSample_t rows[ROOM];
	nvmlUtilization_t rates = { 77, 77 };
	unsigned int n = ROOM;

	(void)state;
	ok(nvmlDeviceGetUtilizationRates(device_at(0), &rates));
	assert_int_equal(rates.gpu, 0);
	assert_int_equal(rates.memory, 0);
	assert_int_equal(nvmlDeviceGetProcessUtilization(device_at(0), rows, &n, 0),
			 NVML_ERROR_NOT_FOUND);
	assert_int_equal(n, 0);
}

static void assert_near(unsigned int percent, unsigned int wanted)
{
	assert_in_range(percent, wanted - 4, wanted + 4);
}

static void tell_process(uint64_t begin_us, unsigned int sm, unsigned int mem)
{
	nvmlProcessUtilizationSample_t rows[ROOM];
	uint64_t seen_us;
	unsigned int n = 0;
	nvmlReturn_t r;

	assert_int_equal(nvmlDeviceGetProcessUtilization(device_at(0), NULL, &n, 0),
			 NVML_ERROR_INSUFFICIENT_SIZE);
	assert_in_range(n, 1, ROOM);
	n = 0;
	assert_int_equal(nvmlDeviceGetProcessUtilization(device_at(0), rows, &n, 0),
			 NVML_ERROR_INSUFFICIENT_SIZE);
	/* Not the first sixth: the work began somewhere in it. */
	n = ROOM;
	ok(nvmlDeviceGetProcessUtilization(device_at(0), rows, &n, begin_us + SIXTH_US));
	assert_int_equal(n, 1);
	assert_int_equal(rows[0].pid, getpid());
	assert_near(rows[0].smUtil, sm);
	assert_near(rows[0].memUtil, mem);
	assert_int_equal(rows[0].encUtil, 0);
	assert_in_range(rows[0].timeStamp, begin_us, wall_us());
	/* What was seen does not come again. */
	seen_us = rows[0].timeStamp;
	n = ROOM;
	r = nvmlDeviceGetProcessUtilization(device_at(0), rows, &n, seen_us);
	if (r == NVML_SUCCESS)
		assert_true(rows[0].timeStamp > seen_us);
	else
		assert_int_equal(r, NVML_ERROR_NOT_FOUND);
	assert_int_equal(nvmlDeviceGetProcessUtilization(device_at(0), rows, &n,
							 wall_us() + 60000000),
			 NVML_ERROR_NOT_FOUND);
}

static void tell_process_anew(unsigned int sm)
{
	nvmlProcessUtilizationInfo_v1_t rows[ROOM];
	nvmlProcessesUtilizationInfo_t info = { .version =
							nvmlProcessesUtilizationInfo_v1 };

	assert_int_equal(nvmlDeviceGetProcessesUtilizationInfo(device_at(0), &info),
			 NVML_ERROR_INSUFFICIENT_SIZE);
	assert_in_range(info.processSamplesCount, 1, ROOM);
	info.procUtilArray = rows;
	info.processSamplesCount = ROOM;
	info.lastSeenTimeStamp = wall_us() - 2 * SIXTH_US;
	ok(nvmlDeviceGetProcessesUtilizationInfo(device_at(0), &info));
	assert_int_equal(info.processSamplesCount, 1);
	assert_int_equal(rows[0].pid, getpid());
	assert_near(rows[0].smUtil, sm);
	info.version = 0;
	assert_int_equal(nvmlDeviceGetProcessesUtilizationInfo(device_at(0), &info),
			 NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
}

static void tell_nobody(void)
{
	nvmlProcessUtilizationSample_t rows[ROOM];
	unsigned int n = ROOM;

	assert_int_equal(nvmlDeviceGetProcessUtilization(device_at(0), rows, &n, 0),
			 NVML_ERROR_NOT_FOUND);
}

/* One value for each sixth of a second, oldest first. */
static void tell_samples(nvmlSamplingType_t type, uint64_t begin_us, unsigned int percent)
{
	nvmlSample_t rows[ROOM];
	nvmlValueType_t kind = NVML_VALUE_TYPE_DOUBLE;
	unsigned int n = 0;

	assert_int_equal(nvmlDeviceGetSamples(device_at(0), type, 0, &kind, &n, rows),
			 NVML_ERROR_INVALID_ARGUMENT);
	ok(nvmlDeviceGetSamples(device_at(0), type, 0, &kind, &n, NULL));
	assert_int_equal(n, 120);
	ok(nvmlDeviceGetSamples(device_at(0), type, begin_us + SIXTH_US, &kind, &n, rows));
	assert_int_equal(kind, NVML_VALUE_TYPE_UNSIGNED_INT);
	assert_in_range(n, 3, 119);
	for (unsigned int i = 0; i < n; i++) {
		assert_near(rows[i].sampleValue.uiVal, percent);
		if (i > 0)
			assert_in_range(rows[i].timeStamp - rows[i - 1].timeStamp,
					SIXTH_US - 1, SIXTH_US + 1);
	}
	assert_true(rows[n - 1].timeStamp <= wall_us());
	n = 1;
	ok(nvmlDeviceGetSamples(device_at(0), type, rows[0].timeStamp, &kind, &n,
				rows + 1));
	assert_int_equal(n, 1);
	assert_true(rows[1].timeStamp > rows[0].timeStamp);
}

/* Until DEVICE has been busy for MS of the machine's time. */
static void await_busy(uint32_t device, uint64_t ms)
{
	struct rm_busy busy = { 0 };

	while (busy.device_ns < ms * MS) {
		struct timespec t = { 0, 5000000 };

		assert_int_equal(rm_busy(device, 0, &busy), 0);
		nanosleep(&t, NULL);
	}
}

static void be_half_busy(void **state)
{
	uint64_t begin_us, channel, ticket;
	nvmlUtilization_t rates;

	(void)state;
	/* 5 s, as much as a channel holds; ended by this program's end. */
	assert_int_equal(submit(0, 500, 5, 5, &channel, &ticket), 0);
	begin_us = wall_us();
	await_busy(0, 500);
	ok(nvmlDeviceGetUtilizationRates(device_at(0), &rates));
	assert_near(rates.gpu, 50);
	assert_near(rates.memory, 50);
	if (strcmp(mode, "none") == 0) {
		tell_nobody();
	} else {
		tell_process(begin_us, 50, 50);
		tell_process_anew(50);
	}
	tell_samples(NVML_GPU_UTILIZATION_SAMPLES, begin_us, 50);
	tell_samples(NVML_MEMORY_UTILIZATION_SAMPLES, begin_us, 50);
	ok(nvmlDeviceGetUtilizationRates(device_at(1), &rates));
	assert_int_equal(rates.gpu, 0);
}

static uint64_t busy_ns(uint32_t device)
{
	struct rm_busy busy;

	assert_int_equal(rm_busy(device, getpid(), &busy), 0);
	return busy.process_ns;
}

/* `sim-ctl busy` prints what lies between two readings of our own. */
static void agree_with_the_tool(void **state)
{
	uint64_t before_ns = busy_ns(0);
	char line[4096], pid[32], *at;
	FILE *tool = popen("${TRANCHE_SIM_KERNEL%/*}/sim-ctl busy --json", "r");

	(void)state;
	assert_non_null(tool);
	assert_non_null(fgets(line, sizeof(line), tool));
	assert_int_equal(pclose(tool), 0);
	assert_ptr_equal(strstr(line, "{\"now_ns\":"), line);
	snprintf(pid, sizeof(pid), "\"processes\":[{\"pid\":%d,", (int)getpid());
	at = strstr(line, pid);
	assert_non_null(at);
	at = strstr(at, "\"busy_ns\":");
	assert_non_null(at);
	assert_in_range(strtoull(at + 10, NULL, 10), before_ns, busy_ns(0));
	assert_true(before_ns > 0);
	assert_non_null(strstr(at, "\"kernels\":"));
	assert_non_null(strstr(at, "{\"device\":1,\"busy_ns\":0,\"processes\":[]}"));
}

static void run_child(int told)
{
	uint64_t channel, ticket;

	if (nvmlInit_v2() != NVML_SUCCESS || rm_open() != 0 ||
	    submit(1, 1, 60000, 0, &channel, &ticket) != 0 || write(told, "x", 1) != 1)
		_exit(1);
	pause();
	_exit(0);
}

static void see_a_child(void **state)
{
	nvmlProcessUtilizationSample_t rows[ROOM];
	nvmlUtilization_t rates;
	unsigned int n = ROOM;
	int told[2], status;
	pid_t child;
	char x;

	(void)state;
	assert_int_equal(pipe(told), 0);
	child = fork();
	if (child == 0)
		run_child(told[1]);
	assert_int_equal(read(told[0], &x, 1), 1);
	await_busy(1, 400);
	ok(nvmlDeviceGetUtilizationRates(device_at(1), &rates));
	assert_int_equal(rates.gpu, 100);
	assert_int_equal(rates.memory, 0);
	if (strcmp(mode, "none") != 0) {
		ok(nvmlDeviceGetProcessUtilization(device_at(1), rows, &n,
						   wall_us() - SIXTH_US));
		assert_int_equal(n, 1);
		assert_int_equal(rows[0].pid, child);
		assert_int_equal(rows[0].smUtil, 100);
	}
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	/* Gone with its work; what the device did stays. */
	n = ROOM;
	assert_int_equal(nvmlDeviceGetProcessUtilization(device_at(1), rows, &n, 0),
			 NVML_ERROR_NOT_FOUND);
	close(told[0]);
	close(told[1]);
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

/* The same once more on a virtual clock, which is preloaded into a process as it starts. */
static int run_virtual(void)
{
	const char *kernel = getenv("TRANCHE_SIM_KERNEL");
	int length = (int)(strrchr(kernel, '/') - kernel), status = 1;
	char library[4096];
	pid_t child;

	machine_prepare("2xh100", "host");
	snprintf(library, sizeof(library), "%.*s/libsimtime.so", length, kernel);
	setenv("TRANCHE_SIM_CLOCK", "virtual", 1);
	setenv("LD_PRELOAD", library, 1);
	child = fork();
	if (child == 0) {
		execl("/proc/self/exe", "utilization", "host", "prepared", (char *)NULL);
		_exit(127);
	}
	return child < 0 || waitpid(child, &status, 0) != child || status != 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(be_idle),
		cmocka_unit_test(be_half_busy),
		cmocka_unit_test(agree_with_the_tool),
		cmocka_unit_test(see_a_child),
	};

	if (argc > 1)
		mode = argv[1];
	if (strcmp(mode, "virtual") == 0)
		return run_virtual();
	if (argc < 3)
		machine_prepare("2xh100", mode);
	return cmocka_run_group_tests(tests, start, end);
}
