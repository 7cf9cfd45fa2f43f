/* SPDX-License-Identifier: Apache-2.0 */
/* The rows: repetitions of bare, ours and the peer in turn, so that what disturbs the
 * machine disturbs all of them. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB 1024.0

struct loop_row {
	const char *id, *what, *loop;
	enum bench_slice slice;
	unsigned long live;
	enum bench_group group;
	unsigned workers;
	double at_most_ns;
	unsigned iterations;
};

static const struct loop_row loop_rows[] = {
#define BENCH_LOOP(...) { __VA_ARGS__ },
#include "rows.def"
#undef BENCH_LOOP
};

/* One measurement of one side. */
typedef int measure_fn(const struct bench *bench, char **environment, const void *row,
		       double *value);

static unsigned scaled(const struct bench *bench, unsigned n)
{
	unsigned m = (unsigned)((unsigned long)n * bench->scale / 100);

	return m ? m : 1;
}

/* From the order of VALUES (sorted): ranks around the middle that hold it in 95 of 100 runs. */
static double spread_of(const double *values, unsigned n)
{
	unsigned reach = 0, middle = n / 2;

	while ((uint64_t)reach * reach < n) /* 1.96 * sqrt(n) / 2, rounded up */
		reach++;
	if (reach > middle || middle + reach >= n)
		return (values[n - 1] - values[0]) / 2;
	return (values[middle + reach] - values[middle - reach]) / 2;
}

/* REPETITIONS of every side in turn: the medians, and the median of what is added. */
static int compare(const struct bench *bench, const struct bench_driver *driver,
		   struct bench_result *r, measure_fn *measure, const void *row)
{
	static double of[BENCH_SIDES][BENCH_REPS_MAX], added[BENCH_SIDES][BENCH_REPS_MAX];
	unsigned sides = bench->peer[0] ? BENCH_SIDES : BENCH_PEER;

	r->has_peer = sides == BENCH_SIDES;
	for (unsigned i = 0; i < r->repetitions; i++)
		for (unsigned n = 0; n < sides; n++) {
			unsigned side = i % 2 ? sides - 1 - n
					      : n; /* nobody is always first */

			if (measure(bench, driver->environment[side], row, &of[side][i]) <
			    0) {
				fprintf(stderr, "bench: %s on %s: not measured\n", r->id,
					driver->name);
				return -1;
			}
		}
	for (unsigned side = BENCH_OURS; side < sides; side++) {
		for (unsigned i = 0; i < r->repetitions; i++)
			added[side][i] = r->kind == BENCH_RATIO
						 ? of[side][i] / of[BENCH_BARE][i]
						 : of[side][i] - of[BENCH_BARE][i];
		r->added[side] = bench_median(added[side], r->repetitions);
		if (side == BENCH_OURS)
			r->spread = spread_of(added[side], r->repetitions);
	}
	for (unsigned side = 0; side < sides; side++)
		r->of[side] = bench_median(of[side], r->repetitions);
	bench_report(r);
	return 0;
}

static int measure_loop(const struct bench *bench, char **environment, const void *argument,
			double *value)
{
	const struct loop_row *row = argument;
	unsigned batches = scaled(bench, row->iterations == 1 ? 1 : 41);
	char live[24], iterations[24], count[24], threads[24];
	const char *const arguments[] = {
		row->loop, live, iterations, count, threads, NULL
	};

	(void)snprintf(live, sizeof(live), "%lu",
		       bench->scale * row->live / 100 /
			       (row->group == PROCESSES ? row->workers : 1));
	(void)snprintf(iterations, sizeof(iterations), "%u", row->iterations);
	(void)snprintf(count, sizeof(count), "%u", batches);
	(void)snprintf(threads, sizeof(threads), "%u",
		       row->group == THREADS ? row->workers : 1);
	if (row->group == PROCESSES)
		return bench_spawn_group(bench, environment, arguments, row->workers,
					 value);
	return bench_spawn(bench, environment, arguments, value, NULL, 0);
}

/* Started anew for each value, or slow to prepare: the number of repetitions follows. */
static unsigned repetitions_of(const struct loop_row *row)
{
	if (row->iterations == 1)
		return 101;
	return row->live >= 1000000 || row->group != ONE ? 11 : 15;
}

static int loops_on(const struct bench *bench, const struct bench_driver *driver)
{
	int failed = 0;

	for (size_t i = 0; i < sizeof(loop_rows) / sizeof(*loop_rows); i++) {
		const struct loop_row *row = &loop_rows[i];
		struct bench_result r = { .id = row->id,
					  .what = row->what,
					  .driver = driver->name,
					  .unit = "ns",
					  .at_most = row->at_most_ns,
					  .repetitions = scaled(bench,
								repetitions_of(row)) };
		struct bench_driver on = *driver;

		/* Kernels of other drivers take time: there a limit waits, as it should, and
		 * a simulated launch says nothing of nanoseconds. */
		if ((row->slice == LIMITED && strcmp(driver->name, "stub") != 0) ||
		    (row->slice == ARMED && strcmp(driver->name, "sim") == 0))
			continue;
		if (bench->only && strncmp(row->id, bench->only, strlen(bench->only)) != 0)
			continue;
		on.environment[BENCH_OURS] = driver->slices[row->slice];
		failed |= compare(bench, &on, &r, measure_loop, row);
	}
	return failed;
}

static int measure_storm(const struct bench *bench, char **environment,
			 const void *argument, double *value)
{
	return bench_spawn_storm(bench, environment, *(const unsigned *)argument, value);
}

/* The driver's own start lasts 100 ms: only the stub can be told so. */
static int storm(const struct bench *bench, const struct bench_driver *driver)
{
	static char slow[] = "TRANCHE_STUB_INIT_MS=100";
	struct bench_result r = { .id = "storm",
				  .what = "256 processes starting at once, driver 100 ms",
				  .driver = driver->name,
				  .unit = "ns",
				  .kind = BENCH_RATIO,
				  .at_most = 1.2,
				  .repetitions = scaled(bench, 7) };
	unsigned count = scaled(bench, 256);
	struct bench_driver slowed = *driver;
	int failed;

	for (unsigned side = 0; side < BENCH_SIDES; side++) {
		size_t n = 0;

		while (driver->environment[side][n])
			n++;
		slowed.environment[side] = calloc(n + 2, sizeof(char *));
		if (!slowed.environment[side])
			return -1;
		memcpy(slowed.environment[side], driver->environment[side],
		       n * sizeof(char *));
		slowed.environment[side][n] = slow;
	}
	failed = compare(bench, &slowed, &r, measure_storm, &count);
	for (unsigned side = 0; side < BENCH_SIDES; side++)
		free(slowed.environment[side]);
	return failed;
}

static int measure_true(const struct bench *bench, char **environment, const void *argument,
			double *value)
{
	(void)bench;
	return bench_spawn_once(argument, environment, value);
}

static int start_of_true(const struct bench *bench, const struct bench_driver *driver)
{
	struct bench_result r = { .id = "true",
				  .what = "/bin/true with the library preloaded",
				  .driver = driver->name,
				  .unit = "ns",
				  .at_most = 100000,
				  .repetitions = scaled(bench, BENCH_REPS_MAX) };

	return compare(bench, driver, &r, measure_true, "/bin/true");
}

static int measure_resident(const struct bench *bench, char **environment,
			    const void *argument, double *value)
{
	const char *const arguments[] = { "resident", argument, NULL };

	return bench_spawn(bench, environment, arguments, value, NULL, 0);
}

static int resident(const struct bench *bench, const struct bench_driver *driver)
{
	struct bench_result base = { .id = "resident.base",
				     .what = "memory in a process, 1 live allocation",
				     .driver = driver->name,
				     .unit = "B",
				     .at_most = 256 * KIB,
				     .repetitions = scaled(bench, 11) };
	struct bench_result full = {
		.id = "resident.1M",
		.what = "memory in a process, 1 000 000 live allocations",
		.driver = driver->name,
		.unit = "B",
		.at_most = 256 * KIB + 48.0 * 1000000,
		.repetitions = scaled(bench, 3)
	};

	return compare(bench, driver, &base, measure_resident, "1") |
	       compare(bench, driver, &full, measure_resident, "1000000");
}

static int size_of(const char *id, const char *what, const char *path, double at_most)
{
	struct bench_result r = { .id = id,
				  .what = what,
				  .driver = "",
				  .unit = "B",
				  .kind = BENCH_SIZE,
				  .at_most = at_most,
				  .repetitions = 1 };
	struct stat st;

	if (stat(path, &st) < 0) {
		perror(path);
		return -1;
	}
	r.of[BENCH_OURS] = r.added[BENCH_OURS] = (double)st.st_size;
	bench_report(&r);
	return 0;
}

int bench_rows(struct bench *bench)
{
	char state[160];
	int failed = 0;

	for (unsigned i = 0; i < bench->driver_count; i++)
		failed |= loops_on(bench, &bench->drivers[i]);
	if (bench->only)
		return failed;
	for (unsigned i = 0; i < bench->driver_count; i++)
		if (strcmp(bench->drivers[i].name, "stub") == 0)
			failed |= storm(bench, &bench->drivers[i]);
	failed |= start_of_true(bench, &bench->drivers[0]);
	failed |= resident(bench, &bench->drivers[0]);
	failed |= size_of("size", "libvgpu.so, stripped", bench->stripped, 96 * KIB);
	(void)snprintf(state, sizeof(state), "%s/%s.unarmed.state", bench->dir,
		       bench->drivers[0].name);
	failed |= size_of("state", "state file", state, 512 * KIB);
	return failed;
}
