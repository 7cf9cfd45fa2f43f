/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/leases.h"

#include "../tr_test.h"

#define MS            UINT64_C(1000000)
#define SECOND        UINT64_C(1000000000)
#define RATE(percent) (TR_RATE_ALL * (percent) / 100)

enum { HIGH, NORMAL, LOW };

static void nobody_else_active_lets_borrow(void **state)
{
	struct tr_lease_row rows[3] = {
		{ .rank = NORMAL, .can_borrow = true, .is_active = true },
		{ .rank = NORMAL, .can_borrow = true },
		{ .rank = NORMAL },
	};

	(void)state;
	tr_leases_decide(rows, 3, false);
	assert_true(rows[0].may_borrow);
	assert_false(rows[1].may_borrow);
	assert_false(rows[2].may_borrow);
	rows[1].is_active = true;
	tr_leases_decide(rows, 3, false);
	assert_false(rows[0].may_borrow || rows[1].may_borrow);
	rows[0].is_active = rows[1].is_active = false;
	tr_leases_decide(rows, 3, false);
	assert_true(rows[0].may_borrow && rows[1].may_borrow);
	tr_leases_decide(rows, 3, true);
	assert_false(rows[0].may_borrow || rows[1].may_borrow || rows[2].may_borrow);
	for (unsigned i = 0; i < 3; i++)
		assert_false(rows[i].must_wait);
}

static void only_strictly_lower_ones_wait(void **state)
{
	(void)state;
	for (unsigned active = HIGH; active <= LOW; active++) {
		struct tr_lease_row rows[4] = { { .rank = HIGH },
						{ .rank = NORMAL },
						{ .rank = LOW },
						{ .rank = active } };

		rows[active].is_active = true;
		tr_leases_decide(rows, 4, false);
		for (unsigned rank = HIGH; rank <= LOW; rank++)
			assert_int_equal(rows[rank].must_wait, rank > active);
		assert_false(rows[3].must_wait);
	}
}

static void lower_ones_do_not_keep_higher_ones_from_borrowing(void **state)
{
	struct tr_lease_row rows[2] = {
		{ .rank = HIGH, .can_borrow = true, .is_active = true },
		{ .rank = LOW, .can_borrow = true, .is_active = true },
	};

	(void)state;
	tr_leases_decide(rows, 2, false);
	assert_true(rows[0].may_borrow && !rows[0].must_wait);
	assert_true(!rows[1].may_borrow && rows[1].must_wait);
}

static void words_that_change_make_active_for_a_hold(void **state)
{
	struct tr_activity activity = { 0 };
	struct tr_state_pace pace = { 0 };
	uint64_t now = 50 * SECOND;
	_Atomic uint64_t *words[] = { &pace.launches, &pace.charged_ns, &pace.throttled_ns,
				      &pace.gate_waits, &pace.tat_max_ns };

	(void)state;
	assert_false(tr_activity_is_active(&activity, now, SECOND));
	tr_activity_look(&activity, &pace, now);
	assert_false(tr_activity_is_active(&activity, now, SECOND));
	for (size_t i = 0; i < TR_COUNT(words); i++) {
		(*words[i])++;
		tr_activity_look(&activity, &pace, now);
		assert_true(tr_activity_is_active(&activity, now, SECOND));
		tr_activity_look(&activity, &pace, now + TR_LEASE_HOLD_NS);
		assert_true(
			tr_activity_is_active(&activity, now + TR_LEASE_HOLD_NS, SECOND));
		now += TR_LEASE_HOLD_NS + 1;
		tr_activity_look(&activity, &pace, now);
		assert_false(tr_activity_is_active(&activity, now, SECOND));
	}
}

static void queued_work_is_believed_for_a_while(void **state)
{
	struct tr_activity activity = { 0 };
	struct tr_state_pace pace = { .tat_max_ns = 53 * SECOND };
	uint64_t now = 50 * SECOND;

	(void)state;
	tr_activity_look(&activity, &pace, now);
	assert_true(tr_activity_is_active(&activity, now + 2 * SECOND, 10 * SECOND));
	assert_true(tr_activity_is_active(&activity, 53 * SECOND + 10 * MS, 10 * SECOND));
	assert_false(tr_activity_is_active(&activity, 53 * SECOND + 40 * MS, 10 * SECOND));
	/* Garbage: not for ever. */
	pace.tat_max_ns = UINT64_MAX;
	tr_activity_look(&activity, &pace, now);
	assert_true(tr_activity_is_active(&activity, now + 10 * SECOND, 10 * SECOND));
	assert_false(tr_activity_is_active(&activity, now + 11 * SECOND, 10 * SECOND));
}

static void a_clock_that_jumps_ends_nothing_for_ever(void **state)
{
	struct tr_activity activity = { 0 };
	struct tr_state_pace pace = { .launches = 1 };
	uint64_t now = 10000 * SECOND;

	(void)state;
	tr_activity_look(&activity, &pace, now);
	/* Hours on: idle until it does something. */
	tr_activity_look(&activity, &pace, now + 7200 * SECOND);
	assert_false(tr_activity_is_active(&activity, now + 7200 * SECOND, SECOND));
	pace.launches++;
	tr_activity_look(&activity, &pace, now + 7200 * SECOND);
	assert_true(tr_activity_is_active(&activity, now + 7200 * SECOND, SECOND));
	/* Hours back: active at most until the clock has caught up or it has been seen again. */
	pace.launches++;
	tr_activity_look(&activity, &pace, SECOND);
	assert_true(tr_activity_is_active(&activity, SECOND, SECOND));
	assert_false(tr_activity_is_active(&activity, SECOND + 31 * MS, SECOND));
}

static void trust_is_what_may_be_owed(void **state)
{
	static struct tr_policy_device row;
	uint64_t longest_ns = 0;

	(void)state;
	assert_int_equal(tr_activity_trust_ns(&row, longest_ns), TR_DEBT_MAX_NS);
	row.rate_q32 = RATE(5);
	longest_ns = SECOND;
	assert_in_range(tr_activity_trust_ns(&row, longest_ns), 39 * SECOND, 41 * SECOND);
	longest_ns = UINT64_MAX;
	assert_int_equal(tr_activity_trust_ns(&row, longest_ns), 3600 * SECOND);
	row.rate_q32 = row.rate_max_q32 = row.debt_max_ns = UINT64_MAX;
	assert_int_equal(tr_activity_trust_ns(&row, longest_ns), 3600 * SECOND);
}

static void any_word_is_a_priority_and_a_rate(void **state)
{
	static struct tr_policy_device row;

	(void)state;
	assert_int_equal(tr_priority_rank(TR_PRIORITY_HIGH), HIGH);
	assert_int_equal(tr_priority_rank(TR_PRIORITY_NORMAL), NORMAL);
	assert_int_equal(tr_priority_rank(TR_PRIORITY_LOW), LOW);
	assert_int_equal(tr_priority_rank(UINT32_MAX), NORMAL);
	assert_false(tr_can_borrow(&row));
	row.rate_q32 = RATE(30);
	assert_false(tr_can_borrow(&row));
	row.rate_max_q32 = RATE(30);
	assert_false(tr_can_borrow(&row));
	row.rate_max_q32 = RATE(100);
	assert_true(tr_can_borrow(&row));
	row.rate_q32 = RATE(100);
	assert_false(tr_can_borrow(&row));
}

/* ---- how fast: two slices in time, looked at every 10 ms ------------------------------- */

struct pair { /* one that borrows or is low, one that comes and goes */
	struct tr_activity activity[2];
	struct tr_state_pace pace[2];
	struct tr_lease_row rows[2];
	uint64_t lease_until_ns, block_until_ns;
};

static void look(struct pair *pair, uint64_t now_ns)
{
	for (unsigned i = 0; i < 2; i++) {
		tr_activity_look(&pair->activity[i], &pair->pace[i], now_ns);
		pair->rows[i].is_active = tr_activity_is_active(&pair->activity[i], now_ns,
								SECOND);
	}
	tr_leases_decide(pair->rows, 2, false);
	pair->lease_until_ns = pair->rows[0].may_borrow
				       ? now_ns + 10 * MS + TR_LEASE_BORROW_NS
				       : 0;
	pair->block_until_ns = pair->rows[0].must_wait ? now_ns + TR_LEASE_BLOCK_NS : 0;
}

/* A few are looked at every time where one must make way for them; of many 1000 a second, and never
 * more than 40 ms apart. */
static void sleepers_are_looked_at_as_often_as_can_be_paid(void **state)
{
	struct tr_activity asleep = { .changed_ns = SECOND, .is_known = true };
	uint64_t now = 2 * SECOND;

	(void)state;
	assert_true(tr_activity_pause_ns(&asleep, now, 4, 1, false) <= 10 * MS);
	assert_true(tr_activity_pause_ns(&asleep, now, 4, 0, true) <= 10 * MS);
	assert_int_equal(tr_activity_pause_ns(&asleep, now, 32, 1, false), 32 * MS);
	assert_int_equal(tr_activity_pause_ns(&asleep, now, 4096, 1, false), 40 * MS);
	assert_int_equal(tr_activity_pause_ns(&asleep, now, 4, 0, false), 40 * MS);
	assert_int_equal(tr_activity_pause_ns(&asleep, now, 64, 0, false), 64 * MS);
	assert_true(tr_activity_pause_ns(&asleep, now, 64, 2, false) > 40 * MS);
	asleep.changed_ns = now - 100 * MS; /* it may come back any moment */
	assert_int_equal(tr_activity_pause_ns(&asleep, now, 64, 1, false), 0);
}

/* Each look wakes a core: where nothing else changes the next is when a sleeper is due, or half of the
 * way; never later than a lease may stand. */
static void looks_are_as_far_apart_as_sleepers_allow(void **state)
{
	(void)state;
	for (uint64_t due_ns = 0; due_ns < 300 * MS; due_ns += MS) {
		for (unsigned is_beside = 0; is_beside < 2; is_beside++) {
			uint64_t next_ns = tr_leases_doze_ns(due_ns, is_beside);
			uint64_t least_ns = is_beside ? 10 * MS : 20 * MS;

			assert_int_equal(next_ns % (10 * MS), 0);
			assert_in_range(next_ns, least_ns, 40 * MS);
			assert_true(next_ns <= due_ns + 5 * MS || next_ns == least_ns);
		}
	}
	assert_int_equal(tr_leases_doze_ns(0, true), 10 * MS);
	assert_int_equal(tr_leases_doze_ns(40 * MS, true), 40 * MS);
	assert_int_equal(tr_leases_doze_ns(64 * MS, false), 30 * MS);
	assert_int_equal(tr_leases_doze_ns(34 * MS, false), 30 * MS);
	assert_int_equal(tr_leases_doze_ns(38 * MS, false), 40 * MS);
	assert_int_equal(tr_leases_doze_ns(UINT64_MAX, true), 40 * MS);
}

/* The neighbour returns at any moment between two looks; looks may be 4 ms late. */
static void returns_are_noticed_in_time(void **state)
{
	struct pair pair = { .rows = { { .rank = LOW, .can_borrow = true },
				       { .rank = HIGH } } };
	uint64_t now = 100 * SECOND, worst = 0;
	unsigned seed = 1;

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t comes, idle_until;

		/* Idle for 100 ms: the borrower has the device to itself. */
		for (idle_until = now + 100 * MS; now < idle_until; now += 10 * MS) {
			pair.pace[0].launches++;
			look(&pair, now);
		}
		assert_true(pair.lease_until_ns > now);
		assert_int_equal(pair.block_until_ns, 0);
		seed = seed * 1664525u + 1013904223u;
		comes = now - 10 * MS + (seed >> 8) % (10 * MS);
		now += (seed >> 4) % (4 * MS);
		/* It launches every 20 ms from then on. */
		pair.pace[1].launches++;
		look(&pair, now);
		assert_int_equal(pair.lease_until_ns, 0);
		assert_true(pair.block_until_ns > now);
		worst = now - comes > worst ? now - comes : worst;
		for (unsigned k = 0; k < 20; k++) {
			now += 10 * MS;
			pair.pace[1].launches += k & 1;
			look(&pair, now);
			assert_true(pair.block_until_ns > now);
			assert_int_equal(pair.lease_until_ns, 0);
		}
	}
	/* With 20 ms queued ahead and a kernel of 10 ms under way it stays below 50 ms. */
	assert_true(worst <= 14 * MS);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_else_active_lets_borrow),
		cmocka_unit_test(only_strictly_lower_ones_wait),
		cmocka_unit_test(lower_ones_do_not_keep_higher_ones_from_borrowing),
		cmocka_unit_test(words_that_change_make_active_for_a_hold),
		cmocka_unit_test(queued_work_is_believed_for_a_while),
		cmocka_unit_test(a_clock_that_jumps_ends_nothing_for_ever),
		cmocka_unit_test(trust_is_what_may_be_owed),
		cmocka_unit_test(any_word_is_a_priority_and_a_rate),
		cmocka_unit_test(sleepers_are_looked_at_as_often_as_can_be_paid),
		cmocka_unit_test(looks_are_as_far_apart_as_sleepers_allow),
		cmocka_unit_test(returns_are_noticed_in_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
