/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/arm/arm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "deviceplugin/arm/inside.h"
#include "deviceplugin/arm/slices.h"
#include "keeper/slices.h"
#include "rt/file.h"
#include "tranche/paths.h"

/* Each has some 0.8 MB of tmpfs: a kubelet that has gone mad does not get all of it. */
#define ALLOCATIONS_MAX 4096

int64_t tr_unix_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void tr_arm_tell(struct tr_arm *arm, enum tr_arm_event event, const struct tr_alloc *alloc,
		 const char *sentence)
{
	const struct tr_arm_ports *ports = &arm->options.ports;

	if (ports->on_event)
		ports->on_event(event, alloc, sentence, ports->arg);
}

/* Once, and when slice and injection are there. */
static void tell_armed(struct tr_arm *arm, struct tr_alloc *alloc)
{
	if (alloc->is_told || !alloc->is_flushed)
		return;
	alloc->is_told = true;
	tr_arm_tell(arm, TR_ARM_ARMED, alloc, "");
}

/* ---- opening, closing, what is set ---- */

int tr_arm_open(struct event_base *base, struct tr_pods *pods,
		const struct tr_arm_options *options, const struct tr_cards *cards,
		struct tr_arm **out, struct tr_err *err)
{
	struct tr_arm *arm = tr_xcalloc(1, sizeof(*arm));
	int r;

	arm->base = base;
	arm->pods = pods;
	arm->options = *options;
	arm->cards = *cards;
	r = tr_boot_id(arm->boot_id, options->boot_path, err);
	if (r == 0)
		r = tr_slices_root_make(options->slices_dir, err);
	if (r == 0)
		r = tr_records_open(options->records_dir, &arm->records, err);
	if (r == 0)
		r = tr_arm_recover(arm, err);
	if (r < 0) {
		tr_arm_close(arm);
		return r;
	}
	/* The end may have come between an Allocate and what HAMi's scheduler is told of it. */
	if (arm->book.count)
		tr_hami_poke(arm);
	*out = arm;
	return 0;
}

void tr_arm_close(struct tr_arm *arm)
{
	if (!arm)
		return;
	tr_arm_tell_all(arm);
	arm->is_closing = true;
	tr_arm_starts_end(arm);
	tr_infer_close(arm);
	tr_hami_close(arm);
	tr_records_close(arm->records);
	tr_checkpoint_free(&arm->checkpoint);
	tr_book_free(&arm->book);
	free(arm);
}

void tr_arm_settle(struct tr_arm *arm)
{
	tr_records_settle(arm->records);
}

void tr_arm_set_cards(struct tr_arm *arm, const struct tr_cards *cards)
{
	arm->cards = *cards;
}

void tr_arm_block(struct tr_arm *arm, const char *sentence)
{
	(void)snprintf(arm->blocked, sizeof(arm->blocked), "%s", sentence);
}

const struct tr_book *tr_arm_book(const struct tr_arm *arm)
{
	return &arm->book;
}

const struct tr_arm_counts *tr_arm_counts(const struct tr_arm *arm)
{
	return &arm->counts;
}

void tr_arm_slice_path(const struct tr_arm *arm, const struct tr_alloc *alloc, char *out,
		       size_t room)
{
	(void)snprintf(out, room, "%s/%s", arm->options.slices_dir, alloc->name);
}

static int inject(struct tr_arm *arm, const struct tr_alloc *alloc, bool is_new,
		  struct tr_err *err)
{
	const struct tr_arm_ports *ports = &arm->options.ports;
	char dir[256];
	int r;

	if (!ports->inject ||
	    (!is_new && ports->is_injected && ports->is_injected(alloc->name, ports->arg)))
		return 0;
	tr_arm_slice_path(arm, alloc, dir, sizeof(dir));
	r = ports->inject(alloc, dir, ports->arg, err);
	return r < 0 ? tr_wrap(err, r, "the devices of container %s of pod %s/%s",
			       alloc->container, alloc->space, alloc->pod)
		     : 0;
}

int tr_arm_ready(struct tr_arm *arm, struct tr_alloc *alloc, bool is_new,
		 struct tr_err *err)
{
	const struct tr_arm_options *o = &arm->options;
	int r;

	if (is_new)
		r = tr_alloc_slice_fill(o->slices_dir, alloc, &arm->cards, o->on_bypass,
					err);
	else
		r = tr_alloc_slice_make(o->slices_dir, alloc, &arm->cards, o->on_bypass,
					err);
	if (r < 0)
		return tr_wrap(err, r, "the slice of container %s of pod %s/%s",
			       alloc->container, alloc->space, alloc->pod);
	r = inject(arm, alloc, is_new, err);
	if (r < 0)
		return r;
	alloc->ready_ms = (int64_t)(tr_clock_ns() / 1000000);
	alloc->is_unflushed = true;
	arm->is_unflushed = true;
	return 0;
}

int tr_arm_flush_untold(struct tr_arm *arm, struct tr_err *err)
{
	const struct tr_arm_ports *ports = &arm->options.ports;
	int r;

	if (!arm->is_unflushed)
		return 0;
	arm->is_unflushed = false;
	r = ports->flush ? ports->flush(ports->arg, err) : 0;
	tr_arm_starts_flushed(arm, r, err);
	for (struct tr_alloc *a = arm->book.first; a; a = a->next) {
		if (!a->is_unflushed)
			continue;
		a->is_unflushed = false;
		if (r == 0)
			a->is_flushed = true;
		else
			a->ready_ms = 0;
	}
	return r;
}

void tr_arm_tell_all(struct tr_arm *arm)
{
	for (struct tr_alloc *a = arm->book.first; a; a = a->next)
		tell_armed(arm, a);
}

int tr_arm_flush(struct tr_arm *arm, struct tr_err *err)
{
	int r = tr_arm_flush_untold(arm, err);

	tr_arm_tell_all(arm);
	return r;
}

int tr_arm_flushed(struct tr_arm *arm, int r, struct tr_err *err)
{
	int f = r < 0 ? 0 : tr_arm_flush(arm, err);

	return f < 0 ? f : r;
}

int tr_arm_record(struct tr_arm *arm, const struct tr_alloc *alloc, struct tr_err *err)
{
	tr_auto_buf struct tr_buf text = { 0 };
	int r;

	tr_record_print(alloc, arm->boot_id, &text);
	r = tr_record_put(arm->options.slices_dir, alloc->name, &text, err);
	if (r == 0)
		tr_records_write(arm->records, alloc->name, &text);
	return r;
}

void tr_arm_doubt_injected(struct tr_arm *arm)
{
	for (struct tr_alloc *a = arm->book.first; a; a = a->next)
		a->ready_ms = 0;
}

void tr_arm_inject_all(struct tr_arm *arm)
{
	const struct tr_arm_ports *ports = &arm->options.ports;
	struct tr_err err = { 0 };

	for (struct tr_alloc *a = arm->book.first; a; a = a->next) {
		char dir[256];

		if (a->state != TR_ALLOC_ARMED)
			continue;
		tr_arm_slice_path(arm, a, dir, sizeof(dir));
		a->is_unflushed = !ports->inject ||
				  ports->inject(a, dir, ports->arg, &err) == 0;
		if (!a->is_unflushed)
			tr_arm_tell(arm, TR_ARM_ODD, a, err.msg);
	}
	arm->is_unflushed = true;
	if (tr_arm_flush(arm, &err) < 0)
		tr_arm_tell(arm, TR_ARM_ODD, NULL, err.msg);
}

bool tr_arm_drop(struct tr_arm *arm, struct tr_alloc *alloc)
{
	const struct tr_arm_options *o = &arm->options;

	tell_armed(arm, alloc);
	if (o->ports.eject)
		o->ports.eject(alloc->name, o->ports.arg);
	if (tr_tree_remove(o->slices_dir, alloc->name) < 0)
		return false;
	/* Last: whatever is left until here can be found again by it. */
	tr_records_remove(arm->records, alloc->name);
	arm->counts.removed++;
	tr_arm_tell(arm, TR_ARM_REMOVED, alloc, "");
	tr_book_remove(&arm->book, alloc);
	return true;
}

/* ---- Allocate ---- */

static int check_ids(const struct tr_ids *ids, struct tr_err *err)
{
	if (!ids->count)
		return tr_fail(err, EINVAL, "an allocation of no device");
	if (ids->count > TR_DEVICES_MAX)
		return tr_fail(err, EINVAL,
			       "%zu devices for one container: it can have at most %u",
			       ids->count, TR_DEVICES_MAX);
	return 0;
}

int tr_arm_make(struct tr_arm *arm, const struct tr_ids *ids, struct tr_alloc **out,
		struct tr_err *err)
{
	const struct tr_arm_options *o = &arm->options;
	struct tr_alloc *alloc;
	int r = check_ids(ids, err);

	if (r == 0 && arm->blocked[0])
		r = tr_fail(err, EPERM, "%s", arm->blocked);
	if (r == 0 && arm->book.count >= ALLOCATIONS_MAX)
		r = tr_fail(err, ENOSPC, "%zu allocations are waited for or in use",
			    arm->book.count);
	if (r < 0)
		return r;
	alloc = tr_alloc_new(&arm->book, ids, tr_unix_us());
	r = tr_alloc_slice_make(o->slices_dir, alloc, &arm->cards, o->on_bypass, err);
	if (r == 0)
		r = tr_arm_record(arm, alloc, err);
	if (r < 0) {
		(void)tr_tree_remove(o->slices_dir, alloc->name);
		tr_alloc_free(alloc);
		return r;
	}
	(void)tr_book_add(&arm->book, alloc); /* its serial is above all others */
	arm->counts.made++;
	tr_arm_tell(arm, TR_ARM_MADE, alloc, "");
	tr_arm_expect(arm);
	tr_hami_poke(arm);
	*out = alloc;
	return 0;
}

/* Which cards, for a runtime that gives devices by itself; with CDI none, and the CDI file gives them. */
static const char *fill_visible(const struct tr_arm *arm, const struct tr_alloc *alloc,
				struct tr_answer *a)
{
	size_t n = 0;

	if (!arm->options.infers)
		return "void";
	for (size_t i = 0; i < alloc->part_count; i++)
		n += (size_t)snprintf(a->visible + n, sizeof(a->visible) - n, "%s%s",
				      i ? "," : "", alloc->parts[i].uuid);
	return a->visible;
}

void tr_answer_fill(const struct tr_arm *arm, const struct tr_alloc *alloc,
		    struct tr_answer *a, struct tr_injection *out)
{
	const struct tr_arm_options *o = &arm->options;

	(void)snprintf(a->ro, sizeof(a->ro), "%s/%s/ro", o->slices_dir, alloc->name);
	(void)snprintf(a->rw, sizeof(a->rw), "%s/%s/rw", o->slices_dir, alloc->name);
	a->env = (struct tr_pair){ "NVIDIA_VISIBLE_DEVICES", fill_visible(arm, alloc, a) };
	*out = (struct tr_injection){
		.envs = &a->env,
		.env_count = 1,
		.mounts = a->mounts,
		.cdi = a->cdi_names,
	};
	a->mounts[out->mount_count++] = (struct tr_mount){ a->ro, TR_SLICE_DIR "/ro",
							   true };
	a->mounts[out->mount_count++] = (struct tr_mount){ a->rw, TR_SLICE_DIR "/rw",
							   false };
	if (o->hook_path)
		a->mounts[out->mount_count++] = (struct tr_mount){ o->hook_path,
								   TR_SLICE_HOOK, true };
	if (o->preload_path)
		a->mounts[out->mount_count++] = (struct tr_mount){ o->preload_path,
								   TR_PRELOAD_FILE, true };
	if (o->cdi_common && !o->infers)
		a->cdi_names[out->cdi_count++] = o->cdi_common;
	if (o->cdi_kind && !o->infers) {
		(void)snprintf(a->cdi, sizeof(a->cdi), "%s=%s", o->cdi_kind, alloc->name);
		a->cdi_names[out->cdi_count++] = a->cdi;
	}
	if (o->infers && o->ports.add_nodes)
		o->ports.add_nodes(alloc, out, o->ports.arg);
}

static void name_refused(struct tr_alloc *alloc, const char *space, const char *pod,
			 const char *container)
{
	(void)snprintf(alloc->space, sizeof(alloc->space), "%s", space);
	(void)snprintf(alloc->pod, sizeof(alloc->pod), "%s", pod);
	(void)snprintf(alloc->container, sizeof(alloc->container), "%s", container);
}

void tr_arm_tell_refused(struct tr_arm *arm, const struct tr_ids *ids,
			 const struct tr_pod_list *rows, const char *sentence)
{
	const struct tr_alloc *known = tr_book_newest(&arm->book, ids);
	tr_autofree struct tr_alloc *alloc = tr_xcalloc(1, sizeof(*alloc));

	if (arm->is_closing)
		return;
	alloc->ids = (char **)(uintptr_t)ids->ids;
	alloc->id_count = ids->count;
	if (known)
		name_refused(alloc, known->space, known->pod, known->container);
	for (size_t i = 0; rows && i < rows->count; i++) {
		const struct tr_pod_row *row = &rows->rows[i];
		bool is_its = ids->count && row->count &&
			      strcmp(row->ids[0], ids->ids[0]) == 0;

		/* All rows are of its pod; that of an init container is not among them. */
		if (is_its || i == 0)
			name_refused(alloc, row->namespace, row->pod,
				     is_its ? row->container : "");
		if (is_its)
			break;
	}
	tr_arm_tell(arm, TR_ARM_REFUSED, alloc, sentence);
}

void tr_arm_refused(struct tr_arm *arm, const struct tr_ids *ids, const char *sentence)
{
	tr_arm_tell_refused(arm, ids, NULL, sentence);
}

void tr_allocate_refuse(struct tr_arm *arm, struct tr_rpc_call *call,
			const struct tr_ids *ids, const struct tr_pod_list *rows, int r,
			const struct tr_err *err)
{
	static const struct tr_ids none;

	tr_arm_tell_refused(arm, ids ? ids : &none, rows, err->msg);
	tr_rpc_refuse(call,
		      r == -EINVAL ? TR_RPC_INVALID_ARGUMENT : TR_RPC_FAILED_PRECONDITION,
		      err->msg);
}

void tr_arm_allocate(struct tr_rpc_call *call, const struct tr_ids *containers,
		     size_t count, void *arg)
{
	struct tr_arm *arm = arg;
	struct tr_alloc *made[TR_PLUGIN_CONTAINERS];
	struct tr_injection injections[TR_PLUGIN_CONTAINERS];
	tr_autofree struct tr_answer *answers = NULL;
	struct tr_err err = { 0 };
	size_t n = 0, refused;
	int r = 0;

	if (arm->options.infers) {
		tr_infer_allocate(arm, call, containers, count);
		return;
	}
	answers = tr_xcalloc(count + 1, sizeof(*answers));
	while (r == 0 && n < count) {
		r = tr_arm_make(arm, &containers[n], &made[n], &err);
		if (r == 0) {
			tr_answer_fill(arm, made[n], &answers[n], &injections[n]);
			n++;
		}
	}
	if (r == 0) {
		(void)tr_plugin_allocated(call, injections, count);
		return;
	}
	refused = n;
	while (n--)
		(void)tr_arm_drop(arm, made[n]);
	tr_allocate_refuse(arm, call, &containers[refused], NULL, r, &err);
}
