/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays: opaque tiles. The driver tells their size only for arrays whose memory the caller
 * maps, so a twin of that kind, which takes no memory, is asked before the real one is
 * made. */

#include "array_size.h"
#include "charge.h"
#include "vmm.h"

#define OWN_MEMORY_NOT (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)

static uint64_t ask_array(const CUDA_ARRAY3D_DESCRIPTOR *desc, CUdevice ordinal)
{
	CUDA_ARRAY_MEMORY_REQUIREMENTS needs = { 0 };
	CUDA_ARRAY3D_DESCRIPTOR twin = *desc;
	CUarray array = NULL;
	uint64_t bytes = 0;

	if (!tr_real.cuArrayGetMemoryRequirements || !tr_real.cuArray3DCreate_v2)
		return 0;
	twin.Flags |= CUDA_ARRAY3D_DEFERRED_MAPPING;
	if (tr_real.cuArray3DCreate_v2(&array, &twin) != CUDA_SUCCESS)
		return 0;
	if (tr_real.cuArrayGetMemoryRequirements(&needs, array, ordinal) == CUDA_SUCCESS)
		bytes = needs.size;
	(void)tr_real.cuArrayDestroy(array);
	return bytes;
}

static uint64_t ask_mipmap(const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned levels,
			   CUdevice ordinal)
{
	CUDA_ARRAY_MEMORY_REQUIREMENTS needs = { 0 };
	CUDA_ARRAY3D_DESCRIPTOR twin = *desc;
	CUmipmappedArray mipmap = NULL;
	uint64_t bytes = 0;

	if (!tr_real.cuMipmappedArrayGetMemoryRequirements ||
	    !tr_real.cuMipmappedArrayCreate)
		return 0;
	twin.Flags |= CUDA_ARRAY3D_DEFERRED_MAPPING;
	if (tr_real.cuMipmappedArrayCreate(&mipmap, &twin, levels) != CUDA_SUCCESS)
		return 0;
	if (tr_real.cuMipmappedArrayGetMemoryRequirements(&needs, mipmap, ordinal) ==
	    CUDA_SUCCESS)
		bytes = needs.size;
	(void)tr_real.cuMipmappedArrayDestroy(mipmap);
	return bytes;
}

/* Reserves what DESC takes; LEVELS 0: a plain array. Charges nothing for what the driver
 * refuses. */
static CUresult charge_array(struct tr_charge *charge, const CUDA_ARRAY3D_DESCRIPTOR *desc,
			     unsigned levels)
{
	CUdevice ordinal = 0;
	uint64_t bytes = 0;

	*charge = (struct tr_charge){ 0 };
	if (tr_real.cuCtxGetDevice && tr_real.cuCtxGetDevice(&ordinal) == CUDA_SUCCESS)
		bytes = levels ? ask_mipmap(desc, levels, ordinal)
			       : ask_array(desc, ordinal);
	if (!bytes)
		bytes = tr_array_bytes_max(desc, levels ? levels : 1);
	return tr_charge(charge, bytes);
}

static bool is_charged(const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	return !(desc->Flags & OWN_MEMORY_NOT);
}

/* The four ways to say the same, and the real function of each. */
struct array_order {
	CUDA_ARRAY3D_DESCRIPTOR desc;
	const CUDA_ARRAY_DESCRIPTOR_v1 *flat_v1;
	const CUDA_ARRAY_DESCRIPTOR *flat;
	const CUDA_ARRAY3D_DESCRIPTOR_v1 *solid_v1;
	const CUDA_ARRAY3D_DESCRIPTOR *solid;
};

static CUresult create_real(CUarray *out, const struct array_order *o)
{
	if (o->flat_v1)
		return tr_real.cuArrayCreate(out, o->flat_v1);
	if (o->flat)
		return tr_real.cuArrayCreate_v2(out, o->flat);
	if (o->solid_v1)
		return tr_real.cuArray3DCreate(out, o->solid_v1);
	return tr_real.cuArray3DCreate_v2(out, o->solid);
}

static CUresult create_array(CUarray *out, const struct array_order *o)
{
	struct tr_charge charge;
	CUarray got = NULL;
	unsigned tries = 0;
	CUresult res;

	if (!out || !is_charged(&o->desc) || !tr_enter())
		return create_real(out, o);
	res = charge_array(&charge, &o->desc, 0);
	if (res == CUDA_SUCCESS) {
		do {
			res = create_real(&got, o);
		} while (tr_charge_should_retry(res, &tries));
		if (res == CUDA_SUCCESS)
			res = tr_charge_keep(&charge, TR_KIND_ARRAY,
					     (uint64_t)(uintptr_t)got);
		tr_charge_refund(&charge);
		if (res == CUDA_SUCCESS)
			*out = got;
		else if (got)
			(void)tr_real.cuArrayDestroy(got);
	}
	tr_leave();
	return res;
}

#define SOLID(d)                                                                 \
	{                                                                        \
		.Width = (d)->Width, .Height = (d)->Height, .Depth = (d)->Depth, \
		.Format = (d)->Format, .NumChannels = (d)->NumChannels,          \
		.Flags = (d)->Flags,                                             \
	}
#define FLAT(d)                                                                    \
	{                                                                          \
		.Width = (d)->Width, .Height = (d)->Height, .Format = (d)->Format, \
		.NumChannels = (d)->NumChannels,                                   \
	}

CUresult cuArrayCreate(CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR_v1 *pAllocateArray)
{
	if (!pAllocateArray)
		return tr_real.cuArrayCreate(pHandle, pAllocateArray);
	return create_array(pHandle, &(struct array_order){ .desc = FLAT(pAllocateArray),
							    .flat_v1 = pAllocateArray });
}

CUresult cuArrayCreate_v2(CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR *pAllocateArray)
{
	if (!pAllocateArray)
		return tr_real.cuArrayCreate_v2(pHandle, pAllocateArray);
	return create_array(pHandle, &(struct array_order){ .desc = FLAT(pAllocateArray),
							    .flat = pAllocateArray });
}

CUresult cuArray3DCreate(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR_v1 *pAllocateArray)
{
	if (!pAllocateArray)
		return tr_real.cuArray3DCreate(pHandle, pAllocateArray);
	return create_array(pHandle, &(struct array_order){ .desc = SOLID(pAllocateArray),
							    .solid_v1 = pAllocateArray });
}

CUresult cuArray3DCreate_v2(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *pAllocateArray)
{
	if (!pAllocateArray)
		return tr_real.cuArray3DCreate_v2(pHandle, pAllocateArray);
	return create_array(pHandle, &(struct array_order){ .desc = SOLID(pAllocateArray),
							    .solid = pAllocateArray });
}

CUresult cuArrayDestroy(CUarray hArray)
{
	struct tr_release release;
	uint32_t began;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuArrayDestroy(hArray);
	tr_release_begin(&release, (uint64_t)(uintptr_t)hArray, TR_KIND_ARRAY);
	began = tr_vmm_unmap_begin();
	res = tr_real.cuArrayDestroy(hArray);
	tr_release_end(&release, res);
	if (res == CUDA_SUCCESS)
		tr_vmm_space_gone(began, tr_vmm_space_of_array(hArray));
	tr_leave();
	return res;
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *pHandle,
				const CUDA_ARRAY3D_DESCRIPTOR *pMipmappedArrayDesc,
				unsigned int numMipmapLevels)
{
	struct tr_charge charge;
	CUmipmappedArray got = NULL;
	unsigned tries = 0;
	CUresult res;

	if (!pHandle || !pMipmappedArrayDesc || !numMipmapLevels ||
	    !is_charged(pMipmappedArrayDesc) || !tr_enter())
		return tr_real.cuMipmappedArrayCreate(pHandle, pMipmappedArrayDesc,
						      numMipmapLevels);
	res = charge_array(&charge, pMipmappedArrayDesc, numMipmapLevels);
	if (res == CUDA_SUCCESS) {
		do {
			res = tr_real.cuMipmappedArrayCreate(&got, pMipmappedArrayDesc,
							     numMipmapLevels);
		} while (tr_charge_should_retry(res, &tries));
		if (res == CUDA_SUCCESS)
			res = tr_charge_keep(&charge, TR_KIND_MIPMAP,
					     (uint64_t)(uintptr_t)got);
		tr_charge_refund(&charge);
		if (res == CUDA_SUCCESS)
			*pHandle = got;
		else if (got)
			(void)tr_real.cuMipmappedArrayDestroy(got);
	}
	tr_leave();
	return res;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray hMipmappedArray)
{
	struct tr_release release;
	uint32_t began;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMipmappedArrayDestroy(hMipmappedArray);
	tr_release_begin(&release, (uint64_t)(uintptr_t)hMipmappedArray, TR_KIND_MIPMAP);
	began = tr_vmm_unmap_begin();
	res = tr_real.cuMipmappedArrayDestroy(hMipmappedArray);
	tr_release_end(&release, res);
	if (res == CUDA_SUCCESS)
		tr_vmm_space_gone(began, tr_vmm_space_of_array(hMipmappedArray));
	tr_leave();
	return res;
}
