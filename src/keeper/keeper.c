/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keeper/process.h"
#include "rt/file.h"
#include "rt/sat.h"

#define PROCESSES_MAX 1024

int tr_keeper_open(struct tr_keeper *out, const struct tr_slice_dir *dir,
		   struct tr_err *err)
{
	struct tr_keeper keeper = { 0 };
	int r = tr_page_open_writer(&keeper.page, dir->policy_path, err);

	if (r < 0)
		return r;
	/* `tranche set` writes between our sweeps. */
	(void)tr_byte_unlock(keeper.page.lock_fd, 0);
	(void)snprintf(keeper.state_path, sizeof(keeper.state_path), "%s", dir->state_path);
	keeper.before = malloc(sizeof(*keeper.before));
	keeper.after = malloc(sizeof(*keeper.after));
	if (!keeper.before || !keeper.after) {
		tr_keeper_close(&keeper);
		return tr_fail(err, ENOMEM, "no memory for the keeper of %s", dir->path);
	}
	*out = keeper;
	return 0;
}

void tr_keeper_close(struct tr_keeper *keeper)
{
	tr_page_close(&keeper->page);
	free(keeper->before);
	free(keeper->after);
	*keeper = (struct tr_keeper){ .page.lock_fd = -1 };
}

/* The slot of the process NVML calls PID, or -1. The pid in a slot is a label in the
 * process' own namespace; together with its start time it names one process of this
 * machine. */
static int find_slot(const struct tr_state *state, pid_t pid)
{
	struct tr_process_name name;

	if (tr_process_name(pid, &name) < 0)
		return -1;
	for (unsigned s = 0; s < TR_SLOTS_MAX && s < state->high_water; s++) {
		const struct tr_state_slot *slot = &state->slots[s];

		if (slot->tag && slot->start_ticks == name.start_ticks &&
		    (slot->pid == name.inner_pid || slot->pid == pid))
			return (int)s;
	}
	return -1;
}

static bool is_steady(const struct tr_keeper *keeper, unsigned d, int s)
{
	const struct tr_state *before = keeper->before, *after = keeper->after;

	return before->slots[s].tag == after->slots[s].tag &&
	       before->mem[d][s].used_bytes == after->mem[d][s].used_bytes &&
	       before->mem[d][s].floor_bytes == after->mem[d][s].floor_bytes;
}

static void publish(struct tr_keeper *keeper, unsigned d, int s, uint64_t nvml_bytes)
{
	const struct tr_state_mem *mem = &keeper->before->mem[d][s];
	uint64_t tag = keeper->before->slots[s].tag;
	struct tr_policy *page = keeper->page.writable;

	if (!is_steady(keeper, d, s))
		return; /* it allocates right now: the difference would be of two moments */
	if (page->overhead_tag[s] != tag) {
		/* Another occupant: nothing published for the last one may count for this one. */
		atomic_store(&page->overhead_tag[s], 0);
		for (unsigned i = 0; i < TR_DEVICES_MAX; i++) {
			atomic_store(&page->overhead_bytes[i][s], 0);
			atomic_store(&page->overhead_floor_bytes[i][s], 0);
		}
		atomic_store(&page->overhead_tag[s], tag);
	}
	atomic_store(&page->overhead_bytes[d][s], tr_sat_sub(nvml_bytes, mem->used_bytes));
	atomic_store(&page->overhead_floor_bytes[d][s], mem->floor_bytes);
}

static int sweep_device(struct tr_keeper *keeper, unsigned d, struct tr_err *err)
{
	static struct tr_gpu_process rows[PROCESSES_MAX];
	size_t count = PROCESSES_MAX;
	int r;

	r = tr_state_read(keeper->state_path, keeper->before, err);
	if (r == 0)
		r = tr_gpu_processes(keeper->page.map->devices[d].uuid, rows, &count, err);
	if (r == 0)
		r = tr_state_read(keeper->state_path, keeper->after, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		int s = find_slot(keeper->before, rows[i].pid);

		if (s >= 0)
			publish(keeper, d, s, rows[i].bytes);
	}
	return 0;
}

int tr_keeper_sweep(struct tr_keeper *keeper, struct tr_err *err)
{
	int r = tr_byte_lock(keeper->page.lock_fd, 0);

	if (r < 0)
		return r == -EAGAIN ? 0 : tr_fail(err, -r, "policy page: %s", strerror(-r));
	for (unsigned d = 0; r == 0 && d < keeper->page.device_count; d++)
		r = sweep_device(keeper, d, err);
	if (r == 0)
		atomic_store(&keeper->page.writable->keeper_seen_ns, tr_clock_ns());
	atomic_store(&keeper->page.writable->keeper_pid, (uint32_t)getpid());
	(void)tr_byte_unlock(keeper->page.lock_fd, 0);
	return r;
}
