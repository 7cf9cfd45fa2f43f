/* SPDX-License-Identifier: Apache-2.0 */
/* closed: a slice that is nobody's yet gives nothing of any device, by whichever door. */
#include "check.h"

#define NOT_OK(call) CHECK((call) != CUDA_SUCCESS)

int main(void)
{
	CUcontext ctx = NULL;
	CUdeviceptr pointer;
	int count = 0;

	OK(cuInit(0));
	OK(cuDeviceGetCount(&count));
	CHECK(count > 0);
	for (int device = 0; device < count; device++) {
		CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED };
		CUmemGenericAllocationHandle handle;
		size_t free_bytes = 0, total = 0;
		CUmemoryPool pool;

		/* A context costs memory of the device, too. */
		NOT_OK(cuDevicePrimaryCtxRetain(&ctx, device));
		NOT_OK(cuCtxCreate(&ctx, NULL, 0, device));
		NOT_OK(cuMemAlloc(&pointer, MIB));
		NOT_OK(cuMemAllocManaged(&pointer, MIB, CU_MEM_ATTACH_GLOBAL));
		NOT_OK(cuMemAllocAsync(&pointer, MIB, NULL));
		prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
		prop.location.id = device;
		NOT_OK(cuMemCreate(&handle, 2 * MIB, &prop, 0));
		if (cuDeviceGetDefaultMemPool(&pool, device) == CUDA_SUCCESS)
			NOT_OK(cuMemAllocFromPoolAsync(&pointer, MIB, pool, NULL));
		NOT_OK(cuMemGetInfo(&free_bytes, &total));
		CHECK(free_bytes == 0);
	}
	return 0;
}
