/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_ATTACH_H
#define TR_HOOK_ATTACH_H

#include <stdbool.h>
#include <stdint.h>

#include "slice/ledger.h"

/*
 * How a process comes by its slice. Stage 1, at the first name or export of ours that it
 * uses: where limits come from. Stage 2, at cuInit: a seat in the state file. A process
 * that only asks NVML reads the state file and has no seat.
 */

/* Stage 1, once. False: no page and no environment, so nothing is exchanged or hooked. */
bool tr_attach_is_active(void);

/* Stage 2, in every process of its own (a fork child again). 0, or -errno: refuse. */
int tr_attach_seat(void);

/* A ledger to read from: the seat's, else a reader's mapping. NULL: there is none. */
const struct tr_ledger *tr_attach_reader(void);

/* Takes what dead processes left out of the sums; at most ten times a second. */
void tr_attach_reap(void);

/* The row of the device with that UUID ("GPU-..." or "MIG-..."). INDEX is its number in the
 * container where that is known, else -1: environment limits go by it. 0, -ENOENT when the
 * page does not name it, -ENOSPC. */
int tr_attach_device(const char *uuid, int index, tr_dev *dev);

/* The container's number of a CUDA ordinal, or -1 when CUDA_VISIBLE_DEVICES hides it. */
int tr_attach_index(int ordinal);

/* What the environment allows the device of that number, where nobody has a row for it yet.
 */
uint64_t tr_attach_env_limit(int index);

/* Whether this process is counted and paced in time: its page says so, or the environment
 * limits the time of some device. Fixed in stage 1. */
bool tr_attach_is_armed(void);
/* Percent of DEV's time that the environment allows; 0: it sets no limit. */
unsigned tr_attach_env_cores(tr_dev dev);

#endif /* TR_HOOK_ATTACH_H */
