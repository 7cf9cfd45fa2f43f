/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_RUNS_H
#define TR_HOOK_RUNS_H

#include "marks.h"
#include "pace.h"

/* What two events say about the submissions between them: charged, and learned by their keys. Called
 * under the lock of the context's marks. */

/* A run of submissions between two events. Host times are CLOCK_MONOTONIC before the call. */
struct tr_run {
	CUevent begin, end; /* made once, used again */
	uint64_t begun_ns, closed_ns;
	uint64_t at_ns; /* when a single one was submitted */
	uint64_t predicted_ns;
	uint64_t key; /* 0: not a single one */
	uint32_t count, unknown;
	bool is_unmeasured;
	unsigned others;            /* streams that had work meanwhile */
	uint64_t last_key, last_ns; /* one of the submissions, and its prediction */
};

/* What the runs of a context have told so far. */
struct tr_told {
	/* The latest end event taken in and when that was, for the GPU's clock against ours. */
	CUevent anchor;
	uint64_t anchor_ns; /* 0: none yet */
	/* Of runs on streams that share the GPU, since something was learned of them. */
	uint64_t shared_busy_ns, shared_predicted_ns, shared_runs;
	bool has_shared; /* some, ever */
};

/* Takes in a run whose end event is done. False: the driver does not tell its length, and what was
 * predicted stands. */
bool tr_run_tell(struct tr_told *told, struct tr_run *run, tr_dev dev, uint64_t now_ns);

#endif /* TR_HOOK_RUNS_H */
