/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/arm/identify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* More cannot be asked for: a policy page has so many rows. */
#define WANTED_MAX TR_DEVICES_MAX

static bool row_has(const struct tr_pod_row *row, const char *id, uint64_t hash)
{
	for (size_t i = 0; i < row->count; i++)
		if ((!row->hashes || row->hashes[i] == hash) &&
		    strcmp(row->ids[i], id) == 0)
			return true;
	return false;
}

static bool row_shares(const struct tr_pod_row *row, const struct tr_ids *ids,
		       const uint64_t *hashes)
{
	for (size_t i = 0; i < ids->count; i++)
		if (row_has(row, ids->ids[i], hashes[i]))
			return true;
	return false;
}

int tr_owner_find(const struct tr_pod_list *rows, const struct tr_ids *ids,
		  const struct tr_pod_row **out, struct tr_err *err)
{
	tr_autofree uint64_t *hashes = tr_xcalloc(ids->count + 1, sizeof(*hashes));
	const struct tr_pod_row *found = NULL;

	for (size_t i = 0; i < ids->count; i++)
		hashes[i] = tr_id_hash(ids->ids[i]);
	for (size_t i = 0; i < rows->count; i++) {
		const struct tr_pod_row *row = &rows->rows[i];

		if (!row_shares(row, ids, hashes))
			continue;
		if (found && (strcmp(found->namespace, row->namespace) != 0 ||
			      strcmp(found->pod, row->pod) != 0))
			return tr_fail(
				err, EBADMSG,
				"the kubelet says that device %s belongs to pods %s/%s "
				"and %s/%s",
				ids->ids[0], found->namespace, found->pod, row->namespace,
				row->pod);
		found = row;
	}
	if (!found)
		return tr_fail(err, EAGAIN,
			       "the kubelet does not say which pod device %s belongs to",
			       ids->count ? ids->ids[0] : "(none)");
	*out = found;
	return 0;
}

int tr_wanted(const struct tr_pod *pod, size_t index, const char *resource, uint32_t *out,
	      struct tr_err *err)
{
	const struct tr_pod_container *container = &pod->containers[index];
	const struct tr_amount *amount = tr_amount_find(&container->limits, resource);

	*out = 0;
	if (!amount)
		return 0;
	if (amount->is_bad || amount->value < 0 || amount->value > WANTED_MAX)
		return tr_fail(err, EINVAL,
			       "container %s of pod %s/%s: %s is not a number from 0 to %u",
			       container->name, pod->object.space, pod->object.name,
			       resource, WANTED_MAX);
	*out = (uint32_t)amount->value;
	return 0;
}

/* A container that asks for devices. */
struct asks {
	size_t index;
	uint32_t wanted;
	const struct tr_pod_row *row; /* NULL: not listed */
	uint64_t ids_hash;            /* of the row */
};

static const struct tr_pod_row *find_row(const struct tr_pod_list *rows,
					 const struct tr_pod *pod, const char *container)
{
	for (size_t i = 0; i < rows->count; i++)
		if (strcmp(rows->rows[i].pod, pod->object.name) == 0 &&
		    strcmp(rows->rows[i].namespace, pod->object.space) == 0 &&
		    strcmp(rows->rows[i].container, container) == 0)
			return &rows->rows[i];
	return NULL;
}

static int list_asks(const struct tr_pod_list *rows, const struct tr_pod *pod,
		     const char *resource, struct asks *out, size_t *count,
		     struct tr_err *err)
{
	*count = 0;
	for (size_t i = 0; i < pod->container_count; i++) {
		const struct tr_pod_container *container = &pod->containers[i];
		struct asks asks = { .index = i };
		int r = tr_wanted(pod, i, resource, &asks.wanted, err);

		if (r < 0)
			return r;
		if (!asks.wanted)
			continue;
		if (container->kind != TR_CONTAINER_INIT) {
			asks.row = find_row(rows, pod, container->name);
			if (!asks.row)
				return tr_fail(
					err, EAGAIN,
					"the kubelet lists no devices of container %s "
					"of pod %s/%s yet",
					container->name, pod->object.space,
					pod->object.name);
			asks.ids_hash = tr_ids_hash(
				&(struct tr_ids){ asks.row->ids, asks.row->count });
			if (asks.row->count != asks.wanted)
				return tr_fail(
					err, EBADMSG,
					"container %s of pod %s/%s asks for %u devices "
					"and the kubelet gave it %zu",
					container->name, pod->object.space,
					pod->object.name, asks.wanted, asks.row->count);
		}
		out[(*count)++] = asks;
	}
	return 0;
}

static bool fits(const struct tr_alloc *alloc, const struct asks *asks,
		 const struct tr_pod *pod)
{
	struct tr_ids ids;

	if (alloc->id_count != asks->wanted ||
	    (asks->row && alloc->ids_hash != asks->ids_hash))
		return false;
	if (alloc->state == TR_ALLOC_ARMED &&
	    (strcmp(alloc->uid, pod->object.uid) != 0 ||
	     strcmp(alloc->container, pod->containers[asks->index].name) != 0))
		return false;
	if (!asks->row)
		return true;
	ids = (struct tr_ids){ asks->row->ids, asks->row->count };
	return tr_alloc_has_ids(alloc, &ids);
}

/*
 * What the kubelet gives again: ids of init containers that end. The next container gets of them as many as it asks for
 * or as there are, in no order (a Go map), before any others; what sidecars and app containers get is not given again.
 */
struct reuse {
	const char **ids;
	size_t count;
};

static bool is_given_next(struct reuse *reuse, const struct tr_alloc *alloc, bool ends)
{
	size_t had = reuse->count, left = 0;

	for (size_t i = 0; i < had; i++)
		if (!tr_alloc_has_id(alloc, reuse->ids[i]))
			reuse->ids[left++] = reuse->ids[i];
	if (had - left != (alloc->id_count < had ? alloc->id_count : had))
		return false;
	reuse->count = left;
	for (size_t i = 0; ends && i < alloc->id_count; i++)
		reuse->ids[reuse->count++] = alloc->ids[i];
	return true;
}

static bool run_follows(struct tr_alloc *const *run, const struct asks *asks, size_t count,
			const struct tr_pod *pod)
{
	tr_autofree const char **ids = NULL;
	struct reuse reuse = { NULL, 0 };
	size_t room = 1;

	for (size_t i = 0; i < count; i++)
		room += run[i]->id_count;
	reuse.ids = ids = tr_xcalloc(room, sizeof(*ids));
	for (size_t i = 0; i < count; i++)
		if (!is_given_next(&reuse, run[i],
				   pod->containers[asks[i].index].kind ==
					   TR_CONTAINER_INIT))
			return false;
	return true;
}

static bool run_fits(struct tr_alloc *const *run, const struct asks *asks, size_t count,
		     const struct tr_pod *pod, const struct tr_ids *asked)
{
	bool has_asked = !asked;

	for (size_t i = 0; i < count; i++) {
		if (!fits(run[i], &asks[i], pod))
			return false;
		has_asked = has_asked || tr_alloc_has_ids(run[i], asked);
	}
	return has_asked && run_follows(run, asks, count, pod);
}

/* The newest that a listed container can have. */
static struct tr_alloc *newest_fit(struct tr_alloc *const *all, size_t count,
				   const struct asks *asks, const struct tr_pod *pod)
{
	while (count--)
		if (fits(all[count], asks, pod))
			return all[count];
	return NULL;
}

/* Of an init container, which is listed nowhere: the last before the NEXT container's that had ids of one after it,
 * if that is nobody's yet. ASKS are it and those after it, which are known. */
static struct tr_alloc *given_on(struct tr_alloc *const *all, const struct asks *asks,
				 size_t count, struct tr_alloc *const *by_index)
{
	const struct tr_alloc *next = by_index[asks[1].index];
	struct tr_alloc *found = NULL;

	for (; *all && *all != next; all++)
		for (size_t k = 1; k < count; k++) {
			const struct tr_alloc *later = by_index[asks[k].index];
			struct tr_ids ids = { (const char *const *)later->ids,
					      later->id_count };

			if (tr_alloc_shares_ids(*all, &ids))
				found = *all;
		}
	if (found && found->state == TR_ALLOC_WAITING && found->id_count == asks->wanted)
		return found;
	return NULL;
}

/*
 * Without a whole run: the kubelet allocates for one container alone when it has lost what it knew of it, and,
 * when it was restarted between two containers of a pod, for the rest after others. Listed containers are told by
 * their ids; those that are not by what they were armed with, or by whom their ids were given on to.
 */
static int match_singly(struct tr_alloc *const *all, size_t all_count,
			const struct asks *asks, size_t count, const struct tr_book *book,
			const struct tr_pod *pod, struct tr_alloc **by_index,
			struct tr_err *err)
{
	for (size_t i = count; i--;) {
		const char *container = pod->containers[asks[i].index].name;
		struct tr_alloc *found =
			asks[i].row ? newest_fit(all, all_count, &asks[i], pod)
				    : tr_book_of(book, pod->object.uid, container);

		if (!found && !asks[i].row && i + 1 < count)
			found = given_on(all, &asks[i], count - i, by_index);
		if (!found)
			return tr_fail(
				err, EAGAIN,
				"no allocation of %u devices is known for container %s of "
				"pod %s/%s",
				asks[i].wanted, container, pod->object.space,
				pod->object.name);
		for (size_t k = i + 1; k < count; k++)
			if (by_index[asks[k].index] == found)
				return tr_fail(err, EAGAIN,
					       "containers %s and %s of pod %s/%s have one "
					       "allocation",
					       container,
					       pod->containers[asks[k].index].name,
					       pod->object.space, pod->object.name);
		by_index[asks[i].index] = found;
	}
	return 0;
}

int tr_identify(const struct tr_book *book, const struct tr_pod_list *rows,
		const struct tr_pod *pod, const char *resource, const struct tr_ids *asked,
		struct tr_alloc **by_index, struct tr_err *err)
{
	tr_autofree struct tr_alloc **all = tr_xcalloc(book->count + 1, sizeof(void *));
	tr_autofree struct asks *asks = tr_xcalloc(pod->container_count + 1, sizeof(*asks));
	size_t n = 0, count;
	int r = list_asks(rows, pod, resource, asks, &count, err);

	if (r < 0)
		return r;
	if (!count)
		return tr_fail(err, EBADMSG, "pod %s/%s asks for no %s", pod->object.space,
			       pod->object.name, resource);
	memset(by_index, 0, pod->container_count * sizeof(void *));
	for (struct tr_alloc *a = book->first; a; a = a->next)
		if (!a->is_retired)
			all[n++] = a;
	for (size_t from = n >= count ? n - count + 1 : 0; from--;) {
		if (!run_fits(&all[from], asks, count, pod, asked))
			continue;
		for (size_t i = 0; i < count; i++)
			by_index[asks[i].index] = all[from + i];
		return 0;
	}
	return match_singly(all, n, asks, count, book, pod, by_index, err);
}
