/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_CELL_H
#define TR_BENCH_CELL_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/scene.h"

/* One cell of the matrix: a tenant that asks for a share, alone or beside others whose quotas make
 * 100 percent with its own, and what it got. */

struct tr_cell {
	const struct tr_workload *workload;
	unsigned asked, processes, neighbours, gpus; /* asked: percent; 0: no limiter */
	uint64_t seed;
	unsigned window_s; /* 0: max(10 s, 200 kernels / quota) */
	bool is_reach; /* what it reaches without a limiter; nothing is owed there, and 60 s are enough */
	bool is_open;        /* the tenant without a limiter, its neighbours with theirs */
	bool is_rate_judged; /* windows of any length, from the first launch on */
};

/* I6: the most that it had beyond its rate and an error of two points in any window, and that window. */
struct tr_rate_judged {
	double ms, allowed_ms; /* allowed 0: not judged */
	double from_s, over_s;
};

struct tr_result {
	bool is_measured;
	double got; /* percent, mean of the devices */
	double got_device[TR_BENCH_DEVICES];
	double reach, target; /* what it gets without a limiter; min(asked, reach) */
	double error;         /* points, of the worst device */
	double allowed;       /* points, of a worst cell */
	double window_off;    /* points: the worst window of 1 s; -1: not judged */
	double stall_ms, stall_allowed_ms;
	struct tr_rate_judged rate_first,
		rate_warm; /* from the first launch; after warm-up */
	double neighbours_got[TR_SCENE_PARTIES];
	double window_s, real_s;
	char why[200]; /* not measured */
};

/* Measures CELL; REACH: percent that the tenant gets alone without a limiter. */
void tr_cell_run(const struct tr_stage *stage, const struct tr_cell *cell, double reach,
		 struct tr_result *out);

/* ---- series.c ---------------------------------------------------------------------------- */

/* Percent of DEVICE that PARTY had in samples FROM to TO. */
double tr_series_share(const struct tr_series *s, unsigned party, unsigned device,
		       unsigned from, unsigned to);
/* The largest distance from TARGET of any window of SPAN_NS, in points. */
double tr_series_worst_window(const struct tr_series *s, unsigned party, unsigned device,
			      uint64_t span_ns, double target);
/* The longest time in which PARTY got nothing of DEVICE. */
uint64_t tr_series_stall_ns(const struct tr_series *s, unsigned party, unsigned device);
/* How far PARTY falls behind RATE (0..1) of DEVICE after AT_NS, within SPAN_NS, as time: what it
 * had to wait for others in all. */
uint64_t tr_series_lag_ns(const struct tr_series *s, unsigned party, unsigned device,
			  uint64_t at_ns, uint64_t span_ns, double rate);

struct tr_beyond {
	double ns;        /* busy beyond RATE x the window's length */
	uint64_t from_ns; /* that window */
	uint64_t to_ns;
};
/* The most that PARTY had of DEVICE beyond RATE (0..1) in any window of any length from sample FROM on. No
 * window that begins or ends between two samples has more: what it could have is in it. */
struct tr_beyond tr_series_beyond(const struct tr_series *s, unsigned party,
				  unsigned device, unsigned from, double rate);

#endif /* TR_BENCH_CELL_H */
