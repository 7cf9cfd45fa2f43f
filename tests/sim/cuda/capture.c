/* SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "launch.h"

/*
 * Captures. A capture is a graph that grows, and the streams that take part in it: for
 * each, the nodes that its next operation depends on. What a capture prohibits is told
 * here; a prohibited call breaks the capture, which then only ends.
 */

static struct sim_capture *captures;
static uint64_t last_capture_id;
static _Atomic unsigned
	capture_count; /* so that nobody pays for captures while there are none */
static _Thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

/* ---- members ------------------------------------------------------------------------- */

struct sim_member *sim_capture_member(struct sim_capture *c, const struct sim_stream *s)
{
	struct sim_member *m = c->members;

	while (m && m->stream != s)
		m = m->next;
	return m;
}

struct sim_member *sim_capture_join(struct sim_capture *c, struct sim_stream *s)
{
	struct sim_member *m = calloc(1, sizeof *m);

	if (!m)
		return NULL;
	m->stream = s;
	m->next = c->members;
	c->members = m;
	__atomic_store_n(&s->capture, c, __ATOMIC_RELEASE);
	return m;
}

static void free_member(struct sim_member *m)
{
	__atomic_store_n(&m->stream->capture, NULL, __ATOMIC_RELEASE);
	free(m->deps.list);
	free(m->told_nodes);
	free(m->told_edges);
	free(m);
}

struct sim_capture *sim_capture_new(struct sim_graph *g, bool owns,
				    CUstreamCaptureMode mode)
{
	struct sim_capture *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	*c = (struct sim_capture){ .id = ++last_capture_id,
				   .graph = g,
				   .owns_graph = owns,
				   .mode = mode,
				   .thread = pthread_self(),
				   .next = captures };
	captures = c;
	capture_count++;
	return c;
}

void sim_capture_free_all(struct sim_capture *c)
{
	for (struct sim_capture **p = &captures; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			capture_count--;
			break;
		}
	while (c->members) {
		struct sim_member *m = c->members;
		c->members = m->next;
		free_member(m);
	}
	free(c);
}

static struct sim_capture *capture_by_id(uint64_t id)
{
	struct sim_capture *c = captures;

	while (c && c->id != id)
		c = c->next;
	return c;
}

bool sim_capture_add_dep(struct sim_member *m, struct sim_graph_node *n,
			 const CUgraphEdgeData *data)
{
	for (size_t i = 0; i < m->deps.count; i++)
		if (m->deps.list[i].node == n)
			return true;
	return sim_edges_push(&m->deps, n, data);
}

/* ---- what captures prohibit ---------------------------------------------------------- */

bool sim_stream_capturing(struct sim_stream *s)
{
	return __atomic_load_n(&s->capture, __ATOMIC_ACQUIRE) != NULL;
}

static bool forbids(const struct sim_capture *c)
{
	if (c->mode == CU_STREAM_CAPTURE_MODE_RELAXED)
		return false;
	if (pthread_equal(c->thread, pthread_self()))
		return true;
	return thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
	       c->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
}

CUresult sim_capture_forbids(void)
{
	CUresult r = CUDA_SUCCESS;

	if (!capture_count || thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_SUCCESS;
	sim_graphs_lock();
	for (struct sim_capture *c = captures; c; c = c->next)
		if (forbids(c)) {
			c->broken = true;
			r = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
		}
	sim_graphs_unlock();
	return r;
}

CUresult sim_capture_prohibits(struct sim_stream *s)
{
	CUresult r = CUDA_SUCCESS;

	if (!sim_stream_capturing(s))
		return CUDA_SUCCESS;
	sim_graphs_lock();
	if (s->capture) {
		s->capture->broken = true;
		r = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	sim_graphs_unlock();
	return r;
}

/* Breaks the captures with a stream of CTX; with BLOCKING only such that the legacy stream
 * waits for. */
static bool break_captures_of(const struct sim_ctx *ctx, bool blocking)
{
	bool any = false;

	if (!capture_count)
		return false;
	sim_graphs_lock();
	for (struct sim_capture *c = captures; c; c = c->next)
		for (struct sim_member *m = c->members; m; m = m->next)
			if (m->stream->ctx == ctx &&
			    !(blocking && m->stream->flags & CU_STREAM_NON_BLOCKING))
				any = c->broken = true;
	sim_graphs_unlock();
	return any;
}

CUresult sim_capture_implicit(struct sim_ctx *ctx)
{
	return break_captures_of(ctx, true) ? CUDA_ERROR_STREAM_CAPTURE_IMPLICIT
					    : CUDA_SUCCESS;
}

CUresult sim_capture_context(struct sim_ctx *ctx)
{
	return break_captures_of(ctx, false) ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
					     : CUDA_SUCCESS;
}

void sim_capture_stream_gone(struct sim_stream *s)
{
	if (!sim_stream_capturing(s))
		return;
	sim_graphs_lock();
	struct sim_capture *c = s->capture;
	for (struct sim_member **p = &c->members; *p; p = &(*p)->next)
		if ((*p)->stream == s) {
			struct sim_member *gone = *p;
			*p = gone->next;
			free_member(gone);
			break;
		}
	c->broken = true;
	/* Only its first stream can end a capture. */
	if (c->origin == s) {
		if (c->owns_graph)
			sim_graph_destroy(c->graph);
		sim_capture_free_all(c);
	}
	sim_graphs_unlock();
}

/* A graph that is destroyed under a capture takes the capture's nodes with it. */
void sim_capture_graph_gone(const struct sim_graph *g)
{
	for (struct sim_capture *c = captures; c; c = c->next)
		if (c->graph == g) {
			c->broken = true;
			c->owns_graph = false;
			c->graph = NULL;
			for (struct sim_member *m = c->members; m; m = m->next)
				m->deps.count = 0;
		}
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
	SIM_ENTER();
	if (!mode || (unsigned)*mode > CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_ERROR_INVALID_VALUE;
	CUstreamCaptureMode old = thread_mode;
	thread_mode = *mode;
	*mode = old;
	return CUDA_SUCCESS;
}

/* ---- recording ----------------------------------------------------------------------- */

/* Adds a node behind what M's stream has recorded; it becomes what the next one depends on.
 */
static CUresult append(struct sim_capture *c, struct sim_member *m,
		       struct sim_payload *payload, CUgraphNodeType type,
		       struct sim_graph_node **out)
{
	struct sim_dependencies none = { 0 };
	struct sim_graph_node *n;
	CUresult r = sim_node_add(c->graph, &none, type, payload,
				  sim_ctx_handle(m->stream->ctx), &n);

	for (size_t i = 0; r == CUDA_SUCCESS && i < m->deps.count; i++)
		r = sim_edge_add(m->deps.list[i].node, n, &m->deps.list[i].data);
	m->deps.count = 0;
	if (r == CUDA_SUCCESS && !sim_edges_push(&m->deps, n, NULL))
		r = CUDA_ERROR_OUT_OF_MEMORY;
	if (r != CUDA_SUCCESS)
		c->broken = true;
	else if (out)
		*out = n;
	return r;
}

/* Under the lock: the capture of S, unless it is broken. */
static CUresult active(struct sim_stream *s, struct sim_capture **c, struct sim_member **m)
{
	*c = s->capture;
	if (!*c)
		return CUDA_ERROR_ILLEGAL_STATE;
	if ((*c)->broken)
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	*m = sim_capture_member(*c, s);
	return *m ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
}

/* Takes PAYLOAD, also on errors. */
static CUresult record(struct sim_stream *s, struct sim_payload *payload,
		       struct sim_graph_node **out)
{
	struct sim_capture *c;
	struct sim_member *m;

	if (!payload)
		return CUDA_ERROR_OUT_OF_MEMORY;
	CUresult r = active(s, &c, &m);
	if (r == CUDA_SUCCESS)
		return append(c, m, payload, payload->type, out);
	sim_payload_unref(payload);
	return r;
}

CUresult sim_submit(struct sim_stream *s, const struct sim_op *op)
{
	if (!sim_stream_capturing(s))
		return sim_stream_run(s, op);
	sim_graphs_lock();
	CUresult r = record(
		s,
		sim_payload_new(op->type, op->params, op->params_bytes, op->run, op->drop),
		NULL);
	sim_graphs_unlock();
	return r;
}

CUresult sim_capture_kernel(struct sim_stream *s, const CUDA_KERNEL_NODE_PARAMS *params)
{
	struct sim_payload *payload;
	CUcontext ctx;

	sim_graphs_lock();
	CUresult r = sim_kernel_payload(params, &payload, &ctx);
	if (r == CUDA_SUCCESS)
		r = record(s, payload, NULL);
	sim_graphs_unlock();
	return r;
}

CUresult sim_capture_child(struct sim_stream *s, const struct sim_graph *g)
{
	struct sim_capture *c;
	struct sim_member *m;
	struct sim_graph *clone;
	struct sim_graph_node *n;

	sim_graphs_lock();
	CUresult r = active(s, &c, &m);
	if (r == CUDA_SUCCESS && sim_graph_has_memory(g)) {
		c->broken = true;
		r = CUDA_ERROR_NOT_SUPPORTED;
	}
	if (r == CUDA_SUCCESS)
		r = sim_graph_clone(g, &clone);
	if (r == CUDA_SUCCESS) {
		r = append(c, m, NULL, CU_GRAPH_NODE_TYPE_GRAPH, &n);
		if (r == CUDA_SUCCESS) {
			n->child = clone;
			clone->parent = n;
		} else {
			sim_graph_destroy(clone);
		}
	}
	sim_graphs_unlock();
	return r;
}

CUresult sim_capture_alloc(struct sim_stream *s, CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	struct sim_capture *c;
	struct sim_member *m;
	struct sim_payload *payload;

	sim_graphs_lock();
	CUresult r = active(s, &c, &m);
	if (r == CUDA_SUCCESS)
		r = sim_alloc_payload(params, s->ctx, &payload);
	if (r == CUDA_SUCCESS)
		r = record(s, payload, NULL);
	sim_graphs_unlock();
	return r;
}

CUresult sim_capture_free(struct sim_stream *s, CUdeviceptr dptr)
{
	struct sim_capture *c;
	struct sim_member *m;
	struct sim_payload *payload;

	sim_graphs_lock();
	CUresult r = active(s, &c, &m);
	if (r == CUDA_SUCCESS)
		r = sim_free_payload(c->graph, dptr, &payload);
	if (r == CUDA_SUCCESS)
		r = record(s, payload, NULL);
	sim_graphs_unlock();
	return r;
}

/* ---- events -------------------------------------------------------------------------- */

bool sim_capture_marked(const struct sim_capture_mark *mark)
{
	return mark->capture_id != 0;
}

void sim_capture_unmark(struct sim_capture_mark *mark)
{
	free(mark->nodes);
	*mark = (struct sim_capture_mark){ 0 };
}

static CUresult mark_point(const struct sim_capture *c, const struct sim_member *m,
			   struct sim_capture_mark *mark)
{
	CUgraphNode *nodes = malloc((m->deps.count + 1) * sizeof *nodes);

	if (!nodes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; i < m->deps.count; i++)
		nodes[i] = (CUgraphNode)m->deps.list[i].node;
	sim_capture_unmark(mark);
	*mark = (struct sim_capture_mark){ c->id, nodes, m->deps.count };
	return CUDA_SUCCESS;
}

static CUresult record_event(struct sim_stream *s, CUgraphNodeType type, CUevent event)
{
	CUgraphNodeParams params = { .type = type };
	struct sim_payload *payload;
	CUcontext ctx;

	params.eventRecord.event = event; /* both kinds of event node begin with it */
	CUresult r = sim_payload_make(&params, &payload, &ctx);
	return r == CUDA_SUCCESS ? record(s, payload, NULL) : r;
}

CUresult sim_capture_record(struct sim_stream *s, CUevent event,
			    struct sim_capture_mark *mark, bool external)
{
	struct sim_capture *c;
	struct sim_member *m;

	sim_graphs_lock();
	CUresult r = active(s, &c, &m);
	if (r == CUDA_SUCCESS)
		r = external ? record_event(s, CU_GRAPH_NODE_TYPE_EVENT_RECORD, event)
			     : mark_point(c, m, mark);
	sim_graphs_unlock();
	return r;
}

/* Work outside of the capture cannot be waited for inside of it, nor that of another
 * capture. */
static CUresult wait_inside(struct sim_stream *s, const struct sim_capture_mark *mark)
{
	struct sim_capture *c;
	struct sim_member *m;
	CUresult r = active(s, &c, &m);

	if (r != CUDA_SUCCESS)
		return r;
	if (mark->capture_id != c->id) {
		c->broken = true;
		struct sim_capture *other = capture_by_id(mark->capture_id);
		if (!other)
			return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
		other->broken = true;
		return CUDA_ERROR_STREAM_CAPTURE_MERGE;
	}
	for (size_t i = 0; i < mark->count; i++)
		if (sim_live_is(mark->nodes[i], SIM_LIVE_NODE) &&
		    !sim_capture_add_dep(m, (struct sim_graph_node *)mark->nodes[i], NULL))
			return CUDA_ERROR_OUT_OF_MEMORY;
	return CUDA_SUCCESS;
}

CUresult sim_capture_wait(struct sim_stream *s, CUevent event,
			  const struct sim_capture_mark *mark, bool external)
{
	CUresult r = CUDA_SUCCESS;

	sim_graphs_lock();
	if (!s->capture) {
		struct sim_capture *c = capture_by_id(mark->capture_id);
		if (!c)
			r = mark->capture_id ? CUDA_ERROR_CAPTURED_EVENT : CUDA_SUCCESS;
		else if (c->broken)
			r = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
		else if (s->legacy)
			r = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
		else
			r = sim_capture_join(c, s) ? CUDA_SUCCESS
						   : CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (r == CUDA_SUCCESS && s->capture)
		r = external ? record_event(s, CU_GRAPH_NODE_TYPE_WAIT_EVENT, event)
			     : wait_inside(s, mark);
	sim_graphs_unlock();
	return r;
}
