/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuInit, contexts and their limits.
 *
 * A context takes memory that no call names. Until a keeper has measured it, its floor
 * stands for it: reserved before the driver makes the context, one floor each (later
 * contexts of a device cost the driver less; the safe side), given back when the context is
 * gone. Primary contexts are in primary_calls.c.
 *
 * cuCtxSetLimit: what a limit grows by is reserved like an allocation, and goes with the
 * context.
 */
#include <stdatomic.h>
#include <string.h>

#include "attach.h"
#include "contexts.h"
#include "lock.h"
#include "marks.h"
#include "pace.h"
#include "reserves.h"
#include "rt/sat.h"
#include "trace.h"

#define CONTEXTS_MAX    512u
#define STACK_MAX_BYTES (UINT64_C(512) << 10) /* local memory of a thread, at most */

static struct tr_lock contexts_lock;
static struct tr_context contexts[CONTEXTS_MAX];
static atomic_bool is_overfull; /* a context was made that has no row */

void tr_contexts_forget(void)
{
	memset(contexts, 0, sizeof(contexts));
	atomic_store(&is_overfull, false);
	tr_unlock(&contexts_lock);
	tr_primaries_forget();
}

/* ---- the table ----------------------------------------------------------------------- */

static struct tr_context *row_of(CUcontext ctx)
{
	unsigned i;

	for (i = 0; i < CONTEXTS_MAX; i++)
		if (contexts[i].ctx == ctx)
			return &contexts[i];
	return NULL;
}

bool tr_context_put(const struct tr_context *c)
{
	struct tr_context *row;
	unsigned i;

	tr_lock(&contexts_lock);
	row = row_of(c->ctx);
	if (row) {
		for (i = 0; i < TR_LIMIT_KINDS; i++)
			row->limit_bytes[i] += c->limit_bytes[i];
	} else {
		row = row_of(NULL);
		if (row)
			*row = *c;
	}
	tr_unlock(&contexts_lock);
	if (!row)
		atomic_store(&is_overfull, true);
	return row != NULL;
}

bool tr_context_take(CUcontext ctx, struct tr_context *out)
{
	struct tr_context *row;

	if (!ctx)
		return false;
	tr_lock(&contexts_lock);
	row = row_of(ctx);
	if (row) {
		*out = *row;
		memset(row, 0, sizeof(*row));
	}
	tr_unlock(&contexts_lock);
	return row != NULL;
}

bool tr_context_is_own(CUcontext ctx)
{
	const struct tr_context *row;
	bool is_own;

	tr_lock(&contexts_lock);
	row = row_of(ctx);
	is_own = row && !row->is_primary;
	tr_unlock(&contexts_lock);
	/* Not known for certain any more: then nothing ends with a primary context. */
	return is_own || atomic_load(&is_overfull);
}

/* ---- floors -------------------------------------------------------------------------- */

uint64_t tr_context_floor(tr_dev dev, CUdevice ordinal)
{
	int major = 0;

	if (tr_self.has_page)
		return atomic_load_explicit(
			&tr_self.page.map->devices[dev.at].context_floor_bytes,
			memory_order_relaxed);
	if (tr_real.cuDeviceGetAttribute)
		(void)tr_real.cuDeviceGetAttribute(
			&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, ordinal);
	return tr_context_floor_bytes(major);
}

static bool reserve(tr_dev dev, enum tr_word word, uint64_t bytes)
{
	uint64_t limit = tr_limit_bytes(dev);

	if (!bytes || tr_ledger_reserve(&tr_self.ledger, dev, word, bytes, limit) == 0 ||
	    tr_ledger_reserve_slowly(&tr_self.ledger, tr_self.seat.path, dev, word, bytes,
				     limit) == 0)
		return true;
	tr_ledger_refused(&tr_self.ledger, dev, bytes);
	tr_trace("refused %llu bytes for a context", (unsigned long long)bytes);
	return false;
}

void tr_context_refund(tr_dev dev, enum tr_word word, uint64_t bytes)
{
	if (bytes)
		tr_ledger_refund(&tr_self.ledger, dev, word, bytes);
}

void tr_context_count(int by)
{
	struct tr_state_slot *slot = &tr_self.ledger.state->slots[tr_self.ledger.slot.at];

	tr_pace_stop_all(); /* another context may be current now */
	if (by > 0)
		atomic_fetch_add(&slot->contexts, 1);
	else
		atomic_fetch_sub(&slot->contexts, 1);
}

CUresult tr_context_before(CUdevice ordinal, struct tr_context *c, bool *is_ours)
{
	CUresult res;

	memset(c, 0, sizeof(*c));
	res = tr_device_of(ordinal, &c->dev);
	*is_ours = res == CUDA_SUCCESS;
	if (res != CUDA_SUCCESS)
		return res == CUDA_ERROR_NOT_PERMITTED ? res : CUDA_SUCCESS;
	c->floor_bytes = tr_context_floor(c->dev, ordinal);
	return reserve(c->dev, TR_FLOOR, c->floor_bytes) ? CUDA_SUCCESS
							 : CUDA_ERROR_OUT_OF_MEMORY;
}

static void after_context(CUresult res, CUcontext made, struct tr_context *c, bool is_ours)
{
	if (!is_ours)
		return;
	if (res != CUDA_SUCCESS) {
		tr_context_refund(c->dev, TR_FLOOR, c->floor_bytes);
		return;
	}
	c->ctx = made;
	tr_context_count(1);
	(void)tr_context_put(c);
}

/* ---- ends ---------------------------------------------------------------------------- */

void tr_ending_begin(struct tr_ending *ending, CUcontext ctx, const tr_dev *primary_of)
{
	ending->is_known = tr_context_take(ctx, &ending->c);
	tr_leaving_begin(&ending->leaving, ctx, primary_of);
	ending->ctx = ctx;
	ending->marks = tr_marks_leave(ctx);
}

void tr_ending_stays(const struct tr_ending *ending)
{
	tr_leaving_stays(&ending->leaving);
	tr_marks_stay(ending->marks, ending->ctx);
	if (ending->is_known)
		(void)tr_context_put(&ending->c);
}

void tr_ending_gone(struct tr_ending *ending)
{
	unsigned i;

	tr_objects_context_gone(&ending->leaving);
	tr_marks_gone(ending->marks);
	if (!ending->is_known)
		return;
	for (i = 0; i < TR_LIMIT_KINDS; i++)
		tr_context_refund(ending->c.dev, TR_USED, ending->c.limit_bytes[i]);
	tr_context_refund(ending->c.dev, TR_FLOOR, ending->c.floor_bytes);
	if (!ending->c.is_primary)
		tr_context_count(-1);
}

/* ---- start --------------------------------------------------------------------------- */

/* Refused before the driver starts: a policy that cannot be held is not let run without. */
CUresult cuInit(unsigned int flags)
{
	if (tr_attach_seat() < 0)
		return CUDA_ERROR_NOT_PERMITTED;
	return tr_real.cuInit(flags);
}

/* ---- contexts by hand ---------------------------------------------------------------- */

/* The versions differ in what stands before the device only. */
#define CREATE(symbol, ctx, ordinal, ...)                                                  \
	do {                                                                               \
		struct tr_context c_;                                                      \
		bool is_ours_;                                                             \
		CUresult res_;                                                             \
                                                                                           \
		if (!tr_enter())                                                           \
			return tr_real.symbol(__VA_ARGS__);                                \
		res_ = tr_context_before(ordinal, &c_, &is_ours_);                         \
		if (res_ == CUDA_SUCCESS) {                                                \
			res_ = tr_real.symbol(__VA_ARGS__);                                \
			after_context(res_, res_ == CUDA_SUCCESS && (ctx) ? *(ctx) : NULL, \
				      &c_, is_ours_);                                      \
		}                                                                          \
		tr_leave();                                                                \
		return res_;                                                               \
	} while (0)

CUresult cuCtxCreate(CUcontext *ctx, unsigned int flags, CUdevice dev)
{
	CREATE(cuCtxCreate, ctx, dev, ctx, flags, dev);
}

CUresult cuCtxCreate_v2(CUcontext *ctx, unsigned int flags, CUdevice dev)
{
	CREATE(cuCtxCreate_v2, ctx, dev, ctx, flags, dev);
}

CUresult cuCtxCreate_v3(CUcontext *ctx, CUexecAffinityParam *params, int count,
			unsigned int flags, CUdevice dev)
{
	CREATE(cuCtxCreate_v3, ctx, dev, ctx, params, count, flags, dev);
}

CUresult cuCtxCreate_v4(CUcontext *ctx, CUctxCreateParams *params, unsigned int flags,
			CUdevice dev)
{
	CREATE(cuCtxCreate_v4, ctx, dev, ctx, params, flags, dev);
}

static CUresult destroy(CUresult (*driver)(CUcontext), CUcontext ctx)
{
	struct tr_ending ending;
	CUresult res;

	if (!tr_enter())
		return driver(ctx);
	tr_ending_begin(&ending, ctx, NULL);
	res = driver(ctx);
	if (res == CUDA_SUCCESS) {
		tr_ending_gone(&ending);
		tr_reserves_context_gone(NULL);
	} else {
		tr_ending_stays(&ending);
	}
	tr_leave();
	return res;
}

CUresult cuCtxDestroy(CUcontext ctx)
{
	return destroy(tr_real.cuCtxDestroy, ctx);
}

CUresult cuCtxDestroy_v2(CUcontext ctx)
{
	return destroy(tr_real.cuCtxDestroy_v2, ctx);
}

/* BY more references to CTX beyond the first. False: not known, or there would be less than
 * none. */
static bool attach(CUcontext ctx, int by)
{
	struct tr_context *row;
	bool is_done;

	tr_lock(&contexts_lock);
	row = ctx ? row_of(ctx) : NULL;
	is_done = row && (by > 0 || row->attached > 0);
	if (is_done)
		row->attached += (unsigned)by;
	tr_unlock(&contexts_lock);
	return is_done;
}

/* Counted before the driver is asked: a detach in another thread must not take itself for
 * the last one. */
CUresult cuCtxAttach(CUcontext *ctx, unsigned int flags)
{
	CUcontext now = NULL;
	bool is_counted;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuCtxAttach(ctx, flags);
	is_counted = tr_real.cuCtxGetCurrent(&now) == CUDA_SUCCESS && attach(now, 1);
	res = tr_real.cuCtxAttach(ctx, flags);
	if (is_counted && res != CUDA_SUCCESS)
		(void)attach(now, -1);
	tr_leave();
	return res;
}

CUresult cuCtxDetach(CUcontext ctx)
{
	CUresult res;

	if (!tr_enter())
		return tr_real.cuCtxDetach(ctx);
	if (attach(ctx, -1)) {
		res = tr_real.cuCtxDetach(ctx);
		if (res != CUDA_SUCCESS)
			(void)attach(ctx, 1);
	} else if (tr_context_is_own(ctx)) {
		tr_leave();
		return destroy(tr_real.cuCtxDetach, ctx);
	} else {
		res = tr_real.cuCtxDetach(ctx);
	}
	tr_leave();
	return res;
}

/* ---- limits -------------------------------------------------------------------------- */

/* What one byte of the limit costs: stacks are made for every thread that can be resident.
 */
static uint64_t limit_factor(CUlimit limit)
{
	int sms = 0, threads = 0;
	CUdevice ordinal;

	if (limit != CU_LIMIT_STACK_SIZE)
		return 1;
	if (!tr_real.cuDeviceGetAttribute ||
	    tr_real.cuCtxGetDevice(&ordinal) != CUDA_SUCCESS)
		return 0;
	(void)tr_real.cuDeviceGetAttribute(&sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
					   ordinal);
	(void)tr_real.cuDeviceGetAttribute(
		&threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, ordinal);
	return sms > 0 && threads > 0 ? (uint64_t)sms * (uint64_t)threads : 0;
}

/* What the row of CTX is charged for KIND goes from BEFORE to AFTER; says how much of that
 * is to be given back. In one step: another thread may set a limit of the same context. */
static bool change_row(CUcontext ctx, unsigned kind, uint64_t before_bytes,
		       uint64_t after_bytes, uint64_t *back_bytes)
{
	struct tr_context *row;

	tr_lock(&contexts_lock);
	row = row_of(ctx);
	if (row && after_bytes >= before_bytes) {
		row->limit_bytes[kind] = tr_sat_add(row->limit_bytes[kind],
						    after_bytes - before_bytes);
	} else if (row) {
		*back_bytes = before_bytes - after_bytes;
		if (*back_bytes > row->limit_bytes[kind])
			*back_bytes = row->limit_bytes[kind];
		row->limit_bytes[kind] -= *back_bytes;
	}
	tr_unlock(&contexts_lock);
	return row != NULL;
}

/* What the context of CTX is charged for KIND from now on. */
static void book_limit(CUcontext ctx, tr_dev dev, unsigned kind, uint64_t before_bytes,
		       uint64_t after_bytes)
{
	/* Without a row yet: nobody made it by hand. */
	struct tr_context c = { .ctx = ctx, .dev = dev, .is_primary = true };
	uint64_t back_bytes = 0;

	if (change_row(ctx, kind, before_bytes, after_bytes, &back_bytes)) {
		tr_context_refund(dev, TR_USED, back_bytes);
	} else if (after_bytes > before_bytes) {
		c.limit_bytes[kind] = after_bytes - before_bytes;
		(void)tr_context_put(&c);
	}
}

/* True: the driver does not take VALUE, and RES is why. More than it documents is asked of
 * it before the ledger, for its own error; should it take it, that is undone. */
static bool is_refused(CUlimit limit, size_t value, size_t now, CUresult *res)
{
	if (limit != CU_LIMIT_STACK_SIZE || value <= STACK_MAX_BYTES)
		return false;
	*res = tr_real.cuCtxSetLimit(limit, value);
	if (*res == CUDA_SUCCESS)
		*res = tr_real.cuCtxSetLimit(limit, now);
	return *res != CUDA_SUCCESS;
}

static CUresult set_limit(CUlimit limit, size_t value)
{
	uint64_t factor = limit_factor(limit), before_bytes, want_bytes, after_bytes, more;
	size_t now = 0;
	CUcontext ctx;
	tr_dev dev;
	CUresult res = tr_device_current(&dev, &ctx);

	if (res == CUDA_ERROR_NOT_PERMITTED)
		return res;
	if (res != CUDA_SUCCESS || !tr_real.cuCtxGetLimit ||
	    tr_real.cuCtxGetLimit(&now, limit) != CUDA_SUCCESS)
		return tr_real.cuCtxSetLimit(limit, value); /* its own error */
	if (is_refused(limit, value, now, &res))
		return res;
	before_bytes = tr_sat_mul(now, factor);
	want_bytes = tr_sat_mul(value, factor);
	more = tr_sat_sub(want_bytes, before_bytes);
	if (!reserve(dev, TR_USED, more))
		return CUDA_ERROR_OUT_OF_MEMORY;
	res = tr_real.cuCtxSetLimit(limit, value);
	if (res != CUDA_SUCCESS || tr_real.cuCtxGetLimit(&now, limit) != CUDA_SUCCESS) {
		tr_context_refund(dev, TR_USED, more);
		return res;
	}
	/* The driver may round, up or down. */
	after_bytes = tr_sat_mul(now, factor);
	if (after_bytes > want_bytes && after_bytes > before_bytes)
		tr_ledger_add(&tr_self.ledger, dev, TR_USED,
			      after_bytes - (want_bytes > before_bytes ? want_bytes
								       : before_bytes));
	else if (more && after_bytes < want_bytes)
		tr_context_refund(dev, TR_USED,
				  want_bytes - (after_bytes > before_bytes ? after_bytes
									   : before_bytes));
	book_limit(ctx, dev, (unsigned)limit, before_bytes, after_bytes);
	return res;
}

_Static_assert(CU_LIMIT_STACK_SIZE == 0 && CU_LIMIT_PRINTF_FIFO_SIZE == 1 &&
		       CU_LIMIT_MALLOC_HEAP_SIZE == 2,
	       "rows of limit_bytes");

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
	CUresult res;

	if ((unsigned)limit >= TR_LIMIT_KINDS || !tr_enter())
		return tr_real.cuCtxSetLimit(limit, value);
	res = set_limit(limit, value);
	tr_leave();
	return res;
}
