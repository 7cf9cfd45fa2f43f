/* SPDX-License-Identifier: Apache-2.0 */
/*
 * charges CASE: one way to device memory, in a slice of 256 MiB. What the ledger holds is
 * compared with the driver's own list after every step, and both must end at nothing.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

#include "../check.h"
#include "judge.h"

#define LIMIT (256 * MIB)

/* The oldest ABIs, which the header no longer gives a name. */
static void *old(const char *name)
{
	void *symbol = dlsym(RTLD_DEFAULT, name);

	CHECK(symbol != NULL);
	return symbol;
}

/* Refused, with the one error that frameworks understand and nothing written (F08). */
#define REFUSED(call, output, was)                            \
	do {                                                  \
		uint64_t before_ = judge_refused();           \
		CHECK_RESULT(call, CUDA_ERROR_OUT_OF_MEMORY); \
		CHECK((output) == (was));                     \
		CHECK(judge_refused() > before_);             \
		AGREE();                                      \
	} while (0)

static void pointers(void)
{
	CUdeviceptr p, q, none = 77;
	size_t pitch;

	OK(cuMemAlloc(&p, 1000));
	LEDGER(1024);
	AGREE();
	REFUSED(cuMemAlloc(&none, LIMIT), none, 77);
	REFUSED(cuMemAlloc(&none, SIZE_MAX), none, 77);
	OK(cuMemAllocPitch(&q, &pitch, 1001, 100, 4));
	AGREE();
	OK(cuMemFree(q));
	REFUSED(cuMemAllocPitch(&none, &pitch, 1 * MIB, 256, 4), none, 77);
	OK(cuMemAllocManaged(&q, 3 * MIB + 1, CU_MEM_ATTACH_GLOBAL));
	AGREE();
	REFUSED(cuMemAllocManaged(&none, LIMIT, CU_MEM_ATTACH_GLOBAL), none, 77);
	OK(cuMemFree(q));
	OK(cuMemFree(p));
	OK(cuMemAlloc(&p, LIMIT)); /* to the last byte */
	AGREE();
	OK(cuMemFree(p));
}

static void old_pointers(void)
{
	CUresult (*alloc)(unsigned *,
			  unsigned) = (CUresult(*)(unsigned *, unsigned))old("cuMemAlloc");
	CUresult (*alloc_pitch)(unsigned *, unsigned *, unsigned, unsigned, unsigned) =
		(CUresult(*)(unsigned *, unsigned *, unsigned, unsigned, unsigned))old(
			"cuMemAllocPitch");
	CUresult (*release)(unsigned) = (CUresult(*)(unsigned))old("cuMemFree");
	unsigned p, q, pitch, none = 77;

	OK(alloc(&p, 1 * MIB));
	LEDGER(1 * MIB);
	AGREE();
	REFUSED(alloc(&none, LIMIT), none, 77);
	OK(alloc_pitch(&q, &pitch, 1000, 10, 4));
	AGREE();
	OK(release(q));
	OK(release(p));
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void random_pointers(void)
{
	CUdeviceptr live[100] = { 0 };
	uint64_t random = 2463534242;

	for (unsigned i = 0; i < 5000; i++) {
		unsigned at = (unsigned)(next_random(&random) % 100);

		if (live[at]) {
			OK(cuMemFree(live[at]));
			CHECK(cuMemFree(live[at]) != CUDA_SUCCESS); /* twice */
			live[at] = 0;
		} else if (cuMemAlloc(&live[at], 1 + next_random(&random) % (8 * MIB)) !=
			   CUDA_SUCCESS) {
			live[at] = 0;
		}
		if (i % 50 == 0)
			AGREE();
		CHECK(judge_ledger_bytes() <= LIMIT);
	}
	CHECK(judge_refused() > 0);
	for (unsigned i = 0; i < 100; i++)
		if (live[i])
			OK(cuMemFree(live[i]));
	CHECK(cuMemFree(0x12345678) != CUDA_SUCCESS);
}

static const CUmemAllocationProp on_device = {
	.type = CU_MEM_ALLOCATION_TYPE_PINNED,
	.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
	.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 },
};

/* F05: by the location in the properties, and the driver's own error for a bad one. */
static void created_elsewhere(void)
{
	CUmemGenericAllocationHandle h = 77;
	CUmemAllocationProp prop = on_device;

	prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_NONE;
	prop.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
	OK(cuMemCreate(&h, LIMIT + 2 * MIB, &prop, 0)); /* more than the slice has */
	LEDGER(0);
	OK(cuMemRelease(h));
	prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	prop.location.id = 850725928;
	CHECK_RESULT(cuMemCreate(&h, 2 * MIB, &prop, 0), CUDA_ERROR_INVALID_DEVICE);
	CHECK_RESULT(cuMemCreate(&h, 2 * MIB, NULL, 0), CUDA_ERROR_INVALID_VALUE);
	LEDGER(0);
}

static void objects(void)
{
	CUmemGenericAllocationHandle h[2], again, none = 77;
	CUdeviceptr va;

	OK(cuMemAddressReserve(&va, 8 * MIB, 0, 0, 0));
	for (unsigned i = 0; i < 2; i++) {
		OK(cuMemCreate(&h[i], 4 * MIB, &on_device, 0));
		AGREE();
		OK(cuMemMap(va + i * 4 * MIB, 4 * MIB, 0, h[i], 0));
		OK(cuMemRelease(h[i])); /* the mapping holds it */
		LEDGER((i + 1) * 4 * MIB);
		AGREE();
	}
	REFUSED(cuMemCreate(&none, LIMIT, &on_device, 0), none, 77);
	OK(cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)(va + 5 * MIB)));
	OK(cuMemUnmap(va, 8 * MIB)); /* both in one call */
	LEDGER(4 * MIB);
	AGREE();
	CHECK(cuMemRelease(12345) != CUDA_SUCCESS);
	OK(cuMemRelease(again));
	LEDGER(0);
	OK(cuMemAddressFree(va, 8 * MIB));
}

/* What came from outside costs nothing here; what is imported from ourselves is one thing.
 */
static void imported(void)
{
	CUmemGenericAllocationHandle h, copy;
	CUdeviceptr va;
	int fd = -1;

	OK(cuMemCreate(&h, 4 * MIB, &on_device, 0));
	OK(cuMemExportToShareableHandle(&fd, h, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
					0));
	OK(cuMemImportFromShareableHandle(&copy, (void *)(uintptr_t)fd,
					  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
	LEDGER(4 * MIB);
	OK(cuMemAddressReserve(&va, 4 * MIB, 0, 0, 0));
	OK(cuMemMap(va, 4 * MIB, 0, copy, 0));
	LEDGER(4 * MIB);
	OK(cuMemUnmap(va, 4 * MIB));
	OK(cuMemRelease(copy));
	LEDGER(4 * MIB);
	OK(cuMemRelease(h));
	LEDGER(0);
	OK(cuMemAddressFree(va, 4 * MIB));
}

static void multicast(void)
{
	CUmulticastObjectProp prop = { .numDevices = 1, .size = 4 * MIB };
	CUmemGenericAllocationHandle mc, h;
	CUresult res = cuMulticastCreate(&mc, &prop);

	if (res != CUDA_SUCCESS)
		SKIP("this device has no multicast");
	OK(cuMulticastAddDevice(mc, 0));
	OK(cuMemCreate(&h, 4 * MIB, &on_device, 0));
	OK(cuMulticastBindMem(mc, 0, h, 0, 4 * MIB, 0));
	OK(cuMemRelease(h));
	LEDGER(4 * MIB); /* bound is mapped */
	AGREE();
	OK(cuMulticastUnbind(mc, 0, 0, 4 * MIB));
	LEDGER(0);
	OK(cuMemCreate(&h, 4 * MIB, &on_device, 0));
	OK(cuMulticastBindMem(mc, 0, h, 0, 4 * MIB, 0));
	OK(cuMemRelease(h));
	OK(cuMemRelease(mc)); /* takes what is bound with it */
	LEDGER(0);
}

static void default_pool(void)
{
	CUdeviceptr p[4], none = 77;

	for (unsigned i = 0; i < 4; i++) {
		OK(cuMemAllocAsync(&p[i], 10 * MIB + i, 0));
		AGREE();
	}
	REFUSED(cuMemAllocAsync(&none, LIMIT, 0), none, 77);
	OK(cuMemFree(p[0])); /* a pool's memory may be freed without a stream */
	for (unsigned i = 1; i < 4; i++)
		OK(cuMemFreeAsync(p[i], 0));
	CHECK(cuMemFreeAsync(p[1], 0) != CUDA_SUCCESS);
	OK(cuCtxSynchronize());
	/* The reserve is given up rather than that anybody is refused. */
	OK(cuMemAlloc(&p[0], LIMIT));
	AGREE();
	OK(cuMemFree(p[0]));
}

static void explicit_pool(void)
{
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	cuuint64_t keep = UINT64_MAX;
	CUmemoryPool pool;
	CUdeviceptr p, q, none = 77;
	CUstream stream;

	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	OK(cuMemPoolCreate(&pool, &props));
	OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep));
	OK(cuMemAllocFromPoolAsync(&p, 40 * MIB, pool, stream));
	AGREE();
	OK(cuMemFreeAsync(p, stream));
	OK(cuStreamSynchronize(stream));
	AGREE(); /* kept in reserve */
	CHECK(judge_ledger_bytes() >= 40 * MIB);
	OK(cuMemAllocFromPoolAsync(&p, 20 * MIB, pool, stream));
	AGREE(); /* served from it */
	OK(cuMemAllocFromPoolAsync(&q, 512, pool, stream));
	OK(cuMemAllocFromPoolAsync(&none, 31 * MIB, pool,
				   stream)); /* in pieces: it grows */
	AGREE();
	OK(cuMemFreeAsync(none, stream));
	OK(cuMemFreeAsync(q, stream));
	none = 77;
	REFUSED(cuMemAllocFromPoolAsync(&none, LIMIT, pool, stream), none, 77);
	OK(cuMemFreeAsync(p, stream));
	OK(cuMemPoolTrimTo(pool, 0));
	LEDGER(0);
	OK(cuMemAllocFromPoolAsync(&p, 20 * MIB, pool, stream));
	OK(cuDeviceSetMemPool(0, pool));
	OK(cuMemAllocAsync(&q, 20 * MIB, stream));
	AGREE();
	OK(cuMemPoolDestroy(pool)); /* its allocations live on */
	CHECK(judge_ledger_bytes() >= 40 * MIB);
	OK(cuMemFreeAsync(q, stream));
	OK(cuMemFreeAsync(p, stream));
	LEDGER(0);
	OK(cuStreamDestroy(stream));
}

static void host_pool(void)
{
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_HOST } };
	CUmemoryPool pool;
	CUdeviceptr p;

	OK(cuMemPoolCreate(&pool, &props));
	OK(cuMemAllocFromPoolAsync(&p, LIMIT + 2 * MIB, pool, 0));
	LEDGER(0);
	OK(cuMemFreeAsync(p, 0));
	OK(cuMemPoolDestroy(pool));
}

/* Managed memory counts as from cuMemAllocManaged, whosever pool it is from. */
static void managed_pool(void)
{
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_MANAGED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	CUmemoryPool pools[2];
	CUdeviceptr p, none = 77;

	OK(cuMemPoolCreate(&pools[0], &props));
	OK(cuMemGetDefaultMemPool(&pools[1], &props.location, props.allocType));
	for (unsigned i = 0; i < 2; i++) {
		OK(cuMemAllocFromPoolAsync(&p, 100 * MIB, pools[i], 0));
		LEDGER(100 * MIB);
		REFUSED(cuMemAllocFromPoolAsync(&none, LIMIT, pools[i], 0), none, 77);
		OK(cuMemFreeAsync(p, 0));
		LEDGER(0);
	}
	OK(cuMemAllocFromPoolAsync(&p, MIB, pools[0], 0));
	OK(cuMemPoolDestroy(pools[0]));
	LEDGER(MIB); /* its allocations live on */
	OK(cuMemFreeAsync(p, 0));
	OK(cuCtxSynchronize());
}

/* More pools than have a place: theirs count one by one. */
static void many_pools(void)
{
	enum { POOLS = 1100 };
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	static CUmemoryPool pools[POOLS];
	CUdeviceptr p, none = 77;

	for (unsigned i = 0; i < POOLS; i++)
		OK(cuMemPoolCreate(&pools[i], &props));
	OK(cuMemAllocFromPoolAsync(&p, 100 * MIB, pools[POOLS - 1], 0));
	LEDGER(100 * MIB);
	CHECK_RESULT(cuMemAllocFromPoolAsync(&none, LIMIT, pools[POOLS - 1], 0),
		     CUDA_ERROR_OUT_OF_MEMORY);
	CHECK(none == 77);
	OK(cuMemFreeAsync(p, 0));
	LEDGER(0);
	for (unsigned i = 0; i < POOLS; i++)
		OK(cuMemPoolDestroy(pools[i]));
}

static void arrays(void)
{
	CUDA_ARRAY_DESCRIPTOR flat = {
		.Width = 1000, .Height = 333, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 4
	};
	CUDA_ARRAY3D_DESCRIPTOR cube = { .Width = 64,
					 .Height = 64,
					 .Depth = 6,
					 .Format = CU_AD_FORMAT_HALF,
					 .NumChannels = 2,
					 .Flags = CUDA_ARRAY3D_CUBEMAP },
				big = { .Width = 16384,
					.Height = 16384,
					.Format = CU_AD_FORMAT_FLOAT,
					.NumChannels = 4 },
				sparse = { .Width = 4096,
					   .Height = 4096,
					   .Format = CU_AD_FORMAT_FLOAT,
					   .NumChannels = 4,
					   .Flags = CUDA_ARRAY3D_SPARSE };
	CUarray a, b, c, none = (CUarray)(uintptr_t)77;
	CUmipmappedArray m, nothing = (CUmipmappedArray)(uintptr_t)77;

	OK(cuArrayCreate(&a, &flat));
	AGREE();
	CHECK(judge_ledger_bytes() >= 1000 * 333 * 16);
	OK(cuArray3DCreate(&b, &cube));
	AGREE();
	OK(cuMipmappedArrayCreate(&m, &cube, 5));
	AGREE();
	REFUSED(cuArray3DCreate(&none, &big), none, (CUarray)(uintptr_t)77);
	REFUSED(cuMipmappedArrayCreate(&nothing, &big, 3), nothing,
		(CUmipmappedArray)(uintptr_t)77);
	OK(cuArray3DCreate(&c, &sparse)); /* no memory of its own */
	AGREE();
	OK(cuArrayDestroy(c));
	OK(cuMipmappedArrayDestroy(m));
	OK(cuArrayDestroy(b));
	OK(cuArrayDestroy(a));
	CHECK(cuArrayDestroy(none) != CUDA_SUCCESS);
}

/* A graph that allocates BYTES and frees them. */
static CUgraph make_graph(size_t bytes)
{
	CUDA_MEM_ALLOC_NODE_PARAMS params = {
		.poolProps = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
			       .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } },
		.bytesize = bytes,
	};
	CUgraphNode alloc, end;
	CUgraph graph;

	OK(cuGraphCreate(&graph, 0));
	OK(cuGraphAddMemAllocNode(&alloc, graph, NULL, 0, &params));
	OK(cuGraphAddMemFreeNode(&end, graph, &alloc, 1, params.dptr));
	return graph;
}

static void graphs(void)
{
	CUgraph graph = make_graph(20 * MIB), big = make_graph(LIMIT + 2 * MIB);
	CUgraphExec exec, other;
	CUdeviceptr p;

	OK(cuGraphInstantiate(&exec, graph, 0));
	OK(cuGraphInstantiate(&other, big, 0));
	AGREE();
	for (unsigned i = 0; i < 3; i++) {
		OK(cuGraphLaunch(exec, 0));
		OK(cuCtxSynchronize());
		AGREE();
	}
	CHECK(judge_ledger_bytes() >= 20 * MIB); /* kept for the next launch */
	CHECK_RESULT(cuGraphLaunch(other, 0), CUDA_ERROR_OUT_OF_MEMORY);
	AGREE();
	OK(cuMemAlloc(&p, LIMIT)); /* trims what the graphs keep */
	AGREE();
	/* ... so that the next launch needs it once more */
	CHECK_RESULT(cuGraphLaunch(exec, 0), CUDA_ERROR_OUT_OF_MEMORY);
	CHECK_RESULT(cuGraphUpload(exec, 0), CUDA_ERROR_OUT_OF_MEMORY);
	AGREE();
	OK(cuMemFree(p));
	OK(cuGraphLaunch(exec, 0));
	OK(cuCtxSynchronize());
	AGREE();
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphExecDestroy(other));
	OK(cuDeviceGraphMemTrim(0));
	LEDGER(0);
	OK(cuGraphDestroy(graph));
	OK(cuGraphDestroy(big));
}

/* An allocation in a capture is a node of a graph, not of the pool. */
static void captured(void)
{
	CUgraphExec exec;
	CUstream stream;
	CUgraph graph;
	CUdeviceptr p;

	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	OK(cuMemAllocAsync(&p, 30 * MIB, stream));
	OK(cuMemFreeAsync(p, stream));
	OK(cuStreamEndCapture(stream, &graph));
	LEDGER(0);
	OK(cuGraphInstantiate(&exec, graph, 0));
	OK(cuGraphLaunch(exec, stream));
	OK(cuStreamSynchronize(stream));
	AGREE();
	CHECK(judge_ledger_bytes() >= 30 * MIB);
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphDestroy(graph));
	OK(cuDeviceGraphMemTrim(0));
	LEDGER(0);
	OK(cuStreamDestroy(stream));
}

/* Host memory is told, never refused. */
static void host_memory(void)
{
	static char own[1 << 20] __attribute__((aligned(4096)));
	void *p, *q;

	OK(cuMemAllocHost(&p, 10 * MIB));
	OK(cuMemHostAlloc(&q, LIMIT + MIB, 0));
	OK(cuMemHostRegister(own, sizeof(own), 0));
	CHECK_RESULT(judge_pinned_bytes(), LIMIT + 12 * MIB);
	LEDGER(0);
	OK(cuMemHostUnregister(own));
	OK(cuMemFreeHost(q));
	OK(cuMemFreeHost(p));
	CHECK_RESULT(judge_pinned_bytes(), 0);
}

static void context_gone(void)
{
	CUDA_ARRAY_DESCRIPTOR flat = {
		.Width = 1000, .Height = 333, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 4
	};
	CUcontext own;
	CUdeviceptr p;
	CUarray a;

	OK(cuMemAlloc(&p, 5 * MIB));
	OK(cuCtxCreate(&own, NULL, 0, 0));
	OK(cuMemAlloc(&p, 7 * MIB));
	OK(cuMemAllocManaged(&p, 3 * MIB, CU_MEM_ATTACH_GLOBAL));
	OK(cuArrayCreate(&a, &flat));
	AGREE();
	OK(cuCtxDestroy(own));
	AGREE();
	LEDGER(5 * MIB); /* what is in the other context stays */
	OK(cuDevicePrimaryCtxReset(0));
	LEDGER(0);
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "pointers", pointers },
	{ "old_pointers", old_pointers },
	{ "random_pointers", random_pointers },
	{ "created_elsewhere", created_elsewhere },
	{ "objects", objects },
	{ "imported", imported },
	{ "multicast", multicast },
	{ "default_pool", default_pool },
	{ "explicit_pool", explicit_pool },
	{ "host_pool", host_pool },
	{ "managed_pool", managed_pool },
	{ "many_pools", many_pools },
	{ "arrays", arrays },
	{ "graphs", graphs },
	{ "captured", captured },
	{ "host_memory", host_memory },
	{ "context_gone", context_gone },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < sizeof(cases) / sizeof(*cases); i++) {
		if (strcmp(argv[1], cases[i].name) != 0)
			continue;
		(void)check_context();
		LEDGER(0);
		cases[i].run();
		AGREE();
		LEDGER(0);
		return 0;
	}
	fprintf(stderr, "usage: charges CASE\n");
	return 2;
}
