/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_CHARGE_H
#define TR_HOOK_CHARGE_H

#include "hook.h"
#include "objects.h"

/* What the bodies of the memory rows share beyond hook.h: reserve, call, keep; take, call,
 * let go. */

/* The driver said out of memory though the slice has room: memory of a process that was
 * just killed may still be on its way back. True after a pause that makes another try worth
 * while; TRIES starts at 0. */
bool tr_charge_should_retry(CUresult res, unsigned *tries);

/* The charge becomes the entry of KEY. OUT_OF_MEMORY when there is no memory for the table;
 * the caller undoes the allocation and refunds: nothing is ever held uncounted. */
CUresult tr_charge_keep(struct tr_charge *charge, enum tr_kind kind, uint64_t key);

/* The number of CTX on DEV, made where it has none yet. */
uint16_t tr_charge_owner(CUcontext ctx, tr_dev dev);

/* KEY is about to be freed in the driver; tr_release_end() says how that went. */
struct tr_release {
	uint64_t key;
	bool is_known;
	struct tr_object object;
};
void tr_release_begin(struct tr_release *release, uint64_t key, enum tr_kind kind);
void tr_release_end(struct tr_release *release, CUresult res);

/* Gives back what OBJECT cost. */
void tr_object_discharge(const struct tr_object *object);

/* Pinned host memory: a metric of the slot. */
void tr_pinned_add(uint64_t bytes);
void tr_pinned_subtract(uint64_t bytes);

#endif /* TR_HOOK_CHARGE_H */
