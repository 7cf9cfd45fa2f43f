/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_WORKLOAD_H
#define TR_BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

/* What a tenant of the conformance kit does with its slice. */

enum tr_workload_kind {
	TR_WORKLOAD_FIXED,
	TR_WORKLOAD_MIXED,
	TR_WORKLOAD_BURSTY,
	TR_WORKLOAD_GRAPH,
	TR_WORKLOAD_COOPERATIVE,
	TR_WORKLOAD_STREAMS,
	TR_WORKLOAD_TRAINING,
	TR_WORKLOAD_STEADY,   /* one kernel after the other, each waited for: a service */
	TR_WORKLOAD_REQUESTS, /* idles, then a burst of such requests */
	TR_WORKLOAD_PULSED,   /* idles for a second, works for a second */
	TR_WORKLOAD_VARIED,   /* a kernel whose data decide how long it takes */
};

struct tr_workload {
	const char *name;
	enum tr_workload_kind kind;
	uint64_t kernel_ns;     /* its longest kernel */
	uint64_t submission_ns; /* the most that one call submits */
	bool is_full;           /* keeps a device busy without a gap */
	const char *what;
};

extern const struct tr_workload tr_workloads[];
extern const unsigned tr_workload_count; /* those of the matrix */

/* NAME of the matrix, or "steady:1ms", "requests:1ms", "pulsed:200us", "fixed:3ms", "varied:8ms" (us,
 * ms, s), which goes to ROOM. NULL: no such workload. */
const struct tr_workload *tr_workload_find(const char *name, struct tr_workload *room);

#endif /* TR_BENCH_WORKLOAD_H */
