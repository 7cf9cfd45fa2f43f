/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_SLICE_RATE_H
#define TR_SLICE_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "tranche/policy.h"
#include "tranche/state.h"

/*
 * A share of a GPU's time, as arithmetic on three shared words of a device (tr_state_pace): the
 * generic cell rate algorithm with measured GPU time as its cells. Pure: the caller brings the
 * clock, nothing here sleeps, allocates or calls a driver, and any value of any word is safe.
 * Lock-free; all functions from any thread of any process of the slice.
 *
 * tat - now is how long the slice must stay idle to be back on its rate. A launch may go while
 * that is at most the window; it then charges what it is predicted to cost, and when it has been
 * measured the difference is settled. Two such words: tat for the guaranteed rate, not charged
 * while a lease is in force, so that nothing is owed for borrowed time, but kept where there is no
 * credit and what is queued is owed: after the lease that runs in its owner's time. And tat_max for
 * the rate while borrowing, charged always, so a lease begins and ends without rescaling. With
 * rate_max 1 tat_max is about when the queued work ends: a window on it bounds what cannot be
 * called back.
 *
 * Rate (I6): in any interval L the charged time is <= rate * (L + window) + one submission.
 * Liveness (I4): a gate reads only the clock and these words, and what it waits for is never more
 * than tr_rate_debt_max_ns() away. Proofs and model check: docs/pacer.md, tests/model/pace.c.
 */

/* A lease or a block further ahead than this is none: keepers write theirs every 10 ms. */
#define TR_LEASE_MAX_NS UINT64_C(1000000000)
/* Queued ahead by a slice of low priority: the first kernel of a higher one waits for it. */
#define TR_AHEAD_LOW_NS UINT64_C(5000000)

/* What the policy says about one device, read once per gate. */
struct tr_rate {
	uint64_t rate_q32, rate_max_q32; /* 1..2^32 */
	uint64_t window_ns, debt_max_ns;
	uint64_t ahead_ns;  /* the window on tat_max: while borrowing, or low priority */
	uint64_t gamma_q16; /* 1/64..4 in 2^-16 */
	unsigned
		sharers; /* processes that take turns where others work too; 0: they do not */
	bool is_varied; /* kernels of one key differ: what they cost is the mean of their spans */
	uint64_t lease_until_ns; /* borrowing till then */
	uint64_t block_until_ns; /* no launch till then */
	bool is_low;             /* held to ahead_ns with or without a lease */
};

/* Any bit pattern of the row gives values in range; PAGE_ROW NULL: no limit. CORES: percent that
 * the environment allows (0: no such limit); the lower holds. */
void tr_rate_read(struct tr_rate *out, const struct tr_policy_device *page_row,
		  unsigned cores_percent);
/* Neither a limit, a block nor a low priority is in force: nothing ever waits. */
bool tr_rate_is_free(const struct tr_rate *rate, uint64_t now_ns);
/* A lease is in force: rate_max holds. */
bool tr_rate_is_borrowing(const struct tr_rate *rate, uint64_t now_ns);

/* What may be owed at most: debt_max, or twice the longest submission measured / rate, at most an
 * hour. A tat further ahead is garbage (or of another boot) and counts as this. */
uint64_t tr_rate_debt_max_ns(const struct tr_rate *rate, const struct tr_state_pace *pace);

/* How long a launch has to wait now; 0: it may go. Never more than the debt bound. Only looks:
 * a gate that sleeps and asks again must use tr_rate_pass(), which mends a garbage word. */
uint64_t tr_rate_wait_ns(const struct tr_rate *rate, const struct tr_state_pace *pace,
			 uint64_t now_ns);

/* Until when more than half of the window is taken; 0: it is not. Only so long is there a reason to
 * let another process of the slice go first: after it, a launch that yields could leave the GPU idle
 * and the credit lost. */
uint64_t tr_rate_pressed_ns(const struct tr_rate *rate, const struct tr_state_pace *pace,
			    uint64_t now_ns);

/* Asks and charges in one step, so that of many waiting launches one passes: 0 and charged, or
 * the wait and nothing charged. */
uint64_t tr_rate_pass(const struct tr_rate *rate, struct tr_state_pace *pace,
		      uint64_t now_ns, uint64_t predicted_ns);
/* Charges without asking (collectives, launches that are let through). */
void tr_rate_charge(const struct tr_rate *rate, struct tr_state_pace *pace, uint64_t now_ns,
		    uint64_t predicted_ns);
/* What was charged as PREDICTED turned out to be MEASURED. Neither has gamma applied. Also
 * raises longest_ns, so MEASURED is of one interval between markers, not of several. */
void tr_rate_settle(const struct tr_rate *rate, struct tr_state_pace *pace, uint64_t now_ns,
		    uint64_t predicted_ns, uint64_t measured_ns);

/*
 * What two markers say: between BEGIN and END the GPU was busy for BUSY_NS, at the end of it for
 * SURE_NS without a gap (from when the end was recorded until the GPU came to it).
 */
struct tr_busy {
	uint64_t begin_ns, end_ns, sure_ns, busy_ns;
	bool is_span; /* of work whose cost is not known but by this: others' turns are in it */
};

/* The same from the clock's reading when the end was recorded and what was predicted. */
struct tr_busy tr_busy_of(uint64_t begin_ns, uint64_t end_ns, uint64_t recorded_ns,
			  uint64_t predicted_ns);

/*
 * How much of BUSY nobody has been charged for yet. Streams that overlap, and processes that take
 * turns, hold the GPU once; programs with gaps that interleave add up. What is answered is charged.
 * Reports may come in any order. A single reporter is always answered busy_ns; of several none
 * gets a cell's time twice, and together no more than it has. Times to come are taken for NOW.
 */
uint64_t tr_rate_cover(struct tr_state *state, uint32_t dev, const struct tr_busy *busy,
		       uint64_t now_ns);

/* NS with gamma applied: what usage counters show. */
uint64_t tr_rate_gamma(const struct tr_rate *rate, uint64_t ns);

/* ---- fairness among the processes of the slice --------------------------------------- */

#define TR_USAGE_QUANTUM_NS UINT64_C(20000000)
#define TR_USAGE_ACTIVE_NS  UINT64_C(50000000) /* seen within: active */
#define TR_USAGE_AHEAD_NS   TR_DEBT_MAX_NS     /* further ahead than that is garbage */

/* The row of SLOT on DEV, claimed if need be; NULL when its window is full: then nothing is
 * counted by process. Rows are freed by whoever takes or reaps the slot (seat.c). */
struct tr_state_usage *tr_usage_row(struct tr_state *state, uint32_t slot, uint32_t dev);
/* Whether the process of ROW is more than a quantum ahead of the slice's slowest active one; it
 * then has to wait, at most as long as for anything else. Also says that the process is active.
 * A process that comes or comes back starts at the slowest's time. The slowest never yields. */
bool tr_usage_must_yield(struct tr_state *state, struct tr_state_usage *row,
			 uint64_t now_ns);
/* The process' own time goes on: by PREDICTED when it submits (MEASURED 0), by the difference
 * when its own interval is measured, before tr_rate_cover() took away what others hold too. */
void tr_usage_advance(struct tr_state_usage *row, uint64_t predicted_ns);
void tr_usage_settle(struct tr_state_usage *row, uint64_t predicted_ns,
		     uint64_t measured_ns);

#endif /* TR_SLICE_RATE_H */
