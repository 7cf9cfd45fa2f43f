/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CLI_KEEP_H
#define TR_CLI_KEEP_H

#include <sys/types.h>

#include "gpu/gpu.h"
#include "keeper/slices.h"
#include "tranche/err.h"

/*
 * The keeper process beside `tranche run`. NVML lives only there: a driver that hangs stops
 * sweeps, not the program; and a fresh exec sees the library path of a simulated driver. It
 * tells the devices of the machine at start, waits until there is a slice, then until it is the
 * only keeper of this user and machine; keeps all slices there, and ends when its starter does.
 */
#define TR_KEEP_COMMAND "keep-slice"
int tr_cli_keep(int argc, char **argv);

struct tr_keep {
	pid_t pid;    /* 0: it has ended */
	int to, from; /* pipes, or -1 */
	struct tr_slice_dir slice;
	uint64_t next_ns; /* no restart before */
};

/* Starts it and waits (at most 20 s) for what the machine has. All signals must be blocked. */
int tr_keep_start(struct tr_keep *out, struct tr_gpus *gpus, struct tr_err *err);
/* From now on the slice in DIR is kept, by it or by the one who keeps already. */
void tr_keep_slice(struct tr_keep *keep, const struct tr_slice_dir *dir);
/* For tr_launch_wait(): when it has ended, by whatever, another one starts; the first at once, then
 * one a second at most. ARG: the struct tr_keep. */
uint64_t tr_keep_tend(void *arg);
/* One last sweep is not waited for. */
void tr_keep_stop(struct tr_keep *keep);

#endif /* TR_CLI_KEEP_H */
