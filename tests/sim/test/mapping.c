/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtual memory management: physical memory leaves when neither handles nor mappings are
 * left, in every order; whole mappings, and only those, are unmapped; managed memory counts
 * where it resides; multicast bindings are references.
 */

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "machine.h"
#include "truth.h"

#define G (2 * MIB)

static const CUmemAllocationProp on_device = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
					       .location = { CU_MEM_LOCATION_TYPE_DEVICE,
							     { 0 } } };
static const CUmemAccessDesc writes = { { CU_MEM_LOCATION_TYPE_DEVICE, { 0 } },
					CU_MEM_ACCESS_FLAGS_PROT_READWRITE };

/* Two handle references and two mappings, given back in each of the 24 orders. */
static void drop_in_every_order(void)
{
	for (int order = 0; order < 24; order++) {
		int left[4] = { 0, 1, 2, 3 }, code = order;
		CUmemGenericAllocationHandle h, again;
		CUdeviceptr va;

		SUCCEEDS(cuMemAddressReserve(&va, 2 * G, 0, 0, 0));
		SUCCEEDS(cuMemCreate(&h, G, &on_device, 0));
		SUCCEEDS(cuMemMap(va, G, 0, h, 0));
		SUCCEEDS(cuMemMap(va + G, G, 0, h, 0));
		SUCCEEDS(cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)(va + 5)));
		CHECK(again == h);
		for (int n = 4; n > 0; n--) {
			int pick = code % n, what = left[pick];

			code /= n;
			left[pick] = left[n - 1];
			TRUTH(RM_VMM, G, G, 1);
			if (what < 2)
				SUCCEEDS(cuMemRelease(h));
			else
				SUCCEEDS(cuMemUnmap(va + (what == 2 ? 0 : G), G));
		}
		TRUTH(RM_VMM, 0, 0, 0);
		ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemRelease(h));
		SUCCEEDS(cuMemAddressFree(va, 2 * G));
	}
}

static void unmap_parts(void)
{
	CUmemGenericAllocationHandle a, b, c;
	CUdeviceptr va, p;
	char *bytes;
	size_t n;

	SUCCEEDS(cuMemAddressReserve(&va, 16 * G, 0, 0, 0));
	SUCCEEDS(cuMemCreate(&a, 2 * G, &on_device, 0));
	SUCCEEDS(cuMemCreate(&b, G, &on_device, 0));
	SUCCEEDS(cuMemCreate(&c, 3 * G, &on_device, 0));
	SUCCEEDS(cuMemMap(va, 2 * G, 0, a, 0));
	SUCCEEDS(cuMemMap(va + 2 * G, G, 0, b, 0));
	SUCCEEDS(cuMemMap(va + 4 * G, 3 * G, 0, c, 0)); /* a hole before it */
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemMap(va + 6 * G, G, 0, b, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemMap(va + 8 * G, 2 * G, 0, b, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemSetAccess(va, 5 * G, &writes, 1));
	SUCCEEDS(cuMemSetAccess(va, 3 * G, &writes, 1));
	bytes = (char *)(uintptr_t)va;
	memset(bytes, 3, 3 * G);
	SUCCEEDS(cuMemGetAddressRange_v2(&p, &n, va + 2 * G + 1));
	CHECK(p == va + 2 * G && n == G);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemUnmap(va, G));     /* half a mapping */
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemUnmap(va, 7 * G)); /* with a hole */
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemAddressFree(va, 16 * G));
	SUCCEEDS(cuMemRelease(a));
	SUCCEEDS(cuMemRelease(b));
	SUCCEEDS(cuMemRelease(c));
	TRUTH(RM_VMM, 6 * G, 6 * G, 3);
	SUCCEEDS(cuMemUnmap(va, 3 * G)); /* two whole mappings at once */
	TRUTH(RM_VMM, 3 * G, 3 * G, 1);
	SUCCEEDS(cuMemUnmap(va + 4 * G, 3 * G));
	TRUTH(RM_VMM, 0, 0, 0);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemAddressFree(va, 15 * G));
	SUCCEEDS(cuMemAddressFree(va, 16 * G));
}

static void refuse_nonsense(void)
{
	CUmemAllocationProp prop = on_device;
	CUmemGenericAllocationHandle h;
	size_t free_bytes, n;
	CUdeviceptr va;

	SUCCEEDS(
		cuMemGetAllocationGranularity(&n, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	CHECK(n == G);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemCreate(&h, G + 4096, &prop, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemCreate(&h, 0, &prop, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemCreate(&h, G, &prop, 1));
	prop.location.id = 7;
	ANSWERS(CUDA_ERROR_INVALID_DEVICE, cuMemCreate(&h, G, &prop, 0));
	prop.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemCreate(&h, G, &prop, 0));
	prop.location.type = CU_MEM_LOCATION_TYPE_HOST;
	SUCCEEDS(cuMemCreate(&h, G, &prop, 0)); /* the device holds nothing of it */
	TRUTH(RM_VMM, 0, 0, 0);
	SUCCEEDS(cuMemRelease(h));
	SUCCEEDS(cuMemGetInfo_v2(&free_bytes, NULL));
	ANSWERS(CUDA_ERROR_OUT_OF_MEMORY,
		cuMemCreate(&h, (free_bytes / G + 1) * G, &on_device, 0));
	SUCCEEDS(cuMemCreate(&h, free_bytes / G * G, &on_device, 0));
	SUCCEEDS(cuMemRelease(h));
	SUCCEEDS(cuMemAddressReserve(&va, 300 * GIB, 8 * G, 0,
				     0)); /* more than any device has */
	CHECK(va % (8 * G) == 0);
	SUCCEEDS(cuMemAddressFree(va, 300 * GIB));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemAddressReserve(&va, G, 3, 0, 0));
}

static void migrate_managed(void)
{
	CUmemLocation device = { CU_MEM_LOCATION_TYPE_DEVICE, { 0 } };
	CUmemLocation host = { CU_MEM_LOCATION_TYPE_HOST, { 0 } };
	CUdeviceptr p;
	int where[2];

	SUCCEEDS(cuMemAllocManaged(&p, 10 * MIB, CU_MEM_ATTACH_GLOBAL));
	TRUTH(RM_MANAGED, 0, 10 * MIB, 1);
	((char *)(uintptr_t)p)[0] = 5;
	SUCCEEDS(cuMemPrefetchAsync_v2(p, 10 * MIB, device, 0, NULL));
	TRUTH(RM_MANAGED, 10 * MIB, 10 * MIB, 1);
	SUCCEEDS(cuMemPrefetchAsync_v2(p + 4 * MIB, 2 * MIB, host, 0, NULL));
	TRUTH(RM_MANAGED, 8 * MIB, 10 * MIB, 1);
	SUCCEEDS(cuMemRangeGetAttribute(
		where, 4, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, p, 2 * MIB));
	CHECK(where[0] == 0);
	SUCCEEDS(cuMemRangeGetAttribute(
		where, 4, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, p, 6 * MIB));
	CHECK(where[0] == CU_DEVICE_INVALID); /* mixed */
	SUCCEEDS(cuMemAdvise(p, 10 * MIB, CU_MEM_ADVISE_SET_ACCESSED_BY, 0));
	SUCCEEDS(cuMemRangeGetAttribute(where, 8, CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY, p,
					MIB));
	CHECK(where[0] == 0 && where[1] == CU_DEVICE_INVALID);
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuMemPrefetchAsync_v2(p, 11 * MIB, device, 0, NULL));
	CHECK(((char *)(uintptr_t)p)[0] == 5);
	SUCCEEDS(cuMemFree_v2(p));
	TRUTH(RM_MANAGED, 0, 0, 0);
	SUCCEEDS(cuMemAllocManaged(&p, 500 * GIB,
				   CU_MEM_ATTACH_GLOBAL)); /* more than the device */
	SUCCEEDS(cuMemPrefetchAsync_v2(p, 500 * GIB, device, 0, NULL));
	TRUTH(RM_MANAGED, 0, 500 * GIB, 1);
	SUCCEEDS(cuMemFree_v2(p));
}

static void bind_multicast(void)
{
	CUmulticastObjectProp prop = { .numDevices = 2, .size = 4 * G };
	CUmemGenericAllocationHandle mc, mem;
	CUdeviceptr va;

	SUCCEEDS(cuMulticastCreate(&mc, &prop));
	SUCCEEDS(cuMulticastAddDevice(mc, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMulticastAddDevice(mc, 0));
	SUCCEEDS(cuMulticastAddDevice(mc, 1));
	SUCCEEDS(cuMemCreate(&mem, 2 * G, &on_device, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMulticastBindMem(mc, 3 * G, mem, 0, 2 * G, 0));
	ANSWERS(CUDA_ERROR_INVALID_DEVICE, cuMulticastBindMem_v2(mc, 1, 0, mem, 0, G, 0));
	SUCCEEDS(cuMulticastBindMem(mc, G, mem, 0, 2 * G, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMulticastBindMem(mc, 2 * G, mem, 0, G, 0));
	SUCCEEDS(cuMemRelease(mem));
	TRUTH(RM_VMM, 2 * G, 2 * G, 1); /* the binding holds it */
	SUCCEEDS(cuMemAddressReserve(&va, 4 * G, 0, 0, 0));
	SUCCEEDS(cuMemMap(va, 4 * G, 0, mc, 0));
	SUCCEEDS(cuMemSetAccess(va, 4 * G, &writes, 1));
	SUCCEEDS(cuMemRelease(mc));
	TRUTH(RM_VMM, 2 * G, 2 * G, 1); /* and the mapping holds the object */
	SUCCEEDS(cuMemUnmap(va, 4 * G));
	TRUTH(RM_VMM, 0, 0, 0);
	TRUTH(RM_MULTICAST, 0, 0, 0);
	SUCCEEDS(cuMemAddressFree(va, 4 * G));

	SUCCEEDS(cuMulticastCreate(&mc, &prop));
	ANSWERS(CUDA_ERROR_SYSTEM_NOT_READY, cuMulticastBindMem(mc, 0, mc, 0, G, 0));
	SUCCEEDS(cuMemRelease(mc));
}

int main(void)
{
	CUcontext ctx;

	machine_prepare("2xh100", "host");
	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(ctx));
	drop_in_every_order();
	unmap_parts();
	refuse_nonsense();
	migrate_managed();
	bind_multicast();
	return 0;
}
