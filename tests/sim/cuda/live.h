/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_LIVE_H
#define SIM_CUDA_LIVE_H

#include <stdbool.h>

/*
 * Handles that are alive, so that a wrong one becomes an error and not a crash. Kept for
 * the handles of modules, libraries and graphs.
 */
enum sim_live {
	SIM_LIVE_MODULE,
	SIM_LIVE_FUNCTION,
	SIM_LIVE_LIBRARY,
	SIM_LIVE_KERNEL,
	SIM_LIVE_LINK,
	SIM_LIVE_GRAPH,
	SIM_LIVE_NODE,
	SIM_LIVE_EXEC,
	SIM_LIVE_USER_OBJECT
};

bool sim_live_add(const void *handle, enum sim_live kind); /* false: no memory */
void sim_live_remove(const void *handle);
bool sim_live_is(const void *handle, enum sim_live kind);

#endif /* SIM_CUDA_LIVE_H */
