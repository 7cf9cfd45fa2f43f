/* SPDX-License-Identifier: Apache-2.0 */
/* The start: everything from records and what lies there, whenever we were killed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "deviceplugin/arm/inside.h"
#include "deviceplugin/arm/slices.h"

/* Records of a newer version are not ours to touch, nor what belongs to them. */
#define FOREIGN_MAX 4096

struct recovery {
	struct tr_arm *arm;
	char (*foreign)[TR_ALLOC_NAME];
	size_t foreign_count;
};

static char foreign_names[FOREIGN_MAX][TR_ALLOC_NAME];

static void tell_odd(struct tr_arm *arm, const char *name, const struct tr_err *err)
{
	char sentence[640];

	(void)snprintf(sentence, sizeof(sentence), "record %s: %s", name, err->msg);
	tr_arm_tell(arm, TR_ARM_ODD, NULL, sentence);
}

static void add_foreign(struct recovery *recovery, const char *name)
{
	if (recovery->foreign_count < FOREIGN_MAX)
		(void)snprintf(recovery->foreign[recovery->foreign_count++], TR_ALLOC_NAME,
			       "%s", name);
}

/* Beside a slice. */
static void take_slice(const char *name, void *arg)
{
	struct recovery *recovery = arg;
	struct tr_arm *arm = recovery->arm;
	char boot_id[TR_BOOT_ID];
	struct tr_err err = { 0 };
	struct tr_alloc *alloc;
	int r = tr_record_get(arm->options.slices_dir, name, &alloc, boot_id, &err);

	if (r == 0 && tr_book_add(&arm->book, alloc) < 0)
		tr_alloc_free(alloc);
	if (r == -EPROTONOSUPPORT)
		add_foreign(recovery, name);
	if (r < 0 && r != -ENOENT)
		tell_odd(arm, name, &err);
}

/* On the disk: what a reboot left. */
static void take_record(const char *name, int r, struct tr_alloc *alloc,
			const char *boot_id, const struct tr_err *err, void *arg)
{
	struct recovery *recovery = arg;

	(void)boot_id;
	if (r == 0 && tr_book_add(&recovery->arm->book, alloc) < 0)
		tr_alloc_free(alloc); /* known already, and better */
	if (r >= 0)
		return;
	if (r == -EPROTONOSUPPORT)
		add_foreign(recovery, name);
	else
		tr_records_remove(recovery->arm->records, name);
	tell_odd(recovery->arm, name, err);
}

static bool is_known(const struct recovery *recovery, const char *name)
{
	for (size_t i = 0; i < recovery->foreign_count; i++)
		if (strcmp(recovery->foreign[i], name) == 0)
			return true;
	return tr_book_find(&recovery->arm->book, name) != NULL;
}

/* A directory was made before its record, or is left of one that was being removed. */
static void drop_slice(const char *name, void *arg)
{
	struct recovery *recovery = arg;
	const char *root = recovery->arm->options.slices_dir;

	if (!is_known(recovery, name) && !tr_alloc_slice_is_held(root, name))
		(void)tr_tree_remove(root, name);
}

static void drop_injected(const char *name, void *arg)
{
	struct recovery *recovery = arg;
	const struct tr_arm_ports *ports = &recovery->arm->options.ports;

	if (!is_known(recovery, name) && ports->eject)
		ports->eject(name, ports->arg);
}

/* What cannot be made now is tried again by the container's own PreStartContainer. */
static void complete(struct tr_arm *arm, struct tr_alloc *alloc)
{
	const struct tr_arm_options *o = &arm->options;
	struct tr_err err = { 0 };
	char dir[256];
	int r = tr_alloc_slice_make(o->slices_dir, alloc, &arm->cards, o->on_bypass, &err);

	if (r == 0)
		r = tr_arm_record(arm, alloc, &err);
	if (r == 0 && alloc->state == TR_ALLOC_ARMED) {
		tr_arm_slice_path(arm, alloc, dir, sizeof(dir));
		/* Always: the driver's files may be others than when it was written. */
		if (o->ports.inject)
			r = o->ports.inject(alloc, dir, o->ports.arg, &err);
		alloc->is_unflushed = r == 0;
		arm->is_unflushed = true;
	}
	if (r < 0)
		tr_arm_tell(arm, TR_ARM_ODD, alloc, err.msg);
}

/* Of two that are armed for one container: which one is the container's? */
static bool is_later(const struct tr_alloc *a, const struct tr_alloc *b)
{
	return a->armed_unix_s != b->armed_unix_s ? a->armed_unix_s > b->armed_unix_s
						  : a->serial > b->serial;
}

static void retire_old(struct tr_arm *arm)
{
	for (struct tr_alloc *a = arm->book.first; a; a = a->next) {
		struct tr_alloc *other;

		if (a->state != TR_ALLOC_ARMED || a->is_retired)
			continue;
		while ((other = tr_book_of(&arm->book, a->uid, a->container)) != a) {
			tr_arm_retire(arm, is_later(a, other) ? other : a);
			if (a->is_retired)
				break;
		}
	}
}

int tr_arm_recover(struct tr_arm *arm, struct tr_err *err)
{
	const struct tr_arm_ports *ports = &arm->options.ports;
	struct recovery recovery = { .arm = arm, .foreign = foreign_names };
	struct tr_err odd = { 0 };
	int r;

	tr_alloc_slices_each(arm->options.slices_dir, take_slice, &recovery);
	r = tr_records_each(arm->records, take_record, &recovery, err);
	if (r < 0)
		return r;
	tr_alloc_slices_each(arm->options.slices_dir, drop_slice, &recovery);
	if (ports->each_injected)
		ports->each_injected(drop_injected, &recovery, ports->arg);
	retire_old(arm);
	for (struct tr_alloc *a = arm->book.first; a; a = a->next)
		complete(arm, a);
	if (tr_arm_flush(arm, &odd) < 0)
		tr_arm_tell(arm, TR_ARM_ODD, NULL, odd.msg);
	return 0;
}
