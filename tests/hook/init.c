/* SPDX-License-Identifier: Apache-2.0 */
/* init RESULT [TOTAL_MIB]: what cuInit answers, and what total the first device then has.
 */
#include "check.h"

int main(int argc, char **argv)
{
	CUdeviceptr pointer;
	size_t total;
	CUcontext ctx;
	CUresult res;

	CHECK(argc >= 2);
	CHECK_RESULT(cuInit(0), atoi(argv[1]));
	CHECK_RESULT(cuInit(0), atoi(argv[1]));
	if (atoi(argv[1])) {
		CHECK(cuMemAlloc(&pointer, MIB) != CUDA_SUCCESS);
		return 0;
	}
	if (argc > 2) {
		OK(cuDeviceTotalMem(&total, 0));
		CHECK_RESULT(total / MIB, atoi(argv[2]));
		/* Too small a slice has no room for the context already. */
		res = cuDevicePrimaryCtxRetain(&ctx, 0);
		if (res == CUDA_SUCCESS) {
			OK(cuCtxSetCurrent(ctx));
			res = cuMemAlloc(&pointer, total + MIB);
		}
		CHECK_RESULT(res, CUDA_ERROR_OUT_OF_MEMORY);
	}
	return 0;
}
