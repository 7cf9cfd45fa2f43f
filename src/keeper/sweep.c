/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/file.h"
#include "rt/sat.h"

#define PROCESSES_MAX 1024

static int find_row(const struct tr_kept *kept, int gpu)
{
	for (unsigned d = 0; d < kept->device_count; d++)
		if (kept->rows[d].gpu == gpu)
			return (int)d;
	return -1;
}

/* ---- memory: overhead ---------------------------------------------------------------- */

static bool read_ledger(const struct tr_person *person, struct tr_state_mem *out)
{
	return tr_kept_read(person->kept, out, sizeof(*out),
			    offsetof(struct tr_state, mem) +
				    (person->row * TR_SLOTS_MAX + person->slot) *
					    sizeof(*out));
}

static void publish(const struct tr_person *person, const struct tr_state_mem *mem,
		    uint64_t nvml_bytes)
{
	struct tr_policy *page = person->kept->page.writable;
	unsigned s = person->slot, d = person->row;

	if (tr_byte_lock(person->kept->page.lock_fd, 0) < 0)
		return;
	if (page->overhead_tag[s] != person->tag) {
		/* Another occupant: nothing published for the last one may count for this one. */
		atomic_store(&page->overhead_tag[s], 0);
		for (unsigned i = 0; i < TR_DEVICES_MAX; i++) {
			atomic_store(&page->overhead_bytes[i][s], 0);
			atomic_store(&page->overhead_floor_bytes[i][s], 0);
		}
		atomic_store(&page->overhead_tag[s], person->tag);
	}
	atomic_store(&page->overhead_bytes[d][s], tr_sat_sub(nvml_bytes, mem->used_bytes));
	atomic_store(&page->overhead_floor_bytes[d][s], mem->floor_bytes);
	(void)tr_byte_unlock(person->kept->page.lock_fd, 0);
}

static void publish_if_steady(const struct tr_person *person, uint64_t nvml_bytes)
{
	struct tr_state_mem after;
	uint64_t tag;

	if (!person->kept || !person->kept->is_ours || !person->has_before ||
	    !tr_kept_read(person->kept, &tag, sizeof(tag),
			  offsetof(struct tr_state, slots) +
				  person->slot * sizeof(struct tr_state_slot)) ||
	    tag != person->tag || !read_ledger(person, &after))
		return;
	/* It allocates right now: the difference would be of two moments. */
	if (after.used_bytes == person->before.used_bytes &&
	    after.floor_bytes == person->before.floor_bytes)
		publish(person, &after, nvml_bytes);
}

/* Asks NVML who is there. True when somebody has a slot now whose ledger was not read before. */
static int list_people(struct tr_fleet *fleet, struct tr_crowd *crowd, int gpu,
		       struct tr_gpu_process *rows, size_t *count, bool *is_late,
		       struct tr_err *err)
{
	uint64_t now_ns = tr_clock_ns();
	int r;

	for (size_t i = 0; i < crowd->count; i++) {
		struct tr_person *person = &crowd->people[i];

		if (person->gpu == gpu)
			person->has_before = person->kept &&
					     read_ledger(person, &person->before);
	}
	*count = PROCESSES_MAX;
	r = tr_gpu_processes(fleet->gpus->gpus[gpu].uuid, rows, count, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < crowd->count; i++)
		crowd->people[i].is_listed &= crowd->people[i].gpu != gpu;
	for (size_t i = 0; i < *count; i++) {
		struct tr_person *person = tr_crowd_find(crowd, rows[i].pid, gpu, now_ns);

		if (person) {
			person->seen_ns = now_ns;
			person->is_listed = true;
		}
	}
	tr_crowd_resolve(crowd, fleet, gpu, now_ns);
	*is_late = false;
	for (size_t i = 0; i < crowd->count; i++)
		*is_late |= crowd->people[i].gpu == gpu && crowd->people[i].kept &&
			    !crowd->people[i].has_before;
	return 0;
}

static int sweep_memory(struct tr_fleet *fleet, struct tr_crowd *crowd, int gpu,
			struct tr_err *err)
{
	static struct tr_gpu_process rows[PROCESSES_MAX];
	bool is_late = false;
	size_t count = 0;
	int r = list_people(fleet, crowd, gpu, rows, &count, &is_late, err);

	if (r == 0 && is_late)
		r = list_people(fleet, crowd, gpu, rows, &count, &is_late, err);
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct tr_person *person = tr_crowd_find(crowd, rows[i].pid, gpu,
							 tr_clock_ns());

		if (person)
			publish_if_steady(person, rows[i].bytes);
	}
	return r;
}

/* ---- time: gamma, bypasses, strangers ------------------------------------------------ */

struct hearing {              /* of one device, one sweep */
	uint64_t strange_ns;  /* busy time of people in no armed slice */
	uint64_t nameless_ns; /* and of those whom /proc does not know: anybody's */
	uint64_t charged_ns;  /* by all armed slices */
	unsigned people;      /* processes with a context */
	bool is_heard;        /* NVML answered, on a clock that runs as ours */
};

/* Writes the look at the pacing line; false: no such line. */
static bool begin_look(struct tr_kept *kept, unsigned d, uint64_t now_ns)
{
	struct tr_kept_row *row = &kept->rows[d];
	struct tr_state_pace pace;
	struct tr_look look = { 0 };

	if (!tr_kept_read(kept, &pace, sizeof(pace),
			  offsetof(struct tr_state, pace) + d * sizeof(pace)))
		return false;
	look.wall_ns = tr_sat_sub(now_ns, row->looked_ns);
	look.charged_ns = tr_sat_sub(pace.charged_ns, row->charged_ns);
	look.longest_ns = pace.longest_ns;
	look.is_launching = pace.launches != row->launches;
	/* Stopped for long, a first look, a word set back: nothing to compare. A process that came
	 * or went may have worked unseen. */
	look.is_whole = row->looked_ns && look.wall_ns <= UINT64_C(5000000000) &&
			pace.charged_ns >= row->charged_ns && row->crowd == kept->crowd &&
			look.charged_ns <= 2 * look.wall_ns * TR_SLOTS_MAX;
	if (row->looked_ns == 0)
		look.charged_ns = 0;
	row->charged_ns = pace.charged_ns;
	row->launches = pace.launches;
	row->crowd = kept->crowd;
	row->looked_ns = now_ns;
	row->look = look;
	return true;
}

static void begin_looks(struct tr_fleet *fleet, int gpu, uint64_t now_ns,
			struct hearing *hearing)
{
	for (size_t i = 0; i < fleet->count; i++) {
		struct tr_kept *kept = fleet->slices[i];
		int d = find_row(kept, gpu);

		if (d < 0)
			continue;
		tr_kept_refresh(kept);
		if (kept->is_armed && begin_look(kept, (unsigned)d, now_ns))
			hearing->charged_ns = tr_sat_add(hearing->charged_ns,
							 kept->rows[d].look.charged_ns);
	}
}

static void hear_person(struct tr_crowd *crowd, const struct tr_gpu_sample *rows,
			size_t count, int gpu, struct tr_swept *swept,
			struct hearing *hearing)
{
	struct tr_person *person = tr_crowd_find(crowd, rows->pid, gpu, swept->swept_ns);
	struct tr_look stranger = { 0 };
	bool is_armed = person && person->kept && person->kept->is_armed;
	struct tr_look *look = is_armed ? &person->kept->rows[person->row].look : &stranger;
	uint64_t before_ns = look->busy_ns;

	if (!person)
		return;
	if (person->base_us == 0)
		person->base_us = swept->base_us;
	tr_samples_feed(&person->samples, rows, count, person->base_us, &swept->period_us,
			look);
	if (person->kept && person->kept->is_ours)
		(void)atomic_fetch_add(
			&person->kept->page.writable->devices[person->row].nvml_busy_ns,
			look->busy_ns - before_ns);
	if (person->is_named)
		hearing->strange_ns += stranger.busy_ns;
	else
		hearing->nameless_ns += stranger.busy_ns;
}

static int by_person(const void *a, const void *b)
{
	const struct tr_gpu_sample *left = a, *right = b;

	return (left->pid > right->pid) - (left->pid < right->pid);
}

static uint64_t newest(const struct tr_gpu_sample *rows, size_t count)
{
	uint64_t end_us = 0;

	for (size_t i = 0; i < count; i++)
		if (rows[i].end_us > end_us)
			end_us = rows[i].end_us;
	return end_us;
}

/* NVML's clock was set, or this is the first time: from here on, and nothing of before. */
static void rebase(struct tr_crowd *crowd, int gpu, struct tr_swept *swept, uint64_t end_us)
{
	swept->base_us = end_us;
	for (size_t i = 0; i < crowd->count; i++)
		if (crowd->people[i].gpu == gpu) {
			crowd->people[i].samples = (struct tr_samples){ 0 };
			crowd->people[i].base_us = end_us;
		}
}

#define SECOND_US UINT64_C(1000000)
#define SILENT_NS UINT64_C(5000000000)

static int hear(struct tr_fleet *fleet, struct tr_crowd *crowd, int gpu,
		struct tr_swept *swept, struct hearing *hearing, struct tr_err *err)
{
	static struct tr_gpu_sample rows[PROCESSES_MAX];
	size_t count = PROCESSES_MAX;
	bool is_silent = tr_sat_sub(swept->swept_ns, swept->heard_ns) > SILENT_NS;
	uint64_t wall_us = tr_sat_sub(swept->swept_ns, swept->heard_ns) / 1000, end_us;
	/* Stamps of different processes may differ; each process' own say what is new. */
	uint64_t after_us = is_silent ? 0 : tr_sat_sub(swept->base_us, SECOND_US);
	int r = tr_gpu_utilization(fleet->gpus->gpus[gpu].uuid, after_us, rows, &count,
				   err);

	if (r < 0 || count == 0) {
		hearing->is_heard = r == 0 && swept->base_us;
		return r;
	}
	end_us = newest(rows, count);
	if (swept->base_us == 0 || tr_sat_add(end_us, SECOND_US) < swept->base_us ||
	    tr_sat_sub(end_us, swept->base_us) > tr_sat_add(wall_us, 3 * SECOND_US)) {
		rebase(crowd, gpu, swept, end_us);
		swept->heard_ns = swept->swept_ns;
		return 0;
	}
	hearing->is_heard = true;
	qsort(rows, count, sizeof(*rows), by_person);
	for (size_t i = 0; i < count; i++)
		(void)tr_crowd_find(crowd, rows[i].pid, gpu, swept->swept_ns);
	tr_crowd_resolve(crowd, fleet, gpu, swept->swept_ns);
	for (size_t i = 0, next; i < count; i = next) {
		for (next = i + 1; next < count && rows[next].pid == rows[i].pid;)
			next++;
		hear_person(crowd, &rows[i], next - i, gpu, swept, hearing);
	}
	if (end_us > swept->base_us) {
		swept->base_us = end_us;
		swept->heard_ns = swept->swept_ns;
	}
	return 0;
}

static void judge_row(struct tr_kept *kept, unsigned d)
{
	struct tr_policy_device *page_row = &kept->page.writable->devices[d];
	struct tr_kept_row *row = &kept->rows[d];
	uint64_t gamma_q16 = tr_gamma_feed(&row->gamma, &row->look);

	if (tr_watch_feed(&row->watch, &row->look))
		(void)atomic_fetch_add(&page_row->bypass_seen, 1);
	if (page_row->mode == TR_BYPASS_LOWERED)
		gamma_q16 = tr_watch_lowered_q16(&row->watch, gamma_q16);
	if (page_row->gamma_q16 != gamma_q16)
		atomic_store(&page_row->gamma_q16, gamma_q16);
}

static void judge_rows(struct tr_fleet *fleet, int gpu, const struct hearing *hearing)
{
	for (size_t i = 0; i < fleet->count; i++) {
		struct tr_kept *kept = fleet->slices[i];
		int d = find_row(kept, gpu);

		if (d < 0 || !kept->is_ours)
			continue;
		/* Busy time of a process without a name may be this slice's own. */
		if (!hearing->is_heard || hearing->nameless_ns)
			kept->rows[d].look.is_whole = false;
		kept->rows[d].look.sharers = hearing->people;
		if (hearing->is_heard)
			atomic_store(&kept->page.writable->devices[d].nvml_seen_ns,
				     tr_clock_ns());
		if (kept->is_armed)
			judge_row(kept, (unsigned)d);
		atomic_store(&kept->page.writable->keeper_seen_ns, tr_clock_ns());
		atomic_store(&kept->page.writable->keeper_pid, (uint32_t)getpid());
	}
}

int tr_sweep_gpu(struct tr_fleet *fleet, struct tr_crowd *crowd, int gpu,
		 struct tr_swept *swept, struct tr_err *err)
{
	uint64_t now_ns = tr_clock_ns(), wall_ns = tr_sat_sub(now_ns, swept->swept_ns);
	struct hearing hearing = { 0 };
	int r, heard;

	swept->swept_ns = now_ns;
	begin_looks(fleet, gpu, now_ns, &hearing);
	r = sweep_memory(fleet, crowd, gpu, err);
	for (size_t i = 0; i < crowd->count; i++)
		hearing.people += crowd->people[i].gpu == gpu;
	heard = hear(fleet, crowd, gpu, swept, &hearing, NULL);
	judge_rows(fleet, gpu, &hearing);
	tr_crowd_fade(crowd, gpu, now_ns);
	swept->is_foreign_busy = heard == 0 && hearing.is_heard &&
				 (hearing.strange_ns > wall_ns / 100 ||
				  tr_sat_sub(hearing.nameless_ns, hearing.charged_ns) >
					  wall_ns / 10);
	return r == -ENODATA ? 0 : r;
}
