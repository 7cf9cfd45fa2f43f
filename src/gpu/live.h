/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_GPU_LIVE_H
#define TR_GPU_LIVE_H

#include <stdbool.h>

#include "gpu/gpu.h"

/* How a GPU does. The rules of gpu.h hold. */

enum tr_gpu_answer {
	TR_GPU_WELL,
	TR_GPU_FAILS,       /* it does not answer, or not now */
	TR_GPU_LOST,        /* it is off the bus */
	TR_GPU_NEEDS_RESET, /* says the driver */
};

enum tr_gpu_has {
	TR_GPU_HAS_MEMORY = 1,
	TR_GPU_HAS_GPU_RATE = 2,
	TR_GPU_HAS_MEMORY_RATE = 4,
	TR_GPU_HAS_TEMPERATURE = 8,
	TR_GPU_HAS_POWER = 16,
	TR_GPU_HAS_ECC = 32,
	TR_GPU_HAS_ENERGY = 64,
};

struct tr_gpu_live {
	enum tr_gpu_answer answer;
	char says[96]; /* what is not well, in the driver's words */
	unsigned has;  /* enum tr_gpu_has; the rest is 0 */
	uint64_t used_bytes;
	unsigned gpu_percent, memory_percent, celsius, power_mw;
	/* Since the driver was loaded: */
	uint64_t energy_mj, ecc_corrected, ecc_uncorrected;
};
/* UUID may be an instance's: then memory only. */
void tr_gpu_live(const char *uuid, struct tr_gpu_live *out);

/*
 * XIDs: what the driver reports of errors. One watch at a time, of all devices in GPUS that can tell.
 * -ENODATA: none of them can.
 */
int tr_gpu_events_open(const struct tr_gpus *gpus, struct tr_err *err);
struct tr_gpu_event {
	char uuid[48]; /* of the GPU, or "": the driver does not say */
	unsigned xid;
	int gpu_instance, compute_instance; /* -1: of no instance */
};
/* 1: one; 0: none came in time; -EIO: waiting fails. */
int tr_gpu_events_wait(unsigned timeout_ms, struct tr_gpu_event *out, struct tr_err *err);
void tr_gpu_events_close(void);

#endif /* TR_GPU_LIVE_H */
