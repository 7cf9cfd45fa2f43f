/* SPDX-License-Identifier: Apache-2.0 */
/* Host memory is no part of the slice and is never refused: only told, as `pinned`. */

#include "charge.h"
#include "rt/sat.h"

/* The end of a call that has made *PP, if it has. A table that has no room costs the metric, nothing
 * else. */
static CUresult counted(CUresult res, enum tr_kind kind, void *const *pp, uint64_t bytes)
{
	struct tr_object old, object = { .kind = kind };
	CUcontext ctx = NULL;
	tr_dev dev;
	int r = -1;

	object.bytes = tr_sat_round_up(bytes, TR_UNIT_BYTES);
	if (tr_device_current(&dev, &ctx) == CUDA_SUCCESS)
		object.owner = tr_charge_owner(ctx, dev);
	if (res == CUDA_SUCCESS)
		r = tr_objects_put((uint64_t)(uintptr_t)*pp, &object, &old);
	if (r == 1)
		tr_object_discharge(&old);
	if (r >= 0)
		tr_pinned_add(object.bytes);
	tr_leave();
	return res;
}

CUresult cuMemAllocHost_v2(void **pp, size_t bytesize)
{
	bool is_entered = tr_enter();
	CUresult res = tr_real.cuMemAllocHost_v2(pp, bytesize);

	return is_entered ? counted(res, TR_KIND_PINNED, pp, bytesize) : res;
}

CUresult cuMemAllocHost(void **pp, unsigned int bytesize)
{
	bool is_entered = tr_enter();
	CUresult res = tr_real.cuMemAllocHost(pp, bytesize);

	return is_entered ? counted(res, TR_KIND_PINNED, pp, bytesize) : res;
}

CUresult cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags)
{
	bool is_entered = tr_enter();
	CUresult res = tr_real.cuMemHostAlloc(pp, bytesize, Flags);

	return is_entered ? counted(res, TR_KIND_PINNED, pp, bytesize) : res;
}

static CUresult release(CUresult (*driver)(void *), void *p, enum tr_kind kind)
{
	struct tr_release release;
	CUresult res;

	if (!tr_enter())
		return driver(p);
	tr_release_begin(&release, (uint64_t)(uintptr_t)p, kind);
	res = driver(p);
	tr_release_end(&release, res);
	tr_leave();
	return res;
}

CUresult cuMemFreeHost(void *p)
{
	return release(tr_real.cuMemFreeHost, p, TR_KIND_PINNED);
}

CUresult cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags)
{
	bool is_entered = tr_enter();
	CUresult res = tr_real.cuMemHostRegister_v2(p, bytesize, Flags);

	return is_entered ? counted(res, TR_KIND_REGISTERED, &p, bytesize) : res;
}

CUresult cuMemHostRegister(void *p, size_t bytesize, unsigned int Flags)
{
	bool is_entered = tr_enter();
	CUresult res = tr_real.cuMemHostRegister(p, bytesize, Flags);

	return is_entered ? counted(res, TR_KIND_REGISTERED, &p, bytesize) : res;
}

CUresult cuMemHostUnregister(void *p)
{
	return release(tr_real.cuMemHostUnregister, p, TR_KIND_REGISTERED);
}
