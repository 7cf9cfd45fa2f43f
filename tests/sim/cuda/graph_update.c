/* SPDX-License-Identifier: Apache-2.0 */
#include "graph.h"

#include <string.h>

/* cuGraphExecUpdate: an executable graph takes the parameters of a graph of the same shape.
 */

static CUresult refuse(CUgraphExecUpdateResultInfo *info, CUgraphExecUpdateResult why,
		       struct sim_graph_node *n)
{
	info->result = why;
	info->errorNode = (CUgraphNode)n;
	return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
}

static bool same_edges(const struct sim_graph_node *a, const struct sim_graph_node *b)
{
	if (a->before.count != b->before.count)
		return false;
	for (size_t i = 0; i < a->before.count; i++)
		if (a->before.list[i].node->scratch != b->before.list[i].node->scratch)
			return false;
	return true;
}

static bool same_memory(const struct sim_graph_node *a, const struct sim_graph_node *b)
{
	if (a->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC &&
	    a->type != CU_GRAPH_NODE_TYPE_MEM_FREE)
		return true;
	return a->payload == b->payload;
}

static CUresult compare(const struct sim_graph *mine, const struct sim_graph *from,
			CUgraphExecUpdateResultInfo *info)
{
	if (mine->count != from->count)
		return refuse(info, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, NULL);
	for (size_t i = 0; i < mine->count; i++)
		mine->nodes[i]->scratch = from->nodes[i]->scratch = i;
	for (size_t i = 0; i < mine->count; i++) {
		struct sim_graph_node *a = mine->nodes[i], *b = from->nodes[i];
		if (!same_edges(a, b))
			return refuse(info, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, b);
		if (a->type != b->type)
			return refuse(info, CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED,
				      b);
		if (!same_memory(a, b))
			return refuse(info, CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED,
				      b);
	}
	for (size_t i = 0; i < mine->count; i++) {
		const struct sim_graph *a = mine->nodes[i]->child;
		CUresult r = a ? compare(a, from->nodes[i]->child, info) : CUDA_SUCCESS;
		if (r != CUDA_SUCCESS)
			return r;
	}
	return CUDA_SUCCESS;
}

static void take_payloads(const struct sim_graph *mine, const struct sim_graph *from)
{
	for (size_t i = 0; i < mine->count; i++) {
		struct sim_graph_node *a = mine->nodes[i], *b = from->nodes[i];
		struct sim_payload *old = a->payload;
		a->payload = sim_payload_ref(b->payload);
		sim_payload_unref(old);
		a->ctx = b->ctx;
		memcpy(a->attributes, b->attributes, sizeof a->attributes);
		if (a->child)
			take_payloads(a->child, b->child);
	}
}

CUresult sim_graph_update(struct sim_graph *mine, const struct sim_graph *from,
			  CUgraphExecUpdateResultInfo *info)
{
	CUresult r = compare(mine, from, info);

	if (r == CUDA_SUCCESS)
		take_payloads(mine, from);
	return r;
}

static CUresult update(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info)
{
	struct sim_exec *e;
	struct sim_graph *g;

	*info = (CUgraphExecUpdateResultInfo){ .result = CU_GRAPH_EXEC_UPDATE_ERROR };
	sim_graphs_lock();
	CUresult r = sim_exec_of(exec, &e);
	if (r == CUDA_SUCCESS)
		r = sim_graph_of(graph, &g);
	if (r == CUDA_SUCCESS) {
		info->result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
		r = sim_graph_update(e->graph, g, info);
	}
	sim_graphs_unlock();
	return r;
}

CUresult cuGraphExecUpdate(CUgraphExec hGraphExec, CUgraph hGraph,
			   CUgraphNode *hErrorNode_out,
			   CUgraphExecUpdateResult *updateResult_out)
{
	CUgraphExecUpdateResultInfo info;
	SIM_ENTER();
	if (!updateResult_out)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = update(hGraphExec, hGraph, &info);
	if (hErrorNode_out)
		*hErrorNode_out = info.errorNode;
	*updateResult_out = info.result;
	return r;
}

CUresult cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph,
			      CUgraphExecUpdateResultInfo *resultInfo)
{
	SIM_ENTER();
	return resultInfo ? update(hGraphExec, hGraph, resultInfo)
			  : CUDA_ERROR_INVALID_VALUE;
}
