/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_CAPTURE_H
#define SIM_CUDA_CAPTURE_H

/* Between capture.c, which knows what a capture is, and capture_calls.c, the driver's
 * calls. All of it under the lock of the graphs. */

#include <pthread.h>

#include "graph.h"
#include "stream.h"

struct sim_member { /* a stream in a capture */
	struct sim_member *next;
	struct sim_stream *stream;
	struct sim_edges deps;   /* what its next operation depends on */
	CUgraphNode *told_nodes; /* what cuStreamGetCaptureInfo told last; the driver's own
				    memory */
	CUgraphEdgeData *told_edges;
};

struct sim_capture {
	struct sim_capture *next;
	uint64_t id;
	struct sim_graph *graph;
	bool owns_graph, broken;
	CUstreamCaptureMode mode;
	struct sim_stream *origin;
	pthread_t thread;
	struct sim_member *members;
};

struct sim_capture *sim_capture_new(struct sim_graph *g, bool owns,
				    CUstreamCaptureMode mode);
/* All its streams leave; the graph is not touched. */
void sim_capture_free_all(struct sim_capture *c);
struct sim_member *sim_capture_member(struct sim_capture *c, const struct sim_stream *s);
struct sim_member *sim_capture_join(struct sim_capture *c, struct sim_stream *s);
bool sim_capture_add_dep(struct sim_member *m, struct sim_graph_node *n,
			 const CUgraphEdgeData *data);
/* cuGraphLaunch on a capturing stream. */
CUresult sim_capture_child(struct sim_stream *s, const struct sim_graph *g);
/* graph.c: before a graph goes. */
void sim_capture_graph_gone(const struct sim_graph *g);

#endif /* SIM_CUDA_CAPTURE_H */
