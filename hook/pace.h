/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_PACE_H
#define TR_HOOK_PACE_H

#include "hook.h"
#include "keys.h"

/*
 * A launch (docs/pacer.md). Most take the fast way: a few words of the calling thread say
 * that nothing has to be looked at for so many submissions and so much predicted time. The
 * others take the slow way around the driver's call, tr_pace_begin() and tr_pace_end().
 */
struct tr_pace_here {
	const void *stream; /* whose allowance this is; NULL: none */
	uint32_t epoch;     /* of tr_pace_epoch */
	uint32_t left;      /* submissions until the next look */
	uint64_t left_ns;   /* predicted GPU time until then */
	/* the slow way's */
	uint32_t given;
	uint64_t given_ns;
	CUcontext ctx;
	tr_dev dev;
	const void *recorded; /* a stream on which the program has recorded an event, and */
	const void *launched; /* one on which it has launched since */
};
extern _Thread_local struct tr_pace_here tr_pace_here;
/* What threads were given no longer holds: a capture began, a context ended; by this much: the
 * process has another seat. */
#define TR_PACE_LIFE (UINT32_C(1) << 20)
extern _Atomic uint32_t tr_pace_epoch;

/* NULL means one stream in a row and another in its twin. */
static inline CUstream tr_stream_of(CUstream stream, bool is_per_thread)
{
	if (stream)
		return stream;
	return is_per_thread ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY;
}

/* True: counted, go on to the driver. */
static inline bool tr_pace_is_given(CUstream stream, uint64_t key)
{
	struct tr_pace_here *here = &tr_pace_here;
	uint64_t cost_ns;

	if (here->stream != stream || !here->left ||
	    here->epoch != atomic_load_explicit(&tr_pace_epoch, memory_order_relaxed))
		return false;
	cost_ns = tr_key_ready_ns(key);
	if (!cost_ns || cost_ns > here->left_ns)
		return false;
	here->left_ns -= cost_ns;
	here->left--;
	return true;
}

/* One submission on the slow way, between tr_enter() and tr_leave(). */
struct tr_submission {
	CUstream stream; /* tr_stream_of() */
	uint64_t key;
	CUfunction function; /* for its name; NULL: a graph */
	/* tr_pace_begin()'s */
	bool is_counted, is_single, is_unmeasured;
	struct tr_key known;
	uint64_t at_ns;
};
void tr_pace_begin(struct tr_submission *s);
void tr_pace_end(struct tr_submission *s, CUresult res);
/* The same submission runs on another device too, whose context is current now: before and after. */
void tr_pace_also_begin(void);
void tr_pace_also(const struct tr_submission *s);

/* Nothing is given to this thread any more: its context or the clock's time has moved. */
static inline void tr_pace_stop(void)
{
	tr_pace_here.given -= tr_pace_here.left; /* not used: not counted */
	tr_pace_here.left = 0;
}
static inline void tr_pace_stop_all(void)
{
	atomic_fetch_add(&tr_pace_epoch, 1);
}

/* Whether this process is counted and paced in time; fixed when it takes its seat. Rows that an
 * unarmed slice has too ask before they call anything here. */
extern _Atomic bool tr_pace_is_armed;

/* Before and after a call that waits for STREAM (NULL: all of the current context), between tr_enter() and
 * tr_leave(). */
void tr_pace_wait_begin(CUstream stream);
void tr_pace_wait_end(void);
/* Something that was never measured is in flight. */
bool tr_pace_is_awaited(void);
/* Before the program's own event on STREAM. */
void tr_pace_recording(CUstream stream);
/* STREAM is about to be destroyed. */
void tr_pace_stream_ends(CUstream stream);

void tr_pace_forget(void);

/* ---- captures (capture_calls.c) ------------------------------------------------------ */

/* Whether a launch on STREAM goes into a graph. Costs a load unless somebody captures. */
bool tr_is_captured(CUstream stream);
/* The same, asked of the driver: before anything of ours is put into a stream. */
bool tr_is_stream_capturing(CUstream stream);
bool tr_captures_any(void);
void tr_captures_forget(void);

#endif /* TR_HOOK_PACE_H */
