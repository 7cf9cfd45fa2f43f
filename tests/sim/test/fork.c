/* SPDX-License-Identifier: Apache-2.0 */
/* The child of an initialised process has no driver; the child of one that is not, has. */
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static int status_of(int (*body)(void))
{
	pid_t child = fork();
	int status = -1;

	CHECK(child >= 0);
	if (child == 0)
		_exit(body());
	CHECK(waitpid(child, &status, 0) == child);
	return status;
}

static int use_it(void)
{
	int count = 0;

	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDeviceGetCount(&count));
	CHECK(count == 1);
	return 0;
}

static int find_nothing(void)
{
	size_t bytes;
	CUcontext ctx;
	int value = 0;

	ANSWERS(CUDA_ERROR_NOT_INITIALIZED, cuInit(0));
	ANSWERS(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount(&value));
	ANSWERS(CUDA_ERROR_NOT_INITIALIZED, cuMemGetInfo_v2(&bytes, &bytes));
	ANSWERS(CUDA_ERROR_NOT_INITIALIZED, cuCtxCreate_v2(&ctx, 0, 0));
	ANSWERS(CUDA_ERROR_NOT_INITIALIZED, cuCtxGetCurrent(&ctx));
	SUCCEEDS(cuDriverGetVersion(&value));
	CHECK(value >= 12000);
	return 0;
}

int main(void)
{
	CUcontext ctx;
	int value;

	ANSWERS(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount(&value));
	SUCCEEDS(cuDriverGetVersion(&value));
	CHECK(status_of(use_it) == 0);
	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuCtxCreate_v2(&ctx, 0, 0));
	CHECK(status_of(find_nothing) == 0);
	SUCCEEDS(cuCtxDestroy_v2(ctx));
	return 0;
}
