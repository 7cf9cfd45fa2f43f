/* SPDX-License-Identifier: Apache-2.0 */
/* What each kind of memory takes (E6), as the driver or the hook's ledger tells it, and what calls
 * cost (E1). */
#include "probe.h"

#include <stdio.h>
#include <unistd.h>

#define COST_CALLS 20000u

static uint64_t cuda_before, nvml_before;

static void look(void)
{
	cuda_before = probe_cuda_free_bytes();
	nvml_before = probe_nvml_used_bytes();
}

/* Bytes taken since the last look. The hook looks at pools at most ten times a second. */
static void say_taken(const char *step, CUresult r)
{
	long long cuda = (long long)(cuda_before - probe_cuda_free_bytes());
	long long nvml = (long long)(probe_nvml_used_bytes() - nvml_before);

	probe_say(step, (int)r, "%lld %lld", cuda, nvml);
	look();
}

static void linear(void)
{
	CUdeviceptr p[3] = { 0 };
	size_t pitch = 0;
	CUresult r;

	r = drv.cuMemAlloc_v2(&p[0], 512);
	say_taken("memory.alloc_512", r);
	r = drv.cuMemAlloc_v2(&p[1], 3 * MIB);
	say_taken("memory.alloc_3MiB", r);
	r = drv.cuMemAllocPitch_v2(&p[2], &pitch, 1000, 10000, 4);
	say_taken("memory.pitch_1000x10000", r);
	r = p[2] ? drv.cuMemFree_v2(p[2]) : r;
	say_taken("memory.pitch_freed", r);
	r = p[1] ? drv.cuMemFree_v2(p[1]) : r;
	say_taken("memory.3MiB_freed", r);
	r = p[0] ? drv.cuMemFree_v2(p[0]) : r;
	say_taken("memory.512_freed", r);
	r = drv.cuMemAllocManaged(&p[0], 64 * MIB, CU_MEM_ATTACH_GLOBAL);
	say_taken("managed.64MiB", r);
	if (r == CUDA_SUCCESS)
		r = drv.cuMemFree_v2(p[0]);
	say_taken("managed.freed", r);
}

static void arrays(void)
{
	CUDA_ARRAY_DESCRIPTOR flat = { 1024, 1024, CU_AD_FORMAT_FLOAT, 4 };
	CUDA_ARRAY3D_DESCRIPTOR deep = { 512, 512, 64, CU_AD_FORMAT_FLOAT, 1, 0 };
	CUDA_ARRAY3D_DESCRIPTOR levels = {
		2048, 2048, 0, CU_AD_FORMAT_UNSIGNED_INT8, 4, 0
	};
	CUmipmappedArray mipmap = NULL;
	CUarray a = NULL, b = NULL;
	CUresult r;

	r = drv.cuArrayCreate_v2(&a, &flat);
	say_taken("memory.array_1024x1024x16", r);
	r = drv.cuArray3DCreate_v2(&b, &deep);
	say_taken("memory.array3d_512x512x64x4", r);
	r = drv.cuMipmappedArrayCreate(&mipmap, &levels, 8);
	say_taken("memory.mipmap_2048x2048x4", r);
	if (mipmap)
		drv.cuMipmappedArrayDestroy(mipmap);
	if (b)
		drv.cuArrayDestroy(b);
	r = a ? drv.cuArrayDestroy(a) : r;
	say_taken("memory.arrays_destroyed", r);
}

static void objects(void)
{
	CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	CUmemGenericAllocationHandle handle = 0;
	CUdeviceptr va = 0;
	CUresult r;

	if (!drv.cuMemCreate || !drv.cuMemAddressReserve)
		return;
	r = drv.cuMemCreate(&handle, 32 * MIB, &prop, 0);
	say_taken("memory.object_32MiB", r);
	if (r != CUDA_SUCCESS)
		return;
	drv.cuMemAddressReserve(&va, 32 * MIB, 0, 0, 0);
	r = drv.cuMemMap(va, 32 * MIB, 0, handle, 0);
	say_taken("memory.object_mapped", r);
	r = drv.cuMemRelease(handle);
	say_taken("memory.object_released_still_mapped", r);
	r = drv.cuMemUnmap(va, 32 * MIB);
	say_taken("memory.object_unmapped", r);
	drv.cuMemAddressFree(va, 32 * MIB);
}

static void pools(void)
{
	CUmemoryPool pool = NULL;
	CUdeviceptr p = 0;
	CUresult r;

	if (!drv.cuMemAllocAsync || !drv.cuMemPoolTrimTo)
		return;
	drv.cuDeviceGetDefaultMemPool(&pool, 0);
	r = drv.cuMemAllocAsync(&p, 40 * MIB, NULL);
	say_taken("memory.async_40MiB", r);
	r = r ? r : drv.cuMemFreeAsync(p, NULL);
	say_taken("memory.async_freed_before_synchronize", r);
	r = drv.cuCtxSynchronize();
	usleep(150000);
	say_taken("memory.async_freed_after_synchronize", r);
	r = drv.cuMemPoolTrimTo(pool, 0);
	say_taken("memory.pool_trimmed", r);
}

static void graphs(void)
{
	CUDA_MEM_ALLOC_NODE_PARAMS alloc = {
		.poolProps = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
			       .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } },
		.bytesize = 48 * MIB
	};
	CUgraphNode node, free_node;
	CUgraphExec exec = NULL;
	CUgraph graph = NULL;
	CUresult r;

	if (!drv.cuGraphAddMemAllocNode || !drv.cuGraphInstantiateWithFlags)
		return;
	r = drv.cuGraphCreate(&graph, 0);
	r = r ? r : drv.cuGraphAddMemAllocNode(&node, graph, NULL, 0, &alloc);
	r = r ? r : drv.cuGraphAddMemFreeNode(&free_node, graph, &node, 1, alloc.dptr);
	say_taken("memory.graph_made", r);
	r = r ? r : drv.cuGraphInstantiateWithFlags(&exec, graph, 0);
	say_taken("memory.graph_instantiated", r);
	r = r ? r : drv.cuGraphLaunch(exec, NULL);
	r = r ? r : drv.cuCtxSynchronize();
	say_taken("memory.graph_launched_48MiB", r);
	if (exec)
		drv.cuGraphExecDestroy(exec);
	if (graph)
		drv.cuGraphDestroy(graph);
	say_taken("memory.graph_destroyed", r);
	r = drv.cuDeviceGraphMemTrim(0);
	say_taken("memory.graph_trimmed", r);
}

/* Overhead: what NVML sees and no call asks for. The ledger has no part in it (E6). */
static void overhead(void)
{
	CUcontext second = NULL, current = NULL;
	CUmodule module = NULL;
	CUresult r;

	r = drv.cuModuleLoadData(&module, probe_kernel);
	say_taken("overhead.module", r);
	r = drv.cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, 64 * MIB);
	say_taken("overhead.heap_64MiB", r);
	r = drv.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 16384);
	say_taken("overhead.stack_16KiB", r);
	drv.cuDevicePrimaryCtxRetain(&current, 0);
	r = drv.cuCtxCreate_v2(&second, 0, 0);
	say_taken("overhead.second_context", r);
	if (second)
		r = drv.cuCtxDestroy_v2(second);
	drv.cuCtxSetCurrent(current);
	say_taken("overhead.second_destroyed", r);
}

void probe_memory(void)
{
	probe_start();
	probe_say("overhead.context_total", 0, "%llu",
		  (unsigned long long)probe_nvml_used_bytes());
	look();
	linear();
	arrays();
	objects();
	pools();
	graphs();
	overhead();
}

#define COST(step, call)                                                             \
	do {                                                                         \
		uint64_t began_ns = probe_now_ns();                                  \
		CUresult r = CUDA_SUCCESS;                                           \
		for (unsigned i = 0; i < COST_CALLS; i++)                            \
			r |= (call);                                                 \
		probe_say("cost." step, (int)r, "%.1f ns",                           \
			  (double)(probe_now_ns() - began_ns) / (double)COST_CALLS); \
	} while (0)

void probe_costs(void)
{
	CUstreamCaptureStatus status;
	CUevent first = NULL, second = NULL;
	CUmemoryPool pool = NULL;
	CUfunction function = NULL;
	CUmodule module = NULL;
	CUdeviceptr p;
	size_t a, b;
	cuuint64_t reserved;
	const char *name;
	float ms;
	CUdevice device;

	probe_start();
	drv.cuEventCreate(&first, 0);
	drv.cuEventCreate(&second, 0);
	drv.cuModuleLoadData(&module, probe_kernel);
	drv.cuModuleGetFunction(&function, module, "nothing");
	COST("cuEventRecord", drv.cuEventRecord(first, NULL));
	drv.cuEventRecord(second, NULL);
	drv.cuEventSynchronize(second);
	COST("cuEventQuery", drv.cuEventQuery(second));
	COST("cuEventElapsedTime", drv.cuEventElapsedTime(&ms, first, second));
	COST("cuCtxGetDevice", drv.cuCtxGetDevice(&device));
	COST("cuStreamIsCapturing", drv.cuStreamIsCapturing(NULL, &status));
	COST("cuMemGetInfo", drv.cuMemGetInfo_v2(&a, &b));
	if (drv.cuMemPoolGetAttribute &&
	    drv.cuDeviceGetDefaultMemPool(&pool, 0) == CUDA_SUCCESS)
		COST("cuMemPoolGetAttribute",
		     drv.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT,
					       &reserved));
	if (drv.cuFuncGetName)
		COST("cuFuncGetName", drv.cuFuncGetName(&name, function));
	COST("cuMemAlloc_cuMemFree", drv.cuMemAlloc_v2(&p, 512) | drv.cuMemFree_v2(p));
}
