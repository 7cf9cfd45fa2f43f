/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_H
#define TR_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who is measured: the driver alone, with ours preloaded, with another library preloaded.
 */
enum bench_side { BENCH_BARE, BENCH_OURS, BENCH_PEER, BENCH_SIDES };
enum bench_group { ONE, PROCESSES, THREADS };
/* What ours runs in: a slice with a memory limit only; one that is counted in time; one that is
 * limited in time too. */
enum bench_slice { UNARMED, ARMED, LIMITED, BENCH_SLICES };

#define BENCH_DRIVERS_MAX 4
#define BENCH_REPS_MAX    501

struct bench_driver {
	char name[32];
	char libraries[512]; /* goes into LD_LIBRARY_PATH; "": what the machine has */
	char **environment[BENCH_SIDES];
	char **slices[BENCH_SLICES]; /* ours: environment[BENCH_OURS] is the first */
};

struct bench {
	char worker[512], ours[512], stripped[512], peer[512]; /* peer "": none */
	char dir[64];     /* of this run, on tmpfs; removed at the end */
	const char *only; /* loops whose id begins so, and no other rows; NULL: all */
	unsigned scale;   /* percent of repetitions, iterations and live allocations */
	unsigned driver_count;
	struct bench_driver drivers[BENCH_DRIVERS_MAX];
};

enum bench_kind { BENCH_DIFFERENCE, BENCH_RATIO, BENCH_SIZE };

struct bench_result {
	const char *id, *what, *driver, *unit;
	enum bench_kind kind;
	unsigned repetitions;
	double of[BENCH_SIDES];    /* medians; SIZE: [BENCH_OURS] only */
	double added[BENCH_SIDES]; /* median of the differences or ratios, [BARE] unused */
	double spread; /* half the range that holds the true median in 95 of 100 runs */
	double at_most;
	bool has_peer;
};

/* harness.c: the environments of every driver and side, with a slice of its own for ours. 0
 * or a sentence on stderr and -1. */
int bench_open(struct bench *bench);
void bench_close(struct bench *bench);

/* spawn.c: the worker with ARGUMENTS (NULL ended, without its own name). */
/* The number that one process printed, or its text. -1: it failed, with a sentence on stderr.
 */
int bench_spawn(const struct bench *bench, char **environment, const char *const *arguments,
		double *out, char *text, size_t room);
/* COUNT of them, let go together; the mean of what they printed. */
int bench_spawn_group(const struct bench *bench, char **environment,
		      const char *const *arguments, unsigned count, double *value);
/* COUNT processes started together by the gate, until the last has ended. */
int bench_spawn_storm(const struct bench *bench, char **environment, unsigned count,
		      double *elapsed_ns);
/* One start of PROGRAM, until it has ended. */
int bench_spawn_once(const char *program, char **environment, double *elapsed_ns);
uint64_t bench_clock_ns(void);

/* rows.c: every row of the table, each given to bench_report(). -1 when one could not be
 * measured. */
int bench_rows(struct bench *bench);

/* report.c */
double bench_median(double *values, size_t n);
void bench_report_open(const char *json_path, bool markdown);
void bench_report(const struct bench_result *result);
/* Prints the table. How many numbers were missed. */
unsigned bench_report_close(void);

#endif /* TR_BENCH_H */
