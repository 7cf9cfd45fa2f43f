/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <errno.h>
#include <string.h>

/*
 * Pools and their pointers in other processes. What travels for a pool is a marker page;
 * for a pointer, the name of its chunk with the place in it. The importer's reference keeps
 * the chunk alive, though only the exporter's pool counts it.
 */

struct pointer_text {
	uint64_t marker_id; /* of the pool: a pointer is imported through its own pool only
			     */
	uint64_t offset, bytes;
};

static CUresult make_marker(struct sim_pool *p)
{
	int r;

	if (p->marker != NULL)
		return CUDA_SUCCESS;
	r = sim_marker_make(&p->marker_phys, &p->marker, SIM_MARKER_POOL);
	if (r != 0)
		return sim_result(r);
	p->marker->machine = p->machine;
	p->marker->location_type = (uint32_t)p->props.location.type;
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemPoolExportToShareableHandle(void *handle_out, CUmemoryPool pool,
						  CUmemAllocationHandleType handleType,
						  unsigned long long flags)
{
	struct sim_pool *p;
	CUresult e = CUDA_ERROR_INVALID_VALUE;

	SIM_ENTER();
	if (handle_out == NULL || flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	p = sim_pool_get(pool);
	if (p != NULL && ((unsigned)sim_pool_handle_types(p) & (unsigned)handleType) != 0)
		e = make_marker(p);
	if (e == CUDA_SUCCESS)
		e = sim_share_out(handle_out, &p->marker_phys, handleType);
	sim_mem_unlock();
	return e;
}

/* The pool behind a marker; takes over PHYS' reference on success. */
static CUresult add_imported(const struct rm_phys *phys, struct sim_marker *m,
			     CUmemoryPool *out)
{
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED };
	struct sim_pool *p;
	int ordinal = m->machine == RM_HOST ? 0 : sim_ordinal_of(m->machine);

	props.location.type = (CUmemLocationType)m->location_type;
	props.location.id = ordinal;
	if (ordinal < 0) {
		props.location.type = CU_MEM_LOCATION_TYPE_INVISIBLE;
		props.location.id = CU_DEVICE_INVALID;
	}
	p = sim_pool_add(&props, m->machine);
	if (p == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	p->is_imported = true;
	p->marker = m;
	p->marker_phys = *phys;
	*out = (CUmemoryPool)(void *)p;
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemPoolImportFromShareableHandle(CUmemoryPool *pool_out, void *handle,
						    CUmemAllocationHandleType handleType,
						    unsigned long long flags)
{
	struct sim_marker *m;
	struct rm_phys phys;
	CUresult e;

	SIM_ENTER();
	if (pool_out == NULL || flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	e = sim_share_in(handle, handleType, &phys);
	if (e == CUDA_SUCCESS) {
		if (sim_marker_open(&phys, &m, SIM_MARKER_POOL) != 0) {
			e = CUDA_ERROR_INVALID_VALUE;
		} else {
			e = add_imported(&phys, m, pool_out);
			if (e != CUDA_SUCCESS)
				sim_marker_close(m);
		}
		if (e != CUDA_SUCCESS)
			rm_phys_unref(phys.id);
	}
	sim_mem_unlock();
	return e;
}

CUresult CUDAAPI cuMemPoolExportPointer(CUmemPoolPtrExportData *shareData_out,
					CUdeviceptr ptr)
{
	const struct sim_chunk *c;
	const struct sim_span *s;
	CUresult e = CUDA_ERROR_INVALID_VALUE;

	SIM_ENTER();
	if (shareData_out == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	s = sim_span_holding(ptr);
	if (s != NULL && s->kind == SIM_SPAN_POOL && s->pool->marker != NULL) {
		struct pointer_text t = { s->pool->marker_phys.id, 0, s->at.len };

		c = (const void *)sim_tree_below(s->pool->chunks, s->at.key);
		t.offset = s->at.key - c->at.key;
		e = sim_result(rm_name(c->phys.id, &t, sizeof(t), shareData_out->reserved));
	}
	sim_mem_unlock();
	return e;
}

static int map_pointer(const struct rm_phys *phys, const struct pointer_text *t,
		       struct sim_pool *p, CUdeviceptr *out)
{
	struct sim_span *s;
	uint64_t va;
	int r;

	if (t->offset > phys->bytes || t->bytes > phys->bytes - t->offset)
		return -EINVAL;
	r = sim_phys_map(phys, SIM_WINDOW_DEVICE, &va);
	if (r != 0)
		return r;
	s = sim_span_add(SIM_SPAN_SHARED, va + t->offset, t->bytes);
	if (s == NULL) {
		sim_va_give(SIM_WINDOW_DEVICE, va, phys->bytes);
		return -ENOMEM;
	}
	s->machine = phys->device;
	s->pool = p;
	s->held_bytes = t->bytes;
	s->va_base = va;
	s->va_bytes = phys->bytes;
	s->phys = *phys;
	p->live++;
	*out = s->at.key;
	return 0;
}

CUresult CUDAAPI cuMemPoolImportPointer(CUdeviceptr *ptr_out, CUmemoryPool pool,
					CUmemPoolPtrExportData *shareData)
{
	struct pointer_text t;
	size_t n = sizeof(t);
	struct rm_phys phys;
	struct sim_pool *p;
	int exporter, r = -EINVAL;

	SIM_ENTER();
	if (ptr_out == NULL || shareData == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	p = sim_pool_get(pool);
	if (p != NULL && p->is_imported &&
	    rm_named(shareData->reserved, &phys, &t, &n, &exporter) == 0) {
		if (n == sizeof(t) && t.marker_id == p->marker_phys.id)
			r = map_pointer(&phys, &t, p, ptr_out);
		if (r != 0)
			rm_phys_unref(phys.id);
	}
	sim_mem_unlock();
	return r == -EINVAL ? CUDA_ERROR_INVALID_VALUE : sim_result(r);
}
