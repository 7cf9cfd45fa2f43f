/* SPDX-License-Identifier: Apache-2.0 */
#include "mem.h"

#include <errno.h>
#include <limits.h>

#include "queue.h"

/*
 * cuMemAlloc and its family. Up to 1 MiB an allocation shares a 2 MiB block; above, it has
 * memory of its own, rounded up to 2 MiB. The 32-bit ABIs hand out addresses below 2 GiB,
 * always with memory of their own.
 */

#define SMALL_BYTES (1u << 20)

static CUresult start_call(struct sim_ctx **ctx)
{
	CUresult r = sim_ctx_current(ctx);

	return r == CUDA_SUCCESS ? sim_capture_forbids() : r;
}

static CUresult allocate(enum sim_window w, size_t bytes, size_t held, uint64_t *out)
{
	struct sim_span *s = NULL;
	struct sim_ctx *ctx;
	CUresult e = start_call(&ctx);
	int r;

	if (e != CUDA_SUCCESS)
		return e;
	if (out == NULL || bytes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (w == SIM_WINDOW_DEVICE && bytes <= SMALL_BYTES) {
		sim_mem_lock();
		r = sim_block_take(ctx, bytes, &s);
		sim_mem_unlock();
	} else {
		r = sim_span_take(ctx, SIM_SPAN_LARGE, w, bytes, RM_BLOCK, &s);
	}
	if (r != 0)
		return sim_result(r);
	if (held != 0)
		s->held_bytes = held;
	*out = s->at.key;
	rm_object_add(RM_BLOCK, ctx->machine, s->at.key, s->held_bytes);
	return CUDA_SUCCESS;
}

/* Height rows of a pitch that the model's textures and copies like. */
static CUresult allocate_pitch(enum sim_window w, size_t width, size_t height,
			       unsigned element, uint64_t *out, size_t *pitch_out)
{
	struct sim_ctx *ctx;
	CUresult e = start_call(&ctx);
	size_t pitch, bytes;

	if (e != CUDA_SUCCESS)
		return e;
	if (out == NULL || pitch_out == NULL || width == 0 || height == 0 ||
	    (element != 4 && element != 8 && element != 16))
		return CUDA_ERROR_INVALID_VALUE;
	pitch = sim_round_up(width, sim_device_facts(ctx->machine)->pitch_align_bytes);
	if (__builtin_mul_overflow(pitch, height, &bytes))
		return CUDA_ERROR_OUT_OF_MEMORY;
	e = allocate(w, bytes, 0, out);
	if (e == CUDA_SUCCESS)
		*pitch_out = pitch;
	return e;
}

CUresult sim_mem_free_span(struct sim_span *s)
{
	switch (s->kind) {
	case SIM_SPAN_SMALL:
		rm_object_remove(RM_BLOCK, s->at.key);
		sim_block_give(s);
		return CUDA_SUCCESS;
	case SIM_SPAN_LARGE:
		rm_object_remove(RM_BLOCK, s->at.key);
		sim_span_release(s);
		return CUDA_SUCCESS;
	case SIM_SPAN_MANAGED:
		sim_managed_release(s);
		return CUDA_SUCCESS;
	case SIM_SPAN_POOL:
		sim_pool_give(s);
		return CUDA_SUCCESS;
	case SIM_SPAN_GRAPH:
		return sim_graphmem_release(s);
	case SIM_SPAN_SHARED:
		sim_pool_shared_release(s);
		return CUDA_SUCCESS;
	case SIM_SPAN_ATTACHED:
		sim_span_release(s);
		return CUDA_SUCCESS;
	case SIM_SPAN_TAKEN:
	case SIM_SPAN_HOST:
	case SIM_SPAN_REGISTERED:
	case SIM_SPAN_MAPPING:
	case SIM_SPAN_IPC:
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

/* Whatever may still use the memory comes to its end first. */
static CUresult sync_owner(uint64_t p)
{
	const struct sim_span *s;
	uint64_t ctx_id;

	sim_mem_lock();
	s = sim_span_starting(p);
	ctx_id = s == NULL ? 0 : s->ctx_id;
	sim_mem_unlock();
	return ctx_id == 0 ? CUDA_SUCCESS : sim_queue_drain_context(ctx_id);
}

static CUresult free_at(uint64_t p)
{
	struct sim_ctx *ctx;
	struct sim_span *s;
	CUresult e = start_call(&ctx);

	if (e == CUDA_SUCCESS)
		e = sync_owner(p);
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	s = sim_span_starting(p);
	e = s == NULL ? CUDA_ERROR_INVALID_VALUE : sim_mem_free_span(s);
	sim_mem_unlock();
	return e;
}

static CUresult read_info(uint64_t *free_bytes, uint64_t *total_bytes)
{
	struct sim_ctx *ctx;
	struct rm_memory m;
	CUresult e = sim_ctx_current(&ctx);

	if (e != CUDA_SUCCESS)
		return e;
	e = sim_result(rm_memory(ctx->machine, &m));
	if (e == CUDA_SUCCESS) {
		*free_bytes = m.free;
		*total_bytes = m.total - m.reserved; /* CUDA's total is what can be used */
	}
	return e;
}

static CUresult find_range(uint64_t p, uint64_t *base, uint64_t *bytes)
{
	const struct sim_span *s;
	struct sim_ctx *ctx;
	CUresult e = sim_ctx_current(&ctx);

	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	s = sim_span_holding(p);
	if (s == NULL) {
		e = CUDA_ERROR_NOT_FOUND;
	} else {
		*base = s->at.key;
		*bytes = s->at.len;
	}
	sim_mem_unlock();
	return e;
}

/* ---- what is exported -------------------------------------------------------------- */

CUresult CUDAAPI cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
	uint64_t p;
	CUresult r;

	SIM_ENTER();
	r = allocate(SIM_WINDOW_DEVICE, bytesize, 0, dptr == NULL ? NULL : &p);
	if (r == CUDA_SUCCESS)
		*dptr = p;
	return r;
}

CUresult CUDAAPI cuMemAlloc(CUdeviceptr_v1 *dptr, unsigned int bytesize)
{
	uint64_t p;
	CUresult r;

	SIM_ENTER();
	r = allocate(SIM_WINDOW_LOW, bytesize, 0, dptr == NULL ? NULL : &p);
	if (r == CUDA_SUCCESS)
		*dptr = (CUdeviceptr_v1)p;
	return r;
}

CUresult CUDAAPI cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes,
				    size_t Height, unsigned int ElementSizeBytes)
{
	uint64_t p;
	CUresult r;

	SIM_ENTER();
	r = allocate_pitch(SIM_WINDOW_DEVICE, WidthInBytes, Height, ElementSizeBytes,
			   dptr == NULL ? NULL : &p, pPitch);
	if (r == CUDA_SUCCESS)
		*dptr = p;
	return r;
}

CUresult CUDAAPI cuMemAllocPitch(CUdeviceptr_v1 *dptr, unsigned int *pPitch,
				 unsigned int WidthInBytes, unsigned int Height,
				 unsigned int ElementSizeBytes)
{
	size_t pitch;
	uint64_t p;
	CUresult r;

	SIM_ENTER();
	r = allocate_pitch(SIM_WINDOW_LOW, WidthInBytes, Height, ElementSizeBytes,
			   dptr == NULL ? NULL : &p, pPitch == NULL ? NULL : &pitch);
	if (r == CUDA_SUCCESS) {
		*dptr = (CUdeviceptr_v1)p;
		*pPitch = (unsigned int)pitch;
	}
	return r;
}

CUresult CUDAAPI cuMemFree_v2(CUdeviceptr dptr)
{
	SIM_ENTER();
	return free_at(dptr);
}

CUresult CUDAAPI cuMemFree(CUdeviceptr_v1 dptr)
{
	SIM_ENTER();
	return free_at(dptr);
}

CUresult CUDAAPI cuMemGetInfo_v2(size_t *free, size_t *total)
{
	uint64_t f, t;
	CUresult r;

	SIM_ENTER();
	r = read_info(&f, &t);
	if (r == CUDA_SUCCESS && free != NULL)
		*free = f;
	if (r == CUDA_SUCCESS && total != NULL)
		*total = t;
	return r;
}

CUresult CUDAAPI cuMemGetInfo(unsigned int *free, unsigned int *total)
{
	uint64_t f, t;
	CUresult r;

	SIM_ENTER();
	r = read_info(&f, &t);
	if (r == CUDA_SUCCESS && free != NULL)
		*free = f > UINT_MAX ? UINT_MAX : (unsigned int)f;
	if (r == CUDA_SUCCESS && total != NULL)
		*total = t > UINT_MAX ? UINT_MAX : (unsigned int)t;
	return r;
}

CUresult CUDAAPI cuMemGetAddressRange_v2(CUdeviceptr *pbase, size_t *psize,
					 CUdeviceptr dptr)
{
	uint64_t base, bytes;
	CUresult r;

	SIM_ENTER();
	r = find_range(dptr, &base, &bytes);
	if (r == CUDA_SUCCESS && pbase != NULL)
		*pbase = base;
	if (r == CUDA_SUCCESS && psize != NULL)
		*psize = bytes;
	return r;
}

CUresult CUDAAPI cuMemGetAddressRange(CUdeviceptr_v1 *pbase, unsigned int *psize,
				      CUdeviceptr_v1 dptr)
{
	uint64_t base, bytes;
	CUresult r;

	SIM_ENTER();
	r = find_range(dptr, &base, &bytes);
	if (r == CUDA_SUCCESS && pbase != NULL)
		*pbase = (CUdeviceptr_v1)base;
	if (r == CUDA_SUCCESS && psize != NULL)
		*psize = (unsigned int)bytes;
	return r;
}

/* ---- a context goes ---------------------------------------------------------------- */

static void drop_with_context(struct sim_span *s)
{
	if (s->kind == SIM_SPAN_HOST || s->kind == SIM_SPAN_REGISTERED)
		sim_host_release(s);
	else if (s->kind == SIM_SPAN_IPC)
		sim_ipc_release(s);
	else if (s->kind !=
		 SIM_SPAN_TAKEN) /* arrays and modules give theirs back themselves */
		(void)sim_mem_free_span(s);
}

void sim_mem_ctx_gone(struct sim_ctx *ctx)
{
	struct sim_span *s;
	uint64_t at = 0;

	sim_mem_lock();
	while ((s = sim_span_after(at)) != NULL) {
		at = s->at.key;
		if (s->ctx_id == ctx->id)
			drop_with_context(s);
	}
	sim_block_ctx_gone(ctx->id);
	if (ctx->primary) {
		sim_pool_device_gone(ctx->machine);
		sim_graphmem_device_gone(ctx->machine);
	}
	sim_mem_unlock();
}
