/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When things are done: durations of kernels, the order within streams and between them. What is
 * measured is submitted behind a kernel that lets it all queue, so that the times between stamps
 * are the GPU's own, however slow the host is.
 */
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "gpu.h"

/* Keeps S busy while the rest is submitted; what follows starts at the event. */
static CUevent start_behind(CUstream s)
{
	gpu_launch("run_50ms", 1, s);
	return gpu_mark(s);
}

/* The host was so slow that START came before all was submitted: try again. */
static bool is_late(CUevent start)
{
	if (cuEventQuery(start) == CUDA_ERROR_NOT_READY)
		return false;
	SUCCEEDS(cuCtxSynchronize());
	return true;
}

static bool kernels_take_their_time(void)
{
	CUstream s = gpu_stream(CU_STREAM_NON_BLOCKING);
	CUevent e0 = start_behind(s), e1, e2, e3, e4;

	gpu_launch("run_5ms", 1, s);
	e1 = gpu_mark(s);
	gpu_launch("run_200us", 1, s);
	gpu_launch("run_1ms", WHOLE, s);
	e2 = gpu_mark(s);
	gpu_loop(3500000, 1, s);
	e3 = gpu_mark(s);
	/* By the model: one wave. */
	gpu_launch("plain", 1, s);
	e4 = gpu_mark(s);
	if (is_late(e0))
		return false;
	ANSWERS(CUDA_ERROR_NOT_READY, cuStreamQuery(s));
	ANSWERS(CUDA_ERROR_NOT_READY, cuEventQuery(e4));
	ANSWERS(CUDA_ERROR_NOT_READY, cuEventElapsedTime(&(float){ 0 }, e0, e4));
	CHECK(gpu_is(gpu_elapsed(e0, e1), 5));
	CHECK(gpu_is(gpu_elapsed(e1, e2), 1.2));
	CHECK(gpu_is(gpu_elapsed(e2, e3), 3.5));
	CHECK(gpu_is(gpu_elapsed(e3, e4), 0.004));
	SUCCEEDS(cuStreamQuery(s));
	SUCCEEDS(cuEventQuery(e4));
	SUCCEEDS(cuStreamDestroy(s));
	return true;
}

/* Small kernels run together, large ones one after the other. */
static bool streams_share_the_device(void)
{
	CUstream a = gpu_stream(CU_STREAM_NON_BLOCKING),
		 b = gpu_stream(CU_STREAM_NON_BLOCKING);
	CUevent start = start_behind(a), end_a, end_b;

	SUCCEEDS(cuStreamWaitEvent(b, start, 0));
	gpu_launch("run_5ms", 1, a);
	gpu_launch("run_5ms", 1, b);
	end_a = gpu_mark(a);
	end_b = gpu_mark(b);
	if (is_late(start))
		return false;
	CHECK(gpu_is(gpu_elapsed(start, end_a), 5));
	CHECK(gpu_is(gpu_elapsed(start, end_b), 5));
	start = start_behind(a);
	SUCCEEDS(cuStreamWaitEvent(b, start, 0));
	gpu_launch("run_5ms", WHOLE, a);
	gpu_launch("run_5ms", WHOLE, b);
	end_a = gpu_mark(a);
	end_b = gpu_mark(b);
	if (is_late(start))
		return false;
	CHECK(gpu_is(gpu_elapsed(start, end_a) + gpu_elapsed(start, end_b), 15));
	SUCCEEDS(cuStreamDestroy(a));
	SUCCEEDS(cuStreamDestroy(b));
	return true;
}

static bool legacy_waits_for_blocking_streams(void)
{
	CUstream blocking = gpu_stream(CU_STREAM_DEFAULT),
		 second = gpu_stream(CU_STREAM_DEFAULT),
		 free_stream = gpu_stream(CU_STREAM_NON_BLOCKING);
	CUevent start = start_behind(blocking), legacy, after, own, apart;

	SUCCEEDS(cuStreamWaitEvent(free_stream, start, 0));
	gpu_launch("run_5ms", 1, blocking);
	gpu_launch("run_5ms", 1, NULL);
	legacy = gpu_mark(NULL);
	gpu_launch("run_1ms", 1, second);
	after = gpu_mark(second);
	gpu_launch("run_1ms", 1, CU_STREAM_PER_THREAD);
	own = gpu_mark(CU_STREAM_PER_THREAD);
	gpu_launch("run_1ms", 1, free_stream);
	apart = gpu_mark(free_stream);
	if (is_late(start))
		return false;
	CHECK(gpu_is(gpu_elapsed(start, legacy), 10));
	CHECK(gpu_is(gpu_elapsed(start, after), 11));
	CHECK(gpu_is(gpu_elapsed(start, own), 11));
	CHECK(gpu_is(gpu_elapsed(start, apart), 1));
	SUCCEEDS(cuStreamDestroy(blocking));
	SUCCEEDS(cuStreamDestroy(second));
	SUCCEEDS(cuStreamDestroy(free_stream));
	return true;
}

/* The urgent kernel is submitted last, and passes all that has not started. */
static bool priorities_matter(void)
{
	CUstream low = gpu_stream(CU_STREAM_NON_BLOCKING), other, high;
	CUevent start, end_low, end_high;
	int least, greatest;

	SUCCEEDS(cuCtxGetStreamPriorityRange(&least, &greatest));
	SUCCEEDS(cuStreamCreateWithPriority(&high, CU_STREAM_NON_BLOCKING, greatest));
	SUCCEEDS(cuStreamCreateWithPriority(&other, CU_STREAM_NON_BLOCKING, least));
	start = start_behind(low);
	SUCCEEDS(cuStreamWaitEvent(high, start, 0));
	SUCCEEDS(cuStreamWaitEvent(other, start, 0));
	gpu_launch("run_5ms", WHOLE, low);
	gpu_launch("run_5ms", WHOLE, low);
	gpu_launch("run_5ms", WHOLE, other);
	gpu_launch("run_1ms", WHOLE, high);
	end_low = gpu_mark(low);
	end_high = gpu_mark(high);
	if (is_late(start))
		return false;
	CHECK(gpu_elapsed(start, end_high) < 6.1);
	CHECK(gpu_elapsed(start, end_low) > 10.9);
	SUCCEEDS(cuCtxSynchronize());
	SUCCEEDS(cuStreamDestroy(low));
	SUCCEEDS(cuStreamDestroy(high));
	SUCCEEDS(cuStreamDestroy(other));
	return true;
}

static bool copies_overlap_kernels(void)
{
	const size_t bytes = 1u << 20;
	const double copy_ms = 1.048576 / 50 + 0.0015;
	CUstream a = gpu_stream(CU_STREAM_NON_BLOCKING),
		 b = gpu_stream(CU_STREAM_NON_BLOCKING);
	CUevent start, end_kernel, half, end_in, end_out;
	CUdeviceptr device;
	void *host;

	SUCCEEDS(cuMemAlloc(&device, bytes));
	SUCCEEDS(cuMemAllocHost(&host, bytes));
	start = start_behind(a);
	SUCCEEDS(cuStreamWaitEvent(b, start, 0));
	gpu_launch("run_5ms", WHOLE, a);
	end_kernel = gpu_mark(a);
	SUCCEEDS(cuMemcpyHtoDAsync(device, host, bytes / 2, b));
	half = gpu_mark(b);
	SUCCEEDS(cuMemcpyHtoDAsync(device, host, bytes, b));
	end_in = gpu_mark(b);
	SUCCEEDS(cuMemcpyDtoHAsync(host, device, bytes, b));
	end_out = gpu_mark(b);
	if (is_late(start))
		return false;
	CHECK(gpu_is(gpu_elapsed(start, end_kernel), 5));
	/* 50 GB/s, and what every copy costs. */
	CHECK(gpu_is(gpu_elapsed(half, end_in), copy_ms));
	CHECK(gpu_is(gpu_elapsed(end_in, end_out), copy_ms));
	CHECK(gpu_elapsed(start, end_out) < 1);
	SUCCEEDS(cuMemFreeHost(host));
	SUCCEEDS(cuMemFree(device));
	SUCCEEDS(cuStreamDestroy(a));
	SUCCEEDS(cuStreamDestroy(b));
	return true;
}

static void until_in_time(bool (*scenario)(void))
{
	for (int i = 0; i < 50; i++)
		if (scenario())
			return;
	CHECK(false && "the host is too slow");
}

/* ---- what waits on the host ---------------------------------------------------------- */

static double called_ms;

static void CUDA_CB note_call(void *user)
{
	(void)user;
	called_ms = gpu_now_ms();
}

static void host_functions_come_after(void)
{
	CUstream s = gpu_stream(CU_STREAM_NON_BLOCKING);
	double begin = gpu_now_ms();
	CUevent before, after;

	called_ms = 0;
	gpu_launch("run_5ms", 1, s);
	before = gpu_mark(s);
	SUCCEEDS(cuLaunchHostFunc(s, note_call, NULL));
	gpu_launch("run_5ms", 1, s);
	after = gpu_mark(s);
	SUCCEEDS(cuEventSynchronize(before));
	SUCCEEDS(cuStreamSynchronize(s));
	CHECK(called_ms - begin >= 5);
	CHECK(gpu_now_ms() - begin >= 10);
	CHECK(gpu_elapsed(before, after) >= 5);
	SUCCEEDS(cuStreamDestroy(s));
}

static void values_come_after(void)
{
	CUstream s = gpu_stream(CU_STREAM_NON_BLOCKING);
	double begin = gpu_now_ms();
	uint32_t *word;
	CUdeviceptr at;

	SUCCEEDS(cuMemAllocHost((void **)&word, 4));
	*word = 0;
	SUCCEEDS(cuMemHostGetDevicePointer(&at, word, 0));
	gpu_launch("run_5ms", 1, s);
	SUCCEEDS(cuStreamWriteValue32(s, at, 1, 0));
	while (!__atomic_load_n(word, __ATOMIC_ACQUIRE) && gpu_now_ms() < begin + 10000)
		usleep(100);
	CHECK(*word == 1);
	CHECK(gpu_now_ms() - begin >= 5);
	SUCCEEDS(cuStreamSynchronize(s));
	SUCCEEDS(cuMemFreeHost(word));
	SUCCEEDS(cuStreamDestroy(s));
}

static double since(double *begin)
{
	double now = gpu_now_ms(), ms = now - *begin;

	*begin = now;
	return ms;
}

static void these_wait(void)
{
	CUstream s = gpu_stream(CU_STREAM_DEFAULT);
	double begin = gpu_now_ms(), first = begin;
	CUdeviceptr p;
	char byte;

	SUCCEEDS(cuMemAlloc(&p, 16));
	begin = gpu_now_ms();
	gpu_launch("run_5ms", 1, s);
	SUCCEEDS(cuStreamSynchronize(s));
	CHECK(since(&begin) >= 5);
	gpu_launch("run_5ms", 1, s);
	SUCCEEDS(cuMemcpyDtoH(&byte, p, 1)); /* in the legacy stream */
	CHECK(since(&begin) >= 5);
	gpu_launch("run_5ms", 1, NULL);
	SUCCEEDS(cuStreamSynchronize(NULL));
	CHECK(since(&begin) >= 5);
	gpu_launch("run_5ms", 1, s);
	SUCCEEDS(cuMemFree(p));
	CHECK(since(&begin) >= 5);
	/* A stream that is destroyed still runs. */
	gpu_launch("run_20ms", 1, s);
	SUCCEEDS(cuStreamDestroy(s));
	first = begin;
	SUCCEEDS(cuCtxSynchronize());
	CHECK(since(&first) >= 20);
	SUCCEEDS(cuCtxSynchronize());
	gpu_launch("run_5ms", 1, NULL);
	begin = gpu_now_ms();
	SUCCEEDS(cuCtxDestroy(gpu_ctx));
	CHECK(since(&begin) >= 4);
}

int main(void)
{
	gpu_open();
	until_in_time(kernels_take_their_time);
	until_in_time(streams_share_the_device);
	until_in_time(legacy_waits_for_blocking_streams);
	until_in_time(priorities_matter);
	until_in_time(copies_overlap_kernels);
	host_functions_come_after();
	values_come_after();
	these_wait();
	return 0;
}
