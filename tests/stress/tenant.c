/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant PAGE SEAT [brief|last]: a program in a slice that does whatever programs do with
 * memory, forks and executes, until it is killed.
 *
 * brief: some dozens of steps, then it ends as programs end: with its memory. last: the
 * only one left; the whole slice must be its own.
 */
#include "tenant.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BRIEF_STEPS 40

static char **arguments;

uint64_t tenant_random(struct tenant *t, uint64_t below)
{
	t->random ^= t->random << 13;
	t->random ^= t->random >> 7;
	t->random ^= t->random << 17;
	return t->random % below;
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void pause_ms(unsigned ms)
{
	struct timespec pause = { ms / 1000, (long)(ms % 1000) * 1000000 };

	while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
		;
}

bool tenant_check(struct tenant *t, CUresult res, const char *what)
{
	if (res == CUDA_SUCCESS)
		return true;
	if (res == CUDA_ERROR_OUT_OF_MEMORY || t->page->any_result)
		return false;
	atomic_store(&t->seat->result, (uint32_t)res);
	(void)snprintf(t->seat->why, sizeof(t->seat->why), "%s", what);
	_exit(3);
}

/* The driver of a child is not the parent's: no call may succeed by harming the parent. */
static void touch_driver(struct tenant *t)
{
	size_t free_bytes, total_bytes;
	CUdeviceptr ptr = 0;

	for (unsigned i = 0; i < HELD_MAX; i++)
		if (t->held[i].kind == HELD_MEMORY)
			(void)cuMemFree(t->held[i].ptr);
	(void)cuMemAlloc(&ptr, 4096);
	(void)cuMemGetInfo(&free_bytes, &total_bytes);
}

static void run_child(struct tenant *t, uint64_t die)
{
	char seat[16];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != atomic_load(&t->seat->pid))
		_exit(0);
	if (die < 3) {
		touch_driver(t);
		_exit(0);
	}
	if (die < 5) {
		touch_driver(t);
		for (;;)
			(void)pause();
	}
	(void)snprintf(seat, sizeof(seat), "%u",
		       (unsigned)(t->seat - t->page->seats) + STRESS_SEATS);
	execl("/proc/self/exe", arguments[0], arguments[1], seat, "brief", NULL);
	_exit(127);
}

static void fork_once(struct tenant *t)
{
	uint64_t die = tenant_random(t, 8);
	int status;
	pid_t pid = fork();

	if (pid == 0)
		run_child(t, die);
	if (pid < 0)
		return;
	atomic_fetch_add(&t->page->forks, 1);
	if (die >= 3) { /* some while they start, some in the middle of a call */
		pause_ms((unsigned)tenant_random(t, 20));
		if (die < 7 && kill(pid, SIGKILL) == 0)
			atomic_fetch_add(&t->page->kills, 1);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0)
		return;
	atomic_store(&t->seat->result, (uint32_t)status);
	(void)snprintf(t->seat->why, sizeof(t->seat->why), "status of a child");
	_exit(3);
}

/* Contexts cost too: a full slice refuses them. */
static void start_device(struct tenant *t, unsigned d)
{
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE,
					       .id = (int)d } };

	if (!tenant_check(t, cuDevicePrimaryCtxRetain(&t->primary[d], (CUdevice)d),
			  "cuDevicePrimaryCtxRetain")) {
		t->primary[d] = NULL;
		return;
	}
	(void)tenant_check(t, cuCtxSetCurrent(t->primary[d]), "cuCtxSetCurrent");
	if (t->page->has_pools &&
	    !tenant_check(t, cuMemPoolCreate(&t->pool[d], &props), "cuMemPoolCreate"))
		t->pool[d] = NULL;
}

static void step(struct tenant *t)
{
	uint64_t die = tenant_random(t, 200);

	if (!t->primary[0]) {
		pause_ms(5);
		start_device(t, 0);
	} else if (die >= 197 && !t->primary[1]) {
		start_device(t, 1);
	} else if (die < 110) {
		tenant_obtain(t);
	} else if (die < 188) {
		tenant_release(t, &t->held[tenant_random(t, HELD_MAX)]);
	} else if (die < 190) {
		tenant_make_context(t);
	} else if (die < 193) {
		tenant_drop_context(t);
	} else if (die < 195 && t->page->has_pools) {
		tenant_run_graph(t);
	} else if (die < 197) {
		(void)tenant_check(t, cuCtxSetCurrent(t->primary[0]), "cuCtxSetCurrent");
		(void)tenant_check(t, cuCtxSynchronize(), "cuCtxSynchronize");
	}
}

/* Ahead of a comparison: what the hook reads lazily is read once more. */
static void come_to_rest(struct tenant *t, uint32_t epoch)
{
	size_t free_bytes, total_bytes;

	for (unsigned round = 0; round < 2; round++) {
		for (unsigned d = 0; d < STRESS_DEVICES; d++) {
			if (!t->primary[d] ||
			    !tenant_check(t, cuCtxSetCurrent(t->primary[d]), "current"))
				continue;
			(void)tenant_check(t, cuCtxSynchronize(), "cuCtxSynchronize");
			(void)tenant_check(t, cuMemGetInfo(&free_bytes, &total_bytes),
					   "cuMemGetInfo");
		}
		if (round == 0)
			pause_ms(120);
	}
	atomic_store(&t->seat->quiet_epoch, epoch);
	while (atomic_load(&t->page->command) == STRESS_QUIET &&
	       atomic_load(&t->page->epoch) == epoch)
		pause_ms(2);
}

static void run(struct tenant *t, bool is_brief)
{
	unsigned steps = is_brief ? (unsigned)tenant_random(t, BRIEF_STEPS) : ~0u;
	uint32_t command;

	while (steps-- && (command = atomic_load(&t->page->command)) != STRESS_END) {
		uint32_t epoch = atomic_load(&t->page->epoch);
		uint64_t die = tenant_random(t, 1000);

		atomic_store(&t->seat->call_began_ns, clock_ns());
		if (command == STRESS_QUIET && !is_brief) {
			come_to_rest(t, epoch);
		} else if (die < 10 && !is_brief) {
			fork_once(t);
		} else if (die < 13 && !is_brief) {
			atomic_fetch_add(&t->page->execs, 1);
			execv("/proc/self/exe", arguments);
			_exit(127);
		} else {
			step(t);
		}
		atomic_store(&t->seat->call_began_ns, 0);
		atomic_fetch_add(&t->seat->steps, 1);
	}
}

/* Nothing of the dead is left: all but the own context is free, and can be had. */
static int be_last(struct tenant *t)
{
	for (unsigned d = 0; d < STRESS_DEVICES; d++) {
		uint64_t want = t->page->limit_bytes - t->page->floor_bytes;
		size_t free_bytes = 0, total_bytes = 0;
		CUcontext ctx;
		CUdeviceptr ptr;

		if (cuInit(0) != CUDA_SUCCESS ||
		    cuDevicePrimaryCtxRetain(&ctx, (CUdevice)d) != CUDA_SUCCESS ||
		    cuCtxSetCurrent(ctx) != CUDA_SUCCESS ||
		    cuMemGetInfo(&free_bytes, &total_bytes) != CUDA_SUCCESS)
			return 4;
		if (free_bytes != want || total_bytes != t->page->limit_bytes) {
			fprintf(stderr, "device %u: %zu of %zu bytes free, not %llu\n", d,
				free_bytes, total_bytes, (unsigned long long)want);
			return 5;
		}
		if (cuMemAlloc(&ptr, want) != CUDA_SUCCESS ||
		    cuMemFree(ptr) != CUDA_SUCCESS)
			return 6;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct tenant t = { 0 };
	int fd = argc > 2 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
	void *map = fd < 0 ? MAP_FAILED
			   : mmap(NULL, sizeof(*t.page), PROT_READ | PROT_WRITE, MAP_SHARED,
				  fd, 0);
	bool is_brief = argc > 3 && strcmp(argv[3], "brief") == 0;

	if (map == MAP_FAILED)
		return 2;
	(void)close(fd);
	arguments = argv;
	t.page = map;
	t.seat = &t.page->seats[strtoul(argv[2], NULL, 10) % (2 * STRESS_SEATS)];
	t.random = clock_ns() * 2 + (uint64_t)getpid() + 1;
	atomic_store(&t.seat->pid, getpid());
	if (argc > 3 && !is_brief)
		return be_last(&t);
	while (!tenant_check(&t, cuInit(0), "cuInit"))
		pause_ms(5);
	run(&t, is_brief);
	/* As many programs end: with everything still allocated. */
	if (is_brief && tenant_random(&t, 2))
		(void)raise(SIGKILL);
	_exit(0);
}
