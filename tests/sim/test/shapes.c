/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of rectangles and volumes land where pitches and offsets say, between every kind
 * of memory; what lies outside an allocation or an array is refused, as is freed memory.
 */

#include <cuda.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "machine.h"

#define SIDE  16u /* of the cubes below, in bytes */
#define BYTES (SIDE * SIDE * SIDE)

static unsigned char cube[BYTES], back[BYTES];
static CUdeviceptr device;
static CUarray solid, layered;

static size_t at(size_t x, size_t y, size_t z)
{
	return (z * SIDE + y) * SIDE + x;
}

static void set_up(void)
{
	CUDA_ARRAY3D_DESCRIPTOR d = {
		SIDE / 4, SIDE, SIDE, CU_AD_FORMAT_UNSIGNED_INT8, 4, 0
	};
	CUcontext ctx;

	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(ctx));
	SUCCEEDS(cuMemAlloc(&device, BYTES));
	SUCCEEDS(cuArray3DCreate(&solid, &d));
	d.Flags = CUDA_ARRAY3D_LAYERED;
	SUCCEEDS(cuArray3DCreate(&layered, &d));
	for (size_t i = 0; i < BYTES; i++)
		cube[i] = (unsigned char)(i * 13 + i / 256);
}

/* A box of 8 x 3 x 2 at (4, 5, 6) of the source goes to (8, 1, 3) of a zeroed destination.
 */
static CUDA_MEMCPY3D box(void)
{
	return (CUDA_MEMCPY3D){
		.srcXInBytes = 4,
		.srcY = 5,
		.srcZ = 6,
		.srcMemoryType = CU_MEMORYTYPE_HOST,
		.srcHost = cube,
		.srcPitch = SIDE,
		.srcHeight = SIDE,
		.dstXInBytes = 8,
		.dstY = 1,
		.dstZ = 3,
		.dstPitch = SIDE,
		.dstHeight = SIDE,
		.WidthInBytes = 8,
		.Height = 3,
		.Depth = 2,
	};
}

static void check_box(const unsigned char *got)
{
	for (size_t z = 0; z < SIDE; z++)
		for (size_t y = 0; y < SIDE; y++)
			for (size_t x = 0; x < SIDE; x++) {
				int inside = x >= 8 && x < 16 && y >= 1 && y < 4 &&
					     z >= 3 && z < 5;
				unsigned char want = inside ? cube[at(x - 4, y + 4, z + 3)]
							    : 0;

				CHECK(got[at(x, y, z)] == want);
			}
}

static CUDA_MEMCPY3D whole_array(CUarray array)
{
	return (CUDA_MEMCPY3D){
		.srcMemoryType = CU_MEMORYTYPE_ARRAY,
		.srcArray = array,
		.dstMemoryType = CU_MEMORYTYPE_HOST,
		.dstHost = back,
		.dstPitch = SIDE,
		.dstHeight = SIDE,
		.WidthInBytes = SIDE,
		.Height = SIDE,
		.Depth = SIDE,
	};
}

static void check_through_device(void)
{
	CUDA_MEMCPY3D c = box();

	SUCCEEDS(cuMemsetD8(device, 0, BYTES));
	c.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
	c.dstDevice = device;
	SUCCEEDS(cuMemcpy3D(&c));
	SUCCEEDS(cuMemcpyDtoH(back, device, BYTES));
	check_box(back);
}

static void check_through_array(CUarray array)
{
	static unsigned char zeros[BYTES];
	CUDA_MEMCPY3D c = whole_array(array);

	c.srcMemoryType = CU_MEMORYTYPE_HOST;
	c.srcHost = zeros;
	c.srcPitch = SIDE;
	c.srcHeight = SIDE;
	c.dstMemoryType = CU_MEMORYTYPE_ARRAY;
	c.dstArray = array;
	SUCCEEDS(cuMemcpy3D(&c));
	c = box();
	c.dstMemoryType = CU_MEMORYTYPE_ARRAY;
	c.dstArray = array;
	SUCCEEDS(cuMemcpy3D(&c));
	memset(back, 0xee, sizeof back);
	c = whole_array(array);
	SUCCEEDS(cuMemcpy3D(&c));
	check_box(back);
}

/* Edges of an array in bytes, rows and slices; elements are four bytes and stay whole. */
static void check_array_bounds(void)
{
	CUDA_MEMCPY3D good = whole_array(solid), c;

	SUCCEEDS(cuMemcpy3D(&good));
	c = good;
	c.srcXInBytes = 4;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(&c));
	c = good;
	c.srcY = 1;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(&c));
	c = good;
	c.srcZ = 1;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(&c));
	c = good;
	c.srcXInBytes = SIZE_MAX - 3;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(&c));
	c = good;
	c.WidthInBytes = 6;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(&c));
	c = good;
	c.srcLOD = 1;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(&c));
	c = good;
	c.reserved0 = &c;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(&c));
	c = good;
	c.dstPitch = SIDE - 1;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(&c));
	c = good;
	c.srcMemoryType = (CUmemorytype)9;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D(&c));
	c = good;
	c.srcArray = (CUarray)(void *)back;
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuMemcpy3D(&c));
	c = good;
	c.Depth = 0;
	SUCCEEDS(cuMemcpy3D(&c));
}

static void check_device_bounds(void)
{
	SUCCEEDS(cuMemcpyHtoD(device + BYTES - 4, cube, 4));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(device + BYTES - 4, cube, 5));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(device, cube, SIZE_MAX));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(0, cube, 1));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(device, NULL, 1));
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuMemcpyDtoD(device, (CUdeviceptr)(uintptr_t)cube, 4));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D(NULL));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuMemcpyAtoH(back, NULL, 0, 1));
	SUCCEEDS(cuMemcpyHtoD(device, cube, 0));
	/* Unified: host memory on both sides is no error. */
	SUCCEEDS(cuMemcpy((CUdeviceptr)(uintptr_t)back, (CUdeviceptr)(uintptr_t)cube,
			  BYTES));
	CHECK(memcmp(back, cube, BYTES) == 0);
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuMemcpy((CUdeviceptr)(uintptr_t)back, device + BYTES - 4, 5));
}

static void check_freed(size_t bytes)
{
	CUdeviceptr p;

	SUCCEEDS(cuMemAlloc(&p, bytes));
	SUCCEEDS(cuMemcpyDtoH(back, p, 16));
	SUCCEEDS(cuMemFree(p));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH(back, p, 16));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD(p, back, 16));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemsetD8(p, 0, 16));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpy((CUdeviceptr)(uintptr_t)back, p, 16));
}

/* A bad copy in a batch: nothing of the batch happens. */
static void check_batch(void)
{
	CUdeviceptr to[2] = { device, device + BYTES };
	CUdeviceptr from[2] = { (CUdeviceptr)(uintptr_t)cube,
				(CUdeviceptr)(uintptr_t)cube };
	CUmemcpyAttributes attr = { .srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM };
	size_t sizes[2] = { 16, 16 }, first = 0;
	CUstream stream;

	SUCCEEDS(cuStreamCreate(&stream, 0));
	SUCCEEDS(cuMemsetD8(device, 0, BYTES));
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuMemcpyBatchAsync(to, from, sizes, 2, &attr, &first, 1, stream));
	SUCCEEDS(cuMemcpyDtoH(back, device, 16));
	for (int i = 0; i < 16; i++)
		CHECK(back[i] == 0);
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuMemcpyBatchAsync(to, from, sizes, 1, &attr, &first, 1, NULL));
	attr.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_INVALID;
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuMemcpyBatchAsync(to, from, sizes, 1, &attr, &first, 1, stream));
	SUCCEEDS(cuStreamDestroy(stream));
}

int main(void)
{
	machine_prepare("h100", "own");
	ANSWERS(CUDA_ERROR_NOT_INITIALIZED, cuMemcpyHtoD(1, cube, 1));
	set_up();
	check_through_device();
	check_through_array(solid);
	check_through_array(layered);
	check_array_bounds();
	check_device_bounds();
	check_freed(64);
	check_freed(4u << 20);
	check_batch();
	return 0;
}
