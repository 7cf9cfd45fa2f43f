/* SPDX-License-Identifier: Apache-2.0 */
#include "graph.h"

#include <stdio.h>
#include <string.h>

/* Edges, and what a graph is made of. */

/* ---- lists --------------------------------------------------------------------------- */

/* The driver's way with lists: without an array the count is told; with one, *COUNT entries
 * are filled, the surplus with zero, and *COUNT becomes the number of real ones. */
static CUresult tell_nodes(struct sim_graph_node *const *list, size_t n, CUgraphNode *out,
			   size_t *count)
{
	for (size_t i = 0; out && i < *count; i++)
		out[i] = i < n ? (CUgraphNode)list[i] : NULL;
	if (!out || n < *count)
		*count = n;
	return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph hGraph, CUgraphNode *nodes, size_t *numNodes)
{
	struct sim_graph *g;
	SIM_ENTER();
	CUresult r = numNodes ? sim_graph_of(hGraph, &g) : CUDA_ERROR_INVALID_VALUE;
	return r == CUDA_SUCCESS ? tell_nodes(g->nodes, g->count, nodes, numNodes) : r;
}

CUresult cuGraphGetRootNodes(CUgraph hGraph, CUgraphNode *rootNodes, size_t *numRootNodes)
{
	struct sim_graph *g;
	size_t n = 0;
	SIM_ENTER();
	CUresult r = numRootNodes ? sim_graph_of(hGraph, &g) : CUDA_ERROR_INVALID_VALUE;
	if (r != CUDA_SUCCESS)
		return r;
	for (size_t i = 0; i < g->count; i++) {
		if (g->nodes[i]->before.count)
			continue;
		if (rootNodes && n < *numRootNodes)
			rootNodes[n] = (CUgraphNode)g->nodes[i];
		n++;
	}
	for (size_t i = n; rootNodes && i < *numRootNodes; i++)
		rootNodes[i] = NULL;
	if (!rootNodes || n < *numRootNodes)
		*numRootNodes = n;
	return CUDA_SUCCESS;
}

struct edge_arrays {
	CUgraphNode *from, *to;
	CUgraphEdgeData *data;
	size_t *count;
};

static bool is_plain(const CUgraphEdgeData *d)
{
	static const CUgraphEdgeData plain;

	return !memcmp(d, &plain, sizeof plain);
}

static CUresult tell_edge(const struct edge_arrays *a, size_t at,
			  const struct sim_graph_node *from,
			  const struct sim_graph_node *to, const CUgraphEdgeData *data)
{
	bool wanted = a->from || a->to;

	if (wanted && !a->data && !is_plain(data))
		return CUDA_ERROR_LOSSY_QUERY;
	if (!wanted || at >= *a->count)
		return CUDA_SUCCESS;
	if (a->from)
		a->from[at] = (CUgraphNode)(uintptr_t)from;
	if (a->to)
		a->to[at] = (CUgraphNode)(uintptr_t)to;
	if (a->data)
		a->data[at] = *data;
	return CUDA_SUCCESS;
}

static void end_edges(const struct edge_arrays *a, size_t n)
{
	bool wanted = a->from || a->to;

	for (size_t i = n; wanted && i < *a->count; i++) {
		if (a->from)
			a->from[i] = NULL;
		if (a->to)
			a->to[i] = NULL;
	}
	if (!wanted || n < *a->count)
		*a->count = n;
}

static CUresult tell_edges(CUgraph graph, const struct edge_arrays *a)
{
	struct sim_graph *g;
	size_t n = 0;
	CUresult r = a->count ? sim_graph_of(graph, &g) : CUDA_ERROR_INVALID_VALUE;

	if (r == CUDA_SUCCESS && (!a->from != !a->to || (a->data && !a->from)))
		r = CUDA_ERROR_INVALID_VALUE;
	if (r != CUDA_SUCCESS)
		return r;
	for (size_t i = 0; i < g->count; i++) {
		const struct sim_edges *e = &g->nodes[i]->after;
		for (size_t j = 0; r == CUDA_SUCCESS && j < e->count; j++)
			r = tell_edge(a, n++, g->nodes[i], e->list[j].node,
				      &e->list[j].data);
	}
	if (r == CUDA_SUCCESS)
		end_edges(a, n);
	return r;
}

CUresult cuGraphGetEdges(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to,
			 size_t *numEdges)
{
	SIM_ENTER();
	return tell_edges(hGraph, &(struct edge_arrays){ from, to, NULL, numEdges });
}

CUresult cuGraphGetEdges_v2(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to,
			    CUgraphEdgeData *edgeData, size_t *numEdges)
{
	SIM_ENTER();
	return tell_edges(hGraph, &(struct edge_arrays){ from, to, edgeData, numEdges });
}

static CUresult tell_side(CUgraphNode node, bool before, const struct edge_arrays *a)
{
	struct sim_graph_node *n;
	CUresult r = a->count ? sim_node_of(node, &n) : CUDA_ERROR_INVALID_VALUE;

	if (r != CUDA_SUCCESS)
		return r;
	const struct sim_edges *e = before ? &n->before : &n->after;
	for (size_t i = 0; r == CUDA_SUCCESS && i < e->count; i++)
		r = tell_edge(a, i, e->list[i].node, NULL, &e->list[i].data);
	if (r == CUDA_SUCCESS)
		end_edges(a, e->count);
	return r;
}

CUresult cuGraphNodeGetDependencies(CUgraphNode hNode, CUgraphNode *dependencies,
				    size_t *numDependencies)
{
	SIM_ENTER();
	return tell_side(
		hNode, true,
		&(struct edge_arrays){ dependencies, NULL, NULL, numDependencies });
}

CUresult cuGraphNodeGetDependencies_v2(CUgraphNode hNode, CUgraphNode *dependencies,
				       CUgraphEdgeData *edgeData, size_t *numDependencies)
{
	SIM_ENTER();
	struct edge_arrays a = { dependencies, NULL, edgeData, numDependencies };
	return tell_side(hNode, true, &a);
}

CUresult cuGraphNodeGetDependentNodes(CUgraphNode hNode, CUgraphNode *dependentNodes,
				      size_t *numDependentNodes)
{
	SIM_ENTER();
	struct edge_arrays a = { dependentNodes, NULL, NULL, numDependentNodes };
	return tell_side(hNode, false, &a);
}

CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode hNode, CUgraphNode *dependentNodes,
					 CUgraphEdgeData *edgeData,
					 size_t *numDependentNodes)
{
	SIM_ENTER();
	struct edge_arrays a = { dependentNodes, NULL, edgeData, numDependentNodes };
	return tell_side(hNode, false, &a);
}

/* ---- edges --------------------------------------------------------------------------- */

struct edge_change {
	const CUgraphNode *from, *to;
	const CUgraphEdgeData *data;
	size_t count;
};

static CUresult change_one(struct sim_graph *g, const struct edge_change *c, size_t i,
			   bool add)
{
	struct sim_graph_node *from, *to;

	if (sim_node_of(c->from[i], &from) != CUDA_SUCCESS ||
	    sim_node_of(c->to[i], &to) != CUDA_SUCCESS || from->graph != g ||
	    to->graph != g)
		return CUDA_ERROR_INVALID_VALUE;
	if (add)
		return sim_edge_add(from, to, c->data ? &c->data[i] : NULL);
	return sim_edge_remove(from, to) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult change(CUgraph graph, const struct edge_change *c, bool add)
{
	struct sim_graph *g;

	if (c->count && (!c->from || !c->to))
		return CUDA_ERROR_INVALID_VALUE;
	sim_graphs_lock();
	CUresult r = sim_graph_of(graph, &g);
	if (r == CUDA_SUCCESS && !add && c->count && sim_graph_has_memory(g))
		r = CUDA_ERROR_NOT_SUPPORTED;
	for (size_t i = 0; r == CUDA_SUCCESS && i < c->count; i++)
		r = change_one(g, c, i, add);
	sim_graphs_unlock();
	return r;
}

CUresult cuGraphAddDependencies(CUgraph hGraph, const CUgraphNode *from,
				const CUgraphNode *to, size_t numDependencies)
{
	SIM_ENTER();
	return change(hGraph, &(struct edge_change){ from, to, NULL, numDependencies },
		      true);
}

CUresult cuGraphAddDependencies_v2(CUgraph hGraph, const CUgraphNode *from,
				   const CUgraphNode *to, const CUgraphEdgeData *edgeData,
				   size_t numDependencies)
{
	SIM_ENTER();
	return change(hGraph, &(struct edge_change){ from, to, edgeData, numDependencies },
		      true);
}

CUresult cuGraphRemoveDependencies(CUgraph hGraph, const CUgraphNode *from,
				   const CUgraphNode *to, size_t numDependencies)
{
	SIM_ENTER();
	return change(hGraph, &(struct edge_change){ from, to, NULL, numDependencies },
		      false);
}

CUresult cuGraphRemoveDependencies_v2(CUgraph hGraph, const CUgraphNode *from,
				      const CUgraphNode *to,
				      const CUgraphEdgeData *edgeData,
				      size_t numDependencies)
{
	SIM_ENTER();
	return change(hGraph, &(struct edge_change){ from, to, edgeData, numDependencies },
		      false);
}

/* ---- facts --------------------------------------------------------------------------- */

CUresult cuGraphNodeFindInClone(CUgraphNode *phNode, CUgraphNode hOriginalNode,
				CUgraph hClonedGraph)
{
	struct sim_graph *g;
	struct sim_graph_node *n;
	SIM_ENTER();
	CUresult r = phNode ? sim_graph_of(hClonedGraph, &g) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		r = sim_node_of(hOriginalNode, &n);
	if (r != CUDA_SUCCESS)
		return r;
	for (size_t i = 0; i < g->count; i++)
		if (g->nodes[i]->origin == n->uid) {
			*phNode = (CUgraphNode)g->nodes[i];
			return CUDA_SUCCESS;
		}
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphNodeGetType(CUgraphNode hNode, CUgraphNodeType *type)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	CUresult r = type ? sim_node_of(hNode, &n) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*type = n->type;
	return r;
}

CUresult cuGraphNodeGetContainingGraph(CUgraphNode hNode, CUgraph *phGraph)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	CUresult r = phGraph ? sim_node_of(hNode, &n) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*phGraph = (CUgraph)n->graph;
	return r;
}

CUresult cuGraphNodeGetLocalId(CUgraphNode hNode, unsigned int *nodeId)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	CUresult r = nodeId ? sim_node_of(hNode, &n) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*nodeId = n->local_id;
	return r;
}

CUresult cuGraphNodeGetToolsId(CUgraphNode hNode, unsigned long long *toolsNodeId)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	CUresult r = toolsNodeId ? sim_node_of(hNode, &n) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*toolsNodeId = n->uid;
	return r;
}

CUresult cuGraphGetId(CUgraph hGraph, unsigned int *graphId)
{
	struct sim_graph *g;
	SIM_ENTER();
	CUresult r = graphId ? sim_graph_of(hGraph, &g) : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*graphId = g->id;
	return r;
}

static const char *type_name(CUgraphNodeType type)
{
	static const char *const names[] = {
		"KERNEL",         "MEMCPY",       "MEMSET",
		"HOST",           "GRAPH",        "EMPTY",
		"WAIT_EVENT",     "EVENT_RECORD", "EXT_SEMAS_SIGNAL",
		"EXT_SEMAS_WAIT", "MEM_ALLOC",    "MEM_FREE",
		"BATCH_MEM_OP"
	};

	return (size_t)type < sizeof names / sizeof *names ? names[type] : "NODE";
}

static void write_dot(FILE *out, const struct sim_graph *g)
{
	fprintf(out, "subgraph cluster_%u {\nlabel=\"graph_%u\"\n", g->id, g->id);
	for (size_t i = 0; i < g->count; i++) {
		const struct sim_graph_node *n = g->nodes[i];
		fprintf(out, "\"graph_%u_node_%u\" [label=\"%u %s\"];\n", g->id,
			n->local_id, n->local_id, type_name(n->type));
		for (size_t j = 0; j < n->after.count; j++)
			fprintf(out, "\"graph_%u_node_%u\" -> \"graph_%u_node_%u\";\n",
				g->id, n->local_id, g->id, n->after.list[j].node->local_id);
		if (n->child)
			write_dot(out, n->child);
	}
	fputs("}\n", out);
}

CUresult cuGraphDebugDotPrint(CUgraph hGraph, const char *path, unsigned int flags)
{
	struct sim_graph *g;
	SIM_ENTER();
	(void)flags;
	CUresult r = path ? sim_graph_of(hGraph, &g) : CUDA_ERROR_INVALID_VALUE;
	if (r != CUDA_SUCCESS)
		return r;
	FILE *out = fopen(path, "we");
	if (!out)
		return CUDA_ERROR_OPERATING_SYSTEM;
	fputs("digraph dot {\n", out);
	sim_graphs_lock();
	write_dot(out, g);
	sim_graphs_unlock();
	fputs("}\n", out);
	return fclose(out) ? CUDA_ERROR_OPERATING_SYSTEM : CUDA_SUCCESS;
}
