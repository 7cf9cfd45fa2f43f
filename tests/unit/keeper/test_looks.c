/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much the keeper looks: 64 slices with a program each, files and locks as they ship, on a clock and
 * an NVML of the test's. Time passes only between turns, so every count is exact.
 */
#include "../tr_test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gpu/nvml_table.h"
#include "keeper/keeper.h"
#include "keeper/process.h"
#include "rt/file.h"
#include "tranche/paths.h"

#define SLICES    64u
#define MS        UINT64_C(1000000)
#define SECOND    UINT64_C(1000000000)
#define SAMPLE_US UINT64_C(166667)
#define UUID      "GPU-11111111-2222-3333-4444-555555555555"

struct slice {
	struct tr_slice_dir dir;
	struct tr_state *state;
	struct tr_page page;
	int fd;
	pid_t pid;
};

static struct slice slices[SLICES];
static struct tr_keeper keeper;
static char root[64];
static uint64_t clock_ns = 1000 * SECOND, next_ns;
static bool is_working[SLICES];
static struct {
	unsigned turns, reads, roots, asked;
} count;

/* ---- what the keeper calls ------------------------------------------------------------ */

ssize_t pread(int fd, void *out, size_t bytes, off_t offset)
{
	count.reads++;
	return syscall(SYS_pread64, fd, out, bytes, offset);
}

int clock_gettime(clockid_t id, struct timespec *out)
{
	if (id != CLOCK_MONOTONIC)
		return (int)syscall(SYS_clock_gettime, id, out);
	out->tv_sec = (time_t)(clock_ns / SECOND);
	out->tv_nsec = (long)(clock_ns % SECOND);
	return 0;
}

int stat(const char *path, struct stat *out)
{
	count.roots += strcmp(path, root) == 0;
	return fstatat(AT_FDCWD, path, out, 0);
}

static nvmlReturn_t find_device(const char *uuid, nvmlDevice_t *out)
{
	(void)uuid;
	*out = NULL;
	return NVML_SUCCESS;
}

static nvmlReturn_t list_programs(nvmlDevice_t device, unsigned *n, nvmlProcessInfo_t *out)
{
	(void)device;
	*n = SLICES;
	for (unsigned i = 0; i < SLICES; i++)
		out[i] = (nvmlProcessInfo_t){ .pid = (unsigned)slices[i].pid,
					      .usedGpuMemory = 300u << 20 };
	return NVML_SUCCESS;
}

/* The last sample's row of each that works. */
static nvmlReturn_t tell_use(nvmlDevice_t device, nvmlProcessUtilizationSample_t *out,
			     unsigned *n, unsigned long long after_us)
{
	uint64_t end_us = clock_ns / 1000 / SAMPLE_US * SAMPLE_US;

	(void)device;
	count.asked++;
	*n = 0;
	for (unsigned i = 0; end_us > after_us && i < SLICES; i++)
		if (is_working[i])
			out[(*n)++] = (nvmlProcessUtilizationSample_t){
				.pid = (unsigned)slices[i].pid,
				.timeStamp = end_us,
				.smUtil = 50,
			};
	return *n ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

/* ---- the stage ------------------------------------------------------------------------ */

static pid_t start_program(void)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		(void)pause();
}

static void start_slice(struct slice *slice, unsigned i)
{
	const struct tr_page_device device = { .uuid = UUID,
					       .limit_bytes = TR_UNLIMITED,
					       .rate_q32 = TR_RATE_ALL / 100,
					       .rate_max_q32 = TR_RATE_ALL };
	char name[16];
	struct tr_page_spec spec = {
		.serial = i + 1, .armed = true, .device_count = 1, .devices = &device
	};
	struct tr_process_name program;

	(void)snprintf(name, sizeof(name), "s%u", i);
	assert_int_equal(tr_slice_make(&slice->dir, name, &spec, NULL, NULL), 0);
	assert_int_equal(tr_page_open(&slice->page, slice->dir.policy_path, NULL), 0);
	slice->fd = open(slice->dir.state_path, O_RDWR | O_CLOEXEC);
	slice->state = mmap(NULL, sizeof(*slice->state), PROT_READ | PROT_WRITE, MAP_SHARED,
			    slice->fd, 0);
	assert_ptr_not_equal(slice->state, MAP_FAILED);
	slice->pid = start_program();
	assert_true(slice->pid > 0);
	assert_int_equal(tr_process_name(slice->pid, &program), 0);
	slice->state->high_water = 1;
	slice->state->slots[0].tag = i + 1;
	slice->state->slots[0].pid = slice->pid;
	slice->state->slots[0].start_ticks = program.start_ticks;
	assert_int_equal(tr_byte_lock(slice->fd, 0), 0);
}

static int start(void **state)
{
	static struct tr_gpus gpus = { .count = 1, .gpus = { { .uuid = UUID } } };

	(void)state;
	(void)snprintf(root, sizeof(root), "/dev/shm/tr-looks-XXXXXX");
	if (!mkdtemp(root) || setenv(TR_ENV_SLICES, root, 1) < 0)
		return -1;
	tr_nvml.nvmlDeviceGetHandleByUUID = find_device;
	tr_nvml.nvmlDeviceGetComputeRunningProcesses_v3 = list_programs;
	tr_nvml.nvmlDeviceGetProcessUtilization = tell_use;
	for (unsigned i = 0; i < SLICES; i++)
		start_slice(&slices[i], i);
	tr_keeper_open(&keeper, &gpus);
	next_ns = clock_ns;
	return 0;
}

static int end(void **state)
{
	(void)state;
	tr_keeper_close(&keeper);
	for (unsigned i = 0; i < SLICES; i++) {
		(void)kill(slices[i].pid, SIGKILL);
		tr_page_close(&slices[i].page);
		(void)munmap(slices[i].state, sizeof(*slices[i].state));
		(void)close(slices[i].fd);
		tr_slice_remove(&slices[i].dir);
	}
	return rmdir(root);
}

/* As a program that works leaves it behind each time that somebody looks. */
static void work(void)
{
	for (unsigned i = 0; i < SLICES; i++) {
		struct tr_state_pace *pace = &slices[i].state->pace[0];

		if (!is_working[i])
			continue;
		pace->tat_max_ns = clock_ns + 2 * MS;
		pace->launches++;
		pace->charged_ns += 5 * MS;
		pace->gpu_ns += 5 * MS;
	}
}

static uint64_t lease_of(unsigned i)
{
	return slices[i].page.map->devices[0].lease_until_ns;
}

/* To the moment of the next turn, and that turn. */
static void turn(void)
{
	uint64_t pause_ns;

	clock_ns = next_ns;
	work();
	pause_ns = tr_keeper_turn(&keeper);
	assert_in_range(pause_ns, 1, 40 * MS);
	next_ns = clock_ns + pause_ns;
	count.turns++;
}

static void turns_for(uint64_t ns)
{
	for (uint64_t until_ns = clock_ns + ns; next_ns < until_ns;)
		turn();
}

/* Those before FROM hold a lease at every moment from then on, the others none: longer than till the
 * next look, should it be late, and never longer than what a dead keeper may leave behind. */
static void check_leases(unsigned from)
{
	for (unsigned i = 0; i < SLICES; i++) {
		if (i >= from)
			assert_int_equal(lease_of(i), 0);
		else
			assert_in_range(lease_of(i), next_ns + 10 * MS, clock_ns + 55 * MS);
	}
}

static void count_for(unsigned seconds, unsigned lessees)
{
	memset(&count, 0, sizeof(count));
	for (uint64_t until_ns = clock_ns + seconds * SECOND; next_ns < until_ns;) {
		turn();
		check_leases(lessees);
	}
	count.turns /= seconds;
	count.reads /= seconds;
	count.roots /= seconds;
	count.asked /= seconds;
}

/* ---- what it may cost ----------------------------------------------------------------- */

/* A turn wakes a core, a reading is of a file that no cache remembers: 20 to 45 us and 1 to 3. The
 * percent of a core that tests/bench/keeper.sh measures is these two. */
static void one_that_borrows_among_sleepers_costs_few_reads(void **state)
{
	(void)state;
	is_working[0] = true;
	turns_for(3 * SECOND);
	count_for(10, 1);
	assert_in_range(count.turns, 1, 25);
	/* 25 times 63 sleepers, and once a second two words of each for its memory */
	assert_in_range(count.reads, 25 * 63, 25 * 64 + 2 * 64 + 30);
	assert_in_range(count.roots, 1, 10);
	assert_in_range(count.asked, 5, 7);
	is_working[0] = false;
}

static void sleepers_alone_cost_less(void **state)
{
	(void)state;
	turns_for(3 * SECOND);
	count_for(10, SLICES);
	assert_in_range(count.turns, 1, 34);
	assert_in_range(count.reads, 16 * 64, 17 * 64 + 3 * 64);
	assert_in_range(count.roots, 1, 10);
}

/* ---- and what it may not --------------------------------------------------------------- */

/* Whoever wakes at any moment between two turns is seen in 40 ms; then all is looked at every 10. */
static void who_wakes_is_made_way_for(void **state)
{
	unsigned seed = 1;
	uint64_t worst_ns = 0;

	(void)state;
	is_working[0] = true;
	for (unsigned i = 0; i < 200; i++) {
		unsigned who = 1 + i % (SLICES - 1);
		uint64_t woke_ns;

		turns_for(400 * MS + (seed >> 8) % (100 * MS));
		check_leases(1);
		seed = seed * 1664525u + 1013904223u;
		woke_ns = clock_ns + (seed >> 8) % (next_ns - clock_ns);
		is_working[who] = true;
		while (lease_of(0))
			turn();
		if (clock_ns - woke_ns > worst_ns)
			worst_ns = clock_ns - woke_ns;
		for (unsigned k = 0; k < 20; k++) {
			turn();
			assert_int_equal(next_ns - clock_ns, 10 * MS);
			check_leases(0);
		}
		is_working[who] = false;
	}
	assert_in_range(worst_ns, 20 * MS, 40 * MS);
	is_working[0] = false;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_borrows_among_sleepers_costs_few_reads),
		cmocka_unit_test(sleepers_alone_cost_less),
		cmocka_unit_test(who_wakes_is_made_way_for),
	};

	return cmocka_run_group_tests(tests, start, end);
}
