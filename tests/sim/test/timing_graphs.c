/* SPDX-License-Identifier: Apache-2.0 */
/* Graphs take the sum of their nodes, one launch after the other, and are cheap to launch. */
#include <stdbool.h>

#include "gpu.h"

#define NODES 500

static CUgraphExec capture(CUstream s, const char *kernel, int nodes)
{
	CUgraph graph;
	CUgraphExec exec;

	SUCCEEDS(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL));
	for (int i = 0; i < nodes; i++)
		gpu_launch(kernel, 1, s);
	SUCCEEDS(cuStreamEndCapture(s, &graph));
	SUCCEEDS(cuGraphInstantiate(&exec, graph, 0));
	SUCCEEDS(cuGraphDestroy(graph));
	return exec;
}

static bool a_launch_takes_the_sum(void)
{
	CUstream a = gpu_stream(CU_STREAM_NON_BLOCKING),
		 b = gpu_stream(CU_STREAM_NON_BLOCKING);
	CUgraphExec exec = capture(a, "run_1ms", 4);
	CUevent start, once, twice;

	SUCCEEDS(cuGraphUpload(exec, a));
	gpu_launch("run_50ms", 1, a);
	start = gpu_mark(a);
	SUCCEEDS(cuStreamWaitEvent(b, start, 0));
	SUCCEEDS(cuGraphLaunch(exec, a));
	once = gpu_mark(a);
	SUCCEEDS(cuGraphLaunch(exec, b)); /* not at the same time, though it has room */
	twice = gpu_mark(b);
	if (cuEventQuery(start) == CUDA_SUCCESS) {
		SUCCEEDS(cuCtxSynchronize());
		return false; /* the host was too slow to have it all wait */
	}
	CHECK(gpu_is(gpu_elapsed(start, once), 4));
	CHECK(gpu_is(gpu_elapsed(start, twice), 8));
	SUCCEEDS(cuGraphExecDestroy(exec));
	SUCCEEDS(cuStreamDestroy(a));
	SUCCEEDS(cuStreamDestroy(b));
	return true;
}

static int calls;
static double called_ms;

static void CUDA_CB note_call(void *user)
{
	(void)user;
	calls++;
	called_ms = gpu_now_ms();
}

/* A host node runs in its turn, and the caller does not wait for it; an event node stamps. */
static void nodes_run_in_their_turn(void)
{
	CUstream s = gpu_stream(CU_STREAM_NON_BLOCKING);
	CUevent from = gpu_event(), to = gpu_event();
	CUgraph graph;
	CUgraphExec exec;
	double begin;

	SUCCEEDS(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED));
	SUCCEEDS(cuEventRecordWithFlags(from, s, CU_EVENT_RECORD_EXTERNAL));
	gpu_launch("run_5ms", 1, s);
	SUCCEEDS(cuLaunchHostFunc(s, note_call, NULL));
	gpu_launch("run_5ms", 1, s);
	SUCCEEDS(cuEventRecordWithFlags(to, s, CU_EVENT_RECORD_EXTERNAL));
	SUCCEEDS(cuStreamEndCapture(s, &graph));
	SUCCEEDS(cuGraphInstantiate(&exec, graph, 0));
	begin = gpu_now_ms();
	SUCCEEDS(cuGraphLaunch(exec, s));
	ANSWERS(CUDA_ERROR_NOT_READY, cuStreamQuery(s));
	SUCCEEDS(cuStreamSynchronize(s));
	CHECK(calls == 1 && called_ms - begin >= 4.99);
	CHECK(gpu_elapsed(from, to) >= 9.99);
	SUCCEEDS(cuGraphExecDestroy(exec));
	SUCCEEDS(cuGraphDestroy(graph));
	SUCCEEDS(cuStreamDestroy(s));
}

/* The best of some launches: the host may be busy with others. */
static void many_nodes_are_cheap(void)
{
	CUstream s = gpu_stream(CU_STREAM_NON_BLOCKING);
	CUgraphExec exec = capture(s, "plain", NODES);
	double best_ms = 1e9;

	for (int i = 0; i < 30; i++) {
		double begin = gpu_now_ms(), ms;

		SUCCEEDS(cuGraphLaunch(exec, s));
		ms = gpu_now_ms() - begin;
		best_ms = ms < best_ms ? ms : best_ms;
		SUCCEEDS(cuStreamSynchronize(s));
	}
	printf("%d nodes: %.1f us\n", NODES, best_ms * 1e3);
	CHECK(best_ms < 0.5);
	SUCCEEDS(cuGraphExecDestroy(exec));
	SUCCEEDS(cuStreamDestroy(s));
}

int main(void)
{
	int tries = 1;

	gpu_open();
	while (!a_launch_takes_the_sum())
		CHECK(tries++ < 50);
	nodes_run_in_their_turn();
	many_nodes_are_cheap();
	SUCCEEDS(cuCtxDestroy(gpu_ctx));
	return 0;
}
