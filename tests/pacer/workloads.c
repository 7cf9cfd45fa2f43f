/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tenant.h"

#define MS UINT64_C(1000000)

/* kernels US [DEVICES]: one after the other; of several threads each has its device. */
static void run_kernels(struct worker *w)
{
	for (;;) {
		launch(w, w->loop, w->number);
		sync_seldom(w, w->number);
	}
}

/* changing US: three times as long while there is an order. */
static void run_changing(struct worker *w)
{
	for (;;) {
		uint64_t ns = w->number * (atomic_load(&w->page->order) ? 3 : 1);

		launch(w, w->loop, ns);
		sync_seldom(w, ns);
	}
}

/* mixed US: up to that long, each length its own kernel. */
static void run_mixed(struct worker *w)
{
	uint64_t dice = w->index + 1;
	CUfunction loops[8];
	char name[40];

	for (unsigned i = 0; i < 8; i++) {
		(void)snprintf(name, sizeof(name), "tranche_loop_%u", i);
		loops[i] = find_function(w, name);
	}
	for (;;) {
		unsigned i;

		dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407;
		i = (unsigned)(dice >> 61);
		launch(w, loops[i], w->number >> i);
		sync_seldom(w, w->number);
	}
}

/* current US: the same, its context made current again before each. */
static void run_current(struct worker *w)
{
	CUcontext ctx;

	check(w, cuCtxGetCurrent(&ctx), "cuCtxGetCurrent");
	for (;;) {
		check(w, cuCtxSetCurrent(ctx), "cuCtxSetCurrent");
		launch(w, w->loop, w->number);
		sync_seldom(w, w->number);
	}
}

/* rare US N: every Nth of them takes 200 times as long. */
static void run_rare(struct worker *w)
{
	for (unsigned i = 0;; i++) {
		launch(w, w->loop, i % w->count ? w->number : 200 * w->number);
		sync_seldom(w, w->number);
	}
}

/* unknown US: never the same kernel again, for as long as there are others. recorded US: an event of
 * its own before each. */
static void launch_unknown(struct worker *w, CUevent before)
{
	char name[40];

	for (unsigned i = 0;; i = (i + 1) % KERNELS) {
		(void)snprintf(name, sizeof(name), "tranche_loop_%u", i);
		if (before)
			check(w, cuEventRecord(before, w->stream), "cuEventRecord");
		launch(w, find_function(w, name), w->number);
	}
}

static void run_unknown(struct worker *w)
{
	launch_unknown(w, NULL);
}

static void run_recorded(struct worker *w)
{
	CUevent before;

	check(w, cuEventCreate(&before, 0), "cuEventCreate");
	launch_unknown(w, before);
}

/* collective US: kernels that no gate may hold back, and after an order others too. */
static void run_collective(struct worker *w)
{
	CUfunction f = find_function(w, "ncclDevKernel_AllReduce_2ms");

	for (;;) {
		if (atomic_load(&w->page->order))
			launch(w, w->loop, w->number);
		else
			launch(w, f, 0);
		w->queued_ns += 2 * MS;
		sync_seldom(w, w->number);
	}
}

/* beside US: the first process launches collectives without an end, the others kernels. */
static void run_beside(struct worker *w)
{
	if (w->index == 0)
		run_collective(w);
	for (;;) {
		launch(w, w->loop, w->number);
		atomic_fetch_add(&w->row->rounds, 1);
	}
}

/* hang US: kernels, and after an order one that never ends, and some behind it, at last such as nobody
 * knows either: not so many that the driver's queue is full. Tells how long the longest of those took to
 * launch, and 1 ns. */
static void run_hang(struct worker *w)
{
	static const char *const unknown[] = { "tranche_loop_1", "tranche_loop_2",
					       "tranche_loop_3" };
	CUfunction f = find_function(w, "stuck_hang");
	uint64_t longest_ns = 0;

	while (!atomic_load(&w->page->order)) {
		launch(w, w->loop, w->number);
		sync_seldom(w, w->number);
	}
	launch(w, f, 0);
	for (unsigned i = 0; i < 200; i++)
		launch(w, w->loop, w->number);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t began_ns = now_ns();

		launch(w, find_function(w, unknown[i]), w->number);
		if (now_ns() - began_ns > longest_ns)
			longest_ns = now_ns() - began_ns;
	}
	atomic_store(&w->row->rounds, longest_ns + 1);
	for (;;)
		sleep_ns(100 * MS);
}

/* bursts US N: idles up to 0.2 s, launches N at once. */
static void run_bursts(struct worker *w)
{
	uint64_t dice = w->index + 7;

	for (;;) {
		dice = dice * UINT64_C(6364136223846793005) + 1442695040888963407;
		sleep_ns((dice >> 33) % (200 * MS));
		for (unsigned i = 0; i < w->count; i++)
			launch(w, w->loop, w->number);
		check(w, cuStreamSynchronize(w->stream), "cuStreamSynchronize");
	}
}

/* Every other process has another demand. lengths US: kernels of that, or 25 times as long. demand US
 * N: N of them at once and a rest, or 3 * N. served US: four at once and a rest, or kernels ten times
 * as long without any. */
static void run_lengths(struct worker *w)
{
	w->number *= w->index % 2 ? 25 : 1;
	run_kernels(w);
}

static void run_demand(struct worker *w)
{
	unsigned n = w->index % 2 ? 3 * w->count : w->count;

	for (;;) {
		for (unsigned i = 0; i < n; i++)
			launch(w, w->loop, w->number);
		check(w, cuStreamSynchronize(w->stream), "cuStreamSynchronize");
		sleep_ns((15 + w->index) * MS);
	}
}

static void run_served(struct worker *w)
{
	if (w->index % 2) {
		w->number *= 10;
		run_kernels(w);
	}
	w->count = 4;
	run_demand(w);
}

/* ---- graphs ---------------------------------------------------------------------------- */

static CUgraphExec make_graph(struct worker *w)
{
	void *params[] = { &w->number };
	CUgraphExec exec;
	CUgraph graph;

	check(w, cuStreamBeginCapture_v2(w->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
	      "cuStreamBeginCapture");
	for (unsigned i = 0; i < w->count; i++)
		check(w,
		      cuLaunchKernel(w->loop, BLOCKS, 1, 1, THREADS, 1, 1, 0, w->stream,
				     params, NULL),
		      "cuLaunchKernel");
	check(w, cuStreamEndCapture(w->stream, &graph), "cuStreamEndCapture");
	check(w, cuGraphInstantiateWithFlags(&exec, graph, 0), "cuGraphInstantiate");
	check(w, cuGraphDestroy(graph), "cuGraphDestroy");
	return exec;
}

/* graphs US N: of N kernels each. */
static void run_graphs(struct worker *w)
{
	CUgraphExec exec = make_graph(w);

	for (;;) {
		submit_begins(w);
		check(w, cuGraphLaunch(exec, w->stream), "cuGraphLaunch");
		submit_ends(w);
		w->queued_ns += w->count * w->number;
		sync_seldom(w, w->count * w->number);
	}
}

/* Of one kernel, which takes *NS. */
static CUDA_KERNEL_NODE_PARAMS one_kernel(struct worker *w, void **ns)
{
	return (CUDA_KERNEL_NODE_PARAMS){ .func = w->loop,
					  .gridDimX = BLOCKS,
					  .gridDimY = 1,
					  .gridDimZ = 1,
					  .blockDimX = THREADS,
					  .blockDimY = 1,
					  .blockDimZ = 1,
					  .kernelParams = ns };
}

static CUgraphExec make_small_graph(struct worker *w, const CUDA_KERNEL_NODE_PARAMS *params,
				    CUgraph *graph, CUgraphNode *node)
{
	CUgraphExec exec;

	check(w, cuGraphCreate(graph, 0), "cuGraphCreate");
	check(w, cuGraphAddKernelNode_v2(node, *graph, NULL, 0, params),
	      "cuGraphAddKernelNode");
	check(w, cuGraphInstantiateWithFlags(&exec, *graph, 0), "cuGraphInstantiate");
	return exec;
}

/* steps US: a graph that takes so long for three seconds, then 15 times as long. */
static void run_steps(struct worker *w)
{
	uint64_t ns = w->number, was_ns = 0;
	CUDA_KERNEL_NODE_PARAMS params = one_kernel(w, (void *[]){ &ns });
	CUgraphNode node;
	CUgraph graph;
	CUgraphExec exec = make_small_graph(w, &params, &graph, &node);

	for (;;) {
		ns = now_ns() / 3000 / MS % 2 ? 15 * w->number : w->number;
		if (ns != was_ns)
			check(w, cuGraphExecKernelNodeSetParams_v2(exec, node, &params),
			      "cuGraphExecKernelNodeSetParams");
		was_ns = ns;
		check(w, cuGraphLaunch(exec, w->stream), "cuGraphLaunch");
		w->queued_ns += ns;
		sync_seldom(w, ns);
	}
}

/* throwaway US: graphs that are launched once. */
static void run_throwaway(struct worker *w)
{
	CUDA_KERNEL_NODE_PARAMS params = one_kernel(w, (void *[]){ &w->number });
	CUgraphNode node;
	CUgraphExec exec;
	CUgraph graph;

	for (;;) {
		exec = make_small_graph(w, &params, &graph, &node);
		check(w, cuGraphLaunch(exec, w->stream), "cuGraphLaunch");
		check(w, cuGraphExecDestroy(exec), "cuGraphExecDestroy");
		check(w, cuGraphDestroy(graph), "cuGraphDestroy");
	}
}

/*
 * captures US: the first thread captures again and again, in each mode, and looks at what came into
 * its graph; the others launch meanwhile. Nothing but its own kernels may be there, and no call
 * of anybody may spoil it.
 */
static void run_captures(struct worker *w)
{
	static const CUstreamCaptureMode modes[] = { CU_STREAM_CAPTURE_MODE_GLOBAL,
						     CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
						     CU_STREAM_CAPTURE_MODE_RELAXED };
	void *params[] = { &w->number };
	size_t nodes, edges;
	CUgraph graph;

	if (w->index > 0)
		for (;;)
			launch(w, w->loop, w->number);
	for (unsigned round = 0;; round++) {
		check(w, cuStreamBeginCapture_v2(w->stream, modes[round % 3]),
		      "cuStreamBeginCapture");
		for (unsigned i = 0; i < 300; i++) {
			check(w,
			      cuLaunchKernel(w->loop, BLOCKS, 1, 1, THREADS, 1, 1, 0,
					     w->stream, params, NULL),
			      "cuLaunchKernel");
			if (i % 100 == 50)
				sleep_ns(7 * MS);
		}
		check(w, cuStreamEndCapture(w->stream, &graph), "cuStreamEndCapture");
		check(w, cuGraphGetNodes(graph, NULL, &nodes), "cuGraphGetNodes");
		check(w, cuGraphGetEdges_v2(graph, NULL, NULL, NULL, &edges),
		      "cuGraphGetEdges");
		check(w, nodes == 300 && edges == 299 ? 0 : CUDA_ERROR_UNKNOWN,
		      "a graph with other nodes than were captured");
		check(w, cuGraphDestroy(graph), "cuGraphDestroy");
		launch(w, w->loop, w->number);
		atomic_fetch_add(&w->row->rounds, 1);
	}
}

/* captured US: the first thread captures nothing, again and again; the others launch meanwhile. */
static void run_captured(struct worker *w)
{
	CUgraph graph;

	if (w->index > 0) {
		sleep_ns(10 * MS);
		for (;;)
			launch(w, w->loop, w->number);
	}
	for (;; atomic_fetch_add(&w->row->rounds, 1)) {
		check(w, cuStreamBeginCapture_v2(w->stream, CU_STREAM_CAPTURE_MODE_GLOBAL),
		      "cuStreamBeginCapture");
		sleep_ns(5 * MS);
		check(w, cuStreamEndCapture(w->stream, &graph), "cuStreamEndCapture");
		check(w, cuGraphDestroy(graph), "cuGraphDestroy");
	}
}

#define TIMED 6u

/* timed US: measures its kernels by events of its own, one between each two, and tells the longest that
 * it saw one take, in ns. */
static void run_timed(struct worker *w)
{
	CUevent events[TIMED + 1];
	float ms;

	for (unsigned i = 0; i <= TIMED; i++)
		check(w, cuEventCreate(&events[i], 0), "cuEventCreate");
	for (;;) {
		check(w, cuEventRecord(events[0], w->stream), "cuEventRecord");
		for (unsigned i = 1; i <= TIMED; i++) {
			launch(w, w->loop, w->number);
			check(w, cuEventRecord(events[i], w->stream), "cuEventRecord");
		}
		check(w, cuEventSynchronize(events[TIMED]), "cuEventSynchronize");
		for (unsigned i = 1; i <= TIMED; i++) {
			check(w, cuEventElapsedTime(&ms, events[i - 1], events[i]),
			      "cuEventElapsedTime");
			if ((uint64_t)((double)ms * 1e6) > atomic_load(&w->row->rounds))
				atomic_store(&w->row->rounds, (uint64_t)((double)ms * 1e6));
		}
	}
}

/* ---- ends ------------------------------------------------------------------------------ */

/* contexts US: made, filled, destroyed with all of it under way. */
static void run_contexts(struct worker *w)
{
	unsigned n = w->count ? w->count : 40;

	for (;; atomic_fetch_add(&w->row->rounds, 1)) {
		CUcontext ctx;

		check(w, cuCtxCreate_v4(&ctx, NULL, 0, 0), "cuCtxCreate");
		load_module(w);
		check(w, cuStreamCreate(&w->stream, CU_STREAM_NON_BLOCKING),
		      "cuStreamCreate");
		for (unsigned i = 0; i < n; i++)
			launch(w, w->loop, w->number);
		check(w, cuCtxDestroy_v2(ctx), "cuCtxDestroy");
		check(w, cuCtxSetCurrent(w->ctx), "cuCtxSetCurrent");
	}
}

/* fresh US: the same with one kernel each. */
static void run_fresh(struct worker *w)
{
	w->count = 1;
	run_contexts(w);
}

/* resets US: the same with the device's own context, reset under everything. */
static void run_resets(struct worker *w)
{
	for (;; atomic_fetch_add(&w->row->rounds, 1)) {
		for (unsigned i = 0; i < 40; i++)
			launch(w, w->loop, w->number);
		check(w, cuDevicePrimaryCtxReset_v2(0), "cuDevicePrimaryCtxReset");
		check(w, cuDevicePrimaryCtxRetain(&w->ctx, 0), "cuDevicePrimaryCtxRetain");
		check(w, cuCtxSetCurrent(w->ctx), "cuCtxSetCurrent");
		load_module(w);
		check(w, cuStreamCreate(&w->stream, CU_STREAM_NON_BLOCKING),
		      "cuStreamCreate");
	}
}

/* A child in the middle of it all. By turns it ends at once, tries the driver (and is refused, as by
 * any driver), and becomes another program of the slice, which works for a while. */
static pid_t make_child(struct worker *w, unsigned turn)
{
	pid_t pid = fork();

	check(w, pid < 0 ? CUDA_ERROR_OPERATING_SYSTEM : 0, "fork");
	if (pid > 0)
		return pid;
	if (turn % 3 == 0)
		_exit(0);
	if (turn % 3 == 1)
		_exit(cuLaunchKernel(w->loop, 1, 1, 1, 1, 1, 1, 0, w->stream, NULL, NULL) ==
				      CUDA_SUCCESS
			      ? 1
			      : 0);
	/* PAGE 1 1 child US */
	(void)execl("/proc/self/exe", w->argv[0], w->argv[1], "1", "1", "child", w->argv[5],
		    (char *)NULL);
	_exit(127);
}

/* forks US, until an order */
static void run_forks(struct worker *w)
{
	for (;;) {
		int status = -1;
		pid_t pid;

		for (unsigned i = 0; i < 100; i++) {
			launch(w, w->loop, w->number);
			sync_seldom(w, w->number);
		}
		/* one thread forks, until an order, while the others are anywhere */
		if (w->index > 0 || atomic_load(&w->page->order))
			continue;
		pid = make_child(w, (unsigned)atomic_load(&w->row->rounds));
		check(w, waitpid(pid, &status, 0) == pid ? 0 : CUDA_ERROR_UNKNOWN,
		      "waitpid");
		check(w, status == 0 ? 0 : CUDA_ERROR_UNKNOWN, "the child's status");
		atomic_fetch_add(&w->row->rounds, 1);
	}
}

/* shots US HOW: programs of one kernel, one after the other. */
static void run_shots(struct worker *w)
{
	for (;; atomic_fetch_add(&w->row->rounds, 1)) {
		pid_t pid = fork();
		int status = -1;

		check(w, pid < 0 ? CUDA_ERROR_OPERATING_SYSTEM : 0, "fork");
		if (pid == 0) {
			(void)execl("/proc/self/exe", w->argv[0], w->argv[1], "1", "1",
				    "child", w->argv[5], w->argv[6], (char *)NULL);
			_exit(127);
		}
		check(w, waitpid(pid, &status, 0) == pid ? 0 : CUDA_ERROR_UNKNOWN,
		      "waitpid");
		check(w, status == 0 || status == SIGKILL ? 0 : CUDA_ERROR_UNKNOWN,
		      "the child's status");
	}
}

/* What was launched is over, and how that is known. */
enum { BY_STREAM = 1, BY_EVENT, BY_CLOCK, NOT_AT_ALL };

static void await(struct worker *w)
{
	CUevent event;

	if (w->count == NOT_AT_ALL) {
		sleep_ns(w->number / 4 * 3);
		(void)kill(getpid(), SIGKILL);
	}
	if (w->count == BY_CLOCK) {
		sleep_ns(w->number / 20 * 21);
		exit(0);
	}
	check(w, cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
	check(w, cuEventRecord(event, w->stream), "cuEventRecord");
	while ((w->count == BY_STREAM ? cuStreamQuery(w->stream) : cuEventQuery(event)) ==
	       CUDA_ERROR_NOT_READY)
		sleep_ns(MS / 5);
}

/* child US [HOW]: what a child becomes. It has no row of its own. */
static void run_child(struct worker *w)
{
	for (unsigned i = 0; i < (w->count ? 1 : 30); i++)
		check(w,
		      cuLaunchKernel(w->loop, BLOCKS, 1, 1, THREADS, 1, 1, 0, w->stream,
				     (void *[]){ &w->number }, NULL),
		      "cuLaunchKernel");
	if (w->count)
		await(w);
	else
		check(w, cuStreamSynchronize(w->stream), "cuStreamSynchronize");
	_exit(0);
}

void (*find_workload(const char *name))(struct worker *w)
{
	static const struct {
		const char *name;
		void (*body)(struct worker *w);
	} all[] = {
		{ "kernels", run_kernels },   { "mixed", run_mixed },
		{ "unknown", run_unknown },   { "collective", run_collective },
		{ "hang", run_hang },         { "bursts", run_bursts },
		{ "graphs", run_graphs },     { "captures", run_captures },
		{ "timed", run_timed },       { "contexts", run_contexts },
		{ "resets", run_resets },     { "forks", run_forks },
		{ "child", run_child },       { "entry", run_entry },
		{ "lengths", run_lengths },   { "demand", run_demand },
		{ "served", run_served },     { "current", run_current },
		{ "recorded", run_recorded }, { "rare", run_rare },
		{ "beside", run_beside },     { "shots", run_shots },
		{ "fresh", run_fresh },       { "captured", run_captured },
		{ "steps", run_steps },       { "throwaway", run_throwaway },
		{ "changing", run_changing },
	};

	for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (strcmp(name, all[i].name) == 0)
			return all[i].body;
	return NULL;
}
