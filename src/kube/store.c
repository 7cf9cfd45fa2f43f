/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/store.h"

#include <string.h>

#include "base/mem.h"

#define BUCKETS_MIN 64u

/* FNV-1a over both names. Names come from the API server, which tenants can fill; a crowded bucket
 * costs time in proportion to a namespace's quota of objects and nothing else. */
static uint32_t hash_of(const char *space, const char *name)
{
	uint32_t h = 2166136261u;

	for (; *space; space++)
		h = (h ^ (unsigned char)*space) * 16777619u;
	h = (h ^ '/') * 16777619u;
	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return h;
}

static struct tr_object **place_of(const struct tr_store *s, uint32_t hash,
				   const char *space, const char *name)
{
	struct tr_object **at = &s->buckets[hash & (s->bucket_count - 1)];

	while (*at && ((*at)->hash != hash || strcmp((*at)->name, name) != 0 ||
		       strcmp((*at)->space, space) != 0))
		at = &(*at)->next;
	return at;
}

static void grow(struct tr_store *s)
{
	size_t n = s->bucket_count ? s->bucket_count * 2 : BUCKETS_MIN;
	struct tr_object **buckets = tr_xcalloc(n, sizeof(void *));

	for (size_t i = 0; i < s->bucket_count; i++)
		for (struct tr_object *o = s->buckets[i], *next; o; o = next) {
			next = o->next;
			o->next = buckets[o->hash & (n - 1)];
			buckets[o->hash & (n - 1)] = o;
		}
	free(s->buckets);
	s->buckets = buckets;
	s->bucket_count = n;
}

struct tr_object *tr_store_find(const struct tr_store *s, const char *space,
				const char *name)
{
	return s->count ? *place_of(s, hash_of(space, name), space, name) : NULL;
}

struct tr_object *tr_store_put(struct tr_store *s, struct tr_object *o)
{
	struct tr_object **at, *old;

	if (s->count >= s->bucket_count)
		grow(s);
	o->hash = hash_of(o->space, o->name);
	at = place_of(s, o->hash, o->space, o->name);
	old = *at;
	o->next = old ? old->next : NULL;
	*at = o;
	s->count += !old;
	return old;
}

struct tr_object *tr_store_take(struct tr_store *s, const char *space, const char *name)
{
	struct tr_object **at, *o;

	if (!s->count)
		return NULL;
	at = place_of(s, hash_of(space, name), space, name);
	o = *at;
	if (o) {
		*at = o->next;
		s->count--;
	}
	return o;
}

struct tr_object *tr_store_take_older(struct tr_store *s, uint32_t round, size_t *bucket)
{
	for (; *bucket < s->bucket_count; (*bucket)++)
		for (struct tr_object **at = &s->buckets[*bucket]; *at; at = &(*at)->next)
			if ((*at)->round != round) {
				struct tr_object *o = *at;

				*at = o->next;
				s->count--;
				return o;
			}
	return NULL;
}

struct tr_object *tr_store_next(const struct tr_store *s, const struct tr_object *o,
				size_t *at)
{
	struct tr_object *next = o ? o->next : NULL;

	while (!next && *at < s->bucket_count)
		next = s->buckets[(*at)++];
	return next;
}

void tr_store_free(struct tr_store *s)
{
	for (size_t i = 0; i < s->bucket_count; i++)
		for (struct tr_object *o = s->buckets[i], *next; o; o = next) {
			next = o->next;
			free(o);
		}
	free(s->buckets);
	*s = (struct tr_store){ 0 };
}
