/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_STREAM_H
#define SIM_CUDA_STREAM_H

/*
 * Between stream.c and event.c on one side, capture.c and graph*.c on the other: what each
 * asks of the other about captures. Streams and events are owned by stream.c and event.c;
 * everything about a capture by capture.c.
 */

#include "sim.h"

struct sim_capture; /* capture.c */

struct sim_stream {
	CUstream handle; /* what the application calls it */
	struct sim_ctx *ctx;
	struct sim_capture
		*capture; /* only capture.c writes it; NULL: not part of a capture */
	uint64_t id;
	unsigned int flags; /* of cuStreamCreate */
	int priority;
	bool legacy; /* the context's NULL stream */
	bool per_thread;
	void *priv; /* stream.c */
};

/* ---- capture.c offers ---------------------------------------------------------------- */

/* A use that a capturing stream prohibits (synchronize, query, destroy is allowed):
 * invalidates the capture and answers STREAM_CAPTURE_UNSUPPORTED; CUDA_SUCCESS when S is
 * not capturing. */
CUresult sim_capture_prohibits(struct sim_stream *s);
/* Work on, or a wait for, the legacy stream of CTX: prohibited while a blocking stream of
 * CTX captures (STREAM_CAPTURE_IMPLICIT, and that capture is invalidated). sim_stream_get
 * calls it for a legacy stream, except where only the stream's own facts are asked. */
CUresult sim_capture_implicit(struct sim_ctx *ctx);
/* A wait for a whole context (cuCtxSynchronize, cuCtxRecordEvent):
 * STREAM_CAPTURE_UNSUPPORTED while any stream of it captures, which is invalidated. */
CUresult sim_capture_context(struct sim_ctx *ctx);
/* Called when a stream goes: a capture it takes part in is invalidated. */
void sim_capture_stream_gone(struct sim_stream *s);

/* The point of a capture that an event stands for; event.c keeps one in each event, zeroed
 * at first. */
struct sim_capture_mark {
	uint64_t capture_id; /* 0: the event was last recorded outside a capture */
	CUgraphNode *nodes;  /* malloc */
	size_t count;
};
/* cuEventRecord on a capturing stream. EXTERNAL (CU_EVENT_RECORD_EXTERNAL): a record node
 * is added and the mark is left alone. */
CUresult sim_capture_record(struct sim_stream *s, CUevent event,
			    struct sim_capture_mark *mark, bool external);
/* cuStreamWaitEvent where S captures, or the event stands for a point of a capture (S then
 * joins it). */
CUresult sim_capture_wait(struct sim_stream *s, CUevent event,
			  const struct sim_capture_mark *mark, bool external);
/* The event was recorded in a capture: cuEventQuery, cuEventSynchronize, cuEventElapsedTime
 * and waits answer CAPTURED_EVENT. */
bool sim_capture_marked(const struct sim_capture_mark *mark);
/* Forgets a mark: recorded anew outside a capture, or destroyed. */
void sim_capture_unmark(struct sim_capture_mark *mark);

/* ---- stream.c and event.c offer ------------------------------------------------------ */

/* What sim_submit does where S does not capture: runs OP now or, where host functions or
 * waits are pending in S, queues a copy of it behind them (queue.h). */
CUresult sim_stream_run(struct sim_stream *s, const struct sim_op *op);
/* Waits until what is pending in S was submitted: what comes next runs in this thread, and in
 * the order of S. */
CUresult sim_stream_settle(struct sim_stream *s);
/* Waits until S is idle: a synchronous call, after its work was submitted. */
CUresult sim_stream_drain(struct sim_stream *s);

/* Within an operation: records EVENT; waits for what was recorded in it last. INVALID_HANDLE
 * for no event. */
CUresult sim_event_record_here(CUevent event);
CUresult sim_event_wait_here(CUevent event);
/* Records EVENT in S, which does not capture: a launch's attribute. */
CUresult sim_event_record(CUevent event, struct sim_stream *s);
/* Whether EVENT is a live event: nodes are refused with INVALID_VALUE otherwise. */
bool sim_event_is(CUevent event);
/* Runs a batch of memory operations now (cuStreamBatchMemOp, the graph node). */
CUresult sim_batch_run(const CUDA_BATCH_MEM_OP_NODE_PARAMS *params, struct sim_ctx *ctx);

#endif /* SIM_CUDA_STREAM_H */
