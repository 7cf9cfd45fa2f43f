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
/* Log, keeper and whoever else hears of an armed container can wait a little; those that start now cannot. */
#define TELL_MS 25
/* After the last Allocate: by then the kubelet has written down whose it is, and the file's clock has ticked. */
#define AHEAD_MS 250

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
	bool has_all_rows;      /* until it is told: nobody knows which are its own */
	char uid[TR_POD_UID];   /* instead, where no row has its ids; "": one does */
	char owner[TR_POD_UID]; /* by the kubelet's checkpoint; "": it does not say */
	uint64_t began_ns;
	bool is_known; /* ROWS are of a List that was there already */
	bool is_fresh;
	bool is_armed; /* answered when it is flushed */
	char *claim;   /* a decision of our own that is being written; NULL: none */
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

/* ---- those under way, the oldest first: it is answered first ---- */

static void link_start(struct start *start)
{
	struct tr_arm *arm = start->arm;

	start->link = arm->starts ? arm->starts_end : &arm->starts;
	*start->link = start;
	arm->starts_end = &start->next;
}

static void unlink_start(struct start *start)
{
	if (!start->link)
		return;
	*start->link = start->next;
	if (start->next)
		start->next->link = start->link;
	else
		start->arm->starts_end = start->link;
	start->link = NULL;
}

/* ---- ending a call ---- */

static void end(struct start *start, int r, const struct tr_err *err)
{
	struct tr_arm *arm = start->arm;
	struct tr_ids ids = ids_of(start);
	tr_armed *done = start->done;
	void *done_arg = start->done_arg;

	unlink_start(start);
	if (start->waiter)
		tr_pods_forget(start->waiter);
	if (start->has_all_rows)
		tr_rows_free(&start->rows);
	if (r < 0)
		tr_arm_tell_refused(arm, &ids, &start->rows, err->msg);
	tr_texts_free((const char *const *)start->ids, start->id_count);
	tr_rows_free(&start->rows);
	free(start->claim);
	free(start);
	arm->counts.refused_starts += r < 0;
	done(done_arg, r, err);
}

void tr_arm_starts_end(struct tr_arm *arm)
{
	struct tr_err err = { 0 };

	while (arm->starts)
		end(arm->starts, tr_fail(&err, ECANCELED, "the node agent is stopping"),
		    &err);
	if (arm->on_flush)
		event_free(arm->on_flush);
	if (arm->on_tell)
		event_free(arm->on_tell);
	if (arm->on_ahead)
		event_free(arm->on_ahead);
	arm->on_flush = arm->on_tell = arm->on_ahead = NULL;
}

void tr_arm_starts_flushed(struct tr_arm *arm, int r, const struct tr_err *err)
{
	for (struct start *start = arm->starts, *next; start; start = next) {
		next = start->next;
		if (start->is_armed)
			end(start, r, err);
	}
}

static void on_tell(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	tr_arm_tell_all(arg);
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
	struct timeval later = { .tv_usec = TELL_MS * 1000 };
	struct tr_arm *arm = arg;
	struct tr_err err = { 0 };

	(void)fd;
	(void)what;
	(void)tr_arm_flush_untold(arm, &err);
	if (!event_pending(arm->on_tell, EV_TIMEOUT, NULL))
		(void)event_add(arm->on_tell, &later);
}

static bool can_wait(struct tr_arm *arm)
{
	if (!arm->on_flush && arm->base) {
		arm->on_flush = evtimer_new(arm->base, on_flush, arm);
		arm->on_tell = evtimer_new(arm->base, on_tell, arm);
	}
	return arm->on_flush && arm->on_tell;
}

/* Its container is armed, and may start when all of it is there: after this turn of the loop. */
static void succeed(struct start *start)
{
	struct tr_arm *arm = start->arm;
	struct tr_err err = { 0 };

	start->is_armed = true;
	if (!arm->is_unflushed)
		end(start, 0, &err);
	else if (!can_wait(arm) || event_add(arm->on_flush, &(struct timeval){ 0 }) < 0)
		(void)tr_arm_flush(arm, &err);
}

/* R as tr_arm_rearm() says. */
static void finish(struct start *start, int r, const struct tr_err *err)
{
	if (r < 0)
		end(start, r, err);
	else
		succeed(start);
}

static int rearm(struct tr_arm *arm, const struct tr_ids *ids, struct tr_err *err)
{
	struct tr_alloc *newest = tr_book_newest(&arm->book, ids);
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
	for (struct tr_alloc *a = newest; r == 0 && a; a = a->next_alike) {
		bool is_known = a->ready_ms && now_ms - a->ready_ms < READY_MS;

		if (a->ids_hash == newest->ids_hash && a->state == TR_ALLOC_ARMED &&
		    !a->is_retired && !is_known && strcmp(a->uid, newest->uid) == 0 &&
		    tr_alloc_has_ids(a, ids))
			r = tr_arm_ready(arm, a, false, err);
	}
	return r < 0 ? r : 1;
}

int tr_arm_rearm(struct tr_arm *arm, const struct tr_ids *ids, struct tr_err *err)
{
	return tr_arm_flushed(arm, rearm(arm, ids, err), err);
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

/* PodResources knows pods by name only, and there may be another of that name by now, or still in our store. The
 * kubelet knows a static pod by the UID it made for it, which its image at the API server has in an annotation. */
static int check_owner(const struct start *start, const struct tr_pod *pod,
		       struct tr_err *err)
{
	const char *mirrored = tr_named_find(&pod->object.annotations, TR_POD_MIRROR);
	char name[POD_NAME];

	if (!start->owner[0] || strcmp(pod->object.uid, start->owner) == 0 ||
	    (mirrored && strcmp(mirrored, start->owner) == 0))
		return 0;
	return tr_fail(err, EAGAIN,
		       "pod %s is another one (UID %s) than the one that starts (UID %s)",
		       name_of(start, name), pod->object.uid, start->owner);
}

static bool is_row_of(const struct tr_pod_row *row, const void *arg)
{
	const struct tr_pod *pod = arg;

	return strcmp(row->pod, pod->object.name) == 0 &&
	       strcmp(row->namespace, pod->object.space) == 0;
}

/* By the checkpoint it is not of another pod, of the same name. */
static bool is_own_row(const struct tr_pod_row *row, const void *arg)
{
	const struct start *start = arg;
	struct tr_ids ids = { row->ids, row->count };
	char owner[TR_POD_UID];

	return tr_checkpoint_owner(&start->arm->checkpoint, &ids, owner, NULL) < 0 ||
	       strcmp(owner, start->owner) == 0;
}

static void keep_own_rows(struct start *start, const struct tr_pod *pod)
{
	if (start->has_all_rows)
		tr_rows_keep(&start->rows, is_row_of, pod);
	start->has_all_rows = false;
	if (start->owner[0])
		tr_rows_keep(&start->rows, is_own_row, start);
}

static void on_pod(void *arg, int r, const struct tr_pod *pod, const struct tr_err *told)
{
	struct start *start = arg;
	struct tr_ids ids = ids_of(start);
	struct tr_err err = { 0 };
	char name[POD_NAME];

	if (r < 0)
		r = tr_fail(&err, -r, "pod %s: %s", name_of(start, name),
			    told && told->msg[0] ? told->msg : strerror(-r));
	else
		r = check_owner(start, pod, &err);
	if (r == 0) {
		keep_own_rows(start, pod);
		r = tr_arm_pod_soon(start->arm, &start->rows, pod, &ids,
				    start->is_fresh || start->owner[0], &err);
		if (is_claimable(start, r))
			r = claim(start, pod, &err);
		if (r > 0)
			return;
	}
	if (r == 0)
		r = rearm(start->arm, &ids, &err);
	if (r == 0)
		r = tr_fail(&err, EAGAIN,
			    "pod %s has other devices than those that are asked for",
			    name_of(start, name));
	if (r < 0 && !start->is_fresh) {
		/* What we hold of the pod may lag behind the kubelet. */
		start->is_fresh = true;
		ask_pod(start);
	} else {
		finish(start, r, &err);
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

static int read_checkpoint(struct tr_arm *arm, uint64_t since_ns, struct tr_err *err)
{
	const struct tr_arm_options *o = &arm->options;

	return tr_checkpoint_read(&arm->checkpoint, o->checkpoint, o->rules.resource,
				  since_ns, err);
}

/* With many containers that is milliseconds, which nobody waits for now. */
static void on_ahead(evutil_socket_t fd, short what, void *arg)
{
	struct tr_err err = { 0 };

	(void)fd;
	(void)what;
	(void)read_checkpoint(arg, tr_clock_ns(),
			      &err); /* who starts reads again, and tells */
}

void tr_arm_expect(struct tr_arm *arm)
{
	if (!arm->options.checkpoint || !arm->base)
		return;
	if (!arm->on_ahead)
		arm->on_ahead = evtimer_new(arm->base, on_ahead, arm);
	if (arm->on_ahead)
		(void)event_add(arm->on_ahead,
				&(struct timeval){ .tv_usec = AHEAD_MS * 1000 });
}

static int read_owner(struct start *start, const struct tr_ids *ids, struct tr_err *err)
{
	struct tr_arm *arm = start->arm;
	int r = read_checkpoint(arm, start->began_ns, err);

	return r < 0 ? r : tr_checkpoint_owner(&arm->checkpoint, ids, start->owner, err);
}

/* By PodResources, else by what the kubelet has written down: then by UID, and *ROW is NULL. */
static int find_owner(struct start *start, const struct tr_pod_list *list,
		      const struct tr_ids *ids, const struct tr_pod_row **row,
		      struct tr_err *err)
{
	const struct tr_arm_options *o = &start->arm->options;
	struct tr_err why = { 0 };
	int r = tr_owner_find(list, ids, row, err), told;

	if (!o->checkpoint)
		return r;
	told = read_owner(start, ids, &why);
	if (r == -EAGAIN && o->ports.pod_with) {
		*row = NULL;
		*err = why;
		memcpy(start->uid, start->owner, sizeof(start->uid));
		return told;
	}
	/* Then nobody but the API server can tell it from one of the same name. */
	start->is_fresh = told < 0;
	return r;
}

/* What Allocate gave it to, without CDI. */
static int verify(struct start *start, const struct tr_pod_list *list,
		  const struct tr_ids *ids, struct tr_err *err)
{
	struct tr_err why = { 0 };

	if (start->arm->options.checkpoint)
		(void)read_owner(start, ids, &why);
	return tr_infer_verify(start->arm, list, ids, start->owner, err);
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
		r = verify(start, list, &ids, &err);
	if (r == 0)
		r = rearm(arm, &ids, &err); /* another call may have armed it */
	if (r == 0) {
		r = find_owner(start, list, &ids, &row, &err);
		if (r == 0) {
			tr_rows_copy(list, row, &start->rows);
			start->has_all_rows = !row;
			ask_pod(start);
			return;
		}
	}
	finish(start, r, &err);
}

static struct start *begin(struct tr_arm *arm, const struct tr_ids *ids, tr_armed *done,
			   void *done_arg)
{
	struct start *start = tr_xcalloc(1, sizeof(*start));

	*start = (struct start){
		.arm = arm,
		.began_ns = tr_clock_ns(),
		.ids = tr_texts_copy(ids->ids, ids->count),
		.id_count = ids->count,
		.done = done,
		.done_arg = done_arg,
	};
	link_start(start);
	return start;
}

void tr_arm_start(struct tr_arm *arm, const struct tr_ids *ids, tr_armed *done,
		  void *done_arg)
{
	struct start *start = begin(arm, ids, done, done_arg);
	unsigned ms = arm->options.ask_ms ? arm->options.ask_ms : ASK_MS;
	struct tr_err err = { 0 };
	int r = arm->options.infers && arm->pods ? 0 : rearm(arm, ids, &err);

	if (r > 0)
		arm->counts.rearmed++;
	else if (r == 0 && !arm->pods)
		r = tr_fail(&err, ENOTSUP, "the kubelet's PodResources is not there");
	else if (r == 0)
		r = tr_pods_ask(arm->pods, ms, on_rows, start, &start->waiter, &err);
	if (r > 0 || r < 0)
		finish(start, r, &err);
}

void tr_arm_answer(void *arg, int r, const struct tr_err *err)
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
	tr_arm_start(arg, ids, tr_arm_answer, call);
}
