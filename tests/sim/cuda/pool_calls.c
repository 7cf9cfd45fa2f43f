/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"
#include "stream.h"

#include <string.h>

/* Making pools, their attributes, and what streams allocate from them. */

static CUresult check_location(const CUmemPoolProps *p, uint32_t *machine)
{
	bool managed = p->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED;

	*machine = RM_HOST;
	switch ((int)p->location.type) {
	case CU_MEM_LOCATION_TYPE_DEVICE:
	case CU_MEM_LOCATION_TYPE_DEVICE_LOCALITY_DOMAIN:
		return sim_location_machine(&p->location, machine);
	case CU_MEM_LOCATION_TYPE_NONE:
		return managed ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	case CU_MEM_LOCATION_TYPE_HOST:
		return p->handleTypes == CU_MEM_HANDLE_TYPE_NONE ? CUDA_SUCCESS
								 : CUDA_ERROR_INVALID_VALUE;
	case CU_MEM_LOCATION_TYPE_HOST_NUMA:
		return p->location.id >= 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult check_props(const CUmemPoolProps *p, uint32_t *machine)
{
	const unsigned types = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR |
			       CU_MEM_HANDLE_TYPE_FABRIC;
	CUresult e;

	if (p == NULL || p->win32SecurityAttributes != NULL ||
	    ((unsigned)p->handleTypes & ~types) != 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (p->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED) {
		if (p->handleTypes != CU_MEM_HANDLE_TYPE_NONE || p->maxSize != 0 ||
		    p->usage != 0)
			return CUDA_ERROR_INVALID_VALUE;
	} else if (p->allocType != CU_MEM_ALLOCATION_TYPE_PINNED) {
		return CUDA_ERROR_INVALID_VALUE;
	}
	e = check_location(p, machine);
	if (e == CUDA_SUCCESS &&
	    ((unsigned)p->handleTypes & CU_MEM_HANDLE_TYPE_FABRIC) != 0 &&
	    *machine != RM_HOST && !sim_device_facts(*machine)->has_multicast)
		e = CUDA_ERROR_NOT_SUPPORTED;
	return e;
}

CUresult CUDAAPI cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *poolProps)
{
	CUmemPoolProps props;
	struct sim_pool *p;
	uint32_t machine;
	CUresult e;

	SIM_ENTER();
	if (pool == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	e = check_props(poolProps, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	props = *poolProps;
	if (props.location.type == CU_MEM_LOCATION_TYPE_DEVICE_LOCALITY_DOMAIN) {
		int device = props.location.localized.deviceId;

		props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
		props.location.id = device;
	}
	sim_mem_lock();
	p = sim_pool_add(&props, machine);
	sim_mem_unlock();
	if (p == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*pool = (CUmemoryPool)(void *)p;
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemPoolDestroy(CUmemoryPool pool)
{
	struct sim_pool *p;
	CUresult e = CUDA_ERROR_INVALID_VALUE;

	SIM_ENTER();
	sim_mem_lock();
	p = sim_pool_get(pool);
	if (p != NULL && !p->is_default) {
		sim_pool_end(p);
		e = CUDA_SUCCESS;
	}
	sim_mem_unlock();
	return e;
}

CUresult CUDAAPI cuMemPoolTrimTo(CUmemoryPool pool, size_t minBytesToKeep)
{
	struct sim_pool *p;

	SIM_ENTER();
	sim_mem_lock();
	p = sim_pool_get(pool);
	if (p != NULL)
		(void)sim_pool_trim(p, minBytesToKeep);
	sim_mem_unlock();
	return p == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

/* ---- attributes -------------------------------------------------------------------- */

static CUresult read_number(const struct sim_pool *p, CUmemPool_attribute attr, void *value)
{
	int number;

	switch ((int)attr) {
	case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
		number = p->reuse[attr - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES];
		break;
	case CU_MEMPOOL_ATTR_ALLOCATION_TYPE:
		number = (int)p->props.allocType;
		break;
	case CU_MEMPOOL_ATTR_EXPORT_HANDLE_TYPES:
		number = (int)sim_pool_handle_types(p);
		break;
	case CU_MEMPOOL_ATTR_LOCATION_ID:
		number = p->props.location.id;
		break;
	case CU_MEMPOOL_ATTR_LOCATION_TYPE:
		number = (int)p->props.location.type;
		break;
	case CU_MEMPOOL_ATTR_HW_DECOMPRESS_ENABLED:
		number = 0;
		break;
	case CU_MEMPOOL_ATTR_LOCALITY_DOMAIN_ID:
		number = -1;
		break;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	memcpy(value, &number, sizeof(number));
	return CUDA_SUCCESS;
}

static CUresult read_attribute(const struct sim_pool *p, CUmemPool_attribute attr,
			       void *value)
{
	cuuint64_t bytes;

	switch ((int)attr) {
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
		bytes = p->threshold;
		break;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
		bytes = p->reserved;
		break;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
		bytes = p->reserved_high;
		break;
	case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
		bytes = p->used;
		break;
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		bytes = p->used_high;
		break;
	case CU_MEMPOOL_ATTR_MAX_POOL_SIZE:
		bytes = p->max_bytes;
		break;
	default:
		return read_number(p, attr, value);
	}
	memcpy(value, &bytes, sizeof(bytes));
	return CUDA_SUCCESS;
}

static CUresult write_attribute(struct sim_pool *p, CUmemPool_attribute attr,
				const void *value)
{
	cuuint64_t bytes;

	switch ((int)attr) {
	case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
	case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
		memcpy(&p->reuse[attr - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES],
		       value, sizeof(int));
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
		memcpy(&p->threshold, value, sizeof(p->threshold));
		return CUDA_SUCCESS;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
	case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
		memcpy(&bytes, value, sizeof(bytes));
		if (bytes != 0)
			return CUDA_ERROR_INVALID_VALUE;
		if (attr == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)
			p->reserved_high =
				p->reserved; /* a high mark is never below the level */
		else
			p->used_high = p->used;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult CUDAAPI cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr,
				       void *value)
{
	const struct sim_pool *p;
	CUresult e = CUDA_ERROR_INVALID_VALUE;

	SIM_ENTER();
	sim_mem_lock();
	p = sim_pool_get(pool);
	if (p != NULL && value != NULL)
		e = read_attribute(p, attr, value);
	sim_mem_unlock();
	return e;
}

CUresult CUDAAPI cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr,
				       void *value)
{
	struct sim_pool *p;
	CUresult e = CUDA_ERROR_INVALID_VALUE;

	SIM_ENTER();
	sim_mem_lock();
	p = sim_pool_get(pool);
	if (p != NULL && value != NULL)
		e = write_attribute(p, attr, value);
	sim_mem_unlock();
	return e;
}

static CUresult set_access(struct sim_pool *p, const CUmemAccessDesc *d)
{
	unsigned shift = 2 * (unsigned)d->location.id;
	uint32_t machine;
	CUresult e;

	if (d->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_INVALID_VALUE;
	e = sim_device_machine(d->location.id, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	if ((d->flags != CU_MEM_ACCESS_FLAGS_PROT_NONE &&
	     d->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) ||
	    (machine == p->machine && d->flags == CU_MEM_ACCESS_FLAGS_PROT_NONE))
		return CUDA_ERROR_INVALID_VALUE; /* a pool's own device always reaches it */
	p->access = (p->access & ~(3u << shift)) | (uint32_t)d->flags << shift;
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *map,
				    size_t count)
{
	struct sim_pool *p;
	CUresult e;

	SIM_ENTER();
	if (map == NULL || count == 0)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	p = sim_pool_get(pool);
	e = p == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	for (size_t i = 0; i < count && e == CUDA_SUCCESS; i++)
		e = set_access(p, &map[i]);
	sim_mem_unlock();
	return e;
}

CUresult CUDAAPI cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool memPool,
				    CUmemLocation *location)
{
	const struct sim_pool *p;
	uint32_t machine;
	CUresult e;

	SIM_ENTER();
	if (flags == NULL || location == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	e = sim_location_machine(location, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	p = sim_pool_get(memPool);
	if (p == NULL)
		e = CUDA_ERROR_INVALID_VALUE;
	else
		*flags = (CUmemAccess_flags)sim_pool_access(
			p, machine == RM_HOST ? -1 : location->id);
	sim_mem_unlock();
	return e;
}

/* ---- allocations of streams -------------------------------------------------------- */

/* During a capture: a node of the graph, of the pool's properties, without the pool's
 * memory. */
static CUresult capture_alloc(struct sim_stream *s, const struct sim_pool *p, size_t bytes,
			      CUdeviceptr *out)
{
	CUDA_MEM_ALLOC_NODE_PARAMS params = { .poolProps = p->props, .bytesize = bytes };
	CUresult e;

	params.poolProps.handleTypes = CU_MEM_HANDLE_TYPE_NONE;
	e = sim_capture_alloc(s, &params);
	if (e == CUDA_SUCCESS)
		*out = params.dptr;
	return e;
}

static CUresult find_pool(struct sim_ctx *ctx, const CUmemoryPool *named,
			  struct sim_pool **out)
{
	CUmemLocation l = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = ctx->dev };

	if (named == NULL)
		return sim_pool_current(&l, CU_MEM_ALLOCATION_TYPE_PINNED, out);
	*out = sim_pool_get(*named);
	return *out == NULL || (*out)->is_imported ? CUDA_ERROR_INVALID_VALUE
						   : CUDA_SUCCESS;
}

/* NAMED: from this pool; NULL: from the current one of the stream's device. */
static CUresult alloc_async(CUdeviceptr *dptr, size_t bytes, const CUmemoryPool *named,
			    CUstream stream, bool ptsz)
{
	struct sim_pool *p = NULL, copy = { 0 };
	struct sim_span *span = NULL;
	struct sim_stream *s;
	CUresult e = sim_stream_get(stream, ptsz, &s);
	bool captures;

	if (e != CUDA_SUCCESS)
		return e;
	if (dptr == NULL || bytes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	captures = sim_stream_capturing(s);
	sim_mem_lock();
	e = find_pool(sim_stream_ctx(s), named, &p);
	if (e == CUDA_SUCCESS && captures)
		copy = *p;
	else if (e == CUDA_SUCCESS)
		e = sim_result(sim_pool_take(p, sim_stream_ctx(s), bytes, &span));
	if (e == CUDA_SUCCESS && !captures)
		*dptr = span->at.key;
	sim_mem_unlock();
	return e == CUDA_SUCCESS && captures ? capture_alloc(s, &copy, bytes, dptr) : e;
}

static CUresult run_free(void *params, struct sim_ctx *ctx)
{
	struct sim_span *span;
	CUdeviceptr p;
	CUresult e;

	(void)ctx;
	memcpy(&p, params, sizeof(p));
	sim_mem_lock();
	span = sim_span_starting(p);
	e = span == NULL ? CUDA_ERROR_INVALID_VALUE : sim_mem_free_span(span);
	sim_mem_unlock();
	return e;
}

/* What a stream may free, besides its pools' memory: see sim_mem_free_span. */
static bool is_freeable(CUdeviceptr p)
{
	const struct sim_span *s;
	bool is;

	sim_mem_lock();
	s = sim_span_starting(p);
	is = s != NULL && s->kind != SIM_SPAN_HOST && s->kind != SIM_SPAN_REGISTERED &&
	     s->kind != SIM_SPAN_MAPPING && s->kind != SIM_SPAN_IPC &&
	     s->kind != SIM_SPAN_TAKEN;
	sim_mem_unlock();
	return is;
}

/* Behind what is pending in the stream, which may still use the memory. */
static CUresult free_async(CUdeviceptr p, CUstream stream, bool ptsz)
{
	struct sim_op op = { .type = CU_GRAPH_NODE_TYPE_MEM_FREE,
			     .run = run_free,
			     .params = &p,
			     .params_bytes = sizeof(p) };
	struct sim_stream *s;
	CUresult e = sim_stream_get(stream, ptsz, &s);

	if (e != CUDA_SUCCESS)
		return e;
	if (sim_stream_capturing(s))
		return sim_capture_free(s, p);
	return is_freeable(p) ? sim_stream_run(s, &op) : CUDA_ERROR_INVALID_VALUE;
}

CUresult CUDAAPI cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
	SIM_ENTER();
	return alloc_async(dptr, bytesize, NULL, hStream, false);
}

CUresult CUDAAPI cuMemAllocAsync_ptsz(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
	SIM_ENTER();
	return alloc_async(dptr, bytesize, NULL, hStream, true);
}

CUresult CUDAAPI cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize,
					 CUmemoryPool pool, CUstream hStream)
{
	SIM_ENTER();
	return alloc_async(dptr, bytesize, &pool, hStream, false);
}

CUresult CUDAAPI cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *dptr, size_t bytesize,
					      CUmemoryPool pool, CUstream hStream)
{
	SIM_ENTER();
	return alloc_async(dptr, bytesize, &pool, hStream, true);
}

CUresult CUDAAPI cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream)
{
	SIM_ENTER();
	return free_async(dptr, hStream, false);
}

CUresult CUDAAPI cuMemFreeAsync_ptsz(CUdeviceptr dptr, CUstream hStream)
{
	SIM_ENTER();
	return free_async(dptr, hStream, true);
}
