/* SPDX-License-Identifier: Apache-2.0 */
/* Texture and surface objects: descriptions that are checked and given back; nothing
 * samples. */

#include <stdlib.h>

#include "array.h"

#define TEXTURE_ALIGN_BYTES 512u /* CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT */
#define PITCH_ALIGN_BYTES   32u  /* CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT */
#define MAX_LINEAR_ELEMENTS (1u << 28)
#define KNOWN_TEXTURE_FLAGS                                                        \
	(CU_TRSF_READ_AS_INTEGER | CU_TRSF_NORMALIZED_COORDINATES | CU_TRSF_SRGB | \
	 CU_TRSF_DISABLE_TRILINEAR_OPTIMIZATION | CU_TRSF_SEAMLESS_CUBEMAP)

struct texture {
	struct sim_handle handle;
	uint64_t ctx_id;
	CUDA_RESOURCE_DESC resource;
	CUDA_TEXTURE_DESC texture;
	CUDA_RESOURCE_VIEW_DESC view;
	bool has_view;
};

SIM_HANDLE_SET(textures);
SIM_HANDLE_SET(surfaces);

static struct texture *texture_of(unsigned long long object)
{
	return (struct texture *)(uintptr_t)object;
}

static bool is_texture_of(const struct sim_handle *h, const void *ctx)
{
	const struct texture *t = (const struct texture *)(const void *)h;

	return t->ctx_id == ((const struct sim_ctx *)ctx)->id;
}

void texture_ctx_gone(struct sim_ctx *ctx)
{
	struct sim_handle *h;

	while ((h = sim_handle_pick(&textures, is_texture_of, ctx)))
		free(h);
	while ((h = sim_handle_pick(&surfaces, is_texture_of, ctx)))
		free(h);
}

/* Bytes of one element of linear memory; 0 when a texture cannot have it. */
static size_t linear_element(CUarray_format id, unsigned int channels)
{
	const struct array_format *format = array_format_find(id);

	if (!format || format->channels ||
	    (channels != 1 && channels != 2 && channels != 4))
		return 0;
	return (size_t)format->bytes * channels;
}

static bool linear_valid(const CUDA_RESOURCE_DESC *d)
{
	size_t element = linear_element(d->res.linear.format, d->res.linear.numChannels);
	size_t bytes = d->res.linear.sizeInBytes;
	struct sim_range range;

	return element && bytes >= element && bytes / element <= MAX_LINEAR_ELEMENTS &&
	       d->res.linear.devPtr % TEXTURE_ALIGN_BYTES == 0 &&
	       sim_mem_find(d->res.linear.devPtr, bytes, &range);
}

static bool pitch_valid(const CUDA_RESOURCE_DESC *d)
{
	size_t element = linear_element(d->res.pitch2D.format, d->res.pitch2D.numChannels);
	size_t width = d->res.pitch2D.width, height = d->res.pitch2D.height;
	size_t pitch = d->res.pitch2D.pitchInBytes;
	struct sim_range range;

	if (!element || !width || !height || width > 131072 || height > 65000)
		return false;
	return pitch >= width * element && pitch <= 0x7fffffff &&
	       pitch % PITCH_ALIGN_BYTES == 0 &&
	       d->res.pitch2D.devPtr % TEXTURE_ALIGN_BYTES == 0 &&
	       sim_mem_find(d->res.pitch2D.devPtr, pitch * (height - 1) + width * element,
			    &range);
}

static CUresult check_resource(const CUDA_RESOURCE_DESC *d)
{
	if (d->flags)
		return CUDA_ERROR_INVALID_VALUE;
	switch (d->resType) {
	case CU_RESOURCE_TYPE_ARRAY:
		return array_is_live(d->res.array.hArray) ? CUDA_SUCCESS
							  : CUDA_ERROR_INVALID_HANDLE;
	case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
		return mipmap_is_live(d->res.mipmap.hMipmappedArray)
			       ? CUDA_SUCCESS
			       : CUDA_ERROR_INVALID_HANDLE;
	case CU_RESOURCE_TYPE_LINEAR:
		return linear_valid(d) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	case CU_RESOURCE_TYPE_PITCH2D:
		return pitch_valid(d) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_ERROR_INVALID_VALUE;
}

static bool filter_valid(CUfilter_mode mode)
{
	return mode == CU_TR_FILTER_MODE_POINT || mode == CU_TR_FILTER_MODE_LINEAR;
}

static bool texture_valid(const CUDA_TEXTURE_DESC *t)
{
	for (int i = 0; i < 3; i++)
		if ((unsigned int)t->addressMode[i] > CU_TR_ADDRESS_MODE_BORDER)
			return false;
	return filter_valid(t->filterMode) && filter_valid(t->mipmapFilterMode) &&
	       !(t->flags & ~(unsigned int)KNOWN_TEXTURE_FLAGS);
}

/* A view re-reads an array, so there is none of linear memory. */
static bool view_valid(const CUDA_RESOURCE_DESC *d, const CUDA_RESOURCE_VIEW_DESC *v)
{
	return (d->resType == CU_RESOURCE_TYPE_ARRAY ||
		d->resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY) &&
	       (unsigned int)v->format <= CU_RES_VIEW_FORMAT_UNSIGNED_BC7 &&
	       v->firstMipmapLevel <= v->lastMipmapLevel && v->firstLayer <= v->lastLayer;
}

static CUresult new_object(struct sim_handle_set *set, const CUDA_RESOURCE_DESC *resource,
			   struct texture **out)
{
	struct sim_ctx *ctx;
	struct texture *t;
	CUresult r = sim_ctx_current(&ctx);

	if (r == CUDA_SUCCESS)
		r = check_resource(resource);
	if (r != CUDA_SUCCESS)
		return r;
	t = calloc(1, sizeof *t);
	if (!t)
		return CUDA_ERROR_OUT_OF_MEMORY;
	t->ctx_id = ctx->id;
	t->resource = *resource;
	sim_handle_add(set, &t->handle);
	*out = t;
	return CUDA_SUCCESS;
}

static CUresult destroy_object(struct sim_handle_set *set, unsigned long long object)
{
	if (!sim_handle_remove(set, texture_of(object)))
		return CUDA_ERROR_INVALID_VALUE;
	free(texture_of(object));
	return CUDA_SUCCESS;
}

CUresult cuTexObjectCreate(CUtexObject *pTexObject, const CUDA_RESOURCE_DESC *pResDesc,
			   const CUDA_TEXTURE_DESC *pTexDesc,
			   const CUDA_RESOURCE_VIEW_DESC *pResViewDesc)
{
	struct texture *t;
	CUresult r;

	SIM_ENTER();
	if (!pTexObject || !pResDesc || !pTexDesc || !texture_valid(pTexDesc) ||
	    (pResViewDesc && !view_valid(pResDesc, pResViewDesc)))
		return CUDA_ERROR_INVALID_VALUE;
	r = new_object(&textures, pResDesc, &t);
	if (r != CUDA_SUCCESS)
		return r;
	t->texture = *pTexDesc;
	t->has_view = pResViewDesc;
	if (pResViewDesc)
		t->view = *pResViewDesc;
	*pTexObject = (CUtexObject)(uintptr_t)t;
	return CUDA_SUCCESS;
}

CUresult cuTexObjectDestroy(CUtexObject texObject)
{
	SIM_ENTER();
	return destroy_object(&textures, texObject);
}

CUresult cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUtexObject texObject)
{
	SIM_ENTER();
	if (!pResDesc || !sim_handle_live(&textures, texture_of(texObject)))
		return CUDA_ERROR_INVALID_VALUE;
	*pResDesc = texture_of(texObject)->resource;
	return CUDA_SUCCESS;
}

CUresult cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC *pTexDesc, CUtexObject texObject)
{
	SIM_ENTER();
	if (!pTexDesc || !sim_handle_live(&textures, texture_of(texObject)))
		return CUDA_ERROR_INVALID_VALUE;
	*pTexDesc = texture_of(texObject)->texture;
	return CUDA_SUCCESS;
}

CUresult cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC *pResViewDesc,
					CUtexObject texObject)
{
	SIM_ENTER();
	if (!pResViewDesc || !sim_handle_live(&textures, texture_of(texObject)) ||
	    !texture_of(texObject)->has_view)
		return CUDA_ERROR_INVALID_VALUE;
	*pResViewDesc = texture_of(texObject)->view;
	return CUDA_SUCCESS;
}

CUresult cuSurfObjectCreate(CUsurfObject *pSurfObject, const CUDA_RESOURCE_DESC *pResDesc)
{
	struct texture *t;
	CUresult r;

	SIM_ENTER();
	if (!pSurfObject || !pResDesc || pResDesc->resType != CU_RESOURCE_TYPE_ARRAY)
		return CUDA_ERROR_INVALID_VALUE;
	r = new_object(&surfaces, pResDesc, &t);
	if (r == CUDA_SUCCESS)
		*pSurfObject = (CUsurfObject)(uintptr_t)t;
	return r;
}

CUresult cuSurfObjectDestroy(CUsurfObject surfObject)
{
	SIM_ENTER();
	return destroy_object(&surfaces, surfObject);
}

CUresult cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUsurfObject surfObject)
{
	SIM_ENTER();
	if (!pResDesc || !sim_handle_live(&surfaces, texture_of(surfObject)))
		return CUDA_ERROR_INVALID_VALUE;
	*pResDesc = texture_of(surfObject)->resource;
	return CUDA_SUCCESS;
}
