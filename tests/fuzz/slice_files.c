/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A policy page and a state file with any bits, and everyone who reads them: the hook's side
 * (page, seat, ledger, reaping) and the host's (keeper, reader). First byte: 1 the input is
 * the state file, 2 it is the page, as long as it is; else words of 12 bytes, an offset and
 * what is written there in good files. Bit 4: with the keeper.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "gpu/gpu.h"
#include "keeper/keeper.h"
#include "naive.h"
#include "rt/file.h"
#include "slice/ledger.h"
#include "slice/page.h"
#include "slice/seat.h"

#define UUID   "GPU-00000000-0000-0000-0000-000000000000"
#define SERIAL 5

static char dir[64];
static struct tr_slice_dir files;
static int policy_fd, state_fd;
static unsigned char *policy_good, *state_good, *policy_map, *state_map;

/* What NVML would say: this process, with an odd number of bytes. */
int tr_gpu_processes(const char *uuid, struct tr_gpu_process *rows, size_t *count,
		     struct tr_err *err)
{
	(void)uuid;
	(void)err;
	rows[0] = (struct tr_gpu_process){ .pid = getpid(), .bytes = UINT64_MAX / 3 };
	*count = 1;
	return 0;
}

/* And that it is busy all the time. */
int tr_gpu_utilization(const char *uuid, uint64_t after_us, struct tr_gpu_sample *rows,
		       size_t *count, struct tr_err *err)
{
	(void)uuid;
	(void)err;
	for (size_t i = 0; i < 6; i++)
		rows[i] = (struct tr_gpu_sample){ getpid(), 99,
						  after_us + 166667 * (i + 1) };
	*count = 6;
	return 0;
}

static void remove_files(void)
{
	(void)unlink(files.policy_path);
	(void)unlink(files.state_path);
	(void)rmdir(dir);
}

static unsigned char *map_and_copy(const char *path, size_t bytes, int *fd,
				   unsigned char **map)
{
	unsigned char *copy = malloc(bytes);

	*fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(*fd >= 0 && copy);
	*map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	CHECK(*map != MAP_FAILED);
	memcpy(copy, *map, bytes);
	return copy;
}

static void make_files(void)
{
	struct tr_page_device device = { .uuid = UUID,
					 .limit_bytes = 1 << 30,
					 .context_floor_bytes = 1 << 20 };
	struct tr_page_spec spec = { .name = "fuzz",
				     .serial = SERIAL,
				     .state_path = files.state_path,
				     .device_count = 1,
				     .devices = &device };

	(void)strcpy(dir, "/dev/shm/fuzz.XXXXXX");
	CHECK(mkdtemp(dir));
	(void)snprintf(files.policy_path, sizeof(files.policy_path), "%s/policy", dir);
	(void)snprintf(files.state_path, sizeof(files.state_path), "%s/state", dir);
	CHECK(tr_state_create(files.state_path, SERIAL, 0600, NULL) == 0);
	CHECK(tr_page_create(files.policy_path, &spec, NULL) == 0);
	policy_good = map_and_copy(files.policy_path, sizeof(struct tr_policy), &policy_fd,
				   &policy_map);
	state_good = map_and_copy(files.state_path, sizeof(struct tr_state), &state_fd,
				  &state_map);
	(void)atexit(remove_files);
}

/* ---- the bits
 * ---------------------------------------------------------------------------------- */

static void restore(void)
{
	CHECK(ftruncate(policy_fd, sizeof(struct tr_policy)) == 0);
	CHECK(ftruncate(state_fd, sizeof(struct tr_state)) == 0);
	memcpy(policy_map, policy_good, sizeof(struct tr_policy));
	memcpy(state_map, state_good, sizeof(struct tr_state));
}

static void write_raw(int fd, const uint8_t *bytes, size_t n)
{
	CHECK(ftruncate(fd, (off_t)n) == 0);
	CHECK(pwrite(fd, bytes, n, 0) == (ssize_t)n);
}

/* Half of the offsets lie in the headers. */
static void write_words(const uint8_t *bytes, size_t n)
{
	for (; n >= 12; bytes += 12, n -= 12) {
		uint32_t at;

		memcpy(&at, bytes, sizeof(at));
		if (at >> 31)
			memcpy(policy_map +
				       (at & 0x40000000
						? at & 0x3fff
						: (at & 0x3fffffff) %
							  (sizeof(struct tr_policy) - 8)),
			       bytes + 4, 8);
		else
			memcpy(state_map + (at & 0x40000000
						    ? at & 0xfff
						    : at % (sizeof(struct tr_state) - 8)),
			       bytes + 4, 8);
	}
}

/* ---- the readers
 * ------------------------------------------------------------------------------- */

static void use_ledger(const struct tr_seat *seat, const struct tr_page *page)
{
	struct tr_ledger ledger = { .state = seat->state,
				    .policy = page->map,
				    .slot = seat->slot };
	static const uint8_t rows[] = { 0, 1, 15 };
	tr_dev dev;

	for (unsigned i = 0; i < sizeof(rows); i++) {
		uint64_t limit =
			page->map ? atomic_load(&page->map->devices[rows[i]].limit_bytes)
				  : 1000000;
		int r;

		dev.at = rows[i];
		(void)tr_ledger_sum(&ledger, dev);
		/* Taking the seat has zeroed the rows in use; which those are is scribbled bits here. */
		tr_ledger_refund(&ledger, dev, TR_USED, UINT64_MAX);
		tr_ledger_refund(&ledger, dev, TR_FLOOR, UINT64_MAX);
		r = tr_ledger_reserve(&ledger, dev, TR_USED, 4096, limit);
		CHECK(r == 0 || r == -ENOMEM);
		CHECK(r < 0 || limit >= 4096);
		tr_ledger_add(&ledger, dev, TR_FLOOR, 4096);
		tr_ledger_refund(&ledger, dev, TR_USED, 1 << 20);
		tr_ledger_refund(&ledger, dev, TR_FLOOR, 8192);
		CHECK(seat->state->mem[rows[i]][seat->slot.at].used_bytes == 0);
		CHECK(seat->state->mem[rows[i]][seat->slot.at].floor_bytes == 0);
		tr_ledger_refused(&ledger, dev, UINT64_MAX);
	}
	(void)tr_state_row(seat->state, tr_uuid_key(UUID), &dev);
	CHECK(dev.at < TR_DEVICES_MAX);
}

static void run_guest(void)
{
	struct tr_page page = { .lock_fd = -1 };
	struct tr_seat seat;
	tr_dev dev = { 0 };
	int fd;

	if (tr_page_open(&page, files.policy_path, NULL) == 0) {
		CHECK(page.device_count > 0 && page.device_count <= TR_DEVICES_MAX);
		CHECK(strlen(page.state_path) < sizeof(page.state_path));
		(void)tr_page_find(&page, UUID, &dev);
		CHECK(dev.at < page.device_count);
	}
	if (tr_seat_take(&seat, files.state_path, page.serial, NULL) == 0) {
		CHECK(seat.slot.at < TR_SLOTS_MAX);
		use_ledger(&seat, &page);
		fd = open(files.state_path, O_RDWR | O_CLOEXEC);
		(void)tr_state_reap(seat.state, fd);
		(void)close(fd);
		tr_seat_leave(&seat);
	}
	tr_page_close(&page);
}

static void run_host(bool with_keeper)
{
	static struct tr_state copy;
	struct tr_slice_use use;
	static const struct tr_gpus gpus = { .count = 1, .gpus[0].uuid = UUID };
	static struct tr_keeper keeper;

	if (tr_state_read(files.state_path, &copy, NULL) == 0) {
		CHECK(copy.high_water <= TR_SLOTS_MAX);
		for (unsigned d = 0; d < TR_DEVICES_MAX; d++)
			tr_slice_use((const struct tr_policy *)(const void *)policy_good,
				     &copy, d, &use);
	}
	if (!with_keeper)
		return;
	tr_keeper_open(&keeper, &gpus);
	if (tr_keeper_add(&keeper, &files, NULL) == 0) {
		(void)tr_keeper_sweep(&keeper, NULL);
		(void)tr_keeper_sweep(&keeper, NULL);
	}
	tr_keeper_close(&keeper);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	if (!policy_good)
		make_files();
	if (!n)
		return 0;
	restore();
	if ((bytes[0] & 3) == 1)
		write_raw(state_fd, bytes + 1, n - 1);
	else if ((bytes[0] & 3) == 2)
		write_raw(policy_fd, bytes + 1, n - 1);
	else
		write_words(bytes + 1, n - 1);
	run_guest();
	run_host(bytes[0] & 16);
	return 0;
}
