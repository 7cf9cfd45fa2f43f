/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/arm/identify.h"
#include "rt/bytes.h"
#include "rt/sat.h"

/*
 * What one pod can take of a card at any one moment. Init containers that end run one after another, each
 * with the sidecars that come before it; then all sidecars run with all app containers. That holds for as long
 * as the pod lives: when its sandbox is gone, or the machine has started anew, the kubelet runs its init
 * containers again, and by then nobody can be asked to make room.
 */
struct peak {
	struct tr_room staying; /* sidecars and app containers so far */
	struct tr_room most;
};

static struct tr_room add(struct tr_room a, struct tr_room b)
{
	return (struct tr_room){ .bytes = tr_sat_add(a.bytes, b.bytes),
				 .cores = a.cores + b.cores,
				 .containers = a.containers + b.containers,
				 .is_whole = a.is_whole || b.is_whole,
				 .is_joined = a.is_joined || b.is_joined };
}

static void lift(struct tr_room *most, struct tr_room now)
{
	if (most->bytes < now.bytes)
		most->bytes = now.bytes;
	if (most->cores < now.cores)
		most->cores = now.cores;
	if (most->containers < now.containers)
		most->containers = now.containers;
	most->is_whole = most->is_whole || now.is_whole;
	most->is_joined = most->is_joined || (now.is_whole && now.containers > 1);
}

static struct tr_room room_of(const struct tr_alloc_part *part)
{
	return (struct tr_room){ .bytes = part->limit_bytes,
				 .cores = part->cores,
				 .containers = 1,
				 .is_whole = part->cores == 100 };
}

/* Containers come in the order of their index. */
static void peak_add(struct peak *peak, enum tr_container_kind kind,
		     const struct tr_alloc_part *part)
{
	struct tr_room now = room_of(part);

	if (kind == TR_CONTAINER_INIT) {
		lift(&peak->most, add(peak->staying, now));
	} else {
		peak->staying = add(peak->staying, now);
		lift(&peak->most, peak->staying);
	}
}

static const struct tr_alloc_part *part_on(const struct tr_alloc_part *parts, size_t count,
					   const char *uuid)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(parts[i].uuid, uuid) == 0)
			return &parts[i];
	return NULL;
}

/* Is ALLOC, or the container it is of, one of ADDED? */
static bool is_replaced(const struct tr_alloc *alloc, const struct tr_room_row *added,
			size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (added[i].instead == alloc || (added[i].index == alloc->index &&
						  strcmp(added[i].uid, alloc->uid) == 0))
			return true;
	return false;
}

/* A container's part of the card. */
struct holder {
	const char *uid;
	unsigned index;
	enum tr_container_kind kind;
	const struct tr_alloc_part *part;
};

/* All of a pod together, by index: not as they were allocated, for the kubelet may have asked again for one
 * container alone, or for other pods between. */
static int compare_holders(const void *a, const void *b)
{
	const struct holder *left = a, *right = b;
	int order = strcmp(left->uid, right->uid);

	return order ? order : (left->index > right->index) - (left->index < right->index);
}

/*
 * What is armed on the card, and ADDED. OUT has room for all. A slice that its container has no more counts for as long
 * as a process sits in it; but not against that container itself (is_replaced()), which runs once at a time.
 */
static size_t list_holders(const struct tr_book *book, const char *uuid,
			   const struct tr_room_row *added, size_t count,
			   struct holder *out)
{
	const struct tr_alloc_part *part;
	size_t n = 0;

	for (const struct tr_alloc *a = book->first; a; a = a->next)
		if (a->state == TR_ALLOC_ARMED && (!a->is_retired || a->is_held) &&
		    (part = part_on(a->parts, a->part_count, uuid)) &&
		    !is_replaced(a, added, count))
			out[n++] = (struct holder){ a->uid, a->index, a->kind, part };
	for (size_t i = 0; i < count; i++)
		if ((part = part_on(added[i].parts, added[i].part_count, uuid)))
			out[n++] = (struct holder){ added[i].uid, added[i].index,
						    added[i].kind, part };
	return n;
}

/* What is taken of the card: by the pod OWNER (NULL: none), and by all others. */
static void sum_peaks(struct holder *holders, size_t n, const char *owner,
		      struct tr_room *own, struct tr_room *others)
{
	size_t i = 0;

	*own = *others = (struct tr_room){ 0 };
	qsort(holders, n, sizeof(*holders), compare_holders);
	while (i < n) {
		const char *uid = holders[i].uid;
		struct tr_room *sum = owner && strcmp(uid, owner) == 0 ? own : others;
		struct peak peak = { 0 };

		for (; i < n && strcmp(holders[i].uid, uid) == 0; i++)
			peak_add(&peak, holders[i].kind, holders[i].part);
		*sum = add(*sum, peak.most);
	}
}

/* The same as if all of them ran at once, in no order: never less. */
static void sum_all(const struct holder *holders, size_t n, const char *owner,
		    struct tr_room *own, struct tr_room *others)
{
	*own = *others = (struct tr_room){ 0 };
	for (size_t i = 0; i < n; i++) {
		struct tr_room *sum = strcmp(holders[i].uid, owner) == 0 ? own : others;

		*sum = add(*sum, room_of(holders[i].part));
	}
}

void tr_room_taken(const struct tr_book *book, const char *uuid, struct tr_room *out)
{
	tr_autofree struct holder *holders = tr_xcalloc(book->count + 1, sizeof(*holders));
	size_t n = list_holders(book, uuid, NULL, 0, holders);
	struct tr_room none;

	sum_peaks(holders, n, NULL, &none, out);
}

/* Those without a limit count as no time at all, and take what they find. */
static int check_whole(const struct tr_card *card, const struct tr_room *own,
		       const struct tr_room *others, struct tr_err *err)
{
	if (card->give_cores != 100 || !own->containers)
		return 0;
	if (own->is_joined)
		return tr_fail(err, ENOSPC,
			       "card %s has no room for two containers of one pod at once: "
			       "one gets all of its time",
			       card->uuid);
	if (!others->containers)
		return 0;
	if (own->is_whole)
		return tr_fail(err, ENOSPC,
			       "card %s has no room for one that gets all of its time: %u "
			       "containers of other pods are on it",
			       card->uuid, others->containers);
	if (others->is_whole)
		return tr_fail(err, ENOSPC,
			       "card %s has no room: another pod has all of its time",
			       card->uuid);
	return 0;
}

static bool fits(const struct tr_card *card, const struct tr_room *own,
		 const struct tr_room *others)
{
	struct tr_room all = add(*others, *own);

	return all.bytes <= card->give_bytes && all.cores <= card->give_cores &&
	       all.containers <= card->split;
}

/* ADDED is of one pod. */
static int check_card(const struct tr_book *book, const struct tr_card *card,
		      const struct tr_room_row *added, size_t count, struct tr_err *err)
{
	tr_autofree struct holder *holders = tr_xcalloc(book->count + count + 1,
							sizeof(*holders));
	size_t n = list_holders(book, card->uuid, added, count, holders);
	struct tr_room own, others, all;
	char taken[TR_BYTES_TEXT], asked[TR_BYTES_TEXT], gives[TR_BYTES_TEXT];

	/* Mostly there is room for all at once, and nobody has to be put in order. */
	sum_all(holders, n, added[0].uid, &own, &others);
	if (own.is_whole || !fits(card, &own, &others))
		sum_peaks(holders, n, added[0].uid, &own, &others);
	if (fits(card, &own, &others))
		return check_whole(card, &own, &others, err);
	all = add(others, own);
	tr_bytes_print(taken, others.bytes);
	tr_bytes_print(asked, own.bytes);
	tr_bytes_print(gives, card->give_bytes);
	if (all.bytes > card->give_bytes)
		return tr_fail(err, ENOSPC,
			       "card %s has no room for %s of one pod: %s of %s are taken "
			       "by others",
			       card->uuid, asked, taken, gives);
	if (all.cores > card->give_cores)
		return tr_fail(
			err, ENOSPC,
			"card %s has no room for %u percent of its time for one pod: "
			"%u of %u are taken by others",
			card->uuid, own.cores, others.cores, card->give_cores);
	return tr_fail(err, ENOSPC,
		       "card %s has no room for %u containers of one pod: %u of %u places "
		       "are taken by others",
		       card->uuid, own.containers, others.containers, card->split);
}

/*
 * Would ADDED, which are all in the place of others, have more of the card than those have? What a card gives may
 * have become less since it was given out: then nobody gets more, and everybody may give back.
 */
static bool takes_more(const struct tr_book *book, const char *uuid,
		       const struct tr_room_row *added, size_t count)
{
	size_t room = book->count + count + 1, n;
	tr_autofree struct holder *holders = tr_xcalloc(room, sizeof(*holders));
	tr_autofree struct tr_room_row *was = tr_xcalloc(count, sizeof(*was));
	struct tr_room before, after, others;

	for (size_t i = 0; i < count; i++) {
		if (!added[i].instead)
			return true;
		was[i] = added[i];
		was[i].parts = added[i].instead->parts;
		was[i].part_count = added[i].instead->part_count;
	}
	n = list_holders(book, uuid, was, count, holders);
	sum_peaks(holders, n, added[0].uid, &before, &others);
	n = list_holders(book, uuid, added, count, holders);
	sum_peaks(holders, n, added[0].uid, &after, &others);
	return after.bytes > before.bytes || after.cores > before.cores ||
	       after.containers > before.containers;
}

int tr_room_check(const struct tr_book *book, const struct tr_cards *cards,
		  const struct tr_room_row *added, size_t count, struct tr_err *err)
{
	for (size_t i = 0; i < count; i++)
		for (size_t p = 0; p < added[i].part_count; p++) {
			const char *uuid = added[i].parts[p].uuid;
			const struct tr_card *card = tr_card_find(cards, uuid);
			bool is_done = false;
			int r;

			/* Each card once. */
			for (size_t k = 0; k < i && !is_done; k++)
				is_done = part_on(added[k].parts, added[k].part_count,
						  uuid) != NULL;
			if (is_done)
				continue;
			if (!card)
				return tr_fail(err, ENODEV, "card %s is not on this node",
					       uuid);
			if (!takes_more(book, uuid, added, count))
				continue;
			r = check_card(book, card, added, count, err);
			if (r < 0)
				return r;
		}
	return 0;
}
