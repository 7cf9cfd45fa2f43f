/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

#include <stdlib.h>

/*
 * Memory for code and module variables: chunks of 2 MiB per context, filled from the front,
 * given back when nothing in them lives. As on the real driver, many small modules share a
 * chunk.
 */

#define CODE_ALIGN 256u

struct sim_code_chunk {
	struct sim_code_chunk *next;
	struct sim_ctx *ctx;
	CUdeviceptr at;
	size_t bytes, filled, parts;
	struct rm_phys phys;
};

static struct sim_code_chunk *chunks; /* under the lock of the modules */

static struct sim_code_chunk *chunk_with_room(struct sim_ctx *ctx, size_t bytes)
{
	for (struct sim_code_chunk *c = chunks; c; c = c->next)
		if (c->ctx == ctx && c->bytes - c->filled >= bytes)
			return c;
	return NULL;
}

static CUresult add_chunk(struct sim_ctx *ctx, size_t bytes, struct sim_code_chunk **out)
{
	struct sim_code_chunk *c = calloc(1, sizeof *c);

	if (!c)
		return CUDA_ERROR_OUT_OF_MEMORY;
	c->bytes = (bytes + RM_BLOCK_BYTES - 1) & ~(size_t)(RM_BLOCK_BYTES - 1);
	CUresult r = sim_mem_take(ctx, c->bytes, RM_CODE, &c->at, &c->phys);
	if (r != CUDA_SUCCESS) {
		free(c);
		return r;
	}
	c->ctx = ctx;
	c->next = chunks;
	chunks = c;
	*out = c;
	return CUDA_SUCCESS;
}

CUresult sim_code_take(struct sim_ctx *ctx, size_t bytes, struct sim_code *code)
{
	size_t rounded = (bytes + CODE_ALIGN - 1) & ~(size_t)(CODE_ALIGN - 1);

	if (!bytes)
		return CUDA_SUCCESS;
	struct sim_code_chunk *c = chunk_with_room(ctx, rounded);
	CUresult r = c ? CUDA_SUCCESS : add_chunk(ctx, rounded, &c);
	if (r != CUDA_SUCCESS)
		return r;
	*code = (struct sim_code){ c->at + c->filled, bytes, c };
	c->filled += rounded;
	c->parts++;
	return CUDA_SUCCESS;
}

void sim_code_give(struct sim_code *code)
{
	struct sim_code_chunk *gone = code->bytes ? code->chunk : NULL;

	code->bytes = 0;
	if (!gone || --gone->parts)
		return;
	for (struct sim_code_chunk **p = &chunks; *p; p = &(*p)->next)
		if (*p == gone) {
			*p = gone->next;
			break;
		}
	sim_mem_give(gone->at, gone->bytes, &gone->phys);
	free(gone);
}
