/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd threads: four threads allocate and free in every way at once; at the end the ledger
 * is the driver's list again. crowd late: the driver still holds what a killed process had,
 * and gives it back a moment later ($TRANCHE_SIM_FAULT: its first cuMemAlloc says out of
 * memory).
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../check.h"
#include "judge.h"

#define THREADS 4u
#define ROUNDS  1500u
#define HELD    16u

static CUcontext context;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

struct held {
	enum { NOTHING, POINTER, POOLED, OBJECT } what;
	CUdeviceptr p;
	CUmemGenericAllocationHandle h;
};

static void take(struct held *held, uint64_t *random, CUstream stream)
{
	const CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
					   .location = {
						   .type = CU_MEM_LOCATION_TYPE_DEVICE } };
	size_t bytes = 1 + next_random(random) % (4 * MIB);

	switch (next_random(random) % 3) {
	case 0:
		if (cuMemAlloc(&held->p, bytes) == CUDA_SUCCESS)
			held->what = POINTER;
		break;
	case 1:
		if (cuMemAllocAsync(&held->p, bytes, stream) == CUDA_SUCCESS)
			held->what = POOLED;
		break;
	default:
		if (cuMemCreate(&held->h, 2 * MIB, &prop, 0) == CUDA_SUCCESS)
			held->what = OBJECT;
		break;
	}
}

static void give(struct held *held, CUstream stream)
{
	if (held->what == POINTER)
		OK(cuMemFree(held->p));
	else if (held->what == POOLED)
		OK(cuMemFreeAsync(held->p, stream));
	else if (held->what == OBJECT)
		OK(cuMemRelease(held->h));
	held->what = NOTHING;
}

static void *churn(void *arg)
{
	uint64_t random = 88172645463325252u + (uint64_t)(uintptr_t)arg * 77;
	struct held held[HELD] = { { .what = NOTHING } };
	CUstream stream;

	OK(cuCtxSetCurrent(context));
	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct held *one = &held[next_random(&random) % HELD];

		if (one->what == NOTHING)
			take(one, &random, stream);
		else
			give(one, stream);
	}
	for (unsigned i = 0; i < HELD; i++)
		give(&held[i], stream);
	OK(cuStreamDestroy(stream));
	return NULL;
}

static int threads(void)
{
	pthread_t all[THREADS];
	CUdeviceptr p;

	context = check_context();
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&all[i], NULL, churn, (void *)i) == 0);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(pthread_join(all[i], NULL) == 0);
	OK(cuCtxSynchronize());
	/* All of it can be had again: nothing leaked, nothing is counted twice. */
	OK(cuMemAlloc(&p, 256 * MIB));
	AGREE();
	OK(cuMemFree(p));
	LEDGER(0);
	return 0;
}

static void hold_memory(int ready)
{
	CUdeviceptr p;

	(void)check_context();
	CHECK_RESULT(cuMemAlloc(&p, MIB),
		     CUDA_ERROR_OUT_OF_MEMORY); /* nobody died: at once */
	OK(cuMemAlloc(&p, 100 * MIB));
	CHECK(write(ready, "", 1) == 1);
	for (;;)
		(void)pause();
}

static int late(void)
{
	CUdeviceptr p;
	int ends[2];
	char byte;
	pid_t child;

	CHECK(pipe(ends) == 0);
	child = fork();
	if (child == 0)
		hold_memory(ends[1]);
	CHECK(read(ends[0], &byte, 1) == 1);
	CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
	(void)check_context();
	OK(cuMemAlloc(&p, 100 * MIB));
	LEDGER(100 * MIB);
	OK(cuMemFree(p));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "threads") == 0)
		return threads();
	if (argc == 2 && strcmp(argv[1], "late") == 0)
		return late();
	fprintf(stderr, "usage: crowd threads|late\n");
	return 2;
}
