/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_SLICE_LEDGER_H
#define TR_SLICE_LEDGER_H

#include <stdint.h>

#include "slice/seat.h"
#include "tranche/policy.h"

/*
 * Who uses how much of a slice. Reserve first, then look at the sum: of two racers for the
 * last byte at most one can see a sum that leaves the other out. Proof and model check:
 * docs/ledger.md, tests/model. Every function is lock-free and async-signal-safe but for
 * tr_ledger_reserve_slowly().
 */
enum tr_word {
	TR_USED,  /* what the application asked for */
	TR_FLOOR, /* contexts; stands in for overhead until a keeper publishes it */
};

struct tr_ledger {
	struct tr_state *state;
	const struct tr_policy *policy; /* for published overhead; NULL: none */
	tr_slot slot;
};

/* What slot S counts on device D beyond what it asked for: its context floors, or the host's
 * measurement of this very occupant and the floors since. POLICY NULL: no measurement. */
uint64_t tr_overhead(const struct tr_policy *policy, const struct tr_state *state,
		     unsigned d, unsigned s);

/* Σ over the slots of used + (published overhead, else floor). Saturates at UINT64_MAX. */
uint64_t tr_ledger_sum(const struct tr_ledger *ledger, tr_dev dev);

/* Charge BYTES to the own slot unless the slice would pass LIMIT (TR_UNLIMITED: only
 * count). 0 or -ENOMEM (nothing charged). One attempt: two racers may both be refused,
 * which is why a refusal is final only from tr_ledger_reserve_slowly(). */
int tr_ledger_reserve(const struct tr_ledger *ledger, tr_dev dev, enum tr_word word,
		      uint64_t bytes, uint64_t limit);

/* Charge without asking: for what the driver has taken already (a correction upwards). */
void tr_ledger_add(const struct tr_ledger *ledger, tr_dev dev, enum tr_word word,
		   uint64_t bytes);

/* Give BYTES back; ends at 0 whatever the word holds. */
void tr_ledger_refund(const struct tr_ledger *ledger, tr_dev dev, enum tr_word word,
		      uint64_t bytes);

/* The deciding attempt: opens the state file anew, takes the device's slow-path lock
 * (polling, at most 50 ms), reaps dead slots, tries again. 0, or -ENOMEM: true at that
 * moment, or the lock or a descriptor was not to be had. Never called with any lock held;
 * sleeps at most 50 ms + 10 ms. */
int tr_ledger_reserve_slowly(const struct tr_ledger *ledger, const char *state_path,
			     tr_dev dev, enum tr_word word, uint64_t bytes, uint64_t limit);

/* Counts a refusal in the metrics and the ring. */
void tr_ledger_refused(const struct tr_ledger *ledger, tr_dev dev, uint64_t asked_bytes);

#endif /* TR_SLICE_LEDGER_H */
