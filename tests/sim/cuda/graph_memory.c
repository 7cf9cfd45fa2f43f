/* SPDX-License-Identifier: Apache-2.0 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

/*
 * Memory nodes: the address is fixed when the node is made, the memory comes when the graph
 * runs. Every address that a graph holds is in one list, for a free node may name one of
 * another graph.
 */

struct alloc {
	CUDA_MEM_ALLOC_NODE_PARAMS params; /* first: what the node tells */
	CUcontext ctx;
};

struct address {
	struct address *next;
	CUdeviceptr dptr;
};

static struct address *addresses;

static CUresult run_alloc(void *params, struct sim_ctx *ctx)
{
	const struct alloc *a = params;
	struct sim_ctx *own;

	(void)ctx; /* the memory is of the device that the node names */
	CUresult r = sim_ctx_of(a->ctx, &own);
	return r == CUDA_SUCCESS
		       ? sim_graphmem_alloc(own, a->params.dptr, a->params.bytesize)
		       : r;
}

static void drop_alloc(void *params)
{
	struct alloc *a = params;
	struct sim_ctx *ctx;

	for (struct address **p = &addresses; *p; p = &(*p)->next)
		if ((*p)->dptr == a->params.dptr) {
			struct address *gone = *p;
			*p = gone->next;
			free(gone);
			break;
		}
	/* The address goes even where its context has gone before. */
	if (sim_ctx_of(a->ctx, &ctx) != CUDA_SUCCESS)
		ctx = NULL;
	sim_graphmem_drop_va(ctx, a->params.dptr);
	free((void *)(uintptr_t)a->params.accessDescs);
}

static CUresult run_free(void *params, struct sim_ctx *ctx)
{
	return sim_graphmem_free(ctx, *(CUdeviceptr *)params);
}

CUresult sim_alloc_ctx(const CUDA_MEM_ALLOC_NODE_PARAMS *params, struct sim_ctx **out)
{
	uint32_t machine;

	if (params->poolProps.location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_device_machine(params->poolProps.location.id, &machine);
	if (r != CUDA_SUCCESS)
		return CUDA_ERROR_INVALID_VALUE;
	if (sim_ctx_current(out) == CUDA_SUCCESS && (*out)->machine == machine)
		return CUDA_SUCCESS;
	return sim_ctx_primary(params->poolProps.location.id, out);
}

static bool remember(CUdeviceptr dptr)
{
	struct address *a = malloc(sizeof *a);

	if (!a)
		return false;
	*a = (struct address){ addresses, dptr };
	addresses = a;
	return true;
}

static bool copy_access(CUDA_MEM_ALLOC_NODE_PARAMS *p)
{
	size_t bytes = p->accessDescCount * sizeof *p->accessDescs;
	CUmemAccessDesc *copy = NULL;

	if (bytes) {
		copy = malloc(bytes);
		if (!copy)
			return false;
		memcpy(copy, p->accessDescs, bytes);
	}
	p->accessDescs = copy;
	return true;
}

CUresult sim_alloc_payload(CUDA_MEM_ALLOC_NODE_PARAMS *params, struct sim_ctx *ctx,
			   struct sim_payload **out)
{
	if (!params->bytesize ||
	    params->poolProps.allocType != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    params->poolProps.handleTypes || params->accessDescCount > RM_DEVICES_MAX ||
	    (params->accessDescCount && !params->accessDescs))
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_graphmem_reserve_va(ctx, params);
	if (r != CUDA_SUCCESS)
		return r;
	struct alloc a = { *params, sim_ctx_handle(ctx) };
	if (!copy_access(&a.params) || !remember(params->dptr)) {
		sim_graphmem_drop_va(ctx, params->dptr);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*out = sim_payload_new(CU_GRAPH_NODE_TYPE_MEM_ALLOC, &a, sizeof a, run_alloc,
			       drop_alloc);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static bool frees(const struct sim_graph *g, CUdeviceptr dptr)
{
	for (size_t i = 0; i < g->count; i++)
		if (g->nodes[i]->type == CU_GRAPH_NODE_TYPE_MEM_FREE &&
		    *(const CUdeviceptr *)g->nodes[i]->payload->params == dptr)
			return true;
	return false;
}

CUresult sim_free_payload(const struct sim_graph *g, CUdeviceptr dptr,
			  struct sim_payload **out)
{
	const struct address *a = addresses;

	while (a && a->dptr != dptr)
		a = a->next;
	if (!a || frees(g, dptr))
		return CUDA_ERROR_INVALID_VALUE;
	*out = sim_payload_new(CU_GRAPH_NODE_TYPE_MEM_FREE, &dptr, sizeof dptr, run_free,
			       NULL);
	return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

/* ---- the API ------------------------------------------------------------------------- */

CUresult cuGraphAddMemAllocNode(CUgraphNode *phGraphNode, CUgraph hGraph,
				const CUgraphNode *dependencies, size_t numDependencies,
				CUDA_MEM_ALLOC_NODE_PARAMS *nodeParams)
{
	struct sim_dependencies deps = { dependencies, NULL, numDependencies };
	struct sim_graph *g;
	struct sim_graph_node *n;
	struct sim_payload *payload;
	struct sim_ctx *ctx;
	SIM_ENTER();
	if (!phGraphNode || !nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_alloc_ctx(nodeParams, &ctx);
	if (r != CUDA_SUCCESS)
		return r;
	sim_graphs_lock();
	r = sim_graph_of(hGraph, &g);
	if (r == CUDA_SUCCESS && g->parent)
		r = CUDA_ERROR_NOT_SUPPORTED;
	if (r == CUDA_SUCCESS)
		r = sim_alloc_payload(nodeParams, ctx, &payload);
	if (r == CUDA_SUCCESS)
		r = sim_node_add(g, &deps, CU_GRAPH_NODE_TYPE_MEM_ALLOC, payload,
				 sim_ctx_handle(ctx), &n);
	sim_graphs_unlock();
	if (r == CUDA_SUCCESS)
		*phGraphNode = (CUgraphNode)n;
	return r;
}

CUresult cuGraphAddMemFreeNode(CUgraphNode *phGraphNode, CUgraph hGraph,
			       const CUgraphNode *dependencies, size_t numDependencies,
			       CUdeviceptr dptr)
{
	struct sim_dependencies deps = { dependencies, NULL, numDependencies };
	struct sim_graph *g;
	struct sim_graph_node *n;
	struct sim_payload *payload;
	SIM_ENTER();
	if (!phGraphNode)
		return CUDA_ERROR_INVALID_VALUE;
	sim_graphs_lock();
	CUresult r = sim_graph_of(hGraph, &g);
	if (r == CUDA_SUCCESS && g->parent)
		r = CUDA_ERROR_NOT_SUPPORTED;
	if (r == CUDA_SUCCESS)
		r = sim_free_payload(g, dptr, &payload);
	if (r == CUDA_SUCCESS)
		r = sim_node_add(g, &deps, CU_GRAPH_NODE_TYPE_MEM_FREE, payload, NULL, &n);
	sim_graphs_unlock();
	if (r == CUDA_SUCCESS)
		*phGraphNode = (CUgraphNode)n;
	return r;
}

CUresult cuGraphMemAllocNodeGetParams(CUgraphNode hNode,
				      CUDA_MEM_ALLOC_NODE_PARAMS *params_out)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	CUresult r = sim_node_of(hNode, &n);
	if (r != CUDA_SUCCESS || !params_out || n->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(params_out, n->payload->params, sizeof *params_out);
	return CUDA_SUCCESS;
}

CUresult cuGraphMemFreeNodeGetParams(CUgraphNode hNode, CUdeviceptr *dptr_out)
{
	struct sim_graph_node *n;
	SIM_ENTER();
	CUresult r = sim_node_of(hNode, &n);
	if (r != CUDA_SUCCESS || !dptr_out || n->type != CU_GRAPH_NODE_TYPE_MEM_FREE)
		return CUDA_ERROR_INVALID_VALUE;
	*dptr_out = *(CUdeviceptr *)n->payload->params;
	return CUDA_SUCCESS;
}
