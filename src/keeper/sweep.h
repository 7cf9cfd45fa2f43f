/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KEEPER_SWEEP_H
#define TR_KEEPER_SWEEP_H

#include "keeper/crowd.h"

/* What is asked of NVML once a second: one device at a time, as an answer takes milliseconds. */

struct tr_swept {                    /* one device */
	uint64_t swept_ns, heard_ns; /* last sweep; last sample */
	uint64_t base_us, period_us; /* newest sample; their length, 0: not known */
	bool is_foreign_busy;        /* somebody works there who is in no armed slice */
};

/* Publishes overhead, gamma and bypasses of all slices that have GPU. */
int tr_sweep_gpu(struct tr_fleet *fleet, struct tr_crowd *crowd, int gpu,
		 struct tr_swept *swept, struct tr_err *err);

#endif /* TR_KEEPER_SWEEP_H */
