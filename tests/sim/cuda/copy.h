/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_COPY_H
#define SIM_CUDA_COPY_H

/*
 * Copies: every one of the driver's entry points becomes a CUDA_MEMCPY3D, which is also
 * what a graph node holds, and goes through sim_copy_submit().
 */

#include "sim.h"

/* How an entry point behaves; combined with |. */
enum copy_mode {
	COPY_ASYNC = 0,
	COPY_SYNC = 1, /* waits, so a capture elsewhere may forbid it */
	COPY_PTSZ = 2, /* the _ptds or _ptsz twin: stream 0 is the thread's own */
};

/* Runs COPY on STREAM (0 for the synchronous ones), or records it when that stream
 * captures. */
CUresult sim_copy_submit(const CUDA_MEMCPY3D *copy, CUstream stream, unsigned int mode);

#endif /* SIM_CUDA_COPY_H */
