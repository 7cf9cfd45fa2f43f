/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_STEPS_H
#define TR_BENCH_STEPS_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/driver.h"
#include "bench/page.h"
#include "bench/workload.h"

/* Inside a worker: worker.c makes the calls, steps.c says which and when. A driver's error ends
 * the process. */

#define BLOCK_THREADS 128u
#define COPY_BYTES    (4u << 20)
#define REPORT_NS     UINT64_C(2000000)

struct tr_lane { /* one stream */
	CUstream stream;
	CUdeviceptr word; /* tr_bench_worker.done_us, as the GPU sees it */
	uint64_t done_ns, unreported_ns, unsynced_ns;
	unsigned blocks;
};

struct tr_worker {
	const struct tr_workload *workload;
	struct tr_bench_worker *page;
	struct tr_bench_page *tenant;
	unsigned device, sm_count, loop_q10; /* loop_q10 0: simulated, a round is 1 ns */
	unsigned
		block_bytes; /* shared memory, so much that a multiprocessor has one block */
	uint64_t random;
	CUfunction loop, loops[TR_DRIVER_LOOPS];
	struct tr_lane lanes[TR_BENCH_LANES];
	void *host; /* what it copies */
	CUdeviceptr memory;
};

_Noreturn void tr_worker_fail(struct tr_worker *w, const char *what, int code);
uint64_t tr_worker_random(struct tr_worker *w);
void tr_worker_sleep_until(uint64_t at_ns);
uint64_t tr_worker_rounds(const struct tr_worker *w, uint64_t ns);

void tr_worker_count(struct tr_worker *w, unsigned lane, uint64_t ns);
void tr_worker_launch(struct tr_worker *w, unsigned lane, CUfunction function, uint64_t ns);
void tr_worker_cooperate(struct tr_worker *w, unsigned lane, uint64_t ns);
CUgraphExec tr_worker_graph(struct tr_worker *w, unsigned nodes, uint64_t ns);
void tr_worker_launch_graph(struct tr_worker *w, unsigned lane, CUgraphExec graph,
			    uint64_t ns);
void tr_worker_copies(struct tr_worker *w, bool is_in);
void tr_worker_sync(struct tr_worker *w, unsigned lane);

void *tr_worker_run(void *arg); /* a thread: ARG is its struct tr_worker */
void tr_worker_steps(struct tr_worker *w);
/* Rounds in 1024 ns, without a limiter; opens the device itself. */
unsigned tr_worker_calibrate(struct tr_worker *w);

#endif /* TR_BENCH_STEPS_H */
