/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_STORE_H
#define TR_KUBE_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "kube/object.h"

/* Objects by namespace and name, each one once. Zeroed is empty. One thread. */
struct tr_store {
	struct tr_object **buckets;
	size_t bucket_count, count;
};

struct tr_object *tr_store_find(const struct tr_store *s, const char *space,
				const char *name);
/* Takes O over; returns the one of that name that it replaced, now the caller's, or NULL. */
struct tr_object *tr_store_put(struct tr_store *s, struct tr_object *o);
/* Takes the one of that name out, now the caller's, or NULL. */
struct tr_object *tr_store_take(struct tr_store *s, const char *space, const char *name);
/* Takes one out that was not put or marked in ROUND, or NULL: what a new list no longer has. */
struct tr_object *tr_store_take_older(struct tr_store *s, uint32_t round, size_t *at);
/* The next one after AT buckets' worth of them; start with *AT 0 and O NULL. Do not change the store
 * meanwhile. */
struct tr_object *tr_store_next(const struct tr_store *s, const struct tr_object *o,
				size_t *at);
void tr_store_free(struct tr_store *s);

#endif /* TR_KUBE_STORE_H */
