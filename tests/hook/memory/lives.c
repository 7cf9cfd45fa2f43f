/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How charges end: with contexts, pools, waiting, retries. Slice: 256 MiB, no floor; after
 * each step the ledger equals the driver's own list.
 */
#include <cuda.h>
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "../check.h"
#include "judge.h"
#include "slice/page.h"

#define LIMIT (256 * MIB)

/* Without a declaration: twins for the default stream per thread. Deprecated: others. */
static void *old(const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	CHECK(found);
	return found;
}

static void twins(void)
{
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	__typeof__(&cuMemAllocAsync) alloc;
	__typeof__(&cuMemAllocFromPoolAsync) alloc_from;
	__typeof__(&cuMemFreeAsync) free_async;
	__typeof__(&cuStreamSynchronize) wait_for;
	CUdeviceptr p, q, none = 77;
	CUmemoryPool pool;

	*(void **)&alloc = old("cuMemAllocAsync_ptsz");
	*(void **)&alloc_from = old("cuMemAllocFromPoolAsync_ptsz");
	*(void **)&free_async = old("cuMemFreeAsync_ptsz");
	*(void **)&wait_for = old("cuStreamSynchronize_ptsz");
	OK(cuMemPoolCreate(&pool, &props));
	OK(alloc(&p, 10 * MIB, NULL));
	AGREE();
	OK(alloc_from(&q, 40 * MIB, pool, NULL));
	AGREE();
	CHECK(judge_ledger_bytes() >= 50 * MIB);
	CHECK_RESULT(alloc(&none, LIMIT, NULL), CUDA_ERROR_OUT_OF_MEMORY);
	CHECK_RESULT(alloc_from(&none, LIMIT, pool, NULL), CUDA_ERROR_OUT_OF_MEMORY);
	CHECK_RESULT(none, 77);
	OK(free_async(p, NULL));
	OK(free_async(q, NULL));
	OK(wait_for(NULL));
	LEDGER(0);
	OK(cuMemPoolDestroy(pool));
}

/* As frameworks do: allocate until refused, give something back, try again. */
static void retry(void)
{
	CUdeviceptr held[64], none;
	unsigned n;

	for (unsigned round = 0; round < 3; round++) {
		for (n = 0; n < 64; n++) {
			CUresult res;

			held[n] = 77;
			res = cuMemAlloc(&held[n], 10 * MIB);
			if (res == CUDA_SUCCESS)
				continue;
			CHECK_RESULT(res, CUDA_ERROR_OUT_OF_MEMORY);
			CHECK_RESULT(held[n], 77);
			break;
		}
		CHECK_RESULT(n, LIMIT / (10 * MIB));
		none = 77;
		CHECK_RESULT(cuMemAlloc(&none, 10 * MIB), CUDA_ERROR_OUT_OF_MEMORY);
		CHECK_RESULT(none, 77);
		OK(cuMemFree(held[round]));
		OK(cuMemAlloc(&held[round], 10 * MIB));
		AGREE();
		/* Smaller than what was refused fits beside it. */
		OK(cuMemAlloc(&none, LIMIT - n * 10 * MIB));
		OK(cuMemFree(none));
		while (n)
			OK(cuMemFree(held[--n]));
		LEDGER(0);
	}
}

static void set_limit(uint64_t bytes)
{
	struct tr_page page;
	struct tr_err err;
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/policy", getenv("TEST_DIR"));
	OK(tr_page_open_writer(&page, path, &err));
	tr_page_begin(&page);
	atomic_store(&page.writable->devices[0].limit_bytes, bytes);
	tr_page_end(&page);
	tr_page_close(&page);
}

/* A pool made under a smaller limit grows when the limit does. */
static void resized_pool(void)
{
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	CUdeviceptr p, q = 77;
	CUmemoryPool pool;

	OK(cuMemPoolCreate(&pool, &props));
	OK(cuMemAllocFromPoolAsync(&p, LIMIT - 32 * MIB, pool, 0));
	CHECK_RESULT(cuMemAllocFromPoolAsync(&q, LIMIT, pool, 0), CUDA_ERROR_OUT_OF_MEMORY);
	set_limit(3 * LIMIT);
	OK(cuMemAllocFromPoolAsync(&q, LIMIT, pool, 0));
	AGREE();
	set_limit(LIMIT); /* below what is in use: nothing new until that has fallen */
	CHECK_RESULT(cuMemAllocFromPoolAsync(&q, 64 * MIB, pool, 0),
		     CUDA_ERROR_OUT_OF_MEMORY);
	OK(cuMemFreeAsync(p, 0));
	OK(cuMemFreeAsync(q, 0));
	OK(cuMemPoolDestroy(pool));
	LEDGER(0);
}

/* Reserve that the driver gave up while the program waited is room for the whole slice at
 * once, whoever looks. */
static void synchronised_pool(void)
{
	CUstream stream;
	CUevent event;
	CUdeviceptr p;

	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	OK(cuEventCreate(&event, 0));
	OK(cuMemAllocAsync(&p, 40 * MIB, stream));
	OK(cuMemFreeAsync(p, stream));
	CHECK(judge_ledger_bytes() >= 40 * MIB);
	OK(cuStreamSynchronize(stream));
	LEDGER(0);
	OK(cuMemAllocAsync(&p, 40 * MIB, stream));
	OK(cuMemFreeAsync(p, stream));
	OK(cuEventRecord(event, stream));
	OK(cuEventSynchronize(event));
	LEDGER(0);
	OK(cuMemAllocAsync(&p, 40 * MIB, stream));
	OK(cuMemFree(p)); /* without a stream */
	OK(cuCtxSynchronize());
	LEDGER(0);
	OK(cuEventDestroy(event));
	OK(cuStreamDestroy(stream));
}

/* A destroyed pool lives while its allocations do, and those end with a reset. */
static void destroyed_pool(void)
{
	CUmemPoolProps props = { .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	CUmemoryPool pool;
	CUdeviceptr p, q;

	OK(cuMemPoolCreate(&pool, &props));
	OK(cuMemAllocFromPoolAsync(&p, 40 * MIB, pool, 0));
	OK(cuMemAllocFromPoolAsync(&q, 10 * MIB, pool, 0));
	OK(cuMemPoolDestroy(pool));
	AGREE();
	CHECK(judge_ledger_bytes() >= 50 * MIB);
	OK(cuDevicePrimaryCtxReset(0));
	LEDGER(0);
	(void)check_context();
	OK(cuMemAlloc(&p, LIMIT));
	OK(cuMemFree(p));
}

static CUgreenCtx make_green(CUcontext *ctx)
{
	CUdevResource whole, part, rest;
	CUdevResourceDesc desc;
	unsigned groups = 1;
	CUgreenCtx green;

	OK(cuDeviceGetDevResource(0, &whole, CU_DEV_RESOURCE_TYPE_SM));
	OK(cuDevSmResourceSplitByCount(&part, &groups, &whole, &rest, 0, 8));
	OK(cuDevResourceGenerateDesc(&desc, &part, 1));
	OK(cuGreenCtxCreate(&green, desc, 0, CU_GREEN_CTX_DEFAULT_STREAM));
	OK(cuCtxFromGreenCtx(ctx, green));
	return green;
}

/* What a green context allocated is the primary one's: it stays when the green one goes,
 * and ends with the primary. */
static void green(void)
{
	CUcontext primary, ctx, again, own;
	CUgreenCtx first, second;
	CUdeviceptr p, q, r;

	OK(cuCtxGetCurrent(&primary));
	first = make_green(&ctx);
	OK(cuCtxSetCurrent(ctx));
	OK(cuMemAlloc(&p, 5 * MIB));
	OK(cuMemAlloc(&q, 3 * MIB));
	AGREE();
	OK(cuCtxSetCurrent(primary));
	OK(cuGreenCtxDestroy(first));
	AGREE();
	CHECK(judge_ledger_bytes() >= 8 * MIB);
	/* A context of one's own with, maybe, the handle of the green one. */
	OK(cuCtxCreate(&own, NULL, 0, 0));
	OK(cuMemAlloc(&r, MIB));
	OK(cuCtxDestroy(own));
	AGREE();
	OK(cuMemFree(p));
	AGREE();
	second = make_green(&again);
	OK(cuCtxSetCurrent(again));
	OK(cuMemAlloc(&p, 5 * MIB));
	AGREE();
	OK(cuCtxSetCurrent(primary));
	OK(cuGreenCtxDestroy(second));
	OK(cuDevicePrimaryCtxReset(0));
	LEDGER(0);
}

static void attached(void)
{
	CUresult (*attach)(CUcontext *, unsigned), (*detach)(CUcontext);
	CUcontext own, same;
	CUdeviceptr p;

	*(void **)&attach = old("cuCtxAttach");
	*(void **)&detach = old("cuCtxDetach");
	OK(cuCtxCreate(&own, NULL, 0, 0));
	OK(cuMemAlloc(&p, 7 * MIB));
	if (attach(&same, 0) != CUDA_SUCCESS)
		SKIP("this driver attaches no contexts");
	CHECK(same == own);
	AGREE();
	OK(detach(own));
	LEDGER(7 * MIB); /* one holder is left */
	AGREE();
	OK(detach(own));
	LEDGER(0);
	CHECK(detach(own) != CUDA_SUCCESS);
	LEDGER(0);
}

#define ROUNDS 3000u

static void *set_limits(void *arg)
{
	CUcontext ctx = ((void **)arg)[0];
	CUlimit limit = *(CUlimit *)((void **)arg)[1];

	OK(cuCtxSetCurrent(ctx));
	for (unsigned i = 0; i < ROUNDS; i++)
		OK(cuCtxSetLimit(limit, (i % 7 + 9) * MIB));
	OK(cuCtxSetLimit(limit, 20 * MIB));
	return NULL;
}

/* Two threads at the limits of one context, and what the driver does not take at all. */
static void limits(void)
{
	CUlimit heap = CU_LIMIT_MALLOC_HEAP_SIZE, printf_limit = CU_LIMIT_PRINTF_FIFO_SIZE;
	uint64_t before = judge_ledger_bytes();
	pthread_t thread;
	CUcontext ctx;

	OK(cuCtxCreate(&ctx, NULL, 0, 0));
	CHECK_RESULT(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, (size_t)1 << 20),
		     CUDA_ERROR_INVALID_VALUE);
	CHECK_RESULT(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, (size_t)1 << 50),
		     CUDA_ERROR_INVALID_VALUE);
	OK(pthread_create(&thread, NULL, set_limits, (void *[]){ ctx, &heap }));
	(void)set_limits((void *[]){ ctx, &printf_limit });
	OK(pthread_join(thread, NULL));
	CHECK(judge_ledger_bytes() > before);
	OK(cuCtxDestroy(ctx));
	LEDGER(before);
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "twins", twins },
	{ "retry", retry },
	{ "resized_pool", resized_pool },
	{ "synchronised_pool", synchronised_pool },
	{ "destroyed_pool", destroyed_pool },
	{ "green", green },
	{ "attached", attached },
	{ "limits", limits },
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
	fprintf(stderr, "usage: lives CASE\n");
	return 2;
}
