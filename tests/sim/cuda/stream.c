/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "queue.h"
#include "stream_list.h"

/* Every stream of the process, default ones too: a list, because a program has few. */
static struct stream *streams;
static uint64_t next_stream_id = 1;
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool has_legacy; /* somebody used a NULL stream */

/* The calling thread's own default stream, one per context it used. */
struct own {
	struct own *next;
	uint64_t ctx_id;
	struct stream *stream;
};
static __thread struct own *own_streams;
static pthread_key_t own_key;

static void free_own(void *list)
{
	struct own *next;

	pthread_mutex_lock(&streams_lock);
	for (struct own *own = list; own; own = next) {
		/* It may have gone with its context. */
		for (struct stream *s = streams; s; s = s->next)
			if (s == own->stream && s->ctx_id == own->ctx_id)
				s->is_gone = true;
		next = own->next;
		free(own);
	}
	pthread_mutex_unlock(&streams_lock);
}

__attribute__((constructor)) static void make_own_key(void)
{
	pthread_key_create(&own_key, free_own);
}

static struct stream *new_stream(struct sim_ctx *ctx, unsigned int flags, int priority)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->queue = sim_queue_new(ctx, priority);
	if (!stream->queue) {
		free(stream);
		return NULL;
	}
	stream->base = (struct sim_stream){
		.handle = (CUstream)stream,
		.ctx = ctx,
		.flags = flags,
		.priority = priority,
		.priv = stream,
	};
	stream->ctx_id = ctx->id;
	return stream;
}

static void link_stream(struct stream *stream)
{
	stream->base.id = next_stream_id++;
	stream->next = streams;
	streams = stream;
}

/* The NULL stream of CTX, made by its first use. */
CUresult stream_legacy(struct sim_ctx *ctx, struct stream **out)
{
	struct stream *stream;

	pthread_mutex_lock(&streams_lock);
	for (stream = streams; stream; stream = stream->next) {
		if (stream->base.legacy && stream->ctx_id == ctx->id)
			break;
	}
	if (!stream) {
		stream = new_stream(ctx, CU_STREAM_DEFAULT, 0);
		if (stream) {
			stream->base.legacy = true;
			stream->base.handle = CU_STREAM_LEGACY;
			atomic_store(&has_legacy, true);
			link_stream(stream);
		}
	}
	pthread_mutex_unlock(&streams_lock);
	*out = stream;
	return stream ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult find_own(struct sim_ctx *ctx, struct stream **out)
{
	struct own *own;

	for (own = own_streams; own; own = own->next) {
		if (own->ctx_id == ctx->id) {
			*out = own->stream;
			return CUDA_SUCCESS;
		}
	}
	own = malloc(sizeof(*own));
	*out = own ? new_stream(ctx, CU_STREAM_DEFAULT, 0) : NULL;
	if (!*out) {
		free(own);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	(*out)->base.per_thread = true;
	(*out)->base.handle = CU_STREAM_PER_THREAD;
	pthread_mutex_lock(&streams_lock);
	link_stream(*out);
	pthread_mutex_unlock(&streams_lock);
	*own = (struct own){ own_streams, ctx->id, *out };
	own_streams = own;
	pthread_setspecific(own_key, own_streams);
	return CUDA_SUCCESS;
}

CUresult stream_find(CUstream handle, bool ptsz, struct stream **out)
{
	struct sim_ctx *ctx;
	struct stream *stream;
	CUresult r;

	if (!handle)
		handle = ptsz ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY;
	if (handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) {
		r = sim_ctx_current(&ctx);
		if (r != CUDA_SUCCESS)
			return r;
		return handle == CU_STREAM_LEGACY ? stream_legacy(ctx, out)
						  : find_own(ctx, out);
	}
	pthread_mutex_lock(&streams_lock);
	for (stream = streams; stream; stream = stream->next) {
		if (stream->base.handle == handle)
			break;
	}
	pthread_mutex_unlock(&streams_lock);
	*out = stream;
	return stream ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult sim_stream_get(CUstream handle, bool ptsz, struct sim_stream **out)
{
	struct stream *stream;
	CUresult r = stream_find(handle, ptsz, &stream);

	if (r == CUDA_SUCCESS && stream->base.legacy)
		r = sim_capture_implicit(stream->base.ctx);
	if (r == CUDA_SUCCESS)
		*out = &stream->base;
	return r;
}

struct sim_ctx *sim_stream_ctx(struct sim_stream *s)
{
	return s->ctx;
}

/* ---- order --------------------------------------------------------------------------- */

/* Queues that are looked at without the lock: each is held. */
struct held {
	struct sim_queue **list;
	size_t count, room;
	struct sim_queue *few[16];
};

static CUresult hold(struct held *held, struct sim_queue *q)
{
	if (held->count == held->room) {
		size_t room = held->room * 2;
		struct sim_queue **more = malloc(room * sizeof(struct sim_queue *));

		if (!more)
			return CUDA_ERROR_OUT_OF_MEMORY;
		memcpy(more, held->list, held->count * sizeof(struct sim_queue *));
		if (held->list != held->few)
			free(held->list);
		held->list = more;
		held->room = room;
	}
	held->list[held->count++] = sim_queue_hold(q);
	return CUDA_SUCCESS;
}

static void let_go(struct held *held)
{
	for (size_t i = 0; i < held->count; i++)
		sim_queue_drop(held->list[i]);
	if (held->list != held->few)
		free(held->list);
}

static void begin(struct held *held)
{
	held->list = held->few;
	held->count = 0;
	held->room = sizeof(held->few) / sizeof(held->few[0]);
}

static bool is_blocking(const struct stream *stream)
{
	return !stream->base.legacy && !(stream->base.flags & CU_STREAM_NON_BLOCKING);
}

/*
 * The legacy stream waits for every blocking stream of its context that has work, and they
 * wait for it. Queues that must be waited for are collected first: a join may start a thread,
 * and wait for room in a channel.
 */
static CUresult order_with_legacy(struct stream *stream)
{
	struct held others;
	CUresult r = CUDA_SUCCESS;

	if (!stream->base.legacy &&
	    (!is_blocking(stream) ||
	     !atomic_load_explicit(&has_legacy, memory_order_relaxed)))
		return CUDA_SUCCESS;
	begin(&others);
	pthread_mutex_lock(&streams_lock);
	for (struct stream *s = streams; s && r == CUDA_SUCCESS; s = s->next) {
		if (s != stream && s->ctx_id == stream->ctx_id &&
		    (stream->base.legacy ? is_blocking(s) : s->base.legacy) &&
		    !sim_queue_is_idle(s->queue))
			r = hold(&others, s->queue);
	}
	pthread_mutex_unlock(&streams_lock);
	for (size_t i = 0; i < others.count && r == CUDA_SUCCESS; i++)
		r = sim_queue_join(stream->queue, others.list[i]);
	let_go(&others);
	return r;
}

CUresult stream_submit(struct stream *stream, const struct sim_op *op, bool force)
{
	CUresult r = order_with_legacy(stream);

	if (r == CUDA_SUCCESS)
		return sim_queue_submit(stream->queue, op, force);
	if (op->drop)
		op->drop(op->params);
	return r;
}

CUresult sim_stream_run(struct sim_stream *s, const struct sim_op *op)
{
	return stream_submit(s->priv, op, false);
}

CUresult sim_stream_settle(struct sim_stream *s)
{
	struct stream *stream = s->priv;
	CUresult r = order_with_legacy(stream);

	if (r == CUDA_SUCCESS)
		sim_queue_settle(stream->queue);
	return r;
}

CUresult sim_stream_drain(struct sim_stream *s)
{
	struct stream *stream = s->priv;
	CUresult r = s->legacy ? order_with_legacy(stream) : CUDA_SUCCESS;

	return r == CUDA_SUCCESS ? sim_queue_drain(stream->queue) : r;
}

/* What is there now: others may go on submitting. */
CUresult sim_queue_drain_context(uint64_t ctx_id)
{
	struct held busy;
	CUresult r = CUDA_SUCCESS;

	begin(&busy);
	pthread_mutex_lock(&streams_lock);
	for (struct stream *s = streams; s && r == CUDA_SUCCESS; s = s->next) {
		if (s->ctx_id == ctx_id && !sim_queue_is_idle(s->queue))
			r = hold(&busy, s->queue);
	}
	pthread_mutex_unlock(&streams_lock);
	for (size_t i = 0; i < busy.count && r == CUDA_SUCCESS; i++)
		r = sim_queue_drain(busy.list[i]);
	let_go(&busy);
	return r;
}

/* ---- life ---------------------------------------------------------------------------- */

static void free_stream(struct stream *stream)
{
	sim_capture_stream_gone(&stream->base);
	sim_queue_drop(stream->queue);
	free(stream);
}

/* Takes the first stream out that belongs to context CTX_ID or, with 0, was destroyed and has
 * done its work since. */
static struct stream *take_out(uint64_t ctx_id)
{
	struct stream **at, *stream;

	pthread_mutex_lock(&streams_lock);
	for (at = &streams; *at; at = &(*at)->next) {
		if (ctx_id ? (*at)->ctx_id == ctx_id
			   : (*at)->is_gone && sim_queue_is_idle((*at)->queue))
			break;
	}
	stream = *at;
	if (stream)
		*at = stream->next;
	pthread_mutex_unlock(&streams_lock);
	return stream;
}

void sim_stream_ctx_gone(struct sim_ctx *ctx)
{
	struct stream *stream;

	sim_queue_drain_context(ctx->id);
	while ((stream = take_out(ctx->id)) != NULL)
		free_stream(stream);
}

static void free_gone(void)
{
	struct stream *stream;

	while ((stream = take_out(0)) != NULL)
		free_stream(stream);
}

CUresult stream_create(struct sim_ctx *ctx, CUstream *out, unsigned int flags, int priority)
{
	struct stream *stream;

	if (!out || (flags & ~(unsigned int)CU_STREAM_NON_BLOCKING))
		return CUDA_ERROR_INVALID_VALUE;
	/* Out of range is clamped, not refused. */
	priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
	stream = new_stream(ctx, flags, priority);
	if (!stream)
		return CUDA_ERROR_OUT_OF_MEMORY;
	free_gone();
	pthread_mutex_lock(&streams_lock);
	link_stream(stream);
	pthread_mutex_unlock(&streams_lock);
	*out = stream->base.handle;
	return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	return r == CUDA_SUCCESS ? stream_create(ctx, phStream, Flags, 0) : r;
}

CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	return r == CUDA_SUCCESS ? stream_create(ctx, phStream, flags, priority) : r;
}

/* Returns at once: what is pending still runs, and the context's work includes it. */
static CUresult destroy(CUstream handle)
{
	struct stream *stream;

	if (!handle || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD)
		return CUDA_ERROR_INVALID_HANDLE;
	pthread_mutex_lock(&streams_lock);
	for (stream = streams; stream && stream->base.handle != handle;)
		stream = stream->next;
	if (stream)
		stream->base.handle = NULL;
	pthread_mutex_unlock(&streams_lock);
	if (!stream)
		return CUDA_ERROR_INVALID_HANDLE;
	sim_capture_stream_gone(&stream->base);
	pthread_mutex_lock(&streams_lock);
	stream->is_gone = true;
	pthread_mutex_unlock(&streams_lock);
	free_gone();
	return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream hStream)
{
	SIM_ENTER();
	return destroy(hStream);
}

CUresult cuStreamDestroy_v2(CUstream hStream)
{
	SIM_ENTER();
	return destroy(hStream);
}
