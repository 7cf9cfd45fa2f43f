/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_GRAPH_H
#define SIM_CUDA_GRAPH_H

/*
 * Graphs. A node holds a payload, what it does when it runs; clones and executable graphs
 * share payloads, and setting parameters replaces one. One recursive lock guards graphs and
 * captures; a launch runs without it.
 */

#include "live.h"
#include "sim.h"
#include "stream.h"

struct sim_payload {
	unsigned refs;
	CUgraphNodeType type;
	CUresult (*run)(void *params, struct sim_ctx *ctx);
	void (*drop)(void *params);
	void *params; /* the driver's struct for the type, first */
};

struct sim_edge {
	struct sim_graph_node *node;
	CUgraphEdgeData data;
};

struct sim_edges {
	struct sim_edge *list;
	size_t count, room;
};

struct sim_graph_node {
	struct sim_graph *graph;
	uint64_t uid, origin; /* origin: the uid it was cloned from */
	uint32_t local_id;
	CUgraphNodeType type;
	struct sim_payload *payload; /* NULL: empty and child graph nodes */
	struct sim_graph *child;
	CUcontext ctx;
	struct sim_edges before, after;
	bool disabled;
	size_t scratch; /* while the graph is walked */
	CUlaunchAttributeValue attributes[CU_LAUNCH_ATTRIBUTE_MAX];
};

struct sim_user_ref {
	struct sim_user_object *object;
	unsigned count;
};

struct sim_graph {
	struct sim_graph *next;
	uint32_t id;
	uint64_t uid, origin;
	struct sim_graph_node **nodes;
	size_t count, room;
	uint32_t next_local;
	struct sim_graph_node *parent; /* a child graph: the node that owns it */
	unsigned execs;                /* instantiations that live */
	struct sim_user_ref *objects;
	size_t object_count;
};

struct sim_exec {
	uint32_t id;
	cuuint64_t flags;
	uint64_t source; /* uid of the graph it was made of */
	unsigned refs;   /* its handle, and launches that wait in a stream */
	struct sim_graph *graph;
	struct sim_graph_node **order;
	bool reaches; /* has nodes that the host runs (sim_op.reaches) */
	/* What its last launch ends with: the next one comes after it, in any stream. */
	bool was_launched;
	uint64_t last_channel, last_ticket;
};

void sim_graphs_lock(void);
void sim_graphs_unlock(void);

/* ---- graph.c ------------------------------------------------------------------------- */

CUresult sim_graph_of(CUgraph handle, struct sim_graph **out); /* INVALID_VALUE */
CUresult sim_node_of(CUgraphNode handle, struct sim_graph_node **out);
struct sim_graph *sim_graph_by_uid(uint64_t uid); /* NULL: gone */
CUresult sim_graph_create(struct sim_graph **out);
void sim_graph_destroy(struct sim_graph *g);
CUresult sim_graph_clone(const struct sim_graph *from, struct sim_graph **out);
bool sim_graph_has(const struct sim_graph *g, CUgraphNodeType type);
bool sim_graph_has_memory(const struct sim_graph *g);

struct sim_dependencies {
	const CUgraphNode *nodes;
	const CUgraphEdgeData *data; /* NULL: plain edges */
	size_t count;
};
/* Takes PAYLOAD (and CHILD), also on errors. CTX NULL: the current context. */
CUresult sim_node_add(struct sim_graph *g, const struct sim_dependencies *deps,
		      CUgraphNodeType type, struct sim_payload *payload, CUcontext ctx,
		      struct sim_graph_node **out);
void sim_node_remove(struct sim_graph_node *n);
CUresult sim_edge_add(struct sim_graph_node *from, struct sim_graph_node *to,
		      const CUgraphEdgeData *data);
bool sim_edge_remove(struct sim_graph_node *from, struct sim_graph_node *to);
bool sim_edges_push(struct sim_edges *e, struct sim_graph_node *n,
		    const CUgraphEdgeData *data);

/* ---- payload.c ----------------------------------------------------------------------- */

/* Copies BYTES of PARAMS; on no memory DROP is called and NULL returned. */
struct sim_payload *sim_payload_new(CUgraphNodeType type, const void *params, size_t bytes,
				    CUresult (*run)(void *, struct sim_ctx *),
				    void (*drop)(void *));
struct sim_payload *sim_payload_ref(struct sim_payload *p);
void sim_payload_unref(struct sim_payload *p);

/* From the parameters of a node, checked as the driver does. Memory nodes are not among
 * them. */
CUresult sim_payload_make(const CUgraphNodeParams *params, struct sim_payload **out,
			  CUcontext *ctx);
/* What the node's parameters are now. */
CUresult sim_payload_params(const struct sim_graph_node *n, CUgraphNodeParams *out);

/* launch.c: the kernel of a launch or a node, with its arguments copied. */
CUresult sim_kernel_payload(const CUDA_KERNEL_NODE_PARAMS *params, struct sim_payload **out,
			    CUcontext *ctx);

/* ---- graph_memory.c ------------------------------------------------------------------ */

CUresult sim_alloc_payload(CUDA_MEM_ALLOC_NODE_PARAMS *params, struct sim_ctx *ctx,
			   struct sim_payload **out);
/* INVALID_VALUE unless a graph's allocation begins at DPTR, or G frees it already. */
CUresult sim_free_payload(const struct sim_graph *g, CUdeviceptr dptr,
			  struct sim_payload **out);
/* The context whose device an allocation names. */
CUresult sim_alloc_ctx(const CUDA_MEM_ALLOC_NODE_PARAMS *params, struct sim_ctx **out);

/* ---- graph_object.c ------------------------------------------------------------------ */

void sim_graph_drop_objects(struct sim_graph *g);
CUresult sim_graph_copy_objects(const struct sim_graph *from, struct sim_graph *to);

/* ---- graph_exec.c -------------------------------------------------------------------- */

/* The nodes of G in an order that respects its edges (malloc); INVALID_VALUE for a cycle.
 */
CUresult sim_graph_order(const struct sim_graph *g, struct sim_graph_node ***out);
CUresult sim_exec_of(CUgraphExec handle, struct sim_exec **out);
struct sim_graph_node *sim_exec_node(const struct sim_exec *e,
				     const struct sim_graph_node *n);

/* graph_update.c: MINE, of an executable graph, takes the parameters of FROM, or
 * GRAPH_EXEC_UPDATE_FAILURE. */
CUresult sim_graph_update(struct sim_graph *mine, const struct sim_graph *from,
			  CUgraphExecUpdateResultInfo *info);

#endif /* SIM_CUDA_GRAPH_H */
