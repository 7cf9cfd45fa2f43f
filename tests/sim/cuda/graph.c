/* SPDX-License-Identifier: Apache-2.0 */
#include "graph.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static struct sim_graph *graphs;
static uint64_t last_uid;
static uint32_t last_graph_id;

void sim_graphs_lock(void)
{
	pthread_mutex_lock(&lock);
}

void sim_graphs_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

CUresult sim_graph_of(CUgraph handle, struct sim_graph **out)
{
	if (!sim_live_is(handle, SIM_LIVE_GRAPH))
		return CUDA_ERROR_INVALID_VALUE;
	*out = (struct sim_graph *)handle;
	return CUDA_SUCCESS;
}

CUresult sim_node_of(CUgraphNode handle, struct sim_graph_node **out)
{
	if (!sim_live_is(handle, SIM_LIVE_NODE))
		return CUDA_ERROR_INVALID_VALUE;
	*out = (struct sim_graph_node *)handle;
	return CUDA_SUCCESS;
}

/* ---- edges --------------------------------------------------------------------------- */

bool sim_edges_push(struct sim_edges *e, struct sim_graph_node *n,
		    const CUgraphEdgeData *data)
{
	if (e->count == e->room) {
		size_t room = e->room ? e->room * 2 : 4;
		struct sim_edge *list = realloc(e->list, room * sizeof *list);
		if (!list)
			return false;
		e->list = list;
		e->room = room;
	}
	struct sim_edge edge = { .node = n };
	if (data)
		edge.data = *data;
	e->list[e->count++] = edge;
	return true;
}

static bool has_edge(const struct sim_edges *e, const struct sim_graph_node *n)
{
	for (size_t i = 0; i < e->count; i++)
		if (e->list[i].node == n)
			return true;
	return false;
}

static bool drop_edge(struct sim_edges *e, const struct sim_graph_node *n)
{
	for (size_t i = 0; i < e->count; i++)
		if (e->list[i].node == n) {
			e->count--;
			memmove(&e->list[i], &e->list[i + 1],
				(e->count - i) * sizeof *e->list);
			return true;
		}
	return false;
}

CUresult sim_edge_add(struct sim_graph_node *from, struct sim_graph_node *to,
		      const CUgraphEdgeData *data)
{
	if (from->graph != to->graph || from == to || has_edge(&to->before, from))
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_edges_push(&to->before, from, data))
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (sim_edges_push(&from->after, to, data))
		return CUDA_SUCCESS;
	drop_edge(&to->before, from);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

bool sim_edge_remove(struct sim_graph_node *from, struct sim_graph_node *to)
{
	return drop_edge(&to->before, from) && drop_edge(&from->after, to);
}

/* ---- nodes --------------------------------------------------------------------------- */

static void free_node(struct sim_graph_node *n)
{
	sim_live_remove(n);
	sim_payload_unref(n->payload);
	if (n->child) {
		n->child->parent = NULL;
		sim_graph_destroy(n->child);
	}
	free(n->before.list);
	free(n->after.list);
	free(n);
}

void sim_node_remove(struct sim_graph_node *n)
{
	struct sim_graph *g = n->graph;

	while (n->before.count)
		sim_edge_remove(n->before.list[0].node, n);
	while (n->after.count)
		sim_edge_remove(n, n->after.list[0].node);
	for (size_t i = 0; i < g->count; i++)
		if (g->nodes[i] == n) {
			g->count--;
			memmove(&g->nodes[i], &g->nodes[i + 1],
				(g->count - i) * sizeof *g->nodes);
			break;
		}
	free_node(n);
}

static bool append_node(struct sim_graph *g, struct sim_graph_node *n)
{
	if (g->count == g->room) {
		size_t room = g->room ? g->room * 2 : 8;
		struct sim_graph_node **list = realloc(g->nodes, room * sizeof *list);
		if (!list)
			return false;
		g->nodes = list;
		g->room = room;
	}
	g->nodes[g->count++] = n;
	return true;
}

static struct sim_graph_node *new_node(struct sim_graph *g, CUgraphNodeType type,
				       struct sim_payload *payload)
{
	struct sim_graph_node *n = calloc(1, sizeof *n);

	if (!n || !sim_live_add(n, SIM_LIVE_NODE)) {
		free(n);
		sim_payload_unref(payload);
		return NULL;
	}
	n->graph = g;
	n->uid = ++last_uid;
	n->local_id = g->next_local++;
	n->type = type;
	n->payload = payload;
	if (append_node(g, n))
		return n;
	free_node(n);
	return NULL;
}

static CUresult check_dependencies(const struct sim_graph *g,
				   const struct sim_dependencies *deps)
{
	struct sim_graph_node *from;

	if (deps->count && !deps->nodes)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < deps->count; i++) {
		if (sim_node_of(deps->nodes[i], &from) != CUDA_SUCCESS || from->graph != g)
			return CUDA_ERROR_INVALID_VALUE;
		for (size_t j = 0; j < i; j++)
			if (deps->nodes[j] == deps->nodes[i])
				return CUDA_ERROR_INVALID_VALUE;
		if (deps->data && (deps->data[i].to_port || deps->data[i].from_port > 2 ||
				   deps->data[i].type > 1))
			return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

CUresult sim_node_add(struct sim_graph *g, const struct sim_dependencies *deps,
		      CUgraphNodeType type, struct sim_payload *payload, CUcontext ctx,
		      struct sim_graph_node **out)
{
	struct sim_ctx *current;
	CUresult r = check_dependencies(g, deps);

	if (r == CUDA_SUCCESS && !ctx && sim_ctx_current(&current) == CUDA_SUCCESS)
		ctx = sim_ctx_handle(current);
	if (r != CUDA_SUCCESS) {
		sim_payload_unref(payload);
		return r;
	}
	struct sim_graph_node *n = new_node(g, type, payload);
	if (!n)
		return CUDA_ERROR_OUT_OF_MEMORY;
	n->ctx = ctx;
	for (size_t i = 0; r == CUDA_SUCCESS && i < deps->count; i++)
		r = sim_edge_add((struct sim_graph_node *)deps->nodes[i], n,
				 deps->data ? &deps->data[i] : NULL);
	if (r != CUDA_SUCCESS) {
		sim_node_remove(n);
		return r;
	}
	*out = n;
	return CUDA_SUCCESS;
}

/* ---- graphs -------------------------------------------------------------------------- */

struct sim_graph *sim_graph_by_uid(uint64_t uid)
{
	struct sim_graph *g = graphs;

	while (g && g->uid != uid)
		g = g->next;
	return g;
}

CUresult sim_graph_create(struct sim_graph **out)
{
	struct sim_graph *g = calloc(1, sizeof *g);

	if (!g || !sim_live_add(g, SIM_LIVE_GRAPH)) {
		free(g);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	g->id = ++last_graph_id;
	g->uid = ++last_uid;
	g->next = graphs;
	graphs = g;
	*out = g;
	return CUDA_SUCCESS;
}

void sim_graph_destroy(struct sim_graph *g)
{
	for (struct sim_graph **p = &graphs; *p; p = &(*p)->next)
		if (*p == g) {
			*p = g->next;
			break;
		}
	sim_capture_graph_gone(g);
	sim_live_remove(g);
	for (size_t i = 0; i < g->count; i++)
		free_node(g->nodes[i]);
	sim_graph_drop_objects(g);
	free(g->nodes);
	free(g);
}

static CUresult clone_node(const struct sim_graph_node *from, struct sim_graph *to)
{
	struct sim_graph_node *n = new_node(to, from->type, sim_payload_ref(from->payload));

	if (!n)
		return CUDA_ERROR_OUT_OF_MEMORY;
	n->origin = from->uid;
	n->local_id = from->local_id;
	n->ctx = from->ctx;
	n->disabled = from->disabled;
	memcpy(n->attributes, from->attributes, sizeof n->attributes);
	if (!from->child)
		return CUDA_SUCCESS;
	CUresult r = sim_graph_clone(from->child, &n->child);
	if (r == CUDA_SUCCESS)
		n->child->parent = n;
	return r;
}

CUresult sim_graph_clone(const struct sim_graph *from, struct sim_graph **out)
{
	struct sim_graph *to;
	CUresult r = sim_graph_create(&to);

	if (r != CUDA_SUCCESS)
		return r;
	to->origin = from->uid;
	for (size_t i = 0; r == CUDA_SUCCESS && i < from->count; i++) {
		from->nodes[i]->scratch = i;
		r = clone_node(from->nodes[i], to);
	}
	for (size_t i = 0; r == CUDA_SUCCESS && i < from->count; i++) {
		const struct sim_edges *e = &from->nodes[i]->before;
		for (size_t j = 0; r == CUDA_SUCCESS && j < e->count; j++)
			r = sim_edge_add(to->nodes[e->list[j].node->scratch], to->nodes[i],
					 &e->list[j].data);
	}
	to->next_local = from->next_local;
	if (r == CUDA_SUCCESS)
		r = sim_graph_copy_objects(from, to);
	if (r != CUDA_SUCCESS) {
		sim_graph_destroy(to);
		return r;
	}
	*out = to;
	return CUDA_SUCCESS;
}

bool sim_graph_has(const struct sim_graph *g, CUgraphNodeType type)
{
	for (size_t i = 0; i < g->count; i++)
		if (g->nodes[i]->type == type ||
		    (g->nodes[i]->child && sim_graph_has(g->nodes[i]->child, type)))
			return true;
	return false;
}

bool sim_graph_has_memory(const struct sim_graph *g)
{
	return sim_graph_has(g, CU_GRAPH_NODE_TYPE_MEM_ALLOC) ||
	       sim_graph_has(g, CU_GRAPH_NODE_TYPE_MEM_FREE);
}

/* ---- the API ------------------------------------------------------------------------- */

CUresult cuGraphCreate(CUgraph *phGraph, unsigned int flags)
{
	struct sim_graph *g;
	SIM_ENTER();
	if (!phGraph || flags)
		return CUDA_ERROR_INVALID_VALUE;
	sim_graphs_lock();
	CUresult r = sim_graph_create(&g);
	sim_graphs_unlock();
	if (r == CUDA_SUCCESS)
		*phGraph = (CUgraph)g;
	return r;
}

CUresult cuGraphDestroy(CUgraph hGraph)
{
	struct sim_graph *g;
	SIM_ENTER();
	sim_graphs_lock();
	CUresult r = sim_graph_of(hGraph, &g);
	if (r == CUDA_SUCCESS && g->parent)
		r = CUDA_ERROR_INVALID_VALUE; /* goes with its parent */
	if (r == CUDA_SUCCESS)
		sim_graph_destroy(g);
	sim_graphs_unlock();
	return r;
}

CUresult cuGraphClone(CUgraph *phGraphClone, CUgraph originalGraph)
{
	struct sim_graph *g, *clone;
	SIM_ENTER();
	if (!phGraphClone)
		return CUDA_ERROR_INVALID_VALUE;
	sim_graphs_lock();
	CUresult r = sim_graph_of(originalGraph, &g);
	if (r == CUDA_SUCCESS && sim_graph_has_memory(g))
		r = CUDA_ERROR_NOT_SUPPORTED;
	if (r == CUDA_SUCCESS)
		r = sim_graph_clone(g, &clone);
	sim_graphs_unlock();
	if (r == CUDA_SUCCESS)
		*phGraphClone = (CUgraph)clone;
	return r;
}

CUresult cuGraphDestroyNode(CUgraphNode hNode)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	sim_graphs_lock();
	CUresult r = sim_node_of(hNode, &n);
	/* Which memory is live where could no longer be told. */
	if (r == CUDA_SUCCESS && sim_graph_has_memory(n->graph))
		r = CUDA_ERROR_NOT_SUPPORTED;
	if (r == CUDA_SUCCESS)
		sim_node_remove(n);
	sim_graphs_unlock();
	return r;
}
