/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_GRAPH_NODE_H
#define SIM_CUDA_GRAPH_NODE_H

/* The calls on nodes of any type, for those of one type. They take the lock. */

#include "graph.h"

CUresult sim_graph_add(CUgraphNode *out, CUgraph graph, const struct sim_dependencies *deps,
		       CUgraphNodeParams *params);
CUresult sim_graph_set(CUgraphNode node, const CUgraphNodeParams *params);
CUresult sim_exec_set(CUgraphExec exec, CUgraphNode node, const CUgraphNodeParams *params);

#endif /* SIM_CUDA_GRAPH_NODE_H */
