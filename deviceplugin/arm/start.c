/* SPDX-License-Identifier: Apache-2.0 */
/* PreStartContainer: from ids to an armed container. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/arm/inside.h"
#include "rt/file.h"
#include "tranche/names.h"

#define ASK_MS 10000u
/* Armed with a container of its pod that started just now: not looked at again. */
#define READY_MS 2000

/* One call under way. */
struct start {
	struct tr_arm *arm;
	char **ids;
	size_t id_count;
	tr_armed *done;
	void *done_arg;
	struct tr_pods_waiter *waiter; /* for PodResources; NULL: not now */
	/* Of its pod, copied: the pod itself may be told later. */
	struct tr_pod_list rows;
	char uid[TR_POD_UID]; /* instead, where no row names it; "": one does */
	bool is_fresh;
	char *claim; /* a decision of our own that is being written; NULL: none */
	struct start *next, **link; /* link NULL: not in the list */
};

static struct tr_ids ids_of(const struct start *start)
{
	return (struct tr_ids){ (const char *const *)start->ids, start->id_count };
}

#define POD_NAME 330

/* As sentences call the pod. */
static const char *name_of(const struct start *start, char out[static POD_NAME])
{
	const struct tr_pod_row *row = start->rows.rows;

	if (start->uid[0])
		(void)snprintf(out, POD_NAME, "with UID %s", start->uid);
	else
		(void)snprintf(out, POD_NAME, "%.64s/%.254s", row->namespace, row->pod);
	return out;
}

/* ---- ending a call ---- */

static void end(struct start *start, int r, const struct tr_err *err)
{
	struct tr_arm *arm = start->arm;
	tr_armed *done = start->done;
	void *done_arg = start->done_arg;

	if (start->link)
		*start->link = start->next;
	if (start->link && start->next)
		start->next->link = start->link;
	if (start->waiter)
		tr_pods_forget(start->waiter);
	tr_texts_free((const char *const *)start->ids, start->id_count);
	tr_rows_free(&start->rows);
	free(start->claim);
	free(start);
	if (r < 0) {
		arm->counts.refused_starts++;
		if (!arm->is_closing)
			tr_arm_tell(arm, TR_ARM_REFUSED, NULL, err->msg);
	}
	done(done_arg, r, err);
}

void tr_arm_starts_end(struct tr_arm *arm)
{
	struct tr_err err = { 0 };

	while (arm->starts) {
		struct start *start = arm->starts;

		arm->starts = start->next;
		if (start->next)
			start->next->link = &arm->starts;
		start->link = NULL;
		end(start, tr_fail(&err, ECANCELED, "the node agent is stopping"), &err);
	}
}

int tr_arm_rearm(struct tr_arm *arm, const struct tr_ids *ids, struct tr_err *err)
{
	const struct tr_alloc *newest = tr_book_newest(&arm->book, ids);
	int64_t now_ms = (int64_t)(tr_clock_ns() / 1000000);
	int r = 0;

	if (!newest)
		return tr_fail(
			err, ENOENT,
			"the container's devices (%s, ...) were not allocated by this "
			"agent, or its records are lost: delete the pod",
			ids->count ? ids->ids[0] : "none");
	if (newest->state == TR_ALLOC_WAITING)
		return 0;
	for (struct tr_alloc *a = arm->book.first; r == 0 && a; a = a->next) {
		bool is_known = a->ready_ms && now_ms - a->ready_ms < READY_MS;

		if (a->state == TR_ALLOC_ARMED && !is_known &&
		    strcmp(a->uid, newest->uid) == 0 && tr_alloc_has_ids(a, ids))
			r = tr_arm_ready(arm, a, false, err);
	}
	return r < 0 ? r : 1;
}

/* ---- arming a pod ---- */

/* One of the pod's allocations that is to be armed. */
struct recruit {
	struct tr_alloc *alloc;
	struct tr_alloc next;         /* what it becomes; shares memory with the others */
	const struct tr_alloc *prior; /* of the same container; its limits hold */
};

static void fill_next(struct recruit *recruit, const struct tr_pod *pod, size_t index,
		      const struct tr_share *share)
{
	const struct tr_pod_container *container = &pod->containers[index];
	struct tr_alloc *next = &recruit->next;

	*next = *recruit->alloc;
	next->state = TR_ALLOC_ARMED;
	(void)snprintf(next->space, sizeof(next->space), "%s", pod->object.space);
	(void)snprintf(next->pod, sizeof(next->pod), "%s", pod->object.name);
	(void)snprintf(next->uid, sizeof(next->uid), "%s", pod->object.uid);
	(void)snprintf(next->container, sizeof(next->container), "%s", container->name);
	next->index = (unsigned)index;
	next->kind = container->kind;
	next->armed_unix_s = tr_unix_us() / 1000000;
	if (recruit->prior) {
		next->priority = recruit->prior->priority;
		next->parts = recruit->prior->parts;
		next->part_count = recruit->prior->part_count;
		next->grant_serial = recruit->prior->grant_serial;
	} else {
		next->priority = share->priority;
		next->parts = share->parts;
		next->part_count = share->count;
	}
}

/* Names that do not fit are no names of Kubernetes'. */
static int check_names(const struct tr_pod *pod, struct tr_err *err)
{
	struct tr_alloc *layout = NULL;

	if (!pod->object.uid[0] || strlen(pod->object.uid) >= sizeof(layout->uid) ||
	    strlen(pod->object.space) >= sizeof(layout->space) ||
	    strlen(pod->object.name) >= sizeof(layout->pod))
		return tr_fail(err, EBADMSG, "a pod with a name that is none");
	for (size_t i = 0; i < pod->container_count; i++)
		if (!pod->containers[i].name[0] ||
		    strlen(pod->containers[i].name) >= sizeof(layout->container))
			return tr_fail(err, EBADMSG, "pod %s/%s: container %zu has no name",
				       pod->object.space, pod->object.name, i);
	return 0;
}

static int check_pod(const struct tr_arm *arm, const struct tr_pod *pod, struct tr_err *err)
{
	const char *node = arm->options.node_name;

	if (pod->is_deleting || pod->phase == TR_POD_SUCCEEDED ||
	    pod->phase == TR_POD_FAILED)
		return tr_fail(err, EAGAIN, "pod %s/%s is ending", pod->object.space,
			       pod->object.name);
	if (node && strcmp(pod->node, node) != 0)
		return tr_fail(err, EAGAIN, "pod %s/%s is not bound to this node",
			       pod->object.space, pod->object.name);
	return check_names(pod, err);
}

static int check_room(struct tr_arm *arm, const struct recruit *recruits, size_t count,
		      struct tr_err *err)
{
	tr_autofree struct tr_room_row *rows = tr_xcalloc(count + 1, sizeof(*rows));
	const struct tr_alloc *first = &recruits[0].next;
	int r;

	for (size_t i = 0; i < count; i++) {
		const struct tr_alloc *next = &recruits[i].next;

		rows[i] = (struct tr_room_row){ next->uid,        next->kind,
						next->index,      next->parts,
						next->part_count, recruits[i].prior };
	}
	r = tr_room_check(&arm->book, &arm->cards, rows, count, err);
	return r < 0 ? tr_wrap(err, r, "pod %s/%s", first->space, first->pod) : 0;
}

/* From here on it is armed, whatever happens: the record says so. */
static int enlist(struct tr_arm *arm, struct recruit *recruit, struct tr_err *err)
{
	struct tr_alloc *alloc = recruit->alloc, *next = &recruit->next;
	int r = tr_arm_record(arm, next, err);

	if (r < 0)
		return r;
	tr_alloc_set_parts(alloc, next->parts, next->part_count);
	next->parts = alloc->parts;
	*alloc = *next;
	arm->counts.armed++;
	return 0;
}

static int arm_all(struct tr_arm *arm, struct recruit *recruits, size_t count,
		   struct tr_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = enlist(arm, &recruits[i], err);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = tr_arm_ready(arm, recruits[i].alloc, true, err);
	tr_hami_poke(arm);
	/* The container that starts now cannot be in the slice it had before. */
	for (size_t i = 0; r == 0 && i < count; i++)
		if (recruits[i].prior)
			(void)tr_arm_drop(arm,
					  (struct tr_alloc *)(uintptr_t)recruits[i].prior);
	return r;
}

/*
 * RECRUITS gets what is to be armed of BY_INDEX. A container that was armed before keeps what it had, for it
 * is armed once; but that may only be said of a pod that is known to be the one that starts now
 * and not one of the same name that was there before. -ESTALE: look again.
 */
static int list_recruits(struct tr_arm *arm, const struct tr_pod *pod, bool is_fresh,
			 struct tr_alloc *const *by_index, const struct tr_share *shares,
			 struct recruit *recruits, size_t *count, struct tr_err *err)
{
	*count = 0;
	for (size_t i = 0; i < pod->container_count; i++) {
		struct recruit *recruit = &recruits[*count];
		const char *container = pod->containers[i].name;

		if (!by_index[i] || by_index[i]->state == TR_ALLOC_ARMED)
			continue;
		*recruit = (struct recruit){
			.alloc = by_index[i],
			.prior = tr_book_of(&arm->book, pod->object.uid, container),
		};
		if (recruit->prior && !is_fresh)
			return tr_fail(err, ESTALE,
				       "container %s of pod %s/%s is armed already",
				       container, pod->object.space, pod->object.name);
		if (recruit->prior && recruit->prior->id_count != by_index[i]->id_count)
			return tr_fail(err, EBADMSG,
				       "container %s of pod %s/%s had %zu devices and was "
				       "given %zu now",
				       container, pod->object.space, pod->object.name,
				       recruit->prior->id_count, by_index[i]->id_count);
		fill_next(recruit, pod, i, &shares[i]);
		++*count;
	}
	return 0;
}

int tr_arm_pod(struct tr_arm *arm, const struct tr_pod_list *rows, const struct tr_pod *pod,
	       const struct tr_ids *asked, bool is_fresh, struct tr_err *err)
{
	size_t room = pod->container_count + 1, count = 0;
	tr_autofree struct tr_alloc **by_index = tr_xcalloc(room, sizeof(void *));
	tr_autofree struct tr_share *shares = tr_xcalloc(room, sizeof(*shares));
	tr_autofree struct recruit *recruits = tr_xcalloc(room, sizeof(*recruits));
	int r = check_pod(arm, pod, err);

	if (r == 0 && arm->blocked[0])
		r = tr_fail(err, EPERM, "%s", arm->blocked);
	if (r == 0)
		r = tr_identify(&arm->book, rows, pod, arm->options.rules.resource, asked,
				by_index, err);
	if (r == 0)
		r = tr_decision_read(pod, &arm->options.rules, &arm->cards, shares, err);
	if (r == 0)
		r = list_recruits(arm, pod, is_fresh, by_index, shares, recruits, &count,
				  err);
	if (r == 0 && count)
		r = check_room(arm, recruits, count, err);
	if (r == 0)
		r = arm_all(arm, recruits, count, err);
	tr_shares_free(shares, pod->container_count);
	return r;
}

/* ---- without CDI ---- */

/* The first container of POD that asks for devices and has none. */
static int next_container(const struct tr_arm *arm, const struct tr_pod *pod,
			  const struct tr_ids *ids, size_t *index, struct tr_err *err)
{
	for (size_t i = 0; i < pod->container_count; i++) {
		const char *name = pod->containers[i].name;
		uint32_t wanted;
		int r = tr_wanted(pod, i, arm->options.rules.resource, &wanted, err);

		if (r < 0)
			return r;
		if (!wanted || tr_book_of(&arm->book, pod->object.uid, name))
			continue;
		*index = i;
		return wanted == ids->count ? 0
					    : tr_fail(err, EINVAL,
						      "container %s of pod %s/%s asks for "
						      "%u devices and the "
						      "kubelet allocates %zu",
						      name, pod->object.space,
						      pod->object.name, wanted, ids->count);
	}
	return tr_fail(err, EINVAL, "all containers of pod %s/%s have their devices",
		       pod->object.space, pod->object.name);
}

int tr_arm_infer(struct tr_arm *arm, const struct tr_pod *pod, const struct tr_ids *ids,
		 struct tr_alloc **out, struct tr_err *err)
{
	tr_autofree struct tr_share *shares = tr_xcalloc(pod->container_count + 1,
							 sizeof(*shares));
	struct recruit recruit = { 0 };
	size_t index = 0;
	int r = check_pod(arm, pod, err);

	if (r == 0)
		r = tr_decision_read(pod, &arm->options.rules, &arm->cards, shares, err);
	if (r == 0)
		r = next_container(arm, pod, ids, &index, err);
	if (r == 0)
		r = tr_arm_make(arm, ids, &recruit.alloc, err);
	if (r == 0) {
		fill_next(&recruit, pod, index, &shares[index]);
		r = check_room(arm, &recruit, 1, err);
		if (r == 0)
			r = arm_all(arm, &recruit, 1, err);
		if (r < 0)
			(void)tr_arm_drop(arm, recruit.alloc);
	}
	*out = recruit.alloc;
	tr_shares_free(shares, pod->container_count);
	return r;
}

/* What was inferred, against what the kubelet knows by now. Init containers' ids are others', of the
 * same pod. */
static int verify(const struct tr_arm *arm, const struct tr_pod_list *list,
		  const struct tr_ids *ids, struct tr_err *err)
{
	const struct tr_alloc *newest = tr_book_newest(&arm->book, ids);
	const struct tr_pod_row *row;
	int r = tr_owner_find(list, ids, &row, err);

	for (size_t i = 0; r == 0 && newest && i < list->count; i++) {
		struct tr_ids of = { list->rows[i].ids, list->rows[i].count };

		if (tr_alloc_has_ids(newest, &of))
			row = &list->rows[i];
	}
	/* Devices of init containers only are listed nowhere. */
	if (r == -EAGAIN && newest && newest->kind == TR_CONTAINER_INIT)
		return 0;
	if (r < 0 || !newest || newest->state == TR_ALLOC_WAITING)
		return r;
	if (strcmp(row->namespace, newest->space) == 0 &&
	    strcmp(row->pod, newest->pod) == 0 &&
	    (newest->kind == TR_CONTAINER_INIT ||
	     strcmp(row->container, newest->container) == 0))
		return 0;
	return tr_fail(err, EBADMSG,
		       "the devices of container %s of pod %s/%s were taken for those of "
		       "container %s of pod %s/%s: delete the pod",
		       row->container, row->namespace, row->pod, newest->container,
		       newest->space, newest->pod);
}

/* ---- the steps of a call ---- */

static void ask_pod(struct start *start);

/* ---- a pod that came past every scheduler ---- */

struct claims {
	const struct start *start;
	const struct tr_pod *pod;
};

/* Of a pod that starts beside this one, or that a scheduler decided on. */
static bool is_promised(const char *uuid, void *arg)
{
	const struct claims *claims = arg;
	const struct tr_arm_ports *ports = &claims->start->arm->options.ports;

	for (const struct start *s = claims->start->arm->starts; s; s = s->next)
		if (s != claims->start && s->claim && strstr(s->claim, uuid))
			return true;
	return ports->is_promised && ports->is_promised(claims->pod, uuid, ports->arg);
}

static void on_claimed(void *arg, int r, const struct tr_err *told)
{
	struct start *start = arg;
	struct tr_err err = { 0 };
	char name[POD_NAME];

	if (r < 0)
		end(start,
		    tr_fail(&err, -r, "write to pod %s which GPUs it gets: %s",
			    name_of(start, name), told ? told->msg : strerror(-r)),
		    &err);
	else
		ask_pod(start); /* from here on it is a decision like any other */
}

/* Whole cards, written to the pod, so that a scheduler counts them, before they are given. 1: under way. */
static int claim(struct start *start, const struct tr_pod *pod, struct tr_err *err)
{
	struct tr_arm *arm = start->arm;
	const struct tr_arm_ports *ports = &arm->options.ports;
	struct claims claims = { start, pod };
	tr_auto_buf struct tr_buf decision = { 0 };
	char now[24];
	int r = tr_whole_cards(&arm->book, &arm->cards, pod, arm->options.rules.resource,
			       is_promised, &claims, &decision, err);

	if (r < 0)
		return r;
	start->claim = tr_buf_take(&decision);
	(void)snprintf(now, sizeof(now), "%lld", (long long)(tr_unix_us() / 1000000));
	ports->annotate(pod->object.space, pod->object.name, pod->object.version,
			&(struct tr_named_list){ (const struct tr_named[]){
							 { TR_POD_ALLOCATED, start->claim },
							 { TR_POD_TIME, now },
							 { TR_POD_NODE, pod->node },
						 },
						 3 },
			on_claimed, start, ports->arg);
	return 1;
}

static bool is_claimable(const struct start *start, int r)
{
	const struct tr_arm_options *o = &start->arm->options;

	/* Fresh: a decision that was made a moment ago counts. */
	return r == -ENOENT && start->is_fresh && !start->claim && o->takes_whole_cards &&
	       o->ports.annotate;
}

static void on_pod(void *arg, int r, const struct tr_pod *pod, const struct tr_err *told)
{
	struct start *start = arg;
	struct tr_ids ids = ids_of(start);
	struct tr_err err = { 0 };
	char name[POD_NAME];

	if (r < 0) {
		r = tr_fail(&err, -r, "pod %s: %s", name_of(start, name),
			    told && told->msg[0] ? told->msg : strerror(-r));
	} else {
		r = tr_arm_pod(start->arm, &start->rows, pod, &ids, start->is_fresh, &err);
		if (is_claimable(start, r))
			r = claim(start, pod, &err);
		if (r > 0)
			return;
	}
	if (r == 0)
		r = tr_arm_rearm(start->arm, &ids, &err);
	if (r == 0)
		r = tr_fail(&err, EAGAIN,
			    "pod %s has other devices than those that are asked for",
			    name_of(start, name));
	if (r < 0 && !start->is_fresh) {
		/* What we hold of the pod may lag behind the kubelet. */
		start->is_fresh = true;
		ask_pod(start);
	} else {
		end(start, r < 0 ? r : 0, &err);
	}
}

static void ask_pod(struct start *start)
{
	const struct tr_arm_ports *ports = &start->arm->options.ports;
	const struct tr_pod_row *row = &start->rows.rows[0];

	if (start->uid[0])
		ports->pod_with(start->uid, on_pod, start, ports->arg);
	else
		ports->pod_of(row->namespace, row->pod, start->is_fresh, on_pod, start,
			      ports->arg);
}

/* By PodResources, else by what the kubelet has written down: then by UID, and *ROW stands for it. */
static int find_owner(struct start *start, const struct tr_pod_list *list,
		      const struct tr_ids *ids, const struct tr_pod_row **row,
		      struct tr_err *err)
{
	static const struct tr_pod_row unlisted = { .namespace = "", .pod = "" };
	const struct tr_arm_options *o = &start->arm->options;
	int r = tr_owner_find(list, ids, row, err);

	if (r != -EAGAIN || !o->checkpoint || !o->ports.pod_with)
		return r;
	*row = &unlisted;
	return tr_checkpoint_owner(o->checkpoint, o->rules.resource, ids, start->uid, err);
}

static void on_rows(int r, const struct tr_pod_list *list, const char *sentence, void *arg)
{
	struct start *start = arg;
	struct tr_arm *arm = start->arm;
	struct tr_ids ids = ids_of(start);
	const struct tr_pod_row *row = NULL;
	struct tr_err err = { 0 };

	start->waiter = NULL;
	if (r < 0)
		r = tr_fail(&err, -r, "%s", sentence);
	else if (arm->options.infers)
		r = verify(arm, list, &ids, &err);
	if (r == 0)
		r = tr_arm_rearm(arm, &ids, &err); /* another call may have armed it */
	if (r == 0) {
		r = find_owner(start, list, &ids, &row, &err);
		if (r == 0) {
			tr_rows_copy(list, row, &start->rows);
			ask_pod(start);
			return;
		}
	}
	end(start, r < 0 ? r : 0, &err);
}

static struct start *begin(struct tr_arm *arm, const struct tr_ids *ids, tr_armed *done,
			   void *done_arg)
{
	struct start *start = tr_xcalloc(1, sizeof(*start));

	*start = (struct start){
		.arm = arm,
		.ids = tr_texts_copy(ids->ids, ids->count),
		.id_count = ids->count,
		.done = done,
		.done_arg = done_arg,
		.next = arm->starts,
		.link = &arm->starts,
	};
	if (start->next)
		start->next->link = &start->next;
	arm->starts = start;
	return start;
}

void tr_arm_start(struct tr_arm *arm, const struct tr_ids *ids, tr_armed *done,
		  void *done_arg)
{
	struct start *start = begin(arm, ids, done, done_arg);
	unsigned ms = arm->options.ask_ms ? arm->options.ask_ms : ASK_MS;
	struct tr_err err = { 0 };
	int r = arm->options.infers && arm->pods ? 0 : tr_arm_rearm(arm, ids, &err);

	if (r > 0)
		arm->counts.rearmed++;
	else if (r == 0 && !arm->pods)
		r = tr_fail(&err, ENOTSUP, "the kubelet's PodResources is not there");
	else if (r == 0)
		r = tr_pods_ask(arm->pods, ms, on_rows, start, &start->waiter, &err);
	if (r > 0 || r < 0)
		end(start, r < 0 ? r : 0, &err);
}

static void on_armed(void *arg, int r, const struct tr_err *err)
{
	struct tr_rpc_call *call = arg;

	if (r == 0)
		(void)tr_plugin_prestarted(call);
	else
		tr_rpc_refuse(call,
			      r == -EAGAIN || r == -ETIMEDOUT || r == -ECANCELED
				      ? TR_RPC_UNAVAILABLE
				      : TR_RPC_FAILED_PRECONDITION,
			      err->msg);
}

void tr_arm_prestart(struct tr_rpc_call *call, const struct tr_ids *ids, void *arg)
{
	tr_arm_start(arg, ids, on_armed, call);
}
