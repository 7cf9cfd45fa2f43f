/* SPDX-License-Identifier: Apache-2.0 */
/* Host memory is no part of the slice and is never refused: only told, as `pinned`. */

#include "charge.h"
#include "rt/sat.h"

/* A table that has no room costs the metric, nothing else. */
static void count(enum tr_kind kind, const void *p, uint64_t bytes)
{
	struct tr_object old, object = { .kind = kind };
	CUcontext ctx = NULL;
	tr_dev dev;

	object.bytes = tr_sat_round_up(bytes, TR_UNIT_BYTES);
	if (tr_device_current(&dev, &ctx) == CUDA_SUCCESS)
		object.owner = tr_charge_owner(ctx, dev);
	switch (tr_objects_put((uint64_t)(uintptr_t)p, &object, &old)) {
	case 1:
		tr_object_discharge(&old);
		tr_pinned_add(object.bytes);
		break;
	case 0:
		tr_pinned_add(object.bytes);
		break;
	default:
		break;
	}
}

CUresult cuMemAllocHost_v2(void **pp, size_t bytesize)
{
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemAllocHost_v2(pp, bytesize);
	res = tr_real.cuMemAllocHost_v2(pp, bytesize);
	if (res == CUDA_SUCCESS)
		count(TR_KIND_PINNED, *pp, bytesize);
	tr_leave();
	return res;
}

CUresult cuMemAllocHost(void **pp, unsigned int bytesize)
{
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemAllocHost(pp, bytesize);
	res = tr_real.cuMemAllocHost(pp, bytesize);
	if (res == CUDA_SUCCESS)
		count(TR_KIND_PINNED, *pp, bytesize);
	tr_leave();
	return res;
}

CUresult cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags)
{
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemHostAlloc(pp, bytesize, Flags);
	res = tr_real.cuMemHostAlloc(pp, bytesize, Flags);
	if (res == CUDA_SUCCESS)
		count(TR_KIND_PINNED, *pp, bytesize);
	tr_leave();
	return res;
}

CUresult cuMemFreeHost(void *p)
{
	struct tr_release release;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemFreeHost(p);
	tr_release_begin(&release, (uint64_t)(uintptr_t)p, TR_KIND_PINNED);
	res = tr_real.cuMemFreeHost(p);
	tr_release_end(&release, res);
	tr_leave();
	return res;
}

CUresult cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags)
{
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemHostRegister_v2(p, bytesize, Flags);
	res = tr_real.cuMemHostRegister_v2(p, bytesize, Flags);
	if (res == CUDA_SUCCESS)
		count(TR_KIND_REGISTERED, p, bytesize);
	tr_leave();
	return res;
}

CUresult cuMemHostRegister(void *p, size_t bytesize, unsigned int Flags)
{
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemHostRegister(p, bytesize, Flags);
	res = tr_real.cuMemHostRegister(p, bytesize, Flags);
	if (res == CUDA_SUCCESS)
		count(TR_KIND_REGISTERED, p, bytesize);
	tr_leave();
	return res;
}

CUresult cuMemHostUnregister(void *p)
{
	struct tr_release release;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemHostUnregister(p);
	tr_release_begin(&release, (uint64_t)(uintptr_t)p, TR_KIND_REGISTERED);
	res = tr_real.cuMemHostUnregister(p);
	tr_release_end(&release, res);
	tr_leave();
	return res;
}
