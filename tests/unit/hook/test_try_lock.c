/* SPDX-License-Identifier: Apache-2.0 */
#include "try_lock.h"

#include "tr_test.h"

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)
#define T0 (1000 * S)

static void test_one_at_a_time(void **unused)
{
	struct tr_try_lock lock = { 0 };

	(void)unused;
	assert_true(tr_try_hold(&lock, T0));
	assert_false(tr_try_hold(&lock, T0));
	assert_false(tr_try_hold(&lock, T0 + 5 * S));
	tr_let_go(&lock);
	assert_true(tr_try_hold(&lock, T0 + 6 * S));
}

/* The clock jumped, or all were stopped: the holder goes on where it was. */
static void test_jump_of_the_clock(void **unused)
{
	struct tr_try_lock lock = { 0 };
	uint64_t now_ns = T0;

	(void)unused;
	assert_true(tr_try_hold(&lock, now_ns));
	for (unsigned jump = 0; jump < 20; jump++) {
		now_ns += 3600 * S;
		for (unsigned i = 0; i < 100; i++)
			assert_false(tr_try_hold(&lock, now_ns += MS));
	}
}

/* A holder that never comes back is met for ten seconds. */
static void test_lost_holder(void **unused)
{
	struct tr_try_lock lock = { 0 };
	uint64_t now_ns = T0;

	(void)unused;
	assert_true(tr_try_hold(&lock, now_ns));
	while (!tr_try_hold(&lock, now_ns += 10 * MS))
		assert_true(now_ns < T0 + 12 * S);
	assert_true(now_ns > T0 + TR_TRY_LOCK_NS);
	/* and the one who took it is another holder */
	for (unsigned i = 0; i < 900; i++)
		assert_false(tr_try_hold(&lock, now_ns += 10 * MS));
}

/* Busy is not stuck: always somebody else. */
static void test_many_holders(void **unused)
{
	struct tr_try_lock lock = { 0 };
	uint64_t now_ns = T0;

	(void)unused;
	for (unsigned i = 0; i < 200; i++) {
		assert_true(tr_try_hold(&lock, now_ns));
		for (unsigned k = 0; k < 9; k++)
			assert_false(tr_try_hold(&lock, now_ns += S));
		tr_let_go(&lock);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_at_a_time),
		cmocka_unit_test(test_jump_of_the_clock),
		cmocka_unit_test(test_lost_holder),
		cmocka_unit_test(test_many_holders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
