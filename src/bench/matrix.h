/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_MATRIX_H
#define TR_BENCH_MATRIX_H

#include <stdio.h>

#include "bench/cell.h"

/* All cells of a run, and what is told about them. */

#define TR_MATRIX_LIST      16u
#define TR_MATRIX_WORKLOADS 32u

struct tr_list {
	unsigned values[TR_MATRIX_LIST], count;
};

struct tr_pair {
	unsigned asked, neighbours;
};

struct tr_matrix {
	struct tr_list quotas, processes, neighbours, gpus;
	struct tr_pair
		pairs[TR_MATRIX_LIST * TR_MATRIX_LIST]; /* of quotas and neighbours */
	unsigned pair_count;
	const struct tr_workload *workloads[TR_MATRIX_WORKLOADS];
	struct tr_workload rooms[TR_MATRIX_WORKLOADS];
	char words[512]; /* the names in ROOMS */
	unsigned workload_count;
	uint64_t seed;
	unsigned window_s;
	unsigned jobs; /* cells at once */
	bool is_quick, is_json, is_rate_judged;
	const char *svg_path;
};

/* "5,10,20" with values from LEAST to MOST; "10us,mixed". What is there twice is measured once.
 * -EINVAL with the sentence. */
int tr_list_parse(struct tr_list *out, const char *name, const char *text, unsigned least,
		  unsigned most, struct tr_err *err);
int tr_workloads_parse(struct tr_matrix *out, const char *text, struct tr_err *err);
/* What is not given: the whole matrix, or the reduced one. */
void tr_matrix_fill(struct tr_matrix *matrix);
/* Which quotas go with which neighbours: each of these has at least 1 % of what is left, as 0 would
 * be no limit. Cells that cannot be are told in NOTES; -EINVAL when no other is left. */
int tr_matrix_pair(struct tr_matrix *matrix, FILE *notes, struct tr_err *err);

struct tr_summary {
	unsigned cells, failed;
	double mean, worst, worst_allowed;
	unsigned over; /* cells beyond what is allowed */
	double window_off,
		stall_over; /* worst of all; stall: as a part of what is allowed */
	char worst_name[96], window_name[96], stall_name[96];
};

/* Runs all cells, telling each as it ends. -errno only for what concerns all of them. */
int tr_matrix_run(const struct tr_stage *stage, struct tr_matrix *matrix,
		  struct tr_summary *summary, struct tr_err *err);

/* Whether SUMMARY keeps the promise: mean <= 1 point, each cell within its bound; BY_SECOND: also
 * windows of 1 s within 5 points and no stall too long. */
bool tr_summary_is_good(const struct tr_summary *summary, bool by_second);

/* ---- report.c, svg.c ----------------------------------------------------------------------- */

void tr_report_begin(FILE *out, bool is_json);
void tr_report_cell(FILE *out, bool is_json, const struct tr_cell *cell,
		    const struct tr_result *result);
void tr_report_end(FILE *out, const struct tr_summary *summary);

struct tr_point {
	struct tr_cell cell;
	struct tr_result result;
};
/* Whether PATH can be written: before hours of cells. -EINVAL with the sentence; nothing stays there. */
int tr_svg_check(const char *path, struct tr_err *err);
/* Asked against got, a colour for each workload. */
int tr_svg_write(const char *path, const char *title, const struct tr_point *points,
		 unsigned count, const struct tr_summary *summary, struct tr_err *err);

#endif /* TR_BENCH_MATRIX_H */
