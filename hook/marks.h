/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_MARKS_H
#define TR_HOOK_MARKS_H

#include "hook.h"
#include "slice/rate.h"

/*
 * What the GPU was busy with: pairs of timed events around runs of submissions, per context
 * and stream. Looked at when they are done, never waited for. Where there is no pair, or no
 * event is to be had, what was predicted stands.
 *
 * A context's marks are under a lock that is only ever tried: whoever does not get it goes
 * on unmarked. All of this calls the driver with the context current, in relaxed capture
 * mode.
 */
struct tr_marks;

/* The marks of CTX, which is current; NULL: no room. */
struct tr_marks *tr_marks_of(CUcontext ctx, tr_dev dev);

enum tr_mark_want {
	TR_MARK_RUN,    /* goes into the run that is open, or opens one */
	TR_MARK_SINGLE, /* a run of its own, if something is queued before it */
	TR_MARK_ALONE,  /* a run of its own */
};
/* Before a submission on STREAM. True: it has a run of its own. */
bool tr_marks_before(struct tr_marks *m, CUstream stream, enum tr_mark_want want,
		     uint64_t now_ns);
/* After it, which went at AT_NS: adds it to the run; a single one's is closed, and KEY learns from
 * it. True: that will be told by tr_pace_seen(). */
bool tr_marks_after(struct tr_marks *m, CUstream stream, uint64_t key,
		    uint64_t predicted_ns, bool is_single, uint64_t at_ns);
/* What went the fast way since. False: not booked, keep it. */
bool tr_marks_add(struct tr_marks *m, CUstream stream, uint64_t predicted_ns,
		  uint32_t count, uint64_t at_ns);
/* Ends the run of STREAM; NULL: of every stream that this thread can name. */
void tr_marks_close(struct tr_marks *m, CUstream stream, uint64_t now_ns);
/* Takes in what is done. */
void tr_marks_poll(struct tr_marks *m, uint64_t now_ns, bool is_urgent);
/* STREAM is about to go. */
void tr_marks_drop(struct tr_marks *m, CUstream stream, uint64_t now_ns);
/* The next look would be for nothing: nothing is pending. */
bool tr_marks_are_idle(const struct tr_marks *m);

/* Around a driver call that may end CTX, and waits for its work then: what is not known counts as long as
 * it may have taken. */
struct tr_marks *tr_marks_leave(CUcontext ctx);
void tr_marks_stay(struct tr_marks *m, CUcontext ctx);
void tr_marks_gone(struct tr_marks *m);
/* The process ends: all contexts do. */
void tr_marks_end(void);
void tr_marks_forget(void);

/* pace.c: what was predicted as PREDICTED_NS on DEV was BUSY in truth. Returns what of that
 * was charged: others may have held the GPU too. */
uint64_t tr_pace_measured(tr_dev dev, const struct tr_busy *busy, uint64_t predicted_ns,
			  uint64_t now_ns);
/* What was predicted as PREDICTED_NS is not measured: it stands. */
void tr_pace_stands(tr_dev dev, uint64_t predicted_ns);
/* An unmeasured submission is no longer in flight. */
void tr_pace_seen(tr_dev dev);
/* How many take turns on the GPU with this slice, and whether its kernels vary; 0: nobody does. */
struct tr_turns {
	unsigned sharers;
	bool is_varied;
};
struct tr_turns tr_pace_turns(tr_dev dev);
/* How long a run may stay open or pending. */
uint64_t tr_pace_patience_ns(tr_dev dev);

#endif /* TR_HOOK_MARKS_H */
