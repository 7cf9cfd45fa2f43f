/* SPDX-License-Identifier: Apache-2.0 */
/* As many devices as a machine can have: the last one works as the first one does. */
#include "check.h"

#define DEVICES 64
#define BYTES   (2u << 20)

static void use(CUdevice dev)
{
	unsigned char seen = 0;
	CUcontext ctx;
	CUdeviceptr p;

	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, dev));
	SUCCEEDS(cuCtxSetCurrent(ctx));
	SUCCEEDS(cuMemAlloc(&p, BYTES));
	SUCCEEDS(cuMemsetD8(p, (unsigned char)(0x40 + dev), BYTES));
	SUCCEEDS(cuCtxSynchronize());
	SUCCEEDS(cuMemcpyDtoH(&seen, p + BYTES - 1, 1));
	CHECK(seen == 0x40 + dev);
}

static void tell(CUdeviceptr p, CUmem_advise advice, CUdevice dev)
{
	CUmemLocation location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = dev };

	if (dev == CU_DEVICE_CPU)
		location.type = CU_MEM_LOCATION_TYPE_HOST;
	SUCCEEDS(cuMemAdvise(p, BYTES, advice, location));
}

static void expect_accessors(CUdeviceptr p, int first, int second)
{
	int who[3] = { 0 };

	SUCCEEDS(cuMemRangeGetAttribute(who, sizeof(who),
					CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY, p, BYTES));
	CHECK(who[0] == first && who[1] == second && who[2] == CU_DEVICE_INVALID);
}

/* Who is told to access a page: devices, and the processor, which is none of them. */
static void advise(void)
{
	CUdeviceptr p;

	SUCCEEDS(cuMemAllocManaged(&p, BYTES, CU_MEM_ATTACH_GLOBAL));
	tell(p, CU_MEM_ADVISE_SET_ACCESSED_BY, DEVICES - 1);
	tell(p, CU_MEM_ADVISE_SET_ACCESSED_BY, 31);
	expect_accessors(p, 31, DEVICES - 1);
	tell(p, CU_MEM_ADVISE_SET_ACCESSED_BY, CU_DEVICE_CPU);
	tell(p, CU_MEM_ADVISE_UNSET_ACCESSED_BY, 31);
	expect_accessors(p, DEVICES - 1, CU_DEVICE_CPU);
}

int main(void)
{
	int n = 0;

	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDeviceGetCount(&n));
	CHECK(n == DEVICES);
	use(0);
	use(32);
	use(DEVICES - 1);
	advise();
	return 0;
}
