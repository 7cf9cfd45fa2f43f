/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: their life, the threads' stacks, the primary one, and the memory they take. */
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "rm/rm.h"

/* The machine's own count, through a connection of this program. */
static uint64_t used_bytes(void)
{
	struct rm_memory memory;

	CHECK(rm_memory(0, &memory) == 0);
	return memory.used;
}

static void check_stack(void)
{
	CUcontext a, b, current;
	CUdevice dev;

	ANSWERS(CUDA_ERROR_INVALID_CONTEXT, cuCtxGetDevice(&dev));
	SUCCEEDS(cuCtxGetCurrent(&current));
	CHECK(current == NULL);
	ANSWERS(CUDA_ERROR_INVALID_DEVICE, cuCtxCreate_v2(&a, 0, 7));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuCtxCreate_v2(&a, 0x300, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuCtxCreate_v2(&a, 3, 0));
	SUCCEEDS(cuCtxCreate_v2(&a, 0, 0));
	SUCCEEDS(cuCtxCreate_v4(&b, NULL, 0, 0));
	SUCCEEDS(cuCtxGetCurrent(&current));
	CHECK(current == b && a != b);
	SUCCEEDS(cuCtxPopCurrent_v2(&current));
	CHECK(current == b);
	SUCCEEDS(cuCtxGetCurrent(&current));
	CHECK(current == a);
	SUCCEEDS(cuCtxPushCurrent_v2(b));
	SUCCEEDS(cuCtxDestroy_v2(a));
	SUCCEEDS(cuCtxDestroy_v2(b));
	/* b was on top and left the stack; a lies below it and is gone. */
	ANSWERS(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxGetDevice(&dev));
	CHECK(cuCtxDestroy_v2(a) != CUDA_SUCCESS);
	ANSWERS(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy_v2(NULL));
	ANSWERS(CUDA_ERROR_INVALID_CONTEXT, cuCtxSetCurrent((CUcontext)0x1234));
	SUCCEEDS(cuCtxSetCurrent(NULL));
	ANSWERS(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize());
}

static void check_memory(uint64_t first_bytes)
{
	uint64_t before = used_bytes(), one, two;
	CUcontext a, b;

	SUCCEEDS(cuCtxCreate_v2(&a, 0, 0));
	one = used_bytes() - before;
	CHECK(one == first_bytes);
	SUCCEEDS(cuCtxCreate_v2(&b, 0, 0));
	two = used_bytes() - before;
	CHECK(two > one && two < 2 * one);
	SUCCEEDS(cuCtxDestroy_v2(a));
	CHECK(used_bytes() - before == one);
	SUCCEEDS(cuCtxDestroy_v2(b));
	CHECK(used_bytes() == before);
	SUCCEEDS(cuCtxSetCurrent(NULL));
}

static void check_limits(const struct rm_device *device)
{
	const uint64_t threads = (uint64_t)device->sm_count * device->threads_per_sm;
	uint64_t before;
	size_t value;
	CUcontext ctx;

	SUCCEEDS(cuCtxCreate_v2(&ctx, 0, 0));
	before = used_bytes();
	SUCCEEDS(cuCtxGetLimit(&value, CU_LIMIT_MALLOC_HEAP_SIZE));
	SUCCEEDS(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, value + (64u << 20)));
	CHECK(used_bytes() - before == 64u << 20);
	SUCCEEDS(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, value));
	CHECK(used_bytes() == before);
	SUCCEEDS(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 2048));
	CHECK(used_bytes() - before >= 1024 * threads);
	ANSWERS(CUDA_ERROR_OUT_OF_MEMORY,
		cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, (size_t)1 << 50));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 1u << 20));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuCtxSetLimit((CUlimit)99, 1));
	SUCCEEDS(cuCtxDestroy_v2(ctx));
}

static void check_primary(void)
{
	uint64_t before = used_bytes();
	CUcontext a, b;
	unsigned int flags;
	int active;

	SUCCEEDS(cuDevicePrimaryCtxGetState(0, &flags, &active));
	CHECK(!active && flags == 0);
	ANSWERS(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease_v2(0));
	SUCCEEDS(cuDevicePrimaryCtxSetFlags(0, CU_CTX_SCHED_BLOCKING_SYNC));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&a, 0));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&b, 0));
	CHECK(a == b && used_bytes() > before);
	SUCCEEDS(cuDevicePrimaryCtxGetState(0, &flags, &active));
	CHECK(active && flags == CU_CTX_SCHED_BLOCKING_SYNC);
	ANSWERS(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, cuDevicePrimaryCtxSetFlags(0, 0));
	SUCCEEDS(cuDevicePrimaryCtxSetFlags_v2(0, 0));
	ANSWERS(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy_v2(a));
	SUCCEEDS(cuCtxSetCurrent(a));
	SUCCEEDS(cuDevicePrimaryCtxRelease_v2(0));
	SUCCEEDS(cuCtxSynchronize());
	SUCCEEDS(cuDevicePrimaryCtxRelease_v2(0));
	ANSWERS(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSynchronize());
	CHECK(used_bytes() == before);
	SUCCEEDS(cuDevicePrimaryCtxRetain(&b, 0));
	SUCCEEDS(cuDevicePrimaryCtxReset_v2(0));
	CHECK(used_bytes() == before);
	SUCCEEDS(cuCtxSetCurrent(NULL));
}

static void check_green(void)
{
	CUdevResource whole, part, rest;
	CUdevResourceDesc desc;
	unsigned int groups = 1;
	CUgreenCtx green;
	CUcontext ctx;
	CUstream stream;
	int active;

	SUCCEEDS(cuDeviceGetDevResource(0, &whole, CU_DEV_RESOURCE_TYPE_SM));
	CHECK(whole.sm.smCount > 0);
	SUCCEEDS(cuDevSmResourceSplitByCount(&part, &groups, &whole, &rest, 0, 5));
	CHECK(groups == 1 && part.sm.smCount >= 5 && part.sm.smCount < whole.sm.smCount);
	CHECK(part.sm.smCount + rest.sm.smCount == whole.sm.smCount);
	SUCCEEDS(cuDevResourceGenerateDesc(&desc, &part, 1));
	SUCCEEDS(cuGreenCtxCreate(&green, desc, 0, CU_GREEN_CTX_DEFAULT_STREAM));
	SUCCEEDS(cuDevicePrimaryCtxGetState(0, &groups, &active));
	CHECK(active);
	SUCCEEDS(cuCtxFromGreenCtx(&ctx, green));
	SUCCEEDS(cuGreenCtxStreamCreate(&stream, green, CU_STREAM_NON_BLOCKING, 0));
	SUCCEEDS(cuCtxGetDevResource(ctx, &rest, CU_DEV_RESOURCE_TYPE_SM));
	CHECK(rest.sm.smCount == part.sm.smCount);
	SUCCEEDS(cuGreenCtxDestroy(green));
	ANSWERS(CUDA_ERROR_INVALID_CONTEXT, cuGreenCtxDestroy(green));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(stream));
	SUCCEEDS(cuDevicePrimaryCtxGetState(0, &groups, &active));
	CHECK(!active);
}

static void *use_from_thread(void *ctx)
{
	CUcontext current;

	SUCCEEDS(cuCtxGetCurrent(&current));
	CHECK(current == NULL);
	SUCCEEDS(cuCtxSetCurrent(ctx));
	SUCCEEDS(cuCtxSynchronize());
	return NULL;
}

int main(void)
{
	const struct rm_device *device;
	pthread_t thread;
	CUcontext ctx;

	SUCCEEDS(cuInit(0));
	CHECK(rm_open() == 0);
	device = &rm_machine()->devices[0];
	check_stack();
	check_memory(device->context_bytes);
	check_limits(device);
	check_primary();
	check_green();
	SUCCEEDS(cuCtxCreate_v2(&ctx, 0, 0));
	CHECK(pthread_create(&thread, NULL, use_from_thread, ctx) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	return 0;
}
