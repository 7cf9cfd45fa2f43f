/* SPDX-License-Identifier: Apache-2.0 */
/* Graphs really copy, in the order of their edges; captures record, join, and prohibit. */

#include <cuda.h>
#include <pthread.h>
#include <stdint.h>

#include "check.h"

#define N 256u

static CUcontext ctx;
static CUdeviceptr a, b;

static CUDA_MEMCPY3D copy_of(CUdeviceptr to, CUdeviceptr from)
{
	return (CUDA_MEMCPY3D){ .srcMemoryType = CU_MEMORYTYPE_DEVICE,
				.srcDevice = from,
				.dstMemoryType = CU_MEMORYTYPE_DEVICE,
				.dstDevice = to,
				.WidthInBytes = N,
				.Height = 1,
				.Depth = 1 };
}

static unsigned char first_byte(CUdeviceptr p)
{
	unsigned char byte;

	SUCCEEDS(cuMemcpyDtoH(&byte, p, 1));
	return byte;
}

static void CUDA_CB count_call(void *n)
{
	++*(int *)n;
}

static void shape_graph(CUgraph g, CUgraphNode copy, CUgraphNode host, CUgraphNode set)
{
	CUgraph clone;
	CUgraphNode found, deps[2];
	CUgraphExec cyclic;
	size_t n = 2;

	SUCCEEDS(cuGraphNodeGetDependencies(copy, deps, NULL, &n));
	CHECK(n == 1 && deps[0] == set && !deps[1]);
	SUCCEEDS(cuGraphClone(&clone, g));
	SUCCEEDS(cuGraphNodeFindInClone(&found, copy, clone));
	CHECK(found != copy);
	SUCCEEDS(cuGraphDestroy(clone));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(clone));
	SUCCEEDS(cuGraphAddDependencies(g, &host, &set, NULL, 1));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiate(&cyclic, g, 0));
}

/* The copy is added first, but depends on the memset. */
static void run_in_order(void)
{
	CUgraph g;
	CUgraphNode copy, set, host;
	CUgraphExec exec;
	CUDA_MEMCPY3D p = copy_of(b, a);
	CUDA_MEMSET_NODE_PARAMS m = {
		.dst = a, .value = 7, .elementSize = 1, .width = N, .height = 1
	};
	int calls = 0;
	CUDA_HOST_NODE_PARAMS h = { count_call, &calls };

	SUCCEEDS(cuMemsetD8(a, 1, N));
	SUCCEEDS(cuMemsetD8(b, 2, N));
	SUCCEEDS(cuGraphCreate(&g, 0));
	SUCCEEDS(cuGraphAddMemcpyNode(&copy, g, NULL, 0, &p, ctx));
	SUCCEEDS(cuGraphAddMemsetNode(&set, g, NULL, 0, &m, ctx));
	SUCCEEDS(cuGraphAddDependencies(g, &set, &copy, NULL, 1));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies(g, &set, &copy, NULL, 1));
	SUCCEEDS(cuGraphAddHostNode(&host, g, &copy, 1, &h));
	SUCCEEDS(cuGraphInstantiate(&exec, g, 0));
	SUCCEEDS(cuGraphLaunch(exec, NULL));
	CHECK(first_byte(b) == 7 && calls == 1);
	m.value = 9;
	SUCCEEDS(cuGraphExecMemsetNodeSetParams(exec, set, &m, ctx));
	SUCCEEDS(cuGraphLaunch(exec, NULL));
	CHECK(first_byte(b) == 9 && calls == 2);
	SUCCEEDS(cuGraphNodeSetEnabled(exec, copy, 0));
	SUCCEEDS(cuMemsetD8(b, 3, N));
	SUCCEEDS(cuGraphLaunch(exec, NULL));
	CHECK(first_byte(b) == 3);
	shape_graph(g, copy, host, set);
	SUCCEEDS(cuGraphExecDestroy(exec));
	SUCCEEDS(cuGraphDestroy(g));
}

static void capture_fork(CUstream s, CUstream t, CUevent fork)
{
	SUCCEEDS(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
	SUCCEEDS(cuMemsetD8Async(a, 5, N, s));
	SUCCEEDS(cuEventRecord(fork, s));
	SUCCEEDS(cuStreamWaitEvent(t, fork, 0));
	SUCCEEDS(cuMemcpyDtoDAsync(b, a, N, t));
}

static void capture_copies(void)
{
	CUstream s, t;
	CUgraph g;
	CUgraphExec exec;
	CUevent fork, join;
	CUstreamCaptureStatus status;
	size_t n = 0;

	SUCCEEDS(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	SUCCEEDS(cuStreamCreate(&t, CU_STREAM_NON_BLOCKING));
	SUCCEEDS(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
	SUCCEEDS(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
	SUCCEEDS(cuMemsetD8(b, 0, N));
	capture_fork(s, t, fork);
	SUCCEEDS(cuStreamIsCapturing(t, &status));
	CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
	SUCCEEDS(cuEventRecord(join, t));
	SUCCEEDS(cuStreamWaitEvent(s, join, 0));
	SUCCEEDS(cuStreamEndCapture(s, &g));
	CHECK(first_byte(b) == 0); /* nothing has run yet */
	ANSWERS(CUDA_ERROR_CAPTURED_EVENT, cuEventQuery(join));
	SUCCEEDS(cuGraphGetNodes(g, NULL, &n));
	CHECK(n == 2);
	SUCCEEDS(cuGraphInstantiate(&exec, g, 0));
	SUCCEEDS(cuGraphLaunch(exec, s));
	CHECK(first_byte(b) == 5);
	SUCCEEDS(cuGraphExecDestroy(exec));
	SUCCEEDS(cuGraphDestroy(g));

	capture_fork(s, t, fork); /* not joined again */
	ANSWERS(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, cuStreamEndCapture(s, &g));
	CHECK(!g);
	SUCCEEDS(cuStreamIsCapturing(t, &status));
	CHECK(status == CU_STREAM_CAPTURE_STATUS_NONE);
	SUCCEEDS(cuEventDestroy(fork));
	SUCCEEDS(cuEventDestroy(join));
	SUCCEEDS(cuStreamDestroy(s));
	SUCCEEDS(cuStreamDestroy(t));
}

static void *allocate(void *result)
{
	CUdeviceptr p;
	CUresult *r = result;

	SUCCEEDS(cuCtxSetCurrent(ctx));
	*r = cuMemAlloc(&p, 4096);
	if (*r == CUDA_SUCCESS)
		SUCCEEDS(cuMemFree(p));
	return NULL;
}

static CUresult allocate_elsewhere(void)
{
	pthread_t thread;
	CUresult r;

	CHECK(!pthread_create(&thread, NULL, allocate, &r));
	pthread_join(thread, NULL);
	return r;
}

/* An allocation in a capture of MODE, by this thread or another one. */
static void prohibit_in(CUstream s, CUstreamCaptureMode mode, CUresult same, CUresult other)
{
	CUstreamCaptureMode relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;
	CUresult broken = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	CUgraph g;
	CUdeviceptr p;

	SUCCEEDS(cuStreamBeginCapture(s, mode));
	ANSWERS(other, allocate_elsewhere());
	ANSWERS(other ? broken : CUDA_SUCCESS, cuStreamEndCapture(s, &g));
	SUCCEEDS(cuStreamBeginCapture(s, mode));
	ANSWERS(same, cuMemAlloc(&p, 4096));
	ANSWERS(same ? broken : CUDA_SUCCESS, cuStreamEndCapture(s, &g));
	SUCCEEDS(cuThreadExchangeStreamCaptureMode(&relaxed));
	SUCCEEDS(cuStreamBeginCapture(s, mode));
	SUCCEEDS(cuMemAlloc(&p, 4096));
	SUCCEEDS(cuStreamEndCapture(s, &g));
	SUCCEEDS(cuThreadExchangeStreamCaptureMode(&relaxed));
	CHECK(relaxed == CU_STREAM_CAPTURE_MODE_RELAXED);
}

static void prohibit(void)
{
	CUresult no = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	CUstream s;
	CUgraph g;

	SUCCEEDS(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	prohibit_in(s, CU_STREAM_CAPTURE_MODE_GLOBAL, no, no);
	prohibit_in(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, no, CUDA_SUCCESS);
	prohibit_in(s, CU_STREAM_CAPTURE_MODE_RELAXED, CUDA_SUCCESS, CUDA_SUCCESS);
	SUCCEEDS(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
	ANSWERS(CUDA_ERROR_ILLEGAL_STATE,
		cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
	ANSWERS(no, cuStreamSynchronize(s));
	ANSWERS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(s, &g));
	ANSWERS(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(s, &g));
	ANSWERS(no, cuStreamBeginCapture(NULL, CU_STREAM_CAPTURE_MODE_RELAXED));
	SUCCEEDS(cuStreamDestroy(s));
}

static uint64_t graph_memory(void)
{
	cuuint64_t bytes = 0;

	SUCCEEDS(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT,
					      &bytes));
	return bytes;
}

static void launch_again(CUgraph g, CUstream s, CUdeviceptr p)
{
	CUgraphExec exec;

	SUCCEEDS(cuGraphInstantiate(&exec, g,
				    CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH));
	SUCCEEDS(cuGraphLaunch(exec, s));
	SUCCEEDS(cuGraphLaunch(exec, s));
	CHECK(graph_memory() == 4u << 20);
	SUCCEEDS(cuMemFree(p));
	SUCCEEDS(cuGraphExecDestroy(exec));
}

static void capture_allocations(void)
{
	CUstream s;
	CUgraph g, clone;
	CUgraphExec exec, second;
	CUdeviceptr p;

	SUCCEEDS(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	SUCCEEDS(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL));
	SUCCEEDS(cuMemAllocAsync(&p, 3u << 20, s));
	SUCCEEDS(cuMemsetD8Async(p, 6, N, s));
	SUCCEEDS(cuMemcpyDtoDAsync(b, p, N, s));
	SUCCEEDS(cuStreamEndCapture(s, &g));
	CHECK(graph_memory() == 0);
	SUCCEEDS(cuGraphInstantiate(&exec, g, 0));
	ANSWERS(CUDA_ERROR_NOT_SUPPORTED, cuGraphInstantiate(&second, g, 0));
	ANSWERS(CUDA_ERROR_NOT_SUPPORTED, cuGraphClone(&clone, g));
	SUCCEEDS(cuGraphLaunch(exec, s));
	CHECK(first_byte(b) == 6 && graph_memory() == 4u << 20);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuGraphLaunch(exec, s)); /* still allocated */
	SUCCEEDS(cuMemFreeAsync(p, s));
	CHECK(graph_memory() == 0);
	SUCCEEDS(cuGraphLaunch(exec, s));
	SUCCEEDS(cuMemFree(p));
	SUCCEEDS(cuGraphExecDestroy(exec));
	launch_again(g, s, p);
	SUCCEEDS(cuGraphDestroy(g));
	SUCCEEDS(cuStreamDestroy(s));
}

static void keep_objects(void)
{
	CUuserObject object;
	CUgraph g;
	CUgraphExec exec;
	int destroyed = 0;

	SUCCEEDS(cuUserObjectCreate(&object, &destroyed, count_call, 1,
				    CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
	SUCCEEDS(cuGraphCreate(&g, 0));
	SUCCEEDS(cuGraphRetainUserObject(g, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
	SUCCEEDS(cuGraphInstantiate(&exec, g, 0));
	SUCCEEDS(cuGraphDestroy(g));
	CHECK(!destroyed);
	SUCCEEDS(cuGraphExecDestroy(exec));
	CHECK(destroyed == 1);
}

int main(void)
{
	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(ctx));
	SUCCEEDS(cuMemAlloc(&a, N));
	SUCCEEDS(cuMemAlloc(&b, N));
	run_in_order();
	capture_copies();
	prohibit();
	capture_allocations();
	keep_objects();
	return 0;
}
