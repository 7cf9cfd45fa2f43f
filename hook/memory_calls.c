/* SPDX-License-Identifier: Apache-2.0 */
/* cuMemAlloc and its relatives: one pointer, one charge. */

#include "charge.h"
#include "lock.h"
#include "rt/sat.h"

/* After the driver said RES for what was reserved under CHARGE: keep it as KEY, or give it
 * back. OUT_OF_MEMORY where the driver had it and the table had no room: the caller frees
 * it. */
static CUresult keep(CUresult res, struct tr_charge *charge, uint64_t key)
{
	if (res == CUDA_SUCCESS)
		res = tr_charge_keep(charge, TR_KIND_MEMORY, key);
	tr_charge_refund(charge);
	return res;
}

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
	struct tr_charge charge;
	CUdeviceptr got = 0;
	unsigned tries = 0;
	CUresult res;

	if (!dptr || !bytesize || !tr_enter())
		return tr_real.cuMemAlloc_v2(dptr, bytesize);
	res = tr_charge(&charge, bytesize);
	if (res == CUDA_SUCCESS) {
		do {
			res = tr_real.cuMemAlloc_v2(&got, bytesize);
		} while (tr_charge_should_retry(res, &tries));
		res = keep(res, &charge, got);
		if (res == CUDA_SUCCESS)
			*dptr = got;
		else if (got)
			(void)tr_real.cuMemFree_v2(got);
	}
	tr_leave();
	return res;
}

TR_COLD CUresult cuMemAlloc(CUdeviceptr_v1 *dptr, unsigned int bytesize)
{
	struct tr_charge charge;
	CUdeviceptr_v1 got = 0;
	unsigned tries = 0;
	CUresult res;

	if (!dptr || !bytesize || !tr_enter())
		return tr_real.cuMemAlloc(dptr, bytesize);
	res = tr_charge(&charge, bytesize);
	if (res == CUDA_SUCCESS) {
		do {
			res = tr_real.cuMemAlloc(&got, bytesize);
		} while (tr_charge_should_retry(res, &tries));
		res = keep(res, &charge, got);
		if (res == CUDA_SUCCESS)
			*dptr = got;
		else if (got)
			(void)tr_real.cuMemFree(got);
	}
	tr_leave();
	return res;
}

/* The driver's own error for what it would not look at anyway, whatever the slice has left.
 */
static bool is_element(unsigned int bytes)
{
	return bytes == 4 || bytes == 8 || bytes == 16;
}

TR_COLD CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes,
				    size_t Height, unsigned int ElementSizeBytes)
{
	struct tr_charge charge;
	CUdeviceptr got = 0;
	size_t pitch = 0;
	unsigned tries = 0;
	CUresult res;

	if (!dptr || !pPitch || !WidthInBytes || !Height || !is_element(ElementSizeBytes) ||
	    !tr_enter())
		return tr_real.cuMemAllocPitch_v2(dptr, pPitch, WidthInBytes, Height,
						  ElementSizeBytes);
	res = tr_charge(&charge, tr_sat_mul(WidthInBytes, Height));
	if (res == CUDA_SUCCESS) {
		do {
			res = tr_real.cuMemAllocPitch_v2(&got, &pitch, WidthInBytes, Height,
							 ElementSizeBytes);
		} while (tr_charge_should_retry(res, &tries));
		/* The driver chose the pitch: what it took is charged, not what was
		 * guessed. */
		if (res == CUDA_SUCCESS)
			res = tr_charge_settle(&charge, tr_sat_mul(pitch, Height));
		res = keep(res, &charge, got);
		if (res == CUDA_SUCCESS) {
			*dptr = got;
			*pPitch = pitch;
		} else if (got) {
			(void)tr_real.cuMemFree_v2(got);
		}
	}
	tr_leave();
	return res;
}

TR_COLD CUresult cuMemAllocPitch(CUdeviceptr_v1 *dptr, unsigned int *pPitch,
				 unsigned int WidthInBytes, unsigned int Height,
				 unsigned int ElementSizeBytes)
{
	struct tr_charge charge;
	CUdeviceptr_v1 got = 0;
	unsigned int pitch = 0, tries = 0;
	CUresult res;

	if (!dptr || !pPitch || !WidthInBytes || !Height || !is_element(ElementSizeBytes) ||
	    !tr_enter())
		return tr_real.cuMemAllocPitch(dptr, pPitch, WidthInBytes, Height,
					       ElementSizeBytes);
	res = tr_charge(&charge, tr_sat_mul(WidthInBytes, Height));
	if (res == CUDA_SUCCESS) {
		do {
			res = tr_real.cuMemAllocPitch(&got, &pitch, WidthInBytes, Height,
						      ElementSizeBytes);
		} while (tr_charge_should_retry(res, &tries));
		if (res == CUDA_SUCCESS)
			res = tr_charge_settle(&charge, tr_sat_mul(pitch, Height));
		res = keep(res, &charge, got);
		if (res == CUDA_SUCCESS) {
			*dptr = got;
			*pPitch = pitch;
		} else if (got) {
			(void)tr_real.cuMemFree(got);
		}
	}
	tr_leave();
	return res;
}

/* In full, as if all of it were on the device: how much is there is not known in the
 * process. */
TR_COLD CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t bytesize, unsigned int flags)
{
	struct tr_charge charge;
	CUdeviceptr got = 0;
	unsigned tries = 0;
	CUresult res;

	if (!dptr || !bytesize ||
	    (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST) || !tr_enter())
		return tr_real.cuMemAllocManaged(dptr, bytesize, flags);
	res = tr_charge(&charge, bytesize);
	if (res == CUDA_SUCCESS) {
		do {
			res = tr_real.cuMemAllocManaged(&got, bytesize, flags);
		} while (tr_charge_should_retry(res, &tries));
		res = keep(res, &charge, got);
		if (res == CUDA_SUCCESS)
			*dptr = got;
		else if (got)
			(void)tr_real.cuMemFree_v2(got);
	}
	tr_leave();
	return res;
}

CUresult cuMemFree_v2(CUdeviceptr dptr)
{
	struct tr_release release;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemFree_v2(dptr);
	tr_release_begin(&release, dptr, TR_KIND_MEMORY);
	res = tr_real.cuMemFree_v2(dptr);
	tr_release_end(&release, res);
	tr_leave();
	return res;
}

TR_COLD CUresult cuMemFree(CUdeviceptr_v1 dptr)
{
	struct tr_release release;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemFree(dptr);
	tr_release_begin(&release, dptr, TR_KIND_MEMORY);
	res = tr_real.cuMemFree(dptr);
	tr_release_end(&release, res);
	tr_leave();
	return res;
}
