/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/arm/inside.h"
#include "deviceplugin/arm/slices.h"
#include "kube/pod_devices.h"

static int check_parts(const struct tr_alloc *alloc, const struct tr_alloc_part *parts,
		       size_t count, struct tr_err *err)
{
	if (alloc->state != TR_ALLOC_ARMED)
		return tr_fail(err, EINVAL, "slice %s is nobody's yet", alloc->name);
	if (alloc->is_retired)
		return tr_fail(err, EINVAL, "slice %s is nobody's any more", alloc->name);
	if (count != alloc->part_count)
		return tr_fail(err, EINVAL,
			       "container %s of pod %s/%s has %zu cards, not %zu: a "
			       "running slice cannot change cards",
			       alloc->container, alloc->space, alloc->pod,
			       alloc->part_count, count);
	for (size_t i = 0; i < count; i++) {
		if (strcmp(parts[i].uuid, alloc->parts[i].uuid) != 0)
			return tr_fail(err, EINVAL,
				       "container %s of pod %s/%s is on card %s, not on %s",
				       alloc->container, alloc->space, alloc->pod,
				       alloc->parts[i].uuid, parts[i].uuid);
		if (!parts[i].limit_bytes || parts[i].limit_bytes > INT64_MAX ||
		    parts[i].cores > 100 || parts[i].cores_max > 100)
			return tr_fail(err, EINVAL, "card %s: a limit out of range",
				       parts[i].uuid);
	}
	return 0;
}

static bool is_same(const struct tr_alloc *alloc, const struct tr_alloc_part *parts)
{
	for (size_t i = 0; i < alloc->part_count; i++)
		if (alloc->parts[i].limit_bytes != parts[i].limit_bytes ||
		    alloc->parts[i].cores != parts[i].cores ||
		    alloc->parts[i].cores_max != parts[i].cores_max)
			return false;
	return true;
}

/* The page alone: what the runtime gave to the container is the same with any limits. */
static int fill_page(struct tr_arm *arm, const struct tr_alloc *alloc, struct tr_err *err)
{
	int r = tr_alloc_slice_make(arm->options.slices_dir, alloc, &arm->cards,
				    arm->options.on_bypass, err);

	return r < 0 ? tr_wrap(err, r, "the slice of container %s of pod %s/%s",
			       alloc->container, alloc->space, alloc->pod)
		     : 0;
}

/*
 * What is checked. The record first: a page that was not changed before we were killed is, at the next start. When
 * the page cannot be, nothing is as if it were: the same may be tried again.
 */
static int apply(struct tr_arm *arm, struct tr_alloc *alloc,
		 const struct tr_alloc_part *parts, uint64_t grant_serial,
		 struct tr_err *err)
{
	struct tr_alloc next = *alloc;
	int r;

	next.parts = (struct tr_alloc_part *)(uintptr_t)parts;
	next.grant_serial = grant_serial ? grant_serial : alloc->grant_serial;
	r = tr_arm_record(arm, &next, err);
	if (r < 0)
		return r;
	r = fill_page(arm, &next, err);
	if (r < 0) {
		(void)tr_arm_record(arm, alloc, NULL);
		return r;
	}
	tr_alloc_set_parts(alloc, parts, alloc->part_count);
	alloc->grant_serial = next.grant_serial;
	arm->counts.resized++;
	tr_arm_tell(arm, TR_ARM_CHANGED, alloc, "");
	return 0;
}

int tr_arm_resize(struct tr_arm *arm, struct tr_alloc *alloc,
		  const struct tr_alloc_part *parts, size_t count, uint64_t grant_serial,
		  struct tr_err *err)
{
	struct tr_room_row row = { alloc->uid, alloc->kind, alloc->index,
				   parts,      count,       alloc };
	int r = check_parts(alloc, parts, count, err);

	if (r == 0 && grant_serial && grant_serial <= alloc->grant_serial)
		return tr_fail(err, ESTALE, "an older grant");
	if (r == 0)
		r = tr_room_check(&arm->book, &arm->cards, &row, 1, err);
	return r < 0 ? r : apply(arm, alloc, parts, grant_serial, err);
}

/* ---- grants ---- */

/* A container's part of one. */
struct granted {
	struct tr_alloc *alloc;
	const struct tr_alloc_part *parts;
	bool grows; /* somewhere */
};

static bool grows(const struct tr_alloc *alloc, const struct tr_alloc_part *parts)
{
	for (size_t i = 0; i < alloc->part_count; i++)
		if (parts[i].limit_bytes > alloc->parts[i].limit_bytes ||
		    parts[i].cores > alloc->parts[i].cores)
			return true;
	return false;
}

/* What is newer than what POD's armed containers have, which there is room for when all of it is obeyed. */
static int list_granted(struct tr_arm *arm, const struct tr_pod *pod, uint64_t serial,
			const struct tr_share *shares, struct granted *out, size_t *count,
			struct tr_err *err)
{
	tr_autofree struct tr_room_row *rows = tr_xcalloc(pod->container_count + 1,
							  sizeof(*rows));
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < pod->container_count; i++) {
		struct tr_alloc *a = tr_book_of(&arm->book, pod->object.uid,
						pod->containers[i].name);
		const struct tr_alloc_part *parts = shares[i].parts;

		if (!a || serial <= a->grant_serial || !shares[i].count)
			continue;
		r = check_parts(a, parts, shares[i].count, err);
		if (r < 0)
			break;
		out[n] = (struct granted){ a, parts, grows(a, parts) };
		rows[n++] = (struct tr_room_row){ a->uid, a->kind,       a->index,
						  parts,  a->part_count, a };
	}
	*count = n;
	return r < 0 ? r : tr_room_check(&arm->book, &arm->cards, rows, n, err);
}

/* Of one container. 1: changed. */
static int obey(struct tr_arm *arm, const struct granted *granted, uint64_t serial,
		struct tr_err *err)
{
	struct tr_alloc *alloc = granted->alloc;
	int r;

	if (is_same(alloc, granted->parts)) {
		alloc->grant_serial = serial; /* no older one counts any more */
		return tr_arm_record(arm, alloc, err);
	}
	r = apply(arm, alloc, granted->parts, serial, err);
	return r < 0 ? r : 1;
}

/* -EBADMSG unless TEXT grants something to this very pod. */
static int read_grant(const struct tr_arm *arm, const struct tr_pod *pod, const char *text,
		      uint64_t *serial, struct tr_share *shares, struct tr_err *err)
{
	tr_auto_buf struct tr_buf decision = { 0 };
	struct tr_arm_rules rules = arm->options.rules;
	struct tr_grant grant = { 0 };
	int r = tr_grant_parse(&grant, text, err);

	rules.is_of_running = true;
	if (r < 0)
		return r;
	*serial = grant.serial;
	if (strcmp(grant.uid, pod->object.uid) != 0)
		r = tr_fail(err, EBADMSG, "pod %s/%s carries a grant of another pod",
			    pod->object.space, pod->object.name);
	tr_pod_devices_print(&grant.devices, pod->container_count, &decision);
	tr_grant_free(&grant);
	return r < 0 ? r
		     : tr_decision_parse(decision.p, pod, &rules, &arm->cards, shares, err);
}

int tr_arm_grant(struct tr_arm *arm, const struct tr_pod *pod, const char *text,
		 struct tr_err *err)
{
	size_t room = pod->container_count + 1, count = 0;
	tr_autofree struct tr_share *shares = tr_xcalloc(room, sizeof(*shares));
	tr_autofree struct granted *granted = tr_xcalloc(room, sizeof(*granted));
	uint64_t serial = 0;
	int r = read_grant(arm, pod, text, &serial, shares, err), changed = 0;

	if (r == 0)
		r = list_granted(arm, pod, serial, shares, granted, &count, err);
	/* Those first that give something back and take nothing. */
	for (int grows = 0; grows <= 1; grows++)
		for (size_t i = 0; r >= 0 && i < count; i++)
			if (granted[i].grows == (bool)grows) {
				r = obey(arm, &granted[i], serial, err);
				changed = changed || r > 0;
			}
	tr_shares_free(shares, pod->container_count);
	return r < 0 ? r : changed;
}
