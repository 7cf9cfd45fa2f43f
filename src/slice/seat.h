/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_SLICE_SEAT_H
#define TR_SLICE_SEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "tranche/err.h"
#include "tranche/policy.h"
#include "tranche/state.h"

/*
 * A process' seat in a state file: the mapping and the slot it owns through the kernel.
 * Nothing here allocates, takes a process-local lock, or leaves a descriptor open.
 */

/* Makes a state file in full (allocated, not sparse), then links it as PATH; mode MODE.
 * -EEXIST when PATH exists (whatever it is: it is left alone), -ENOSPC when it does not
 * fit. */
int tr_state_create(const char *path, uint64_t serial, unsigned mode, struct tr_err *err);

struct tr_seat {
	struct tr_state *state; /* NULL: none. Not inherited by fork (MADV_DONTFORK) */
	tr_slot slot;
	bool is_seated; /* false: mapped for reading only, no slot */
	char path[256]; /* of the state file, for the slow path and reaping */
};

/* Maps the state file at PATH and takes a free slot. SERIAL 0: any; else it must match.
 * -ENOENT, -EBADMSG (not a state file, too short), -EPROTONOSUPPORT, -EUSERS (1024
 * processes), -ENOLCK: this file system loses the lock when the descriptor closes
 * (overlayfs). */
int tr_seat_take(struct tr_seat *out, const char *path, uint64_t serial,
		 struct tr_err *err);
/* Maps only: for readers inside the slice (NVML queries of a process without CUDA). */
int tr_seat_watch(struct tr_seat *out, const char *path, uint64_t serial,
		  struct tr_err *err);
void tr_seat_leave(struct tr_seat *seat);

/* The row of `devices` that belongs to KEY, claiming a free one; -ENOSPC when all 16 are
 * others'. For slices without a page; with one, row d is the page's row d. */
int tr_state_row(struct tr_state *state, uint64_t key, tr_dev *out);

/* The same where DEV is known already, from the page. A row must be claimed before anything is
 * reserved on it: only claimed rows are zeroed after a death. */
void tr_state_claim_row(struct tr_state *state, tr_dev dev, uint64_t key);

/* Zeroes the words of slots whose process is gone. FD: an open description of the state
 * file of the caller's own. Returns how many. Idempotent; may be killed anywhere. */
unsigned tr_state_reap(struct tr_state *state, int fd);

#endif /* TR_SLICE_SEAT_H */
