/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "handle.h"
#include "queue.h"
#include "stream.h"
#include "stream_list.h"

/* Recording asks for the next generation and, in its turn, submits a stamp with it; the event is
 * done when its stamp has reached the one asked for last. Both numbers and the references are
 * under the queues' lock. */
struct event {
	struct sim_handle handle; /* first */
	unsigned int references;
	unsigned int flags;
	uint32_t machine;
	uint64_t ctx_id;
	uint64_t asked, submitted;
	bool has_stamp;
	uint32_t stamp;
	struct sim_capture_mark mark;
};
SIM_HANDLE_SET(events);

/* What an event costs the GPU. */
#define STAMP_NS 500

static struct event *find(CUevent handle)
{
	return handle && sim_handle_live(&events, handle) ? (struct event *)(void *)handle
							  : NULL;
}

static void release(struct event *event)
{
	bool last;

	sim_queue_lock();
	last = --event->references == 0;
	sim_queue_unlock_and_signal();
	if (last && event->has_stamp)
		rm_stamp_close(event->stamp);
	if (last)
		free(event);
}

CUresult cuEventCreate(CUevent *phEvent, unsigned int Flags)
{
	const unsigned int all = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING |
				 CU_EVENT_INTERPROCESS;
	struct sim_ctx *ctx;
	struct event *event;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (!phEvent || (Flags & ~all) ||
	    ((Flags & CU_EVENT_INTERPROCESS) && !(Flags & CU_EVENT_DISABLE_TIMING)))
		return CUDA_ERROR_INVALID_VALUE;
	event = calloc(1, sizeof(*event));
	if (!event)
		return CUDA_ERROR_OUT_OF_MEMORY;
	event->references = 1;
	event->flags = Flags;
	event->machine = ctx->machine;
	event->ctx_id = ctx->id;
	sim_handle_add(&events, &event->handle);
	*phEvent = (CUevent)(void *)event;
	return CUDA_SUCCESS;
}

static CUresult destroy(CUevent handle)
{
	struct event *event = (struct event *)(void *)handle;

	if (!handle || !sim_handle_remove(&events, handle))
		return CUDA_ERROR_INVALID_HANDLE;
	sim_capture_unmark(&event->mark);
	release(event);
	return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent hEvent)
{
	SIM_ENTER();
	return destroy(hEvent);
}

CUresult cuEventDestroy_v2(CUevent hEvent)
{
	SIM_ENTER();
	return destroy(hEvent);
}

/* ---- record -------------------------------------------------------------------------- */

struct step {
	struct event *event;
	uint64_t generation;
};

/* In the lane of the running operation. A stamp of another device's event is written there, and
 * the stream waits for it. */
static CUresult run_record(void *params, struct sim_ctx *ctx)
{
	const struct step *step = params;
	struct event *event = step->event;
	const struct rm_work work = {
		.kind = RM_WORK_STAMP,
		.ns = STAMP_NS,
		.stamp = event->stamp,
		.generation = step->generation,
	};
	CUresult r;

	(void)ctx;
	r = sim_lane_do(event->machine, &work);
	sim_queue_lock();
	if (event->submitted < step->generation)
		event->submitted = step->generation;
	sim_queue_unlock_and_signal();
	return r;
}

static void drop_step(void *params)
{
	release(((struct step *)params)->event);
}

/* A reference and the next generation for STEP; the stamp is opened by the first one. */
static CUresult ask(struct event *event, struct step *step)
{
	int r = 0;

	sim_queue_lock();
	if (!event->has_stamp) {
		r = rm_time_open();
		if (r == 0)
			r = rm_stamp_open(&event->stamp);
		event->has_stamp = r == 0;
	}
	if (r == 0) {
		*step = (struct step){ event, ++event->asked };
		event->references++;
	}
	sim_queue_unlock_and_signal();
	return sim_lane_result(r);
}

static CUresult record_in(struct event *event, struct sim_stream *s)
{
	struct step step;
	const struct sim_op op = {
		.run = run_record,
		.drop = drop_step,
		.params = &step,
		.params_bytes = sizeof(step),
	};
	CUresult r;

	if (event->machine != s->ctx->machine)
		return CUDA_ERROR_INVALID_HANDLE;
	sim_capture_unmark(&event->mark);
	r = ask(event, &step);
	return r == CUDA_SUCCESS ? stream_submit(s->priv, &op, false) : r;
}

CUresult sim_event_record(CUevent handle, struct sim_stream *s)
{
	struct event *event = find(handle);

	return event ? record_in(event, s) : CUDA_ERROR_INVALID_VALUE;
}

static CUresult record(CUevent handle, CUstream stream, bool ptsz, unsigned int flags)
{
	struct event *event = find(handle);
	struct sim_stream *s;
	CUresult r;

	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	if (flags & ~(unsigned int)CU_EVENT_RECORD_EXTERNAL)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_get(stream, ptsz, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (sim_stream_capturing(s))
		return sim_capture_record(s, handle, &event->mark,
					  flags == CU_EVENT_RECORD_EXTERNAL);
	sim_spend(SIM_SPEND_RECORD_NS - SIM_SPEND_CALL_NS);
	/* An external record means something only in a capture. */
	return flags ? CUDA_ERROR_ILLEGAL_STATE : record_in(event, s);
}

CUresult cuEventRecord(CUevent hEvent, CUstream hStream)
{
	SIM_ENTER();
	return record(hEvent, hStream, false, 0);
}

CUresult cuEventRecord_ptsz(CUevent hEvent, CUstream hStream)
{
	SIM_ENTER();
	return record(hEvent, hStream, true, 0);
}

CUresult cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned int flags)
{
	SIM_ENTER();
	return record(hEvent, hStream, false, flags);
}

CUresult cuEventRecordWithFlags_ptsz(CUevent hEvent, CUstream hStream, unsigned int flags)
{
	SIM_ENTER();
	return record(hEvent, hStream, true, flags);
}

CUresult sim_event_record_here(CUevent handle)
{
	struct event *event = find(handle);
	struct step step;
	CUresult r;

	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	r = ask(event, &step);
	if (r != CUDA_SUCCESS)
		return r;
	r = run_record(&step, NULL);
	release(event);
	return r;
}

bool sim_event_is(CUevent event)
{
	return find(event) != NULL;
}

/* ---- wait ---------------------------------------------------------------------------- */

static bool is_submitted(const void *what)
{
	const struct step *step = what;

	return step->event->submitted >= step->generation;
}

static bool has_reached(const struct step *step)
{
	return step->generation == 0 ||
	       rm_stamp_read(step->event->stamp, NULL) >= step->generation;
}

/* Behind a host function in another stream there is nothing to wait for in the lane yet. */
static CUresult run_wait(void *params, struct sim_ctx *ctx)
{
	const struct step *step = params;
	const struct rm_work work = {
		.kind = RM_WORK_WAIT_STAMP,
		.stamp = step->event->stamp,
		.generation = step->generation,
	};

	sim_queue_wait(is_submitted, step);
	return has_reached(step) ? CUDA_SUCCESS : sim_lane_do(ctx->machine, &work);
}

/* What was asked of EVENT last; holds it when that is still to come. */
static bool is_pending(struct event *event, struct step *step)
{
	bool pending;

	sim_queue_lock();
	*step = (struct step){ event, event->asked };
	pending = event->submitted < event->asked || !has_reached(step);
	if (pending)
		event->references++;
	sim_queue_unlock_and_signal();
	return pending;
}

static CUresult wait_in(struct stream *s, struct event *event)
{
	struct step step;
	const struct sim_op op = {
		.run = run_wait,
		.drop = drop_step,
		.params = &step,
		.params_bytes = sizeof(step),
	};
	bool later;

	if (!is_pending(event, &step))
		return CUDA_SUCCESS;
	sim_queue_lock();
	later = !is_submitted(&step);
	sim_queue_unlock_and_signal();
	return stream_submit(s, &op, later);
}

CUresult sim_event_wait_here(CUevent handle)
{
	const struct sim_lane *lane = sim_lane_running();
	struct event *event = find(handle);
	struct step step;
	CUresult r = CUDA_SUCCESS;

	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	if (!is_pending(event, &step))
		return CUDA_SUCCESS;
	if (lane)
		r = run_wait(&step, &(struct sim_ctx){ .machine = lane->machine });
	release(event);
	return r;
}

static CUresult wait_event(CUstream stream, bool ptsz, CUevent handle, unsigned int flags)
{
	struct event *event = find(handle);
	struct sim_stream *s;
	CUresult r;

	if (flags & ~(unsigned int)CU_EVENT_WAIT_EXTERNAL)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_get(stream, ptsz, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	if (sim_stream_capturing(s) || sim_capture_marked(&event->mark))
		return sim_capture_wait(s, handle, &event->mark,
					flags == CU_EVENT_WAIT_EXTERNAL);
	return wait_in(s->priv, event);
}

CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags)
{
	SIM_ENTER();
	return wait_event(hStream, false, hEvent, Flags);
}

CUresult cuStreamWaitEvent_ptsz(CUstream hStream, CUevent hEvent, unsigned int Flags)
{
	SIM_ENTER();
	return wait_event(hStream, true, hEvent, Flags);
}

/* All streams of a context, in the order of the device: the legacy one stands for them. */
static CUresult use_context(CUcontext handle, CUevent event_handle, bool wait)
{
	struct event *event = find(event_handle);
	struct stream *legacy;
	struct sim_ctx *ctx;
	CUresult r = sim_ctx_of(handle, &ctx);

	if (r != CUDA_SUCCESS)
		return r;
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	r = sim_capture_context(ctx);
	if (r == CUDA_SUCCESS)
		r = stream_legacy(ctx, &legacy);
	if (r != CUDA_SUCCESS)
		return r;
	return wait ? wait_in(legacy, event) : record_in(event, &legacy->base);
}

CUresult cuCtxRecordEvent(CUcontext hCtx, CUevent hEvent)
{
	SIM_ENTER();
	return use_context(hCtx, hEvent, false);
}

CUresult cuCtxWaitEvent(CUcontext hCtx, CUevent hEvent)
{
	SIM_ENTER();
	return use_context(hCtx, hEvent, true);
}

static CUresult use_green(CUgreenCtx handle, CUevent event, bool wait)
{
	const struct context *ctx = handle ? context_of((CUcontext)handle) : NULL;

	return ctx && ctx->base.green ? use_context(ctx->handle, event, wait)
				      : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuGreenCtxRecordEvent(CUgreenCtx hCtx, CUevent hEvent)
{
	SIM_ENTER();
	return use_green(hCtx, hEvent, false);
}

CUresult cuGreenCtxWaitEvent(CUgreenCtx hCtx, CUevent hEvent)
{
	SIM_ENTER();
	return use_green(hCtx, hEvent, true);
}

/* ---- ask ----------------------------------------------------------------------------- */

/* The event, unless it cannot be asked now: it stands for a point of a capture, or a capture
 * forbids to ask at all. */
static CUresult find_asked(CUevent handle, struct event **event)
{
	*event = find(handle);
	if (!*event)
		return CUDA_ERROR_INVALID_HANDLE;
	if (sim_capture_marked(&(*event)->mark))
		return CUDA_ERROR_CAPTURED_EVENT;
	return sim_capture_forbids();
}

CUresult cuEventQuery(CUevent hEvent)
{
	struct event *event;
	struct step step;
	CUresult r;

	SIM_ENTER();
	sim_spend(SIM_SPEND_QUERY_NS - SIM_SPEND_CALL_NS);
	r = find_asked(hEvent, &event);
	if (r != CUDA_SUCCESS || !is_pending(event, &step))
		return r;
	release(event);
	return sim_lane_not_ready();
}

CUresult cuEventSynchronize(CUevent hEvent)
{
	struct event *event;
	struct step step;
	uint32_t machine;
	CUresult r;

	SIM_ENTER();
	r = find_asked(hEvent, &event);
	if (r != CUDA_SUCCESS)
		return r;
	machine = event->machine;
	if (is_pending(event, &step)) {
		sim_queue_wait(is_submitted, &step);
		r = sim_lane_result(rm_stamp_wait(event->stamp, step.generation));
		release(event);
	}
	sim_pool_sync(machine);
	return r;
}

static CUresult tell_elapsed(float *milliseconds, CUevent from_handle, CUevent to_handle)
{
	struct event *from = find(from_handle);
	struct event *to = find(to_handle);
	uint64_t from_ns = 0, to_ns = 0;
	CUresult r = CUDA_SUCCESS;

	if (!from || !to || ((from->flags | to->flags) & CU_EVENT_DISABLE_TIMING))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!milliseconds)
		return CUDA_ERROR_INVALID_VALUE;
	if (sim_capture_marked(&from->mark) || sim_capture_marked(&to->mark))
		return CUDA_ERROR_CAPTURED_EVENT;
	sim_queue_lock();
	if (from->asked == 0 || to->asked == 0)
		r = CUDA_ERROR_INVALID_HANDLE;
	else if (rm_stamp_read(from->stamp, &from_ns) < from->asked ||
		 rm_stamp_read(to->stamp, &to_ns) < to->asked)
		r = CUDA_ERROR_NOT_READY;
	else
		*milliseconds = (float)((double)(int64_t)(to_ns - from_ns) / 1e6);
	sim_queue_unlock_and_signal();
	return r;
}

CUresult cuEventElapsedTime(float *pMilliseconds, CUevent hStart, CUevent hEnd)
{
	SIM_ENTER();
	return tell_elapsed(pMilliseconds, hStart, hEnd);
}

CUresult cuEventElapsedTime_v2(float *pMilliseconds, CUevent hStart, CUevent hEnd)
{
	SIM_ENTER();
	return tell_elapsed(pMilliseconds, hStart, hEnd);
}
