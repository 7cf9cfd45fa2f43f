/* SPDX-License-Identifier: Apache-2.0 */
/* Taking away what belongs to containers that are gone. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/arm/inside.h"
#include "deviceplugin/arm/slices.h"

#define LOOKS    2
#define APART_MS 5000
/* One that nobody has claimed: its pod may be anywhere between admission and its first start. */
#define ORPHAN_MS 60000

struct view {
	const struct tr_book *book;
	const struct tr_pod_list *rows;
	const struct tr_pod *const *pods;
	size_t pod_count;
	const char *resource;
	bool *is_served; /* of each pod: all that it asks for is known */
};

static bool is_listed(const struct view *view, const struct tr_alloc *alloc)
{
	for (size_t i = 0; i < view->rows->count; i++) {
		const struct tr_pod_row *row = &view->rows->rows[i];
		struct tr_ids ids = { row->ids, row->count };

		/* A pod of the same name may have come after it; then it has other ids, or a newer
		 * allocation of these. */
		if (alloc->state == TR_ALLOC_ARMED &&
		    (strcmp(row->namespace, alloc->space) != 0 ||
		     strcmp(row->pod, alloc->pod) != 0))
			continue;
		if (tr_alloc_shares_ids(alloc, &ids))
			return true;
	}
	return false;
}

/* A newer one, of another pod, has some of its ids: the kubelet took them back. */
static bool is_superseded(const struct tr_alloc *alloc)
{
	for (const struct tr_alloc *a = alloc->next; a; a = a->next) {
		struct tr_ids ids = { (const char *const *)a->ids, a->id_count };

		if (a->state == TR_ALLOC_ARMED && strcmp(a->uid, alloc->uid) != 0 &&
		    tr_alloc_shares_ids(alloc, &ids))
			return true;
	}
	return false;
}

static bool has_ended(const struct tr_pod *pod)
{
	return pod->phase == TR_POD_SUCCEEDED || pod->phase == TR_POD_FAILED;
}

static const struct tr_pod *find_pod(const struct view *view, const char *uid)
{
	for (size_t i = 0; i < view->pod_count; i++)
		if (strcmp(view->pods[i]->object.uid, uid) == 0)
			return view->pods[i];
	return NULL;
}

/* POD has a container with none yet, that asks for devices: DEVICES of them, or any number for 0. */
static bool lacks(const struct view *view, const struct tr_pod *pod, size_t devices)
{
	for (size_t i = 0; i < pod->container_count; i++) {
		uint32_t wanted;

		if (tr_wanted(pod, i, view->resource, &wanted, NULL) == 0 && wanted &&
		    (!devices || wanted == devices) &&
		    !tr_book_of(view->book, pod->object.uid, pod->containers[i].name))
			return true;
	}
	return false;
}

/*
 * The kubelet lists a container of POD, so that all allocations of its are told by ids: it claims these, and no others.
 * Where it asks in init containers only, those of another pod may look the same.
 */
static bool claim_own(const struct view *view, const struct tr_pod *pod)
{
	tr_autofree struct tr_alloc **by_index = tr_xcalloc(pod->container_count + 1,
							    sizeof(void *));
	bool is_told = false;

	if (tr_identify(view->book, view->rows, pod, view->resource, NULL, by_index, NULL) <
	    0)
		return false;
	for (size_t i = 0; i < pod->container_count; i++)
		is_told = is_told ||
			  (by_index[i] && pod->containers[i].kind != TR_CONTAINER_INIT);
	for (size_t i = 0; is_told && i < pod->container_count; i++)
		if (by_index[i])
			by_index[i]->is_claimed = true;
	return is_told;
}

static void look_at_pods(struct view *view)
{
	for (struct tr_alloc *a = view->book->first; a; a = a->next)
		a->is_claimed = false;
	for (size_t i = 0; i < view->pod_count; i++)
		view->is_served[i] = has_ended(view->pods[i]) ||
				     !lacks(view, view->pods[i], 0) ||
				     claim_own(view, view->pods[i]);
}

static bool has_claimant(const struct view *view, const struct tr_alloc *alloc)
{
	for (size_t i = 0; i < view->pod_count; i++)
		if (!view->is_served[i] && lacks(view, view->pods[i], alloc->id_count))
			return true;
	return alloc->is_claimed;
}

void tr_arm_retire(struct tr_arm *arm, struct tr_alloc *alloc)
{
	alloc->is_retired = true;
	alloc->is_held = tr_alloc_slice_is_held(arm->options.slices_dir, alloc->name);
	alloc->gone.looks = 0;
}

/* Do both the kubelet and the API server know of nobody who has it? */
static bool is_unwanted(const struct view *view, const struct tr_alloc *alloc)
{
	const struct tr_pod *pod;

	if (alloc->state == TR_ALLOC_WAITING)
		return is_superseded(alloc) ||
		       (!is_listed(view, alloc) && !has_claimant(view, alloc));
	if (alloc->is_retired)
		return true;
	pod = find_pod(view, alloc->uid);
	if (pod && !has_ended(pod))
		return false;
	return is_superseded(alloc) || !is_listed(view, alloc);
}

/* True when this look was the last one needed. */
static bool look_at(const struct view *view, struct tr_alloc *alloc, int64_t now_ms)
{
	int64_t apart = alloc->state == TR_ALLOC_WAITING ? ORPHAN_MS : APART_MS;

	if (!is_unwanted(view, alloc)) {
		alloc->gone.looks = 0;
		return false;
	}
	if (!alloc->gone.looks++)
		alloc->gone.first_ms = now_ms;
	return alloc->gone.looks >= LOOKS && now_ms - alloc->gone.first_ms >= apart;
}

/* A disk that was full or slow is not now, perhaps. */
static void write_again(struct tr_arm *arm)
{
	int r = tr_records_problem(arm->records);
	char sentence[200];

	(void)snprintf(
		sentence, sizeof(sentence),
		"records cannot be written to %s: %s; containers would not start again "
		"after a reboot",
		arm->options.records_dir, strerror(-r));
	if (r && r != arm->told_problem)
		tr_arm_tell(arm, TR_ARM_ODD, NULL, sentence);
	arm->told_problem = r;
	if (r == 0)
		return;
	for (const struct tr_alloc *a = arm->book.first; a; a = a->next) {
		tr_auto_buf struct tr_buf text = { 0 };

		tr_record_print(a, arm->boot_id, &text);
		tr_records_write(arm->records, a->name, &text);
	}
}

size_t tr_arm_sweep(struct tr_arm *arm, const struct tr_pod_list *rows,
		    const struct tr_pod *const *pods, size_t pod_count, int64_t now_ms)
{
	tr_autofree bool *is_served = tr_xcalloc(pod_count + 1, sizeof(*is_served));
	struct view view = { &arm->book, rows, pods, pod_count, arm->options.rules.resource,
			     is_served };
	struct tr_alloc *next;
	size_t dropped = 0;

	write_again(arm);
	look_at_pods(&view);
	for (struct tr_alloc *a = arm->book.first; a; a = next) {
		next = a->next;
		if (a->is_retired)
			a->is_held = tr_alloc_slice_is_held(arm->options.slices_dir,
							    a->name);
		if (look_at(&view, a, now_ms) &&
		    !tr_alloc_slice_is_held(arm->options.slices_dir, a->name))
			dropped += tr_arm_drop(arm, a);
	}
	return dropped;
}
