/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CLI_KEEP_H
#define TR_CLI_KEEP_H

#include <sys/types.h>

#include "gpu/gpu.h"
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
	pid_t pid;
	int to, from; /* pipes */
};

/* Starts it and waits (at most 20 s) for what the machine has. */
int tr_keep_start(struct tr_keep *out, struct tr_gpus *gpus, struct tr_err *err);
/* From now on the slice in DIR is kept, by it or by the one who keeps already. */
int tr_keep_slice(struct tr_keep *keep, const char *policy_path, const char *state_path,
		  struct tr_err *err);
/* One last sweep is not waited for. */
void tr_keep_stop(struct tr_keep *keep);

#endif /* TR_CLI_KEEP_H */
