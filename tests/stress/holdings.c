/* SPDX-License-Identifier: Apache-2.0 */
/* Every way to device memory and back, at random. */
#include "tenant.h"

#include <string.h>

/* A kernel and a global variable: code takes memory that no call names. */
static const char code[] = ".version 7.0\n.target sm_50\n.address_size 64\n"
			   ".global .align 4 .b8 table[65536];\n"
			   ".visible .entry nothing()\n{\n\tret;\n}\n";

static struct held *free_place(struct tenant *t)
{
	for (unsigned i = 0; i < HELD_MAX; i++)
		if (t->held[i].kind == HELD_NONE)
			return &t->held[i];
	return NULL;
}

/* Mostly small, some of many blocks, a few that no slice has. */
static size_t any_size(struct tenant *t)
{
	uint64_t die = tenant_random(t, 100);

	if (die < 50)
		return 1 + tenant_random(t, 64 << 10);
	if (die < 85)
		return 1 + tenant_random(t, 8 * MIB);
	if (die < 98)
		return 1 + tenant_random(t, 96 * MIB);
	return t->page->limit_bytes + tenant_random(t, 96 * MIB);
}

static CUcontext any_context(struct tenant *t, bool primary)
{
	CUcontext all[STRESS_DEVICES + CONTEXTS_MAX];
	unsigned n = 0;

	for (unsigned d = 0; d < STRESS_DEVICES; d++)
		if (t->primary[d])
			all[n++] = t->primary[d];
	for (unsigned i = 0; !primary && i < CONTEXTS_MAX; i++)
		if (t->own[i])
			all[n++] = t->own[i];
	return n ? all[tenant_random(t, n)] : NULL;
}

static unsigned device_of(const struct tenant *t, CUcontext ctx)
{
	unsigned d = 0;

	while (d + 1 < STRESS_DEVICES && t->primary[d] != ctx)
		d++;
	return d;
}

static bool obtain_memory(struct tenant *t, struct held *h)
{
	size_t bytes = any_size(t), pitch;

	h->kind = HELD_MEMORY;
	switch (tenant_random(t, 6)) {
	case 0:
		return tenant_check(t,
				    cuMemAllocPitch(&h->ptr, &pitch, 1 + bytes / 64, 64, 4),
				    "cuMemAllocPitch");
	case 1:
		return tenant_check(t,
				    cuMemAllocManaged(&h->ptr, bytes, CU_MEM_ATTACH_GLOBAL),
				    "cuMemAllocManaged");
	default:
		return tenant_check(t, cuMemAlloc(&h->ptr, bytes), "cuMemAlloc");
	}
}

/* A third keeps the handle, a third the mapping, a third both. */
static bool obtain_object(struct tenant *t, struct held *h)
{
	CUmemAllocationProp prop = {
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE,
			      .id = (int)device_of(t, h->ctx) },
	};
	uint64_t die = tenant_random(t, 3);

	h->kind = HELD_OBJECT;
	h->bytes = (1 + tenant_random(t, 24)) * 2 * MIB;
	if (!tenant_check(t, cuMemCreate(&h->object, h->bytes, &prop, 0), "cuMemCreate"))
		return false;
	if (die == 0)
		return true;
	if (!tenant_check(t, cuMemAddressReserve(&h->ptr, h->bytes, 0, 0, 0),
			  "cuMemAddressReserve")) {
		(void)cuMemRelease(h->object);
		return false;
	}
	(void)tenant_check(t, cuMemMap(h->ptr, h->bytes, 0, h->object, 0), "cuMemMap");
	if (die == 1) {
		(void)tenant_check(t, cuMemRelease(h->object), "cuMemRelease");
		h->object = 0;
	}
	return true;
}

static bool obtain_pooled(struct tenant *t, struct held *h)
{
	CUmemoryPool pool = t->pool[device_of(t, h->ctx)];
	size_t bytes = 1 + tenant_random(t, 24 * MIB);

	h->kind = HELD_POOLED;
	if (pool && tenant_random(t, 2))
		return tenant_check(t, cuMemAllocFromPoolAsync(&h->ptr, bytes, pool, NULL),
				    "cuMemAllocFromPoolAsync");
	return tenant_check(t, cuMemAllocAsync(&h->ptr, bytes, NULL), "cuMemAllocAsync");
}

static bool obtain_array(struct tenant *t, struct held *h)
{
	CUDA_ARRAY3D_DESCRIPTOR solid = {
		.Width = 1 + tenant_random(t, 600),
		.Height = 1 + tenant_random(t, 300),
		.Depth = tenant_random(t, 2) ? 0 : 1 + tenant_random(t, 8),
		.Format = CU_AD_FORMAT_FLOAT,
		.NumChannels = tenant_random(t, 2) ? 4 : 1,
	};
	CUDA_ARRAY_DESCRIPTOR flat = { .Width = solid.Width,
				       .Height = solid.Height,
				       .Format = solid.Format,
				       .NumChannels = solid.NumChannels };
	CUmipmappedArray mipmap = NULL;
	CUarray array = NULL;
	bool done;

	h->kind = HELD_ARRAY;
	switch (tenant_random(t, 3)) {
	case 0:
		done = tenant_check(t, cuArrayCreate(&array, &flat), "cuArrayCreate");
		break;
	case 1:
		done = tenant_check(t, cuArray3DCreate(&array, &solid), "cuArray3DCreate");
		break;
	default:
		h->kind = HELD_MIPMAP;
		done = tenant_check(t, cuMipmappedArrayCreate(&mipmap, &solid, 3),
				    "cuMipmappedArrayCreate");
	}
	h->handle = array ? (void *)array : (void *)mipmap;
	return done;
}

static bool obtain_other(struct tenant *t, struct held *h)
{
	CUmodule module = NULL;

	if (tenant_random(t, 2)) {
		h->kind = HELD_HOST;
		return tenant_check(t,
				    cuMemAllocHost(&h->handle, 1 + tenant_random(t, MIB)),
				    "cuMemAllocHost");
	}
	h->kind = HELD_MODULE;
	if (!tenant_check(t, cuModuleLoadData(&module, code), "cuModuleLoadData"))
		return false;
	h->handle = module;
	return true;
}

void tenant_obtain(struct tenant *t)
{
	uint64_t die = tenant_random(t, t->page->has_pools ? 12 : 10);
	struct held *h = free_place(t);
	bool done;

	if (!h)
		return;
	memset(h, 0, sizeof(*h));
	/* What does not belong to a context is tried on the devices' primary ones. */
	h->ctx = any_context(t, die >= 8 || die == 5);
	if (!h->ctx || !tenant_check(t, cuCtxSetCurrent(h->ctx), "cuCtxSetCurrent"))
		return;
	if (die < 5)
		done = obtain_memory(t, h);
	else if (die < 6)
		done = obtain_other(t, h);
	else if (die < 8)
		done = obtain_array(t, h);
	else if (die < 10)
		done = obtain_object(t, h);
	else
		done = obtain_pooled(t, h);
	atomic_fetch_add(done ? &t->page->allocated : &t->page->refused, 1);
	if (!done)
		h->kind = HELD_NONE;
}

static void release_object(struct tenant *t, const struct held *h)
{
	if (h->ptr) {
		(void)tenant_check(t, cuMemUnmap(h->ptr, h->bytes), "cuMemUnmap");
		(void)tenant_check(t, cuMemAddressFree(h->ptr, h->bytes),
				   "cuMemAddressFree");
	}
	if (h->object)
		(void)tenant_check(t, cuMemRelease(h->object), "cuMemRelease");
}

void tenant_release(struct tenant *t, struct held *h)
{
	struct held was = *h;

	if (was.kind == HELD_NONE)
		return;
	h->kind = HELD_NONE;
	(void)tenant_check(t, cuCtxSetCurrent(was.ctx), "cuCtxSetCurrent");
	switch (was.kind) {
	case HELD_NONE:
		break;
	case HELD_MEMORY:
		(void)tenant_check(t, cuMemFree(was.ptr), "cuMemFree");
		break;
	case HELD_OBJECT:
		release_object(t, &was);
		break;
	case HELD_POOLED:
		(void)tenant_check(t,
				   tenant_random(t, 4) ? cuMemFreeAsync(was.ptr, NULL)
						       : cuMemFree(was.ptr),
				   "cuMemFreeAsync");
		break;
	case HELD_ARRAY:
		(void)tenant_check(t, cuArrayDestroy((CUarray)was.handle),
				   "cuArrayDestroy");
		break;
	case HELD_MIPMAP:
		(void)tenant_check(t, cuMipmappedArrayDestroy((CUmipmappedArray)was.handle),
				   "cuMipmappedArrayDestroy");
		break;
	case HELD_HOST:
		(void)tenant_check(t, cuMemFreeHost(was.handle), "cuMemFreeHost");
		break;
	case HELD_MODULE:
		(void)tenant_check(t, cuModuleUnload((CUmodule)was.handle),
				   "cuModuleUnload");
		break;
	}
}

void tenant_make_context(struct tenant *t)
{
	unsigned i = (unsigned)tenant_random(t, CONTEXTS_MAX);

	if (!t->own[i] &&
	    !tenant_check(t,
			  cuCtxCreate(&t->own[i], NULL, 0, (CUdevice)tenant_random(t, 2)),
			  "cuCtxCreate"))
		t->own[i] = NULL;
}

/* Half of the time with all that lies in it. */
void tenant_drop_context(struct tenant *t)
{
	CUcontext *own = &t->own[tenant_random(t, CONTEXTS_MAX)];
	bool clean = tenant_random(t, 2);

	if (!*own)
		return;
	for (unsigned i = 0; i < HELD_MAX; i++) {
		struct held *h = &t->held[i];

		if (h->kind != HELD_NONE && h->ctx == *own) {
			if (clean || h->kind == HELD_HOST)
				tenant_release(t, h);
			h->kind = HELD_NONE;
		}
	}
	(void)tenant_check(t, cuCtxDestroy(*own), "cuCtxDestroy");
	*own = NULL;
}

/* A graph that allocates and frees, launched once. What it reserved stays with the process.
 */
void tenant_run_graph(struct tenant *t)
{
	CUcontext ctx = any_context(t, true);
	CUDA_MEM_ALLOC_NODE_PARAMS params = {
		.poolProps = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
			       .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE,
					     .id = (int)device_of(t, ctx) } },
		.bytesize = 1 + tenant_random(t, 8 * MIB),
	};
	CUgraphNode alloc, end;
	CUgraphExec exec;
	CUgraph graph;

	if (!ctx || !tenant_check(t, cuCtxSetCurrent(ctx), "cuCtxSetCurrent") ||
	    !tenant_check(t, cuGraphCreate(&graph, 0), "cuGraphCreate"))
		return;
	if (tenant_check(t, cuGraphAddMemAllocNode(&alloc, graph, NULL, 0, &params),
			 "cuGraphAddMemAllocNode") &&
	    tenant_check(t, cuGraphAddMemFreeNode(&end, graph, &alloc, 1, params.dptr),
			 "cuGraphAddMemFreeNode") &&
	    tenant_check(t, cuGraphInstantiate(&exec, graph, 0), "cuGraphInstantiate")) {
		(void)tenant_check(t, cuGraphLaunch(exec, NULL), "cuGraphLaunch");
		(void)tenant_check(t, cuGraphExecDestroy(exec), "cuGraphExecDestroy");
	}
	(void)tenant_check(t, cuGraphDestroy(graph), "cuGraphDestroy");
	if (tenant_random(t, 2))
		(void)tenant_check(t, cuDeviceGraphMemTrim(params.poolProps.location.id),
				   "cuDeviceGraphMemTrim");
}
