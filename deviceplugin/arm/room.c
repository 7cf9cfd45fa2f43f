/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
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
	return (struct tr_room){ tr_sat_add(a.bytes, b.bytes), a.cores + b.cores,
				 a.containers + b.containers };
}

static void lift(struct tr_room *most, struct tr_room now)
{
	if (most->bytes < now.bytes)
		most->bytes = now.bytes;
	if (most->cores < now.cores)
		most->cores = now.cores;
	if (most->containers < now.containers)
		most->containers = now.containers;
}

/* Containers come in the order of their index. */
static void peak_add(struct peak *peak, enum tr_container_kind kind,
		     const struct tr_alloc_part *part)
{
	struct tr_room now = { part->limit_bytes, part->cores, 1 };

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

/* The pod's first container from *INDEX on that has something, or gets it. */
static bool next_index(const struct tr_book *book, const char *uid,
		       const struct tr_room_row *added, size_t count, unsigned *index)
{
	unsigned from = *index;
	bool is_found = false;

	for (const struct tr_alloc *a = book->first; a; a = a->next)
		if (a->state == TR_ALLOC_ARMED && a->index >= from &&
		    (!is_found || a->index < *index) && strcmp(a->uid, uid) == 0) {
			*index = a->index;
			is_found = true;
		}
	for (size_t i = 0; i < count; i++)
		if (added[i].index >= from && (!is_found || added[i].index < *index)) {
			*index = added[i].index;
			is_found = true;
		}
	return is_found;
}

/* What the pod UID has armed and keeps, and ADDED, by index: not as it was allocated, for the kubelet may have
 * asked again for one container alone, or for other pods between. */
static struct tr_room taken_by_pod(const struct tr_book *book, const char *uuid,
				   const char *uid, const struct tr_room_row *added,
				   size_t count)
{
	struct peak peak = { 0 };

	for (unsigned index = 0; next_index(book, uid, added, count, &index); index++) {
		for (size_t i = 0; i < count; i++) {
			const struct tr_alloc_part *part =
				part_on(added[i].parts, added[i].part_count, uuid);

			if (added[i].index == index && part)
				peak_add(&peak, added[i].kind, part);
		}
		for (const struct tr_alloc *a = book->first; a; a = a->next) {
			const struct tr_alloc_part *part;

			if (a->state != TR_ALLOC_ARMED || a->index != index ||
			    strcmp(a->uid, uid) != 0 || is_replaced(a, added, count))
				continue;
			part = part_on(a->parts, a->part_count, uuid);
			if (part)
				peak_add(&peak, a->kind, part);
		}
	}
	return peak.most;
}

static bool is_on(const struct tr_alloc *alloc, const char *uuid)
{
	return alloc->state == TR_ALLOC_ARMED &&
	       part_on(alloc->parts, alloc->part_count, uuid);
}

/* Of those of its pod that are on the card. */
static bool is_first_of_pod(const struct tr_book *book, const struct tr_alloc *alloc,
			    const char *uuid)
{
	for (const struct tr_alloc *a = book->first; a != alloc; a = a->next)
		if (strcmp(a->uid, alloc->uid) == 0 && is_on(a, uuid))
			return false;
	return true;
}

/* Everything that is armed but for the pod UID (or NULL). */
static struct tr_room taken_by_others(const struct tr_book *book, const char *uuid,
				      const char *uid)
{
	struct tr_room sum = { 0 };

	for (const struct tr_alloc *a = book->first; a; a = a->next)
		if (is_on(a, uuid) && (!uid || strcmp(a->uid, uid) != 0) &&
		    is_first_of_pod(book, a, uuid))
			sum = add(sum, taken_by_pod(book, uuid, a->uid, NULL, 0));
	return sum;
}

void tr_room_taken(const struct tr_book *book, const char *uuid, struct tr_room *out)
{
	*out = taken_by_others(book, uuid, NULL);
}

static int check_card(const struct tr_book *book, const struct tr_card *card,
		      const struct tr_room_row *added, size_t count, struct tr_err *err)
{
	struct tr_room others = taken_by_others(book, card->uuid, added[0].uid),
		       own = taken_by_pod(book, card->uuid, added[0].uid, added, count),
		       all = add(others, own);
	char taken[TR_BYTES_TEXT], asked[TR_BYTES_TEXT], gives[TR_BYTES_TEXT];

	tr_bytes_print(taken, others.bytes);
	tr_bytes_print(asked, own.bytes);
	tr_bytes_print(gives, card->give_bytes);
	if (all.bytes > card->give_bytes)
		return tr_fail(err, ENOSPC,
			       "card %s has no room for %s: %s of %s are taken", card->uuid,
			       asked, taken, gives);
	if (all.cores > card->give_cores)
		return tr_fail(err, ENOSPC,
			       "card %s has no room for %u percent of its time: %u of %u "
			       "are taken",
			       card->uuid, own.cores, others.cores, card->give_cores);
	if (all.containers > card->split)
		return tr_fail(
			err, ENOSPC,
			"card %s has no room for %u more containers: %u of %u are on "
			"it",
			card->uuid, own.containers, others.containers, card->split);
	return 0;
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
			r = check_card(book, card, added, count, err);
			if (r < 0)
				return r;
		}
	return 0;
}
