/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/matrix.h"

/* The judge's arithmetic on series that were made by hand: 1 s of warm-up, then 4 s. */

#define MS      UINT64_C(1000000)
#define SAMPLES 501

static struct tr_sample samples[SAMPLES];
static struct tr_series series = { .samples = samples, .count = SAMPLES, .first = 100 };

/* Every 10 ms; BUSY(i) of each step that ends at sample i. */
static void make(uint64_t (*busy)(unsigned i))
{
	memset(samples, 0, sizeof(samples));
	for (unsigned i = 0; i < SAMPLES; i++) {
		samples[i].at_ns = 1000 * MS + i * 10 * MS;
		samples[i].busy_ns[0][0] = i ? samples[i - 1].busy_ns[0][0] + busy(i) : 0;
	}
}

static uint64_t half(unsigned i)
{
	(void)i;
	return 5 * MS;
}

/* All in warm-up, then half; between 2 s and 3 s of the window it rests, then has it all. */
static uint64_t uneven(unsigned i)
{
	if (i <= 100)
		return 10 * MS;
	return i <= 300 ? 5 * MS : i <= 400 ? 0 : 10 * MS;
}

static void test_share(void **state)
{
	(void)state;
	make(half);
	assert_true(fabs(tr_series_share(&series, 0, 0, 100, 500) - 50) < 1e-9);
	make(uneven);
	assert_true(fabs(tr_series_share(&series, 0, 0, 100, 500) - 50) < 1e-9);
	assert_true(fabs(tr_series_share(&series, 0, 0, 100, 200) - 50) < 1e-9);
	assert_true(fabs(tr_series_share(&series, 0, 0, 300, 400)) < 1e-9);
}

static void F13_windows(void **state)
{
	(void)state;
	make(half);
	assert_true(tr_series_worst_window(&series, 0, 0, 1000 * MS, 50) < 1e-9);
	/* A mean of 50 hides a second with nothing and one with everything. */
	make(uneven);
	assert_true(fabs(tr_series_worst_window(&series, 0, 0, 1000 * MS, 50) - 50) < 1e-9);
	/* A window twice as long sees half of it. */
	assert_true(fabs(tr_series_worst_window(&series, 0, 0, 2000 * MS, 50) - 25) < 1e-9);
}

static void F13_stall(void **state)
{
	(void)state;
	make(half);
	assert_int_equal(tr_series_stall_ns(&series, 0, 0), 0);
	make(uneven);
	assert_int_equal(tr_series_stall_ns(&series, 0, 0), 1000 * MS);
}

static uint64_t late(unsigned i)
{
	return i <= 203 ? 0 : 7 * MS;
}

static void test_lag(void **state)
{
	(void)state;
	make(late);
	/* At 70 % it comes 30 ms late and keeps its rate from there on. */
	assert_int_equal(
		tr_series_lag_ns(&series, 0, 0, samples[200].at_ns, 200 * MS, 0.7) / MS,
		30);
	/* As all of the device it falls behind more and more: 30 + 17 x 3 ms. */
	assert_int_equal(
		tr_series_lag_ns(&series, 0, 0, samples[200].at_ns, 200 * MS, 1.0) / MS,
		81);
}

/* 30 % in even steps, and 90 ms in a row from the 301st on; before that it rests for as long. */
static uint64_t bursting(unsigned i)
{
	return i <= 10 ? 10 * MS : i > 292 && i <= 310 ? (i > 301 ? 10 * MS : 0) : 3 * MS;
}

static void I6_any_window(void **state)
{
	struct tr_beyond most;

	(void)state;
	/* At its rate no window has more than what may begin and end between two samples. */
	make(half);
	most = tr_series_beyond(&series, 0, 0, 0, 0.5);
	assert_true(fabs(most.ns - 10.0 * MS) < 1);
	/* The worst window is found whatever its length, and the rest before it is no excuse. */
	make(bursting);
	most = tr_series_beyond(&series, 0, 0, series.first, 0.3);
	assert_true(fabs(most.ns - (90 - 27 + 6) * 1.0 * MS) < 1);
	assert_int_equal(most.from_ns, samples[301].at_ns);
	assert_int_equal(most.to_ns, samples[310].at_ns);
	/* From the first launch on: 100 ms in a row there, which that rest did not pay. */
	most = tr_series_beyond(&series, 0, 0, 0, 0.3);
	assert_true(fabs(most.ns - (70 - 27 + 63 + 6) * 1.0 * MS) < 1);
	assert_int_equal(most.from_ns, samples[0].at_ns);
	assert_int_equal(most.to_ns, samples[310].at_ns);
	/* A tenth of a point too much is found in a long window. */
	make(half);
	most = tr_series_beyond(&series, 0, 0, 0, 0.499);
	assert_true(most.ns > 14.0 * MS);
	assert_int_equal(most.to_ns - most.from_ns, 5000 * MS);
}

static void test_summary(void **state)
{
	struct tr_summary good = {
		.cells = 10, .mean = 1, .window_off = 5, .stall_over = 1
	};
	struct tr_summary s;

	(void)state;
	assert_true(tr_summary_is_good(&good, true));
	s = good;
	s.mean = 1.01;
	assert_false(tr_summary_is_good(&s, false));
	s = good;
	s.over = 1;
	assert_false(tr_summary_is_good(&s, false));
	s = good;
	s.failed = 1;
	assert_false(tr_summary_is_good(&s, false));
	s = good;
	s.window_off = 5.1;
	assert_false(tr_summary_is_good(&s, true));
	assert_true(tr_summary_is_good(&s, false));
	s = good;
	s.stall_over = 1.1;
	assert_false(tr_summary_is_good(&s, true));
	s = (struct tr_summary){ 0 }; /* nothing measured is nothing shown */
	assert_false(tr_summary_is_good(&s, false));
}

static void test_lists(void **state)
{
	static const char *const wrong[] = { "",    "5,", ",5", "0",  "101",
					     "5;6", "x",  "-5", "5 6" };
	struct tr_matrix matrix = { 0 };
	struct tr_list list;
	struct tr_err err;

	(void)state;
	assert_int_equal(tr_list_parse(&list, "quota", "5,10,100", 1, 100, &err), 0);
	assert_int_equal(list.count, 3);
	assert_int_equal(list.values[2], 100);
	for (size_t i = 0; i < TR_COUNT(wrong); i++)
		assert_int_equal(tr_list_parse(&list, "quota", wrong[i], 1, 100, &err),
				 -22);
	assert_int_equal(tr_workloads_parse(&matrix, "10us,fixed:3ms,mixed", &err), 0);
	assert_int_equal(matrix.workload_count, 3);
	assert_int_equal(matrix.workloads[1]->kernel_ns, 3 * MS);
	assert_int_equal(tr_workloads_parse(&matrix, "fixed:3", &err), -22);
	assert_int_equal(tr_workloads_parse(&matrix, "fixed:61s", &err), -22);
	assert_int_equal(tr_workloads_parse(&matrix, "nothing", &err), -22);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_share),    cmocka_unit_test(F13_windows),
		cmocka_unit_test(F13_stall),     cmocka_unit_test(test_lag),
		cmocka_unit_test(test_summary),  cmocka_unit_test(test_lists),
		cmocka_unit_test(I6_any_window),
	};

	return cmocka_run_group_tests_name("series", tests, NULL, NULL);
}
