/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_CONTEXT_H
#define SIM_CUDA_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>

#include "sim.h"

/* Between context.c, primary.c, limit.c and green.c. */

/* One of a few limits that take device memory: heap, printf buffer, stack. */
#define LIMITS_WITH_MEMORY 3

struct context {
	struct sim_ctx base; /* first: a struct sim_ctx is cast to this */
	CUcontext handle;
	/* Streams, memory and modules find it; false for ever once it is destroyed, except
	 * for a primary context, which comes back with another id. */
	atomic_bool alive;
	atomic_bool closing; /* set under contexts_lock */
	unsigned int uses;   /* cuCtxAttach, cuDevicePrimaryCtxRetain */
	unsigned int flags;
	unsigned int api_version;
	struct rm_phys memory;
	struct rm_phys limit_memory[LIMITS_WITH_MEMORY];
	size_t limits[CU_LIMIT_MAX];
	CUfunc_cache cache;
	CUsharedconfig shared;
	uint64_t peers[RM_DEVICES_MAX]; /* ids of contexts it may reach; 0: free */
	/* green contexts */
	CUdevResource sm;
	CUdevResource workqueue;
};

extern pthread_mutex_t contexts_lock;

enum context_kind { CONTEXT_OWN, CONTEXT_PRIMARY /* not alive at first */, CONTEXT_GREEN };

/* A new context of DEV that is not on any thread's stack; takes its memory. */
CUresult context_new(CUdevice dev, unsigned int flags, enum context_kind kind,
		     struct context **out);
/* Makes a dead primary context live again: new id, its memory taken. Under contexts_lock.
 */
CUresult context_revive(struct context *ctx);
/* Tells every owner, gives the memory back. Not under contexts_lock; the caller has set
 * closing. */
void context_end(struct context *ctx);
/* The live context of a handle, green or not; NULL. */
struct context *context_of(CUcontext handle);
/* Pushes on the calling thread's stack. */
CUresult context_push(CUcontext handle);

/* limit.c: the values of a new context, and giving back what they took. */
void limits_reset(struct context *ctx);
void limits_drop(struct context *ctx);

#endif /* SIM_CUDA_CONTEXT_H */
