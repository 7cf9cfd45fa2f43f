/* SPDX-License-Identifier: Apache-2.0 */
/* Output pointers may be whatever the driver accepts; where it accepts, a number is the
 * slice's. */
#include "check.h"

#define LIMIT (1024 * MIB)

int main(void)
{
	size_t free_bytes = 1, total_bytes = 1, total = 0;

	CHECK_RESULT(cuMemGetInfo(&free_bytes, &total_bytes), CUDA_ERROR_NOT_INITIALIZED);
	CHECK(free_bytes == 1 && total_bytes == 1);
	OK(cuInit(0));
	CHECK_RESULT(cuMemGetInfo(&free_bytes, &total_bytes), CUDA_ERROR_INVALID_CONTEXT);
	CHECK(free_bytes == 1 && total_bytes == 1);
	(void)check_context();
	OK(cuMemGetInfo(&free_bytes, &total_bytes));
	CHECK(total_bytes == LIMIT && free_bytes <= LIMIT);
	free_bytes = total_bytes = 1;
	if (cuMemGetInfo(NULL, &total_bytes) == CUDA_SUCCESS)
		CHECK(total_bytes == LIMIT);
	else
		CHECK(total_bytes == 1);
	if (cuMemGetInfo(&free_bytes, NULL) == CUDA_SUCCESS)
		CHECK(free_bytes <= LIMIT);
	else
		CHECK(free_bytes == 1);
	(void)cuMemGetInfo(NULL, NULL);
	OK(cuDeviceTotalMem(&total, 0));
	CHECK_RESULT(total, LIMIT);
	CHECK(cuDeviceTotalMem(NULL, 0) != CUDA_SUCCESS);
	CHECK(cuDeviceTotalMem(&total, 99) != CUDA_SUCCESS && total == LIMIT);
	return 0;
}
