/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/steps.h"
#include "rt/file.h"

/* One process of a tenant: a thread per device that does its workload until it is killed. */

_Noreturn void tr_worker_fail(struct tr_worker *w, const char *what, int code)
{
	(void)snprintf(w->page->what, sizeof(w->page->what), "%s", what);
	atomic_store(&w->page->code, (uint32_t)code);
	atomic_store(&w->page->state, TR_BENCH_FAILED);
	(void)fprintf(stderr, "tranche: bench: %s answers %d\n", what, code);
	_exit(3);
}

static void check(struct tr_worker *w, CUresult r, const char *what)
{
	if (r != CUDA_SUCCESS)
		tr_worker_fail(w, what, (int)r);
}

/* splitmix64 */
uint64_t tr_worker_random(struct tr_worker *w)
{
	uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void tr_worker_sleep_until(uint64_t at_ns)
{
	for (uint64_t now = tr_clock_ns(); now < at_ns; now = tr_clock_ns())
		tr_sleep_ns(at_ns - now);
}

/* Rounds of the kernels' loop for NS on an idle GPU. */
uint64_t tr_worker_rounds(const struct tr_worker *w, uint64_t ns)
{
	return w->loop_q10 ? ns * w->loop_q10 / 1024 : ns;
}

static void report(struct tr_worker *w, unsigned lane)
{
	struct tr_lane *l = &w->lanes[lane];

	if (!l->unreported_ns)
		return;
	l->done_ns += l->unreported_ns;
	l->unreported_ns = 0;
	check(w,
	      tr_driver.cuStreamWriteValue32_v2(l->stream, l->word,
						(cuuint32_t)(l->done_ns / 1000), 0),
	      "cuStreamWriteValue32");
}

void tr_worker_count(struct tr_worker *w, unsigned lane, uint64_t ns)
{
	struct tr_lane *l = &w->lanes[lane];

	atomic_fetch_add_explicit(&w->page->launched[w->device], 1, memory_order_relaxed);
	l->unreported_ns += ns * l->blocks / w->sm_count;
	l->unsynced_ns += ns;
	if (w->loop_q10 && l->unreported_ns >= REPORT_NS)
		report(w, lane);
}

void tr_worker_launch(struct tr_worker *w, unsigned lane, CUfunction function, uint64_t ns)
{
	uint64_t rounds = tr_worker_rounds(w, ns);
	void *params[] = { &rounds };
	struct tr_lane *l = &w->lanes[lane];

	check(w,
	      tr_driver.cuLaunchKernel(function, l->blocks, 1, 1, BLOCK_THREADS, 1, 1,
				       w->block_bytes, l->stream, params, NULL),
	      "cuLaunchKernel");
	tr_worker_count(w, lane, ns);
}

void tr_worker_cooperate(struct tr_worker *w, unsigned lane, uint64_t ns)
{
	uint64_t rounds = tr_worker_rounds(w, ns);
	void *params[] = { &rounds };
	struct tr_lane *l = &w->lanes[lane];

	check(w,
	      tr_driver.cuLaunchCooperativeKernel(w->loop, l->blocks, 1, 1, BLOCK_THREADS,
						  1, 1, w->block_bytes, l->stream, params),
	      "cuLaunchCooperativeKernel");
	tr_worker_count(w, lane, ns);
}

void tr_worker_launch_graph(struct tr_worker *w, unsigned lane, CUgraphExec graph,
			    uint64_t ns)
{
	check(w, tr_driver.cuGraphLaunch(graph, w->lanes[lane].stream), "cuGraphLaunch");
	tr_worker_count(w, lane, ns);
}

void tr_worker_sync(struct tr_worker *w, unsigned lane)
{
	if (w->loop_q10)
		report(w, lane);
	check(w, tr_driver.cuStreamSynchronize(w->lanes[lane].stream),
	      "cuStreamSynchronize");
	w->lanes[lane].unsynced_ns = 0;
}

CUgraphExec tr_worker_graph(struct tr_worker *w, unsigned nodes, uint64_t ns)
{
	CUstream stream = w->lanes[0].stream;
	uint64_t rounds = tr_worker_rounds(w, ns);
	void *params[] = { &rounds };
	CUgraphExec exec;
	CUgraph graph;

	check(w,
	      tr_driver.cuStreamBeginCapture_v2(stream,
						CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
	      "cuStreamBeginCapture");
	for (unsigned i = 0; i < nodes; i++)
		check(w,
		      tr_driver.cuLaunchKernel(w->loop, w->sm_count, 1, 1, BLOCK_THREADS, 1,
					       1, w->block_bytes, stream, params, NULL),
		      "cuLaunchKernel");
	check(w, tr_driver.cuStreamEndCapture(stream, &graph), "cuStreamEndCapture");
	check(w, tr_driver.cuGraphInstantiateWithFlags(&exec, graph, 0),
	      "cuGraphInstantiateWithFlags");
	return exec;
}

void tr_worker_copies(struct tr_worker *w, bool is_in)
{
	CUstream stream = w->lanes[0].stream;

	if (!w->host) {
		check(w, tr_driver.cuMemHostAlloc(&w->host, COPY_BYTES, 0),
		      "cuMemHostAlloc");
		check(w, tr_driver.cuMemAlloc_v2(&w->memory, COPY_BYTES), "cuMemAlloc");
	}
	if (is_in)
		check(w,
		      tr_driver.cuMemcpyHtoDAsync_v2(w->memory, w->host, COPY_BYTES,
						     stream),
		      "cuMemcpyHtoDAsync");
	else
		check(w, tr_driver.cuMemcpyDtoHAsync_v2(w->host, w->memory, 4096, stream),
		      "cuMemcpyDtoHAsync");
}

static void open_lanes(struct tr_worker *w, unsigned lanes)
{
	/* The GPU writes it, not we. */
	void *words = (void *)(uintptr_t)w->page->done_us[w->device];
	CUdeviceptr base = 0;

	if (w->loop_q10)
		check(w, tr_driver.cuMemHostGetDevicePointer_v2(&base, words, 0),
		      "cuMemHostGetDevicePointer");
	for (unsigned i = 0; i < lanes; i++) {
		struct tr_lane *l = &w->lanes[i];

		check(w, tr_driver.cuStreamCreate(&l->stream, CU_STREAM_NON_BLOCKING),
		      "cuStreamCreate");
		l->word = base + i * sizeof(uint32_t);
		l->blocks = w->sm_count / lanes;
	}
}

static void get_function(struct tr_worker *w, CUmodule module, const char *name,
			 CUfunction *out)
{
	check(w, tr_driver.cuModuleGetFunction(out, module, name), "cuModuleGetFunction");
	check(w,
	      tr_driver.cuFuncSetAttribute(*out,
					   CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
					   (int)w->block_bytes),
	      "cuFuncSetAttribute");
}

static unsigned get_attribute(struct tr_worker *w, CUdevice_attribute attribute,
			      CUdevice device)
{
	int value = 0;

	check(w, tr_driver.cuDeviceGetAttribute(&value, attribute, device),
	      "cuDeviceGetAttribute");
	return (unsigned)value;
}

static void open_device(struct tr_worker *w)
{
	CUcontext context;
	CUmodule module;
	CUdevice device;

	check(w, tr_driver.cuDeviceGet(&device, (int)w->device), "cuDeviceGet");
	check(w, tr_driver.cuDevicePrimaryCtxRetain(&context, device),
	      "cuDevicePrimaryCtxRetain");
	check(w, tr_driver.cuCtxSetCurrent(context), "cuCtxSetCurrent");
	w->sm_count = get_attribute(w, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
	w->block_bytes = get_attribute(
		w, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, device);
	check(w, tr_driver.cuModuleLoadData(&module, tr_driver_ptx), "cuModuleLoadData");
	get_function(w, module, "tranche_loop", &w->loop);
	for (unsigned i = 0; i < TR_DRIVER_LOOPS; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "tranche_loop_%u", i);
		get_function(w, module, name, &w->loops[i]);
	}
}

void *tr_worker_run(void *arg)
{
	struct tr_worker *w = arg;

	open_device(w);
	open_lanes(w, w->workload->kind == TR_WORKLOAD_STREAMS ? 4 : 1);
	atomic_store(&w->page->state, TR_BENCH_READY);
	tr_worker_steps(w);
	return NULL;
}

/* Nanoseconds that ROUNDS take on this device, the shortest of some tries. */
static uint64_t time_rounds(struct tr_worker *w, uint64_t rounds)
{
	void *params[] = { &rounds };
	struct tr_lane *l = &w->lanes[0];
	uint64_t least_ns = UINT64_MAX;
	CUevent from, to;

	check(w, tr_driver.cuEventCreate(&from, 0), "cuEventCreate");
	check(w, tr_driver.cuEventCreate(&to, 0), "cuEventCreate");
	for (unsigned i = 0; i < 20; i++) {
		float ms = 0;

		check(w, tr_driver.cuEventRecord(from, l->stream), "cuEventRecord");
		check(w,
		      tr_driver.cuLaunchKernel(w->loop, l->blocks, 1, 1, BLOCK_THREADS, 1,
					       1, w->block_bytes, l->stream, params, NULL),
		      "cuLaunchKernel");
		check(w, tr_driver.cuEventRecord(to, l->stream), "cuEventRecord");
		check(w, tr_driver.cuEventSynchronize(to), "cuEventSynchronize");
		check(w, tr_driver.cuEventElapsedTime(&ms, from, to), "cuEventElapsedTime");
		if ((uint64_t)((double)ms * 1e6) < least_ns)
			least_ns = (uint64_t)((double)ms * 1e6);
	}
	return least_ns;
}

unsigned tr_worker_calibrate(struct tr_worker *w)
{
	uint64_t few_ns, many_ns, few = 1000000, many = 3000000;

	open_device(w);
	open_lanes(w, 1);
	(void)time_rounds(w, many); /* clocks rise */
	few_ns = time_rounds(w, few);
	many_ns = time_rounds(w, many);
	/* The difference, so that what a launch costs is not in it. */
	return many_ns > few_ns ? (unsigned)((many - few) * 1024 / (many_ns - few_ns)) : 0;
}
