/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KEEPER_SWEEP_H
#define TR_KEEPER_SWEEP_H

#include "keeper/crowd.h"

/* What is asked of NVML: one device at a time, as an answer takes milliseconds. */

struct tr_swept {             /* one device */
	uint64_t listed_ns;   /* when NVML was asked who is there */
	uint64_t asked_ns;    /* when it was asked who was busy, and */
	uint64_t heard_ns;    /* when it last told something new, or had long been silent */
	uint64_t told_ns;     /* when it last told anything */
	uint64_t base_us;     /* end of the newest sample, on NVML's clock; 0: none yet */
	unsigned people;      /* processes with a context */
	bool is_foreign_busy; /* somebody works there who is in no armed slice, or did */
	struct {
		uint64_t since_ns, strange_ns, nameless_ns, charged_ns;
	} second; /* of which that is judged */
};

/* Who is there, and their memory: publishes overhead. Once a second. */
int tr_sweep_memory(struct tr_fleet *fleet, struct tr_crowd *crowd, int gpu,
		    struct tr_swept *swept, struct tr_err *err);

/* Who was busy: publishes gamma and bypasses of all slices that have GPU. */
int tr_sweep_time(struct tr_fleet *fleet, struct tr_crowd *crowd, int gpu,
		  struct tr_swept *swept, struct tr_err *err);
/* How long after the last time the next is due. Where processes share the device each of NVML's
 * samples is read by itself: whole percents of a longer time would round little ones away. */
uint64_t tr_sweep_pause_ns(const struct tr_swept *swept);

#endif /* TR_KEEPER_SWEEP_H */
