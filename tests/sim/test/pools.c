/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools reserve in steps of 32 MiB, give unused reserve back at a synchronise over their
 * threshold, when trimmed, and when somebody needs the memory; graph memory keeps a reserve
 * of its own.
 */

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "machine.h"
#include "truth.h"

#define STEP (32 * MIB)

static CUmemoryPool standard;

static uint64_t read_u64(CUmemoryPool pool, CUmemPool_attribute attr)
{
	cuuint64_t v;

	SUCCEEDS(cuMemPoolGetAttribute(pool, attr, &v));
	return v;
}

static void write_u64(CUmemoryPool pool, CUmemPool_attribute attr, cuuint64_t v)
{
	SUCCEEDS(cuMemPoolSetAttribute(pool, attr, &v));
}

static void expect(CUmemoryPool pool, uint64_t reserved, uint64_t used)
{
	CHECK(read_u64(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == reserved);
	CHECK(read_u64(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == used);
	TRUTH(RM_POOL, reserved, reserved, reserved != 0);
}

static void grow_and_release(void)
{
	CUdeviceptr a, b, c;
	CUevent event;

	SUCCEEDS(cuMemAllocAsync(&a, 100, NULL));
	expect(standard, STEP, 512);
	memset((void *)(uintptr_t)a, 1, 100);
	SUCCEEDS(cuMemAllocAsync_ptsz(&b, 20 * MIB, NULL));
	expect(standard, STEP, 20 * MIB + 512);
	SUCCEEDS(cuMemAllocAsync(&c, 33 * MIB, NULL));
	expect(standard, 3 * STEP, 53 * MIB + 512);
	SUCCEEDS(cuMemFreeAsync(c, NULL));
	expect(standard, 3 * STEP, 20 * MIB + 512); /* nothing goes before a synchronise */
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemFreeAsync(c, NULL));
	SUCCEEDS(cuStreamSynchronize(NULL));
	expect(standard, STEP, 20 * MIB + 512);
	CHECK(read_u64(standard, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH) == 3 * STEP);
	CHECK(read_u64(standard, CU_MEMPOOL_ATTR_USED_MEM_HIGH) == 53 * MIB + 512);
	write_u64(standard, CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0);
	CHECK(read_u64(standard, CU_MEMPOOL_ATTR_USED_MEM_HIGH) == 20 * MIB + 512);
	SUCCEEDS(cuMemFree_v2(a)); /* either free takes either pointer */
	SUCCEEDS(cuMemFreeAsync_ptsz(b, NULL));
	SUCCEEDS(cuEventCreate(&event, 0));
	SUCCEEDS(cuEventRecord(event, NULL));
	expect(standard, STEP, 0);
	SUCCEEDS(cuEventSynchronize(event));
	expect(standard, 0, 0);
	SUCCEEDS(cuEventDestroy_v2(event));
	SUCCEEDS(cuMemAlloc_v2(&a, 1));
	SUCCEEDS(cuMemFreeAsync(a, NULL)); /* of cuMemAlloc too */
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemAllocAsync(&a, 0, NULL));
}

static void keep_the_threshold(void)
{
	CUdeviceptr p[4];

	write_u64(standard, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, 2 * STEP);
	for (int i = 0; i < 4; i++)
		SUCCEEDS(cuMemAllocAsync(&p[i], STEP, NULL));
	for (int i = 0; i < 4; i++)
		SUCCEEDS(cuMemFreeAsync(p[i], NULL));
	expect(standard, 4 * STEP, 0);
	SUCCEEDS(cuCtxSynchronize());
	expect(standard, 2 * STEP, 0);
	SUCCEEDS(cuMemAllocAsync(&p[0], STEP, NULL)); /* from the reserve */
	expect(standard, 2 * STEP, STEP);
	SUCCEEDS(cuMemFreeAsync(p[0], NULL));
	SUCCEEDS(cuMemPoolTrimTo(standard, STEP));
	expect(standard, STEP, 0);
	SUCCEEDS(cuMemPoolTrimTo(standard, STEP - 1)); /* keeps at least so much */
	expect(standard, STEP, 0);
	SUCCEEDS(cuMemPoolTrimTo(standard, 0));
	expect(standard, 0, 0);
	write_u64(standard, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, 0);
}

/* Unused reserve is no reason to refuse anybody. */
static void yield_reserve(void)
{
	CUdeviceptr p, q;
	size_t free_bytes;

	write_u64(standard, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (cuuint64_t)-1);
	SUCCEEDS(cuMemAllocAsync(&p, 4 * STEP, NULL));
	SUCCEEDS(cuMemFreeAsync(p, NULL));
	SUCCEEDS(cuMemGetInfo_v2(&free_bytes, NULL));
	expect(standard, 4 * STEP, 0);
	SUCCEEDS(cuMemAlloc_v2(&q, free_bytes + STEP));
	expect(standard, 0, 0);
	SUCCEEDS(cuMemFree_v2(q));
	SUCCEEDS(cuMemGetInfo_v2(&free_bytes, NULL));
	ANSWERS(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocAsync(&p, free_bytes + 2 * MIB, NULL));
	SUCCEEDS(cuMemAllocAsync(&p, free_bytes / (2 * MIB) * (2 * MIB),
				 NULL)); /* less than a step */
	SUCCEEDS(cuMemFreeAsync(p, NULL));
	write_u64(standard, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, 0);
	SUCCEEDS(cuCtxSynchronize());
	expect(standard, 0, 0);
}

static void make_pools(void)
{
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { CU_MEM_LOCATION_TYPE_DEVICE, { 0 } },
				 .maxSize = STEP };
	CUmemoryPool pool, now;
	CUdeviceptr p, q;
	int type;

	SUCCEEDS(cuMemPoolCreate(&pool, &props));
	SUCCEEDS(cuDeviceSetMemPool(0, pool));
	SUCCEEDS(cuDeviceGetMemPool(&now, 0));
	CHECK(now == pool);
	SUCCEEDS(cuMemAllocAsync(&p, 30 * MIB, NULL));
	expect(pool, STEP, 30 * MIB);
	ANSWERS(CUDA_ERROR_OUT_OF_MEMORY,
		cuMemAllocAsync(&q, 3 * MIB, NULL)); /* its maxSize */
	SUCCEEDS(cuPointerGetAttribute(&now, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, p + 1));
	CHECK(now == pool);
	SUCCEEDS(cuMemPoolDestroy(pool)); /* lives on for P; the default is current again */
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(pool));
	SUCCEEDS(cuDeviceGetMemPool(&now, 0));
	CHECK(now == standard);
	TRUTH(RM_POOL, STEP, STEP, 1);
	SUCCEEDS(cuMemFreeAsync(p, NULL));
	TRUTH(RM_POOL, 0, 0, 0);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(standard));

	props.location.id = 3;
	ANSWERS(CUDA_ERROR_INVALID_DEVICE, cuMemPoolCreate(&pool, &props));
	props.location.type = CU_MEM_LOCATION_TYPE_HOST;
	props.maxSize = 0;
	SUCCEEDS(cuMemPoolCreate(&pool, &props));
	SUCCEEDS(cuMemAllocFromPoolAsync(&p, MIB, pool, NULL));
	SUCCEEDS(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p));
	CHECK(type == CU_MEMORYTYPE_HOST);
	TRUTH(RM_POOL, 0, 0, 0); /* not the device's memory */
	SUCCEEDS(cuMemFreeAsync(p, NULL));
	SUCCEEDS(cuMemPoolDestroy(pool));
	props.allocType = CU_MEM_ALLOCATION_TYPE_MANAGED;
	props.location.type = CU_MEM_LOCATION_TYPE_NONE;
	SUCCEEDS(cuMemPoolCreate(&pool, &props));
	SUCCEEDS(cuMemAllocFromPoolAsync(&p, MIB, pool, NULL));
	TRUTH(RM_MANAGED, 0, MIB, 1);
	SUCCEEDS(cuMemFreeAsync(p, NULL));
	TRUTH(RM_MANAGED, 0, 0, 0);
	SUCCEEDS(cuMemPoolDestroy(pool));
}

/* ---- graph memory ---------------------------------------------------------------- */

static uint64_t read_graph(CUgraphMem_attribute attr)
{
	cuuint64_t v;

	SUCCEEDS(cuDeviceGetGraphMemAttribute(0, attr, &v));
	return v;
}

static void expect_graph(uint64_t reserved, uint64_t used)
{
	CHECK(read_graph(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) == reserved);
	CHECK(read_graph(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) == used);
	TRUTH(RM_GRAPH, reserved, reserved, reserved != 0);
	TRUTH(RM_POOL, 0, 0, 0); /* captured allocations are the graph's */
}

static void run_captured(void)
{
	CUgraphExec exec;
	CUstream stream;
	CUdeviceptr a, b;
	CUgraph graph;

	SUCCEEDS(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	SUCCEEDS(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	ANSWERS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc_v2(&a, 1));
	SUCCEEDS(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
			 ? CUDA_SUCCESS
			 : CUDA_ERROR_UNKNOWN);
	SUCCEEDS(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
	SUCCEEDS(cuMemAllocAsync(&a, 3 * MIB, stream));
	SUCCEEDS(cuMemAllocAsync(&b, 100, stream));
	SUCCEEDS(cuMemFreeAsync(a, stream));
	SUCCEEDS(cuStreamEndCapture(stream, &graph));
	SUCCEEDS(cuGraphInstantiateWithFlags(&exec, graph, 0));
	expect_graph(0, 0);
	SUCCEEDS(cuGraphLaunch(exec, stream));
	SUCCEEDS(cuStreamSynchronize(stream));
	expect_graph(6 * MIB, 2 * MIB);
	CHECK(read_graph(CU_GRAPH_MEM_ATTR_USED_MEM_HIGH) == 6 * MIB);
	memset((void *)(uintptr_t)b, 1, 100);
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuGraphLaunch(exec, stream)); /* b is still there */
	SUCCEEDS(cuMemFreeAsync(b, stream));
	expect_graph(6 * MIB, 0);
	SUCCEEDS(cuGraphLaunch(exec, stream)); /* from the reserve */
	expect_graph(6 * MIB, 2 * MIB);
	SUCCEEDS(cuDeviceGraphMemTrim(0));
	expect_graph(2 * MIB, 2 * MIB);
	SUCCEEDS(cuGraphExecDestroy(exec));
	SUCCEEDS(cuGraphDestroy(graph));
	SUCCEEDS(cuMemFree_v2(b)); /* outlived its graph */
	expect_graph(2 * MIB, 0);
	SUCCEEDS(cuDeviceGraphMemTrim(0));
	expect_graph(0, 0);
	SUCCEEDS(cuStreamDestroy_v2(stream));
}

int main(void)
{
	CUdeviceptr p;
	CUcontext ctx;

	machine_prepare("h100", "host");
	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(ctx));
	SUCCEEDS(cuDeviceGetDefaultMemPool(&standard, 0));
	grow_and_release();
	keep_the_threshold();
	yield_reserve();
	make_pools();
	run_captured();
	/* a pool's memory ends with the primary context */
	SUCCEEDS(cuMemAllocAsync(&p, 1, NULL));
	TRUTH(RM_POOL, STEP, STEP, 1);
	SUCCEEDS(cuDevicePrimaryCtxReset_v2(0));
	TRUTH(RM_POOL, 0, 0, 0);
	return 0;
}
