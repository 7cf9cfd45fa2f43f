/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program is told about memory: the driver's answer first, then no more than the
 * slice's. Outputs are written exactly where the driver wrote them: none of them when it
 * fails, and a NULL is the driver's business.
 */
#include "hook.h"

/* Real numbers in, told numbers out; a context that is not of this slice has the real ones
 * (there is none such: it could not be made). */
static void tell(uint64_t *free_bytes, uint64_t *total_bytes)
{
	tr_dev dev;

	if (tr_device_current(&dev, NULL) == CUDA_SUCCESS)
		tr_told_memory(dev, free_bytes, total_bytes);
}

/* The driver is asked with the caller's own pointers, so that it accepts and refuses what
 * it does; what the caller did not ask for is asked for here. */
CUresult cuMemGetInfo_v2(size_t *free_out, size_t *total_out)
{
	size_t free_now, total_now;
	uint64_t free_bytes, total_bytes;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemGetInfo_v2(free_out, total_out);
	res = tr_real.cuMemGetInfo_v2(free_out, total_out);
	if (res == CUDA_SUCCESS && (free_out || total_out)) {
		free_now = free_out ? *free_out : 0;
		total_now = total_out ? *total_out : 0;
		free_bytes = free_now;
		total_bytes = total_now;
		tell(&free_bytes, &total_bytes);
		if (free_out)
			*free_out = (size_t)free_bytes;
		if (total_out)
			*total_out = (size_t)total_bytes;
	}
	tr_leave();
	return res;
}

/* The 32-bit ABI: a slice of more than 4 GiB is as large as its words can say. */
CUresult cuMemGetInfo(unsigned int *free_out, unsigned int *total_out)
{
	uint64_t free_bytes, total_bytes;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemGetInfo(free_out, total_out);
	res = tr_real.cuMemGetInfo(free_out, total_out);
	if (res == CUDA_SUCCESS && (free_out || total_out)) {
		free_bytes = free_out ? *free_out : 0;
		total_bytes = total_out ? *total_out : 0;
		tell(&free_bytes, &total_bytes);
		if (free_out)
			*free_out = (unsigned int)free_bytes;
		if (total_out)
			*total_out = (unsigned int)total_bytes;
	}
	tr_leave();
	return res;
}

static uint64_t told_total(CUdevice ordinal, uint64_t real_bytes)
{
	uint64_t limit;
	tr_dev dev;

	if (tr_device_of(ordinal, &dev) != CUDA_SUCCESS)
		return 0; /* a device of somebody else's: nothing of it is here */
	limit = tr_limit_bytes(dev);
	return real_bytes < limit ? real_bytes : limit;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
	CUresult res;

	if (!tr_enter())
		return tr_real.cuDeviceTotalMem_v2(bytes, dev);
	res = tr_real.cuDeviceTotalMem_v2(bytes, dev);
	if (res == CUDA_SUCCESS && bytes)
		*bytes = (size_t)told_total(dev, *bytes);
	tr_leave();
	return res;
}

CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice dev)
{
	CUresult res;

	if (!tr_enter())
		return tr_real.cuDeviceTotalMem(bytes, dev);
	res = tr_real.cuDeviceTotalMem(bytes, dev);
	if (res == CUDA_SUCCESS && bytes)
		*bytes = (unsigned int)told_total(dev, *bytes);
	tr_leave();
	return res;
}
