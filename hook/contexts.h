/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_CONTEXTS_H
#define TR_HOOK_CONTEXTS_H

#include "hook.h"
#include "objects.h"

/* What the files about contexts share: the table of those the program made, and floors. */
#define TR_LIMIT_KINDS 3u /* stack, printf, heap */

struct tr_context {
	CUcontext ctx; /* NULL: the row is free */
	tr_dev dev;
	unsigned attached; /* cuCtxAttach beyond the first */
	bool is_primary;   /* its floor is the device's */
	uint64_t floor_bytes;
	uint64_t limit_bytes[TR_LIMIT_KINDS];
};

/* False when the table is full: then nothing of this context is ever given back. Limits of
 * one context that two threads put are added up. */
bool tr_context_put(const struct tr_context *c);
bool tr_context_take(CUcontext ctx, struct tr_context *out);

/* Before a driver call that makes a context on ORDINAL. The driver's own error for a device
 * that is none: then IS_OURS is false, and the driver is called to give it. */
CUresult tr_context_before(CUdevice ordinal, struct tr_context *c, bool *is_ours);
uint64_t tr_context_floor(tr_dev dev, CUdevice ordinal);
void tr_context_count(int by);
void tr_context_refund(tr_dev dev, enum tr_word word, uint64_t bytes);

/* Around a driver call that may end a context. */
struct tr_ending {
	bool is_known;
	struct tr_context c;
	struct tr_leaving leaving;
	struct tr_marks *marks;
	CUcontext ctx;
};
/* CTX; with PRIMARY_OF that device's primary context, whose handle CTX is. */
void tr_ending_begin(struct tr_ending *ending, CUcontext ctx, const tr_dev *primary_of);
void tr_ending_stays(const struct tr_ending *ending);
/* The driver has let go of it: so does the ledger. */
void tr_ending_gone(struct tr_ending *ending);

void tr_primaries_forget(void);

#endif /* TR_HOOK_CONTEXTS_H */
