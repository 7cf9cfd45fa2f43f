/* SPDX-License-Identifier: Apache-2.0 */
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/*
 * Host memory that the device may read. Pinned memory of ours comes from the host window,
 * so that a million of them are still a few mappings. The device's address is the host's
 * (unified addressing), write-combined and registered memory included.
 */

#define ALLOC_FLAGS                                             \
	(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | \
	 CU_MEMHOSTALLOC_WRITECOMBINED)
#define REGISTER_FLAGS                                                \
	(CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP | \
	 CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY)

static CUresult start_call(struct sim_ctx **ctx)
{
	CUresult r = sim_ctx_current(ctx);

	return r == CUDA_SUCCESS ? sim_capture_forbids() : r;
}

static int take_pinned(struct sim_ctx *ctx, size_t bytes, unsigned flags, void **pp)
{
	size_t rounded = sim_round_up(bytes, SIM_PAGE_BYTES);
	struct sim_span *s = NULL;
	uint64_t va;
	int r;

	if (rounded == SIZE_MAX)
		return -ENOMEM;
	va = sim_va_take(SIM_WINDOW_HOST, rounded, 0);
	if (va == 0)
		return -ENOMEM;
	r = sim_va_map_anonymous(va, rounded);
	if (r == 0 && (s = sim_span_add(SIM_SPAN_HOST, va, bytes)) == NULL)
		r = -ENOMEM;
	if (r != 0) {
		sim_va_give(SIM_WINDOW_HOST, va, rounded);
		return r;
	}
	s->window = SIM_WINDOW_HOST;
	s->flags = flags |
		   CU_MEMHOSTALLOC_DEVICEMAP; /* always so with unified addressing */
	s->machine = ctx->machine;
	s->ctx_id = ctx->id;
	s->ctx = sim_ctx_handle(ctx);
	s->held_bytes = rounded;
	s->va_base = va;
	s->va_bytes = rounded;
	*pp = (void *)(uintptr_t)va;
	return 0;
}

static CUresult allocate(void **pp, size_t bytes, unsigned flags)
{
	struct sim_ctx *ctx;
	CUresult e = start_call(&ctx);
	int r;

	if (e != CUDA_SUCCESS)
		return e;
	if (pp == NULL || bytes == 0 || (flags & ~(unsigned)ALLOC_FLAGS) != 0)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	r = take_pinned(ctx, bytes, flags, pp);
	sim_mem_unlock();
	return sim_result(r);
}

void sim_host_release(struct sim_span *s)
{
	sim_span_release(s); /* registered memory owns neither address nor bytes */
}

static bool is_mapped(uint64_t base, size_t bytes)
{
	uint64_t start = base & ~(uint64_t)(SIM_PAGE_BYTES - 1);
	unsigned char seen[256];

	while (start < base + bytes) {
		size_t n = base + bytes - start;

		if (n > sizeof(seen) * SIM_PAGE_BYTES)
			n = sizeof(seen) * SIM_PAGE_BYTES;
		if (mincore((void *)(uintptr_t)start, n, seen) != 0)
			return false;
		start += n;
	}
	return true;
}

static CUresult register_range(struct sim_ctx *ctx, uint64_t base, size_t bytes,
			       unsigned flags)
{
	struct sim_span *s = sim_span_holding(base + bytes - 1),
			*lo = sim_span_holding(base);
	struct sim_span *mid = sim_span_after(base);

	if (lo != NULL)
		s = lo;
	else if (s == NULL && mid != NULL && mid->at.key < base + bytes)
		s = mid;
	if (s != NULL)
		return s->kind == SIM_SPAN_REGISTERED || s->kind == SIM_SPAN_HOST
			       ? CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED
			       : CUDA_ERROR_INVALID_VALUE;
	s = sim_span_add(SIM_SPAN_REGISTERED, base, bytes);
	if (s == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	s->flags = flags | CU_MEMHOSTREGISTER_DEVICEMAP;
	s->machine = ctx->machine;
	s->ctx_id = ctx->id;
	s->ctx = sim_ctx_handle(ctx);
	s->held_bytes = bytes;
	return CUDA_SUCCESS;
}

static CUresult pin(void *p, size_t bytes, unsigned flags)
{
	uint64_t base = (uintptr_t)p;
	struct sim_ctx *ctx;
	CUresult e = start_call(&ctx);

	if (e != CUDA_SUCCESS)
		return e;
	if (p == NULL || bytes == 0 || base + bytes < base ||
	    (flags & ~(unsigned)REGISTER_FLAGS) != 0)
		return CUDA_ERROR_INVALID_VALUE;
	if ((flags & CU_MEMHOSTREGISTER_IOMEMORY) == 0 && !is_mapped(base, bytes))
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	e = register_range(ctx, base, bytes, flags);
	sim_mem_unlock();
	return e;
}

static CUresult find_host(const void *p, uint64_t *at, unsigned *flags, bool ours_only)
{
	struct sim_ctx *ctx;
	const struct sim_span *s;
	CUresult e = sim_ctx_current(&ctx);

	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	s = sim_span_holding((uintptr_t)p);
	if (s == NULL ||
	    (s->kind != SIM_SPAN_HOST && (ours_only || s->kind != SIM_SPAN_REGISTERED))) {
		e = CUDA_ERROR_INVALID_VALUE;
	} else {
		*at = (uintptr_t)p;
		*flags = s->flags;
	}
	sim_mem_unlock();
	return e;
}

/* ---- what is exported -------------------------------------------------------------- */

CUresult CUDAAPI cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags)
{
	SIM_ENTER();
	return allocate(pp, bytesize, Flags);
}

CUresult CUDAAPI cuMemAllocHost_v2(void **pp, size_t bytesize)
{
	SIM_ENTER();
	return allocate(pp, bytesize, CU_MEMHOSTALLOC_PORTABLE);
}

CUresult CUDAAPI cuMemAllocHost(void **pp, unsigned int bytesize)
{
	SIM_ENTER();
	return allocate(pp, bytesize, 0);
}

CUresult CUDAAPI cuMemFreeHost(void *p)
{
	struct sim_ctx *ctx;
	struct sim_span *s;
	CUresult e;

	SIM_ENTER();
	e = start_call(&ctx);
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	s = sim_span_starting((uintptr_t)p);
	if (s == NULL || s->kind != SIM_SPAN_HOST)
		e = CUDA_ERROR_INVALID_VALUE;
	else
		sim_host_release(s);
	sim_mem_unlock();
	return e;
}

CUresult CUDAAPI cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags)
{
	SIM_ENTER();
	return pin(p, bytesize, Flags);
}

CUresult CUDAAPI cuMemHostRegister(void *p, size_t bytesize, unsigned int Flags)
{
	SIM_ENTER();
	return pin(p, bytesize, Flags);
}

CUresult CUDAAPI cuMemHostUnregister(void *p)
{
	struct sim_ctx *ctx;
	struct sim_span *s;
	CUresult e;

	SIM_ENTER();
	e = start_call(&ctx);
	if (e != CUDA_SUCCESS)
		return e;
	if (p == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	s = sim_span_starting((uintptr_t)p);
	if (s == NULL || s->kind != SIM_SPAN_REGISTERED)
		e = CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	else
		sim_host_release(s);
	sim_mem_unlock();
	return e;
}

CUresult CUDAAPI cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p,
					      unsigned int Flags)
{
	unsigned flags;
	uint64_t at;
	CUresult e;

	SIM_ENTER();
	if (pdptr == NULL || Flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	e = find_host(p, &at, &flags, false);
	if (e == CUDA_SUCCESS)
		*pdptr = at;
	return e;
}

CUresult CUDAAPI cuMemHostGetDevicePointer(CUdeviceptr_v1 *pdptr, void *p,
					   unsigned int Flags)
{
	unsigned flags;
	uint64_t at;
	CUresult e;

	SIM_ENTER();
	if (pdptr == NULL || Flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	e = find_host(p, &at, &flags, false);
	if (e == CUDA_SUCCESS && at > UINT32_MAX)
		return CUDA_ERROR_INVALID_VALUE; /* no 32-bit address reaches it */
	if (e == CUDA_SUCCESS)
		*pdptr = (CUdeviceptr_v1)at;
	return e;
}

CUresult CUDAAPI cuMemHostGetFlags(unsigned int *pFlags, void *p)
{
	unsigned flags;
	uint64_t at;
	CUresult e;

	SIM_ENTER();
	if (pFlags == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	e = find_host(p, &at, &flags, true);
	if (e == CUDA_SUCCESS)
		*pFlags = flags;
	return e;
}
