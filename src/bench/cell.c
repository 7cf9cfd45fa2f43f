/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/cell.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "rt/cleanup.h"
#include "rt/file.h"
#include "tranche/policy.h"

#define SECOND_NS UINT64_C(1000000000)
#define MS_NS     UINT64_C(1000000)
#define SHORT_KERNEL_NS \
	(20 * MS_NS) /* windows of 1 s and stalls are judged up to here (F13) */
#define REACH_NS     (60 * SECOND_NS)
#define WARM_NS      (10 * SECOND_NS)
#define WARM_COUNT   40
#define STEPS_LONG   500 /* samples of a window that is not judged second by second */
#define RATE_STEP_NS MS_NS
#define REPAID_NS    (200 * MS_NS) /* by the keeper, at most */
#define ERROR_POINTS 2.0           /* of a share, in a worst cell (I7) */

static uint64_t longest(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool is_short(const struct tr_workload *w)
{
	return w->kernel_ns <= SHORT_KERNEL_NS;
}

/* Times of one scene; a share of 0 (no limiter) is all of the device. */
static void set_times(struct tr_scene *scene, const struct tr_cell *cell)
{
	uint64_t share = cell->asked ? cell->asked : 100, least = share;
	uint64_t kernel_ns = cell->workload->submission_ns;

	for (unsigned i = 0; i < scene->party_count; i++)
		if (scene->parties[i].cores && scene->parties[i].cores < least)
			least = scene->parties[i].cores;
	/* Some work of every process. */
	scene->warm_ns = longest(WARM_NS, (WARM_COUNT + 8 * cell->processes) * kernel_ns *
						  100 / least);
	scene->window_ns = longest(10 * SECOND_NS, 200 * kernel_ns * 100 / share);
	if (cell->is_reach && scene->window_ns > REACH_NS)
		scene->window_ns = REACH_NS;
	if (cell->is_reach && scene->warm_ns > REACH_NS)
		scene->warm_ns = REACH_NS;
	if (cell->window_s)
		scene->window_ns = cell->window_s * SECOND_NS;
	scene->step_ns = is_short(cell->workload)
				 ? 10 * MS_NS
				 : longest(10 * MS_NS, scene->window_ns / STEPS_LONG);
	if (cell->is_rate_judged)
		scene->step_ns = longest(RATE_STEP_NS, cell->workload->submission_ns / 100);
}

/* Quotas of the neighbours: what the first one leaves, in whole percents. */
static void set_parties(struct tr_scene *scene, const struct tr_stage *stage,
			const struct tr_cell *cell)
{
	enum tr_limiter limiter = !cell->asked  ? TR_LIMITER_NONE
				  : stage->peer ? TR_LIMITER_PEER
						: TR_LIMITER_OURS;
	unsigned left = 100 - cell->asked;

	scene->party_count = 1 + cell->neighbours;
	for (unsigned i = 0; i < scene->party_count; i++) {
		struct tr_party *p = &scene->parties[i];
		unsigned share = i ? left / (scene->party_count - i) : cell->asked;

		*p = (struct tr_party){ .workload = cell->workload,
					.limiter = i == 0 && cell->is_open ? TR_LIMITER_NONE
									   : limiter,
					.processes = cell->processes,
					.cores = share };
		left -= i ? share : 0;
	}
}

static bool is_judged_by_second(const struct tr_cell *cell)
{
	return cell->workload->is_full && is_short(cell->workload);
}

/* Who was compared with less than asked may have more of it. */
static double error_of(const struct tr_cell *cell, double got, double target)
{
	if (cell->asked && got > target)
		return fmax(0, got - fmax(target, cell->asked));
	return fabs(got - target);
}

/* How far ahead a slice's launch of NS may go (docs/pacer.md). */
static double window_of(const struct tr_scene *scene, uint64_t ns)
{
	if (scene->party_count > 1)
		ns = ns > TR_WINDOW_NS ? 3 * (ns - TR_WINDOW_NS) : 0;
	return (double)longest(ns, TR_WINDOW_NS);
}

/*
 * I6, of what the GPU worked and not of what was charged. Beyond its rate a slice has rate x window and
 * one submission in any time. Beside others it may have been charged before that time what it gets in
 * it, as they held the GPU as far beyond their rates as they may. At first each process has a submission
 * in flight that nobody knows, and what was charged too much until the keeper knew better is repaid.
 */
static double rate_allowed_ns(const struct tr_scene *scene, bool is_first)
{
	double sum = 0, unpaid = 0;

	for (unsigned i = 0; i < scene->party_count; i++) {
		const struct tr_party *p = &scene->parties[i];
		double one = (double)p->workload->submission_ns;

		sum += p->cores / 100.0 * window_of(scene, p->workload->submission_ns) +
		       one;
		if (is_first)
			sum += p->processes * one;
		if (is_first && i > 0)
			unpaid = fmax(REPAID_NS, one);
	}
	return sum + unpaid;
}

/* The worst device. The rate may be off by what a share may (I7): a charge cannot know it. */
static struct tr_rate_judged judge_rate(const struct tr_cell *cell,
					const struct tr_scene *scene,
					const struct tr_series *series, unsigned from)
{
	struct tr_rate_judged out = {
		.allowed_ms = rate_allowed_ns(scene, from == 0) / 1e6,
	};

	for (unsigned d = 0; d < cell->gpus; d++) {
		struct tr_beyond most = tr_series_beyond(
			series, 0, d, from, (cell->asked + ERROR_POINTS) / 100.0);

		if (most.ns / 1e6 < out.ms)
			continue;
		out.ms = most.ns / 1e6;
		out.from_s = (double)(most.from_ns - series->samples[0].at_ns) / 1e9;
		out.over_s = (double)(most.to_ns - most.from_ns) / 1e9;
	}
	return out;
}

static void judge(const struct tr_cell *cell, const struct tr_scene *scene,
		  const struct tr_series *series, struct tr_result *out)
{
	double window_ns = out->window_s * 1e9;
	unsigned last = series->count - 1;
	uint64_t stall_ns = 0;

	out->error = 0;
	out->window_off = -1;
	for (unsigned d = 0; d < cell->gpus; d++) {
		double got = tr_series_share(series, 0, d, series->first, last);
		uint64_t stall = tr_series_stall_ns(series, 0, d);

		out->got_device[d] = got;
		out->got += got / cell->gpus;
		out->error = fmax(out->error, error_of(cell, got, out->target));
		stall_ns = longest(stall_ns, stall);
		if (is_judged_by_second(cell))
			out->window_off = fmax(out->window_off,
					       tr_series_worst_window(series, 0, d,
								      SECOND_NS,
								      out->target));
	}
	for (unsigned i = 0; i < cell->neighbours; i++)
		out->neighbours_got[i] = tr_series_share(series, i + 1, 0, series->first,
							 last);
	out->allowed = fmax(ERROR_POINTS,
			    100.0 * (double)cell->workload->submission_ns / window_ns);
	out->stall_ms = (double)stall_ns / 1e6;
	out->stall_allowed_ms = fmax(50, 2 * (double)cell->workload->submission_ns / 1e6 *
						 100 / (cell->asked ? cell->asked : 100));
	if (cell->is_rate_judged && cell->asked && !cell->is_open) {
		out->rate_first = judge_rate(cell, scene, series, 0);
		out->rate_warm = judge_rate(cell, scene, series, series->first);
	}
}

void tr_cell_run(const struct tr_stage *stage, const struct tr_cell *cell, double reach,
		 struct tr_result *out)
{
	struct tr_scene scene = { .gpus = cell->gpus, .seed = cell->seed };
	tr_cleanup(tr_series_free) struct tr_series series = { 0 };
	uint64_t began_ns = tr_clock_ns();
	struct tr_err err = { 0 };

	*out = (struct tr_result){ .reach = reach };
	out->target = cell->asked ? fmin(cell->asked, reach) : 100;
	set_parties(&scene, stage, cell);
	set_times(&scene, cell);
	if (tr_scene_run(stage, &scene, &series, &err) < 0) {
		(void)snprintf(out->why, sizeof(out->why), "%.*s",
			       (int)sizeof(out->why) - 1, err.msg);
	} else {
		out->is_measured = true;
		out->window_s = (double)(series.samples[series.count - 1].at_ns -
					 series.samples[series.first].at_ns) /
				1e9;
		judge(cell, &scene, &series, out);
	}
	out->real_s = (double)(tr_clock_ns() - began_ns) / 1e9;
}
