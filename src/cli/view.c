/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "rt/file.h"
#include "rt/sat.h"
#include "slice/ledger.h"
#include "slice/parts.h"

void tr_view_add_time(struct tr_view_time *sum, const struct tr_view_time *more)
{
	sum->gpu_ns = tr_sat_add(sum->gpu_ns, more->gpu_ns);
	sum->launches = tr_sat_add(sum->launches, more->launches);
	sum->throttled_ns = tr_sat_add(sum->throttled_ns, more->throttled_ns);
}

/* The rows that the process in slot S has in its window: one per device at most. */
static void add_usage(struct tr_view_process *p, const struct tr_state *copy, unsigned s,
		      unsigned devices)
{
	for (unsigned i = 0; i < TR_USAGE_WINDOW; i++) {
		const struct tr_state_usage *row =
			&copy->usage[(tr_usage_first(s) + i) % TR_USAGE_ROWS];
		uint64_t owner = row->owner, d = owner & 0xff;

		if (owner >> 8 != (uint64_t)s + 1 || d >= devices)
			continue;
		p->time[d] = (struct tr_view_time){ tr_parts_gpu_ns(&copy->pace[d], row),
						    row->launches, row->throttled_ns };
	}
}

static void fill_time(struct tr_view_device *device, const struct tr_policy_device *row,
		      const struct tr_state_pace *pace, uint64_t now_ns)
{
	uint64_t rate = row->rate_q32 ? row->rate_q32 : TR_RATE_ALL,
		 gamma = row->gamma_q16 ? row->gamma_q16 : UINT64_C(1) << 16;

	device->share = (struct tr_view_share){
		.rate_q32 = rate,
		.rate_max_q32 = row->rate_max_q32 ? row->rate_max_q32 : rate,
		.gamma = (double)gamma / 65536,
		.priority = row->priority,
		.is_borrowing = row->lease_until_ns > now_ns,
		.is_blocked = row->block_until_ns > now_ns,
		.on_bypass = row->mode,
		.bypass_seen = row->bypass_seen,
	};
	device->time = (struct tr_view_time){ pace->gpu_ns, pace->launches,
					      pace->throttled_ns };
	device->gate_waits = pace->gate_waits;
}

/* Adds the process in slot S, if the slot holds one. */
static void add_process(struct tr_view_slice *slice, const struct tr_policy *page,
			const struct tr_state *copy, unsigned s)
{
	const struct tr_state_slot *slot = &copy->slots[s];
	struct tr_view_process *p = &slice->processes[slice->process_count];

	if (!slot->tag)
		return;
	*p = (struct tr_view_process){ .pid = slot->pid };
	memcpy(p->comm, slot->comm, sizeof(p->comm));
	p->comm[sizeof(p->comm) - 1] = '\0';
	for (unsigned d = 0; d < slice->device_count; d++) {
		uint64_t overhead = tr_overhead(page, copy, d, s);

		p->bytes = tr_sat_add(p->bytes,
				      tr_sat_add(copy->mem[d][s].used_bytes, overhead));
	}
	if (slice->is_armed)
		add_usage(p, copy, s, slice->device_count);
	slice->process_count++;
}

static int fill_slice(struct tr_view_slice *slice, const struct tr_page *page,
		      const struct tr_state *copy)
{
	memcpy(slice->name, page->name, sizeof(slice->name));
	slice->device_count = page->device_count;
	slice->is_armed = page->flags & TR_POLICY_ARMED;
	slice->serial = page->serial;
	slice->at_ns = tr_clock_ns();
	for (unsigned d = 0; d < page->device_count; d++) {
		const struct tr_policy_device *row = &page->map->devices[d];

		memcpy(slice->devices[d].uuid, row->uuid, sizeof(row->uuid) - 1);
		slice->devices[d].limit_bytes = row->limit_bytes;
		slice->devices[d].total_bytes = row->total_bytes;
		slice->devices[d].nvml_busy_ns = row->nvml_busy_ns;
		slice->devices[d].nvml_seen_ns = row->nvml_seen_ns;
		tr_slice_use(page->map, copy, d, &slice->devices[d].use);
		if (slice->is_armed)
			fill_time(&slice->devices[d], row, &copy->pace[d], slice->at_ns);
	}
	slice->processes = calloc(TR_SLOTS_MAX, sizeof(*slice->processes));
	if (!slice->processes)
		return -ENOMEM;
	for (unsigned s = 0; s < TR_SLOTS_MAX && s < copy->high_water; s++)
		add_process(slice, page->map, copy, s);
	return 0;
}

static void leave_out(const struct tr_view *view, const struct tr_err *err)
{
	if (view->says_why)
		(void)tr_cli_fail(err, 0);
}

static int add_slice(const struct tr_slice_dir *dir, void *arg)
{
	static struct tr_state copy;
	struct tr_view *view = arg;
	struct tr_view_slice *grown;
	struct tr_page page;
	struct tr_err err = { 0 };
	int r = 0;

	if (tr_page_open(&page, dir->policy_path, &err) < 0) {
		leave_out(view, &err);
		return 0;
	}
	if (tr_state_read(dir->state_path, &copy, &err) < 0) {
		leave_out(view, &err);
	} else {
		grown = realloc(view->slices, (view->count + 1) * sizeof(*grown));
		r = grown ? 0 : -ENOMEM;
		if (grown) {
			view->slices = grown;
			memset(&grown[view->count], 0, sizeof(*grown));
			grown[view->count].is_alive = tr_slice_is_alive(dir);
			r = fill_slice(&grown[view->count++], &page, &copy);
		}
	}
	tr_page_close(&page);
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct tr_view_slice *)a)->name,
		      ((const struct tr_view_slice *)b)->name);
}

int tr_view_take(struct tr_view *out, bool says_why)
{
	int r;

	*out = (struct tr_view){ .says_why = says_why };
	tr_slices_sweep();
	r = tr_slices_each(add_slice, out);
	if (r < 0) {
		tr_view_free(out);
		return r;
	}
	if (out->count)
		qsort(out->slices, out->count, sizeof(*out->slices), by_name);
	return 0;
}

const struct tr_view_slice *tr_view_find(const struct tr_view *view,
					 const struct tr_view_slice *slice)
{
	for (size_t i = 0; i < view->count; i++)
		if (view->slices[i].serial == slice->serial &&
		    strcmp(view->slices[i].name, slice->name) == 0)
			return &view->slices[i];
	return NULL;
}

void tr_view_free(struct tr_view *view)
{
	for (size_t i = 0; i < view->count; i++)
		free(view->slices[i].processes);
	free(view->slices);
	*view = (struct tr_view){ 0 };
}
