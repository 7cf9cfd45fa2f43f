/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_SIM_H
#define SIM_CUDA_SIM_H

/*
 * Inside the simulated libcuda.so.1: what its files share. Every exported function is a
 * plain definition of the driver header's declaration; what no file defines is a weak
 * generated one that answers CUDA_ERROR_NOT_SUPPORTED (see generate.py).
 *
 * Device pointers are addresses of this process: memory of a device is a mapping of the
 * machine's backing file, so copies really happen. Streams are in order. An operation takes
 * effect when it is submitted, or is recorded when its stream is capturing; when it is done is
 * the GPU's matter (lane.h).
 */

#ifndef __CUDA_API_VERSION_INTERNAL
#define __CUDA_API_VERSION_INTERNAL
#endif
#include <cuda.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rm/rm.h"

/* First line of every exported function that does anything (SIM_ENTER() returns from it
 * when the driver is not initialised, deinitialised by fork, lost, or a fault is injected).
 */
#define SIM_ENTER()                                    \
	do {                                           \
		CUresult sim_r_ = sim_enter(__func__); \
		if (sim_r_ != CUDA_SUCCESS)            \
			return sim_r_;                 \
	} while (0)
CUresult sim_enter(const char *entry);       /* needs cuInit to have succeeded */
CUresult sim_enter_early(const char *entry); /* does not: cuInit, cuDriverGetVersion,
						cuGetProcAddress, cuGetErrorString */

/* -errno of the rm layer -> CUresult (-ENOMEM: OUT_OF_MEMORY, -ENODEV: NO_DEVICE, ...) */
CUresult sim_result(int r);

/* ---- devices and contexts (device.c, context.c) -------------------------------------- */

int sim_device_count(void); /* after CUDA_VISIBLE_DEVICES */
CUresult sim_device_machine(CUdevice dev, uint32_t *machine_index); /* INVALID_DEVICE */
const struct rm_device *sim_device_facts(uint32_t machine_index);

struct sim_ctx {
	uint64_t id;      /* never reused; cuCtxGetId */
	CUdevice dev;     /* ordinal in this process */
	uint32_t machine; /* index on the machine */
	bool primary;
	bool green;
	/* private to context.c below */
	void *priv;
};
/* The calling thread's current context: INVALID_CONTEXT when none (or destroyed:
 * CONTEXT_IS_DESTROYED). */
CUresult sim_ctx_current(struct sim_ctx **out);
CUresult sim_ctx_of(CUcontext handle,
		    struct sim_ctx **out); /* validates; NULL handle = current */
CUcontext sim_ctx_handle(struct sim_ctx *ctx);
/* The context that owns DEVICE's primary, retained internally if need be: for calls without
 * a context. */
CUresult sim_ctx_primary(CUdevice dev, struct sim_ctx **out);

/* Called by context.c when a context goes (destroy, primary reset or last release), before
 * it is forgotten; each owner frees what was in it. */
void sim_mem_ctx_gone(struct sim_ctx *ctx);
void sim_array_ctx_gone(struct sim_ctx *ctx);
void sim_module_ctx_gone(struct sim_ctx *ctx);
void sim_stream_ctx_gone(struct sim_ctx *ctx);

/* ---- streams and graphs (stream.c, graph.c) ------------------------------------------ */

struct sim_stream;
/* Which stream a handle means; PTSZ: the _ptsz/_ptds twin, where 0 is the thread's own.
 * INVALID_HANDLE, or STREAM_CAPTURE_* where the driver prohibits this use during a capture.
 */
CUresult sim_stream_get(CUstream handle, bool ptsz, struct sim_stream **out);
struct sim_ctx *sim_stream_ctx(struct sim_stream *s);
/* The driver's prohibition: unsafe calls (cuMemAlloc, ...) while a capture that forbids
 * them is active in this thread (global, thread-local) or process (global):
 * STREAM_CAPTURE_UNSUPPORTED. */
CUresult sim_capture_forbids(void);

/* One operation: what a graph node of this type would do when it runs. PARAMS is the
 * driver's own parameter struct for that node type (CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS,
 * CUDA_KERNEL_NODE_PARAMS, ...), copied by value; RUN is called with the copy. */
struct sim_op {
	CUgraphNodeType type;
	CUresult (*run)(void *params, struct sim_ctx *ctx);
	void (*drop)(void *params); /* frees what params point to; may be NULL */
	void *params;
	size_t params_bytes;
	bool reaches; /* others see it: only after the work before it was done (sim_lane_reach),
			 for which the submitting thread does not wait */
};
/* Runs OP now, or records it in the capture of S. Takes what OP's params point to: DROP is
 * called when it has run, when the last graph that holds it goes, and on every error.
 * PARAMS itself is copied. */
CUresult sim_submit(struct sim_stream *s, const struct sim_op *op);

/* Graph memory nodes: graph.c calls these when a node is added, when an executable graph
 * launches, and when things are destroyed; memory keeps the graph pool
 * (CU_GRAPH_MEM_ATTR_*). */
CUresult sim_graphmem_reserve_va(struct sim_ctx *ctx,
				 CUDA_MEM_ALLOC_NODE_PARAMS *params); /* fills dptr */
CUresult sim_graphmem_alloc(struct sim_ctx *ctx, CUdeviceptr dptr,
			    size_t bytes);                         /* at run; pool grows */
CUresult sim_graphmem_free(struct sim_ctx *ctx, CUdeviceptr dptr); /* at run */
void sim_graphmem_drop_va(struct sim_ctx *ctx, CUdeviceptr dptr);  /* node destroyed */
/* Capture of cuMemAllocAsync/FreeAsync: adds the node to the capture of S. */
bool sim_stream_capturing(struct sim_stream *s);
CUresult sim_capture_alloc(struct sim_stream *s, CUDA_MEM_ALLOC_NODE_PARAMS *params);
CUresult sim_capture_free(struct sim_stream *s, CUdeviceptr dptr);

/* ---- memory (memory.c and its neighbours) -------------------------------------------- */

enum sim_where {
	SIM_DEVICE,
	SIM_HOST_PINNED,
	SIM_MANAGED,
	SIM_UNKNOWN /* plain host memory */
};
struct sim_range {
	CUdeviceptr base;
	size_t bytes;
	enum sim_where where;
	uint32_t machine; /* device that holds it */
	uint64_t ctx_id;
	uint64_t buffer_id;
	bool mapped; /* a reserved VMM range may have holes */
};
/* The live allocation that holds [p, p+n): true when the whole range lies in one (or in
 * neighbouring mappings of one VMM reservation). False with where == SIM_DEVICE: an address
 * of ours that is not live (freed); with SIM_UNKNOWN: plain host memory. Where !mapped,
 * nothing may be read or written. */
bool sim_mem_find(CUdeviceptr p, size_t n, struct sim_range *out);
/* Device memory for another file of the library (code, globals, arrays): mapped, zeroed,
 * counted as KIND. */
CUresult sim_mem_take(struct sim_ctx *ctx, size_t bytes, enum rm_kind kind,
		      CUdeviceptr *out, struct rm_phys *phys);
void sim_mem_give(CUdeviceptr p, size_t bytes, const struct rm_phys *phys);
/* An address for memory that is not ours (external memory): one more reference on PHYS and
 * a mapping of it; the live range is BYTES from OFFSET, and cuMemFree ends it. Not in the
 * list of live objects. */
CUresult sim_mem_attach(struct sim_ctx *ctx, const struct rm_phys *phys, size_t offset,
			size_t bytes, CUdeviceptr *out);
/* Stream, event or context synchronise: pools of the device (and host pools) release what
 * is over their thresholds. */
void sim_pool_sync(uint32_t machine);

/* ---- arrays (array.c) ---------------------------------------------------------------- */

/* Bytes, element size and host address of an array, for the copies. */
struct sim_array_view {
	void *bytes;
	size_t width, height, depth, layers; /* in elements; at least 1 each */
	size_t element_bytes, row_pitch, slice_pitch;
	uint32_t machine;
};
CUresult sim_array_view(CUarray handle, struct sim_array_view *out);

/* Gives a deferred-mapping or sparse array its bytes (cuMemMapArrayAsync): BYTES is a
 * mapping of at least what cuArrayGetMemoryRequirements said; NULL takes them away. The
 * caller owns the mapping and keeps it until it has taken it away. */
CUresult sim_array_bind(CUarray handle, void *bytes);
CUresult sim_mipmap_bind(CUmipmappedArray handle, void *bytes);

/* ---- copies, memsets, external semaphores as graph nodes (copy.c, memset.c, external.c)  */

/* Each checks its parameters as the driver does and then does the work. */
CUresult sim_copy3d(const CUDA_MEMCPY3D *copy, struct sim_ctx *ctx);
CUresult sim_memset_node(const CUDA_MEMSET_NODE_PARAMS *set, struct sim_ctx *ctx);
CUresult sim_signal_node(const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *signal,
			 struct sim_ctx *ctx);
CUresult sim_wait_node(const CUDA_EXT_SEM_WAIT_NODE_PARAMS *wait, struct sim_ctx *ctx);
/* The checks alone: what adding such a node to a graph answers. */
CUresult sim_copy3d_check(const CUDA_MEMCPY3D *copy);
CUresult sim_memset_check(const CUDA_MEMSET_NODE_PARAMS *set);

#endif /* SIM_CUDA_SIM_H */
