/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <stdlib.h>

#include "draw.h"
#include "slice/rate.h"

/* Rows of the state file by process and device, and fairness among processes by them. */

#define MS UINT64_C(1000000)
#define T0 (UINT64_C(1000000) * MS) /* the machine has been up for a while */

static struct tr_state *state_file;

static int fresh(void **state)
{
	(void)state;
	draw_from(0x5eed);
	state_file = calloc(1, sizeof(*state_file));
	return state_file ? 0 : -1;
}

static int drop(void **state)
{
	(void)state;
	free(state_file);
	return 0;
}

static void test_usage_rows(void **state)
{
	struct tr_state_usage *rows[TR_DEVICES_MAX];

	(void)state;
	for (uint32_t d = 0; d < TR_DEVICES_MAX; d++) {
		rows[d] = tr_usage_row(state_file, 1023, d);
		assert_non_null(rows[d]);
		assert_ptr_equal(tr_usage_row(state_file, 1023, d), rows[d]);
		for (uint32_t k = 0; k < d; k++)
			assert_ptr_not_equal(rows[k], rows[d]);
	}
	for (unsigned i = 0; i < TR_USAGE_ROWS; i++)
		if (!state_file->usage[i].owner)
			state_file->usage[i].owner = 0x8000;
	assert_null(tr_usage_row(state_file, 5, 0));
}

/* 1024 processes have a row each, and whoever looks no further than to the high water sees it. */
static void test_usage_of_all_slots(void **state)
{
	(void)state;
	assert_int_equal(tr_usage_rows(0), 0);
	assert_int_equal(tr_usage_rows(UINT32_MAX), TR_USAGE_ROWS);
	for (uint32_t s = 0; s < TR_SLOTS_MAX; s++) {
		struct tr_state_usage *it = tr_usage_row(state_file, s, s % TR_DEVICES_MAX);

		assert_non_null(it);
		assert_true(it - state_file->usage < tr_usage_rows(s + 1));
	}
}

static void test_fairness(void **state)
{
	struct tr_state_usage *a = tr_usage_row(state_file, 0, 0);
	struct tr_state_usage *b = tr_usage_row(state_file, 1, 0);
	struct tr_state_usage *other = tr_usage_row(state_file, 1, 1);

	(void)state;
	state_file->high_water = 2;
	assert_false(tr_usage_must_yield(state_file, a, T0));
	tr_usage_advance(a, 500 * MS); /* alone: it may be as far as it likes */
	assert_false(tr_usage_must_yield(state_file, a, T0 + 500 * MS));
	/* a newcomer begins where the slowest is */
	assert_false(tr_usage_must_yield(state_file, b, T0 + 510 * MS));
	assert_int_equal(b->vtime_ns, 500 * MS);
	tr_usage_advance(a, 21 * MS);
	assert_true(tr_usage_must_yield(state_file, a, T0 + 520 * MS));
	assert_false(tr_usage_must_yield(state_file, b, T0 + 520 * MS));
	tr_usage_settle(a, 21 * MS, 5 * MS); /* it was less */
	assert_false(tr_usage_must_yield(state_file, a, T0 + 525 * MS));
	tr_usage_advance(a, 100 * MS);
	assert_true(tr_usage_must_yield(state_file, a, T0 + 560 * MS));
	/* b has not been seen for 50 ms, other's device is none of a's business */
	(void)tr_usage_must_yield(state_file, other, T0 + 600 * MS);
	assert_false(tr_usage_must_yield(state_file, a, T0 + 571 * MS));
}

/* Whatever the rows hold, somebody may go; and who does not move holds nobody for ever. */
static void test_fairness_is_live(void **state)
{
	struct tr_state_usage *rows[5];

	(void)state;
	state_file->high_water = 5;
	for (unsigned i = 0; i < 5; i++)
		rows[i] = tr_usage_row(state_file, i, 0);
	for (unsigned n = 0; n < 20000; n++) {
		unsigned yielding = 0;

		for (unsigned i = 0; i < 5; i++) {
			rows[i]->vtime_ns = draw(0) >> draw(64);
			rows[i]->seen_ns = draw(2) ? T0 - draw(60 * MS)
						   : draw(0) >> draw(64);
		}
		for (unsigned i = 0; i < 5; i++)
			yielding += tr_usage_must_yield(state_file, rows[i], T0);
		assert_true(yielding < 5);
		assert_false(tr_usage_must_yield(state_file, rows[n % 5], T0 + 51 * MS));
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_usage_rows, fresh, drop),
		cmocka_unit_test_setup_teardown(test_usage_of_all_slots, fresh, drop),
		cmocka_unit_test_setup_teardown(test_fairness, fresh, drop),
		cmocka_unit_test_setup_teardown(test_fairness_is_live, fresh, drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
