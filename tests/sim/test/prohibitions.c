/* SPDX-License-Identifier: Apache-2.0 */
/* What a capture prohibits to its own thread and to others, by its mode and by theirs. */
#include <pthread.h>
#include <stdbool.h>

#include "gpu.h"

static CUstream captured, other;
static CUevent event;
static CUdeviceptr kept;

static CUresult ask_event(void)
{
	return cuEventQuery(event);
}

static CUresult wait_event(void)
{
	return cuEventSynchronize(event);
}

static CUresult ask_stream(void)
{
	return cuStreamQuery(other);
}

static CUresult wait_stream(void)
{
	return cuStreamSynchronize(other);
}

static CUresult allocate(void)
{
	CUdeviceptr p;
	CUresult r = cuMemAlloc(&p, 512);

	return r == CUDA_SUCCESS ? cuMemFree(p) : r;
}

static CUresult free_kept(void)
{
	CUresult r = cuMemFree(kept);

	if (r == CUDA_SUCCESS)
		SUCCEEDS(cuMemAlloc(&kept, 512));
	return r;
}

static const struct {
	const char *name;
	CUresult (*call)(void);
} unsafe[] = {
	{ "cuEventQuery", ask_event },   { "cuEventSynchronize", wait_event },
	{ "cuStreamQuery", ask_stream }, { "cuStreamSynchronize", wait_stream },
	{ "cuMemAlloc", allocate },      { "cuMemFree", free_kept },
};
#define UNSAFE (sizeof(unsafe) / sizeof(unsafe[0]))

static CUstreamCaptureMode exchange(CUstreamCaptureMode mode)
{
	SUCCEEDS(cuThreadExchangeStreamCaptureMode(&mode));
	return mode;
}

struct attempt {
	CUstreamCaptureMode mode; /* of the calling thread */
	CUresult (*call)(void);
	CUresult got;
};

static void *attempt(void *argument)
{
	struct attempt *a = argument;
	CUstreamCaptureMode before;

	SUCCEEDS(cuCtxSetCurrent(gpu_ctx));
	before = exchange(a->mode);
	a->got = a->call();
	CHECK(exchange(before) == a->mode);
	return NULL;
}

static CUresult call_in_thread(struct attempt *a)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, attempt, a) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	return a->got;
}

/* By the driver's documentation of cuThreadExchangeStreamCaptureMode. */
static bool is_forbidden(CUstreamCaptureMode capture, CUstreamCaptureMode thread, bool own)
{
	if (capture == CU_STREAM_CAPTURE_MODE_RELAXED ||
	    thread == CU_STREAM_CAPTURE_MODE_RELAXED)
		return false;
	return own || (capture == CU_STREAM_CAPTURE_MODE_GLOBAL &&
		       thread == CU_STREAM_CAPTURE_MODE_GLOBAL);
}

static void try_one(CUstreamCaptureMode capture, CUstreamCaptureMode thread, bool own,
		    size_t which)
{
	struct attempt a = { .mode = thread, .call = unsafe[which].call };
	bool forbidden = is_forbidden(capture, thread, own);
	CUstreamCaptureStatus status;
	CUresult ended;
	CUgraph graph = NULL;

	SUCCEEDS(cuStreamBeginCapture(captured, capture));
	gpu_launch("run_200us", 1, captured);
	if (own)
		attempt(&a);
	else
		call_in_thread(&a);
	SUCCEEDS(cuStreamIsCapturing(captured, &status));
	ended = cuStreamEndCapture(captured, &graph);
	if (a.got != (forbidden ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS))
		fprintf(stderr, "%s: capture mode %d, thread mode %d, %s thread\n",
			unsafe[which].name, (int)capture, (int)thread,
			own ? "its own" : "another");
	ANSWERS(forbidden ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS, a.got);
	CHECK(status == (forbidden ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
				   : CU_STREAM_CAPTURE_STATUS_ACTIVE));
	ANSWERS(forbidden ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS, ended);
	CHECK(forbidden == !graph);
	if (graph)
		SUCCEEDS(cuGraphDestroy(graph));
}

/* What is not unsafe goes on in other streams during any capture. */
static void work_elsewhere_goes_on(void)
{
	CUgraph graph;
	CUevent recorded = gpu_event();

	SUCCEEDS(cuStreamBeginCapture(captured, CU_STREAM_CAPTURE_MODE_GLOBAL));
	gpu_launch("run_200us", 1, other);
	SUCCEEDS(cuEventRecord(recorded, other));
	SUCCEEDS(cuStreamWaitEvent(other, recorded, 0));
	ANSWERS(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, cuEventRecord(recorded, NULL));
	ANSWERS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
		cuStreamEndCapture(captured, &graph));
	SUCCEEDS(cuEventQuery(event));
}

/* An event that stands for a point of a capture cannot be asked, whatever the mode. */
static void captured_events_cannot_be_asked(void)
{
	CUevent mark = gpu_event();
	CUgraph graph;

	SUCCEEDS(cuStreamBeginCapture(captured, CU_STREAM_CAPTURE_MODE_RELAXED));
	gpu_launch("run_200us", 1, captured);
	SUCCEEDS(cuEventRecord(mark, captured));
	ANSWERS(CUDA_ERROR_CAPTURED_EVENT, cuEventQuery(mark));
	ANSWERS(CUDA_ERROR_CAPTURED_EVENT, cuEventSynchronize(mark));
	SUCCEEDS(cuStreamEndCapture(captured, &graph));
	ANSWERS(CUDA_ERROR_CAPTURED_EVENT, cuEventQuery(mark));
	SUCCEEDS(cuGraphDestroy(graph));
	SUCCEEDS(cuEventRecord(mark, captured));
	SUCCEEDS(cuEventSynchronize(mark));
}

int main(void)
{
	gpu_open();
	captured = gpu_stream(CU_STREAM_DEFAULT);
	other = gpu_stream(CU_STREAM_NON_BLOCKING);
	event = gpu_mark(other);
	SUCCEEDS(cuEventSynchronize(event));
	SUCCEEDS(cuMemAlloc(&kept, 512));
	for (int capture = 0; capture <= CU_STREAM_CAPTURE_MODE_RELAXED; capture++)
		for (int thread = 0; thread <= CU_STREAM_CAPTURE_MODE_RELAXED; thread++)
			for (size_t i = 0; i < UNSAFE; i++) {
				try_one((CUstreamCaptureMode)capture,
					(CUstreamCaptureMode)thread, true, i);
				try_one((CUstreamCaptureMode)capture,
					(CUstreamCaptureMode)thread, false, i);
			}
	work_elsewhere_goes_on();
	captured_events_cannot_be_asked();
	SUCCEEDS(cuCtxDestroy(gpu_ctx));
	return 0;
}
