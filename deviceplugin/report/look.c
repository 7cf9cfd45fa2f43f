/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/look.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "keeper/slices.h"
#include "rt/cleanup.h"
#include "rt/file.h"
#include "rt/sat.h"

#define BUSY_NS UINT64_C(5000000000)  /* what busy_percent is of, at least */
#define NEWS_NS UINT64_C(10000000000) /* a refusal that an agent just started still tells */

/* The row of the page for the device with UUID. */
static bool find_row(const struct tr_page *page, const char *uuid, unsigned *out)
{
	tr_dev dev;

	if (!uuid[0] || tr_page_find(page, uuid, &dev) < 0)
		return false;
	*out = dev.at;
	return true;
}

static void read_limits(struct tr_report_device *d, const struct tr_policy_device *row,
			uint64_t now_ns)
{
	d->limit_bytes = row->limit_bytes;
	d->total_bytes = row->total_bytes;
	d->rate_q32 = row->rate_q32 ? row->rate_q32 : TR_RATE_ALL;
	d->rate_max_q32 = row->rate_max_q32 ? row->rate_max_q32 : d->rate_q32;
	d->priority = row->priority;
	d->is_borrowing = row->lease_until_ns > now_ns;
	d->is_held_back = row->block_until_ns > now_ns;
	d->busy_ns = row->nvml_busy_ns;
	d->seen_ns = row->nvml_seen_ns;
	d->bypass_seen = row->bypass_seen;
}

/* When a process of the slice last did something on row AT of the page; 0: none that is there. */
static uint64_t last_seen(const struct tr_state *copy, unsigned at, uint64_t now_ns)
{
	uint32_t rows = tr_usage_rows(copy->high_water);
	uint64_t last = 0;

	for (uint32_t i = 0; i < rows; i++) {
		uint64_t owner = copy->usage[i].owner, seen = copy->usage[i].seen_ns;

		if (owner && (owner & 0xff) == at && seen > last && seen <= now_ns)
			last = seen;
	}
	return last;
}

/* A process may have come, launched and gone since the last look: then it was about now. */
static void tell_idle(struct tr_report_device *d, bool has_launched, uint64_t seen_ns,
		      uint64_t first_ns, uint64_t now_ns)
{
	if (seen_ns > d->launched_ns)
		d->launched_ns = seen_ns;
	else if (has_launched && d->mark_ns) /* of before the first look nothing is known */
		d->launched_ns = now_ns;
	d->idle_ns = tr_sat_sub(now_ns, d->launched_ns ? d->launched_ns : first_ns);
}

/* By NVML where it tells, else by what was charged. */
static void tell_busy(struct tr_report_device *d, uint64_t now_ns)
{
	uint64_t at = d->seen_ns ? d->seen_ns : now_ns,
		 busy = d->seen_ns ? d->busy_ns : d->gpu_ns;

	if (!d->mark_ns || at < d->mark_ns || busy < d->mark_busy_ns) {
		d->busy_percent = 0;
	} else if (at - d->mark_ns < BUSY_NS) {
		return;
	} else {
		uint64_t part = tr_sat_part(busy - d->mark_busy_ns, 100, at - d->mark_ns);

		d->busy_percent = part < 100 ? (unsigned)part : 100;
	}
	d->mark_ns = at;
	d->mark_busy_ns = busy;
}

static void read_use(struct tr_report_device *d, const struct tr_policy *page,
		     const struct tr_state *copy, unsigned at)
{
	struct tr_slice_use use;

	tr_slice_use(page, copy, at, &use);
	d->used_bytes = use.used_bytes;
	d->overhead_bytes = use.overhead_bytes;
	d->peak_bytes = use.peak_bytes;
	d->refused = use.refused;
	d->processes = use.processes;
	d->gpu_ns = copy->pace[at].gpu_ns;
	d->launches = copy->pace[at].launches;
	d->throttled_ns = copy->pace[at].throttled_ns;
	d->gate_waits = copy->pace[at].gate_waits;
}

static void read_slots(struct tr_report_alloc *row, const struct tr_state *copy)
{
	row->process_count = 0;
	row->pinned_bytes = 0;
	for (unsigned s = 0; s < TR_SLOTS_MAX && s < copy->high_water; s++) {
		if (!copy->slots[s].tag)
			continue;
		row->process_count++;
		row->pinned_bytes = tr_sat_add(row->pinned_bytes,
					       copy->slots[s].pinned_bytes);
	}
}

/* ---- refusals --------------------------------------------------------------------------- */

static struct tr_report_device *device_at(struct tr_report_alloc *row,
					  const struct tr_page *page, unsigned at)
{
	unsigned found;

	for (unsigned k = 0; k < row->device_count; k++)
		if (find_row(page, row->devices[k].uuid, &found) && found == at)
			return &row->devices[k];
	return NULL;
}

/* The ring's last 64 at most: a container can write any number there. */
static void read_ring(struct tr_report_alloc *row, const struct tr_page *page,
		      const char *state_path, uint32_t next, uint64_t now_ns,
		      tr_report_refusal *refusal, void *arg)
{
	struct tr_state_refusal ring[TR_REFUSALS];
	uint32_t fresh = next - row->ring_next;
	bool is_first = !row->has_ring;
	tr_autoclose int fd = -1;

	if (is_first || fresh > TR_REFUSALS)
		fresh = next < TR_REFUSALS && is_first ? next : TR_REFUSALS;
	row->ring_next = next;
	if (!fresh)
		return;
	fd = tr_regular_open(state_path, O_RDONLY);
	if (fd < 0 ||
	    !tr_read_at(fd, ring, sizeof(ring), offsetof(struct tr_state, refusals)))
		return;
	for (uint32_t i = next - fresh; i != next; i++) {
		const struct tr_state_refusal *one = &ring[i % TR_REFUSALS];
		struct tr_report_device *d = device_at(row, page, one->device);

		if (!d || !one->at_ns)
			continue;
		d->refused_bytes = tr_sat_add(d->refused_bytes, one->asked_bytes);
		if (refusal && (!is_first || tr_sat_sub(now_ns, one->at_ns) < NEWS_NS))
			refusal(row, d->uuid, one->asked_bytes, one->sum_bytes, arg);
	}
}

/* ---- one slice -------------------------------------------------------------------------- */

static void read_state(struct tr_report_alloc *row, const struct tr_page *page,
		       const char *state_path, uint64_t now_ns, tr_report_refusal *refusal,
		       void *arg)
{
	/* Half a megabyte, of which only what slices use is ever touched. */
	static struct tr_state copy;

	row->is_readable = tr_state_read(state_path, &copy, NULL) == 0;
	for (unsigned k = 0; k < row->device_count; k++) {
		struct tr_report_device *d = &row->devices[k];
		uint64_t launches = d->launches, seen_ns = 0;
		unsigned at = 0;

		if (row->is_readable && find_row(page, d->uuid, &at)) {
			read_use(d, page->map, &copy, at);
			seen_ns = last_seen(&copy, at, now_ns);
		}
		tell_idle(d, d->launches > launches, seen_ns, row->first_seen_ns, now_ns);
		tell_busy(d, now_ns);
	}
	if (!row->is_readable)
		return;
	read_slots(row, &copy);
	read_ring(row, page, state_path, copy.refusal_next, now_ns, refusal, arg);
	row->has_ring = true;
}

void tr_report_look(struct tr_report_alloc *row, const char *slices_dir, uint64_t now_ns,
		    tr_report_refusal *refusal, void *arg)
{
	char policy_path[512], state_path[512];
	struct tr_page page;

	(void)snprintf(policy_path, sizeof(policy_path), "%s/%s/ro/policy", slices_dir,
		       row->name);
	(void)snprintf(state_path, sizeof(state_path), "%s/%s/rw/state", slices_dir,
		       row->name);
	row->is_readable = tr_page_open(&page, policy_path, NULL) == 0;
	if (!row->is_readable)
		return;
	for (unsigned k = 0; k < row->device_count; k++) {
		unsigned at;

		if (find_row(&page, row->devices[k].uuid, &at))
			read_limits(&row->devices[k], &page.map->devices[at], now_ns);
	}
	read_state(row, &page, state_path, now_ns, refusal, arg);
	tr_page_close(&page);
}
