/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_ERRORS_H
#define SIM_CUDA_ERRORS_H

#include "sim.h"

/* Every CUresult of the header, in rising order (generated). */
struct sim_error {
	CUresult code;
	const char *name;
	const char *text;
};
extern const struct sim_error sim_errors[];
extern const size_t sim_error_count;

#endif /* SIM_CUDA_ERRORS_H */
