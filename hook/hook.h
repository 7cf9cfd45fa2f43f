/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_H
#define TR_HOOK_H

/* The old ABIs that drivers still export are declared only under this switch of the header.
 */
#ifndef __CUDA_API_VERSION_INTERNAL
#define __CUDA_API_VERSION_INTERNAL
#endif
#include <cuda.h>

#include <stdbool.h>
#include <stdint.h>

#include "slice/ledger.h"
#include "slice/page.h"
#include "slice/seat.h"

/*
 * What the files of the hook share. The rules of a guest: no thread, no signal handler, no
 * exit, no output, no lock across a driver call, no allocation on hot paths, errno
 * untouched.
 */

/* ---- names --------------------------------------------------------------------------- */

/* The body of a row is written under the header's own name. What the library exports under
 * that name is a jump (exports.S) to whoever is next: the body, another interposer after
 * us, or the driver. So the body is another symbol for the linker. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wredundant-decls"
#define TR_CALL(symbol, ...) extern __typeof__(symbol) symbol __asm__("tr_hook_" #symbol);
#include "calls.def"
#undef TR_CALL
#pragma GCC diagnostic pop

/* ---- the driver's own functions (route.c fills it before the first hook runs) -------- */

/* One pointer per row of calls.def and of uses.def (called, not hooked); NULL where this
 * driver has no such function. */
struct tr_real {
#define TR_CALL(symbol, ...) __typeof__(symbol) *symbol;
#include "calls.def"
#undef TR_CALL
#define TR_USE(symbol) __typeof__(symbol) *symbol;
#include "uses.def"
#undef TR_USE
};
extern struct tr_real tr_real;

/* A driver function that is not hooked, by exported name, or NULL. Not for hot paths. */
void *tr_driver_symbol(const char *name);

/* ---- entering (guard.h, attach.c) ---------------------------------------------------- */

/* True when this is the outermost hooked call of this thread, and the process is attached
 * with a seat (or env limits) and not a fork child: then errno is saved and tr_leave() must
 * follow. False: step aside, call the driver's function with the caller's own arguments and
 * touch nothing. */
#define tr_enter() tr_enter_at(__builtin_frame_address(0))
void tr_leave(void);
/* FRAME: of the body itself, which returns only after tr_leave(). A body that was left by a
 * jump (a signal handler's siglongjmp, an exception) is told by it at the next call. */
bool tr_enter_at(const void *frame);

/* ---- this process -------------------------------------------------------------------- */

struct tr_self {
	bool has_page, has_env; /* where limits come from; neither: transparent */
	bool is_refused;        /* fail closed: cuInit answers CUDA_ERROR_NOT_PERMITTED */
	struct tr_page page;    /* these two: constant from the first routed name on */
	struct tr_seat seat;    /* these two: constant while tr_enter() says true */
	struct tr_ledger ledger;
};
extern struct tr_self tr_self;

/* The device of the calling thread's current context, or of an ordinal. The driver's error
 * where there is none; CUDA_ERROR_NOT_PERMITTED for a device that the page does not name.
 */
CUresult tr_device_current(tr_dev *dev, CUcontext *ctx);
CUresult tr_device_of(CUdevice ordinal, tr_dev *dev);

/* The limit in force now: the page's word and the environment's, the lower. */
uint64_t tr_limit_bytes(tr_dev dev);

/* What the slice uses on DEV now; real numbers in, what the caller is told out. */
void tr_told_memory(tr_dev dev, uint64_t *free_bytes, uint64_t *total_bytes);

/* ---- charge (charge.c) --------------------------------------------------------------- */

struct tr_charge {
	tr_dev dev;
	CUcontext ctx;
	uint64_t bytes; /* reserved; 0: nothing */
};

/* Reserve BYTES (rounded up to 512 B) on the device of the current context / of DEV.
 * SUCCESS, OUT_OF_MEMORY, or what the driver says about the context. */
CUresult tr_charge(struct tr_charge *charge, uint64_t bytes);
CUresult tr_charge_on(struct tr_charge *charge, tr_dev dev, CUcontext ctx, uint64_t bytes);
/* The driver took ACTUAL bytes: correct the reservation. OUT_OF_MEMORY when the slice is
 * now past its limit because of the correction; the caller then undoes the allocation and
 * refunds. */
CUresult tr_charge_settle(struct tr_charge *charge, uint64_t actual_bytes);
void tr_charge_refund(struct tr_charge *charge);

/* ---- objects (objects.c) ------------------------------------------------------------- */

/* A context is gone (destroy, primary reset, last release): discharge everything that was
 * in it. */
struct tr_leaving;
void tr_objects_context_gone(struct tr_leaving *leaving);
/* False: a primary or a green context. */
bool tr_context_is_own(CUcontext ctx);
/* A fork child starts anew: forget everything (the tables are of another process). */
void tr_objects_forget(void);
void tr_contexts_forget(void); /* context_calls.c */

#endif /* TR_HOOK_H */
