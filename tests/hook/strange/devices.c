/* SPDX-License-Identifier: Apache-2.0 */
/* devices: sixteen devices in one slice of 1 GiB each: each has its own end. */
#include "../check.h"

#define DEVICES 16

int main(void)
{
	size_t total_bytes, free_bytes, told;
	CUcontext contexts[DEVICES];
	CUdeviceptr pointer, kept[DEVICES];
	int count;

	OK(cuInit(0));
	OK(cuDeviceGetCount(&count));
	CHECK_RESULT(count, DEVICES);
	for (int i = 0; i < DEVICES; i++) {
		OK(cuDeviceTotalMem(&total_bytes, i));
		CHECK_RESULT(total_bytes, 1024 * MIB);
		OK(cuDevicePrimaryCtxRetain(&contexts[i], i));
		OK(cuCtxSetCurrent(contexts[i]));
		OK(cuMemAlloc(&kept[i], 512 * MIB));
		CHECK_RESULT(cuMemAlloc(&pointer, 513 * MIB), CUDA_ERROR_OUT_OF_MEMORY);
		OK(cuMemGetInfo(&free_bytes, &told));
		CHECK(free_bytes == 512 * MIB && told == total_bytes);
	}
	/* One is full; the others do not feel it. */
	OK(cuCtxSetCurrent(contexts[7]));
	OK(cuMemAlloc(&pointer, 512 * MIB));
	CHECK_RESULT(check_free(), 0);
	OK(cuCtxSetCurrent(contexts[15]));
	CHECK_RESULT(check_free(), 512 * MIB);
	OK(cuMemFree(kept[15]));
	CHECK_RESULT(check_free(), 1024 * MIB);
	OK(cuCtxSetCurrent(contexts[7]));
	CHECK_RESULT(check_free(), 0);
	return 0;
}
