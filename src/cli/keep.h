/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CLI_KEEP_H
#define TR_CLI_KEEP_H

#include <sys/types.h>

#include "gpu/gpu.h"
#include "tranche/err.h"

/*
 * The keeper process beside `tranche run`. NVML lives only there: a driver that hangs stops
 * sweeps, not the program; and a fresh exec sees the library path of a simulated driver. It
 * tells the devices of the machine at start, gets the slice's directory, sweeps once a
 * second, and ends when its starter does.
 */
#define TR_KEEP_COMMAND "keep-slice"
int tr_cli_keep(int argc, char **argv);

struct tr_keep {
	pid_t pid;
	int to, from; /* pipes */
};

/* Starts it and waits (at most 20 s) for what the machine has. */
int tr_keep_start(struct tr_keep *out, struct tr_gpus *gpus, struct tr_err *err);
/* From now on it keeps the slice in DIR. */
int tr_keep_slice(struct tr_keep *keep, const char *policy_path, const char *state_path,
		  struct tr_err *err);
/* One last sweep is not waited for. */
void tr_keep_stop(struct tr_keep *keep);

#endif /* TR_CLI_KEEP_H */
