/* SPDX-License-Identifier: Apache-2.0 */
/* Memory nodes of graphs. The driver takes memory for them when the graph is uploaded or
 * launched and keeps it until it is trimmed; graphs without such nodes are not looked at.
 */

#include <stdatomic.h>
#include <sys/mman.h>

#include "charge.h"
#include "pace.h"
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

/* Launches on their way to the driver, per ordinal, and what they want; trims under way. A
 * trim and a launch each say so before they look for the other: what the one counts on, the
 * other does not give up. */
static _Atomic uint64_t in_flight_bytes[TR_ORDINALS_MAX];
static atomic_uint trims[TR_ORDINALS_MAX];

/* The latest launch by ordinal, where that was of a graph whose memory is freed by its next
 * launch. Only launches make more of it used: while it says USED and the next one is of the
 * same graph, that has all its memory already. */
static struct {
	_Atomic uint64_t key; /* 0: another graph's, or under way */
	_Atomic uint64_t used_bytes;
} latest[TR_ORDINALS_MAX];

struct launch {
	struct tr_charge charge;
	struct tr_reserve *reserve; /* NULL: nothing to count */
	CUdevice ordinal;
	uint64_t bytes;
};

void tr_graph_trim(CUdevice ordinal)
{
	if (!tr_real.cuDeviceGraphMemTrim)
		return;
	atomic_fetch_add(&trims[ordinal], 1);
	if (!atomic_load(&in_flight_bytes[ordinal]))
		(void)tr_real.cuDeviceGraphMemTrim(ordinal);
	atomic_fetch_sub(&trims[ordinal], 1);
}

void tr_graphs_forget(void)
{
	for (unsigned i = 0; i < TR_ORDINALS_MAX; i++) {
		atomic_store(&in_flight_bytes[i], 0);
		atomic_store(&trims[i], 0);
		atomic_store(&latest[i].key, 0);
	}
	atomic_store(&with_memory, 0);
}

static bool read_used(CUdevice ordinal, uint64_t *used_bytes)
{
	cuuint64_t used = 0;
	CUresult res = CUDA_ERROR_NOT_SUPPORTED;

	if (tr_real.cuDeviceGetGraphMemAttribute)
		res = tr_real.cuDeviceGetGraphMemAttribute(
			ordinal, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used);
	*used_bytes = used;
	return res == CUDA_SUCCESS;
}

/* What a launch of BYTES makes the reserve grow by, at most. What the reserve has unused
 * serves those first that are before it. */
static uint64_t growth_of(const struct launch *l, uint64_t before_bytes)
{
	uint64_t first = before_bytes ? tr_reserve_growth(l->reserve, before_bytes) : 0;

	if (atomic_load(&trims[l->ordinal]))
		return l->bytes;
	return tr_sat_sub(tr_reserve_growth(l->reserve, tr_sat_add(before_bytes, l->bytes)),
			  first);
}

static void end_flight(struct launch *l)
{
	if (l->reserve)
		atomic_fetch_sub(&in_flight_bytes[l->ordinal], l->bytes);
}

/* Reserves what the reserve of ORDINAL would grow by for BYTES. land() must follow where
 * that was possible. */
static CUresult take_off(struct launch *l, CUdevice ordinal, uint64_t bytes)
{
	uint64_t before_bytes;
	CUresult res;

	*l = (struct launch){ .reserve = tr_graph_reserve(ordinal),
			      .ordinal = ordinal,
			      .bytes = bytes };
	if (!l->reserve)
		return CUDA_SUCCESS;
	before_bytes = atomic_fetch_add(&in_flight_bytes[ordinal], bytes);
	res = tr_charge_on(&l->charge, tr_reserve_dev(l->reserve), NULL,
			   growth_of(l, before_bytes));
	if (res != CUDA_SUCCESS)
		end_flight(l);
	return res;
}

/* OUT_OF_MEMORY: the driver took more than was reserved, and that is past the limit. */
static CUresult land(struct launch *l)
{
	CUresult res = CUDA_SUCCESS;

	if (l->reserve)
		res = tr_reserve_settle(l->reserve, &l->charge, UINT64_MAX);
	tr_charge_refund(&l->charge);
	end_flight(l);
	if (res == CUDA_ERROR_OUT_OF_MEMORY)
		tr_reserves_refresh(tr_reserve_dev(l->reserve), true);
	return res == CUDA_ERROR_OUT_OF_MEMORY ? res : CUDA_SUCCESS;
}

static void settle_graph(CUdevice ordinal)
{
	struct tr_reserve *reserve = tr_graph_reserve(ordinal);

	if (reserve)
		(void)tr_reserve_settle(reserve, NULL, UINT64_MAX);
}

/* In the owner of an entry, beside the ordinal. */
#define FREES_ON_LAUNCH 0x100u
_Static_assert(TR_ORDINALS_MAX <= FREES_ON_LAUNCH, "both fit");

/* An executable graph of DEMAND exists: remember it while it lives. */
static CUresult keep_exec(CUgraphExec exec, const struct demand *demand,
			  unsigned long long flags)
{
	bool frees = flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
	struct tr_object old, object = {
		.kind = TR_KIND_EXEC,
		.bytes = tr_sat_round_up(demand->peak_bytes, TR_UNIT_BYTES),
		.owner = (uint16_t)((unsigned)demand->ordinal % TR_ORDINALS_MAX |
				    (frees ? FREES_ON_LAUNCH : 0)),
	};
	int r = tr_objects_put((uint64_t)(uintptr_t)exec, &object, &old);

	if (r == 0)
		atomic_fetch_add(&with_memory, 1);
	return r < 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

/* Every other launch ends what was known of the latest. */
static bool has_its_memory(uint64_t key, const struct tr_object *object, CUdevice ordinal)
{
	uint64_t was = atomic_exchange(&latest[ordinal].key, 0), used_bytes;

	return object->owner & FREES_ON_LAUNCH && was == key &&
	       read_used(ordinal, &used_bytes) &&
	       used_bytes == atomic_load(&latest[ordinal].used_bytes);
}

static void note_launch(uint64_t key, const struct tr_object *object, CUdevice ordinal)
{
	uint64_t used_bytes;

	if (!(object->owner & FREES_ON_LAUNCH) || !read_used(ordinal, &used_bytes))
		return;
	atomic_store(&latest[ordinal].used_bytes, used_bytes);
	atomic_store(&latest[ordinal].key, key);
}

typedef CUresult (*run_fn)(CUgraphExec, CUstream);

/* In an armed slice STREAM is paced; NULL: nothing runs. */
static CUresult submit(run_fn real, CUgraphExec exec, CUstream stream, CUstream paced)
{
	struct tr_submission s = { .stream = paced, .key = tr_key_of(exec, 0) };
	CUresult res;

	if (!paced || !atomic_load_explicit(&tr_pace_is_armed, memory_order_relaxed))
		return real(exec, stream);
	tr_pace_begin(&s);
	res = real(exec, stream);
	tr_pace_end(&s, res);
	return res;
}

static bool is_looked_at(void)
{
	return atomic_load_explicit(&with_memory, memory_order_relaxed) ||
	       atomic_load_explicit(&tr_pace_is_armed, memory_order_relaxed);
}

/* What a launch has queued runs: that the driver took too much is counted, not an error of
 * the launch. An upload has done nothing yet that the program could not do again. */
static CUresult run(run_fn real, CUgraphExec exec, CUstream stream, CUstream paced)
{
	uint64_t key = (uint64_t)(uintptr_t)exec;
	struct tr_object object;
	struct launch launch;
	CUdevice ordinal;
	CUresult res, landed;

	if (!is_looked_at() || !tr_enter())
		return real(exec, stream);
	if (!tr_objects_find(key, TR_KIND_EXEC, &object)) {
		res = submit(real, exec, stream, paced);
		tr_leave();
		return res;
	}
	ordinal = object.owner % FREES_ON_LAUNCH;
	/* Asked again at each launch: what the last one left may have been trimmed. */
	res = take_off(&launch, ordinal,
		       has_its_memory(key, &object, ordinal) ? 0 : object.bytes);
	if (res == CUDA_SUCCESS) {
		res = submit(real, exec, stream, paced);
		landed = land(&launch);
		if (res == CUDA_SUCCESS && !paced)
			res = landed;
		else if (res == CUDA_SUCCESS)
			note_launch(key, &object, ordinal);
	}
	tr_leave();
	return res;
}

CUresult cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream)
{
	return run(tr_real.cuGraphLaunch, hGraphExec, hStream,
		   tr_stream_of(hStream, false));
}

CUresult cuGraphLaunch_ptsz(CUgraphExec hGraphExec, CUstream hStream)
{
	return run(tr_real.cuGraphLaunch_ptsz, hGraphExec, hStream,
		   tr_stream_of(hStream, true));
}

CUresult cuGraphUpload(CUgraphExec hGraphExec, CUstream hStream)
{
	return run(tr_real.cuGraphUpload, hGraphExec, hStream, NULL);
}

CUresult cuGraphUpload_ptsz(CUgraphExec hGraphExec, CUstream hStream)
{
	return run(tr_real.cuGraphUpload_ptsz, hGraphExec, hStream, NULL);
}

CUresult cuGraphExecDestroy(CUgraphExec hGraphExec)
{
	struct tr_release release = { 0 };
	CUresult res;

	if (atomic_load_explicit(&tr_pace_is_armed, memory_order_relaxed))
		tr_key_forget(tr_key_of(hGraphExec, 0));
	if (!atomic_load_explicit(&with_memory, memory_order_relaxed) || !tr_enter())
		return tr_real.cuGraphExecDestroy(hGraphExec);
	tr_release_begin(&release, (uint64_t)(uintptr_t)hGraphExec, TR_KIND_EXEC);
	res = tr_real.cuGraphExecDestroy(hGraphExec);
	tr_release_end(&release, res);
	if (release.is_known && res == CUDA_SUCCESS) {
		atomic_fetch_sub(&with_memory, 1);
		settle_graph(release.object.owner % FREES_ON_LAUNCH);
	}
	tr_leave();
	return res;
}

CUresult cuDeviceGraphMemTrim(CUdevice device)
{
	bool is_counted = (unsigned)device < TR_ORDINALS_MAX;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuDeviceGraphMemTrim(device);
	if (is_counted)
		atomic_fetch_add(&trims[device], 1);
	res = tr_real.cuDeviceGraphMemTrim(device);
	if (is_counted)
		atomic_fetch_sub(&trims[device], 1);
	if (res == CUDA_SUCCESS)
		settle_graph(device);
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

static CUresult instantiate(const struct instantiation *i, CUgraphExec *out, CUgraph graph)
{
	unsigned long long flags = i->params ? i->params->flags : i->flags;
	struct launch launch = { 0 };
	struct demand demand;
	CUgraphExec got = NULL;
	CUresult res, landed;

	if (!out || !graph || !tr_enter())
		return instantiate_real(i, out, graph);
	demand = look_at_graph(graph);
	if (!demand.has_nodes) {
		res = instantiate_real(i, out, graph);
		tr_leave();
		return res;
	}
	res = take_off(&launch, demand.ordinal,
		       flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD ? demand.peak_bytes : 0);
	if (res == CUDA_SUCCESS) {
		res = instantiate_real(i, &got, graph);
		landed = land(&launch);
		if (res == CUDA_SUCCESS)
			res = landed;
	}
	if (res == CUDA_SUCCESS)
		res = keep_exec(got, &demand, flags);
	if (res == CUDA_SUCCESS) {
		*out = got;
	} else if (got) {
		(void)tr_real.cuGraphExecDestroy(got);
		settle_graph(demand.ordinal);
	}
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
