/* SPDX-License-Identifier: Apache-2.0 */
/* The allocations of a pod become its containers'. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/arm/inside.h"

/* One of the pod's allocations that is to be armed. */
struct recruit {
	struct tr_alloc *alloc;
	struct tr_alloc next;   /* what it becomes; shares memory with the others */
	struct tr_alloc *prior; /* of the same container; its limits hold */
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
	if (pod->unread_count)
		return tr_fail(err, EFBIG,
			       "pod %s/%s has %zu containers: of so many none is read",
			       pod->object.space, pod->object.name, pod->unread_count);
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
	/* The kubelet allocates anew also when it has merely lost what it knew: whoever sits in the slice that
	 * the container had goes on there. */
	if (recruit->prior)
		tr_arm_retire(arm, recruit->prior);
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

int tr_arm_pod_soon(struct tr_arm *arm, const struct tr_pod_list *rows,
		    const struct tr_pod *pod, const struct tr_ids *asked, bool is_fresh,
		    struct tr_err *err)
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

int tr_arm_pod(struct tr_arm *arm, const struct tr_pod_list *rows, const struct tr_pod *pod,
	       const struct tr_ids *asked, bool is_fresh, struct tr_err *err)
{
	return tr_arm_flushed(arm, tr_arm_pod_soon(arm, rows, pod, asked, is_fresh, err),
			      err);
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
			r = tr_arm_flushed(arm, arm_all(arm, &recruit, 1, err), err);
		if (r < 0)
			(void)tr_arm_drop(arm, recruit.alloc);
	}
	*out = recruit.alloc;
	tr_shares_free(shares, pod->container_count);
	return r;
}
