/* SPDX-License-Identifier: Apache-2.0 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "duration.h"
#include "lane.h"
#include "stream_list.h"

/*
 * Executable graphs: a private clone, and its nodes in the order in which they run: one after the
 * other, in the lane of the stream, also where their edges would let them run at once.
 */

#define NODE_BYTES 512u /* what an upload copies for each node */

#define FLAGS_ALL                                                                         \
	(CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH |                                \
	 CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD | CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH | \
	 CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY)

CUresult sim_exec_of(CUgraphExec handle, struct sim_exec **out)
{
	if (!sim_live_is(handle, SIM_LIVE_EXEC))
		return CUDA_ERROR_INVALID_VALUE;
	*out = (struct sim_exec *)handle;
	return CUDA_SUCCESS;
}

CUresult sim_graph_order(const struct sim_graph *g, struct sim_graph_node ***out)
{
	struct sim_graph_node **order = malloc((g->count + 1) * sizeof *order);
	size_t ready = 0;

	if (!order)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; i < g->count; i++) {
		g->nodes[i]->scratch = g->nodes[i]->before.count;
		if (!g->nodes[i]->scratch)
			order[ready++] = g->nodes[i];
	}
	for (size_t done = 0; done < ready; done++)
		for (size_t i = 0; i < order[done]->after.count; i++) {
			struct sim_graph_node *n = order[done]->after.list[i].node;
			if (!--n->scratch)
				order[ready++] = n;
		}
	if (ready == g->count) {
		*out = order;
		return CUDA_SUCCESS;
	}
	free(order);
	return CUDA_ERROR_INVALID_VALUE;
}

static struct sim_graph_node *find_by_origin(const struct sim_graph *g, uint64_t uid)
{
	for (size_t i = 0; i < g->count; i++) {
		if (g->nodes[i]->origin == uid)
			return g->nodes[i];
		struct sim_graph_node *n = g->nodes[i]->child
						   ? find_by_origin(g->nodes[i]->child, uid)
						   : NULL;
		if (n)
			return n;
	}
	return NULL;
}

struct sim_graph_node *sim_exec_node(const struct sim_exec *e,
				     const struct sim_graph_node *n)
{
	return find_by_origin(e->graph, n->uid);
}

/* ---- instantiate --------------------------------------------------------------------- */

static void count_instance(uint64_t uid, int by)
{
	struct sim_graph *g = sim_graph_by_uid(uid);

	if (g)
		g->execs += (unsigned)by;
}

static void release_exec(struct sim_exec *e)
{
	if (--e->refs)
		return;
	if (e->graph)
		sim_graph_destroy(e->graph);
	free(e->order);
	free(e);
}

/* Whether something in it must not happen before the work in front of it is done. */
static bool runs_on_host(const struct sim_graph *g)
{
	for (size_t i = 0; i < g->count; i++) {
		const struct sim_graph_node *n = g->nodes[i];

		if (n->type == CU_GRAPH_NODE_TYPE_HOST ||
		    n->type == CU_GRAPH_NODE_TYPE_BATCH_MEM_OP ||
		    (n->child && runs_on_host(n->child)))
			return true;
	}
	return false;
}

static CUresult build(struct sim_graph *g, cuuint64_t flags, struct sim_exec **out)
{
	static uint32_t last_id;
	struct sim_graph_node **order;

	if (flags & ~(cuuint64_t)FLAGS_ALL)
		return CUDA_ERROR_INVALID_VALUE;
	if (g->parent)
		return CUDA_ERROR_INVALID_VALUE;
	if (g->execs && sim_graph_has_memory(g))
		return CUDA_ERROR_NOT_SUPPORTED; /* one instantiation at a time */
	CUresult r = sim_graph_order(g, &order);
	if (r != CUDA_SUCCESS)
		return r;
	free(order);
	struct sim_exec *e = calloc(1, sizeof *e);
	if (!e || !sim_live_add(e, SIM_LIVE_EXEC)) {
		free(e);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	e->refs = 1;
	e->id = ++last_id;
	e->flags = flags;
	e->source = g->uid;
	r = sim_graph_clone(g, &e->graph);
	if (r == CUDA_SUCCESS)
		r = sim_graph_order(e->graph, &e->order);
	if (r != CUDA_SUCCESS) {
		sim_live_remove(e);
		release_exec(e);
		return r;
	}
	e->reaches = runs_on_host(e->graph);
	g->execs++;
	*out = e;
	return CUDA_SUCCESS;
}

static CUresult instantiate(CUgraphExec *out, CUgraph graph, cuuint64_t flags)
{
	struct sim_graph *g;
	struct sim_exec *e;

	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	sim_graphs_lock();
	CUresult r = sim_graph_of(graph, &g);
	if (r == CUDA_SUCCESS)
		r = build(g, flags, &e);
	sim_graphs_unlock();
	if (r == CUDA_SUCCESS)
		*out = (CUgraphExec)e;
	return r;
}

CUresult cuGraphInstantiate(CUgraphExec *phGraphExec, CUgraph hGraph,
			    CUgraphNode *phErrorNode, char *logBuffer, size_t bufferSize)
{
	SIM_ENTER();
	if (phErrorNode)
		*phErrorNode = NULL;
	if (logBuffer && bufferSize)
		*logBuffer = '\0';
	return instantiate(phGraphExec, hGraph, 0);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *phGraphExec, CUgraph hGraph,
			       CUgraphNode *phErrorNode, char *logBuffer, size_t bufferSize)
{
	SIM_ENTER();
	if (phErrorNode)
		*phErrorNode = NULL;
	if (logBuffer && bufferSize)
		*logBuffer = '\0';
	return instantiate(phGraphExec, hGraph, 0);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *phGraphExec, CUgraph hGraph,
				     unsigned long long flags)
{
	SIM_ENTER();
	return instantiate(phGraphExec, hGraph, flags);
}

static CUresult with_params(CUgraphExec *out, CUgraph graph,
			    CUDA_GRAPH_INSTANTIATE_PARAMS *p)
{
	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = instantiate(out, graph, p->flags);
	p->hErrNode_out = NULL;
	p->result_out = r == CUDA_SUCCESS ? CUDA_GRAPH_INSTANTIATE_SUCCESS
			: r == CUDA_ERROR_INVALID_VALUE
				? CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE
				: CUDA_GRAPH_INSTANTIATE_ERROR;
	return r;
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *phGraphExec, CUgraph hGraph,
				      CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams)
{
	SIM_ENTER();
	return with_params(phGraphExec, hGraph, instantiateParams);
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *phGraphExec, CUgraph hGraph,
					   CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams)
{
	SIM_ENTER();
	return with_params(phGraphExec, hGraph, instantiateParams);
}

CUresult cuGraphExecDestroy(CUgraphExec hGraphExec)
{
	struct sim_exec *e;
	SIM_ENTER();
	sim_graphs_lock();
	CUresult r = sim_exec_of(hGraphExec, &e);
	if (r == CUDA_SUCCESS) {
		count_instance(e->source, -1);
		sim_live_remove(e);
		release_exec(e);
	}
	sim_graphs_unlock();
	return r;
}

CUresult cuGraphExecGetFlags(CUgraphExec hGraphExec, cuuint64_t *flags)
{
	struct sim_exec *e;
	SIM_ENTER();
	CUresult r = flags ? sim_exec_of(hGraphExec, &e) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*flags = e->flags;
	return r;
}

CUresult cuGraphExecGetId(CUgraphExec hGraphExec, unsigned int *graphId)
{
	struct sim_exec *e;
	SIM_ENTER();
	CUresult r = graphId ? sim_exec_of(hGraphExec, &e) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*graphId = e->id;
	return r;
}

/* ---- launch -------------------------------------------------------------------------- */

static bool is_live_alloc(const struct sim_graph_node *n, CUdeviceptr *dptr)
{
	struct sim_range range;

	if (n->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC)
		return false;
	*dptr = ((const CUDA_MEM_ALLOC_NODE_PARAMS *)n->payload->params)->dptr;
	return sim_mem_find(*dptr, 1, &range);
}

static void free_live(const struct sim_exec *e, struct sim_ctx *ctx)
{
	CUdeviceptr dptr;

	for (size_t i = 0; i < e->graph->count; i++)
		if (is_live_alloc(e->graph->nodes[i], &dptr))
			sim_graphmem_free(ctx, dptr);
}

/* Memory that an earlier launch left must be gone, or goes now if the graph was made so. */
static CUresult settle_memory(const struct sim_exec *e, struct sim_ctx *ctx)
{
	CUdeviceptr dptr;

	if (e->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) {
		free_live(e, ctx);
		return CUDA_SUCCESS;
	}
	for (size_t i = 0; i < e->graph->count; i++)
		if (is_live_alloc(e->graph->nodes[i], &dptr))
			return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

static CUresult run_nodes(struct sim_graph_node *const *order, size_t count,
			  struct sim_ctx *fallback)
{
	CUresult r = CUDA_SUCCESS;

	for (size_t i = 0; r == CUDA_SUCCESS && i < count; i++) {
		const struct sim_graph_node *n = order[i];
		struct sim_ctx *ctx = fallback;
		if (n->disabled)
			continue;
		if (n->ctx)
			r = sim_ctx_of(n->ctx, &ctx);
		if (r == CUDA_SUCCESS && n->payload)
			r = n->payload->run(n->payload->params, ctx);
		if (r == CUDA_SUCCESS && n->child) {
			struct sim_graph_node **inner;
			r = sim_graph_order(n->child, &inner);
			if (r != CUDA_SUCCESS)
				break;
			r = run_nodes(inner, n->child->count, ctx);
			free(inner);
		}
	}
	return r;
}

/* Launches of one executable graph never overlap. */
static CUresult follow_last(struct sim_exec *e)
{
	uint64_t channel, ticket;
	bool follows;

	sim_graphs_lock();
	follows = e->was_launched;
	channel = e->last_channel;
	ticket = e->last_ticket;
	sim_graphs_unlock();
	return follows ? sim_lane_after_ticket(sim_lane_running(), channel, ticket)
		       : CUDA_SUCCESS;
}

static void note_last(struct sim_exec *e)
{
	uint64_t channel, ticket;

	if (!sim_lane_last(sim_lane_running(), &channel, &ticket))
		return;
	sim_graphs_lock();
	e->was_launched = true;
	e->last_channel = channel;
	e->last_ticket = ticket;
	sim_graphs_unlock();
}

static CUresult run_exec(void *params, struct sim_ctx *ctx)
{
	struct sim_exec *e = *(struct sim_exec **)params;
	CUresult r = settle_memory(e, ctx);

	if (r == CUDA_SUCCESS)
		r = follow_last(e);
	if (r != CUDA_SUCCESS)
		return r;
	r = run_nodes(e->order, e->graph->count, ctx);
	note_last(e);
	if (r == CUDA_ERROR_OUT_OF_MEMORY)
		free_live(e, ctx);
	return r;
}

static void drop_exec(void *params)
{
	sim_graphs_lock();
	release_exec(*(struct sim_exec **)params);
	sim_graphs_unlock();
}

static CUresult launch(CUgraphExec exec, CUstream stream, bool ptsz)
{
	struct sim_exec *e;
	struct sim_stream *s;
	CUresult r = sim_exec_of(exec, &e);

	if (r == CUDA_SUCCESS)
		r = sim_stream_get(stream, ptsz, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (sim_stream_capturing(s))
		return sim_capture_child(s, e->graph);
	struct sim_op op = { .type = CU_GRAPH_NODE_TYPE_GRAPH,
			     .run = run_exec,
			     .drop = drop_exec,
			     .params = &e,
			     .params_bytes = sizeof e };
	sim_spend(SIM_SPEND_GRAPH_NS - SIM_SPEND_CALL_NS);
	sim_graphs_lock();
	e->refs++;
	sim_graphs_unlock();
	return stream_submit(s->priv, &op, e->reaches);
}

CUresult cuGraphLaunch(CUgraphExec hGraph, CUstream hStream)
{
	SIM_ENTER();
	return launch(hGraph, hStream, false);
}

CUresult cuGraphLaunch_ptsz(CUgraphExec hGraphExec, CUstream hStream)
{
	SIM_ENTER();
	return launch(hGraphExec, hStream, true);
}

static CUresult run_upload(void *params, struct sim_ctx *ctx)
{
	const size_t *nodes = params;

	return sim_copy_time(ctx->machine, SIM_COPY_IN, *nodes * NODE_BYTES);
}

static CUresult upload(CUgraphExec exec, CUstream stream, bool ptsz)
{
	size_t nodes = 0;
	const struct sim_op op = { .run = run_upload,
				   .params = &nodes,
				   .params_bytes = sizeof nodes };
	struct sim_exec *e;
	struct sim_stream *s;
	CUresult r = sim_exec_of(exec, &e);

	if (r == CUDA_SUCCESS)
		r = sim_stream_get(stream, ptsz, &s);
	if (r == CUDA_SUCCESS)
		r = sim_capture_prohibits(s);
	if (r == CUDA_SUCCESS)
		nodes = e->graph->count;
	return r == CUDA_SUCCESS ? sim_stream_run(s, &op) : r;
}

CUresult cuGraphUpload(CUgraphExec hGraph, CUstream hStream)
{
	SIM_ENTER();
	return upload(hGraph, hStream, false);
}

CUresult cuGraphUpload_ptsz(CUgraphExec hGraphExec, CUstream hStream)
{
	SIM_ENTER();
	return upload(hGraphExec, hStream, true);
}
