/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_POOL_H
#define SIM_CUDA_POOL_H

/* Pools of stream-ordered memory. Everything with sim_mem_lock() held. */

#include "mem.h"
#include "vmm.h"

#define SIM_POOL_STEP_BYTES (32u << 20) /* a pool's reserve grows by at least this */
#define SIM_POOL_REUSES     3           /* CU_MEMPOOL_ATTR_REUSE_... */

/* A piece of a pool's reserve. */
struct sim_chunk {
	struct sim_node at;
	struct rm_phys phys;
	size_t used_bytes;
};

struct sim_pool {
	struct sim_pool *next;
	CUmemPoolProps props;
	uint32_t machine;  /* RM_HOST: host memory */
	bool is_default;   /* lives for ever */
	bool is_destroyed; /* gone with its last allocation */
	bool is_imported;  /* makes no allocations */
	bool is_listed;    /* among the live objects */
	int reuse[SIM_POOL_REUSES];
	uint64_t threshold;
	size_t max_bytes; /* 0: none */
	size_t reserved, reserved_high, used, used_high;
	unsigned live;   /* allocations */
	uint32_t access; /* two bits of CUmemAccess_flags per ordinal */
	struct sim_node *chunks;
	struct sim_gaps free;
	struct sim_marker *marker; /* exported or imported */
	struct rm_phys marker_phys;
};

/* The pool a handle means: NULL when there is none such (any more). */
struct sim_pool *sim_pool_get(CUmemoryPool handle);
/* A new pool of checked properties; NULL: no memory. */
struct sim_pool *sim_pool_add(const CUmemPoolProps *props, uint32_t machine);
/* Memory of the pool. 0/-errno. */
int sim_pool_take(struct sim_pool *p, struct sim_ctx *ctx, size_t bytes,
		  struct sim_span **out);
/* Gives unused chunks back while at least KEEP bytes of reserve stay. True: some went. */
bool sim_pool_trim(struct sim_pool *p, size_t keep_bytes);
/* The pool goes, or will with its last allocation. */
void sim_pool_end(struct sim_pool *p);
bool sim_pool_is_managed(const struct sim_pool *p);

/* pool_choice.c: a location's default and its current pool. */
CUresult sim_pool_default(const CUmemLocation *l, CUmemAllocationType type,
			  struct sim_pool **out);
CUresult sim_pool_current(const CUmemLocation *l, CUmemAllocationType type,
			  struct sim_pool **out);
/* P is nobody's current pool any more. */
void sim_pool_forget_choice(const struct sim_pool *p);

#endif /* SIM_CUDA_POOL_H */
