/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_JOBS_H
#define TR_BENCH_JOBS_H

#include "bench/cell.h"

/* Cells of a matrix, measured by several processes at once: on a virtual clock each takes one
 * processor. A group is a tenant's cells, which all need to know what it reaches without a limiter. */

struct tr_jobs;

struct tr_jobs_plan {
	const struct tr_stage *stage;
	unsigned groups, cells; /* in each group */
	unsigned at_once;
	/* CELL of GROUP. */
	void (*describe)(void *arg, unsigned group, unsigned cell, struct tr_cell *out);
	void *arg;
};

int tr_jobs_start(struct tr_jobs **out, const struct tr_jobs_plan *plan,
		  struct tr_err *err);
/* Waits for CELL of GROUP. -EIO: what it reaches could not be measured, or the job died. */
int tr_jobs_take(struct tr_jobs *jobs, unsigned group, unsigned cell, struct tr_result *out,
		 struct tr_err *err);
/* Nothing new begins; what runs ends first. */
void tr_jobs_stop(struct tr_jobs *jobs);

#endif /* TR_BENCH_JOBS_H */
