/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "context.h"
#include "handle.h"
#include "queue.h"
#include "stream.h"
#include "stream_list.h"

/* Recording asks for the next generation; the event is done when that one was reached.
 * Both, the time and the references are under the queues' lock. */
struct event {
	struct sim_handle handle; /* first */
	unsigned int references;
	unsigned int flags;
	uint32_t machine;
	uint64_t ctx_id;
	uint64_t asked, reached;
	uint64_t reached_ns;
	struct sim_capture_mark mark;
};
SIM_HANDLE_SET(events);

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct event *find(CUevent handle)
{
	return handle && sim_handle_live(&events, handle) ? (struct event *)(void *)handle
							  : NULL;
}

static void hold(struct event *event)
{
	sim_queue_lock();
	event->references++;
	sim_queue_unlock_and_signal();
}

static void release(struct event *event)
{
	bool last;

	sim_queue_lock();
	last = --event->references == 0;
	sim_queue_unlock_and_signal();
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

static CUresult run_record(void *params, struct sim_ctx *ctx)
{
	struct step *step = params;

	(void)ctx;
	sim_queue_lock();
	if (step->event->reached < step->generation) {
		step->event->reached = step->generation;
		step->event->reached_ns = now_ns();
	}
	sim_queue_unlock_and_signal();
	return CUDA_SUCCESS;
}

static void drop_step(void *params)
{
	release(((struct step *)params)->event);
}

static uint64_t ask(struct event *event)
{
	uint64_t generation;

	sim_queue_lock();
	generation = ++event->asked;
	event->references++;
	sim_queue_unlock_and_signal();
	return generation;
}

static CUresult record_in(struct event *event, struct sim_stream *s)
{
	struct step step = { .event = event };
	const struct sim_op op = {
		.run = run_record,
		.drop = drop_step,
		.params = &step,
		.params_bytes = sizeof(step),
	};

	if (event->machine != s->ctx->machine)
		return CUDA_ERROR_INVALID_HANDLE;
	sim_capture_unmark(&event->mark);
	step.generation = ask(event);
	return stream_submit(s->priv, &op, false);
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

CUresult sim_event_mark_done(CUevent handle)
{
	struct event *event = find(handle);
	struct step step = { .event = event };

	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	step.generation = ask(event);
	run_record(&step, NULL);
	release(event);
	return CUDA_SUCCESS;
}

bool sim_event_is(CUevent event)
{
	return find(event) != NULL;
}

/* ---- wait ---------------------------------------------------------------------------- */

static bool is_reached(const void *what)
{
	const struct step *step = what;

	return step->event->reached >= step->generation;
}

static CUresult run_wait(void *params, struct sim_ctx *ctx)
{
	(void)ctx;
	sim_queue_wait(is_reached, params);
	return CUDA_SUCCESS;
}

/* What was asked of EVENT last; holds it when that is still to come. */
static bool is_pending(struct event *event, struct step *step)
{
	bool pending;

	sim_queue_lock();
	*step = (struct step){ event, event->asked };
	pending = event->reached < event->asked;
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

	return is_pending(event, &step) ? stream_submit(s, &op, true) : CUDA_SUCCESS;
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

CUresult cuEventQuery(CUevent hEvent)
{
	struct event *event;
	struct step step;

	SIM_ENTER();
	event = find(hEvent);
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	if (sim_capture_marked(&event->mark))
		return CUDA_ERROR_CAPTURED_EVENT;
	if (!is_pending(event, &step))
		return CUDA_SUCCESS;
	release(event);
	return CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent hEvent)
{
	struct event *event;
	struct step step;

	SIM_ENTER();
	event = find(hEvent);
	if (!event)
		return CUDA_ERROR_INVALID_HANDLE;
	if (sim_capture_marked(&event->mark))
		return CUDA_ERROR_CAPTURED_EVENT;
	uint32_t machine = event->machine;
	if (is_pending(event, &step)) {
		sim_queue_wait(is_reached, &step);
		release(event);
	}
	sim_pool_sync(machine);
	return CUDA_SUCCESS;
}

static CUresult tell_elapsed(float *milliseconds, CUevent from_handle, CUevent to_handle)
{
	struct event *from = find(from_handle);
	struct event *to = find(to_handle);
	CUresult r = CUDA_SUCCESS;

	if (!from || !to || ((from->flags | to->flags) & CU_EVENT_DISABLE_TIMING))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!milliseconds)
		return CUDA_ERROR_INVALID_VALUE;
	if (sim_capture_marked(&from->mark) || sim_capture_marked(&to->mark))
		return CUDA_ERROR_CAPTURED_EVENT;
	hold(from);
	sim_queue_lock();
	if (from->asked == 0 || to->asked == 0)
		r = CUDA_ERROR_INVALID_HANDLE;
	else if (from->reached < from->asked || to->reached < to->asked)
		r = CUDA_ERROR_NOT_READY;
	else
		*milliseconds =
			(float)((double)(int64_t)(to->reached_ns - from->reached_ns) / 1e6);
	sim_queue_unlock_and_signal();
	release(from);
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
