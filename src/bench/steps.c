/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/steps.h"

#include "rt/file.h"

/* What each workload does, for ever. */

#define SYNC_NS     UINT64_C(500000000) /* of work: between two synchronisations */
#define PERIOD_NS   UINT64_C(100000000) /* bursty */
#define BURST_STEPS 30
#define MS          UINT64_C(1000000)

/* Seldom, so that a limit alone decides; and never with an empty queue behind it. */
static void sync_seldom(struct tr_worker *w, unsigned lane)
{
	uint64_t most = SYNC_NS > 4 * w->workload->submission_ns
				? SYNC_NS
				: 4 * w->workload->submission_ns;

	if (w->lanes[lane].unsynced_ns >= most)
		tr_worker_sync(w, lane);
}

static void run_fixed(struct tr_worker *w)
{
	for (;;) {
		tr_worker_launch(w, 0, w->loop, w->workload->kernel_ns);
		sync_seldom(w, 0);
	}
}

/* One kernel and one grid: of three one takes all of its time, two an eighth. */
static void run_varied(struct tr_worker *w)
{
	for (;;) {
		uint64_t ns = w->workload->kernel_ns;

		tr_worker_launch(w, 0, w->loop, tr_worker_random(w) % 3 ? ns / 8 : ns);
		sync_seldom(w, 0);
	}
}

/* Each kernel has its length: eight between 10 us and 20 ms, about three times the last. */
static void run_mixed(struct tr_worker *w)
{
	static const uint64_t lengths_ns[TR_DRIVER_LOOPS] = { 10000,   30000,   90000,
							      260000,  770000,  2300000,
							      6800000, 20000000 };

	for (;;) {
		unsigned i = (unsigned)(tr_worker_random(w) % TR_DRIVER_LOOPS);

		tr_worker_launch(w, 0, w->loops[i], lengths_ns[i]);
		sync_seldom(w, 0);
	}
}

static void run_bursty(struct tr_worker *w)
{
	uint64_t next_ns = tr_clock_ns() + tr_worker_random(w) % PERIOD_NS;

	for (;; next_ns += PERIOD_NS) {
		tr_worker_sleep_until(next_ns); /* returns at once when late */
		for (unsigned i = 0; i < BURST_STEPS; i++)
			tr_worker_launch(w, 0, w->loop, w->workload->kernel_ns);
		tr_worker_sync(w, 0);
	}
}

static void run_graph(struct tr_worker *w)
{
	uint64_t kernel_ns = w->workload->kernel_ns, ns = w->workload->submission_ns;
	CUgraphExec graph = tr_worker_graph(w, (unsigned)(ns / kernel_ns), kernel_ns);

	for (;;) {
		tr_worker_launch_graph(w, 0, graph, ns);
		sync_seldom(w, 0);
	}
}

static void run_cooperative(struct tr_worker *w)
{
	for (;;) {
		tr_worker_cooperate(w, 0, w->workload->kernel_ns);
		sync_seldom(w, 0);
	}
}

static void run_streams(struct tr_worker *w)
{
	for (;;)
		for (unsigned lane = 0; lane < TR_BENCH_LANES; lane++) {
			tr_worker_launch(w, lane, w->loop, w->workload->kernel_ns);
			sync_seldom(w, lane);
		}
}

static void run_training(struct tr_worker *w)
{
	for (;;) {
		tr_worker_copies(w, true);
		for (unsigned i = 0; i < 300; i++)
			tr_worker_launch(w, 0, w->loop, w->workload->kernel_ns);
		tr_worker_copies(w, false);
		tr_worker_sync(w, 0);
		tr_worker_sleep_until(tr_clock_ns() + 3 * MS);
	}
}

/* One kernel, waited for; what it took beyond the kernel is told. */
static void request(struct tr_worker *w, bool is_first)
{
	uint64_t kernel_ns = w->workload->kernel_ns, at_ns = tr_clock_ns(), took_ns;
	struct tr_bench_wait *wait;
	uint32_t n;

	tr_worker_launch(w, 0, w->loop, kernel_ns);
	tr_worker_sync(w, 0);
	took_ns = tr_clock_ns() - at_ns;
	n = atomic_fetch_add(&w->tenant->wait_count, 1);
	wait = &w->tenant->waits[n % TR_BENCH_WAITS];
	atomic_store(&wait->at_ns, at_ns);
	atomic_store(&wait->took_ns, took_ns);
	atomic_store(&wait->is_first, is_first);
}

static void run_steady(struct tr_worker *w)
{
	for (;;)
		request(w, false);
}

static void run_requests(struct tr_worker *w)
{
	for (;;) {
		tr_worker_sleep_until(tr_clock_ns() + 100 * MS +
				      tr_worker_random(w) % (300 * MS));
		for (unsigned i = 0; i < 20; i++)
			request(w, i == 0);
	}
}

/* Idles, then launches ahead for 0.2 s or more; tells when it came back. */
static void run_pulsed(struct tr_worker *w)
{
	for (;;) {
		uint64_t until_ns;

		tr_worker_sleep_until(tr_clock_ns() + 250 * MS +
				      tr_worker_random(w) % (100 * MS));
		until_ns = tr_clock_ns() + 200 * MS;
		request(w, true);
		while (tr_clock_ns() < until_ns) {
			tr_worker_launch(w, 0, w->loop, w->workload->kernel_ns);
			if (w->lanes[0].unsynced_ns > 20 * MS)
				tr_worker_sync(w, 0);
		}
		tr_worker_sync(w, 0);
	}
}

void tr_worker_steps(struct tr_worker *w)
{
	switch (w->workload->kind) {
	case TR_WORKLOAD_FIXED:
		run_fixed(w);
		break;
	case TR_WORKLOAD_MIXED:
		run_mixed(w);
		break;
	case TR_WORKLOAD_BURSTY:
		run_bursty(w);
		break;
	case TR_WORKLOAD_GRAPH:
		run_graph(w);
		break;
	case TR_WORKLOAD_COOPERATIVE:
		run_cooperative(w);
		break;
	case TR_WORKLOAD_STREAMS:
		run_streams(w);
		break;
	case TR_WORKLOAD_TRAINING:
		run_training(w);
		break;
	case TR_WORKLOAD_STEADY:
		run_steady(w);
		break;
	case TR_WORKLOAD_REQUESTS:
		run_requests(w);
		break;
	case TR_WORKLOAD_PULSED:
		run_pulsed(w);
		break;
	case TR_WORKLOAD_VARIED:
		run_varied(w);
		break;
	}
}
