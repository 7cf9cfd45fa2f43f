/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_STREAM_LIST_H
#define SIM_CUDA_STREAM_LIST_H

#include "stream.h"

/* Between stream.c, stream_calls.c, event.c, memop.c and green.c. */
struct stream {
	struct sim_stream base;
	struct stream *next;
	uint64_t ctx_id;
	bool is_gone; /* destroyed; it stays until its work is done */
	struct sim_queue *queue;
	CUsynchronizationPolicy sync_policy;
	CUaccessPolicyWindow window;
	CUlaunchMemSyncDomain domain;
	CUlaunchMemSyncDomainMap domain_map;
};

/* As sim_stream_get, but no use of the stream: a capture does not mind. */
CUresult stream_find(CUstream handle, bool ptsz, struct stream **out);
/* The NULL stream of CTX, whichever thread asks. */
CUresult stream_legacy(struct sim_ctx *ctx, struct stream **out);
/* Runs OP in order; FORCE: in the driver's thread. */
CUresult stream_submit(struct stream *stream, const struct sim_op *op, bool force);
CUresult stream_create(struct sim_ctx *ctx, CUstream *out, unsigned int flags,
		       int priority);

#endif /* SIM_CUDA_STREAM_LIST_H */
