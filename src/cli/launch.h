/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CLI_LAUNCH_H
#define TR_CLI_LAUNCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tranche/err.h"

/* Starting a program and being it, as far as its starter can tell. */

/* Blocks every signal of this process; OLD gets the mask that the program shall have. */
void tr_signals_hold(sigset_t *old);

/* Starts ARGV (found by PATH). BEFORE, when not NULL, runs in the child before exec; its
 * failure is the start's. 0, or -errno: -ENOENT and -EACCES mean the program. */
int tr_launch(pid_t *pid, char **argv, const sigset_t *mask,
	      int (*before)(void *arg, struct tr_err *err), void *arg, struct tr_err *err);

/* Passes signals on, stops with it when job control stops it and wakes with it, until it ends.
 * Returns its wait status. TEND, when not NULL, looks after this process' other children, whenever
 * one may have ended; answers in how many ns it wants to look again at the latest, UINT64_MAX:
 * no need. */
int tr_launch_wait(pid_t pid, uint64_t (*tend)(void *arg), void *arg);

/* Ends as it ended: its exit status, or by the same signal. */
int tr_launch_status(int status);

/* 127 not found, 126 found but not runnable, else 1. */
int tr_launch_failed(const struct tr_err *err, int r);

#endif /* TR_CLI_LAUNCH_H */
