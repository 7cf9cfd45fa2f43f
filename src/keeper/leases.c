/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/leases.h"

#include "rt/sat.h"

#define RANKS        3u
#define TRUST_MAX_NS UINT64_C(3600000000000)
#define DOZE_NS      UINT64_C(250000000) /* idle for so long: looked at less often */
#define SLEEPER_NS   UINT64_C(1000000)   /* of pause for each: 1000 looks a second in all */

void tr_activity_look(struct tr_activity *activity, const struct tr_state_pace *pace,
		      uint64_t now_ns)
{
	struct tr_activity seen = {
		.tat_max_ns = pace->tat_max_ns,
		.charged_ns = pace->charged_ns,
		.gate_waits = pace->gate_waits,
		.launches = pace->launches,
		.throttled_ns = pace->throttled_ns,
		.changed_ns = activity->changed_ns,
		.is_known = true,
	};
	bool is_changed = seen.tat_max_ns != activity->tat_max_ns ||
			  seen.charged_ns != activity->charged_ns ||
			  seen.gate_waits != activity->gate_waits ||
			  seen.launches != activity->launches ||
			  seen.throttled_ns != activity->throttled_ns;

	/* A keeper that takes over compares with zeros: whoever ran at all counts as active for
	 * one hold, so nobody borrows by mistake. */
	if (is_changed)
		seen.changed_ns = now_ns;
	*activity = seen;
}

bool tr_activity_is_active(const struct tr_activity *activity, uint64_t now_ns,
			   uint64_t trust_ns)
{
	uint64_t quiet_ns = tr_sat_sub(now_ns, activity->changed_ns);

	if (!activity->is_known || activity->changed_ns == 0)
		return false;
	if (quiet_ns <= TR_LEASE_HOLD_NS)
		return true;
	return quiet_ns <= trust_ns &&
	       tr_sat_add(activity->tat_max_ns, TR_LEASE_HOLD_NS) > now_ns;
}

bool tr_activity_is_dozing(const struct tr_activity *activity, uint64_t now_ns)
{
	return activity->is_known && tr_sat_sub(now_ns, activity->changed_ns) >= DOZE_NS &&
	       tr_sat_add(activity->tat_max_ns, TR_LEASE_HOLD_NS) <= now_ns;
}

uint64_t tr_activity_pause_ns(const struct tr_activity *activity, uint64_t now_ns,
			      size_t count, size_t active, bool is_ranked)
{
	uint64_t pause_ns = count * SLEEPER_NS, most_ns = 4 * TR_LEASE_LOOK_NS;

	if (!tr_activity_is_dozing(activity, now_ns))
		return 0;
	/* Somebody has to make way, and soon. */
	if (is_ranked || active == 1)
		return pause_ns < most_ns ? pause_ns : most_ns;
	/* Of two that are active neither borrows: a third changes nothing. */
	if (active > 1 || pause_ns > 10 * TR_LEASE_LOOK_NS)
		return 10 * TR_LEASE_LOOK_NS;
	return pause_ns < most_ns ? most_ns : pause_ns;
}

uint64_t tr_leases_doze_ns(uint64_t due_ns, bool is_beside)
{
	uint64_t most = TR_LEASE_DOZE_MAX_NS / TR_LEASE_LOOK_NS, least = is_beside ? 1 : 2;
	uint64_t looks = due_ns / TR_LEASE_LOOK_NS; /* whose time has come by half is due */

	looks += due_ns % TR_LEASE_LOOK_NS > TR_LEASE_LOOK_NS / 2;
	if (looks > 2 * most)
		looks = most;
	else if (looks > most)
		looks = (looks + 1) / 2;
	return (looks < least ? least : looks) * TR_LEASE_LOOK_NS;
}

uint64_t tr_activity_trust_ns(const struct tr_policy_device *row, uint64_t longest_ns)
{
	uint64_t rate = row->rate_max_q32, trust = row->debt_max_ns, owed;
	double debt;

	if (rate == 0)
		rate = row->rate_q32;
	if (rate == 0 || rate > TR_RATE_ALL)
		rate = TR_RATE_ALL;
	if (trust == 0)
		trust = TR_DEBT_MAX_NS;
	debt = (double)longest_ns * 2.0 * (double)TR_RATE_ALL / (double)rate;
	owed = debt < (double)TRUST_MAX_NS ? (uint64_t)debt : TRUST_MAX_NS;
	if (owed > trust)
		trust = owed;
	return trust < TRUST_MAX_NS ? trust : TRUST_MAX_NS;
}

unsigned tr_priority_rank(uint32_t priority)
{
	if (priority == TR_PRIORITY_HIGH)
		return 0;
	return priority == TR_PRIORITY_LOW ? 2 : 1;
}

bool tr_can_borrow(const struct tr_policy_device *row)
{
	uint64_t rate = row->rate_q32, rate_max = row->rate_max_q32;

	return rate != 0 && rate < TR_RATE_ALL && rate_max > rate;
}

void tr_leases_decide(struct tr_lease_row *rows, size_t count, bool is_foreign_busy)
{
	size_t active[RANKS] = { 0 }; /* of this rank or a higher one */

	for (size_t i = 0; i < count; i++)
		for (unsigned rank = rows[i].rank; rows[i].is_active && rank < RANKS;
		     rank++)
			active[rank]++;
	for (size_t i = 0; i < count; i++) {
		struct tr_lease_row *row = &rows[i];
		size_t higher = row->rank > 0 ? active[row->rank - 1] : 0;
		size_t others = active[row->rank] - (row->is_active ? 1 : 0);

		row->must_wait = higher > 0;
		row->may_borrow = row->can_borrow && others == 0 && !is_foreign_busy;
	}
}
