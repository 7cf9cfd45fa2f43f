/* SPDX-License-Identifier: Apache-2.0 */
#include "graph_node.h"

#include <string.h>

/* The calls of one type of node each: all of them by way of the generic parameters. */

static CUresult tell(CUgraphNode handle, CUgraphNodeType type, CUgraphNodeParams *out)
{
	struct sim_graph_node *n;
	CUresult r = sim_node_of(handle, &n);

	if (r != CUDA_SUCCESS || n->type != type)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_payload_params(n, out);
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph,
				 const CUgraphNode *dependencies, size_t numDependencies,
				 const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_KERNEL };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.kernel, nodeParams, sizeof *nodeParams);
	return sim_graph_add(
		phGraphNode, hGraph,
		&(struct sim_dependencies){ dependencies, NULL, numDependencies }, &p);
}

CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode hNode,
				       CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p;
	SIM_ENTER();
	CUresult r = tell(hNode, CU_GRAPH_NODE_TYPE_KERNEL, &p);
	if (r != CUDA_SUCCESS || !nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(nodeParams, &p.kernel, sizeof *nodeParams);
	return CUDA_SUCCESS;
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode hNode,
				       const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_KERNEL };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.kernel, nodeParams, sizeof *nodeParams);
	return sim_graph_set(hNode, &p);
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec hGraphExec, CUgraphNode hNode,
					   const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_KERNEL };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.kernel, nodeParams, sizeof *nodeParams);
	return sim_exec_set(hGraphExec, hNode, &p);
}

CUresult cuGraphAddKernelNode(CUgraphNode *phGraphNode, CUgraph hGraph,
			      const CUgraphNode *dependencies, size_t numDependencies,
			      const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_KERNEL };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.kernel, nodeParams, sizeof *nodeParams);
	return sim_graph_add(
		phGraphNode, hGraph,
		&(struct sim_dependencies){ dependencies, NULL, numDependencies }, &p);
}

CUresult cuGraphKernelNodeGetParams(CUgraphNode hNode,
				    CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{
	CUgraphNodeParams p;
	SIM_ENTER();
	CUresult r = tell(hNode, CU_GRAPH_NODE_TYPE_KERNEL, &p);
	if (r != CUDA_SUCCESS || !nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(nodeParams, &p.kernel, sizeof *nodeParams);
	return CUDA_SUCCESS;
}

CUresult cuGraphKernelNodeSetParams(CUgraphNode hNode,
				    const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_KERNEL };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.kernel, nodeParams, sizeof *nodeParams);
	return sim_graph_set(hNode, &p);
}

CUresult cuGraphExecKernelNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
					const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_KERNEL };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.kernel, nodeParams, sizeof *nodeParams);
	return sim_exec_set(hGraphExec, hNode, &p);
}

CUresult cuGraphAddMemcpyNode(CUgraphNode *phGraphNode, CUgraph hGraph,
			      const CUgraphNode *dependencies, size_t numDependencies,
			      const CUDA_MEMCPY3D *copyParams, CUcontext ctx)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEMCPY };
	SIM_ENTER();
	if (!copyParams)
		return CUDA_ERROR_INVALID_VALUE;
	p.memcpy.copyParams = *copyParams;
	p.memcpy.copyCtx = ctx;
	return sim_graph_add(
		phGraphNode, hGraph,
		&(struct sim_dependencies){ dependencies, NULL, numDependencies }, &p);
}

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode hNode, CUDA_MEMCPY3D *nodeParams)
{
	CUgraphNodeParams p;
	SIM_ENTER();
	CUresult r = tell(hNode, CU_GRAPH_NODE_TYPE_MEMCPY, &p);
	if (r != CUDA_SUCCESS || !nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	*nodeParams = p.memcpy.copyParams;
	return CUDA_SUCCESS;
}

CUresult cuGraphMemcpyNodeSetParams(CUgraphNode hNode, const CUDA_MEMCPY3D *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEMCPY };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	p.memcpy.copyParams = *nodeParams;
	p.memcpy.copyCtx = NULL;
	return sim_graph_set(hNode, &p);
}

CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
					const CUDA_MEMCPY3D *copyParams, CUcontext ctx)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEMCPY };
	SIM_ENTER();
	if (!copyParams)
		return CUDA_ERROR_INVALID_VALUE;
	p.memcpy.copyParams = *copyParams;
	p.memcpy.copyCtx = ctx;
	return sim_exec_set(hGraphExec, hNode, &p);
}

CUresult cuGraphAddMemsetNode(CUgraphNode *phGraphNode, CUgraph hGraph,
			      const CUgraphNode *dependencies, size_t numDependencies,
			      const CUDA_MEMSET_NODE_PARAMS *memsetParams, CUcontext ctx)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEMSET };
	SIM_ENTER();
	if (!memsetParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.memset, memsetParams, sizeof *memsetParams);
	p.memset.ctx = ctx;
	return sim_graph_add(
		phGraphNode, hGraph,
		&(struct sim_dependencies){ dependencies, NULL, numDependencies }, &p);
}

CUresult cuGraphMemsetNodeGetParams(CUgraphNode hNode, CUDA_MEMSET_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p;
	SIM_ENTER();
	CUresult r = tell(hNode, CU_GRAPH_NODE_TYPE_MEMSET, &p);
	if (r != CUDA_SUCCESS || !nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(nodeParams, &p.memset, sizeof *nodeParams);
	return CUDA_SUCCESS;
}

CUresult cuGraphMemsetNodeSetParams(CUgraphNode hNode,
				    const CUDA_MEMSET_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEMSET };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.memset, nodeParams, sizeof *nodeParams);
	p.memset.ctx = NULL;
	return sim_graph_set(hNode, &p);
}

CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
					const CUDA_MEMSET_NODE_PARAMS *memsetParams,
					CUcontext ctx)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_MEMSET };
	SIM_ENTER();
	if (!memsetParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.memset, memsetParams, sizeof *memsetParams);
	p.memset.ctx = ctx;
	return sim_exec_set(hGraphExec, hNode, &p);
}

CUresult cuGraphAddHostNode(CUgraphNode *phGraphNode, CUgraph hGraph,
			    const CUgraphNode *dependencies, size_t numDependencies,
			    const CUDA_HOST_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_HOST };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.host, nodeParams, sizeof *nodeParams);
	return sim_graph_add(
		phGraphNode, hGraph,
		&(struct sim_dependencies){ dependencies, NULL, numDependencies }, &p);
}

CUresult cuGraphHostNodeGetParams(CUgraphNode hNode, CUDA_HOST_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p;
	SIM_ENTER();
	CUresult r = tell(hNode, CU_GRAPH_NODE_TYPE_HOST, &p);
	if (r != CUDA_SUCCESS || !nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(nodeParams, &p.host, sizeof *nodeParams);
	return CUDA_SUCCESS;
}

CUresult cuGraphHostNodeSetParams(CUgraphNode hNode,
				  const CUDA_HOST_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_HOST };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.host, nodeParams, sizeof *nodeParams);
	return sim_graph_set(hNode, &p);
}

CUresult cuGraphExecHostNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
				      const CUDA_HOST_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_HOST };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.host, nodeParams, sizeof *nodeParams);
	return sim_exec_set(hGraphExec, hNode, &p);
}

CUresult cuGraphAddBatchMemOpNode(CUgraphNode *phGraphNode, CUgraph hGraph,
				  const CUgraphNode *dependencies, size_t numDependencies,
				  const CUDA_BATCH_MEM_OP_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.memOp, nodeParams, sizeof *nodeParams);
	return sim_graph_add(
		phGraphNode, hGraph,
		&(struct sim_dependencies){ dependencies, NULL, numDependencies }, &p);
}

CUresult cuGraphBatchMemOpNodeGetParams(CUgraphNode hNode,
					CUDA_BATCH_MEM_OP_NODE_PARAMS *nodeParams_out)
{
	CUgraphNodeParams p;
	SIM_ENTER();
	CUresult r = tell(hNode, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, &p);
	if (r != CUDA_SUCCESS || !nodeParams_out)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(nodeParams_out, &p.memOp, sizeof *nodeParams_out);
	return CUDA_SUCCESS;
}

CUresult cuGraphBatchMemOpNodeSetParams(CUgraphNode hNode,
					const CUDA_BATCH_MEM_OP_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.memOp, nodeParams, sizeof *nodeParams);
	return sim_graph_set(hNode, &p);
}

CUresult cuGraphExecBatchMemOpNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
					    const CUDA_BATCH_MEM_OP_NODE_PARAMS *nodeParams)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP };
	SIM_ENTER();
	if (!nodeParams)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&p.memOp, nodeParams, sizeof *nodeParams);
	return sim_exec_set(hGraphExec, hNode, &p);
}

CUresult cuGraphAddEventRecordNode(CUgraphNode *phGraphNode, CUgraph hGraph,
				   const CUgraphNode *dependencies, size_t numDependencies,
				   CUevent event)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_EVENT_RECORD };
	SIM_ENTER();
	p.eventRecord.event = event;
	return sim_graph_add(
		phGraphNode, hGraph,
		&(struct sim_dependencies){ dependencies, NULL, numDependencies }, &p);
}

CUresult cuGraphEventRecordNodeGetEvent(CUgraphNode hNode, CUevent *event_out)
{
	CUgraphNodeParams p;
	SIM_ENTER();
	CUresult r = tell(hNode, CU_GRAPH_NODE_TYPE_EVENT_RECORD, &p);
	if (r != CUDA_SUCCESS || !event_out)
		return CUDA_ERROR_INVALID_VALUE;
	*event_out = p.eventRecord.event;
	return CUDA_SUCCESS;
}

CUresult cuGraphEventRecordNodeSetEvent(CUgraphNode hNode, CUevent event)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_EVENT_RECORD };
	SIM_ENTER();
	p.eventRecord.event = event;
	return sim_graph_set(hNode, &p);
}

CUresult cuGraphExecEventRecordNodeSetEvent(CUgraphExec hGraphExec, CUgraphNode hNode,
					    CUevent event)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_EVENT_RECORD };
	SIM_ENTER();
	p.eventRecord.event = event;
	return sim_exec_set(hGraphExec, hNode, &p);
}

CUresult cuGraphAddEventWaitNode(CUgraphNode *phGraphNode, CUgraph hGraph,
				 const CUgraphNode *dependencies, size_t numDependencies,
				 CUevent event)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_WAIT_EVENT };
	SIM_ENTER();
	p.eventWait.event = event;
	return sim_graph_add(
		phGraphNode, hGraph,
		&(struct sim_dependencies){ dependencies, NULL, numDependencies }, &p);
}

CUresult cuGraphEventWaitNodeGetEvent(CUgraphNode hNode, CUevent *event_out)
{
	CUgraphNodeParams p;
	SIM_ENTER();
	CUresult r = tell(hNode, CU_GRAPH_NODE_TYPE_WAIT_EVENT, &p);
	if (r != CUDA_SUCCESS || !event_out)
		return CUDA_ERROR_INVALID_VALUE;
	*event_out = p.eventWait.event;
	return CUDA_SUCCESS;
}

CUresult cuGraphEventWaitNodeSetEvent(CUgraphNode hNode, CUevent event)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_WAIT_EVENT };
	SIM_ENTER();
	p.eventWait.event = event;
	return sim_graph_set(hNode, &p);
}

CUresult cuGraphExecEventWaitNodeSetEvent(CUgraphExec hGraphExec, CUgraphNode hNode,
					  CUevent event)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_WAIT_EVENT };
	SIM_ENTER();
	p.eventWait.event = event;
	return sim_exec_set(hGraphExec, hNode, &p);
}

CUresult cuGraphAddEmptyNode(CUgraphNode *phGraphNode, CUgraph hGraph,
			     const CUgraphNode *dependencies, size_t numDependencies)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_EMPTY };
	SIM_ENTER();
	return sim_graph_add(
		phGraphNode, hGraph,
		&(struct sim_dependencies){ dependencies, NULL, numDependencies }, &p);
}

CUresult cuGraphAddChildGraphNode(CUgraphNode *phGraphNode, CUgraph hGraph,
				  const CUgraphNode *dependencies, size_t numDependencies,
				  CUgraph childGraph)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_GRAPH };
	SIM_ENTER();
	p.graph.graph = childGraph;
	return sim_graph_add(
		phGraphNode, hGraph,
		&(struct sim_dependencies){ dependencies, NULL, numDependencies }, &p);
}

CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode hNode, CUgraph *phGraph)
{
	CUgraphNodeParams p;
	SIM_ENTER();
	CUresult r = tell(hNode, CU_GRAPH_NODE_TYPE_GRAPH, &p);
	if (r != CUDA_SUCCESS || !phGraph)
		return CUDA_ERROR_INVALID_VALUE;
	*phGraph = p.graph.graph;
	return CUDA_SUCCESS;
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
					    CUgraph childGraph)
{
	CUgraphNodeParams p = { .type = CU_GRAPH_NODE_TYPE_GRAPH };
	SIM_ENTER();
	p.graph.graph = childGraph;
	return sim_exec_set(hGraphExec, hNode, &p);
}
