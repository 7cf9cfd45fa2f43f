/* SPDX-License-Identifier: Apache-2.0 */
/* init RESULT [TOTAL_MIB]: what cuInit answers, and what total the first device then has.
 */
#include "check.h"

int main(int argc, char **argv)
{
	CUdeviceptr pointer;
	size_t total;

	CHECK(argc >= 2);
	CHECK_RESULT(cuInit(0), atoi(argv[1]));
	CHECK_RESULT(cuInit(0), atoi(argv[1]));
	if (atoi(argv[1])) {
		CHECK(cuMemAlloc(&pointer, MIB) != CUDA_SUCCESS);
		return 0;
	}
	if (argc > 2) {
		(void)check_context();
		OK(cuDeviceTotalMem(&total, 0));
		CHECK_RESULT(total / MIB, atoi(argv[2]));
		CHECK_RESULT(cuMemAlloc(&pointer, total + MIB), CUDA_ERROR_OUT_OF_MEMORY);
	}
	return 0;
}
