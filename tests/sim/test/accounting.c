/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random calls against a naive model of what must be held: after every few the machine's
 * books, the list of live objects, the pools' attributes and the device's free memory all
 * agree with it, and every allocation still has the bytes written at both of its ends. Then
 * threads do it at once.
 *
 * accounting [SEED [STEPS]]: the seed is printed when a claim fails.
 */

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <pthread.h>

#include "machine.h"
#include "truth.h"

#define ROOM 400u
#define G    (2 * MIB)

enum what { NOTHING, PLAIN, POOLED, HANDLE };

static struct thing {
	enum what what;
	CUdeviceptr p; /* of a handle: where it is mapped */
	size_t bytes;
	CUmemGenericAllocationHandle handle;
	unsigned refs, maps; /* of a handle: maps are bits of its four places */
	unsigned char mark;
} things[ROOM];

static uint64_t seed = 20240607;
static uint64_t free_at_first;
static CUmemoryPool pool;

static uint64_t draw(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

static size_t draw_bytes(void)
{
	static const size_t most[] = { 600, 5000, 300000, MIB + 1, 9 * MIB };

	return 1 + draw(most[draw(5)]);
}

static size_t round_up(size_t n, size_t unit)
{
	return (n + unit - 1) / unit * unit;
}

static void mark_ends(struct thing *t)
{
	t->mark = (unsigned char)draw(256);
	((unsigned char *)(uintptr_t)t->p)[0] = t->mark;
	((unsigned char *)(uintptr_t)t->p)[t->bytes - 1] = t->mark;
}

static void check_ends(const struct thing *t)
{
	CHECK(((unsigned char *)(uintptr_t)t->p)[0] == t->mark);
	CHECK(((unsigned char *)(uintptr_t)t->p)[t->bytes - 1] == t->mark);
}

/* ---- steps ----------------------------------------------------------------------- */

static void create(struct thing *t)
{
	static const CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
						  .location = { CU_MEM_LOCATION_TYPE_DEVICE,
								{ 0 } } };
	unsigned kind = (unsigned)draw(3);

	t->what = kind == 0 ? PLAIN : kind == 1 ? POOLED : HANDLE;
	t->bytes = draw_bytes();
	if (t->what == PLAIN) {
		SUCCEEDS(cuMemAlloc_v2(&t->p, t->bytes));
		mark_ends(t);
	} else if (t->what == POOLED) {
		SUCCEEDS(cuMemAllocAsync(&t->p, t->bytes, NULL));
		mark_ends(t);
	} else {
		t->bytes = G * (1 + draw(3));
		t->refs = 1;
		t->maps = 0;
		SUCCEEDS(cuMemCreate(&t->handle, t->bytes, &prop, 0));
		SUCCEEDS(cuMemAddressReserve(&t->p, 4 * t->bytes, 0, 0, 0));
	}
}

static void end_handle(struct thing *t)
{
	if (t->refs > 0 || t->maps != 0)
		return;
	SUCCEEDS(cuMemAddressFree(t->p, 4 * t->bytes));
	t->what = NOTHING;
}

static void change_handle(struct thing *t)
{
	unsigned place = (unsigned)draw(4), bit = 1u << place;
	CUdeviceptr at = t->p + place * t->bytes;
	CUmemGenericAllocationHandle again;

	switch (draw(4)) {
	case 0: /* one mapping more or less */
		if ((t->maps & bit) != 0) {
			SUCCEEDS(cuMemUnmap(at, t->bytes));
			t->maps &= ~bit;
		} else if (t->refs > 0) {
			SUCCEEDS(cuMemMap(at, t->bytes, 0, t->handle, 0));
			t->maps |= bit;
		}
		break;
	case 1:
		if ((t->maps & bit) != 0) {
			SUCCEEDS(
				cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)at));
			CHECK(again == t->handle);
			t->refs++;
		} else {
			ANSWERS(CUDA_ERROR_INVALID_VALUE,
				cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)at));
		}
		break;
	case 2: /* everything mapped at neighbouring places */
		if (t->maps == 3) {
			SUCCEEDS(cuMemUnmap(t->p, 2 * t->bytes));
			t->maps = 0;
		}
		break;
	default:
		if (t->refs > 0) {
			SUCCEEDS(cuMemRelease(t->handle));
			t->refs--;
		} else {
			ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemRelease(t->handle));
		}
		break;
	}
	end_handle(t);
}

static void end_thing(struct thing *t)
{
	if (t->what == HANDLE) {
		change_handle(t);
		return;
	}
	check_ends(t);
	if (draw(2) != 0)
		SUCCEEDS(cuMemFree_v2(t->p));
	else
		SUCCEEDS(cuMemFreeAsync(t->p, NULL));
	t->what = NOTHING;
}

/* ---- the model ------------------------------------------------------------------- */

struct model {
	uint64_t plain_held, plain_listed, pool_used, handles;
	unsigned plain, handle_count;
};

/* The blocks that small allocations lie in, each once. */
static uint64_t count_shared_blocks(void)
{
	static uint64_t seen[ROOM];
	unsigned n = 0;

	for (unsigned i = 0; i < ROOM; i++) {
		unsigned k = 0;

		if (things[i].what != PLAIN || things[i].bytes > MIB)
			continue;
		while (k < n && seen[k] != things[i].p / G)
			k++;
		seen[k] = things[i].p / G;
		n += k == n;
	}
	return n;
}

static struct model work_out(void)
{
	struct model m = { .plain_held = count_shared_blocks() * G };

	for (unsigned i = 0; i < ROOM; i++) {
		const struct thing *t = &things[i];

		if (t->what == PLAIN) {
			m.plain++;
			m.plain_listed += round_up(t->bytes, 512);
			if (t->bytes > MIB)
				m.plain_held += round_up(t->bytes, G);
		} else if (t->what == POOLED) {
			m.pool_used += round_up(t->bytes, 512);
		} else if (t->what == HANDLE) {
			m.handle_count++;
			m.handles += t->bytes;
		}
	}
	return m;
}

static void compare(void)
{
	cuuint64_t reserved, used;
	struct model m = work_out();
	size_t free_bytes;

	SUCCEEDS(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT,
				       &reserved));
	SUCCEEDS(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
	CHECK(used == m.pool_used && reserved >= used && reserved % (32 * MIB) == 0);
	TRUTH(RM_BLOCK, m.plain_held, m.plain_listed, m.plain);
	TRUTH(RM_POOL, reserved, reserved, reserved != 0);
	TRUTH(RM_VMM, m.handles, m.handles, m.handle_count);
	SUCCEEDS(cuMemGetInfo_v2(&free_bytes, NULL));
	CHECK(free_at_first - free_bytes == m.plain_held + reserved + m.handles);
	if (m.pool_used == 0) {
		SUCCEEDS(cuStreamSynchronize(NULL));
		TRUTH(RM_POOL, 0, 0, 0);
	}
}

static void run_steps(unsigned steps)
{
	for (unsigned i = 0; i < steps; i++) {
		struct thing *t = &things[draw(ROOM)];

		if (t->what == NOTHING)
			create(t);
		else
			end_thing(t);
		if (draw(50) == 0)
			SUCCEEDS(cuStreamSynchronize(NULL));
		if (draw(20) == 0)
			compare();
	}
	for (unsigned i = 0; i < ROOM; i++)
		while (things[i].what != NOTHING)
			end_thing(&things[i]);
	compare();
	TRUTH(RM_BLOCK, 0, 0, 0);
	TRUTH(RM_VMM, 0, 0, 0);
}

/* ---- threads --------------------------------------------------------------------- */

static void *churn(void *arg)
{
	CUcontext ctx = arg;
	CUdeviceptr p[32] = { 0 };

	SUCCEEDS(cuCtxSetCurrent(ctx));
	for (unsigned i = 0; i < 20000; i++) {
		unsigned k = i * 7 % 32;
		size_t bytes = 1 + i * 131 % 70000;

		if (p[k] != 0) {
			CHECK(*(CUdeviceptr *)(uintptr_t)p[k] == p[k]);
			SUCCEEDS(cuMemFree_v2(p[k]));
		}
		SUCCEEDS(i % 3 == 0 ? cuMemAllocAsync(&p[k], bytes + 8, NULL)
				    : cuMemAlloc_v2(&p[k], bytes + 8));
		*(CUdeviceptr *)(uintptr_t)p[k] = p[k];
	}
	for (unsigned k = 0; k < 32; k++)
		SUCCEEDS(cuMemFree_v2(p[k]));
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned steps = argc > 2 ? (unsigned)atoi(argv[2]) : 20000;
	pthread_t threads[8];
	CUcontext ctx;
	size_t n;

	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0) | 1;
	fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
	machine_prepare("h100", "host");
	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(ctx));
	SUCCEEDS(cuDeviceGetDefaultMemPool(&pool, 0));
	SUCCEEDS(cuMemGetInfo_v2(&n, NULL));
	free_at_first = n;
	run_steps(steps);
	for (int i = 0; i < 8; i++)
		CHECK(pthread_create(&threads[i], NULL, churn, ctx) == 0);
	for (int i = 0; i < 8; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	compare();
	return 0;
}
