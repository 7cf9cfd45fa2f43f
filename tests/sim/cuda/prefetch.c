/* SPDX-License-Identifier: Apache-2.0 */
#include "duration.h"
#include "managed.h"
#include "stream.h"

/* Prefetches and discards as streams run them. */

struct prefetch {
	uint64_t p;
	size_t bytes;
	CUmemLocation to;
};

static CUresult run_prefetch(void *params, struct sim_ctx *ctx)
{
	const struct prefetch *f = params;
	CUresult e = sim_managed_prefetch(f->p, f->bytes, &f->to);
	bool in = f->to.type == CU_MEM_LOCATION_TYPE_DEVICE;

	return e == CUDA_SUCCESS ? sim_copy_time(ctx->machine,
						 in ? SIM_COPY_IN : SIM_COPY_OUT, f->bytes)
				 : e;
}

static CUresult submit_prefetch(const struct prefetch *f, CUstream stream, bool ptsz)
{
	struct prefetch copy = *f;
	struct sim_op op = { .run = run_prefetch,
			     .params = &copy,
			     .params_bytes = sizeof(copy) };
	struct sim_stream *s;
	size_t first, last;
	uint32_t machine;
	CUresult e = sim_stream_get(stream, ptsz, &s);
	bool found;

	if (e != CUDA_SUCCESS)
		return e;
	if (sim_stream_capturing(s))
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; /* there is no such node */
	e = sim_location_machine(&f->to, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	found = sim_managed_pages(f->p, f->bytes, &first, &last) != NULL;
	sim_mem_unlock();
	if (!found)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_stream_run(s, &op);
}

static CUresult prefetch_v1(CUdeviceptr p, size_t n, CUdevice dev, CUstream stream,
			    bool ptsz)
{
	struct prefetch f = { .p = p, .bytes = n, .to = sim_managed_location(dev) };

	return submit_prefetch(&f, stream, ptsz);
}

static CUresult prefetch_v2(CUdeviceptr p, size_t n, CUmemLocation to, unsigned flags,
			    CUstream stream, bool ptsz)
{
	struct prefetch f = { .p = p, .bytes = n, .to = to };

	if (flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	return submit_prefetch(&f, stream, ptsz);
}

struct batch {
	CUdeviceptr *p;
	size_t *bytes;
	size_t count;
	CUmemLocation *to; /* NULL: discard only */
	size_t *first_of;
	size_t to_count;
	unsigned long long flags;
};

static bool is_batch_valid(const struct batch *b)
{
	if (b->p == NULL || b->bytes == NULL || b->count == 0 || b->flags != 0)
		return false;
	if (b->to == NULL)
		return true;
	if (b->first_of == NULL || b->to_count == 0 || b->to_count > b->count ||
	    b->first_of[0] != 0)
		return false;
	for (size_t i = 1; i < b->to_count; i++)
		if (b->first_of[i] <= b->first_of[i - 1] || b->first_of[i] >= b->count)
			return false;
	return true;
}

static CUresult run_batch(const struct batch *b, CUstream stream, bool ptsz)
{
	struct prefetch f = { .to = { .type = CU_MEM_LOCATION_TYPE_HOST } };
	struct sim_stream *s;
	size_t first, last, k = 0;
	bool found = true;
	CUresult e;

	if (!is_batch_valid(b) || (stream == NULL && !ptsz) || stream == CU_STREAM_LEGACY)
		return CUDA_ERROR_INVALID_VALUE;
	e = sim_stream_get(stream, ptsz, &s);
	sim_mem_lock();
	for (size_t i = 0; i < b->count && found; i++)
		found = sim_managed_pages(b->p[i], b->bytes[i], &first, &last) != NULL;
	sim_mem_unlock();
	if (e == CUDA_SUCCESS && !found)
		e = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; b->to != NULL && i < b->count && e == CUDA_SUCCESS; i++) {
		if (k + 1 < b->to_count && b->first_of[k + 1] == i)
			k++;
		f.p = b->p[i];
		f.bytes = b->bytes[i];
		f.to = b->to[k];
		e = submit_prefetch(&f, stream, ptsz);
	}
	return e;
}

/* ---- what is exported -------------------------------------------------------------- */

CUresult CUDAAPI cuMemPrefetchAsync(CUdeviceptr devPtr, size_t count, CUdevice dstDevice,
				    CUstream hStream)
{
	SIM_ENTER();
	return prefetch_v1(devPtr, count, dstDevice, hStream, false);
}

CUresult CUDAAPI cuMemPrefetchAsync_ptsz(CUdeviceptr devPtr, size_t count,
					 CUdevice dstDevice, CUstream hStream)
{
	SIM_ENTER();
	return prefetch_v1(devPtr, count, dstDevice, hStream, true);
}

CUresult CUDAAPI cuMemPrefetchAsync_v2(CUdeviceptr devPtr, size_t count,
				       CUmemLocation location, unsigned int flags,
				       CUstream hStream)
{
	SIM_ENTER();
	return prefetch_v2(devPtr, count, location, flags, hStream, false);
}

CUresult CUDAAPI cuMemPrefetchAsync_v2_ptsz(CUdeviceptr devPtr, size_t count,
					    CUmemLocation location, unsigned int flags,
					    CUstream hStream)
{
	SIM_ENTER();
	return prefetch_v2(devPtr, count, location, flags, hStream, true);
}

#define BATCH_ARGUMENTS                                                                    \
	CUdeviceptr *dptrs, size_t *sizes, size_t count, CUmemLocation *prefetchLocs,      \
		size_t *prefetchLocIdxs, size_t numPrefetchLocs, unsigned long long flags, \
		CUstream hStream
#define DISCARD_ARGUMENTS                                                          \
	CUdeviceptr *dptrs, size_t *sizes, size_t count, unsigned long long flags, \
		CUstream hStream
#define BATCH(ptsz)                                                                    \
	run_batch(&(struct batch){ dptrs, sizes, count, prefetchLocs, prefetchLocIdxs, \
				   numPrefetchLocs, flags },                           \
		  hStream, ptsz)

CUresult CUDAAPI cuMemPrefetchBatchAsync(BATCH_ARGUMENTS)
{
	SIM_ENTER();
	return prefetchLocs == NULL ? CUDA_ERROR_INVALID_VALUE : BATCH(false);
}

CUresult CUDAAPI cuMemPrefetchBatchAsync_ptsz(BATCH_ARGUMENTS)
{
	SIM_ENTER();
	return prefetchLocs == NULL ? CUDA_ERROR_INVALID_VALUE : BATCH(true);
}

CUresult CUDAAPI cuMemDiscardAndPrefetchBatchAsync(BATCH_ARGUMENTS)
{
	SIM_ENTER();
	return prefetchLocs == NULL ? CUDA_ERROR_INVALID_VALUE : BATCH(false);
}

CUresult CUDAAPI cuMemDiscardAndPrefetchBatchAsync_ptsz(BATCH_ARGUMENTS)
{
	SIM_ENTER();
	return prefetchLocs == NULL ? CUDA_ERROR_INVALID_VALUE : BATCH(true);
}

CUresult CUDAAPI cuMemDiscardBatchAsync(DISCARD_ARGUMENTS)
{
	struct batch b = { .p = dptrs, .bytes = sizes, .count = count, .flags = flags };

	SIM_ENTER();
	return run_batch(&b, hStream, false);
}

CUresult CUDAAPI cuMemDiscardBatchAsync_ptsz(DISCARD_ARGUMENTS)
{
	struct batch b = { .p = dptrs, .bytes = sizes, .count = count, .flags = flags };

	SIM_ENTER();
	return run_batch(&b, hStream, true);
}
