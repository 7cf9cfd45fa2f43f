/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/arm/book.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/pods.h"

/* ---- one allocation ---- */

void tr_alloc_name(char out[static TR_ALLOC_NAME], uint64_t serial)
{
	(void)snprintf(out, TR_ALLOC_NAME, "s%016" PRIx64, serial);
}

int tr_alloc_name_parse(const char *name, uint64_t *serial)
{
	uint64_t n = 0;

	if (name[0] != 's' || strlen(name) != 17)
		return -EINVAL;
	for (const char *at = name + 1; *at; at++) {
		if (*at >= '0' && *at <= '9')
			n = n << 4 | (uint64_t)(*at - '0');
		else if (*at >= 'a' && *at <= 'f')
			n = n << 4 | (uint64_t)(*at - 'a' + 10);
		else
			return -EINVAL;
	}
	if (!n)
		return -EINVAL;
	*serial = n;
	return 0;
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_ids(struct tr_alloc *alloc)
{
	for (size_t i = 0; i < alloc->id_count; i++)
		free(alloc->ids[i]);
	free(alloc->ids);
	alloc->ids = NULL;
	alloc->id_count = 0;
}

uint64_t tr_ids_hash(const struct tr_ids *ids)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < ids->count; i++)
		sum += tr_id_hash(ids->ids[i]);
	return sum;
}

void tr_alloc_set_ids(struct tr_alloc *alloc, const char *const *ids, size_t count)
{
	free_ids(alloc);
	alloc->ids = tr_xcalloc(count + 1, sizeof(*alloc->ids));
	alloc->id_count = count;
	alloc->ids_hash = tr_ids_hash(&(struct tr_ids){ ids, count });
	for (size_t i = 0; i < count; i++)
		alloc->ids[i] = tr_xstrdup(ids[i]);
	qsort(alloc->ids, count, sizeof(*alloc->ids), compare_texts);
}

void tr_alloc_set_parts(struct tr_alloc *alloc, const struct tr_alloc_part *parts,
			size_t count)
{
	struct tr_alloc_part *copy = tr_xcalloc(count + 1, sizeof(*copy));

	if (count)
		memcpy(copy, parts, count * sizeof(*copy));
	free(alloc->parts);
	alloc->parts = copy;
	alloc->part_count = count;
}

struct tr_alloc *tr_alloc_new(const struct tr_book *book, const struct tr_ids *ids,
			      int64_t unix_us)
{
	struct tr_alloc *alloc = tr_xcalloc(1, sizeof(*alloc));

	/* By the clock, so that a serial is new also when all records are lost: the runtime may know an old
	 * name. Above all seen, so that a clock set back changes no order. */
	alloc->serial = unix_us > 0 ? (uint64_t)unix_us : 1;
	if (alloc->serial <= book->last_serial)
		alloc->serial = book->last_serial + 1;
	alloc->made_unix_s = unix_us / 1000000;
	tr_alloc_name(alloc->name, alloc->serial);
	tr_alloc_set_ids(alloc, ids->ids, ids->count);
	return alloc;
}

void tr_alloc_free(struct tr_alloc *alloc)
{
	if (!alloc)
		return;
	free_ids(alloc);
	free(alloc->parts);
	free(alloc);
}

bool tr_alloc_has_id(const struct tr_alloc *alloc, const char *id)
{
	return bsearch(&id, alloc->ids, alloc->id_count, sizeof(*alloc->ids),
		       compare_texts) != NULL;
}

bool tr_alloc_has_ids(const struct tr_alloc *alloc, const struct tr_ids *ids)
{
	if (ids->count != alloc->id_count)
		return false;
	for (size_t i = 0; i < ids->count; i++)
		if (!tr_alloc_has_id(alloc, ids->ids[i]))
			return false;
	return true;
}

bool tr_alloc_shares_ids(const struct tr_alloc *alloc, const struct tr_ids *ids)
{
	for (size_t i = 0; i < ids->count; i++)
		if (tr_alloc_has_id(alloc, ids->ids[i]))
			return true;
	return false;
}

/* ---- the book ---- */

void tr_book_free(struct tr_book *book)
{
	while (book->first)
		tr_book_remove(book, book->first);
	*book = (struct tr_book){ 0 };
}

/* Its ids do not change while it is in the book. */
static struct tr_alloc **alike(struct tr_book *book, uint64_t ids_hash)
{
	return &book->alike[ids_hash % TR_BOOK_PLACES];
}

static void add_alike(struct tr_book *book, struct tr_alloc *alloc)
{
	struct tr_alloc **link = alike(book, alloc->ids_hash);

	while (*link && (*link)->serial > alloc->serial)
		link = &(*link)->next_alike;
	alloc->next_alike = *link;
	*link = alloc;
}

static void remove_alike(struct tr_book *book, const struct tr_alloc *alloc)
{
	struct tr_alloc **link = alike(book, alloc->ids_hash);

	while (*link != alloc)
		link = &(*link)->next_alike;
	*link = alloc->next_alike;
}

int tr_book_add(struct tr_book *book, struct tr_alloc *alloc)
{
	struct tr_alloc **link = &book->first;

	while (*link && (*link)->serial < alloc->serial)
		link = &(*link)->next;
	if (*link && (*link)->serial == alloc->serial)
		return -EEXIST;
	alloc->next = *link;
	*link = alloc;
	add_alike(book, alloc);
	book->count++;
	if (book->last_serial < alloc->serial)
		book->last_serial = alloc->serial;
	return 0;
}

void tr_book_remove(struct tr_book *book, struct tr_alloc *alloc)
{
	struct tr_alloc **link = &book->first;

	while (*link != alloc)
		link = &(*link)->next;
	*link = alloc->next;
	remove_alike(book, alloc);
	book->count--;
	tr_alloc_free(alloc);
}

struct tr_alloc *tr_book_next(const struct tr_book *book, const struct tr_alloc *after)
{
	return after ? after->next : book->first;
}

struct tr_alloc *tr_book_find(const struct tr_book *book, const char *name)
{
	for (struct tr_alloc *a = book->first; a; a = a->next)
		if (strcmp(a->name, name) == 0)
			return a;
	return NULL;
}

struct tr_alloc *tr_book_of(const struct tr_book *book, const char *uid,
			    const char *container)
{
	struct tr_alloc *found = NULL;

	for (struct tr_alloc *a = book->first; a; a = a->next)
		if (a->state == TR_ALLOC_ARMED && !a->is_retired &&
		    strcmp(a->uid, uid) == 0 && strcmp(a->container, container) == 0)
			found = a;
	return found;
}

struct tr_alloc *tr_book_newest(const struct tr_book *book, const struct tr_ids *ids)
{
	uint64_t hash = tr_ids_hash(ids);
	struct tr_alloc *a = book->alike[hash % TR_BOOK_PLACES];

	while (a && (a->ids_hash != hash || a->is_retired || !tr_alloc_has_ids(a, ids)))
		a = a->next_alike;
	return a;
}
