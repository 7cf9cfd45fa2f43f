/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of arrays: units of 64 KiB in shared blocks of 2 MiB, or blocks of their own. */

#include <pthread.h>
#include <stdlib.h>

#include "array.h"

#define UNITS_PER_BLOCK (RM_BLOCK_BYTES / ARRAY_ALIGN_BYTES)
#define SMALL_BYTES     (RM_BLOCK_BYTES / 2)

_Static_assert(UNITS_PER_BLOCK == 32, "one bit of `used` for each unit");

struct array_block {
	struct array_block *next;
	uint64_t ctx_id;
	CUdeviceptr address;
	struct rm_phys phys;
	uint32_t used; /* a bit for each unit */
};

static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;
static struct array_block *blocks;

static uint32_t mask_of(size_t bytes, unsigned int first)
{
	size_t units = bytes / ARRAY_ALIGN_BYTES;

	return ((UINT32_C(1) << units) - 1) << first;
}

/* The first unit of a free run of BYTES in B, or -1. */
static int find_run(const struct array_block *b, size_t bytes)
{
	size_t units = bytes / ARRAY_ALIGN_BYTES;

	for (unsigned int i = 0; i + units <= UNITS_PER_BLOCK; i++)
		if (!(b->used & mask_of(bytes, i)))
			return (int)i;
	return -1;
}

static CUresult add_block(struct sim_ctx *ctx, struct array_block **out)
{
	struct array_block *b = calloc(1, sizeof *b);
	CUresult r;

	if (!b)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = sim_mem_take(ctx, RM_BLOCK_BYTES, RM_ARRAY, &b->address, &b->phys);
	if (r != CUDA_SUCCESS) {
		free(b);
		return r;
	}
	b->ctx_id = ctx->id;
	b->next = blocks;
	blocks = b;
	*out = b;
	return CUDA_SUCCESS;
}

static CUresult take_units(struct sim_ctx *ctx, struct array_memory *m, size_t bytes)
{
	struct array_block *b = blocks;
	CUresult r;
	int at;

	while (b && (b->ctx_id != ctx->id || find_run(b, bytes) < 0))
		b = b->next;
	if (!b) {
		r = add_block(ctx, &b);
		if (r != CUDA_SUCCESS)
			return r;
	}
	at = find_run(b, bytes);
	b->used |= mask_of(bytes, (unsigned int)at);
	m->block = b;
	m->address = b->address + (CUdeviceptr)at * ARRAY_ALIGN_BYTES;
	return CUDA_SUCCESS;
}

static void give_units(struct array_memory *m)
{
	struct array_block *b = m->block;
	struct array_block **link = &blocks;
	size_t offset = (size_t)(m->address - b->address);

	b->used &= ~mask_of(m->bytes, (unsigned int)(offset / ARRAY_ALIGN_BYTES));
	if (b->used)
		return;
	while (*link != b)
		link = &(*link)->next;
	*link = b->next;
	sim_mem_give(b->address, RM_BLOCK_BYTES, &b->phys);
	free(b);
}

static CUresult take_bytes(struct sim_ctx *ctx, struct array_memory *m, size_t bytes)
{
	CUresult r;

	if (bytes > SMALL_BYTES)
		return sim_mem_take(ctx, bytes, RM_ARRAY, &m->address, &m->phys);
	pthread_mutex_lock(&blocks_lock);
	r = take_units(ctx, m, bytes);
	pthread_mutex_unlock(&blocks_lock);
	return r;
}

static void give_bytes(struct array_memory *m)
{
	if (!m->block) {
		sim_mem_give(m->address, m->bytes, &m->phys);
		return;
	}
	pthread_mutex_lock(&blocks_lock);
	give_units(m);
	pthread_mutex_unlock(&blocks_lock);
}

CUresult array_memory_take(struct sim_ctx *ctx, struct array_memory *m, const void *handle,
			   size_t bytes)
{
	CUresult r;
	int added;

	*m = (struct array_memory){ .bytes = bytes };
	r = take_bytes(ctx, m, bytes);
	if (r != CUDA_SUCCESS) {
		m->bytes = 0;
		return r;
	}
	added = rm_object_add(RM_ARRAY, ctx->machine, (uint64_t)(uintptr_t)handle, bytes);
	if (added < 0) {
		give_bytes(m);
		m->bytes = 0;
		return sim_result(added);
	}
	return CUDA_SUCCESS;
}

void array_memory_give(struct array_memory *m, const void *handle)
{
	if (!m->bytes)
		return;
	rm_object_remove(RM_ARRAY, (uint64_t)(uintptr_t)handle);
	give_bytes(m);
	m->bytes = 0;
}
