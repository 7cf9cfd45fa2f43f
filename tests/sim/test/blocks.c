/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuMemAlloc and its family: 2 MiB blocks shared by small allocations, pitch, the exact end
 * of the device, addresses of the 32-bit ABIs, host memory, and what pointers say about
 * themselves.
 */

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "machine.h"
#include "truth.h"

static CUcontext ctx;

static void share_blocks(void)
{
	CUdeviceptr p[5];
	size_t n;

	SUCCEEDS(cuMemAlloc_v2(&p[0], 1));
	TRUTH(RM_BLOCK, 2 * MIB, 512, 1);
	SUCCEEDS(cuMemAlloc_v2(&p[1], 513));
	CHECK(p[1] % 512 == 0);
	TRUTH(RM_BLOCK, 2 * MIB, 512 + 1024, 2);
	SUCCEEDS(cuMemAlloc_v2(&p[2], MIB)); /* the last that shares */
	TRUTH(RM_BLOCK, 2 * MIB, MIB + 1536, 3);
	SUCCEEDS(cuMemAlloc_v2(&p[3], MIB)); /* no room left in the block */
	TRUTH(RM_BLOCK, 4 * MIB, 2 * MIB + 1536, 4);
	SUCCEEDS(cuMemAlloc_v2(&p[4], MIB + 1)); /* one of its own */
	TRUTH(RM_BLOCK, 6 * MIB, 3 * MIB + 2048, 5);

	SUCCEEDS(cuMemGetAddressRange_v2(NULL, &n, p[1] + 512));
	CHECK(n == 513);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(p[1] + 512));
	SUCCEEDS(cuMemFree_v2(p[3])); /* its block is empty: back at once */
	TRUTH(RM_BLOCK, 4 * MIB, 2 * MIB + 2048, 4);
	for (int i = 0; i < 5; i++)
		if (i != 3)
			SUCCEEDS(cuMemFree_v2(p[i]));
	TRUTH(RM_BLOCK, 0, 0, 0);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(p[0]));
	ANSWERS(CUDA_ERROR_NOT_FOUND, cuMemGetAddressRange_v2(NULL, NULL, p[0]));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(&p[0], 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(NULL, 1));
	ANSWERS(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&p[0], (size_t)-1));
}

static void keep_bytes(void)
{
	CUdeviceptr p, q;

	SUCCEEDS(cuMemAlloc_v2(&p, 4096));
	SUCCEEDS(cuMemAlloc_v2(&q, 5 * MIB));
	memset((void *)(uintptr_t)p, 1, 4096);
	memset((void *)(uintptr_t)q, 2, 5 * MIB);
	CHECK(((char *)(uintptr_t)p)[4095] == 1);
	SUCCEEDS(cuMemFree_v2(q));
	SUCCEEDS(cuMemFree_v2(p));
}

static void pitch_rows(void)
{
	CUdeviceptr p;
	size_t pitch;

	SUCCEEDS(cuMemAllocPitch_v2(&p, &pitch, 1000, 3000, 4));
	CHECK(pitch == 1024);
	TRUTH(RM_BLOCK, 4 * MIB, 1024 * 3000, 1);
	SUCCEEDS(cuMemFree_v2(p));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemAllocPitch_v2(&p, &pitch, 1000, 10, 3));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemAllocPitch_v2(&p, &pitch, 0, 10, 4));
	ANSWERS(CUDA_ERROR_OUT_OF_MEMORY,
		cuMemAllocPitch_v2(&p, &pitch, (size_t)1 << 40, 1u << 30, 4));
}

static void reach_the_end(void)
{
	CUdeviceptr all, p;
	size_t free_bytes, total, left;

	SUCCEEDS(cuMemGetInfo_v2(&free_bytes, &total));
	CHECK(free_bytes < total && free_bytes > 0);
	ANSWERS(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&all, free_bytes + 2 * MIB));
	SUCCEEDS(cuMemAlloc_v2(&all, free_bytes / (2 * MIB) * (2 * MIB)));
	SUCCEEDS(cuMemGetInfo_v2(&left, NULL));
	CHECK(left < 2 * MIB);
	ANSWERS(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&p, 1));
	SUCCEEDS(cuMemFree_v2(all));
	SUCCEEDS(cuMemAlloc_v2(&p, 1));
	SUCCEEDS(cuMemFree_v2(p));
	SUCCEEDS(cuMemGetInfo_v2(&left, NULL));
	CHECK(left == free_bytes);
	SUCCEEDS(cuMemGetInfo_v2(NULL, NULL));
}

static void old_abis(void)
{
	unsigned free_bytes, total, pitch, n;
	CUdeviceptr_v1 p, q, base;

	SUCCEEDS(cuMemGetInfo(&free_bytes, &total));
	CHECK(total == 0xffffffffu); /* the device has more than fits */
	SUCCEEDS(cuMemAlloc(&p, 100));
	SUCCEEDS(cuMemAllocPitch(&q, &pitch, 100, 10, 4));
	CHECK(pitch == 512 && q % 512 == 0);
	memset((void *)(uintptr_t)p, 7, 100); /* really at a 32-bit address */
	TRUTH(RM_BLOCK, 4 * MIB, 512 + 5120, 2);
	SUCCEEDS(cuMemGetAddressRange(&base, &n, p + 50));
	CHECK(base == p && n == 100);
	SUCCEEDS(cuMemFree(p));
	SUCCEEDS(cuMemFree_v2(q));
	TRUTH(RM_BLOCK, 0, 0, 0);
}

static void pin_host_memory(void)
{
	static char own[3 * 4096];
	unsigned flags;
	CUdeviceptr d;
	void *p, *q;

	SUCCEEDS(cuMemHostAlloc(&p, 10000, CU_MEMHOSTALLOC_WRITECOMBINED));
	SUCCEEDS(cuMemHostGetFlags(&flags, p));
	CHECK((flags & CU_MEMHOSTALLOC_WRITECOMBINED) != 0);
	SUCCEEDS(cuMemHostGetDevicePointer_v2(&d, (char *)p + 5, 0));
	CHECK(d == (CUdeviceptr)(uintptr_t)p + 5);
	memset(p, 1, 10000);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2((CUdeviceptr)(uintptr_t)p));
	SUCCEEDS(cuMemAllocHost_v2(&q, 1));
	SUCCEEDS(cuMemFreeHost(p));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(p));
	SUCCEEDS(cuMemFreeHost(q));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemHostAlloc(&p, 1, 64));

	SUCCEEDS(cuMemHostRegister_v2(own + 4096, 4096, 0));
	ANSWERS(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
		cuMemHostRegister_v2(own, sizeof(own), 0));
	SUCCEEDS(cuMemHostGetDevicePointer_v2(&d, own + 4097, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemHostGetFlags(&flags, own + 4096));
	ANSWERS(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(own));
	SUCCEEDS(cuMemHostUnregister(own + 4096));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemHostRegister_v2((void *)4096, 4096, 0));
	TRUTH(RM_BLOCK, 0, 0, 0);
}

static void describe_pointers(void)
{
	CUpointer_attribute two[] = { CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
				      CU_POINTER_ATTRIBUTE_RANGE_SIZE };
	unsigned long long id[2];
	CUcontext owner = NULL;
	size_t size = 9;
	CUdeviceptr p;
	int n = 9, on_stack;
	void *out[] = { &n, &size };

	SUCCEEDS(cuMemAlloc_v2(&p, 1000));
	SUCCEEDS(cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, p + 999));
	CHECK(owner == ctx);
	SUCCEEDS(cuPointerGetAttribute(&n, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p));
	CHECK(n == CU_MEMORYTYPE_DEVICE);
	SUCCEEDS(cuPointerGetAttribute(&id[0], CU_POINTER_ATTRIBUTE_BUFFER_ID, p));
	SUCCEEDS(cuPointerGetAttributes(2, two, out, p + 1));
	CHECK(n == 0 && size == 1000);
	SUCCEEDS(cuMemFree_v2(p));
	SUCCEEDS(cuMemAlloc_v2(&p, 1000));
	SUCCEEDS(cuPointerGetAttribute(&id[1], CU_POINTER_ATTRIBUTE_BUFFER_ID, p));
	CHECK(id[0] != id[1]); /* the address may be the same, the id never is */
	SUCCEEDS(cuMemFree_v2(p));
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuPointerGetAttribute(&n, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
				      (CUdeviceptr)(uintptr_t)&on_stack));
	SUCCEEDS(cuPointerGetAttributes(2, two, out, (CUdeviceptr)(uintptr_t)&on_stack));
	CHECK(n == CU_DEVICE_INVALID && size == 0);
}

/* A context takes with it what was in it, and nothing else. */
static void end_a_context(void)
{
	CUdeviceptr mine, p;
	CUcontext other;
	void *host;

	SUCCEEDS(cuMemAlloc_v2(&mine, 1));
	SUCCEEDS(cuCtxCreate_v2(&other, 0, 0));
	SUCCEEDS(cuMemAlloc_v2(&p, 1));
	SUCCEEDS(cuMemAlloc_v2(&p, 3 * MIB));
	SUCCEEDS(cuMemAllocManaged(&p, MIB, CU_MEM_ATTACH_GLOBAL));
	SUCCEEDS(cuMemAllocHost_v2(&host, 4096));
	TRUTH(RM_BLOCK, 8 * MIB, 3 * MIB + 1024, 3);
	SUCCEEDS(cuCtxDestroy_v2(other));
	TRUTH(RM_BLOCK, 2 * MIB, 512, 1);
	TRUTH(RM_MANAGED, 0, 0, 0);
	SUCCEEDS(cuCtxSetCurrent(ctx));
	SUCCEEDS(cuMemFree_v2(mine));
}

int main(void)
{
	machine_prepare("h100", "host");
	ANSWERS(CUDA_ERROR_NOT_INITIALIZED, cuMemFree_v2(1));
	SUCCEEDS(cuInit(0));
	ANSWERS(CUDA_ERROR_INVALID_CONTEXT, cuMemFree_v2(1));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(ctx));
	share_blocks();
	keep_bytes();
	pitch_rows();
	reach_the_end();
	old_abis();
	pin_host_memory();
	describe_pointers();
	end_a_context();
	return 0;
}
