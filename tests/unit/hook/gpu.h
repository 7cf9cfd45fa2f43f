/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_TEST_GPU_H
#define TR_TEST_GPU_H

#include <stdbool.h>
#include <stdint.h>

#include "hook.h"

/*
 * One GPU on a clock of its own, under the launch half of the hook: streams in order, one kernel
 * at a time, events with stamps. Time passes when the host sleeps, waits or is made busy. A kernel
 * takes what its handle says: GPU_KERNEL(us).
 */
struct gpu {
	uint64_t now_ns;
	uint64_t busy_ns;         /* what it has worked in truth, done by now or queued */
	uint64_t free_ns;         /* when the queue ends */
	uint64_t launch_ns;       /* host time of one launch */
	unsigned launches, waits; /* calls of the driver; sleeps of the hook */
	uint64_t longest_sleep_ns;
	unsigned events_live, records;
	unsigned records_before_launch; /* when the last kernel went */
	unsigned fail_events;           /* so many event calls from now on fail */
	bool is_hung;                   /* nothing that is queued from now on ends */
	bool is_capturing;              /* every stream */
	unsigned captured_events;
	const char *name; /* of kernels */
	CUcontext ctx;
};
extern struct gpu gpu;

#define GPU_KERNEL(us) ((CUfunction)(uintptr_t)((us)*16u + 16u))
#define GPU_GRAPH(us)  ((CUgraphExec)(uintptr_t)((us)*16u + 24u))
#define GPU_STREAM(i)  ((CUstream)(uintptr_t)(0x1000u * ((i) + 1u)))

/* A slice that is armed, of one device with that share; 0: all of it. */
void gpu_start(unsigned percent);
void gpu_end(void);
void gpu_set(unsigned percent);
void gpu_share(unsigned sharers); /* takes turns with others: so many processes */
struct tr_state_pace *gpu_pace(void);
/* The process is a child of fork now: another seat. */
void gpu_reseat(void);

/* As the program does it. */
CUresult gpu_launch(unsigned us, CUstream stream);
void gpu_host(uint64_t ns); /* works on the host meanwhile */
void gpu_wait(void);        /* cuCtxSynchronize */

#endif /* TR_TEST_GPU_H */
