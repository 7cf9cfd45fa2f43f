/* SPDX-License-Identifier: Apache-2.0 */
/* Texture references, the form before objects: kept only as what was set on them. */

#include <stdlib.h>

#include "array.h"

struct CUtexref_st {
	struct sim_handle handle;
	CUDA_TEXTURE_DESC desc;
	CUarray_format format;
	int channels;
	CUdeviceptr address;
	CUarray array;
	CUmipmappedArray mipmap;
};

SIM_HANDLE_SET(texrefs);

static bool is_live(CUtexref ref)
{
	return sim_handle_live(&texrefs, ref);
}

CUresult cuTexRefCreate(CUtexref *pTexRef)
{
	CUtexref ref;

	SIM_ENTER();
	if (!pTexRef)
		return CUDA_ERROR_INVALID_VALUE;
	ref = calloc(1, sizeof *ref);
	if (!ref)
		return CUDA_ERROR_OUT_OF_MEMORY;
	ref->format = CU_AD_FORMAT_FLOAT;
	ref->channels = 1;
	for (int i = 0; i < 3; i++)
		ref->desc.addressMode[i] = CU_TR_ADDRESS_MODE_CLAMP;
	sim_handle_add(&texrefs, &ref->handle);
	*pTexRef = ref;
	return CUDA_SUCCESS;
}

CUresult cuTexRefDestroy(CUtexref hTexRef)
{
	SIM_ENTER();
	if (!sim_handle_remove(&texrefs, hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	free(hTexRef);
	return CUDA_SUCCESS;
}

/* ---- what it reads ----------------------------------------------------------------- */

static void bind_nothing(CUtexref ref)
{
	ref->address = 0;
	ref->array = NULL;
	ref->mipmap = NULL;
}

CUresult cuTexRefSetArray(CUtexref hTexRef, CUarray hArray, unsigned int Flags)
{
	SIM_ENTER();
	if (!is_live(hTexRef) || !array_is_live(hArray))
		return CUDA_ERROR_INVALID_HANDLE;
	if (Flags != CU_TRSA_OVERRIDE_FORMAT)
		return CUDA_ERROR_INVALID_VALUE;
	bind_nothing(hTexRef);
	hTexRef->array = hArray;
	hTexRef->format = hArray->desc.Format;
	hTexRef->channels = (int)hArray->desc.NumChannels;
	return CUDA_SUCCESS;
}

CUresult cuTexRefSetMipmappedArray(CUtexref hTexRef, CUmipmappedArray hMipmappedArray,
				   unsigned int Flags)
{
	SIM_ENTER();
	if (!is_live(hTexRef) || !mipmap_is_live(hMipmappedArray))
		return CUDA_ERROR_INVALID_HANDLE;
	if (Flags != CU_TRSA_OVERRIDE_FORMAT)
		return CUDA_ERROR_INVALID_VALUE;
	bind_nothing(hTexRef);
	hTexRef->mipmap = hMipmappedArray;
	hTexRef->format = hMipmappedArray->desc.Format;
	hTexRef->channels = (int)hMipmappedArray->desc.NumChannels;
	return CUDA_SUCCESS;
}

/* Every address of an allocation is aligned well enough, so the offset is always 0. */
static CUresult set_address(CUtexref ref, CUdeviceptr p, size_t bytes)
{
	struct sim_range range;

	if (!is_live(ref))
		return CUDA_ERROR_INVALID_HANDLE;
	if (p && (p % 512 || !sim_mem_find(p, bytes, &range)))
		return CUDA_ERROR_INVALID_VALUE;
	bind_nothing(ref);
	ref->address = p;
	return CUDA_SUCCESS;
}

CUresult cuTexRefSetAddress(unsigned int *ByteOffset, CUtexref hTexRef, CUdeviceptr_v1 dptr,
			    unsigned int bytes)
{
	CUresult r;

	SIM_ENTER();
	r = set_address(hTexRef, dptr, bytes);
	if (r == CUDA_SUCCESS && ByteOffset)
		*ByteOffset = 0;
	return r;
}

CUresult cuTexRefSetAddress_v2(size_t *ByteOffset, CUtexref hTexRef, CUdeviceptr dptr,
			       size_t bytes)
{
	CUresult r;

	SIM_ENTER();
	r = set_address(hTexRef, dptr, bytes);
	if (r == CUDA_SUCCESS && ByteOffset)
		*ByteOffset = 0;
	return r;
}

static CUresult set_address_2d(CUtexref ref, CUarray_format format, unsigned int channels,
			       size_t height, CUdeviceptr p, size_t pitch)
{
	const struct array_format *known = array_format_find(format);
	size_t bytes;
	CUresult r;

	if (!known || known->channels || !channels || channels > 4 || pitch % 32 ||
	    __builtin_mul_overflow(height, pitch, &bytes))
		return CUDA_ERROR_INVALID_VALUE;
	r = set_address(ref, p, bytes);
	if (r == CUDA_SUCCESS) {
		ref->format = format;
		ref->channels = (int)channels;
	}
	return r;
}

CUresult cuTexRefSetAddress2D(CUtexref hTexRef, const CUDA_ARRAY_DESCRIPTOR_v1 *desc,
			      CUdeviceptr_v1 dptr, unsigned int Pitch)
{
	SIM_ENTER();
	return desc ? set_address_2d(hTexRef, desc->Format, desc->NumChannels, desc->Height,
				     dptr, Pitch)
		    : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuTexRefSetAddress2D_v2(CUtexref hTexRef, const CUDA_ARRAY_DESCRIPTOR *desc,
				 CUdeviceptr dptr, size_t Pitch)
{
	SIM_ENTER();
	return desc ? set_address_2d(hTexRef, desc->Format, desc->NumChannels, desc->Height,
				     dptr, Pitch)
		    : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuTexRefSetAddress2D_v3(CUtexref hTexRef, const CUDA_ARRAY_DESCRIPTOR *desc,
				 CUdeviceptr dptr, size_t Pitch)
{
	SIM_ENTER();
	return desc ? set_address_2d(hTexRef, desc->Format, desc->NumChannels, desc->Height,
				     dptr, Pitch)
		    : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuTexRefGetAddress(CUdeviceptr_v1 *pdptr, CUtexref hTexRef)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!pdptr || !hTexRef->address)
		return CUDA_ERROR_INVALID_VALUE;
	*pdptr = (CUdeviceptr_v1)hTexRef->address;
	return CUDA_SUCCESS;
}

CUresult cuTexRefGetAddress_v2(CUdeviceptr *pdptr, CUtexref hTexRef)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!pdptr || !hTexRef->address)
		return CUDA_ERROR_INVALID_VALUE;
	*pdptr = hTexRef->address;
	return CUDA_SUCCESS;
}

CUresult cuTexRefGetArray(CUarray *phArray, CUtexref hTexRef)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!phArray || !hTexRef->array)
		return CUDA_ERROR_INVALID_VALUE;
	*phArray = hTexRef->array;
	return CUDA_SUCCESS;
}

CUresult cuTexRefGetMipmappedArray(CUmipmappedArray *phMipmappedArray, CUtexref hTexRef)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!phMipmappedArray || !hTexRef->mipmap)
		return CUDA_ERROR_INVALID_VALUE;
	*phMipmappedArray = hTexRef->mipmap;
	return CUDA_SUCCESS;
}

/* ---- how it reads ------------------------------------------------------------------ */

CUresult cuTexRefSetFormat(CUtexref hTexRef, CUarray_format fmt, int NumPackedComponents)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!array_format_find(fmt) || NumPackedComponents < 1 || NumPackedComponents > 4)
		return CUDA_ERROR_INVALID_VALUE;
	hTexRef->format = fmt;
	hTexRef->channels = NumPackedComponents;
	return CUDA_SUCCESS;
}

CUresult cuTexRefGetFormat(CUarray_format *pFormat, int *pNumChannels, CUtexref hTexRef)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!pFormat || !pNumChannels)
		return CUDA_ERROR_INVALID_VALUE;
	*pFormat = hTexRef->format;
	*pNumChannels = hTexRef->channels;
	return CUDA_SUCCESS;
}

CUresult cuTexRefSetAddressMode(CUtexref hTexRef, int dim, CUaddress_mode am)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	if (dim < 0 || dim > 2 || (unsigned int)am > CU_TR_ADDRESS_MODE_BORDER)
		return CUDA_ERROR_INVALID_VALUE;
	hTexRef->desc.addressMode[dim] = am;
	return CUDA_SUCCESS;
}

CUresult cuTexRefGetAddressMode(CUaddress_mode *pam, CUtexref hTexRef, int dim)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!pam || dim < 0 || dim > 2)
		return CUDA_ERROR_INVALID_VALUE;
	*pam = hTexRef->desc.addressMode[dim];
	return CUDA_SUCCESS;
}

static bool is_any(int value)
{
	(void)value;
	return true;
}

static bool is_filter(int value)
{
	return value == CU_TR_FILTER_MODE_POINT || value == CU_TR_FILTER_MODE_LINEAR;
}

/* One settable field: VALID judges the value as an int. */
#define FIELD(setter, getter, type, field, valid)         \
	CUresult setter(CUtexref hTexRef, type value)     \
	{                                                 \
		SIM_ENTER();                              \
		if (!is_live(hTexRef))                    \
			return CUDA_ERROR_INVALID_HANDLE; \
		if (!valid((int)value))                   \
			return CUDA_ERROR_INVALID_VALUE;  \
		hTexRef->desc.field = value;              \
		return CUDA_SUCCESS;                      \
	}                                                 \
	GETTER(getter, type, field)
#define GETTER(getter, type, field)                       \
	CUresult getter(type *value, CUtexref hTexRef)    \
	{                                                 \
		SIM_ENTER();                              \
		if (!is_live(hTexRef))                    \
			return CUDA_ERROR_INVALID_HANDLE; \
		if (!value)                               \
			return CUDA_ERROR_INVALID_VALUE;  \
		*value = (type)hTexRef->desc.field;       \
		return CUDA_SUCCESS;                      \
	}

/* clang-format off */
FIELD(cuTexRefSetFilterMode, cuTexRefGetFilterMode, CUfilter_mode, filterMode, is_filter)
FIELD(cuTexRefSetMipmapFilterMode, cuTexRefGetMipmapFilterMode, CUfilter_mode, mipmapFilterMode, is_filter)
FIELD(cuTexRefSetMipmapLevelBias, cuTexRefGetMipmapLevelBias, float, mipmapLevelBias, is_any)
FIELD(cuTexRefSetFlags, cuTexRefGetFlags, unsigned int, flags, is_any)
GETTER(cuTexRefGetMaxAnisotropy, int, maxAnisotropy)
/* clang-format on */

CUresult cuTexRefSetMaxAnisotropy(CUtexref hTexRef, unsigned int maxAniso)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	hTexRef->desc.maxAnisotropy = maxAniso;
	return CUDA_SUCCESS;
}

CUresult cuTexRefSetMipmapLevelClamp(CUtexref hTexRef, float least, float most)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	hTexRef->desc.minMipmapLevelClamp = least;
	hTexRef->desc.maxMipmapLevelClamp = most;
	return CUDA_SUCCESS;
}

CUresult cuTexRefGetMipmapLevelClamp(float *least, float *most, CUtexref hTexRef)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!least || !most)
		return CUDA_ERROR_INVALID_VALUE;
	*least = hTexRef->desc.minMipmapLevelClamp;
	*most = hTexRef->desc.maxMipmapLevelClamp;
	return CUDA_SUCCESS;
}

CUresult cuTexRefSetBorderColor(CUtexref hTexRef, float *pBorderColor)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!pBorderColor)
		return CUDA_ERROR_INVALID_VALUE;
	for (int i = 0; i < 4; i++)
		hTexRef->desc.borderColor[i] = pBorderColor[i];
	return CUDA_SUCCESS;
}

CUresult cuTexRefGetBorderColor(float *pBorderColor, CUtexref hTexRef)
{
	SIM_ENTER();
	if (!is_live(hTexRef))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!pBorderColor)
		return CUDA_ERROR_INVALID_VALUE;
	for (int i = 0; i < 4; i++)
		pBorderColor[i] = hTexRef->desc.borderColor[i];
	return CUDA_SUCCESS;
}
