/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_LAUNCH_H
#define SIM_CUDA_LAUNCH_H

#include "rm/time.h"
#include "sim.h"

struct sim_function;

/* Kernels that this process has launched; those in graphs count when they run. */
uint64_t sim_launch_count(void);
void sim_launch_counted(void);
/* A launch that was checked: counts it and gives its work to S. */
CUresult sim_launch_work(struct sim_stream *s, struct rm_work *work);
/* capture.c: records the launch, which has been checked, in the capture of S. */
CUresult sim_capture_kernel(struct sim_stream *s, const CUDA_KERNEL_NODE_PARAMS *params);
/* occupancy.c: how many blocks of the function one multiprocessor holds. */
CUresult sim_occupancy(const struct sim_function *f, unsigned threads, size_t dynamic_bytes,
		       int *out);

#endif /* SIM_CUDA_LAUNCH_H */
