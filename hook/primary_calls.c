/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary context of a device. It is gone when the driver says that it is not active,
 * whoever released it last; a green context is part of it and holds it.
 */
#include <stdatomic.h>
#include <string.h>

#include "attach.h"
#include "contexts.h"
#include "marks.h"
#include "reserves.h"
#include "rt/file.h"

#define PRIMARIES_MAX 64u
#define AWAIT_STEP_NS UINT64_C(200000)
#define AWAIT_TIMES   5000u

static struct primary {
	_Atomic uint64_t floor_bytes; /* reserved + 1; 0: not active, as far as we know */
	_Atomic(CUcontext) ctx;
	atomic_uint coming; /* threads that have reserved a floor and call the driver */
} primaries[PRIMARIES_MAX];

void tr_primaries_forget(void)
{
	for (unsigned i = 0; i < PRIMARIES_MAX; i++) {
		atomic_store(&primaries[i].floor_bytes, 0);
		atomic_store(&primaries[i].ctx, NULL);
		atomic_store(&primaries[i].coming, 0);
	}
}

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

/* Threads that start together each reserve a floor, and only one is kept: what the others
 * hold for a moment refuses nobody. False: there are none. */
static bool await_others(CUdevice ordinal)
{
	const struct primary *p = &primaries[ordinal];
	unsigned waits = 0;

	while (atomic_load(&p->coming) && !atomic_load(&p->floor_bytes) &&
	       waits < AWAIT_TIMES) {
		tr_sleep_ns(AWAIT_STEP_NS);
		waits++;
	}
	return waits || atomic_load(&p->floor_bytes);
}

/* Before a call that may bring the primary context of ORDINAL to life. */
static CUresult before_primary(CUdevice ordinal, struct tr_context *c, bool *is_ours)
{
	CUresult res;

	*is_ours = false;
	memset(c, 0, sizeof(*c));
	if ((unsigned)ordinal < PRIMARIES_MAX &&
	    atomic_load(&primaries[ordinal].floor_bytes))
		return CUDA_SUCCESS;
	res = tr_context_before(ordinal, c, is_ours);
	if (res == CUDA_ERROR_OUT_OF_MEMORY && (unsigned)ordinal < PRIMARIES_MAX &&
	    await_others(ordinal)) {
		if (atomic_load(&primaries[ordinal].floor_bytes)) {
			*is_ours = false;
			return CUDA_SUCCESS;
		}
		res = tr_context_before(ordinal, c, is_ours);
	}
	if (res == CUDA_SUCCESS && *is_ours && (unsigned)ordinal < PRIMARIES_MAX)
		atomic_fetch_add(&primaries[ordinal].coming, 1);
	return res;
}

/* The context lives: FLOOR_BYTES are reserved for it. Another thread's may be already. */
static void hold_floor(CUdevice ordinal, tr_dev dev, uint64_t floor_bytes)
{
	uint64_t none = 0;

	if ((unsigned)ordinal < PRIMARIES_MAX &&
	    atomic_compare_exchange_strong(&primaries[ordinal].floor_bytes, &none,
					   floor_bytes + 1))
		tr_context_count(1);
	else
		tr_context_refund(dev, TR_FLOOR, floor_bytes);
}

static void after_primary(CUdevice ordinal, CUresult res, const struct tr_context *c,
			  bool is_ours)
{
	uint64_t floor_bytes;
	tr_dev dev;

	if (is_ours && res == CUDA_SUCCESS) {
		hold_floor(ordinal, c->dev, c->floor_bytes);
	} else if (is_ours) {
		tr_context_refund(c->dev, TR_FLOOR, c->floor_bytes);
	} else if (res == CUDA_SUCCESS && (unsigned)ordinal < PRIMARIES_MAX &&
		   !atomic_load(&primaries[ordinal].floor_bytes) &&
		   tr_device_of(ordinal, &dev) == CUDA_SUCCESS) {
		/* It was held before the call, and another thread let go of it since. */
		floor_bytes = tr_context_floor(dev, ordinal);
		tr_ledger_add(&tr_self.ledger, dev, TR_FLOOR, floor_bytes);
		hold_floor(ordinal, dev, floor_bytes);
	}
	if (is_ours && (unsigned)ordinal < PRIMARIES_MAX)
		atomic_fetch_sub(&primaries[ordinal].coming, 1);
}

/* After a call that may have been the end of the primary context: true when it was. Two
 * threads may come here at once, and a third may bring the context to life again: the
 * driver is asked once more, and who comes later finds the floor gone. */
static bool settle_floor(CUdevice ordinal, tr_dev dev)
{
	struct primary *p = &primaries[ordinal];
	uint64_t was, none = 0;

	if (is_active(ordinal))
		return false;
	was = atomic_exchange(&p->floor_bytes, 0);
	if (was && is_active(ordinal)) {
		if (!atomic_compare_exchange_strong(&p->floor_bytes, &none, was)) {
			tr_context_refund(dev, TR_FLOOR, was - 1);
			tr_context_count(-1);
		}
		return false;
	}
	if (was) {
		tr_context_refund(dev, TR_FLOOR, was - 1);
		tr_context_count(-1);
	}
	return true;
}

/* A driver call that may end the primary context of ORDINAL is between these two. */
static bool begin_end(CUdevice ordinal, tr_dev *dev, struct tr_ending *ending)
{
	if ((unsigned)ordinal >= PRIMARIES_MAX ||
	    !atomic_load(&primaries[ordinal].floor_bytes) ||
	    tr_device_of(ordinal, dev) != CUDA_SUCCESS)
		return false;
	tr_ending_begin(ending, atomic_load(&primaries[ordinal].ctx), dev);
	return true;
}

static void end_end(CUdevice ordinal, tr_dev dev, struct tr_ending *ending, bool is_done,
		    bool is_reset)
{
	bool is_gone = is_done && settle_floor(ordinal, dev);

	if (is_gone || (is_done && is_reset)) {
		tr_ending_gone(ending);
		tr_reserves_context_gone(&dev);
	} else {
		tr_ending_stays(ending);
	}
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice dev)
{
	struct tr_context c;
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

static CUresult end_primary(CUresult (*driver)(CUdevice), CUdevice ordinal, bool is_reset)
{
	struct tr_ending ending;
	bool is_ours;
	CUresult res;
	tr_dev dev;

	if (!tr_enter())
		return driver(ordinal);
	is_ours = begin_end(ordinal, &dev, &ending);
	res = driver(ordinal);
	if (is_ours)
		end_end(ordinal, dev, &ending, res == CUDA_SUCCESS, is_reset);
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
	struct tr_context c;
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

/* Its memory is the primary context's and lives on, unless that ends with it. */
CUresult cuGreenCtxDestroy(CUgreenCtx green)
{
	struct tr_leaving leaving;
	struct tr_ending ending;
	struct tr_marks *marks;
	CUcontext ctx = NULL;
	CUresult res;
	tr_dev dev;

	if (!tr_enter())
		return tr_real.cuGreenCtxDestroy(green);
	if (!green || !tr_real.cuCtxFromGreenCtx ||
	    tr_real.cuCtxFromGreenCtx(&ctx, green) != CUDA_SUCCESS)
		ctx = NULL;
	tr_leaving_begin(&leaving, ctx, NULL);
	marks = tr_marks_leave(ctx);
	res = tr_real.cuGreenCtxDestroy(green);
	if (res == CUDA_SUCCESS) {
		tr_leaving_orphans(&leaving);
		tr_marks_gone(marks);
	} else {
		tr_leaving_stays(&leaving);
		tr_marks_stay(marks, ctx);
	}
	/* Its device is not asked for: the few that are active. */
	for (CUdevice i = 0; res == CUDA_SUCCESS && i < (CUdevice)PRIMARIES_MAX; i++)
		if (begin_end(i, &dev, &ending))
			end_end(i, dev, &ending, true, false);
	tr_leave();
	return res;
}
