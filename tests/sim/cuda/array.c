/* SPDX-License-Identifier: Apache-2.0 */
/* cuArray*: creation in every ABI, descriptors, planes, and the memory behind them. */

#include <stdlib.h>

#include "array.h"

SIM_HANDLE_SET(arrays);

bool array_is_live(CUarray array)
{
	return sim_handle_live(&arrays, array);
}

static size_t whole_bytes(const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	size_t bytes = array_layout_of(desc).bytes;

	return (bytes + ARRAY_ALIGN_BYTES - 1) / ARRAY_ALIGN_BYTES * ARRAY_ALIGN_BYTES;
}

/* ---- life ------------------------------------------------------------------------- */

/* Points ARRAY and its planes at BYTES, or away from them. */
void array_child_bind(CUarray array, unsigned char *bytes)
{
	array->bytes = bytes;
	for (unsigned int i = 0; i < ARRAY_PLANES_MAX && array->planes[i]; i++) {
		array_child_bind(array->planes[i], bytes);
		bytes = bytes ? bytes + array->planes[i]->layout.bytes : NULL;
	}
}

/* Frees ARRAY, which is in no set any more, and its planes. */
static void free_array(CUarray array)
{
	for (unsigned int i = 0; i < ARRAY_PLANES_MAX; i++)
		if (array->planes[i])
			array_child_drop(array->planes[i]);
	array_mapping_drop(&array->mapping);
	array_memory_give(&array->memory, array);
	free(array);
}

void array_child_drop(CUarray array)
{
	if (sim_handle_remove(&arrays, array))
		free_array(array);
}

static CUresult make_planes(struct sim_ctx *ctx, CUarray array)
{
	const struct array_format *format = array_format_find(array->desc.Format);
	unsigned int planes = array_format_planes(format);

	for (unsigned int i = 0; planes > 1 && i < planes; i++) {
		CUDA_ARRAY3D_DESCRIPTOR plane = array_format_plane(format, &array->desc, i);
		CUresult r = array_child_new(ctx, &plane, NULL, &array->planes[i]);

		if (r != CUDA_SUCCESS)
			return r;
	}
	return CUDA_SUCCESS;
}

/* An array without memory and in no set; free_array() undoes it. */
static CUresult new_array(struct sim_ctx *ctx, const CUDA_ARRAY3D_DESCRIPTOR *desc,
			  CUarray *out)
{
	CUarray array = calloc(1, sizeof *array);
	CUresult r;

	if (!array)
		return CUDA_ERROR_OUT_OF_MEMORY;
	array->ctx_id = ctx->id;
	array->machine = ctx->machine;
	array->desc = *desc;
	array->layout = array_layout_of(desc);
	r = make_planes(ctx, array);
	if (r != CUDA_SUCCESS) {
		free_array(array);
		return r;
	}
	*out = array;
	return CUDA_SUCCESS;
}

CUresult array_child_new(struct sim_ctx *ctx, const CUDA_ARRAY3D_DESCRIPTOR *desc,
			 unsigned char *bytes, CUarray *out)
{
	CUarray array;
	CUresult r = new_array(ctx, desc, &array);

	if (r != CUDA_SUCCESS)
		return r;
	array->child = true;
	array_child_bind(array, bytes);
	sim_handle_add(&arrays, &array->handle);
	*out = array;
	return CUDA_SUCCESS;
}

static CUresult create_array(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	struct sim_ctx *ctx;
	CUarray array;
	CUresult r;

	if (!out || !desc || !array_desc_valid(desc))
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_capture_forbids();
	if (r == CUDA_SUCCESS)
		r = sim_ctx_current(&ctx);
	if (r == CUDA_SUCCESS)
		r = new_array(ctx, desc, &array);
	if (r != CUDA_SUCCESS)
		return r;
	if (!(desc->Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING))) {
		r = array_memory_take(ctx, &array->memory, array, whole_bytes(desc));
		if (r != CUDA_SUCCESS) {
			free_array(array);
			return r;
		}
		array_child_bind(array, (unsigned char *)(uintptr_t)array->memory.address);
	}
	sim_handle_add(&arrays, &array->handle);
	*out = array;
	return CUDA_SUCCESS;
}

CUresult cuArrayDestroy(CUarray hArray)
{
	SIM_ENTER();
	if (!array_is_live(hArray))
		return CUDA_ERROR_INVALID_HANDLE;
	if (hArray->child)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_handle_remove(&arrays, hArray))
		return CUDA_ERROR_INVALID_HANDLE;
	free_array(hArray);
	return CUDA_SUCCESS;
}

static bool is_own_array_of(const struct sim_handle *h, const void *ctx)
{
	const struct CUarray_st *array = (const struct CUarray_st *)(const void *)h;

	return !array->child && array->ctx_id == ((const struct sim_ctx *)ctx)->id;
}

void sim_array_ctx_gone(struct sim_ctx *ctx)
{
	struct sim_handle *h;

	texture_ctx_gone(ctx);
	mipmap_ctx_gone(ctx);
	while ((h = sim_handle_pick(&arrays, is_own_array_of, ctx)))
		free_array((CUarray)(void *)h);
}

/* ---- creation and descriptors, by ABI --------------------------------------------- */

#define SOLID(d)                                                      \
	(&(CUDA_ARRAY3D_DESCRIPTOR){ .Width = (d)->Width,             \
				     .Height = (d)->Height,           \
				     .Depth = (d)->Depth,             \
				     .Format = (d)->Format,           \
				     .NumChannels = (d)->NumChannels, \
				     .Flags = (d)->Flags })
#define FLAT(d)                                             \
	(&(CUDA_ARRAY3D_DESCRIPTOR){ .Width = (d)->Width,   \
				     .Height = (d)->Height, \
				     .Format = (d)->Format, \
				     .NumChannels = (d)->NumChannels })

CUresult cuArrayCreate(CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR_v1 *desc)
{
	SIM_ENTER();
	return desc ? create_array(pHandle, FLAT(desc)) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuArrayCreate_v2(CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR *desc)
{
	SIM_ENTER();
	return desc ? create_array(pHandle, FLAT(desc)) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuArray3DCreate(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR_v1 *desc)
{
	SIM_ENTER();
	return desc ? create_array(pHandle, SOLID(desc)) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuArray3DCreate_v2(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	SIM_ENTER();
	return desc ? create_array(pHandle, desc) : CUDA_ERROR_INVALID_VALUE;
}

static CUresult get_descriptor(CUarray array, CUDA_ARRAY3D_DESCRIPTOR *out)
{
	if (!array_is_live(array))
		return CUDA_ERROR_INVALID_HANDLE;
	*out = array->desc;
	return CUDA_SUCCESS;
}

CUresult cuArrayGetDescriptor(CUDA_ARRAY_DESCRIPTOR_v1 *out, CUarray hArray)
{
	CUDA_ARRAY3D_DESCRIPTOR d;
	CUresult r;

	SIM_ENTER();
	r = out ? get_descriptor(hArray, &d) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*out = (CUDA_ARRAY_DESCRIPTOR_v1){ (unsigned int)d.Width,
						   (unsigned int)d.Height, d.Format,
						   d.NumChannels };
	return r;
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *out, CUarray hArray)
{
	CUDA_ARRAY3D_DESCRIPTOR d;
	CUresult r;

	SIM_ENTER();
	r = out ? get_descriptor(hArray, &d) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*out = (CUDA_ARRAY_DESCRIPTOR){ d.Width, d.Height, d.Format,
						d.NumChannels };
	return r;
}

CUresult cuArray3DGetDescriptor(CUDA_ARRAY3D_DESCRIPTOR_v1 *out, CUarray hArray)
{
	CUDA_ARRAY3D_DESCRIPTOR d;
	CUresult r;

	SIM_ENTER();
	r = out ? get_descriptor(hArray, &d) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*out = (CUDA_ARRAY3D_DESCRIPTOR_v1){
			(unsigned int)d.Width, (unsigned int)d.Height,
			(unsigned int)d.Depth, d.Format,
			d.NumChannels,         d.Flags
		};
	return r;
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *out, CUarray hArray)
{
	SIM_ENTER();
	return out ? get_descriptor(hArray, out) : CUDA_ERROR_INVALID_VALUE;
}

/* ---- what else can be asked ------------------------------------------------------- */

/* By the header, only an array whose memory the caller is to map can be asked. */
CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *out, CUarray array,
				      CUdevice device)
{
	uint32_t machine;
	CUresult r;

	SIM_ENTER();
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_device_machine(device, &machine);
	if (r != CUDA_SUCCESS)
		return r;
	if (!array_is_live(array))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!(array->desc.Flags & CUDA_ARRAY3D_DEFERRED_MAPPING) || array->child)
		return CUDA_ERROR_INVALID_VALUE;
	*out = (CUDA_ARRAY_MEMORY_REQUIREMENTS){ .size = whole_bytes(&array->desc),
						 .alignment = ARRAY_ALIGN_BYTES };
	return CUDA_SUCCESS;
}

CUresult cuArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES *out, CUarray array)
{
	SIM_ENTER();
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	if (!array_is_live(array))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!(array->desc.Flags & CUDA_ARRAY3D_SPARSE))
		return CUDA_ERROR_INVALID_VALUE;
	*out = array_sparse_properties(&array->desc, 1);
	return CUDA_SUCCESS;
}

CUresult cuArrayGetPlane(CUarray *pPlaneArray, CUarray hArray, unsigned int planeIdx)
{
	SIM_ENTER();
	if (!pPlaneArray)
		return CUDA_ERROR_INVALID_VALUE;
	if (!array_is_live(hArray))
		return CUDA_ERROR_INVALID_HANDLE;
	if (planeIdx >= ARRAY_PLANES_MAX || !hArray->planes[planeIdx])
		return CUDA_ERROR_INVALID_VALUE;
	*pPlaneArray = hArray->planes[planeIdx];
	return CUDA_SUCCESS;
}

/* ---- for the rest of the library -------------------------------------------------- */

CUresult sim_array_view(CUarray handle, struct sim_array_view *out)
{
	const struct array_layout *l;

	if (!array_is_live(handle))
		return CUDA_ERROR_INVALID_HANDLE;
	l = &handle->layout;
	if (!l->element_bytes) /* several planes: only each of them can be copied */
		return CUDA_ERROR_INVALID_VALUE;
	*out = (struct sim_array_view){
		.bytes = handle->bytes,
		.width = l->width,
		.height = l->height,
		.depth = l->depth,
		.layers = l->layers,
		.element_bytes = l->element_bytes,
		.row_pitch = l->row_pitch,
		.slice_pitch = l->slice_pitch,
		.machine = handle->machine,
	};
	return CUDA_SUCCESS;
}

CUresult sim_array_bind(CUarray handle, void *bytes)
{
	if (!array_is_live(handle))
		return CUDA_ERROR_INVALID_HANDLE;
	if (handle->child ||
	    !(handle->desc.Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)))
		return CUDA_ERROR_INVALID_VALUE;
	array_child_bind(handle, bytes);
	return CUDA_SUCCESS;
}
