/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_OBJECTS_H
#define TR_HOOK_OBJECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "hook.h"

/*
 * What this process holds: pointer or handle -> what it cost. 16 bytes an entry in sharded
 * open addressing, no malloc. An entry leaves the table before the driver is asked to free
 * what it stands for, because the driver may give the same pointer to another thread at
 * once; the room it had stays reserved, so that putting it back cannot fail.
 */
enum tr_kind {
	TR_KIND_NONE,
	TR_KIND_MEMORY, /* cuMemAlloc and relatives, managed memory */
	TR_KIND_POOLED, /* from a memory pool; owner: the pool */
	TR_KIND_ARRAY,
	TR_KIND_MIPMAP,
	TR_KIND_PINNED,     /* host memory of the driver: a metric */
	TR_KIND_REGISTERED, /* host memory of the caller: a metric */
	TR_KIND_HANDLE, /* of a VMM object; bytes: its number; owner: handle references */
	TR_KIND_EXEC,   /* an executable graph with memory nodes; owner: CUDA ordinal */
	TR_KIND_POOL,   /* a pool whose allocations count one by one; owner: dev is set */
};

struct tr_object {
	uint64_t
		bytes; /* multiple of TR_UNIT_BYTES, except where the kind says otherwise */
	enum tr_kind kind;
	tr_dev dev;
	uint16_t owner; /* tr_context_number(), or what the kind says */
};

#define TR_UNIT_BYTES 512u
#define TR_BYTES_MAX  (UINT64_C(1) << 48) /* no entry is this large */

/* 0, or 1 when KEY was there (the driver forgot it without us: OLD is what it was), or
 * -ENOMEM. */
int tr_objects_put(uint64_t key, const struct tr_object *object, struct tr_object *old);
/* Looks KEY up among the kinds that share KIND's name space (device pointers: MEMORY,
 * POOLED). */
bool tr_objects_find(uint64_t key, enum tr_kind kind, struct tr_object *out);
/* Finds and removes; the room stays reserved until one of the two below. */
bool tr_objects_take(uint64_t key, enum tr_kind kind, struct tr_object *out);
void tr_objects_put_back(uint64_t key, const struct tr_object *object);
void tr_objects_drop(uint64_t key, enum tr_kind kind);

/* Removes every entry that DOOMED says yes to. It runs under a lock: table work only. */
void tr_objects_sweep(bool (*doomed)(uint64_t key, const struct tr_object *object,
				     void *arg),
		      void *arg);

/* A small number for CTX, 0 where there is none left (then its end discharges nothing).
 * IS_OWN: the program made it; else it is DEV's primary context, or a green one, whose
 * memory lives and dies with the primary one. */
#define TR_CONTEXTS_MAX 512u
uint16_t tr_context_number(CUcontext ctx, tr_dev dev, bool is_own);
uint16_t tr_context_find(CUcontext ctx);

/* Do entries of this kind belong to a context? */
static inline bool tr_is_of_context(enum tr_kind kind)
{
	return kind == TR_KIND_MEMORY || kind == TR_KIND_ARRAY || kind == TR_KIND_MIPMAP ||
	       kind == TR_KIND_PINNED || kind == TR_KIND_REGISTERED;
}

/*
 * Around a driver call that may end a context: its numbers are retired before, because the
 * driver may give the same handle to another thread's new context at once. What is
 * allocated meanwhile bears another number and outlives the end.
 */
#define TR_LEAVING_MAX 16u /* more are not discharged */
struct tr_leaving {
	unsigned count;
	struct {
		uint16_t number;
		CUcontext ctx;
	} rows[TR_LEAVING_MAX];
};
/* The numbers of CTX; with PRIMARY_OF instead, of everything that ends with that device's
 * primary context. */
void tr_leaving_begin(struct tr_leaving *leaving, CUcontext ctx, const tr_dev *primary_of);
/* One of these three ends it: the context lives; it is gone and its memory is the primary
 * context's; it is gone and nothing bears the numbers any more. */
void tr_leaving_stays(const struct tr_leaving *leaving);
void tr_leaving_orphans(const struct tr_leaving *leaving);
void tr_leaving_gone(const struct tr_leaving *leaving);

/* A fork child has none of it. */
void tr_table_forget(void);

#endif /* TR_HOOK_OBJECTS_H */
