/* SPDX-License-Identifier: Apache-2.0 */
/* The pacer on a GPU and a clock that are ours: shares, and what must not hang or be disturbed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu.h"
#include "marks.h"
#include "pace.h"
#include "tr_test.h"

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

/* ---- shares -------------------------------------------------------------------------- */

static uint32_t dice = 1;

static unsigned roll(unsigned sides)
{
	dice = dice * 1664525u + 1013904223u;
	return (dice >> 8) % sides;
}

static void tiny(void)
{
	gpu_launch(10, NULL);
}

static void small(void)
{
	gpu_launch(200, NULL);
}

static void middle(void)
{
	gpu_launch(5000, NULL);
}

static void large(void)
{
	gpu_launch(100000, NULL);
}

static void huge(void)
{
	gpu_launch(500000, NULL);
}

static void mixed(void)
{
	static const unsigned us[] = { 10, 10, 20, 50, 200, 1000, 5000 };

	gpu_launch(us[roll(7)], NULL);
}

static void bursty(void)
{
	for (unsigned i = 0; i < 50; i++)
		gpu_launch(100, NULL);
	gpu_wait();
	gpu_host(3 * MS);
}

static void graph(void)
{
	struct tr_submission s = { .stream = CU_STREAM_LEGACY,
				   .key = tr_key_of(GPU_GRAPH(2500), 0) };

	tr_pace_begin(&s);
	tr_pace_end(&s, tr_real.cuGraphLaunch(GPU_GRAPH(2500), NULL));
}

static void streams(void)
{
	static unsigned at;

	gpu_launch(100, GPU_STREAM(at++ % 4));
}

/* Polls instead of waiting: no end of a run that the hook could see. */
static void polling(void)
{
	for (unsigned i = 0; i < 30; i++)
		gpu_launch(40, NULL);
	while (gpu.free_ns > gpu.now_ns)
		gpu_host(20 * US);
	gpu_host(200 * US);
}

static void training(void)
{
	for (unsigned i = 0; i < 40; i++)
		gpu_launch(20 + i % 5 * 40, NULL);
	gpu_wait();
	gpu_host(500 * US);
}

/* Its own events around everything, as a program that measures itself. */
static void timed(void)
{
	static struct gpu *of;
	static CUevent event;
	static uint64_t since_ns;

	/* One for each start of the GPU. */
	if (!of || gpu.now_ns < since_ns)
		(void)tr_real.cuEventCreate(&event, 0);
	of = &gpu;
	since_ns = gpu.now_ns;
	(void)cuEventRecord(event, NULL);
	gpu_launch(300, NULL);
	(void)cuEventRecord(event, NULL);
	gpu_wait();
}

static const struct workload {
	const char *name;
	void (*step)(void);
	uint64_t longest_ns;
} workloads[] = {
	{ "10 us", tiny, 10 * US },         { "200 us", small, 200 * US },
	{ "5 ms", middle, 5 * MS },         { "100 ms", large, 100 * MS },
	{ "500 ms", huge, 500 * MS },       { "mixed", mixed, 5 * MS },
	{ "bursty", bursty, 100 * US },     { "graph", graph, 2500 * US },
	{ "4 streams", streams, 100 * US }, { "polling", polling, 40 * US },
	{ "training", training, 180 * US }, { "timed", timed, 300 * US },
};

static uint64_t done_ns(void)
{
	return gpu.busy_ns - (gpu.free_ns > gpu.now_ns ? gpu.free_ns - gpu.now_ns : 0);
}

/* Percent of the time that the GPU worked, after a warm-up. */
static double share_of(const struct workload *w, uint64_t ns)
{
	uint64_t from_ns, busy_ns, until = gpu.now_ns + ns / 2;

	while (gpu.now_ns < until)
		w->step();
	from_ns = gpu.now_ns;
	busy_ns = done_ns();
	while (gpu.now_ns < from_ns + ns)
		w->step();
	return 100.0 * (double)(done_ns() - busy_ns) / (double)(gpu.now_ns - from_ns);
}

static void test_shares(void **unused)
{
	static const unsigned percents[] = { 5, 10, 20, 33, 50, 80, 95 };
	double sum = 0, worst = 0;
	unsigned cells = 0;

	(void)unused;
	for (unsigned w = 0; w < sizeof(workloads) / sizeof(workloads[0]); w++) {
		double most;

		gpu_start(0);
		most = share_of(&workloads[w], 10 * S);
		gpu_end();
		printf("%-10s %5.1f:", workloads[w].name, most);
		for (unsigned p = 0; p < 7; p++) {
			uint64_t ns = 200 * workloads[w].longest_ns * 100 / percents[p];
			double want = percents[p], got, error;

			if (want > most)
				want = most;
			gpu_start(percents[p]);
			got = share_of(&workloads[w], ns < 10 * S ? 10 * S : ns);
			gpu_end();
			error = fabs(got - want);
			printf(" %5.2f", got);
			sum += error;
			cells++;
			if (error > worst)
				worst = error;
		}
		printf("\n");
	}
	printf("mean error %.2f, worst %.2f of %u cells\n", sum / cells, worst, cells);
	assert_true(sum / cells <= 1);
	assert_true(worst <= 2);
}

/* ---- what must not wait -------------------------------------------------------------- */

/* A slice without a limit is measured, and nothing in it ever waits. */
static void test_unlimited(void **unused)
{
	(void)unused;
	gpu_start(0);
	for (unsigned i = 0; i < 20000; i++)
		gpu_launch(i % 3 ? 20 : 300, NULL);
	gpu_wait();
	assert_int_equal(gpu.waits, 0);
	assert_int_equal(atomic_load(&gpu_pace()->gate_waits), 0);
	assert_int_equal(atomic_load(&gpu_pace()->launches), 20000);
	assert_in_range(atomic_load(&gpu_pace()->gpu_ns), gpu.busy_ns / 100 * 98,
			gpu.busy_ns / 100 * 102);
	/* Markers: at most a pair of events for a run, and one for a single submission. */
	assert_true(gpu.records < 20000 / 4);
	gpu_end();
}

/* Peers of a collective wait for it: it is charged, and goes at once. */
static void test_collective(void **unused)
{
	static const char *const names[] = { "ncclDevKernel_AllReduce_Sum_f32",
					     "ncclKernel_AllGather", "nvshmemi_barrier" };
	uint64_t owed_ns;

	(void)unused;
	for (unsigned n = 0; n < TR_COUNT(names); n++) {
		gpu_start(10);
		gpu.name = names[n];
		for (unsigned i = 0; i < 500; i++)
			gpu_launch(1000, NULL);
		assert_int_equal(gpu.waits, 0);
		gpu_wait();
		assert_in_range(atomic_load(&gpu_pace()->gpu_ns), 499 * MS, 501 * MS);
		owed_ns = atomic_load(&gpu_pace()->tat_ns) - gpu.now_ns;
		assert_in_range(owed_ns, 4 * S, 6 * S);
		/* what is no collective pays for it */
		gpu.name = "gemm";
		gpu_launch(77, NULL);
		assert_true(gpu.waits > 0);
		gpu_end();
	}
}

/* The first launch after the program's own event goes, within bounds: the debt is kept. */
static void test_grace(void **unused)
{
	CUevent event = NULL;
	unsigned waits;

	(void)unused;
	gpu_start(10);
	assert_int_equal(tr_real.cuEventCreate(&event, 0), CUDA_SUCCESS);
	while (gpu.waits < 20)
		gpu_launch(500, NULL);
	gpu_launch(500, NULL);
	/* behind a launch: it may be the end of a measurement, and must not come late */
	waits = gpu.waits;
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(cuEventRecord(event, NULL), CUDA_SUCCESS);
		gpu_launch(500, NULL);
	}
	assert_int_equal(gpu.waits, waits);
	/* with none before: it may be the beginning of one, and is waited for */
	gpu_wait();
	assert_int_equal(cuEventRecord(event, NULL), CUDA_SUCCESS);
	assert_true(gpu.waits > waits);
	waits = gpu.waits;
	gpu_launch(500, NULL);
	assert_int_equal(gpu.waits, waits);
	gpu_end();
}

/* Nothing of ours in a graph, nothing charged for what does not run, nothing held. */
static void test_capture(void **unused)
{
	static const CUstreamCaptureMode modes[] = { CU_STREAM_CAPTURE_MODE_GLOBAL,
						     CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
						     CU_STREAM_CAPTURE_MODE_RELAXED };
	uint64_t tat_ns, launches;
	CUgraph out;
	unsigned waits;

	(void)unused;
	for (unsigned m = 0; m < TR_COUNT(modes); m++) {
		gpu_start(10);
		while (gpu.waits < 20)
			gpu_launch(500, GPU_STREAM(0));
		waits = gpu.waits;
		assert_int_equal(cuStreamBeginCapture_v2(GPU_STREAM(0), modes[m]),
				 CUDA_SUCCESS);
		tat_ns = atomic_load(&gpu_pace()->tat_ns);
		launches = atomic_load(&gpu_pace()->launches);
		for (unsigned i = 0; i < 1000; i++)
			gpu_launch(i % 2 ? 500 : 3, GPU_STREAM(0));
		gpu_wait();
		assert_int_equal(gpu.waits, waits);
		assert_int_equal(gpu.captured_events, 0);
		assert_int_equal(atomic_load(&gpu_pace()->tat_ns), tat_ns);
		assert_int_equal(atomic_load(&gpu_pace()->launches), launches);
		assert_int_equal(cuStreamEndCapture(GPU_STREAM(0), &out), CUDA_SUCCESS);
		gpu_host(S);
		for (unsigned i = 0; i < 200; i++)
			gpu_launch(500, GPU_STREAM(0));
		assert_true(gpu.waits > waits);
		gpu_end();
	}
}

/* ---- what nobody knows --------------------------------------------------------------- */

/* A thousand kernels of which none was met before: what is queued unseen is one of them. */
static void test_unknown(void **unused)
{
	uint64_t ahead_ns = 0;

	(void)unused;
	gpu_start(20);
	for (unsigned i = 0; i < 200; i++) {
		gpu_launch(50000 + i, NULL);
		if (gpu.free_ns > gpu.now_ns && gpu.free_ns - gpu.now_ns > ahead_ns)
			ahead_ns = gpu.free_ns - gpu.now_ns;
	}
	gpu_wait();
	assert_true(ahead_ns < 2 * 51 * MS);
	assert_in_range(100 * gpu.busy_ns / (gpu.now_ns - 1000 * S), 18, 22);
	gpu_end();
}

/* Longer than anyone waits to learn what it takes: the next ones pass unknown, and each is measured
 * and charged. While a gate ended their stream's run they cost nothing. */
static void test_unknown_and_long(void **unused)
{
	(void)unused;
	gpu_start(20);
	for (unsigned i = 0; i < 4; i++)
		gpu_launch(3000000, NULL);
	gpu_wait();
	assert_true(gpu.waits > 0);
	assert_in_range(atomic_load(&gpu_pace()->charged_ns), gpu.busy_ns / 100 * 99,
			gpu.busy_ns / 100 * 101);
	gpu_end();
}

/* Code is loaded at the first launch: that is not what the kernel takes. */
static void test_first_is_odd(void **unused)
{
	uint64_t key = tr_key_of(GPU_KERNEL(9), 128);

	(void)unused;
	tr_keys_forget();
	tr_key_meet(key, false);
	tr_key_learn(key, 50 * MS, TR_LEARN_FAST);
	tr_key_learn(key, 9 * US, TR_LEARN_FAST);
	assert_int_equal(tr_key_find(key).cost_ns, 9 * US);
	assert_int_equal(tr_key_ready_ns(key), 0);
	tr_key_learn(key, 11 * US, TR_LEARN_FAST);
	assert_in_range(tr_key_find(key).cost_ns, 9 * US, 11 * US);
	assert_int_equal(tr_key_ready_ns(key), tr_key_find(key).cost_ns);
	/* changed behind the handle: known, and looked at again */
	tr_key_doubt(key);
	assert_int_equal(tr_key_ready_ns(key), 0);
	assert_true(tr_key_find(key).cost_ns > 0);
	tr_key_forget(key);
	assert_false(tr_key_find(key).is_known);
}

/* Turns of others in every second sample, and at first in none. */
static uint64_t learned(enum tr_learn how)
{
	uint64_t key = tr_key_of(GPU_KERNEL(9), 128);

	tr_keys_forget();
	tr_key_meet(key, false);
	for (unsigned i = 0; i < 1000; i++)
		tr_key_learn(key, i % 2 && i > 20 ? 30 * MS : MS, how);
	return tr_key_find(key).cost_ns;
}

/* Of 500 ms, first met in a crowd; beside others no span is shorter than the kernel. */
static uint64_t learned_from_a_crowd(void)
{
	uint64_t key = tr_key_of(GPU_KERNEL(9), 128);

	tr_keys_forget();
	tr_key_meet(key, false);
	for (unsigned i = 0; i < 3; i++)
		tr_key_learn(key, 16000 * MS, TR_LEARN_SLOW);
	for (unsigned i = 0; i < 40; i++)
		tr_key_learn(key, (1 + i % 4) * 500 * MS, TR_LEARN_SLOW);
	return tr_key_find(key).cost_ns;
}

static void test_turns_F13(void **unused)
{
	(void)unused;
	assert_in_range(learned_from_a_crowd(), 500 * MS, 1000 * MS);
	assert_in_range(learned(TR_LEARN_SLOW), MS, MS * 11 / 10);
	assert_in_range(learned(TR_LEARN_MEAN), 14 * MS, 17 * MS);
	tr_keys_forget();
}

/* Ten thousand keys in a table of four thousand: each is found as itself or not at all. */
static void test_many_keys(void **unused)
{
	unsigned found = 0;

	(void)unused;
	tr_keys_forget();
	for (unsigned i = 1; i <= 10000; i++) {
		uint64_t key = tr_key_of(GPU_KERNEL(i), 1);

		tr_key_meet(key, false);
		for (unsigned n = 0; n < 3; n++)
			tr_key_learn(key, i, TR_LEARN_FAST);
	}
	for (unsigned i = 1; i <= 10000; i++) {
		struct tr_key key = tr_key_find(tr_key_of(GPU_KERNEL(i), 1));

		if (!key.is_known)
			continue;
		found++;
		assert_int_equal(key.cost_ns, i);
	}
	assert_in_range(found, 2500, TR_KEYS);
}

/* ---- faults -------------------------------------------------------------------------- */

/* I4: a kernel that never ends. Every launch returns within the debt bound. */
static void test_hung(void **unused)
{
	uint64_t before_ns, longest_ns = 0;

	(void)unused;
	gpu_start(20);
	for (unsigned i = 0; i < 100; i++)
		gpu_launch(2000, NULL);
	gpu.is_hung = true;
	for (unsigned i = 0; i < 500; i++) {
		before_ns = gpu.now_ns;
		gpu_launch(i < 250 ? 2000 : 3000 + i, NULL);
		if (gpu.now_ns - before_ns > longest_ns)
			longest_ns = gpu.now_ns - before_ns;
	}
	assert_true(longest_ns <= TR_DEBT_MAX_NS + 100 * MS);
	assert_true(gpu.longest_sleep_ns <= 20 * MS);
	gpu_end();
}

/* Events fail for a while: what was predicted stands, and after it the share is exact. */
static void test_events_fail(void **unused)
{
	static const unsigned many[] = { 1, 2, 3, 7, 50, 1000 };
	double got;

	(void)unused;
	for (unsigned n = 0; n < TR_COUNT(many); n++) {
		gpu_start(33);
		gpu.fail_events = many[n];
		(void)share_of(&workloads[1], 2 * S);
		gpu.fail_events = many[n];
		(void)share_of(&workloads[5], 2 * S);
		gpu.fail_events = 0;
		gpu_host(2 * S);
		got = share_of(&workloads[1], 10 * S);
		assert_true(fabs(got - 33) < 1);
		gpu_end();
	}
}

/* A context ends while its markers are under way; another one takes its handle. */
static void test_context_gone(void **unused)
{
	double got;

	(void)unused;
	gpu_start(50);
	for (unsigned i = 0; i < 50; i++) {
		struct tr_marks *marks;

		for (unsigned k = 0; k < 300; k++)
			gpu_launch(100 + k % 7, GPU_STREAM(k % 5));
		marks = tr_marks_leave(gpu.ctx);
		assert_non_null(marks);
		assert_null(tr_marks_leave(gpu.ctx));
		if (i % 3 == 0)
			tr_marks_stay(marks, gpu.ctx);
		else
			tr_marks_gone(marks);
		tr_pace_stop_all();
	}
	got = share_of(&workloads[1], 10 * S);
	assert_true(fabs(got - 50) < 1);
	gpu_end();
}

/* A fork child has another seat and none of its parent's markers. */
static void test_fork(void **unused)
{
	double got;

	(void)unused;
	gpu_start(50);
	for (unsigned i = 0; i < 1000; i++)
		gpu_launch(100, NULL);
	gpu_reseat();
	got = share_of(&workloads[1], 10 * S);
	assert_true(fabs(got - 50) < 1);
	gpu_end();
}

/* Whatever stands in the words: no wait beyond the bound, and the share comes back. */
static void test_garbage(void **unused)
{
	static const uint64_t words[] = { 0, 1, UINT64_MAX, UINT64_MAX / 2, 1000 * S };
	uint64_t before_ns;
	double got;

	(void)unused;
	for (unsigned n = 0; n < TR_COUNT(words); n++) {
		gpu_start(50);
		for (unsigned i = 0; i < 100; i++)
			gpu_launch(100, NULL);
		atomic_store(&gpu_pace()->tat_ns, words[n]);
		atomic_store(&gpu_pace()->tat_max_ns, words[n]);
		before_ns = gpu.now_ns;
		for (unsigned i = 0; i < 20; i++)
			gpu_launch(100, NULL);
		assert_true(gpu.now_ns - before_ns <= TR_DEBT_MAX_NS + 100 * MS);
		got = share_of(&workloads[1], 10 * S);
		assert_true(fabs(got - 50) < 1);
		gpu_end();
	}
}

/* The machine was suspended: hours have passed on the clock. */
static void test_suspended(void **unused)
{
	double got;

	(void)unused;
	gpu_start(50);
	(void)share_of(&workloads[5], 2 * S);
	gpu_host(5 * 3600 * S);
	got = share_of(&workloads[5], 10 * S);
	assert_true(fabs(got - 50) < 1);
	gpu_end();
}

/* 100 -> 5 -> 100 while graphs run. */
static void test_limit_changes(void **unused)
{
	double got;

	(void)unused;
	gpu_start(100);
	got = share_of(&workloads[7], 2 * S);
	assert_true(got > 99);
	gpu_set(5);
	got = share_of(&workloads[7], 10 * S);
	assert_true(fabs(got - 5) < 1);
	gpu_set(100);
	got = share_of(&workloads[7], 2 * S);
	assert_true(got > 99);
	gpu_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_unlimited),
		cmocka_unit_test(test_collective),
		cmocka_unit_test(test_grace),
		cmocka_unit_test(test_capture),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_unknown_and_long),
		cmocka_unit_test(test_first_is_odd),
		cmocka_unit_test(test_turns_F13),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_hung),
		cmocka_unit_test(test_events_fail),
		cmocka_unit_test(test_context_gone),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_suspended),
		cmocka_unit_test(test_limit_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
