/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <stdlib.h>

#include "draw.h"
#include "slice/parts.h"
#include "slice/rate.h"

/* F20: whose the slice's time was, where what several report is charged once to who came first. */

#define MS UINT64_C(1000000)
#define T0 (UINT64_C(1000000) * MS)

static struct tr_state *state_file;
static struct tr_parts *parts; /* of each process */
static uint64_t now_ns;

#define PROCESSES 4u

static int fresh(void **state)
{
	(void)state;
	draw_from(0x9a275);
	state_file = calloc(1, sizeof(*state_file));
	parts = calloc(PROCESSES, sizeof(*parts));
	now_ns = T0;
	if (!state_file || !parts)
		return -1;
	atomic_store(&state_file->high_water, PROCESSES);
	return 0;
}

static int drop(void **state)
{
	(void)state;
	free(state_file);
	free(parts);
	return 0;
}

/* Process P reports; of that the slice is charged OURS. */
static void report(uint32_t p, uint64_t known_ns, uint64_t wanted_ns, uint64_t ours_ns)
{
	struct tr_state_usage *row = tr_usage_row(state_file, p, 0);

	tr_parts_begin(&parts[p], state_file, row, now_ns);
	atomic_fetch_add(&state_file->pace[0].gpu_ns, ours_ns);
	tr_parts_add(&parts[p], &state_file->pace[0], row, known_ns, wanted_ns, ours_ns);
	tr_parts_share(&parts[p], state_file, row, now_ns);
}

static uint64_t shown_ns(uint32_t p)
{
	return tr_parts_gpu_ns(&state_file->pace[0], tr_usage_row(state_file, p, 0));
}

static void assert_sum(uint32_t processes)
{
	uint64_t sum = 0, all = atomic_load(&state_file->pace[0].gpu_ns);

	for (uint32_t p = 0; p < processes; p++)
		sum += shown_ns(p);
	assert_in_range(sum, all - processes, all);
}

/* Both want it always, the first reports first. */
static void test_first_reporter(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++, now_ns += 10 * MS) {
		report(0, 0, 10 * MS, 10 * MS);
		report(1, 0, 10 * MS, 0);
		assert_sum(2);
	}
	assert_in_range(shown_ns(0), 4900 * MS, 5100 * MS);
	assert_in_range(shown_ns(1), 4900 * MS, 5100 * MS);
}

/* Who knows has that; who always wants the rest. Three of the first kind and one of the other. */
static void test_known_and_wanted(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++, now_ns += 10 * MS) {
		report(3, 0, 10 * MS, 10 * MS);
		for (uint32_t p = 0; p < 3; p++)
			report(p, MS, 0, 0);
	}
	for (uint32_t p = 0; p < 3; p++)
		assert_in_range(shown_ns(p), 960 * MS, 1040 * MS);
	assert_in_range(shown_ns(3), 6800 * MS, 7200 * MS);
	assert_sum(4);
}

/* Wanted half of the time beside one that always wants it: a quarter. */
static void test_wanted_now_and_then(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++, now_ns += 10 * MS) {
		report(0, 0, 10 * MS, 10 * MS);
		report(1, 0, 5 * MS, 0);
	}
	assert_in_range(shown_ns(0), 7300 * MS, 7700 * MS);
	assert_in_range(shown_ns(1), 2300 * MS, 2700 * MS);
}

/* Where gates make turns everybody has what it told. */
static void test_turns_by_gates(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1000; i++, now_ns += 10 * MS) {
		report(0, 0, 3 * MS, 3 * MS);
		report(1, 0, MS, MS);
	}
	assert_in_range(shown_ns(0), 2900 * MS, 3100 * MS);
	assert_in_range(shown_ns(1), 900 * MS, 1100 * MS);
}

/* What a process that is gone had stays its own. */
static void test_gone(void **state)
{
	struct tr_state_usage *row = tr_usage_row(state_file, 0, 0);

	(void)state;
	for (unsigned i = 0; i < 1000; i++, now_ns += 10 * MS) {
		report(0, 0, 10 * MS, 10 * MS);
		report(1, 0, 10 * MS, 0);
	}
	atomic_store(&row->gpu_ns, 0);
	atomic_store(&row->told, 0);
	for (unsigned i = 0; i < 100; i++, now_ns += 10 * MS)
		report(1, 10 * MS, 0, 10 * MS);
	assert_in_range(shown_ns(1), 5900 * MS, 6100 * MS);
	/* and who has the row next begins at 0 */
	parts[0] = (struct tr_parts){ 0 };
	for (unsigned i = 0; i < 100; i++, now_ns += 10 * MS) {
		report(1, 0, 10 * MS, 10 * MS);
		report(0, 0, 10 * MS, 0);
	}
	assert_in_range(shown_ns(0), 400 * MS, 600 * MS);
	assert_in_range(shown_ns(1), 6400 * MS, 6600 * MS);
}

/* A counter never falls, and no word makes anything but time of it. */
static void test_garbage(void **state)
{
	_Atomic uint64_t *const words[] = { &tr_usage_row(state_file, 1, 0)->told,
					    &state_file->pace[0].gpu_ns,
					    &state_file->pace[0].longest_ns,
					    &state_file->pace[0].parts_ns };

	(void)state;
	for (unsigned i = 0; i < 20000; i++, now_ns += draw(20 * MS)) {
		uint64_t before = atomic_load(&tr_usage_row(state_file, 0, 0)->gpu_ns), now;

		report(0, draw(5 * MS), draw(10 * MS), draw(10 * MS));
		report(1, draw(5 * MS), draw(10 * MS), draw(10 * MS));
		if (i % 50 == 0)
			atomic_store(words[draw(4)],
				     draw(2) ? UINT64_MAX - draw(MS) : draw(MS));
		now = atomic_load(&tr_usage_row(state_file, 0, 0)->gpu_ns);
		assert_true(now >= before);
		assert_true(now <= 2 * (now_ns - T0) + 20 * MS);
		(void)shown_ns(0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_first_reporter, fresh, drop),
		cmocka_unit_test_setup_teardown(test_known_and_wanted, fresh, drop),
		cmocka_unit_test_setup_teardown(test_wanted_now_and_then, fresh, drop),
		cmocka_unit_test_setup_teardown(test_turns_by_gates, fresh, drop),
		cmocka_unit_test_setup_teardown(test_gone, fresh, drop),
		cmocka_unit_test_setup_teardown(test_garbage, fresh, drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
