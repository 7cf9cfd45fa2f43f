/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_MEM_H
#define SIM_CUDA_MEM_H

/*
 * What the files of the memory half share. One lock protects all of it: the map of live
 * spans, address windows, blocks, handles, pools. Functions named here are called with the
 * lock held unless their comment says otherwise.
 */

#include "sim.h"
#include "tree.h"
#include "va.h"

#define SIM_SLOT_BYTES 512u /* what a small cuMemAlloc is rounded to */
#define SIM_PAGE_BYTES 4096u

void sim_mem_lock(void);
void sim_mem_unlock(void);

/* N rounded up to a multiple of UNIT; SIZE_MAX when that overflows. */
size_t sim_round_up(size_t n, size_t unit);

/* ---- live spans (span.c) ----------------------------------------------------------- */

enum sim_span_kind {
	SIM_SPAN_SMALL,      /* cuMemAlloc inside a shared 2 MiB block */
	SIM_SPAN_LARGE,      /* cuMemAlloc with memory of its own */
	SIM_SPAN_TAKEN,      /* sim_mem_take: code, globals, arrays */
	SIM_SPAN_HOST,       /* pinned host memory of ours */
	SIM_SPAN_REGISTERED, /* the application's host memory, pinned */
	SIM_SPAN_MANAGED,
	SIM_SPAN_MAPPING, /* cuMemMap */
	SIM_SPAN_POOL,    /* cuMemAllocAsync */
	SIM_SPAN_GRAPH,   /* of a graph memory node; its addresses outlive its memory */
	SIM_SPAN_IPC,     /* opened from another process by cuIpcOpenMemHandle */
	SIM_SPAN_SHARED,  /* imported from another process' pool */
	SIM_SPAN_ATTACHED /* sim_mem_attach: external memory */
};

struct sim_pool;
struct sim_vmm;
struct sim_managed;

struct sim_span {
	struct sim_node at; /* key: address; len: bytes as asked for */
	enum sim_span_kind kind;
	enum sim_window window;
	unsigned flags; /* host: CU_MEMHOSTALLOC_*; managed: CU_MEM_ATTACH_* */
	uint32_t machine;
	uint64_t ctx_id; /* 0: of no context (VMM, pools) */
	CUcontext ctx;
	uint64_t buffer_id;
	size_t held_bytes; /* as the driver holds it: what the list of live objects says */
	uint64_t va_base;  /* what the addresses to give back are, where they are the span's
			      own */
	size_t va_bytes;
	struct rm_phys phys; /* id 0: none of its own */
	bool accessible;
	bool sync_memops;
	uint32_t access;       /* mappings: two bits of CUmemAccess_flags per ordinal */
	uint32_t host_access;  /* mappings: CUmemAccess_flags of the CPU */
	unsigned opened;       /* IPC: how often */
	struct sim_pool *pool; /* of pool allocations, managed ones too */
	union {
		struct sim_vmm *vmm;
		struct sim_managed *managed;
		void *owner;
	};
	uint8_t *name; /* 64 bytes: the IPC handle made of it, or opened; NULL: none */
};

/* A new live span: in the map, with a buffer id. NULL: no memory. */
struct sim_span *sim_span_add(enum sim_span_kind kind, uint64_t base, size_t bytes);
/* Out of the map and freed; what it owned is the caller's business. */
void sim_span_drop(struct sim_span *s);
/* The span that starts at P; that holds P; the first above P. NULL: none. */
struct sim_span *sim_span_starting(uint64_t p);
struct sim_span *sim_span_holding(uint64_t p);
struct sim_span *sim_span_after(uint64_t p);

/* ---- device memory (take.c) -------------------------------------------------------- */

/* Physical memory; when the device is full, unused reserve of pools is released first.
 * 0/-errno */
int sim_phys_take(struct rm_phys *out, uint32_t machine, size_t bytes, enum rm_kind kind);
/* PHYS mapped at a new address of the window; *va. 0/-errno (nothing kept on failure). */
int sim_phys_map(const struct rm_phys *phys, enum sim_window w, uint64_t *va);
/* A fresh span with BYTES of its own memory, rounded to 2 MiB. 0/-errno. Takes the lock
 * itself. */
int sim_span_take(struct sim_ctx *ctx, enum sim_span_kind kind, enum sim_window w,
		  size_t bytes, enum rm_kind why, struct sim_span **out);
/* Unmaps, unrefs, drops a span that owns phys and addresses. */
void sim_span_release(struct sim_span *s);

/* Small allocations of one context in shared blocks; *low: with addresses below 4 GiB. */
int sim_block_take(struct sim_ctx *ctx, size_t bytes, struct sim_span **out);
void sim_block_give(struct sim_span *s);
/* The physical object behind a span (id 0: none) and the address that it is mapped at. */
void sim_span_backing(const struct sim_span *s, struct rm_phys *phys, uint64_t *base);
/* Every block of the context, whatever is live in it. */
void sim_block_ctx_gone(uint64_t ctx_id);

/* The ordinal of a machine's device in this process; -1 when hidden from it. Lock or not.
 */
int sim_ordinal_of(uint32_t machine);

/* ---- the others -------------------------------------------------------------------- */

/* managed.c */
int sim_managed_take(struct sim_ctx *ctx, size_t bytes, unsigned flags,
		     struct sim_span **out);
void sim_managed_release(struct sim_span *s);
/* host.c */
void sim_host_release(struct sim_span *s);
/* ipc.c */
void sim_ipc_release(struct sim_span *s);
/* memory.c: cuMemFree of a span, whatever obtained it; INVALID_VALUE for what it does not
 * free */
CUresult sim_mem_free_span(struct sim_span *s);
/* pool.c: frees an allocation of a pool; unused chunks stay until the next synchronise */
void sim_pool_give(struct sim_span *s);
void sim_pool_shared_release(struct sim_span *s); /* a pointer of another process' pool */
void sim_pool_note_managed(struct sim_pool *p, int64_t bytes);
bool sim_pool_reclaim(uint32_t machine); /* true: something was released */
void sim_pool_device_gone(uint32_t machine);
CUmemAllocationHandleType sim_pool_handle_types(const struct sim_pool *p);
uint32_t sim_pool_access(const struct sim_pool *p, int ordinal); /* CUmemAccess_flags */
/* graphmem.c */
CUresult sim_graphmem_release(struct sim_span *s);
void sim_graphmem_device_gone(uint32_t machine);
/* vmm.c */
struct sim_reservation {
	uint64_t base;
	size_t bytes;
};
bool sim_vmm_reservation(uint64_t p, struct sim_reservation *out);
CUmemAllocationHandleType sim_vmm_handle_types(const struct sim_vmm *v);
uint32_t sim_vmm_access(const struct sim_span *mapping, int ordinal);

/* Where a location is: a device of the machine, or RM_HOST. INVALID_VALUE for what is no
 * location of memory, INVALID_DEVICE for a device that is not there. */
CUresult sim_location_machine(const CUmemLocation *l, uint32_t *machine);

#endif /* SIM_CUDA_MEM_H */
