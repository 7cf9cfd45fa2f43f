/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KEEPER_LEASES_H
#define TR_KEEPER_LEASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tranche/policy.h"
#include "tranche/state.h"

/*
 * Who may borrow and who has to wait, decided from numbers alone. Nothing here reads a clock or a
 * file; any value of any word is safe.
 *
 * borrow    A slice may go beyond its guaranteed rate while no other of its priority or a higher
 *           one is active on the device. Two that are active both keep to their guarantees, even
 *           where these leave time unassigned: what nobody was promised is not divided.
 * priority  A slice waits while one of a strictly higher priority is active on the device: high
 *           stops normal and low, normal stops low.
 *
 * Both are leases, renewed at each look and lapsing by themselves when nobody renews them.
 */
#define TR_LEASE_LOOK_NS UINT64_C(10000000)
/* And at most, while nothing changes until somebody wakes. */
#define TR_LEASE_DOZE_MAX_NS (4 * TR_LEASE_LOOK_NS)
/* A slice that did nothing for so long is idle. Three looks: a service that is asked every 20 ms
 * stays active in between; and a borrower is back 40 ms after its neighbour's last launch. */
#define TR_LEASE_HOLD_NS UINT64_C(30000000)
/* How long a lease stands. To borrow: by so much longer than until the next look, which may be late;
 * short, as it is what stays when the keeper stops. */
#define TR_LEASE_BORROW_NS UINT64_C(15000000)
#define TR_LEASE_BLOCK_NS  UINT64_C(40000000)

/* What one slice did on one device, as far as its pacing line (tranche/state.h) tells. */
struct tr_activity {
	uint64_t tat_max_ns, charged_ns, gate_waits, launches, throttled_ns;
	uint64_t changed_ns; /* when one of these was last seen to change; 0: never */
	bool is_known;
};

void tr_activity_look(struct tr_activity *activity, const struct tr_state_pace *pace,
		      uint64_t now_ns);
/* It launched, waited or was charged within the hold, or what it queued should not have ended yet.
 * The queue is believed for TRUST_NS after the last change: a word may be garbage, a program
 * may have died. */
bool tr_activity_is_active(const struct tr_activity *activity, uint64_t now_ns,
			   uint64_t trust_ns);

/* It did nothing for so long that it is looked at less often. */
bool tr_activity_is_dozing(const struct tr_activity *activity, uint64_t now_ns);
/* How long one that may have woken need not be looked at: a read costs microseconds, of many slices
 * most sleep, and the time to notice is part of the 50 ms in which a borrower makes way. COUNT: the
 * slices of this device, ACTIVE: how many are; IS_RANKED: of several priorities. */
uint64_t tr_activity_pause_ns(const struct tr_activity *activity, uint64_t now_ns,
			      size_t count, size_t active, bool is_ranked);
/* While nothing changes until somebody wakes: till the next look, when the first of the sleepers is due
 * in DUE_NS. IS_BESIDE: beside one that works. */
uint64_t tr_leases_doze_ns(uint64_t due_ns, bool is_beside);
/* For how long: as far ahead as the pacer lets a slice owe whose longest submission is LONGEST_NS. */
uint64_t tr_activity_trust_ns(const struct tr_policy_device *row, uint64_t longest_ns);

/* 0 is the highest; any other word is normal. */
unsigned tr_priority_rank(uint32_t priority);
/* Its rate may rise above what is guaranteed. */
bool tr_can_borrow(const struct tr_policy_device *row);

struct tr_lease_row {
	unsigned rank;
	bool is_active, can_borrow;
	bool may_borrow, must_wait; /* answers */
};
/* The slices of one device. IS_FOREIGN_BUSY: somebody is, who is none of them. */
void tr_leases_decide(struct tr_lease_row *rows, size_t count, bool is_foreign_busy);

#endif /* TR_KEEPER_LEASES_H */
