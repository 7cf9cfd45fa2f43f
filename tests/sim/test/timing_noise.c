/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints how long kernels took on a machine whose durations vary by ten percent, and that a long
 * time of the GPU is a short one on a virtual clock.
 */
#include <time.h>

#include "gpu.h"

#define KERNELS 40

/* What the process has used of the processor, which a virtual clock does not touch. */
static double processor_s(void)
{
	return (double)clock() / CLOCKS_PER_SEC;
}

int main(void)
{
	CUevent marks[KERNELS + 1];
	double least = 1e9, most = 0, before;
	CUstream s;

	gpu_open();
	s = gpu_stream(CU_STREAM_NON_BLOCKING);
	before = processor_s();
	gpu_launch("run_20ms", 1, s);
	marks[0] = gpu_mark(s);
	for (int i = 0; i < KERNELS; i++) {
		gpu_launch("run_5s", 1, s);
		marks[i + 1] = gpu_mark(s);
	}
	for (int i = 0; i < KERNELS; i++) {
		double ms = gpu_elapsed(marks[i], marks[i + 1]);

		printf("%.3f\n", ms);
		least = ms < least ? ms : least;
		most = ms > most ? ms : most;
	}
	CHECK(least >= 4500 && least < 4900);
	CHECK(most > 5100 && most <= 5500.01);
	CHECK(processor_s() - before < 2);
	SUCCEEDS(cuCtxDestroy(gpu_ctx));
	return 0;
}
