/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: a floor each, while they live; what was in them and what their limits added
 * goes with them. Slice: limit 1 GiB, floor 100 MiB. */
#include "check.h"

/* The header declares only the newest. */
extern CUresult cuCtxCreate_v2(CUcontext *ctx, unsigned flags, CUdevice dev);

#define FLOOR (100 * MIB)

static void check_by_hand(CUdevice dev, size_t start)
{
	CUdeviceptr pointer;
	CUcontext ctx;

	OK(cuCtxCreate_v2(&ctx, 0, dev));
	CHECK_RESULT(check_free(), start - FLOOR);
	OK(cuMemAlloc(&pointer, 10 * MIB));
	CHECK_RESULT(check_free(), start - FLOOR - 10 * MIB);
	OK(cuCtxDestroy(ctx));
	CHECK_RESULT(check_free(), start);
	CHECK(cuCtxDestroy(NULL) != CUDA_SUCCESS);
	CHECK_RESULT(check_free(), start);
}

static void check_limits(size_t start)
{
	size_t heap;

	OK(cuCtxGetLimit(&heap, CU_LIMIT_MALLOC_HEAP_SIZE));
	OK(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, heap + 64 * MIB));
	CHECK_RESULT(check_free(), start - 64 * MIB);
	CHECK_RESULT(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, (size_t)1 << 40),
		     CUDA_ERROR_OUT_OF_MEMORY);
	CHECK_RESULT(check_free(), start - 64 * MIB);
	OK(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, heap));
	CHECK_RESULT(check_free(), start);
	OK(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, heap + 32 * MIB));
}

static void check_primary(CUdevice dev, size_t start)
{
	CUdeviceptr pointer;
	CUcontext ctx;
	unsigned flags;
	int active;

	OK(cuDevicePrimaryCtxRetain(&ctx, dev));
	CHECK_RESULT(check_free(), start);
	check_limits(start);
	OK(cuMemAlloc(&pointer, 50 * MIB));
	CHECK_RESULT(check_free(), start - 82 * MIB);
	OK(cuDevicePrimaryCtxRelease(dev));
	CHECK_RESULT(check_free(), start - 82 * MIB);
	OK(cuDevicePrimaryCtxRelease(dev));
	OK(cuDevicePrimaryCtxGetState(dev, &flags, &active));
	CHECK(!active);
	(void)check_context();
	CHECK_RESULT(check_free(), start);
	OK(cuMemAlloc(&pointer, 50 * MIB));
	OK(cuDevicePrimaryCtxReset(dev));
	(void)check_context();
	CHECK_RESULT(check_free(), start);
}

int main(void)
{
	CUcontext primary = check_context(), ctx;
	CUdeviceptr pointer;
	CUdevice dev;
	size_t start = check_free();

	CHECK_RESULT(start, 1024 * MIB - FLOOR);
	OK(cuCtxGetDevice(&dev));
	check_primary(dev, start);
	primary = check_context();
	check_by_hand(dev, start);
	/* One that does not fit is out of memory, and takes nothing. */
	OK(cuCtxSetCurrent(primary));
	OK(cuMemAlloc(&pointer, start - 50 * MIB));
	CHECK_RESULT(cuCtxCreate_v2(&ctx, 0, dev), CUDA_ERROR_OUT_OF_MEMORY);
	CHECK_RESULT(check_free(), 50 * MIB);
	return 0;
}
