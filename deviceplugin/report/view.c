/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/arm/identify.h"
#include "deviceplugin/pods.h"
#include "deviceplugin/report/look.h"
#include "rt/file.h"

/* ---- rows ------------------------------------------------------------------------------- */

/* Where the row of SERIAL is, or would be. */
static size_t place_of(const struct tr_report_view *view, uint64_t serial)
{
	size_t low = 0, high = view->alloc_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (view->allocs[middle]->serial < serial)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct tr_report_alloc *row_of(struct tr_report_view *view,
				      const struct tr_alloc *alloc)
{
	size_t at = place_of(view, alloc->serial);
	struct tr_report_alloc *row;

	if (at < view->alloc_count && view->allocs[at]->serial == alloc->serial)
		return view->allocs[at];
	if (view->alloc_count == view->alloc_room) {
		view->alloc_room = view->alloc_room ? 2 * view->alloc_room : 32;
		view->allocs = tr_xrealloc(
			view->allocs, view->alloc_room * sizeof(struct tr_report_alloc *));
	}
	memmove(&view->allocs[at + 1], &view->allocs[at],
		(view->alloc_count - at) * sizeof(struct tr_report_alloc *));
	view->alloc_count++;
	row = view->allocs[at] = tr_xcalloc(1, sizeof(*row));
	row->serial = alloc->serial;
	row->first_seen_ns = tr_clock_ns();
	return row;
}

static void copy_text(char *out, size_t room, const char *text)
{
	(void)snprintf(out, room, "%s", text);
}

/* As long as it waits, an allocation's devices have a number only. */
static void name_devices(struct tr_report_alloc *row, const struct tr_alloc *alloc)
{
	size_t n = alloc->part_count ? alloc->part_count : alloc->id_count;

	row->device_count = n < TR_DEVICES_MAX ? (unsigned)n : TR_DEVICES_MAX;
	for (unsigned k = 0; k < row->device_count; k++) {
		const char *uuid = k < alloc->part_count ? alloc->parts[k].uuid : "";

		if (strcmp(row->devices[k].uuid, uuid) == 0)
			continue;
		row->devices[k] = (struct tr_report_device){ .priority = alloc->priority };
		copy_text(row->devices[k].uuid, sizeof(row->devices[k].uuid), uuid);
	}
}

static void copy_alloc(struct tr_report_alloc *row, const struct tr_alloc *alloc)
{
	row->is_armed = alloc->state == TR_ALLOC_ARMED;
	row->index = alloc->index;
	row->made_unix_s = alloc->made_unix_s;
	row->armed_unix_s = alloc->armed_unix_s;
	copy_text(row->name, sizeof(row->name), alloc->name);
	if (row->is_armed) {
		copy_text(row->space, sizeof(row->space), alloc->space);
		copy_text(row->pod, sizeof(row->pod), alloc->pod);
		copy_text(row->container, sizeof(row->container), alloc->container);
		copy_text(row->uid, sizeof(row->uid), alloc->uid);
	}
	name_devices(row, alloc);
}

static void forget_gone(struct tr_report_view *view)
{
	size_t kept = 0;

	for (size_t i = 0; i < view->alloc_count; i++) {
		if (view->allocs[i]->is_there)
			view->allocs[kept++] = view->allocs[i];
		else
			free(view->allocs[i]);
	}
	view->alloc_count = kept;
}

/* By container, then from the newest on. */
static int by_container(const void *a, const void *b)
{
	const struct tr_report_alloc *x = *(struct tr_report_alloc *const *)a,
				     *y = *(struct tr_report_alloc *const *)b;
	int r = strcmp(x->pod, y->pod);

	if (r == 0)
		r = strcmp(x->space, y->space);
	if (r == 0)
		r = strcmp(x->container, y->container);
	return r ? r : x->serial < y->serial ? 1 : -1;
}

static bool is_same_container(const struct tr_report_alloc *a,
			      const struct tr_report_alloc *b)
{
	return strcmp(a->pod, b->pod) == 0 && strcmp(a->space, b->space) == 0 &&
	       strcmp(a->container, b->container) == 0;
}

/* A pod made anew under its old name, or a container whose slice is not swept yet: one of them has the
 * series, or a scrape would be refused as a whole. */
static void choose_shown(struct tr_report_view *view)
{
	tr_autofree struct tr_report_alloc **order = NULL;
	size_t n = view->alloc_count;

	if (n == 0)
		return;
	order = tr_xmalloc(n * sizeof(struct tr_report_alloc *));
	memcpy(order, view->allocs, n * sizeof(struct tr_report_alloc *));
	qsort(order, n, sizeof(struct tr_report_alloc *), by_container);
	for (size_t i = 0; i < n; i++)
		order[i]->is_shown = order[i]->pod[0] &&
				     (i == 0 || !is_same_container(order[i - 1], order[i]));
}

/* ---- cards ------------------------------------------------------------------------------ */

/* As room for others is counted: never more than the card gives. */
static void count_given(struct tr_report_card *card, const struct tr_book *book)
{
	struct tr_room taken = { 0 };

	if (book)
		tr_room_taken(book, card->card->uuid, &taken);
	card->given_bytes = taken.bytes;
	card->given_cores = taken.cores;
	card->given_slots = taken.containers;
}

/* A container without a limit has what others leave: nobody was promised anything for it. */
static void tell_sure(const struct tr_report_view *view, struct tr_report_alloc *row,
		      const struct tr_alloc *alloc)
{
	for (unsigned k = 0; k < row->device_count; k++) {
		struct tr_report_device *d = &row->devices[k];

		d->sure_q32 = d->rate_q32;
		if (k >= alloc->part_count || alloc->parts[k].cores)
			continue;
		for (size_t i = 0; i < view->card_count; i++)
			if (view->cards[i].given_slots > 1 &&
			    strcmp(view->cards[i].card->uuid, d->uuid) == 0)
				d->sure_q32 = 0;
	}
}

/* ---- all of it -------------------------------------------------------------------------- */

void tr_report_take(struct tr_report_view *view, const struct tr_report_source *source)
{
	uint64_t now_ns = tr_clock_ns();

	for (size_t i = 0; i < view->alloc_count; i++)
		view->allocs[i]->is_there = false;
	for (size_t i = 0; i < view->card_count; i++)
		count_given(&view->cards[i], source->book);
	for (const struct tr_alloc *alloc = source->book ? source->book->first : NULL;
	     alloc; alloc = alloc->next) {
		struct tr_report_alloc *row = row_of(view, alloc);

		row->is_there = true;
		copy_alloc(row, alloc);
		tr_report_look(row, source->slices_dir, now_ns, source->refusal,
			       source->refusal_arg);
		tell_sure(view, row, alloc);
	}
	forget_gone(view);
	choose_shown(view);
}

void tr_report_forget(struct tr_report_view *view)
{
	for (size_t i = 0; i < view->alloc_count; i++)
		free(view->allocs[i]);
	free(view->allocs);
	view->allocs = NULL;
	view->alloc_count = view->alloc_room = 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All of ROW's ids are ALLOC's, which are sorted, and as many. */
static bool has_ids(const struct tr_alloc *alloc, const struct tr_pod_row *row)
{
	if (row->count != alloc->id_count)
		return false;
	for (size_t i = 0; i < row->count; i++)
		if (!bsearch(&row->ids[i], alloc->ids, alloc->id_count, sizeof(char *),
			     by_text))
			return false;
	return row->count > 0;
}

void tr_report_name(struct tr_report_view *view, const struct tr_book *book,
		    const struct tr_pod_list *pods)
{
	for (const struct tr_alloc *alloc = book->first; alloc; alloc = alloc->next) {
		if (alloc->state == TR_ALLOC_ARMED)
			continue;
		for (size_t i = 0; i < pods->count; i++) {
			const struct tr_pod_row *pod = &pods->rows[i];
			struct tr_report_alloc *row;

			if (!has_ids(alloc, pod))
				continue;
			row = row_of(view, alloc);
			copy_text(row->space, sizeof(row->space), pod->namespace);
			copy_text(row->pod, sizeof(row->pod), pod->pod);
			copy_text(row->container, sizeof(row->container), pod->container);
			break;
		}
	}
}
