/* SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"

#include <stdlib.h>
#include <string.h>

/* ---- begin --------------------------------------------------------------------------- */

struct begin {
	CUgraph graph; /* NULL: a new one */
	struct sim_dependencies deps;
	CUstreamCaptureMode mode;
};

static CUresult begin_locked(struct sim_stream *s, const struct begin *b)
{
	struct sim_graph *g;

	if (s->legacy)
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	if (s->capture)
		return CUDA_ERROR_ILLEGAL_STATE;
	CUresult r = b->graph ? sim_graph_of(b->graph, &g) : sim_graph_create(&g);
	if (r != CUDA_SUCCESS)
		return r;
	struct sim_capture *c = sim_capture_new(g, !b->graph, b->mode);
	struct sim_member *m = c ? sim_capture_join(c, s) : NULL;
	r = m ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; r == CUDA_SUCCESS && i < b->deps.count; i++) {
		struct sim_graph_node *n;
		r = sim_node_of(b->deps.nodes[i], &n);
		if (r == CUDA_SUCCESS && n->graph != g)
			r = CUDA_ERROR_INVALID_VALUE;
		if (r == CUDA_SUCCESS &&
		    !sim_capture_add_dep(m, n, b->deps.data ? &b->deps.data[i] : NULL))
			r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (r != CUDA_SUCCESS) {
		if (c)
			sim_capture_free_all(c);
		if (!b->graph)
			sim_graph_destroy(g);
		return r;
	}
	c->origin = s;
	return CUDA_SUCCESS;
}

static CUresult begin(CUstream stream, bool ptsz, const struct begin *b)
{
	struct sim_stream *s;

	if ((unsigned)b->mode > CU_STREAM_CAPTURE_MODE_RELAXED ||
	    (b->deps.count && !b->deps.nodes))
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_stream_get(stream, ptsz, &s);
	if (r != CUDA_SUCCESS)
		return r;
	sim_graphs_lock();
	r = begin_locked(s, b);
	sim_graphs_unlock();
	return r;
}

CUresult cuStreamBeginCapture(CUstream hStream)
{
	SIM_ENTER();
	return begin(hStream, false,
		     &(struct begin){ .mode = CU_STREAM_CAPTURE_MODE_GLOBAL });
}

CUresult cuStreamBeginCapture_ptsz(CUstream hStream)
{
	SIM_ENTER();
	return begin(hStream, true,
		     &(struct begin){ .mode = CU_STREAM_CAPTURE_MODE_GLOBAL });
}

CUresult cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode)
{
	SIM_ENTER();
	return begin(hStream, false, &(struct begin){ .mode = mode });
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream hStream, CUstreamCaptureMode mode)
{
	SIM_ENTER();
	return begin(hStream, true, &(struct begin){ .mode = mode });
}

static CUresult begin_to_graph(CUstream stream, bool ptsz, CUgraph graph,
			       const struct sim_dependencies *deps,
			       CUstreamCaptureMode mode)
{
	return graph ? begin(stream, ptsz, &(struct begin){ graph, *deps, mode })
		     : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuStreamBeginCaptureToGraph(CUstream hStream, CUgraph hGraph,
				     const CUgraphNode *dependencies,
				     const CUgraphEdgeData *dependencyData,
				     size_t numDependencies, CUstreamCaptureMode mode)
{
	SIM_ENTER();
	struct sim_dependencies deps = { dependencies, dependencyData, numDependencies };
	return begin_to_graph(hStream, false, hGraph, &deps, mode);
}

CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream hStream, CUgraph hGraph,
					  const CUgraphNode *dependencies,
					  const CUgraphEdgeData *dependencyData,
					  size_t numDependencies, CUstreamCaptureMode mode)
{
	SIM_ENTER();
	struct sim_dependencies deps = { dependencies, dependencyData, numDependencies };
	return begin_to_graph(hStream, true, hGraph, &deps, mode);
}

/* ---- end ----------------------------------------------------------------------------- */

static void mark_ancestors(struct sim_graph_node *n)
{
	if (n->scratch)
		return;
	n->scratch = 1;
	for (size_t i = 0; i < n->before.count; i++)
		mark_ancestors(n->before.list[i].node);
}

/* Whether all that other streams recorded is behind what the first stream now stands at. */
static bool is_joined(struct sim_capture *c)
{
	struct sim_member *origin = sim_capture_member(c, c->origin);

	for (size_t i = 0; i < c->graph->count; i++)
		c->graph->nodes[i]->scratch = 0;
	for (size_t i = 0; origin && i < origin->deps.count; i++)
		mark_ancestors(origin->deps.list[i].node);
	for (struct sim_member *m = c->members; m; m = m->next)
		for (size_t i = 0; i < m->deps.count; i++)
			if (!m->deps.list[i].node->scratch)
				return false;
	return true;
}

static CUresult end_locked(struct sim_stream *s, CUgraph *out)
{
	struct sim_capture *c = s->capture;

	if (!c)
		return CUDA_ERROR_ILLEGAL_STATE;
	if (c->origin != s) {
		c->broken = true;
		return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
	}
	if (c->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
	    !pthread_equal(c->thread, pthread_self()))
		return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
	CUresult r = CUDA_SUCCESS;
	if (c->broken)
		r = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	else if (!is_joined(c))
		r = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
	struct sim_graph *g = c->graph;
	bool owned = c->owns_graph;
	sim_capture_free_all(c);
	if (r == CUDA_SUCCESS)
		*out = (CUgraph)g;
	else if (owned)
		sim_graph_destroy(g);
	return r;
}

static CUresult end(CUstream stream, bool ptsz, CUgraph *out)
{
	struct sim_stream *s;

	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_stream_get(stream, ptsz, &s);
	if (r != CUDA_SUCCESS)
		return r;
	*out = NULL;
	sim_graphs_lock();
	r = end_locked(s, out);
	sim_graphs_unlock();
	return r;
}

CUresult cuStreamEndCapture(CUstream hStream, CUgraph *phGraph)
{
	SIM_ENTER();
	return end(hStream, false, phGraph);
}

CUresult cuStreamEndCapture_ptsz(CUstream hStream, CUgraph *phGraph)
{
	SIM_ENTER();
	return end(hStream, true, phGraph);
}

/* ---- queries ------------------------------------------------------------------------- */

static CUstreamCaptureStatus status_of(const struct sim_stream *s)
{
	if (!s->capture)
		return CU_STREAM_CAPTURE_STATUS_NONE;
	return s->capture->broken ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
				  : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

struct told {
	cuuint64_t *id;
	CUgraph *graph;
	const CUgraphNode **nodes;
	const CUgraphEdgeData **edges;
	size_t *count;
};

static bool is_plain(const CUgraphEdgeData *d)
{
	static const CUgraphEdgeData plain;

	return !memcmp(d, &plain, sizeof plain);
}

static CUresult tell_dependencies(struct sim_member *m, const struct told *t)
{
	size_t n = m->deps.count;
	CUgraphNode *nodes = realloc(m->told_nodes, (n + 1) * sizeof *nodes);

	m->told_nodes = nodes ? nodes : m->told_nodes;
	CUgraphEdgeData *edges = realloc(m->told_edges, (n + 1) * sizeof *edges);
	m->told_edges = edges ? edges : m->told_edges;
	if (!nodes || !edges)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; i < n; i++) {
		nodes[i] = (CUgraphNode)m->deps.list[i].node;
		edges[i] = m->deps.list[i].data;
		if (!t->edges && t->nodes && !is_plain(&edges[i]))
			return CUDA_ERROR_LOSSY_QUERY;
	}
	if (t->nodes)
		*t->nodes = nodes;
	if (t->edges)
		*t->edges = edges;
	if (t->count)
		*t->count = n;
	return CUDA_SUCCESS;
}

static CUresult tell(CUstream stream, bool ptsz, CUstreamCaptureStatus *status,
		     const struct told *t)
{
	struct sim_stream *s;
	CUresult r = status ? sim_stream_get(stream, ptsz, &s) : CUDA_ERROR_INVALID_VALUE;

	if (r != CUDA_SUCCESS)
		return r;
	sim_graphs_lock();
	*status = status_of(s);
	if (*status == CU_STREAM_CAPTURE_STATUS_ACTIVE) {
		struct sim_member *m = sim_capture_member(s->capture, s);
		if (t->id)
			*t->id = s->capture->id;
		if (t->graph)
			*t->graph = (CUgraph)s->capture->graph;
		if (m)
			r = tell_dependencies(m, t);
	}
	sim_graphs_unlock();
	return r;
}

CUresult cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus *captureStatus)
{
	SIM_ENTER();
	return tell(hStream, false, captureStatus, &(struct told){ 0 });
}

CUresult cuStreamIsCapturing_ptsz(CUstream hStream, CUstreamCaptureStatus *captureStatus)
{
	SIM_ENTER();
	return tell(hStream, true, captureStatus, &(struct told){ 0 });
}

CUresult cuStreamGetCaptureInfo(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
				cuuint64_t *id_out)
{
	SIM_ENTER();
	return tell(hStream, false, captureStatus_out, &(struct told){ .id = id_out });
}

CUresult cuStreamGetCaptureInfo_ptsz(CUstream hStream,
				     CUstreamCaptureStatus *captureStatus_out,
				     cuuint64_t *id_out)
{
	SIM_ENTER();
	return tell(hStream, true, captureStatus_out, &(struct told){ .id = id_out });
}

CUresult cuStreamGetCaptureInfo_v2(CUstream hStream,
				   CUstreamCaptureStatus *captureStatus_out,
				   cuuint64_t *id_out, CUgraph *graph_out,
				   const CUgraphNode **dependencies_out,
				   size_t *numDependencies_out)
{
	SIM_ENTER();
	struct told t = { id_out, graph_out, dependencies_out, NULL, numDependencies_out };
	return tell(hStream, false, captureStatus_out, &t);
}

CUresult cuStreamGetCaptureInfo_v2_ptsz(CUstream hStream,
					CUstreamCaptureStatus *captureStatus_out,
					cuuint64_t *id_out, CUgraph *graph_out,
					const CUgraphNode **dependencies_out,
					size_t *numDependencies_out)
{
	SIM_ENTER();
	struct told t = { id_out, graph_out, dependencies_out, NULL, numDependencies_out };
	return tell(hStream, true, captureStatus_out, &t);
}

CUresult cuStreamGetCaptureInfo_v3(CUstream hStream,
				   CUstreamCaptureStatus *captureStatus_out,
				   cuuint64_t *id_out, CUgraph *graph_out,
				   const CUgraphNode **dependencies_out,
				   const CUgraphEdgeData **edgeData_out,
				   size_t *numDependencies_out)
{
	SIM_ENTER();
	struct told t = { id_out, graph_out, dependencies_out, edgeData_out,
			  numDependencies_out };
	return tell(hStream, false, captureStatus_out, &t);
}

CUresult cuStreamGetCaptureInfo_v3_ptsz(CUstream hStream,
					CUstreamCaptureStatus *captureStatus_out,
					cuuint64_t *id_out, CUgraph *graph_out,
					const CUgraphNode **dependencies_out,
					const CUgraphEdgeData **edgeData_out,
					size_t *numDependencies_out)
{
	SIM_ENTER();
	struct told t = { id_out, graph_out, dependencies_out, edgeData_out,
			  numDependencies_out };
	return tell(hStream, true, captureStatus_out, &t);
}

/* ---- dependencies -------------------------------------------------------------------- */

static CUresult update_locked(struct sim_stream *s, const struct sim_dependencies *deps,
			      bool add)
{
	struct sim_graph_node *n;

	if (!s->capture)
		return CUDA_ERROR_ILLEGAL_STATE;
	if (s->capture->broken)
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	for (size_t i = 0; i < deps->count; i++)
		if (sim_node_of(deps->nodes[i], &n) != CUDA_SUCCESS ||
		    n->graph != s->capture->graph)
			return CUDA_ERROR_INVALID_VALUE;
	struct sim_member *m = sim_capture_member(s->capture, s);
	if (!m)
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	if (!add)
		m->deps.count = 0;
	for (size_t i = 0; i < deps->count; i++)
		if (!sim_capture_add_dep(m, (struct sim_graph_node *)deps->nodes[i],
					 deps->data ? &deps->data[i] : NULL))
			return CUDA_ERROR_OUT_OF_MEMORY;
	return CUDA_SUCCESS;
}

static CUresult update(CUstream stream, bool ptsz, const struct sim_dependencies *deps,
		       unsigned flags)
{
	struct sim_stream *s;

	if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES || (deps->count && !deps->nodes))
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_stream_get(stream, ptsz, &s);
	if (r != CUDA_SUCCESS)
		return r;
	sim_graphs_lock();
	r = update_locked(s, deps, flags == CU_STREAM_ADD_CAPTURE_DEPENDENCIES);
	sim_graphs_unlock();
	return r;
}

CUresult cuStreamUpdateCaptureDependencies(CUstream hStream, CUgraphNode *dependencies,
					   size_t numDependencies, unsigned int flags)
{
	SIM_ENTER();
	return update(hStream, false,
		      &(struct sim_dependencies){ dependencies, NULL, numDependencies },
		      flags);
}

CUresult cuStreamUpdateCaptureDependencies_ptsz(CUstream hStream, CUgraphNode *dependencies,
						size_t numDependencies, unsigned int flags)
{
	SIM_ENTER();
	return update(hStream, true,
		      &(struct sim_dependencies){ dependencies, NULL, numDependencies },
		      flags);
}

CUresult cuStreamUpdateCaptureDependencies_v2(CUstream hStream, CUgraphNode *dependencies,
					      const CUgraphEdgeData *dependencyData,
					      size_t numDependencies, unsigned int flags)
{
	SIM_ENTER();
	struct sim_dependencies deps = { dependencies, dependencyData, numDependencies };
	return update(hStream, false, &deps, flags);
}

CUresult cuStreamUpdateCaptureDependencies_v2_ptsz(CUstream hStream,
						   CUgraphNode *dependencies,
						   const CUgraphEdgeData *dependencyData,
						   size_t numDependencies,
						   unsigned int flags)
{
	SIM_ENTER();
	struct sim_dependencies deps = { dependencies, dependencyData, numDependencies };
	return update(hStream, true, &deps, flags);
}
