/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_PAGE_H
#define TR_BENCH_PAGE_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * What a tenant's workers tell the kit while they run: a file that both map. The kit reads it
 * whenever it likes, so a worker may be killed at any instant.
 */
#define TR_BENCH_WORKERS 64u
#define TR_BENCH_DEVICES 4u
#define TR_BENCH_LANES   4u /* streams of one workload */
#define TR_BENCH_WAITS   4096u

enum tr_bench_state { /* of a worker */
		      TR_BENCH_ABSENT,
		      TR_BENCH_STARTED,
		      TR_BENCH_READY,  /* calibrated, waits for its slice of the work */
		      TR_BENCH_FAILED, /* `what` and `code` say why */
};

struct tr_bench_worker {
	_Atomic uint32_t state;
	_Atomic int32_t pid;
	_Atomic uint64_t launched[TR_BENCH_DEVICES]; /* kernels and graphs */
	/* Nominal GPU time of what has ended, microseconds: the GPU itself writes it, in the order
	 * of each stream. Not on a simulated one, which keeps the books itself. */
	_Atomic uint32_t done_us[TR_BENCH_DEVICES][TR_BENCH_LANES];
	_Atomic uint32_t code;
	char what[48];
};

struct tr_bench_wait { /* one request: from its launch until its end was seen */
	_Atomic uint64_t at_ns, took_ns;
	_Atomic uint64_t is_first; /* of a burst */
};

struct tr_bench_page {
	_Atomic uint32_t wait_count; /* ever; the latest are kept */
	struct tr_bench_worker workers[TR_BENCH_WORKERS];
	struct tr_bench_wait waits[TR_BENCH_WAITS];
};

#endif /* TR_BENCH_PAGE_H */
