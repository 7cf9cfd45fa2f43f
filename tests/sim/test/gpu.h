/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_TEST_GPU_H
#define SIM_TEST_GPU_H

/* Kernels that say how long they take, for the programs that test time. */

#include "check.h"

#define WHOLE 1000000u /* blocks that fill every device */

extern CUcontext gpu_ctx;
extern CUmodule gpu_module;

/* cuInit, a context of device 0, the module. */
void gpu_open(void);
/* One of the kernels below; BLOCKS: 1 leaves room for others, WHOLE none. */
CUfunction gpu_kernel(const char *name);
void gpu_launch(const char *name, unsigned int blocks, CUstream stream);
/* tranche_loop for NS. */
void gpu_loop(unsigned long long ns, unsigned int blocks, CUstream stream);
CUstream gpu_stream(unsigned int flags);
CUevent gpu_event(void);
/* A new event, recorded in STREAM. */
CUevent gpu_mark(CUstream stream);
/* In milliseconds, once both are done. */
double gpu_elapsed(CUevent from, CUevent to);
double gpu_now_ms(void);

/* Whether GOT is WANT, give or take what stamps cost and a rounding. */
int gpu_is(double got_ms, double want_ms);

#endif /* SIM_TEST_GPU_H */
