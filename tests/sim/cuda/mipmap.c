/* SPDX-License-Identifier: Apache-2.0 */
/* cuMipmappedArray*: one piece of memory with an array for each level in it. */

#include <stdlib.h>

#include "array.h"

SIM_HANDLE_SET(mipmaps);

bool mipmap_is_live(CUmipmappedArray mipmap)
{
	return sim_handle_live(&mipmaps, mipmap);
}

static void bind_levels(CUmipmappedArray m, unsigned char *bytes)
{
	m->bytes = bytes;
	for (unsigned int i = 0; i < m->levels; i++) {
		array_child_bind(m->level[i], bytes);
		bytes = bytes ? bytes + m->level[i]->layout.bytes : NULL;
	}
}

/* Frees M, which is in no set any more. */
static void free_mipmap(CUmipmappedArray m)
{
	for (unsigned int i = 0; i < m->levels; i++)
		if (m->level[i])
			array_child_drop(m->level[i]);
	array_mapping_drop(&m->mapping);
	array_memory_give(&m->memory, m);
	free(m);
}

/* A mipmapped array without memory and in no set. */
static CUresult new_mipmap(struct sim_ctx *ctx, const CUDA_ARRAY3D_DESCRIPTOR *desc,
			   unsigned int levels, CUmipmappedArray *out)
{
	unsigned int most = array_levels_max(desc);
	CUmipmappedArray m = calloc(1, sizeof *m);
	size_t bytes = 0;

	if (!m)
		return CUDA_ERROR_OUT_OF_MEMORY;
	m->ctx_id = ctx->id;
	m->machine = ctx->machine;
	m->desc = *desc;
	m->levels = !levels         ? 1
		    : levels > most ? most
				    : levels; /* the driver clamps, too */
	for (unsigned int i = 0; i < m->levels; i++) {
		CUDA_ARRAY3D_DESCRIPTOR at = array_level_desc(desc, i);
		CUresult r = array_child_new(ctx, &at, NULL, &m->level[i]);

		if (r != CUDA_SUCCESS) {
			free_mipmap(m);
			return r;
		}
		bytes += m->level[i]->layout.bytes;
	}
	m->total_bytes = (bytes + ARRAY_ALIGN_BYTES - 1) / ARRAY_ALIGN_BYTES *
			 ARRAY_ALIGN_BYTES;
	*out = m;
	return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *pHandle,
				const CUDA_ARRAY3D_DESCRIPTOR *desc,
				unsigned int numMipmapLevels)
{
	struct sim_ctx *ctx;
	CUmipmappedArray m;
	CUresult r;

	SIM_ENTER();
	if (!pHandle || !desc || !array_desc_valid(desc))
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_capture_forbids();
	if (r == CUDA_SUCCESS)
		r = sim_ctx_current(&ctx);
	if (r == CUDA_SUCCESS)
		r = new_mipmap(ctx, desc, numMipmapLevels, &m);
	if (r != CUDA_SUCCESS)
		return r;
	if (!(desc->Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING))) {
		r = array_memory_take(ctx, &m->memory, m, m->total_bytes);
		if (r != CUDA_SUCCESS) {
			free_mipmap(m);
			return r;
		}
		bind_levels(m, (unsigned char *)(uintptr_t)m->memory.address);
	}
	sim_handle_add(&mipmaps, &m->handle);
	*pHandle = m;
	return CUDA_SUCCESS;
}

CUresult mipmap_over(const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned int levels,
		     unsigned char *bytes, size_t room, CUmipmappedArray *out)
{
	struct sim_ctx *ctx;
	CUmipmappedArray m;
	CUresult r;

	if (!array_desc_valid(desc) ||
	    desc->Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING))
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_ctx_current(&ctx);
	if (r == CUDA_SUCCESS)
		r = new_mipmap(ctx, desc, levels, &m);
	if (r != CUDA_SUCCESS)
		return r;
	if (m->total_bytes > room) {
		free_mipmap(m);
		return CUDA_ERROR_INVALID_VALUE;
	}
	bind_levels(m, bytes);
	sim_handle_add(&mipmaps, &m->handle);
	*out = m;
	return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray hMipmappedArray)
{
	SIM_ENTER();
	if (!sim_handle_remove(&mipmaps, hMipmappedArray))
		return CUDA_ERROR_INVALID_HANDLE;
	free_mipmap(hMipmappedArray);
	return CUDA_SUCCESS;
}

static bool is_mipmap_of(const struct sim_handle *h, const void *ctx)
{
	const struct CUmipmappedArray_st *m =
		(const struct CUmipmappedArray_st *)(const void *)h;

	return m->ctx_id == ((const struct sim_ctx *)ctx)->id;
}

void mipmap_ctx_gone(struct sim_ctx *ctx)
{
	struct sim_handle *h;

	while ((h = sim_handle_pick(&mipmaps, is_mipmap_of, ctx)))
		free_mipmap((CUmipmappedArray)(void *)h);
}

CUresult cuMipmappedArrayGetLevel(CUarray *pLevelArray, CUmipmappedArray m,
				  unsigned int level)
{
	SIM_ENTER();
	if (!pLevelArray)
		return CUDA_ERROR_INVALID_VALUE;
	if (!mipmap_is_live(m))
		return CUDA_ERROR_INVALID_HANDLE;
	if (level >= m->levels)
		return CUDA_ERROR_INVALID_VALUE;
	*pLevelArray = m->level[level];
	return CUDA_SUCCESS;
}

/* By the header, only one whose memory the caller is to map can be asked. */
CUresult cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *out,
					       CUmipmappedArray m, CUdevice device)
{
	uint32_t machine;
	CUresult r;

	SIM_ENTER();
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_device_machine(device, &machine);
	if (r != CUDA_SUCCESS)
		return r;
	if (!mipmap_is_live(m))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!(m->desc.Flags & CUDA_ARRAY3D_DEFERRED_MAPPING))
		return CUDA_ERROR_INVALID_VALUE;
	*out = (CUDA_ARRAY_MEMORY_REQUIREMENTS){ .size = m->total_bytes,
						 .alignment = ARRAY_ALIGN_BYTES };
	return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES *out,
					     CUmipmappedArray m)
{
	SIM_ENTER();
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	if (!mipmap_is_live(m))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!(m->desc.Flags & CUDA_ARRAY3D_SPARSE))
		return CUDA_ERROR_INVALID_VALUE;
	*out = array_sparse_properties(&m->desc, m->levels);
	return CUDA_SUCCESS;
}

CUresult sim_mipmap_bind(CUmipmappedArray handle, void *bytes)
{
	if (!mipmap_is_live(handle))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!(handle->desc.Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)))
		return CUDA_ERROR_INVALID_VALUE;
	bind_levels(handle, bytes);
	return CUDA_SUCCESS;
}
