/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/file.h"
#include "rt/sat.h"

#define PROCESSES_MAX 1024

static bool read_ledger(const struct tr_person *person, struct tr_state_mem *out)
{
	return tr_kept_read(person->kept, out, sizeof(*out),
			    offsetof(struct tr_state, mem) +
				    (person->row * TR_SLOTS_MAX + person->slot) *
					    sizeof(*out));
}

/* Nobody but the keeper writes these. */
static bool is_published(const struct tr_person *person, uint64_t nvml_bytes)
{
	const struct tr_policy *page = person->kept->page.map;
	const struct tr_state_mem *mem = &person->before;
	unsigned s = person->slot, d = person->row;

	return page->overhead_tag[s] == person->tag &&
	       page->overhead_bytes[d][s] == tr_sat_sub(nvml_bytes, mem->used_bytes) &&
	       page->overhead_floor_bytes[d][s] == mem->floor_bytes;
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

	/* As it was: most are, and each is asked once a second. */
	if (!person->kept || !person->kept->is_ours || !person->has_before ||
	    is_published(person, nvml_bytes) || !read_ledger(person, &after))
		return;
	/* It allocates right now: the difference would be of two moments. Whose ledger that is was
	 * checked since NVML was asked; the tag it is published under says so. */
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
	tr_crowd_check(crowd, gpu, now_ns);
	tr_crowd_resolve(crowd, fleet, gpu, now_ns);
	*is_late = false;
	for (size_t i = 0; i < crowd->count; i++)
		*is_late |= crowd->people[i].gpu == gpu && crowd->people[i].kept &&
			    !crowd->people[i].has_before;
	return 0;
}

int tr_sweep_memory(struct tr_fleet *fleet, struct tr_crowd *crowd, int gpu,
		    struct tr_swept *swept, struct tr_err *err)
{
	static struct tr_gpu_process rows[PROCESSES_MAX];
	bool is_late = false;
	size_t count = 0;
	int r;

	swept->listed_ns = tr_clock_ns();
	r = list_people(fleet, crowd, gpu, rows, &count, &is_late, err);
	if (r == 0 && is_late)
		r = list_people(fleet, crowd, gpu, rows, &count, &is_late, err);
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct tr_person *person = tr_crowd_find(crowd, rows[i].pid, gpu,
							 tr_clock_ns());

		if (person)
			publish_if_steady(person, rows[i].bytes);
	}
	tr_crowd_fade(crowd, gpu, swept->listed_ns);
	swept->people = 0;
	for (size_t i = 0; i < crowd->count; i++)
		swept->people += crowd->people[i].gpu == gpu;
	return r == -ENODATA ? 0 : r;
}
