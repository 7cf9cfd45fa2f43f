/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuMemMapArrayAsync for arrays with deferred mapping: the whole array onto a tile pool.
 * Parts of sparse arrays are not done (NOT_SUPPORTED): the simulator keeps rows in order,
 * not in tiles.
 */

#include "array.h"
#include "stream.h"
#include "vmm.h"

/* The array or mipmapped array that an operation names, and what the operation needs of it.
 */
struct target {
	CUarray array; /* or */
	CUmipmappedArray mipmap;
	struct array_mapping *mapping;
	size_t bytes;
	uint32_t machine;
};

void array_mapping_drop(struct array_mapping *m)
{
	if (!m->vmm)
		return;
	sim_mem_give(m->address, 0, &m->phys);
	sim_mem_lock();
	m->vmm->uses--;
	sim_vmm_settle(m->vmm);
	sim_mem_unlock();
	m->vmm = NULL;
}

static CUresult check_flags(unsigned int flags)
{
	if (flags & CUDA_ARRAY3D_DEFERRED_MAPPING)
		return CUDA_SUCCESS;
	return flags & CUDA_ARRAY3D_SPARSE ? CUDA_ERROR_NOT_SUPPORTED
					   : CUDA_ERROR_INVALID_VALUE;
}

static size_t round_to_unit(size_t bytes)
{
	return (bytes + ARRAY_ALIGN_BYTES - 1) / ARRAY_ALIGN_BYTES * ARRAY_ALIGN_BYTES;
}

static CUresult find_target(const CUarrayMapInfo *info, struct target *t)
{
	CUarray array = info->resource.array;
	CUmipmappedArray mipmap = info->resource.mipmap;

	if (info->resourceType == CU_RESOURCE_TYPE_ARRAY) {
		if (!array_is_live(array))
			return CUDA_ERROR_INVALID_HANDLE;
		*t = (struct target){ .array = array,
				      .mapping = &array->mapping,
				      .bytes = round_to_unit(
					      array_layout_of(&array->desc).bytes),
				      .machine = array->machine };
		return array->child ? CUDA_ERROR_INVALID_VALUE
				    : check_flags(array->desc.Flags);
	}
	if (info->resourceType != CU_RESOURCE_TYPE_MIPMAPPED_ARRAY)
		return CUDA_ERROR_INVALID_VALUE;
	if (!mipmap_is_live(mipmap))
		return CUDA_ERROR_INVALID_HANDLE;
	*t = (struct target){ .mipmap = mipmap,
			      .mapping = &mipmap->mapping,
			      .bytes = mipmap->total_bytes,
			      .machine = mipmap->machine };
	return check_flags(mipmap->desc.Flags);
}

static CUresult bind_target(const struct target *t, void *bytes)
{
	return t->array ? sim_array_bind(t->array, bytes)
			: sim_mipmap_bind(t->mipmap, bytes);
}

/* One use of the pool, if TARGET fits into it at OFFSET. */
static CUresult use_pool(const CUarrayMapInfo *info, const struct target *t,
			 struct array_mapping *out)
{
	CUresult r = CUDA_SUCCESS;
	struct sim_vmm *v;

	sim_mem_lock();
	v = sim_vmm_get(info->memHandle.memHandle);
	if (!v || v->multicast)
		r = CUDA_ERROR_INVALID_HANDLE;
	else if (v->phys.device != t->machine || info->offset % ARRAY_ALIGN_BYTES ||
		 info->offset > v->bytes || t->bytes > v->bytes - info->offset)
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS) {
		v->uses++;
		*out = (struct array_mapping){ .vmm = v, .phys = v->phys };
	}
	sim_mem_unlock();
	return r;
}

static CUresult map_target(const CUarrayMapInfo *info, const struct target *t,
			   struct sim_ctx *ctx)
{
	struct array_mapping m;
	CUresult r;

	if (info->memHandleType != CU_MEM_HANDLE_TYPE_GENERIC || t->mapping->vmm)
		return CUDA_ERROR_INVALID_VALUE;
	r = use_pool(info, t, &m);
	if (r != CUDA_SUCCESS)
		return r;
	r = sim_mem_attach(ctx, &m.phys, (size_t)info->offset, t->bytes, &m.address);
	if (r != CUDA_SUCCESS) {
		sim_mem_lock();
		m.vmm->uses--;
		sim_vmm_settle(m.vmm);
		sim_mem_unlock();
		return r;
	}
	*t->mapping = m;
	return bind_target(t, (void *)(uintptr_t)m.address);
}

static CUresult unmap_target(const CUarrayMapInfo *info, const struct target *t)
{
	if (info->memHandle.memHandle || !t->mapping->vmm)
		return CUDA_ERROR_INVALID_VALUE;
	array_mapping_drop(t->mapping);
	return bind_target(t, NULL);
}

static CUresult map_one(const CUarrayMapInfo *info, struct sim_ctx *ctx)
{
	struct target t;
	CUresult r;

	if (info->flags || info->reserved[0] || info->reserved[1] ||
	    info->deviceBitMask != 1u << ctx->dev)
		return CUDA_ERROR_INVALID_VALUE;
	r = find_target(info, &t);
	if (r != CUDA_SUCCESS)
		return r;
	if (info->memOperationType == CU_MEM_OPERATION_TYPE_MAP)
		return map_target(info, &t, ctx);
	return info->memOperationType == CU_MEM_OPERATION_TYPE_UNMAP
		       ? unmap_target(info, &t)
		       : CUDA_ERROR_INVALID_VALUE;
}

/* In stream order: what is pending runs first, then the mappings are made here. */
static CUresult map_arrays(const CUarrayMapInfo *list, unsigned int count, CUstream stream,
			   bool ptsz)
{
	struct sim_stream *s;
	CUresult r;

	if (!list || !count)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_get(stream, ptsz, &s);
	if (r == CUDA_SUCCESS)
		r = sim_capture_prohibits(s);
	if (r == CUDA_SUCCESS)
		r = sim_stream_settle(s);
	for (unsigned int i = 0; r == CUDA_SUCCESS && i < count; i++)
		r = map_one(&list[i], sim_stream_ctx(s));
	return r;
}

CUresult cuMemMapArrayAsync(CUarrayMapInfo *mapInfoList, unsigned int count,
			    CUstream hStream)
{
	SIM_ENTER();
	return map_arrays(mapInfoList, count, hStream, false);
}

CUresult cuMemMapArrayAsync_ptsz(CUarrayMapInfo *mapInfoList, unsigned int count,
				 CUstream hStream)
{
	SIM_ENTER();
	return map_arrays(mapInfoList, count, hStream, true);
}
