/* SPDX-License-Identifier: Apache-2.0 */
#include "graph_node.h"

#include <string.h>

/* ---- add ----------------------------------------------------------------------------- */

static CUresult add_child(struct sim_graph *g, const struct sim_dependencies *deps,
			  const CUDA_CHILD_GRAPH_NODE_PARAMS *p,
			  struct sim_graph_node **out)
{
	struct sim_graph *child, *owned;
	bool move = p->ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE;
	CUresult r = sim_graph_of(p->graph, &child);

	if (r != CUDA_SUCCESS || child == g)
		return CUDA_ERROR_INVALID_VALUE;
	if (!move && p->ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE)
		return CUDA_ERROR_INVALID_VALUE;
	if (!move && sim_graph_has_memory(child))
		return CUDA_ERROR_NOT_SUPPORTED;
	if (move && (child->parent || child->execs))
		return CUDA_ERROR_INVALID_VALUE;
	owned = child;
	if (!move)
		r = sim_graph_clone(child, &owned);
	if (r == CUDA_SUCCESS)
		r = sim_node_add(g, deps, CU_GRAPH_NODE_TYPE_GRAPH, NULL, NULL, out);
	if (r == CUDA_SUCCESS) {
		(*out)->child = owned;
		owned->parent = *out;
	} else if (!move && owned != child) {
		sim_graph_destroy(owned);
	}
	return r;
}

static CUresult add_memory(struct sim_graph *g, const struct sim_dependencies *deps,
			   CUgraphNodeParams *params, struct sim_graph_node **out)
{
	CUDA_MEM_ALLOC_NODE_PARAMS alloc;
	struct sim_payload *payload;
	struct sim_ctx *ctx = NULL;
	CUresult r = g->parent ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;

	if (r == CUDA_SUCCESS && params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) {
		memcpy(&alloc, &params->alloc,
		       sizeof alloc); /* versions 1 and 2 are alike */
		r = sim_alloc_ctx(&alloc, &ctx);
		if (r == CUDA_SUCCESS)
			r = sim_alloc_payload(&alloc, ctx, &payload);
		if (r == CUDA_SUCCESS)
			params->alloc.dptr = alloc.dptr;
	} else if (r == CUDA_SUCCESS) {
		r = sim_free_payload(g, params->free.dptr, &payload);
	}
	if (r != CUDA_SUCCESS)
		return r;
	return sim_node_add(g, deps, params->type, payload,
			    ctx ? sim_ctx_handle(ctx) : NULL, out);
}

static CUresult add_any(struct sim_graph *g, const struct sim_dependencies *deps,
			CUgraphNodeParams *params, struct sim_graph_node **out)
{
	struct sim_payload *payload;
	CUcontext ctx;

	if (params->type == CU_GRAPH_NODE_TYPE_GRAPH)
		return add_child(g, deps, &params->graph, out);
	if (params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC ||
	    params->type == CU_GRAPH_NODE_TYPE_MEM_FREE)
		return add_memory(g, deps, params, out);
	CUresult r = sim_payload_make(params, &payload, &ctx);
	return r == CUDA_SUCCESS ? sim_node_add(g, deps, params->type, payload, ctx, out)
				 : r;
}

CUresult sim_graph_add(CUgraphNode *out, CUgraph graph, const struct sim_dependencies *deps,
		       CUgraphNodeParams *params)
{
	struct sim_graph *g;
	struct sim_graph_node *n;

	if (!out || !params)
		return CUDA_ERROR_INVALID_VALUE;
	sim_graphs_lock();
	CUresult r = sim_graph_of(graph, &g);
	if (r == CUDA_SUCCESS)
		r = add_any(g, deps, params, &n);
	sim_graphs_unlock();
	if (r == CUDA_SUCCESS)
		*out = (CUgraphNode)n;
	return r;
}

CUresult cuGraphAddNode(CUgraphNode *phGraphNode, CUgraph hGraph,
			const CUgraphNode *dependencies, size_t numDependencies,
			CUgraphNodeParams *nodeParams)
{
	SIM_ENTER();
	return sim_graph_add(
		phGraphNode, hGraph,
		&(struct sim_dependencies){ dependencies, NULL, numDependencies },
		nodeParams);
}

CUresult cuGraphAddNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph,
			   const CUgraphNode *dependencies,
			   const CUgraphEdgeData *dependencyData, size_t numDependencies,
			   CUgraphNodeParams *nodeParams)
{
	SIM_ENTER();
	struct sim_dependencies deps = { dependencies, dependencyData, numDependencies };
	return sim_graph_add(phGraphNode, hGraph, &deps, nodeParams);
}

CUresult cuGraphAddNode_v3(CUgraphNode *phGraphNode, CUgraph hGraph,
			   const CUgraphNode *dependencies,
			   const CUgraphEdgeData *dependencyData, size_t numDependencies,
			   CUgraphNodeParams *nodeParams)
{
	SIM_ENTER();
	struct sim_dependencies deps = { dependencies, dependencyData, numDependencies };
	return sim_graph_add(phGraphNode, hGraph, &deps, nodeParams);
}

/* ---- set ----------------------------------------------------------------------------- */

static CUresult replace(struct sim_graph_node *n, const CUgraphNodeParams *params)
{
	struct sim_payload *payload;
	CUcontext ctx;

	if (n->type != params->type)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_payload_make(params, &payload, &ctx);
	if (r != CUDA_SUCCESS)
		return r;
	sim_payload_unref(n->payload);
	n->payload = payload;
	if (ctx)
		n->ctx = ctx;
	return CUDA_SUCCESS;
}

static bool is_fixed(CUgraphNodeType type)
{
	return type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || type == CU_GRAPH_NODE_TYPE_MEM_FREE;
}

CUresult sim_graph_set(CUgraphNode node, const CUgraphNodeParams *params)
{
	struct sim_graph_node *n;

	sim_graphs_lock();
	CUresult r = sim_node_of(node, &n);
	if (r == CUDA_SUCCESS && is_fixed(n->type))
		r = CUDA_ERROR_NOT_SUPPORTED;
	if (r == CUDA_SUCCESS)
		r = replace(n, params);
	sim_graphs_unlock();
	return r;
}

/* The child of an executable graph is exchanged where its shape stays the same. */
static CUresult replace_child(struct sim_graph_node *n, CUgraph graph)
{
	struct sim_graph *child;
	CUresult r = sim_graph_of(graph, &child);

	if (r != CUDA_SUCCESS || n->type != CU_GRAPH_NODE_TYPE_GRAPH)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_graph_update(n->child, child, &(CUgraphExecUpdateResultInfo){ 0 });
}

CUresult sim_exec_set(CUgraphExec exec, CUgraphNode node, const CUgraphNodeParams *params)
{
	struct sim_exec *e;
	struct sim_graph_node *n, *mine = NULL;

	sim_graphs_lock();
	CUresult r = sim_exec_of(exec, &e);
	if (r == CUDA_SUCCESS)
		r = sim_node_of(node, &n);
	if (r == CUDA_SUCCESS)
		mine = sim_exec_node(e, n);
	if (r == CUDA_SUCCESS && !mine)
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS && is_fixed(mine->type))
		r = CUDA_ERROR_NOT_SUPPORTED;
	if (r == CUDA_SUCCESS)
		r = params->type == CU_GRAPH_NODE_TYPE_GRAPH
			    ? replace_child(mine, params->graph.graph)
			    : replace(mine, params);
	sim_graphs_unlock();
	return r;
}

CUresult cuGraphNodeSetParams(CUgraphNode hNode, CUgraphNodeParams *nodeParams)
{
	SIM_ENTER();
	return nodeParams ? sim_graph_set(hNode, nodeParams) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphNodeSetParams_v2(CUgraphNode hNode, CUgraphNodeParams *nodeParams)
{
	SIM_ENTER();
	return nodeParams ? sim_graph_set(hNode, nodeParams) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphExecNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
				  CUgraphNodeParams *nodeParams)
{
	SIM_ENTER();
	return nodeParams ? sim_exec_set(hGraphExec, hNode, nodeParams)
			  : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphNodeGetParams(CUgraphNode hNode, CUgraphNodeParams *nodeParams)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	CUresult r = nodeParams ? sim_node_of(hNode, &n) : CUDA_ERROR_INVALID_VALUE;
	return r == CUDA_SUCCESS ? sim_payload_params(n, nodeParams) : r;
}

/* ---- nodes of executable graphs ------------------------------------------------------ */

static CUresult switchable(CUgraphExec exec, CUgraphNode node, struct sim_graph_node **out)
{
	struct sim_exec *e;
	struct sim_graph_node *n;
	CUresult r = sim_exec_of(exec, &e);

	if (r == CUDA_SUCCESS)
		r = sim_node_of(node, &n);
	if (r != CUDA_SUCCESS)
		return r;
	*out = sim_exec_node(e, n);
	if (!*out || (unsigned)(*out)->type > CU_GRAPH_NODE_TYPE_MEMSET)
		return CUDA_ERROR_INVALID_VALUE; /* only kernels, copies and memsets */
	return CUDA_SUCCESS;
}

CUresult cuGraphNodeSetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode,
			       unsigned int isEnabled)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	sim_graphs_lock();
	CUresult r = switchable(hGraphExec, hNode, &n);
	if (r == CUDA_SUCCESS)
		n->disabled = !isEnabled;
	sim_graphs_unlock();
	return r;
}

CUresult cuGraphNodeGetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode,
			       unsigned int *isEnabled)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	sim_graphs_lock();
	CUresult r = isEnabled ? switchable(hGraphExec, hNode, &n)
			       : CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*isEnabled = !n->disabled;
	sim_graphs_unlock();
	return r;
}

/* ---- attributes of kernel nodes ------------------------------------------------------ */

static CUresult kernel_node(CUgraphNode node, struct sim_graph_node **out)
{
	CUresult r = sim_node_of(node, out);

	return r == CUDA_SUCCESS && (*out)->type != CU_GRAPH_NODE_TYPE_KERNEL
		       ? CUDA_ERROR_INVALID_VALUE
		       : r;
}

CUresult cuGraphKernelNodeCopyAttributes(CUgraphNode dst, CUgraphNode src)
{
	struct sim_graph_node *to, *from;
	SIM_ENTER();
	CUresult r = kernel_node(dst, &to);
	if (r == CUDA_SUCCESS)
		r = kernel_node(src, &from);
	if (r == CUDA_SUCCESS)
		memmove(to->attributes, from->attributes, sizeof to->attributes);
	return r;
}

CUresult cuGraphKernelNodeGetAttribute(CUgraphNode hNode, CUkernelNodeAttrID attr,
				       CUkernelNodeAttrValue *value_out)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	if (!value_out || (unsigned)attr >= CU_LAUNCH_ATTRIBUTE_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = kernel_node(hNode, &n);
	if (r == CUDA_SUCCESS)
		*value_out = n->attributes[attr];
	return r;
}

CUresult cuGraphKernelNodeSetAttribute(CUgraphNode hNode, CUkernelNodeAttrID attr,
				       const CUkernelNodeAttrValue *value)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	if (!value || (unsigned)attr >= CU_LAUNCH_ATTRIBUTE_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = kernel_node(hNode, &n);
	if (r == CUDA_SUCCESS)
		n->attributes[attr] = *value;
	return r;
}
