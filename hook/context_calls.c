/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuInit, contexts and their limits.
 *
 * A context takes memory that no call names. Until a keeper has measured it, its floor
 * stands for it: reserved before the driver makes the context, one floor each (later
 * contexts of a device cost the driver less; the safe side), given back when the context is
 * gone. A primary context is gone when the driver says that it is not active, whoever
 * released it last; a green context is part of the primary one and holds it.
 *
 * cuCtxSetLimit: what a limit grows by is reserved like an allocation, and goes with the
 * context.
 */
#include <stdatomic.h>
#include <string.h>

#include "attach.h"
#include "hook.h"
#include "lock.h"
#include "rt/sat.h"
#include "trace.h"

#define CONTEXTS_MAX  512u
#define PRIMARIES_MAX 64u
#define LIMIT_KINDS   3u /* stack, printf, heap */

struct context {
	CUcontext ctx; /* NULL: the row is free */
	tr_dev dev;
	unsigned attached; /* cuCtxAttach beyond the first */
	bool is_primary;   /* its floor is in primaries[] */
	uint64_t floor_bytes;
	uint64_t limit_bytes[LIMIT_KINDS];
};

static struct tr_lock contexts_lock;
static struct context contexts[CONTEXTS_MAX];

static struct primary {
	_Atomic uint64_t floor_bytes; /* reserved + 1; 0: not active, as far as we know */
	_Atomic(CUcontext) ctx;
} primaries[PRIMARIES_MAX];

void tr_contexts_forget(void)
{
	unsigned i;

	memset(contexts, 0, sizeof(contexts));
	for (i = 0; i < PRIMARIES_MAX; i++) {
		atomic_store(&primaries[i].floor_bytes, 0);
		atomic_store(&primaries[i].ctx, NULL);
	}
	atomic_store(&contexts_lock.is_held, 0);
}

/* ---- the table ----------------------------------------------------------------------- */

static struct context *row_of(CUcontext ctx)
{
	unsigned i;

	for (i = 0; i < CONTEXTS_MAX; i++)
		if (contexts[i].ctx == ctx)
			return &contexts[i];
	return NULL;
}

/* False when the table is full: then nothing of this context is ever given back. */
static bool put(const struct context *c)
{
	struct context *row;

	tr_lock(&contexts_lock);
	row = row_of(c->ctx);
	if (!row)
		row = row_of(NULL);
	if (row)
		*row = *c;
	tr_unlock(&contexts_lock);
	return row != NULL;
}

static bool take(CUcontext ctx, struct context *out)
{
	struct context *row;

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

/* ---- floors -------------------------------------------------------------------------- */

static uint64_t floor_of(tr_dev dev, CUdevice ordinal)
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

static void refund(tr_dev dev, enum tr_word word, uint64_t bytes)
{
	if (bytes)
		tr_ledger_refund(&tr_self.ledger, dev, word, bytes);
}

static void count_contexts(int by)
{
	struct tr_state_slot *slot = &tr_self.ledger.state->slots[tr_self.ledger.slot.at];

	if (by > 0)
		atomic_fetch_add(&slot->contexts, 1);
	else
		atomic_fetch_sub(&slot->contexts, 1);
}

/* Everything that went with a context, once the driver has let go of it. */
static void let_go(const struct context *c)
{
	unsigned i;

	tr_objects_context_gone(c->ctx);
	for (i = 0; i < LIMIT_KINDS; i++)
		refund(c->dev, TR_USED, c->limit_bytes[i]);
	refund(c->dev, TR_FLOOR, c->floor_bytes);
	if (!c->is_primary)
		count_contexts(-1);
}

/* Before a driver call that makes a context on ORDINAL. The driver's own error for a device
 * that is none: then IS_OURS is false, and the driver is called to give it. */
static CUresult before_context(CUdevice ordinal, struct context *c, bool *is_ours)
{
	CUresult res;

	memset(c, 0, sizeof(*c));
	res = tr_device_of(ordinal, &c->dev);
	*is_ours = res == CUDA_SUCCESS;
	if (res != CUDA_SUCCESS)
		return res == CUDA_ERROR_NOT_PERMITTED ? res : CUDA_SUCCESS;
	c->floor_bytes = floor_of(c->dev, ordinal);
	return reserve(c->dev, TR_FLOOR, c->floor_bytes) ? CUDA_SUCCESS
							 : CUDA_ERROR_OUT_OF_MEMORY;
}

static void after_context(CUresult res, CUcontext made, struct context *c, bool is_ours)
{
	if (!is_ours)
		return;
	if (res != CUDA_SUCCESS) {
		refund(c->dev, TR_FLOOR, c->floor_bytes);
		return;
	}
	c->ctx = made;
	count_contexts(1);
	(void)put(c);
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
		struct context c_;                                                         \
		bool is_ours_;                                                             \
		CUresult res_;                                                             \
                                                                                           \
		if (!tr_enter())                                                           \
			return tr_real.symbol(__VA_ARGS__);                                \
		res_ = before_context(ordinal, &c_, &is_ours_);                            \
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

/* The row leaves the table before the driver is asked: the next context may get the same
 * handle. */
static CUresult destroy(CUresult (*driver)(CUcontext), CUcontext ctx)
{
	struct context c;
	bool is_known;
	CUresult res;

	if (!tr_enter())
		return driver(ctx);
	is_known = take(ctx, &c);
	res = driver(ctx);
	if (is_known && res == CUDA_SUCCESS)
		let_go(&c);
	else if (is_known)
		(void)put(&c);
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

CUresult cuCtxAttach(CUcontext *ctx, unsigned int flags)
{
	struct context *row;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuCtxAttach(ctx, flags);
	res = tr_real.cuCtxAttach(ctx, flags);
	if (res == CUDA_SUCCESS && ctx && *ctx) {
		tr_lock(&contexts_lock);
		row = row_of(*ctx);
		if (row)
			row->attached++;
		tr_unlock(&contexts_lock);
	}
	tr_leave();
	return res;
}

CUresult cuCtxDetach(CUcontext ctx)
{
	struct context c;
	bool is_known;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuCtxDetach(ctx);
	is_known = take(ctx, &c);
	res = tr_real.cuCtxDetach(ctx);
	if (is_known && res == CUDA_SUCCESS && c.attached == 0 && !c.is_primary) {
		let_go(&c);
	} else if (is_known) {
		if (res == CUDA_SUCCESS && c.attached)
			c.attached--;
		(void)put(&c);
	}
	tr_leave();
	return res;
}

/* ---- the primary context ------------------------------------------------------------- */

static bool is_active(CUdevice ordinal)
{
	unsigned flags;
	int active = 1;

	/* Not told: believe that it lives, and keep what was reserved. */
	return !tr_real.cuDevicePrimaryCtxGetState ||
	       tr_real.cuDevicePrimaryCtxGetState(ordinal, &flags, &active) !=
		       CUDA_SUCCESS ||
	       active;
}

/* Before a call that may bring the primary context of ORDINAL to life. */
static CUresult before_primary(CUdevice ordinal, struct context *c, bool *is_ours)
{
	*is_ours = false;
	memset(c, 0, sizeof(*c));
	if ((unsigned)ordinal < PRIMARIES_MAX &&
	    atomic_load(&primaries[ordinal].floor_bytes))
		return CUDA_SUCCESS;
	return before_context(ordinal, c, is_ours);
}

static void after_primary(CUdevice ordinal, CUresult res, const struct context *c,
			  bool is_ours)
{
	uint64_t none = 0;

	if (!is_ours)
		return;
	if (res != CUDA_SUCCESS || (unsigned)ordinal >= PRIMARIES_MAX ||
	    !atomic_compare_exchange_strong(&primaries[ordinal].floor_bytes, &none,
					    c->floor_bytes + 1))
		refund(c->dev, TR_FLOOR,
		       c->floor_bytes); /* failed, or another thread's holds */
	else
		count_contexts(1);
}

/* After a call that may have been the end of the primary context. Two threads may come here
 * at once, and a third may bring the context to life again: the driver is asked once more.
 */
static void settle_primary(CUdevice ordinal, bool is_reset)
{
	struct primary *p = &primaries[ordinal];
	struct context c = { 0 };
	uint64_t was;
	tr_dev dev;

	if ((unsigned)ordinal >= PRIMARIES_MAX || !atomic_load(&p->floor_bytes) ||
	    tr_device_of(ordinal, &dev) != CUDA_SUCCESS)
		return;
	if (!is_active(ordinal)) {
		was = atomic_exchange(&p->floor_bytes, 0);
		if (was && is_active(ordinal)) {
			atomic_store(&p->floor_bytes, was);
			return;
		}
		if (was) {
			refund(dev, TR_FLOOR, was - 1);
			count_contexts(-1);
		}
	} else if (!is_reset) {
		return;
	}
	if (!take(atomic_load(&p->ctx), &c)) {
		c.ctx = atomic_load(&p->ctx);
		c.dev = dev;
		c.is_primary = true;
	}
	if (c.ctx)
		let_go(&c);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice dev)
{
	struct context c;
	bool is_ours;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuDevicePrimaryCtxRetain(ctx, dev);
	res = before_primary(dev, &c, &is_ours);
	if (res == CUDA_SUCCESS) {
		res = tr_real.cuDevicePrimaryCtxRetain(ctx, dev);
		after_primary(dev, res, &c, is_ours);
	}
	if (res == CUDA_SUCCESS && ctx && (unsigned)dev < PRIMARIES_MAX)
		atomic_store(&primaries[dev].ctx, *ctx);
	tr_leave();
	return res;
}

static CUresult end_primary(CUresult (*driver)(CUdevice), CUdevice dev, bool is_reset)
{
	CUresult res;

	if (!tr_enter())
		return driver(dev);
	res = driver(dev);
	if (res == CUDA_SUCCESS)
		settle_primary(dev, is_reset);
	tr_leave();
	return res;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice dev)
{
	return end_primary(tr_real.cuDevicePrimaryCtxRelease, dev, false);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev)
{
	return end_primary(tr_real.cuDevicePrimaryCtxRelease_v2, dev, false);
}

CUresult cuDevicePrimaryCtxReset(CUdevice dev)
{
	return end_primary(tr_real.cuDevicePrimaryCtxReset, dev, true);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev)
{
	return end_primary(tr_real.cuDevicePrimaryCtxReset_v2, dev, true);
}

/* ---- green contexts: they hold the primary one --------------------------------------- */

CUresult cuGreenCtxCreate(CUgreenCtx *ctx, CUdevResourceDesc desc, CUdevice dev,
			  unsigned int flags)
{
	struct context c;
	bool is_ours;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuGreenCtxCreate(ctx, desc, dev, flags);
	res = before_primary(dev, &c, &is_ours);
	if (res == CUDA_SUCCESS) {
		res = tr_real.cuGreenCtxCreate(ctx, desc, dev, flags);
		after_primary(dev, res, &c, is_ours);
	}
	tr_leave();
	return res;
}

CUresult cuGreenCtxDestroy(CUgreenCtx ctx)
{
	CUresult res;
	CUdevice i;

	if (!tr_enter())
		return tr_real.cuGreenCtxDestroy(ctx);
	res = tr_real.cuGreenCtxDestroy(ctx);
	for (i = 0; res == CUDA_SUCCESS && i < (CUdevice)PRIMARIES_MAX; i++)
		settle_primary(
			i,
			false); /* its device is not asked for: the few that are active */
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

/* What the context of CTX is charged for KIND from now on. */
static void book_limit(CUcontext ctx, tr_dev dev, unsigned kind, uint64_t before_bytes,
		       uint64_t after_bytes)
{
	struct context c;
	uint64_t back;

	if (!take(ctx, &c)) {
		memset(&c, 0, sizeof(c));
		c.ctx = ctx;
		c.dev = dev;
		c.is_primary = true; /* nobody made it by hand */
	}
	if (after_bytes >= before_bytes) {
		c.limit_bytes[kind] = tr_sat_add(c.limit_bytes[kind],
						 after_bytes - before_bytes);
	} else {
		back = before_bytes - after_bytes;
		if (back > c.limit_bytes[kind])
			back = c.limit_bytes[kind];
		c.limit_bytes[kind] -= back;
		refund(dev, TR_USED, back);
	}
	(void)put(&c);
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
	before_bytes = tr_sat_mul(now, factor);
	want_bytes = tr_sat_mul(value, factor);
	more = tr_sat_sub(want_bytes, before_bytes);
	if (!reserve(dev, TR_USED, more))
		return CUDA_ERROR_OUT_OF_MEMORY;
	res = tr_real.cuCtxSetLimit(limit, value);
	if (res != CUDA_SUCCESS || tr_real.cuCtxGetLimit(&now, limit) != CUDA_SUCCESS) {
		refund(dev, TR_USED, more);
		return res;
	}
	/* The driver may round, up or down. */
	after_bytes = tr_sat_mul(now, factor);
	if (after_bytes > want_bytes && after_bytes > before_bytes)
		tr_ledger_add(&tr_self.ledger, dev, TR_USED,
			      after_bytes - (want_bytes > before_bytes ? want_bytes
								       : before_bytes));
	else if (more && after_bytes < want_bytes)
		refund(dev, TR_USED,
		       want_bytes -
			       (after_bytes > before_bytes ? after_bytes : before_bytes));
	book_limit(ctx, dev, (unsigned)limit, before_bytes, after_bytes);
	return res;
}

_Static_assert(CU_LIMIT_STACK_SIZE == 0 && CU_LIMIT_PRINTF_FIFO_SIZE == 1 &&
		       CU_LIMIT_MALLOC_HEAP_SIZE == 2,
	       "rows of limit_bytes");

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
	CUresult res;

	if ((unsigned)limit >= LIMIT_KINDS || !tr_enter())
		return tr_real.cuCtxSetLimit(limit, value);
	res = set_limit(limit, value);
	tr_leave();
	return res;
}
