/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KEEPER_KEEPER_H
#define TR_KEEPER_KEEPER_H

#include "gpu/gpu.h"
#include "keeper/slices.h"

/*
 * What the host does for a running slice once a second: compare NVML's bytes of each of its
 * processes with what the process itself has counted, and publish the difference (contexts,
 * code, block remainders) as that process' overhead. Reads the state file with pread()
 * only; writes the policy page only. Without a keeper the context floors stand.
 */
struct tr_keeper {
	struct tr_page page; /* writable */
	char state_path[220];
	struct tr_state *before, *after; /* private copies around NVML's answer */
};

/* Needs tr_gpu_open() in this process. Takes the page's writer lock only while it writes.
 */
int tr_keeper_open(struct tr_keeper *out, const struct tr_slice_dir *dir,
		   struct tr_err *err);
void tr_keeper_close(struct tr_keeper *keeper);

/* One sweep. A process whose count changed while NVML was asked keeps what was published
 * for it. */
int tr_keeper_sweep(struct tr_keeper *keeper, struct tr_err *err);

#endif /* TR_KEEPER_KEEPER_H */
