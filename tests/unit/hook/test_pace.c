/* SPDX-License-Identifier: Apache-2.0 */
/* The pacer on a GPU and a clock that are ours: shares, and what must not hang or be disturbed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu.h"
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
