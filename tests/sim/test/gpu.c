/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu.h"

#include <time.h>

#define SLACK_MS 0.005

CUcontext gpu_ctx;
CUmodule gpu_module;

static const char ptx[] = ".version 7.0\n.target sm_52\n.address_size 64\n"
			  ".visible .entry run_200us() { ret; }\n"
			  ".visible .entry run_1ms() { ret; }\n"
			  ".visible .entry run_5ms() { ret; }\n"
			  ".visible .entry run_20ms() { ret; }\n"
			  ".visible .entry run_50ms() { ret; }\n"
			  ".visible .entry run_5s() { ret; }\n"
			  ".visible .entry run_hang() { ret; }\n"
			  ".visible .entry plain() { ret; }\n"
			  ".visible .entry tranche_loop(.param .u64 ns) { ret; }\n";

void gpu_open(void)
{
	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuCtxCreate(&gpu_ctx, NULL, 0, 0));
	SUCCEEDS(cuModuleLoadData(&gpu_module, ptx));
}

CUfunction gpu_kernel(const char *name)
{
	CUfunction f;

	SUCCEEDS(cuModuleGetFunction(&f, gpu_module, name));
	return f;
}

void gpu_launch(const char *name, unsigned int blocks, CUstream stream)
{
	SUCCEEDS(cuLaunchKernel(gpu_kernel(name), blocks, 1, 1, 256, 1, 1, 0, stream, NULL,
				NULL));
}

void gpu_loop(unsigned long long ns, unsigned int blocks, CUstream stream)
{
	void *params[] = { &ns };

	SUCCEEDS(cuLaunchKernel(gpu_kernel("tranche_loop"), blocks, 1, 1, 256, 1, 1, 0,
				stream, params, NULL));
}

CUstream gpu_stream(unsigned int flags)
{
	CUstream stream;

	SUCCEEDS(cuStreamCreate(&stream, flags));
	return stream;
}

CUevent gpu_event(void)
{
	CUevent event;

	SUCCEEDS(cuEventCreate(&event, 0));
	return event;
}

CUevent gpu_mark(CUstream stream)
{
	CUevent event = gpu_event();

	SUCCEEDS(cuEventRecord(event, stream));
	return event;
}

double gpu_elapsed(CUevent from, CUevent to)
{
	float ms;

	SUCCEEDS(cuEventSynchronize(from));
	SUCCEEDS(cuEventSynchronize(to));
	SUCCEEDS(cuEventElapsedTime(&ms, from, to));
	return (double)ms;
}

double gpu_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

int gpu_is(double got_ms, double want_ms)
{
	if (got_ms > want_ms - SLACK_MS && got_ms < want_ms + SLACK_MS)
		return 1;
	fprintf(stderr, "%.4f ms, not %.4f\n", got_ms, want_ms);
	return 0;
}
