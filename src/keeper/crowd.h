/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KEEPER_CROWD_H
#define TR_KEEPER_CROWD_H

#include "keeper/fleet.h"

/* The processes that NVML shows, and which slot of which slice each of them sits in. */

struct tr_person {
	pid_t pid; /* as NVML knows it */
	int gpu;
	struct tr_kept *kept; /* NULL: in no slice that can be seen */
	unsigned row, slot;   /* there */
	uint64_t tag;         /* of the slot */
	bool is_named;        /* /proc knows it */
	bool is_listed, is_new;
	uint64_t born_ns, seen_ns, tried_ns; /* first and last seen; last looked for */
	struct tr_samples samples;
	struct tr_state_mem before; /* its ledger before NVML was asked */
	bool has_before;
};

struct tr_crowd {
	struct tr_person *people;
	size_t count, room;
};

void tr_crowd_close(struct tr_crowd *crowd);
/* Finds PID on GPU, or adds it unresolved; NULL: no memory, or too many. */
struct tr_person *tr_crowd_find(struct tr_crowd *crowd, pid_t pid, int gpu,
				uint64_t now_ns);
/* Those of GPU that are listed: their slots may be others' now. */
void tr_crowd_check(struct tr_crowd *crowd, int gpu, uint64_t now_ns);
/* Finds the slots of those of GPU that have none. */
void tr_crowd_resolve(struct tr_crowd *crowd, const struct tr_fleet *fleet, int gpu,
		      uint64_t now_ns);
/* Those not seen for two sweeps are gone. */
void tr_crowd_fade(struct tr_crowd *crowd, int gpu, uint64_t now_ns);
void tr_crowd_forget(struct tr_crowd *crowd, const struct tr_kept *kept);

#endif /* TR_KEEPER_CROWD_H */
