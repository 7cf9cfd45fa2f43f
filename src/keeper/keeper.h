/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KEEPER_KEEPER_H
#define TR_KEEPER_KEEPER_H

#include "keeper/sweep.h"

/*
 * What the host does for the running slices of a machine.
 *
 *   every second   compare NVML's bytes of each process with what the process itself has counted,
 *                  and publish the difference (contexts, code, block remainders) as its overhead;
 *                  the same with GPU time: gamma, and work that goes around the hook
 *   every 10 ms    while some slice may borrow or goes before another: leases
 *
 * Reads state files with pread() only, and of them only what it needs; writes policy pages only.
 * Without a keeper context floors, gamma as it was and the guaranteed rates stand.
 */
struct tr_keeper {
	struct tr_fleet fleet;
	struct tr_crowd crowd;
	struct tr_swept swept[TR_GPUS_MAX];
	uint64_t contested, ranked; /* by GPU: leases are needed there; for priorities */
	size_t looked[TR_GPUS_MAX], active[TR_GPUS_MAX]; /* slices, at the last look */
	uint64_t look_ns;                                /* till the next look at leases */
	uint64_t occupied_ns; /* when it was last looked who has programs */
	struct tr_lease_row *leases;
	struct tr_kept **lessees;
	size_t lease_room;
};

/* Needs tr_gpu_open() in this process; GPUS is what it told and stays the caller's. */
void tr_keeper_open(struct tr_keeper *out, const struct tr_gpus *gpus);
void tr_keeper_close(struct tr_keeper *keeper);
/* Keeps the slice in DIR; for whoever does not look for slices. */
int tr_keeper_add(struct tr_keeper *keeper, const struct tr_slice_dir *dir,
		  struct tr_err *err);
/* From now on only what is added is kept: roots are not looked through. */
void tr_keeper_only_added(struct tr_keeper *keeper);
/* The slice in directory PATH is not kept any more, and its files not open. -ENOENT. */
int tr_keeper_drop(struct tr_keeper *keeper, const char *path);

/* All devices now. A process whose count changed while NVML was asked keeps what was published. */
int tr_keeper_sweep(struct tr_keeper *keeper, struct tr_err *err);
/* What is due now, in all slices that are found. Answers when there is something to do again, in
 * nanoseconds from now. */
uint64_t tr_keeper_turn(struct tr_keeper *keeper);

/* ---- one keeper of many --------------------------------------------------------------- */

/* Waits until this process is the only keeper of this user for these GPUs; for ever, without
 * using the processor. It is so until *FD is closed. */
int tr_keeper_elect(const struct tr_gpus *gpus, int *fd, struct tr_err *err);
/* Removes the files of elections that nobody stands in. */
void tr_keeper_clear(void);
/* Tells the one who is that there is something new to keep. */
void tr_keeper_nudge(void);

#endif /* TR_KEEPER_KEEPER_H */
