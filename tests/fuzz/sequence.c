/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sequence SEED STEPS: calls of the driver in an order and with arguments that no program
 * would use: missing outputs, wrong and double frees, foreign handles, absurd sizes, unknown
 * enumerators, in the middle of captures. One line for each call: its result and outputs.
 * Pointers and handles are named by the order in which they were given out, so that two runs
 * with one seed can be compared byte by byte: bare, and under the hook.
 */
#include <cuda.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB         ((size_t)1 << 20)
#define KNOWN_MAX   512u
#define CONTEXTS    4u
#define STREAMS     3u
#define UNTOUCHED   UINT64_C(0xa5a5a5a5a5a5a5a5)
#define COUNT(rows) (sizeof(rows) / sizeof(*(rows)))

/* What was given out, alive or not: kinds are mixed up on purpose, but where a real driver
 * would follow a wild pointer. */
enum kind { POINTER, OBJECT, POOL, ARRAY, MIPMAP, GRAPH, EXEC, CONTEXT, RANGE, KINDS };

static uint64_t known[KINDS][KNOWN_MAX];
static unsigned known_count[KINDS];
static CUstream streams[STREAMS]; /* [0]: the default one */
static uint64_t state;

static uint64_t rnd(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

/* No more than 2^47: what is past 2^48 the hook refuses without asking, and a driver that was
 * asked has given up reserves, which later calls would show. */
static size_t any_size(void)
{
	static const size_t odd[] = {
		0, 1, 511, 512, 2 * MIB, 2 * MIB + 1, (size_t)1 << 32, (size_t)1 << 47
	};

	switch (rnd(4)) {
	case 0:
		return odd[rnd(COUNT(odd))];
	case 1:
		return (1 + rnd(16)) * 2 * MIB;
	default:
		return 1 + rnd(4 * MIB);
	}
}

static unsigned any_enum(unsigned most)
{
	return rnd(8) ? (unsigned)rnd(most) : (unsigned)rnd(UINT32_MAX);
}

static CUdevice any_device(void)
{
	static const CUdevice odd[] = { -1, 2, 16, 1 << 30 };

	return rnd(5) ? (CUdevice)rnd(2) : odd[rnd(COUNT(odd))];
}

static uint64_t any_known(enum kind kind)
{
	uint64_t value;

	if (!known_count[kind] || !rnd(12))
		return rnd(3) ? 0 : UINT64_C(0x12345000) + rnd(4096);
	value = known[kind][rnd(known_count[kind])];
	/* In the middle of something that exists. */
	return (kind == POINTER || kind == RANGE) && !rnd(10) ? value + rnd(4096) : value;
}

static CUstream any_stream(void)
{
	return streams[rnd(STREAMS)];
}

/* ---- what is said
 * ------------------------------------------------------------------------------ */

/* Names are never used again: in another run the same address may come back elsewhere. */
static unsigned keep(enum kind kind, uint64_t value)
{
	static unsigned given[KINDS];

	if (known_count[kind] < KNOWN_MAX)
		known[kind][known_count[kind]++] = value;
	return given[kind]++;
}

/* For the same reason what is gone is forgotten, in both runs. */
static void forget(enum kind kind, uint64_t value)
{
	for (unsigned i = 0; i < known_count[kind]; i++)
		if (known[kind][i] == value) {
			known[kind][i] = known[kind][--known_count[kind]];
			return;
		}
}

/* With a context goes what is in it; of the rest nobody knows here which it is. */
static void forget_all(void)
{
	known_count[POINTER] = known_count[ARRAY] = known_count[MIPMAP] = 0;
}

static void say(const char *call, CUresult res)
{
	CUdevice device;

	/* Without a context the order of checks may differ: an error is an error. */
	if (res != CUDA_SUCCESS && cuCtxGetDevice(&device) != CUDA_SUCCESS)
		res = CUDA_ERROR_INVALID_CONTEXT;
	printf("\n%s %d", call, (int)res);
}

/* An output that is a pointer or a handle. */
static void say_new(enum kind kind, uint64_t value)
{
	static const char letters[] = "pohamgecr";

	if (value == UNTOUCHED)
		printf(" kept");
	else if (!value)
		printf(" null");
	else
		printf(" %c%u", letters[kind], keep(kind, value));
}

static void say_value(uint64_t value)
{
	if (value == UNTOUCHED)
		printf(" kept");
	else
		printf(" %llu", (unsigned long long)value);
}

/* ---- calls
 * ------------------------------------------------------------------------------------- */

static void call_allocate(void)
{
	CUdeviceptr ptr = UNTOUCHED, *out = rnd(16) ? &ptr : NULL;
	size_t pitch = UNTOUCHED, bytes = any_size();

	switch (rnd(3)) {
	case 0:
		say("cuMemAlloc", cuMemAlloc(out, bytes));
		break;
	case 1:
		say("cuMemAllocManaged", cuMemAllocManaged(out, bytes, any_enum(4)));
		break;
	default:
		say("cuMemAllocPitch",
		    cuMemAllocPitch(out, rnd(16) ? &pitch : NULL, bytes >> 6, rnd(64),
				    (unsigned)(rnd(3) ? 4u << rnd(3) : rnd(20))));
		say_value(pitch);
	}
	say_new(POINTER, ptr);
}

/* Every other one twice. */
static void call_free(void)
{
	CUdeviceptr ptr = any_known(rnd(20) ? POINTER : RANGE);

	for (uint64_t times = 1 + rnd(2); times; times--) {
		bool is_ordered = !rnd(3);
		CUresult res = is_ordered ? cuMemFreeAsync(ptr, any_stream())
					  : cuMemFree(ptr);

		say(is_ordered ? "cuMemFreeAsync" : "cuMemFree", res);
		if (res == CUDA_SUCCESS)
			forget(POINTER, ptr);
	}
}

/* A release of any other kind. */
static void say_gone(const char *call, CUresult res, enum kind kind, uint64_t value)
{
	say(call, res);
	if (res == CUDA_SUCCESS)
		forget(kind, value);
}

static void call_allocate_ordered(void)
{
	CUdeviceptr ptr = UNTOUCHED, *out = rnd(16) ? &ptr : NULL;

	if (rnd(2))
		say("cuMemAllocAsync", cuMemAllocAsync(out, any_size(), any_stream()));
	else
		say("cuMemAllocFromPoolAsync",
		    cuMemAllocFromPoolAsync(out, any_size(),
					    (CUmemoryPool)(uintptr_t)any_known(POOL),
					    any_stream()));
	say_new(POINTER, ptr);
}

static void call_pool(void)
{
	CUmemPoolProps props = {
		.allocType = rnd(8) ? CU_MEM_ALLOCATION_TYPE_PINNED
				    : (CUmemAllocationType)any_enum(4),
		.location = { .type = rnd(8) ? CU_MEM_LOCATION_TYPE_DEVICE
					     : (CUmemLocationType)any_enum(6),
			      .id = any_device() },
		.maxSize = rnd(4) ? 0 : any_size(),
	};
	CUmemoryPool pool = (CUmemoryPool)(uintptr_t)any_known(POOL);
	uint64_t value = rnd(2) ? UINT64_MAX : rnd(64 * MIB), out = UNTOUCHED;

	switch (rnd(7)) {
	case 0:
	case 1:
		pool = (CUmemoryPool)(uintptr_t)UNTOUCHED;
		say("cuMemPoolCreate",
		    cuMemPoolCreate(rnd(16) ? &pool : NULL, rnd(16) ? &props : NULL));
		say_new(POOL, (uintptr_t)pool);
		break;
	case 2:
		say_gone("cuMemPoolDestroy", cuMemPoolDestroy(pool), POOL, (uintptr_t)pool);
		break;
	case 3:
		say("cuMemPoolTrimTo", cuMemPoolTrimTo(pool, any_size()));
		break;
	case 4:
		say("cuMemPoolSetAttribute",
		    cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &value));
		break;
	case 5:
		say("cuDeviceSetMemPool", cuDeviceSetMemPool(any_device(), pool));
		break;
	default:
		say("cuMemPoolGetAttribute",
		    cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT,
					  &out));
		say_value(out);
	}
}

static void call_object(void)
{
	CUmemAllocationProp prop = {
		.type = rnd(8) ? CU_MEM_ALLOCATION_TYPE_PINNED
			       : (CUmemAllocationType)any_enum(4),
		.location = { .type = rnd(8) ? CU_MEM_LOCATION_TYPE_DEVICE
					     : (CUmemLocationType)any_enum(6),
			      .id = any_device() },
	};
	CUmemGenericAllocationHandle handle = UNTOUCHED;
	CUdeviceptr range = UNTOUCHED;

	switch (rnd(7)) {
	case 0:
	case 1:
		say("cuMemCreate",
		    cuMemCreate(rnd(16) ? &handle : NULL, any_size(),
				rnd(16) ? &prop : NULL, rnd(8) ? 0 : rnd(8)));
		say_new(OBJECT, handle);
		break;
	case 2:
		handle = any_known(OBJECT);
		say_gone("cuMemRelease", cuMemRelease(handle), OBJECT, handle);
		break;
	case 3:
		say("cuMemAddressReserve",
		    cuMemAddressReserve(rnd(16) ? &range : NULL, any_size(), 0, 0, 0));
		say_new(RANGE, range);
		break;
	case 4:
		say("cuMemMap",
		    cuMemMap(any_known(RANGE), any_size(), rnd(4) ? 0 : rnd(4) * 2 * MIB,
			     any_known(OBJECT), rnd(8) ? 0 : rnd(8)));
		break;
	case 5:
		say("cuMemUnmap", cuMemUnmap(any_known(RANGE), any_size()));
		break;
	default:
		say("cuMemRetainAllocationHandle",
		    cuMemRetainAllocationHandle(
			    rnd(16) ? &handle : NULL,
			    (void *)(uintptr_t)any_known(rnd(4) ? RANGE : POINTER)));
		say_new(OBJECT, handle);
	}
}

static void call_array(void)
{
	CUDA_ARRAY3D_DESCRIPTOR desc = {
		.Width = rnd(8) ? rnd(600) : rnd(MIB),
		.Height = rnd(8) ? rnd(200) : rnd(MIB),
		.Depth = rnd(2) ? 0 : rnd(9),
		.Format = rnd(8) ? CU_AD_FORMAT_FLOAT : (CUarray_format)any_enum(64),
		.NumChannels = (unsigned)(rnd(8) ? 1u << rnd(3) : rnd(9)),
		.Flags = rnd(4) ? 0 : any_enum(256),
	};
	CUarray array = (CUarray)(uintptr_t)UNTOUCHED;
	CUmipmappedArray mipmap = (CUmipmappedArray)(uintptr_t)UNTOUCHED;

	switch (rnd(4)) {
	case 0:
		say("cuArray3DCreate",
		    cuArray3DCreate(rnd(16) ? &array : NULL, rnd(16) ? &desc : NULL));
		say_new(ARRAY, (uintptr_t)array);
		break;
	case 1:
		say("cuMipmappedArrayCreate",
		    cuMipmappedArrayCreate(rnd(16) ? &mipmap : NULL, rnd(16) ? &desc : NULL,
					   (unsigned)rnd(14)));
		say_new(MIPMAP, (uintptr_t)mipmap);
		break;
	case 2:
		array = (CUarray)(uintptr_t)any_known(ARRAY);
		say_gone("cuArrayDestroy", cuArrayDestroy(array), ARRAY, (uintptr_t)array);
		break;
	default:
		mipmap = (CUmipmappedArray)(uintptr_t)any_known(MIPMAP);
		say_gone("cuMipmappedArrayDestroy", cuMipmappedArrayDestroy(mipmap), MIPMAP,
			 (uintptr_t)mipmap);
	}
}

static void say_exec_gone(CUgraphExec exec)
{
	say_gone("cuGraphExecDestroy", cuGraphExecDestroy(exec), EXEC, (uintptr_t)exec);
}

static void call_capture(void)
{
	CUstream stream = any_stream();
	CUgraph graph = (CUgraph)(uintptr_t)UNTOUCHED;
	CUgraphExec exec = (CUgraphExec)(uintptr_t)UNTOUCHED;
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;

	switch (rnd(7)) {
	case 0:
		say("cuStreamBeginCapture",
		    cuStreamBeginCapture(stream, (CUstreamCaptureMode)rnd(4)));
		break;
	case 1:
	case 2:
		say("cuStreamEndCapture",
		    cuStreamEndCapture(stream, rnd(16) ? &graph : NULL));
		say_new(GRAPH, (uintptr_t)graph);
		break;
	case 3:
		say("cuStreamIsCapturing", cuStreamIsCapturing(stream, &status));
		say_value((uint64_t)status);
		break;
	case 4:
		say("cuGraphInstantiate",
		    cuGraphInstantiate(rnd(16) ? &exec : NULL,
				       (CUgraph)(uintptr_t)any_known(GRAPH), 0));
		say_new(EXEC, (uintptr_t)exec);
		break;
	case 5:
		say("cuGraphLaunch",
		    cuGraphLaunch((CUgraphExec)(uintptr_t)any_known(EXEC), stream));
		break;
	default:
		if (rnd(2))
			say_exec_gone((CUgraphExec)(uintptr_t)any_known(EXEC));
		else
			say("cuDeviceGraphMemTrim", cuDeviceGraphMemTrim(any_device()));
	}
}

static void call_context(void)
{
	CUcontext ctx = (CUcontext)(uintptr_t)UNTOUCHED;
	CUdevice device = any_device();

	switch (rnd(6)) {
	case 0:
		if (known_count[CONTEXT] > 40)
			break;
		say("cuCtxCreate", cuCtxCreate(rnd(16) ? &ctx : NULL, NULL,
					       rnd(8) ? 0 : any_enum(64), device));
		say_new(CONTEXT, (uintptr_t)ctx);
		break;
	case 1:
		ctx = (CUcontext)(uintptr_t)any_known(CONTEXT);
		say_gone("cuCtxDestroy", cuCtxDestroy(ctx), CONTEXT, (uintptr_t)ctx);
		forget_all();
		break;
	case 2:
		say("cuCtxSetCurrent",
		    cuCtxSetCurrent((CUcontext)(uintptr_t)any_known(CONTEXT)));
		break;
	case 3:
		say("cuDevicePrimaryCtxRetain",
		    cuDevicePrimaryCtxRetain(rnd(16) ? &ctx : NULL, device));
		say_new(CONTEXT, (uintptr_t)ctx);
		break;
	case 4:
		say("cuDevicePrimaryCtxRelease", cuDevicePrimaryCtxRelease(device));
		forget_all();
		break;
	default:
		say("cuCtxSetLimit", cuCtxSetLimit((CUlimit)any_enum(8),
						   rnd(8) ? rnd(8 * MIB) : any_size()));
	}
}

static void call_query(void)
{
	size_t a = UNTOUCHED, b = UNTOUCHED;

	switch (rnd(4)) {
	case 0:
	case 1: /* the truth of everything before */
		say("cuMemGetInfo", cuMemGetInfo(rnd(8) ? &a : NULL, rnd(8) ? &b : NULL));
		break;
	case 2:
		say("cuDeviceTotalMem",
		    cuDeviceTotalMem(rnd(16) ? &a : NULL, any_device()));
		break;
	default:
		say("cuCtxSynchronize", cuCtxSynchronize());
	}
	say_value(a);
	say_value(b);
}

static void call_host(void)
{
	static uint64_t host[32];
	void *ptr = (void *)(uintptr_t)UNTOUCHED;
	uint64_t *place = &host[rnd(COUNT(host))];

	if (*place) {
		say("cuMemFreeHost", cuMemFreeHost((void *)(uintptr_t)*place));
		*place = 0;
		return;
	}
	say("cuMemHostAlloc",
	    cuMemHostAlloc(rnd(16) ? &ptr : NULL, rnd(MIB), rnd(4) ? 0 : any_enum(8)));
	if (ptr != (void *)(uintptr_t)UNTOUCHED)
		*place = (uintptr_t)ptr;
}

int main(int argc, char **argv)
{
	static void (*const calls[])(void) = {
		call_allocate,         call_allocate, call_free,   call_free,   call_free,
		call_allocate_ordered, call_pool,     call_object, call_object, call_array,
		call_capture,          call_query,    call_host,
	};
	CUcontext ctx;

	if (argc != 3)
		return 2;
	state = strtoull(argv[1], NULL, 10) * 2 + 88172645463325253u;
	say("cuMemAlloc", cuMemAlloc(NULL, 1)); /* before cuInit */
	say("cuInit", cuInit(0));
	say("cuDevicePrimaryCtxRetain", cuDevicePrimaryCtxRetain(&ctx, 0));
	say_new(CONTEXT, (uintptr_t)ctx);
	say("cuCtxSetCurrent", cuCtxSetCurrent(ctx));
	for (unsigned i = 1; i < STREAMS; i++)
		say("cuStreamCreate", cuStreamCreate(&streams[i], CU_STREAM_NON_BLOCKING));
	for (unsigned long steps = strtoul(argv[2], NULL, 10); steps; steps--) {
		if (!rnd(40))
			call_context();
		else if (rnd(20) || cuCtxGetCurrent(&ctx) != CUDA_SUCCESS || ctx)
			calls[rnd(COUNT(calls))]();
		else
			say("cuCtxSetCurrent",
			    cuCtxSetCurrent((CUcontext)(uintptr_t)known[CONTEXT][0]));
	}
	printf("\n");
	return 0;
}
