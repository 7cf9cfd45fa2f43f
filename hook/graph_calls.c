/* SPDX-License-Identifier: Apache-2.0 */
/* Memory nodes of graphs. The driver takes memory for them when the graph is uploaded or
 * launched and keeps it until it is trimmed; graphs without such nodes are not looked at.
 */

#include <stdatomic.h>
#include <sys/mman.h>

#include "charge.h"
#include "reserves.h"
#include "rt/sat.h"

#define DEPTH_MAX 8u

/* Executable graphs with memory nodes that live: while 0, a launch costs one load. */
static atomic_uint with_memory;

/* What the memory nodes of a graph want, in the order in which they were added. */
struct demand {
	uint64_t live_bytes, peak_bytes;
	CUdevice ordinal;
	bool has_nodes;
};

struct scratch {
	CUgraphNode *nodes;
	size_t count, mapped_bytes;
	CUdeviceptr *addresses; /* of the allocations so far */
	uint64_t *sizes;
};

static bool scratch_make(struct scratch *s, size_t count)
{
	size_t bytes = count *
		       (sizeof(CUgraphNode) + sizeof(*s->addresses) + sizeof(*s->sizes));
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);

	if (map == MAP_FAILED)
		return false;
	*s = (struct scratch){ .nodes = map, .count = count, .mapped_bytes = bytes };
	s->addresses = (CUdeviceptr *)(void *)(s->nodes + count);
	s->sizes = (uint64_t *)(void *)(s->addresses + count);
	return true;
}

static void add_allocation(struct demand *d, struct scratch *s, size_t *held,
			   CUgraphNode node)
{
	CUDA_MEM_ALLOC_NODE_PARAMS params = { 0 };

	d->has_nodes = true;
	if (!tr_real.cuGraphMemAllocNodeGetParams ||
	    tr_real.cuGraphMemAllocNodeGetParams(node, &params) != CUDA_SUCCESS)
		return;
	if (params.poolProps.location.type == CU_MEM_LOCATION_TYPE_DEVICE)
		d->ordinal = params.poolProps.location.id;
	s->addresses[*held] = params.dptr;
	s->sizes[(*held)++] = params.bytesize;
	d->live_bytes = tr_sat_add(d->live_bytes, params.bytesize);
	if (d->peak_bytes < d->live_bytes)
		d->peak_bytes = d->live_bytes;
}

static void add_free(struct demand *d, struct scratch *s, size_t *held, CUgraphNode node)
{
	CUdeviceptr address = 0;

	if (!tr_real.cuGraphMemFreeNodeGetParams ||
	    tr_real.cuGraphMemFreeNodeGetParams(node, &address) != CUDA_SUCCESS)
		return;
	for (size_t i = *held; i-- > 0;) {
		if (s->addresses[i] != address)
			continue;
		d->live_bytes = tr_sat_sub(d->live_bytes, s->sizes[i]);
		s->addresses[i] = s->addresses[--*held];
		s->sizes[i] = s->sizes[*held];
		return;
	}
}

static void look(struct demand *d, CUgraph graph, unsigned depth);

static void look_at_nodes(struct demand *d, struct scratch *s, unsigned depth)
{
	size_t held = 0;

	for (size_t i = 0; i < s->count; i++) {
		CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
		CUgraph child = NULL;

		if (tr_real.cuGraphNodeGetType(s->nodes[i], &type) != CUDA_SUCCESS)
			continue;
		if (type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
			add_allocation(d, s, &held, s->nodes[i]);
		else if (type == CU_GRAPH_NODE_TYPE_MEM_FREE)
			add_free(d, s, &held, s->nodes[i]);
		else if (type == CU_GRAPH_NODE_TYPE_GRAPH && depth < DEPTH_MAX &&
			 tr_real.cuGraphChildGraphNodeGetGraph &&
			 tr_real.cuGraphChildGraphNodeGetGraph(s->nodes[i], &child) ==
				 CUDA_SUCCESS)
			look(d, child, depth + 1);
	}
}

static void look(struct demand *d, CUgraph graph, unsigned depth)
{
	struct scratch scratch;
	size_t count = 0;

	if (!tr_real.cuGraphGetNodes || !tr_real.cuGraphNodeGetType ||
	    tr_real.cuGraphGetNodes(graph, NULL, &count) != CUDA_SUCCESS || !count)
		return;
	if (!scratch_make(&scratch, count)) {
		d->has_nodes = true; /* not known: looked at after each launch */
		return;
	}
	if (tr_real.cuGraphGetNodes(graph, scratch.nodes, &count) == CUDA_SUCCESS) {
		if (scratch.count > count)
			scratch.count = count;
		look_at_nodes(d, &scratch, depth);
	}
	(void)munmap(scratch.nodes, scratch.mapped_bytes);
}

static struct demand look_at_graph(CUgraph graph)
{
	struct demand demand = { 0 };

	if (tr_real.cuCtxGetDevice)
		(void)tr_real.cuCtxGetDevice(&demand.ordinal);
	look(&demand, graph, 0);
	return demand;
}

/* ---- charging ------------------------------------------------------------------------ */

/* Reserves what the reserve of ORDINAL would grow by for BYTES. */
static CUresult charge_graph(struct tr_charge *charge, CUdevice ordinal, uint64_t bytes)
{
	struct tr_reserve *reserve = tr_graph_reserve(ordinal);
	uint64_t growth;
	CUresult res;

	*charge = (struct tr_charge){ 0 };
	if (!reserve || !bytes)
		return CUDA_SUCCESS;
	growth = tr_reserve_growth(reserve, bytes);
	if (!growth)
		return CUDA_SUCCESS;
	res = tr_charge_on(charge, tr_reserve_dev(reserve), NULL, growth);
	if (res != CUDA_SUCCESS)
		return res;
	/* To make room, what the reserve had may have been given up: then it grows by more.
	 */
	growth = tr_reserve_growth(reserve, bytes);
	if (growth > charge->bytes)
		res = tr_charge_settle(charge, growth);
	if (res != CUDA_SUCCESS)
		tr_charge_refund(charge);
	return res;
}

static void settle_graph(struct tr_charge *charge, CUdevice ordinal)
{
	struct tr_reserve *reserve = tr_graph_reserve(ordinal);

	if (reserve)
		(void)tr_reserve_settle(reserve, charge, UINT64_MAX);
	tr_charge_refund(charge);
}

/* An executable graph of DEMAND exists: remember it while it lives. */
static CUresult keep_exec(CUgraphExec exec, const struct demand *demand)
{
	struct tr_object old, object = {
		.kind = TR_KIND_EXEC,
		.bytes = tr_sat_round_up(demand->peak_bytes, TR_UNIT_BYTES),
		.owner = (uint16_t)demand->ordinal,
	};
	int r = tr_objects_put((uint64_t)(uintptr_t)exec, &object, &old);

	if (r == 0)
		atomic_fetch_add(&with_memory, 1);
	return r < 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

typedef CUresult (*run_fn)(CUgraphExec, CUstream);

static CUresult run(run_fn real, CUgraphExec exec, CUstream stream)
{
	uint64_t key = (uint64_t)(uintptr_t)exec;
	struct tr_object object, old;
	struct tr_charge charge;
	CUresult res;

	if (!atomic_load_explicit(&with_memory, memory_order_relaxed) || !tr_enter())
		return real(exec, stream);
	if (!tr_objects_find(key, TR_KIND_EXEC, &object)) {
		res = real(exec, stream);
		tr_leave();
		return res;
	}
	res = charge_graph(&charge, object.owner, object.bytes);
	if (res == CUDA_SUCCESS) {
		res = real(exec, stream);
		settle_graph(&charge, object.owner);
		/* Its memory is there now and stays: the next launch asks for none. */
		if (res == CUDA_SUCCESS && object.bytes) {
			object.bytes = 0;
			(void)tr_objects_put(key, &object, &old);
		}
	}
	tr_leave();
	return res;
}

CUresult cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream)
{
	return run(tr_real.cuGraphLaunch, hGraphExec, hStream);
}

CUresult cuGraphLaunch_ptsz(CUgraphExec hGraphExec, CUstream hStream)
{
	return run(tr_real.cuGraphLaunch_ptsz, hGraphExec, hStream);
}

CUresult cuGraphUpload(CUgraphExec hGraphExec, CUstream hStream)
{
	return run(tr_real.cuGraphUpload, hGraphExec, hStream);
}

CUresult cuGraphUpload_ptsz(CUgraphExec hGraphExec, CUstream hStream)
{
	return run(tr_real.cuGraphUpload_ptsz, hGraphExec, hStream);
}

CUresult cuGraphExecDestroy(CUgraphExec hGraphExec)
{
	struct tr_release release = { 0 };
	CUresult res;

	if (!atomic_load_explicit(&with_memory, memory_order_relaxed) || !tr_enter())
		return tr_real.cuGraphExecDestroy(hGraphExec);
	tr_release_begin(&release, (uint64_t)(uintptr_t)hGraphExec, TR_KIND_EXEC);
	res = tr_real.cuGraphExecDestroy(hGraphExec);
	tr_release_end(&release, res);
	if (release.is_known && res == CUDA_SUCCESS) {
		struct tr_charge none = { 0 };

		atomic_fetch_sub(&with_memory, 1);
		settle_graph(&none, release.object.owner);
	}
	tr_leave();
	return res;
}

CUresult cuDeviceGraphMemTrim(CUdevice device)
{
	struct tr_charge none = { 0 };
	CUresult res;

	if (!tr_enter())
		return tr_real.cuDeviceGraphMemTrim(device);
	res = tr_real.cuDeviceGraphMemTrim(device);
	if (res == CUDA_SUCCESS)
		settle_graph(&none, device);
	tr_leave();
	return res;
}

/* ---- instantiation ------------------------------------------------------------------- */

/* Whichever ABI it came by; the one of which `real_*` is set. */
struct instantiation {
	CUresult (*real_v1)(CUgraphExec *, CUgraph, CUgraphNode *, char *, size_t);
	CUgraphNode *error_node;
	char *log;
	size_t log_bytes;
	CUresult (*real_flags)(CUgraphExec *, CUgraph, unsigned long long);
	unsigned long long flags;
	CUresult (*real_params)(CUgraphExec *, CUgraph, CUDA_GRAPH_INSTANTIATE_PARAMS *);
	CUDA_GRAPH_INSTANTIATE_PARAMS *params;
};

static CUresult instantiate_real(const struct instantiation *i, CUgraphExec *out,
				 CUgraph graph)
{
	if (i->real_v1)
		return i->real_v1(out, graph, i->error_node, i->log, i->log_bytes);
	if (i->real_flags)
		return i->real_flags(out, graph, i->flags);
	return i->real_params ? i->real_params(out, graph, i->params)
			      : CUDA_ERROR_NOT_FOUND;
}

static bool is_upload(const struct instantiation *i)
{
	return i->params && i->params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD;
}

static CUresult instantiate(const struct instantiation *i, CUgraphExec *out, CUgraph graph)
{
	struct tr_charge charge = { 0 };
	struct demand demand;
	CUgraphExec got = NULL;
	CUresult res = CUDA_SUCCESS;

	if (!out || !graph || !tr_enter())
		return instantiate_real(i, out, graph);
	demand = look_at_graph(graph);
	if (!demand.has_nodes) {
		res = instantiate_real(i, out, graph);
		tr_leave();
		return res;
	}
	if (is_upload(i))
		res = charge_graph(&charge, demand.ordinal, demand.peak_bytes);
	if (res == CUDA_SUCCESS)
		res = instantiate_real(i, &got, graph);
	settle_graph(&charge, demand.ordinal);
	if (res == CUDA_SUCCESS)
		res = keep_exec(got, &demand);
	if (res == CUDA_SUCCESS)
		*out = got;
	else if (got)
		(void)tr_real.cuGraphExecDestroy(got);
	tr_leave();
	return res;
}

CUresult cuGraphInstantiate(CUgraphExec *phGraphExec, CUgraph hGraph,
			    CUgraphNode *phErrorNode, char *logBuffer, size_t bufferSize)
{
	const struct instantiation i = { .real_v1 = tr_real.cuGraphInstantiate,
					 .error_node = phErrorNode,
					 .log = logBuffer,
					 .log_bytes = bufferSize };

	return instantiate(&i, phGraphExec, hGraph);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *phGraphExec, CUgraph hGraph,
			       CUgraphNode *phErrorNode, char *logBuffer, size_t bufferSize)
{
	const struct instantiation i = { .real_v1 = tr_real.cuGraphInstantiate_v2,
					 .error_node = phErrorNode,
					 .log = logBuffer,
					 .log_bytes = bufferSize };

	return instantiate(&i, phGraphExec, hGraph);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *phGraphExec, CUgraph hGraph,
				     unsigned long long flags)
{
	const struct instantiation i = { .real_flags = tr_real.cuGraphInstantiateWithFlags,
					 .flags = flags };

	return instantiate(&i, phGraphExec, hGraph);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *phGraphExec, CUgraph hGraph,
				      CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams)
{
	const struct instantiation i = { .real_params =
						 tr_real.cuGraphInstantiateWithParams,
					 .params = instantiateParams };

	return instantiate(&i, phGraphExec, hGraph);
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *phGraphExec, CUgraph hGraph,
					   CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams)
{
	const struct instantiation i = { .real_params =
						 tr_real.cuGraphInstantiateWithParams_ptsz,
					 .params = instantiateParams };

	return instantiate(&i, phGraphExec, hGraph);
}
