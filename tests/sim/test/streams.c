/* SPDX-License-Identifier: Apache-2.0 */
/* Streams, events, host functions and waits for values happen in order. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static atomic_int step;

static void take_lock(void *user)
{
	int value;

	pthread_mutex_lock(&held);
	CHECK(atomic_fetch_add(&step, 1) == (int)(intptr_t)user);
	pthread_mutex_unlock(&held);
	ANSWERS(CUDA_ERROR_NOT_PERMITTED, cuDeviceGetCount(&value));
}

static void called_back(CUstream stream, CUresult status, void *user)
{
	CHECK(stream && status == CUDA_SUCCESS);
	CHECK(atomic_fetch_add(&step, 1) == (int)(intptr_t)user);
}

/* The caller holds the lock that the function takes: submitting must not wait for it. */
static void check_host_functions(void)
{
	CUstream stream;
	CUevent event;

	SUCCEEDS(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
	SUCCEEDS(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
	SUCCEEDS(cuEventQuery(event));
	pthread_mutex_lock(&held);
	SUCCEEDS(cuLaunchHostFunc(stream, take_lock, (void *)0));
	SUCCEEDS(cuStreamAddCallback(stream, called_back, (void *)1, 0));
	SUCCEEDS(cuEventRecord(event, stream));
	ANSWERS(CUDA_ERROR_NOT_READY, cuStreamQuery(stream));
	ANSWERS(CUDA_ERROR_NOT_READY, cuEventQuery(event));
	/* The legacy stream waits for it, a third one that does not block does not. */
	SUCCEEDS(cuLaunchHostFunc(NULL, take_lock, (void *)2));
	CHECK(atomic_load(&step) == 0);
	pthread_mutex_unlock(&held);
	SUCCEEDS(cuEventSynchronize(event));
	CHECK(atomic_load(&step) >= 2);
	SUCCEEDS(cuCtxSynchronize());
	CHECK(atomic_load(&step) == 3);
	SUCCEEDS(cuStreamQuery(stream));
	SUCCEEDS(cuEventDestroy_v2(event));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuEventQuery(event));
	SUCCEEDS(cuStreamDestroy_v2(stream));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery(stream));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy_v2(NULL));
}

static void check_values(void)
{
	CUstream first, second;
	CUdeviceptr word;
	CUevent event;
	CUstreamBatchMemOpParams both[2];

	SUCCEEDS(cuMemAlloc_v2(&word, 8));
	SUCCEEDS(cuStreamWriteValue64(NULL, word, 0, 0));
	SUCCEEDS(cuStreamCreate(&first, CU_STREAM_NON_BLOCKING));
	SUCCEEDS(cuStreamCreate(&second, CU_STREAM_NON_BLOCKING));
	SUCCEEDS(cuEventCreate(&event, 0));
	SUCCEEDS(cuStreamWaitValue32_v2(first, word, 5, CU_STREAM_WAIT_VALUE_EQ));
	SUCCEEDS(cuEventRecord(event, first));
	usleep(2000);
	ANSWERS(CUDA_ERROR_NOT_READY, cuEventQuery(event));
	SUCCEEDS(cuStreamWaitEvent(second, event, 0));
	SUCCEEDS(cuLaunchHostFunc(second, take_lock, (void *)3));
	ANSWERS(CUDA_ERROR_NOT_READY, cuStreamQuery(second));
	SUCCEEDS(cuStreamWriteValue32(NULL, word, 5, 0));
	SUCCEEDS(cuStreamSynchronize(second));
	CHECK(atomic_load(&step) == 4);
	SUCCEEDS(cuEventQuery(event));
	memset(both, 0, sizeof(both));
	both[0].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_64;
	both[0].writeValue.address = word;
	both[0].writeValue.value64 = 1ull << 40;
	both[1].waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_64;
	both[1].waitValue.address = word;
	both[1].waitValue.value64 = 1ull << 39;
	SUCCEEDS(cuStreamBatchMemOp_v2(first, 2, both, 0));
	SUCCEEDS(cuStreamSynchronize(first));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuStreamBatchMemOp_v2(first, 0, both, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuStreamWriteValue32(first, word + 1, 5, 0));
	SUCCEEDS(cuMemFree_v2(word));
	SUCCEEDS(cuEventDestroy_v2(event));
	SUCCEEDS(cuStreamDestroy_v2(first));
	SUCCEEDS(cuStreamDestroy_v2(second));
}

static void check_events(void)
{
	CUevent from, to, untimed;
	float ms = -1;

	SUCCEEDS(cuEventCreate(&from, 0));
	SUCCEEDS(cuEventCreate(&to, 0));
	SUCCEEDS(cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuEventCreate(&from, 0x80));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuEventCreate(&from, CU_EVENT_INTERPROCESS));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&ms, from, to));
	SUCCEEDS(cuEventRecord(from, NULL));
	usleep(3000);
	SUCCEEDS(cuEventRecord(to, NULL));
	SUCCEEDS(cuEventSynchronize(to));
	SUCCEEDS(cuEventElapsedTime(&ms, from, to));
	CHECK(ms >= 3.0f && ms < 10000.0f);
	SUCCEEDS(cuEventRecord(untimed, NULL));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime_v2(&ms, from, untimed));
}

static void check_facts(void)
{
	unsigned long long a = 0, b = 0, c = 0;
	int least, greatest, priority;
	unsigned int flags;
	CUcontext ctx, of;
	CUstream stream;
	CUdevice dev;

	SUCCEEDS(cuCtxGetStreamPriorityRange(&least, &greatest));
	SUCCEEDS(
		cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, greatest - 10));
	SUCCEEDS(cuStreamGetPriority(stream, &priority));
	CHECK(priority == greatest);
	SUCCEEDS(cuStreamGetFlags(stream, &flags));
	CHECK(flags == CU_STREAM_NON_BLOCKING);
	SUCCEEDS(cuStreamGetCtx(stream, &of));
	SUCCEEDS(cuCtxGetCurrent(&ctx));
	CHECK(of == ctx);
	SUCCEEDS(cuStreamGetDevice(stream, &dev));
	CHECK(dev == 0);
	SUCCEEDS(cuStreamGetId(NULL, &a));
	SUCCEEDS(cuStreamGetId(CU_STREAM_LEGACY, &b));
	CHECK(a == b);
	SUCCEEDS(cuStreamGetId(CU_STREAM_PER_THREAD, &c));
	CHECK(a != c);
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuStreamGetId((CUstream)0x1234, &a));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(&stream, 0x10));
}

int main(void)
{
	CUcontext ctx;

	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuCtxCreate_v2(&ctx, 0, 0));
	check_host_functions();
	check_values();
	check_events();
	check_facts();
	SUCCEEDS(cuCtxDestroy_v2(ctx));
	return 0;
}
