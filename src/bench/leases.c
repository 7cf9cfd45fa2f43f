/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/leases.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/cell.h"
#include "rt/cleanup.h"

#define SECOND_NS   UINT64_C(1000000000)
#define MS_NS       UINT64_C(1000000)
#define WARM_NS     (3 * SECOND_NS)
#define PULSE_NS    (200 * MS_NS) /* how long a neighbour that came back works (steps.c) */
#define PULSE_EACH  (550 * MS_NS) /* and how often, at most */
#define BURST_EACH  (450 * MS_NS)
#define RETURNS     200u
#define RETURNS_FEW 40u
#define STEADY_NS   (20 * SECOND_NS)

struct run {
	const struct tr_stage *stage;
	const struct tr_leases *leases;
	struct tr_leases_sum *sum;
};

struct row {
	const char *what, *unit;
	const char *workload;
	unsigned count; /* of what the value is the worst or the median */
	double value, at_most;
};

static void tell(struct run *run, const struct row *row)
{
	bool missed = row->value > row->at_most;

	run->sum->rows++;
	run->sum->missed += missed;
	if (run->leases->is_json) {
		json_t *object = json_pack("{s:s, s:s, s:s, s:i, s:f, s:f, s:b, s:I}",
					   "what", row->what, "workload", row->workload,
					   "unit", row->unit, "count", (int)row->count,
					   "value", round(row->value * 1000) / 1000,
					   "at_most", row->at_most, "missed", missed,
					   "seed", (json_int_t)run->leases->seed);

		(void)json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
		(void)putchar('\n');
		json_decref(object);
	} else {
		(void)printf("%-58s %-14s %5u %9.3f %-3s at most %g%s\n", row->what,
			     row->workload, row->count, row->value, row->unit, row->at_most,
			     missed ? "  MISSED" : "");
	}
	(void)fflush(stdout);
}

static void tell_failed(struct run *run, const char *what, const struct tr_err *err)
{
	run->sum->failed++;
	(void)fprintf(stderr, "tranche: bench: %s: %s\n", what, err->msg);
}

static unsigned returns(const struct run *run)
{
	return run->leases->is_quick ? RETURNS_FEW : RETURNS;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* The value below which PART (0..1) of the N VALUES lie; they are sorted. */
static double quantile(double *values, unsigned n, double part)
{
	unsigned at = (unsigned)((n - 1) * part + 0.5);

	if (!n)
		return (double)INFINITY;
	qsort(values, n, sizeof(*values), compare);
	return values[at];
}

static struct tr_scene make_scene(const struct run *run, uint64_t window_ns)
{
	return (struct tr_scene){ .gpus = 1,
				  .warm_ns = WARM_NS,
				  .window_ns = window_ns,
				  .step_ns = 2 * MS_NS,
				  .seed = run->leases->seed };
}

static void add_party(struct tr_scene *scene, const struct tr_workload *workload,
		      unsigned cores, unsigned cores_max, const char *priority)
{
	scene->parties[scene->party_count++] = (struct tr_party){
		.workload = workload,
		.limiter = cores || priority ? TR_LIMITER_OURS : TR_LIMITER_NONE,
		.processes = 1,
		.cores = cores,
		.cores_max = cores_max,
		.priority = priority
	};
}

/* How far party 1 fell behind RATE after each of its returns, in ms. */
static unsigned find_lags(const struct tr_series *s, double rate, double *out,
			  unsigned room)
{
	const struct tr_bench_page *page = s->pages[1];
	uint64_t from_ns = s->samples[s->first].at_ns,
		 to_ns = s->samples[s->count - 1].at_ns - PULSE_NS;
	unsigned told = atomic_load(&page->wait_count), n = 0;

	for (unsigned i = 0; i < told && i < TR_BENCH_WAITS && n < room; i++) {
		uint64_t at_ns = atomic_load(&page->waits[i].at_ns);

		if (at_ns >= from_ns && at_ns < to_ns)
			out[n++] = (double)tr_series_lag_ns(s, 1, 0, at_ns, PULSE_NS,
							    rate) /
				   1e6;
	}
	return n;
}

/* A neighbour comes back RETURNS times; PARTY 0 has what it left. */
static void run_returns(struct run *run, struct tr_scene *scene, double rate,
			const char *worst, const char *median)
{
	tr_cleanup(tr_series_free) struct tr_series series = { 0 };
	const char *name = scene->parties[0].workload->name;
	double lags[RETURNS];
	struct tr_err err = { 0 };
	unsigned n;

	if (tr_scene_run(run->stage, scene, &series, &err) < 0) {
		tell_failed(run, worst, &err);
		return;
	}
	n = find_lags(&series, rate, lags, returns(run));
	if (n < returns(run)) {
		(void)tr_fail(&err, 1, "it came back %u times only", n);
		tell_failed(run, worst, &err);
		return;
	}
	tell(run, &(struct row){ worst, "ms", name, n, quantile(lags, n, 1), 50 });
	tell(run, &(struct row){ median, "ms", name, n, quantile(lags, n, 0.5), 50 });
}

static void run_lending(struct run *run, const char *size)
{
	struct tr_scene scene = make_scene(run, returns(run) * PULSE_EACH);
	struct tr_workload fixed, pulsed;
	char names[2][32];

	(void)snprintf(names[0], sizeof(names[0]), "fixed:%s", size);
	(void)snprintf(names[1], sizeof(names[1]), "pulsed:%s", size);
	add_party(&scene, tr_workload_find(names[0], &fixed), 30, 100, NULL);
	add_party(&scene, tr_workload_find(names[1], &pulsed), 70, 70, NULL);
	run_returns(run, &scene, 0.7, "borrowed time given back to its owner, worst",
		    "borrowed time given back to its owner, median");
}

static void run_stopping(struct run *run, const char *size)
{
	struct tr_scene scene = make_scene(run, returns(run) * PULSE_EACH);
	struct tr_workload fixed, pulsed;
	char names[2][32];

	(void)snprintf(names[0], sizeof(names[0]), "fixed:%s", size);
	(void)snprintf(names[1], sizeof(names[1]), "pulsed:%s", size);
	add_party(&scene, tr_workload_find(names[0], &fixed), 0, 0, "low");
	add_party(&scene, tr_workload_find(names[1], &pulsed), 0, 0, "high");
	run_returns(run, &scene, 1, "low stopped for high, worst",
		    "low stopped for high, median");
}

/* What the requests of the last party took, in ms, sorted into OUT; per second into RATE. */
static unsigned find_waits(const struct tr_series *s, unsigned party, bool only_first,
			   double *out, double *per_second)
{
	const struct tr_bench_page *page = s->pages[party];
	unsigned told = atomic_load(&page->wait_count), n = 0;
	unsigned kept = told < TR_BENCH_WAITS ? told : TR_BENCH_WAITS;
	uint64_t from_ns = UINT64_MAX, to_ns = 0;

	for (unsigned i = 0; i < kept; i++) {
		uint64_t at_ns = atomic_load(&page->waits[i].at_ns);

		if (at_ns < s->samples[s->first].at_ns ||
		    (only_first && !atomic_load(&page->waits[i].is_first)))
			continue;
		from_ns = at_ns < from_ns ? at_ns : from_ns;
		to_ns = at_ns > to_ns ? at_ns : to_ns;
		out[n++] = (double)atomic_load(&page->waits[i].took_ns) / 1e6;
	}
	*per_second = n > 1 ? (n - 1) / ((double)(to_ns - from_ns) / 1e9) : 0;
	return n;
}

/* A scene with a service as its last party. Returns how many requests it had. */
static unsigned run_service(struct run *run, struct tr_scene *scene, bool only_first,
			    double *waits, double *per_second)
{
	tr_cleanup(tr_series_free) struct tr_series series = { 0 };
	struct tr_err err = { 0 };

	scene->step_ns = 50 * MS_NS;
	if (tr_scene_run(run->stage, scene, &series, &err) < 0) {
		tell_failed(run, "a service beside a low slice", &err);
		return 0;
	}
	return find_waits(&series, scene->party_count - 1, only_first, waits, per_second);
}

static void run_steady(struct run *run, const char *size)
{
	struct tr_scene alone = make_scene(run, STEADY_NS),
			beside = make_scene(run, STEADY_NS);
	struct tr_workload fixed, steady;
	static double waits[TR_BENCH_WAITS];
	double rate_alone, rate_beside, p99_alone, p99_beside;
	char names[2][32];
	unsigned n;

	(void)snprintf(names[0], sizeof(names[0]), "fixed:%s", size);
	(void)snprintf(names[1], sizeof(names[1]), "steady:%s", size);
	add_party(&alone, tr_workload_find(names[1], &steady), 0, 0, "high");
	add_party(&beside, tr_workload_find(names[0], &fixed), 0, 0, "low");
	add_party(&beside, &steady, 0, 0, "high");
	n = run_service(run, &alone, false, waits, &rate_alone);
	if (n == 0)
		return;
	p99_alone = quantile(waits, n, 0.99);
	n = run_service(run, &beside, false, waits, &rate_beside);
	if (n == 0)
		return;
	p99_beside = quantile(waits, n, 0.99);
	tell(run, &(struct row){ "high beside low, always busy: throughput lost", "%",
				 names[1], n, 100 * (1 - rate_beside / rate_alone), 2 });
	tell(run, &(struct row){ "high beside low, always busy: p99 latency gained", "%",
				 names[1], n, 100 * (p99_beside / p99_alone - 1), 5 });
}

static void run_bursts(struct run *run, const char *size)
{
	struct tr_scene scene = make_scene(run, returns(run) * BURST_EACH);
	static double waits[TR_BENCH_WAITS];
	struct tr_workload fixed, requests;
	double per_second, kernel_ms;
	char names[2][32];
	unsigned n;

	(void)snprintf(names[0], sizeof(names[0]), "fixed:%s", size);
	(void)snprintf(names[1], sizeof(names[1]), "requests:%s", size);
	add_party(&scene, tr_workload_find(names[0], &fixed), 0, 0, "low");
	add_party(&scene, tr_workload_find(names[1], &requests), 0, 0, "high");
	kernel_ms = (double)requests.kernel_ns / 1e6;
	n = run_service(run, &scene, true, waits, &per_second);
	if (n == 0)
		return;
	tell(run, &(struct row){ "high in bursts: delay of the first kernel, worst", "ms",
				 names[1], n, quantile(waits, n, 1) - kernel_ms, 15 });
	tell(run, &(struct row){ "high in bursts: delay of the first kernel, median", "ms",
				 names[1], n, quantile(waits, n, 0.5) - kernel_ms, 2 });
}

/* Percent of a device that one party gets alone; NAN: not measured. */
static double run_alone(struct run *run, const struct tr_workload *workload, unsigned cores,
			unsigned cores_max)
{
	tr_cleanup(tr_series_free) struct tr_series series = { 0 };
	struct tr_scene scene = make_scene(run, STEADY_NS);
	struct tr_err err = { 0 };

	scene.step_ns = 50 * MS_NS;
	add_party(&scene, workload, cores, cores_max, NULL);
	if (tr_scene_run(run->stage, &scene, &series, &err) < 0) {
		tell_failed(run, "a tenant alone", &err);
		return (double)NAN;
	}
	return tr_series_share(&series, 0, 0, series.first, series.count - 1);
}

static void run_markers(struct run *run, const char *name)
{
	const struct tr_workload *workload = tr_workload_find(name, NULL);
	double bare = run_alone(run, workload, 0, 0);
	double at_95 = run_alone(run, workload, 95, 0);
	double borrowed = run_alone(run, workload, 50, 100);

	if (isnan(bare) || isnan(at_95) || isnan(borrowed))
		return;
	tell(run, &(struct row){ "throughput lost by being measured, at 95 %", "%", name, 1,
				 100 * (1 - at_95 / fmin(95, bare)), 0.5 });
	tell(run, &(struct row){ "throughput lost by being measured, at 100 % borrowed",
				 "%", name, 1, 100 * (1 - borrowed / bare), 0.5 });
}

void tr_leases_run(const struct tr_stage *stage, const struct tr_leases *leases,
		   struct tr_leases_sum *out)
{
	static const char *const sizes[] = { "200us", "1ms", "10ms" };
	static const char *const marked[] = { "10us", "200us", "graph500" };
	struct run run = { stage, leases, out };

	*out = (struct tr_leases_sum){ 0 };
	for (unsigned i = 0; i < 3; i++) {
		run_lending(&run, sizes[i]);
		run_stopping(&run, sizes[i]);
	}
	for (unsigned i = 0; i < 2; i++) {
		run_steady(&run, sizes[i]);
		run_bursts(&run, sizes[i]);
	}
	for (unsigned i = 0; i < 3; i++)
		run_markers(&run, marked[i]);
}
