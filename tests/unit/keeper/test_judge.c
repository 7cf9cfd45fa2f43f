/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/judge.h"

#include "../tr_test.h"

#define MS        UINT64_C(1000000)
#define SECOND    UINT64_C(1000000000)
#define SAMPLE_US UINT64_C(166667)

/* A slice on a device: kernels of KERNEL_NS, SHARE of the time in the long run. Its own measurement
 * tells STRETCH times the truth, when a kernel ends, and with gamma applied that is paid; NVML tells
 * whole percents of each sample. Others have the rest of the time. */
struct tenant {
	uint64_t kernel_ns;
	double share, stretch;
	uint64_t now_ns, busy_ns, next_ns, left_ns, charged_ns, paid_ns;
	double in_force; /* gamma */
	struct tr_look second;
	bool is_alone;
	uint64_t all_busy_ns, launches;
	struct tr_samples samples;
	struct tr_gamma gamma;
	struct tr_watch watch;
	unsigned sharers, seed;
	double uncharged; /* part of its work that goes around the hook */
	double spans;     /* times what it charged, from begin to end */
	double late;      /* part of its charges that is not made yet */
	double late_ns;
};

static uint64_t noise(struct tenant *t, uint64_t below)
{
	t->seed = t->seed * 1664525u + 1013904223u;
	return below ? (t->seed >> 8) % below : 0;
}

static void charge(struct tenant *t, double ns)
{
	t->late_ns += ns;
	ns = t->late_ns * (1 - t->late);
	t->late_ns -= ns;
	t->charged_ns += (uint64_t)ns;
	t->paid_ns += (uint64_t)(ns * t->in_force);
}

/* Busy nanoseconds of the next STEP; starts a kernel when its time has come. */
static uint64_t work(struct tenant *t, uint64_t step_ns)
{
	uint64_t end_ns = t->now_ns + step_ns, busy_ns = 0;

	while (t->now_ns < end_ns) {
		uint64_t room = end_ns - t->now_ns, part;

		if (t->left_ns == 0 && t->next_ns > t->now_ns) {
			t->now_ns += t->next_ns - t->now_ns < room ? t->next_ns - t->now_ns
								   : room;
			continue;
		}
		if (t->left_ns == 0) {
			t->left_ns = t->kernel_ns + noise(t, t->kernel_ns / 10);
			t->launches++;
			t->next_ns += (uint64_t)((double)t->left_ns / t->share);
			if (t->next_ns < t->now_ns + t->left_ns)
				t->next_ns = t->now_ns + t->left_ns;
		}
		part = t->left_ns < room ? t->left_ns : room;
		t->left_ns -= part;
		t->now_ns += part;
		busy_ns += part;
		t->busy_ns += part;
		if (t->left_ns == 0) {
			charge(t, (double)t->busy_ns * t->stretch * (1 - t->uncharged));
			t->busy_ns = 0;
		}
	}
	return busy_ns;
}

/* A sixth of a second of it, as the keeper looks: 1.0 as 1. */
static double look(struct tenant *t, struct tr_look *out, bool *is_told)
{
	uint64_t charged_ns = t->charged_ns, paid_ns = t->paid_ns;
	uint64_t launches = t->launches;
	uint64_t busy_ns = work(t, SAMPLE_US * 1000);
	struct tr_gpu_sample row = { .pid = 1, .end_us = t->now_ns / 1000 };

	*out = (struct tr_look){ .wall_ns = SAMPLE_US * 1000,
				 .is_whole = true,
				 .sharers = t->sharers,
				 .longest_ns = t->kernel_ns };
	row.sm_percent = (unsigned)((busy_ns * 100 + SAMPLE_US * 500) / (SAMPLE_US * 1000));
	/* A process that did nothing has no row. */
	tr_samples_feed(&t->samples, &row, row.sm_percent > 0, row.end_us - SAMPLE_US, out);
	t->all_busy_ns += busy_ns;
	out->charged_ns = t->charged_ns - charged_ns;
	out->paid_ns = t->paid_ns - paid_ns;
	out->spanned_ns = (uint64_t)((double)out->charged_ns * t->spans);
	out->launches = t->launches - launches;
	out->others_ns = t->is_alone ? 0 : SAMPLE_US * 1000 - busy_ns;
	*is_told = false;
	tr_look_add(&t->second, out);
	if (t->second.wall_ns >= 6 * SAMPLE_US * 1000) {
		*is_told = tr_watch_feed(&t->watch, &t->second);
		t->second = (struct tr_look){ 0 };
	}
	t->in_force = (double)tr_gamma_feed(&t->gamma, out) / (double)TR_GAMMA_ONE_Q16;
	return t->in_force;
}

static double run(struct tenant *t, unsigned seconds, double *low, double *high)
{
	double gamma = 1.0;
	struct tr_look told;
	bool is_told;

	*low = 100;
	*high = 0;
	for (unsigned i = 0; i < 6 * seconds; i++) {
		gamma = look(t, &told, &is_told);
		*low = gamma < *low ? gamma : *low;
		*high = gamma > *high ? gamma : *high;
		assert_false(is_told);
	}
	return gamma;
}

static struct tenant make(uint64_t kernel_ns, double share, double stretch)
{
	return (struct tenant){ .kernel_ns = kernel_ns,
				.share = share,
				.stretch = stretch,
				.now_ns = 1000 * SECOND,
				.next_ns = 1000 * SECOND,
				.in_force = 1,
				.sharers = 4,
				.seed = 7 };
}

static const uint64_t kernels[] = { MS / 100, MS / 5, 5 * MS, 100 * MS, 500 * MS };
static const double shares[] = { 0.01, 0.05, 0.1, 0.2, 0.33, 0.5, 0.8, 0.95, 1.0 };

/* As long as some million kernels, at most two hours. */
static unsigned hours(uint64_t kernel_ns)
{
	return kernel_ns < MS ? 300 : 7200;
}

static void right_charges_leave_gamma_at_one(void **state)
{
	(void)state;
	for (size_t k = 0; k < TR_COUNT(kernels); k++)
		for (size_t s = 0; s < TR_COUNT(shares); s++) {
			struct tenant t = make(kernels[k], shares[s], 1.0);
			double low, high;

			(void)run(&t, hours(kernels[k]), &low, &high);
			if (low < 0.99 || high > 1.01)
				fail_msg("kernels of %llu ns, share %g: gamma %g to %g",
					 (unsigned long long)kernels[k], shares[s], low,
					 high);
		}
}

/* Whoever shares the GPU by turns measures the others' turns too. */
static void stretched_spans_are_found_out(void **state)
{
	static const double stretches[] = { 4.0, 2.0, 1.25, 0.9 };

	(void)state;
	for (size_t k = 1; k < TR_COUNT(kernels); k++)
		for (size_t s = 1; s < TR_COUNT(shares); s++)
			for (size_t i = 0; i < TR_COUNT(stretches); i++) {
				struct tenant t = make(kernels[k], shares[s], stretches[i]);
				double low, high, points;
				uint64_t busy_ns, paid_ns;

				/* More than the others' time cannot be in the spans. */
				if (shares[s] * (stretches[i] - 1) > 1 - shares[s])
					continue;
				(void)run(&t, 600 + (unsigned)(60 / shares[s]), &low,
					  &high);
				busy_ns = t.all_busy_ns;
				paid_ns = t.paid_ns;
				(void)run(&t, 200, &low, &high);
				/* What the slice gets wrong by it, in points of the device. */
				points = ((double)(t.paid_ns - paid_ns) -
					  (double)(t.all_busy_ns - busy_ns)) /
					 200e7;
				if (points > 0.6 || points < -0.6)
					fail_msg(
						"kernels of %llu ns, share %g, stretch %g: "
						"gamma %g to %g, %g points",
						(unsigned long long)kernels[k], shares[s],
						stretches[i], low, high, points);
			}
}

static void a_neighbour_comes_and_goes(void **state)
{
	struct tenant t = make(5 * MS, 0.5, 1.0);
	double low, high, gamma;

	(void)state;
	(void)run(&t, 60, &low, &high);
	t.stretch = 2.0;
	gamma = run(&t, 10, &low, &high);
	assert_true(gamma > 0.48 && gamma < 0.52);
	t.stretch = 1.0;
	gamma = run(&t, 10, &low, &high);
	assert_true(gamma > 0.985 && gamma < 1.015);
}

/* Work that neighbours stretch by and by: gamma is always late, and what that cost is made good. */
static void what_was_paid_wrongly_is_made_good(void **state)
{
	struct tenant t = make(5 * MS, 0.5, 1.0);
	double low, high, off_ms;
	unsigned i;

	(void)state;
	for (i = 0; i < 20; i++) {
		t.stretch = 1.0 + i * 0.05;
		(void)run(&t, 1, &low, &high);
	}
	(void)run(&t, 20, &low, &high);
	off_ms = ((double)t.paid_ns - (double)t.all_busy_ns) / 1e6;
	if (off_ms > 400 || off_ms < -400)
		fail_msg("%.0f ms too much", off_ms);
}

/* A submission is charged by gamma before and after it ran: that must mostly be the same one. */
static void gamma_stands_for_some_submissions(void **state)
{
	struct tenant t = make(500 * MS, 0.5, 1.6);
	double last = 1, gamma;
	unsigned changes = 0;
	struct tr_look told;
	bool is_told;

	(void)state;
	for (unsigned i = 0; i < 6 * 200; i++) {
		gamma = look(&t, &told, &is_told);
		changes += gamma < last || gamma > last;
		last = gamma;
	}
	assert_true(changes > 10);
	assert_true(changes <= t.launches / 2);
}

/* Charges that nobody else's time explains are the slice's own affair. */
static void others_who_are_idle_explain_nothing(void **state)
{
	struct tenant t = make(5 * MS, 0.5, 2.0);
	double low, high;

	(void)state;
	t.is_alone = true;
	(void)run(&t, 60, &low, &high);
	assert_true(low >= 0.74);
}

/* Long spans of eight processes that lie in each other's are charged more than once. */
static void its_own_overlap_explains_as_much(void **state)
{
	struct tr_look one = { .wall_ns = SECOND,
			       .busy_ns = 700 * MS,
			       .charged_ns = 1300 * MS,
			       .doubt_ns = 5 * MS,
			       .others_ns = 300 * MS,
			       .longest_ns = 500 * MS,
			       .launches = 2,
			       .samples = 6,
			       .sharers = 32,
			       .is_whole = true };
	struct tr_gamma gamma = { 0 };
	double found = 1;

	(void)state;
	for (unsigned n = 0; n < 200; n++) {
		one.paid_ns = (uint64_t)(found * (double)one.charged_ns);
		found = (double)tr_gamma_feed(&gamma, &one) / TR_GAMMA_ONE_Q16;
	}
	if (found < 0.52 || found > 0.56)
		fail_msg("gamma %g", found);
}

/* Drivers that tell one sample a second: a slice that works all the time is found out too. */
static void one_sample_a_second_is_enough(void **state)
{
	static const double busy[] = { 0.1, 0.3, 0.56, 0.8, 0.95 };

	(void)state;
	for (size_t i = 0; i < TR_COUNT(busy); i++) {
		struct tr_gamma gamma = { 0 };
		struct tr_look one = { .wall_ns = SECOND,
				       .busy_ns = (uint64_t)(busy[i] * 1e9),
				       .charged_ns = (uint64_t)(busy[i] * 1.6e9),
				       .doubt_ns = 5 * MS,
				       .others_ns = SECOND,
				       .longest_ns = 11 * MS,
				       .samples = 1,
				       .sharers = 2,
				       .is_whole = true };
		double found = 1;

		for (unsigned n = 0; n < 30; n++) {
			one.paid_ns = (uint64_t)(found * (double)one.charged_ns);
			found = (double)tr_gamma_feed(&gamma, &one) / TR_GAMMA_ONE_Q16;
		}
		if (found < 0.61 || found > 0.64)
			fail_msg("busy %g: gamma %g", busy[i], found);
	}
}

static void few_data_and_mixed_data_say_nothing(void **state)
{
	struct tr_gamma gamma = { 0 };
	struct tr_look one = { .wall_ns = SECOND,
			       .busy_ns = SECOND / 10,
			       .charged_ns = SECOND / 2,
			       .samples = 2,
			       .is_whole = true };
	struct tr_look mixed = one;

	(void)state;
	assert_int_equal(tr_gamma_feed(&gamma, &one), TR_GAMMA_ONE_Q16);
	mixed.is_whole = false;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(tr_gamma_feed(&gamma, &mixed), TR_GAMMA_ONE_Q16);
	/* NVML tells nothing of it at all. */
	one.busy_ns = one.samples = 0;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(tr_gamma_feed(&gamma, &one), TR_GAMMA_ONE_Q16);
}

static void gamma_stays_in_its_bounds(void **state)
{
	static const uint64_t words[] = { 0, 1, SECOND, UINT64_MAX / 2, UINT64_MAX };
	struct tr_gamma gamma = { 0 };
	struct tr_watch watch = { 0 };
	unsigned seed = 3;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		struct tr_look any = { .is_whole = true };
		uint64_t *fields[] = { &any.wall_ns,    &any.busy_ns,  &any.charged_ns,
				       &any.spanned_ns, &any.doubt_ns, &any.longest_ns };
		uint64_t told;

		for (size_t f = 0; f < TR_COUNT(fields); f++) {
			seed = seed * 1664525u + 1013904223u;
			*fields[f] = words[(seed >> 10) % TR_COUNT(words)];
		}
		any.samples = seed >> 28;
		any.sharers = seed >> 30;
		told = tr_gamma_feed(&gamma, &any);
		assert_true(told >= TR_GAMMA_ONE_Q16 / 64 && told <= TR_GAMMA_ONE_Q16 * 4);
		if (gamma.sharers) /* as of the block that was judged last */
			assert_true(told >= TR_GAMMA_ONE_Q16 / (2 * gamma.sharers - 1) - 1);
		(void)tr_watch_feed(&watch, &any);
		assert_true(tr_watch_lowered_q16(&watch, told) <= 4 * TR_GAMMA_ONE_Q16);
		assert_true(tr_watch_lowered_q16(&watch, told) >= told);
	}
}

static unsigned told_within(struct tenant *t, unsigned seconds)
{
	struct tr_look seen;
	unsigned count = 0;

	for (unsigned i = 0; i < 6 * seconds; i++) {
		bool is_told;

		(void)look(t, &seen, &is_told);
		count += is_told;
	}
	return count;
}

static void bypassed_work_is_told(void **state)
{
	struct tenant half = make(5 * MS, 0.8, 1.0), all = half;

	(void)state;
	assert_int_equal(told_within(&half, 600), 0);
	half.uncharged = 0.5;
	assert_int_equal(told_within(&half, 2), 0);
	assert_int_equal(told_within(&half, 1), 1);
	assert_int_equal(told_within(&half, 9), 3);
	assert_true(tr_watch_lowered_q16(&half.watch, TR_GAMMA_ONE_Q16) >
		    TR_GAMMA_ONE_Q16 * 19 / 10);
	half.uncharged = 0;
	assert_int_equal(told_within(&half, 60), 0);
	assert_int_equal(tr_watch_lowered_q16(&half.watch, TR_GAMMA_ONE_Q16),
			 TR_GAMMA_ONE_Q16);
	/* Nothing charged ever, though it launches: it may be one long kernel, for a while. */
	all.uncharged = 1.0;
	assert_int_equal(told_within(&all, 29), 0);
	assert_true(told_within(&all, 4) > 0);
}

static void a_process_without_the_hook_is_told(void **state)
{
	struct tr_watch watch = { 0 };
	struct tr_look idle = { .wall_ns = SECOND, .busy_ns = SECOND / 2 };

	(void)state;
	assert_false(tr_watch_feed(&watch, &idle));
	assert_false(tr_watch_feed(&watch, &idle));
	assert_true(tr_watch_feed(&watch, &idle));
	assert_int_equal(tr_watch_lowered_q16(&watch, TR_GAMMA_ONE_Q16),
			 4 * TR_GAMMA_ONE_Q16);
}

/* Busy for ten seconds, charged at the end: known by its length or not. */
static void a_long_kernel_is_no_bypass(void **state)
{
	(void)state;
	for (unsigned is_known = 0; is_known < 2; is_known++) {
		struct tr_watch watch = { 0 };

		for (unsigned i = 0; i < 100; i++) {
			struct tr_look second = { .wall_ns = SECOND, .busy_ns = SECOND };

			second.launches = i % 10 == 0;
			second.charged_ns = i % 10 == 9 ? 10 * SECOND : 0;
			second.longest_ns = is_known ? 10 * SECOND : 0;
			assert_false(tr_watch_feed(&watch, &second));
		}
	}
}

static void samples_count_for_their_length(void **state)
{
	static const struct tr_gpu_sample gap[] = { { 1, 50, 3166667 },
						    { 1, 50, 3000000 } };
	static const struct tr_gpu_sample later[] = { { 1, 100, 9000000 },
						      { 1, 100, 500 } };
	struct tr_samples samples = { 0 };
	struct tr_look seen = { 0 };

	(void)state;
	/* Unsorted. */
	tr_samples_feed(&samples, gap, 2, 2900000, &seen);
	assert_int_equal(seen.samples, 2);
	assert_int_equal(seen.busy_ns, (100000 + 166667) * UINT64_C(500));
	/* Idle for long, while others' samples went by; a row of before is nothing. */
	seen = (struct tr_look){ 0 };
	tr_samples_feed(&samples, later, 2, 8900000, &seen);
	assert_int_equal(seen.samples, 1);
	assert_int_equal(seen.busy_ns, UINT64_C(100000000));
	/* Told again: counted once. */
	tr_samples_feed(&samples, later, 2, 8900000, &seen);
	assert_int_equal(seen.samples, 1);
}

/* NVML rounds a quarter of a percent to no row at all: eight such processes are in doubt by four. */
static void the_silent_are_in_doubt(void **state)
{
	static const struct tr_gpu_sample late = { 1, 50, 1500000 };
	struct tr_samples samples = { 0 };
	struct tr_look seen = { 0 };

	(void)state;
	tr_samples_silent(&samples, 1000000, 1166667, &seen);
	assert_int_equal(seen.doubt_ns, UINT64_C(166667) * 5);
	assert_int_equal(seen.busy_ns, 0);
	/* Once, and a row that comes later counts from there. */
	tr_samples_silent(&samples, 1000000, 1166667, &seen);
	assert_int_equal(seen.doubt_ns, UINT64_C(166667) * 5);
	tr_samples_feed(&samples, &late, 1, 1166667, &seen);
	assert_int_equal(seen.busy_ns, UINT64_C(333333) * 500);
	/* Whoever has a row is not silent. */
	seen = (struct tr_look){ 0 };
	tr_samples_silent(&samples, 1166667, 1500000, &seen);
	assert_int_equal(seen.doubt_ns, 0);
}

static void doubts_of_many_do_not_add_up(void **state)
{
	uint64_t all = 0;

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		all = tr_doubt_and(all, 1000000);
	assert_in_range(all, 3999990, 4000000);
	assert_in_range(tr_doubt_without(5000000, 3000000), 3999999, 4000000);
	assert_int_equal(tr_doubt_without(3000000, 3000000), 0);
	assert_int_equal(tr_doubt_without(3000000, 5000000), 0);
	assert_in_range(tr_doubt_and(UINT64_MAX / 4, 0), UINT64_MAX / 5, UINT64_MAX / 3);
}

/* F13: the hook charges spans where nobody else works, what its keys cost beside others, and the mean
 * of all their spans where NVML finds that to be too little. */
static void others_and_kernels_that_vary_are_told(void **state)
{
	struct tenant t = make(MS, 0.3, 1);
	double low, high;

	(void)state;
	t.is_alone = true;
	(void)run(&t, 10, &low, &high);
	assert_false(t.gamma.is_shared);
	t.is_alone = false;
	(void)run(&t, 3, &low, &high);
	assert_true(t.gamma.is_shared);
	assert_int_equal(t.gamma.sharers, 4);
	t.stretch = 1 / 1.1; /* gamma mends that */
	(void)run(&t, 20, &low, &high);
	assert_false(t.gamma.is_varied);
	t.stretch = 1 / 3.0;
	for (unsigned i = 0; i < 24; i++) { /* four seconds */
		struct tr_look told;
		bool is_told;

		(void)look(&t, &told, &is_told);
	}
	assert_true(t.gamma.is_varied);
	t.stretch = 2; /* it stays so: else it would go back and forth */
	(void)run(&t, 20, &low, &high);
	assert_true(t.gamma.is_varied);
	t.is_alone = true;
	(void)run(&t, 10, &low, &high);
	assert_false(t.gamma.is_shared);
	assert_false(t.gamma.is_varied);
}

/* Beside others, charged 0.4 of what NVML sees: spans that have room for it say that kernels of one key
 * differ, and spans that have none that work goes around the hook. */
static void spans_tell_varied_from_bypassed(void **state)
{
	struct tenant varied = make(MS, 0.5, 0.4), bypassed = make(MS, 0.5, 0.4);
	double low, high, gamma;

	(void)state;
	varied.spans = 5;
	gamma = run(&varied, 30, &low, &high);
	assert_true(gamma > 2.3 && gamma < 2.8);
	assert_true(high <= 4);
	bypassed.spans = 1;
	assert_true(told_within(&bypassed, 30) > 0);
	assert_true(bypassed.in_force <= 1.25);
}

/* All its processes wait for what they have queued: NVML sees them work, and most of it is charged when
 * they look again. */
static void late_charges_are_no_other_work(void **state)
{
	double low, high;

	(void)state;
	for (unsigned spans = 1; spans < 30; spans += 4) {
		struct tenant t = make(MS, 0.33, 1.0);

		t.spans = spans;
		(void)run(&t, 20, &low, &high);
		t.late = 0.995; /* 0.6 s */
		(void)run(&t, 2, &low, &high);
		if (low < 0.85 || high > 1.1)
			fail_msg("spans %u: %g to %g", spans, low, high);
		t.late = 0;
		(void)run(&t, 20, &low, &high);
		if (low < 0.85 || high > 1.1)
			fail_msg("spans %u: %g to %g", spans, low, high);
		assert_false(t.gamma.is_varied);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_charges_leave_gamma_at_one),
		cmocka_unit_test(stretched_spans_are_found_out),
		cmocka_unit_test(a_neighbour_comes_and_goes),
		cmocka_unit_test(what_was_paid_wrongly_is_made_good),
		cmocka_unit_test(gamma_stands_for_some_submissions),
		cmocka_unit_test(others_who_are_idle_explain_nothing),
		cmocka_unit_test(its_own_overlap_explains_as_much),
		cmocka_unit_test(one_sample_a_second_is_enough),
		cmocka_unit_test(few_data_and_mixed_data_say_nothing),
		cmocka_unit_test(gamma_stays_in_its_bounds),
		cmocka_unit_test(others_and_kernels_that_vary_are_told),
		cmocka_unit_test(spans_tell_varied_from_bypassed),
		cmocka_unit_test(late_charges_are_no_other_work),
		cmocka_unit_test(bypassed_work_is_told),
		cmocka_unit_test(a_process_without_the_hook_is_told),
		cmocka_unit_test(a_long_kernel_is_no_bypass),
		cmocka_unit_test(samples_count_for_their_length),
		cmocka_unit_test(the_silent_are_in_doubt),
		cmocka_unit_test(doubts_of_many_do_not_add_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
