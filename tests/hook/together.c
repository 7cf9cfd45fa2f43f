/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of one slice at the same moment. Slice: 1 GiB, floor 100 MiB.
 *   together start N   N programs start at once: all succeed, the sums are exact (F10)
 *   together killed    one dies holding memory, or on the slow path: the others go on (F09)
 *   together reused    a new process has the pid of one that was killed (F11)
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>

#include "check.h"

#define LIMIT (1024 * MIB)
#define FLOOR (100 * MIB)
#define EACH  (2 * MIB)

static const CUmemAllocationProp on_device = {
	.type = CU_MEM_ALLOCATION_TYPE_PINNED,
	.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 },
};

/* A program of its own: nothing is inherited but standard input and output. */
static pid_t spawn(const char *how, int in, int out)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		(void)dup2(in, 0);
		(void)dup2(out, 1);
		(void)execl("/proc/self/exe", "together", how, (char *)NULL);
		_exit(127);
	}
	return pid;
}

static void wait_well(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_RESULT(status, 0);
}

static void wait_killed(pid_t pid)
{
	int status;

	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void make_pipe(int ends[2])
{
	CHECK(pipe2(ends, O_CLOEXEC) == 0);
}

static void tell_ready(void)
{
	CHECK(write(1, "x", 1) == 1);
}

static void await_ready(int fd, unsigned n)
{
	char byte;

	while (n--)
		CHECK(read(fd, &byte, 1) == 1);
}

static void await_end_of_input(void)
{
	char byte;

	CHECK(read(0, &byte, 1) == 0);
}

/* ---- all at once --------------------------------------------------------------------- */

static int one_of_many(void)
{
	CUmemGenericAllocationHandle handle;

	OK(cuInit(0));
	OK(cuMemCreate(&handle, EACH, &on_device, 0)); /* needs no context */
	tell_ready();
	await_end_of_input();
	return 0;
}

static int start(unsigned n)
{
	int go[2], ready[2];
	pid_t *pids = calloc(n, sizeof(*pids));
	size_t before;
	unsigned i;

	CHECK(pids);
	(void)check_context();
	before = check_free();
	CHECK_RESULT(before, LIMIT - FLOOR);
	make_pipe(go);
	make_pipe(ready);
	for (i = 0; i < n; i++)
		pids[i] = spawn("one", go[0], ready[1]);
	CHECK(close(ready[1]) == 0); /* one that failed is an end of file, not silence */
	await_ready(ready[0], n);
	CHECK_RESULT(check_free(), before - n * EACH);
	CHECK(close(go[1]) == 0);
	for (i = 0; i < n; i++)
		wait_well(pids[i]);
	free(pids);
	/* Who asks for all of it gets it: the dead are reaped on the way. */
	{
		CUdeviceptr all;

		OK(cuMemAlloc(&all, before));
		CHECK_RESULT(check_free(), 0);
	}
	return 0;
}

/* ---- killed -------------------------------------------------------------------------- */

static int hold(void)
{
	CUdeviceptr p;

	(void)check_context();
	OK(cuMemAlloc(&p, 600 * MIB));
	tell_ready();
	await_end_of_input();
	return 0;
}

/* What is refused goes through the slow path and its lock, again and again. */
static int refused(void)
{
	CUdeviceptr p;

	(void)check_context();
	CHECK_RESULT(cuMemAlloc(&p, LIMIT - FLOOR), CUDA_ERROR_OUT_OF_MEMORY);
	tell_ready();
	for (;;)
		CHECK_RESULT(cuMemAlloc(&p, LIMIT - FLOOR), CUDA_ERROR_OUT_OF_MEMORY);
}

static double now_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* A lock that its holder's death leaves locked stops everybody for ever: 5 s tell that from
 * a slow machine. */
static void go_on(void)
{
	double began = now_s();
	CUdeviceptr p, more;

	OK(cuMemAlloc(&p, LIMIT - FLOOR));
	CHECK_RESULT(cuMemAlloc(&more, MIB), CUDA_ERROR_OUT_OF_MEMORY);
	OK(cuMemFree(p));
	CHECK(now_s() - began < 5);
	CHECK_RESULT(check_free(), LIMIT - FLOOR);
}

static int killed(void)
{
	int go[2], ready[2];
	CUdeviceptr p;
	pid_t pid;

	(void)check_context();
	make_pipe(go);
	make_pipe(ready);
	for (unsigned i = 0; i < 10; i++) {
		pid = spawn("hold", go[0], ready[1]);
		await_ready(ready[0], 1);
		CHECK_RESULT(check_free(), LIMIT - 2 * FLOOR - 600 * MIB);
		wait_killed(pid);
		go_on();
		/* Something is held, so that the other never succeeds. */
		OK(cuMemAlloc(&p, 2 * MIB));
		pid = spawn("refused", go[0], ready[1]);
		await_ready(ready[0], 1);
		usleep(1000 * (i % 5) + 137 * i);
		wait_killed(pid);
		OK(cuMemFree(p));
		go_on();
	}
	return 0;
}

/* ---- the same pid again -------------------------------------------------------------- */

static int told(void)
{
	nvmlProcessInfo_t rows[8];
	nvmlDevice_t device;
	unsigned count = 8;

	(void)check_context();
	/* Only what is its own: the one before is no more, whatever its pid was. */
	CHECK_RESULT(check_free(), LIMIT - 2 * FLOOR);
	OK(nvmlInit_v2());
	OK(nvmlDeviceGetHandleByIndex_v2(0, &device));
	OK(nvmlDeviceGetComputeRunningProcesses_v3(device, &count, rows));
	CHECK_RESULT(count, 2);
	for (unsigned i = 0; i < count; i++)
		if (rows[i].pid == (unsigned)getpid())
			CHECK_RESULT(rows[i].usedGpuMemory, FLOOR);
	tell_ready();
	return 0;
}

static void set_next_pid(pid_t pid)
{
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", (int)pid - 1);

	if (fd < 0 || write(fd, text, (size_t)n) != n)
		SKIP("pids cannot be chosen here (/proc/sys/kernel/ns_last_pid)");
	(void)close(fd);
}

static int reused(void)
{
	int go[2], ready[2], many = 0;
	pid_t first, second;

	(void)check_context();
	make_pipe(go);
	make_pipe(ready);
	first = spawn("hold", go[0], ready[1]);
	await_ready(ready[0], 1);
	wait_killed(first);
	do { /* another may have been quicker */
		set_next_pid(first);
		second = spawn("told", go[0], ready[1]);
		await_ready(ready[0], 1);
		wait_well(second);
	} while (second != first && ++many < 100);
	CHECK(second == first);
	return 0;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	if (strcmp(how, "start") == 0 && argc == 3)
		return start((unsigned)atoi(argv[2]));
	if (strcmp(how, "killed") == 0)
		return killed();
	if (strcmp(how, "reused") == 0)
		return reused();
	if (strcmp(how, "one") == 0)
		return one_of_many();
	if (strcmp(how, "hold") == 0)
		return hold();
	if (strcmp(how, "refused") == 0)
		return refused();
	if (strcmp(how, "told") == 0)
		return told();
	fprintf(stderr, "usage: together start N | killed | reused\n");
	return 2;
}
