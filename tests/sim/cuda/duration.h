/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_DURATION_H
#define SIM_CUDA_DURATION_H

#include "rm/time.h"
#include "sim.h"

struct sim_function;

/* How long things take; docs/simulator.md has the rules. */

/* A kernel of F with so many BLOCKS of THREADS each. FIRST: its first parameter's leading bytes,
 * which the test programs' own kernels are told their time in; 0 without one. */
struct sim_grid {
	uint64_t blocks;
	unsigned int threads;
	size_t dynamic_bytes;
	uint64_t first;
};
void sim_kernel_work(const struct sim_function *f, const struct sim_grid *grid,
		     struct rm_work *out);

enum sim_direction { SIM_COPY_IN, SIM_COPY_OUT, SIM_COPY_LOCAL, SIM_COPY_PEER };
/* BYTES copied in that direction by the device MACHINE, in the running operation. */
CUresult sim_copy_time(uint32_t machine, enum sim_direction direction, uint64_t bytes);

#endif /* SIM_CUDA_DURATION_H */
