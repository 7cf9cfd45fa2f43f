/* SPDX-License-Identifier: Apache-2.0 */
/* What a context is set to: limits (some take device memory), caches, flags, peers. */
#include <string.h>

#include "context.h"

/* Taken by every context and part of its fixed bytes; only what exceeds them is taken anew.
 */
#define DEFAULT_STACK_BYTES  1024u
#define DEFAULT_PRINTF_BYTES (1u << 20)
#define DEFAULT_HEAP_BYTES   (8u << 20)
#define MAX_STACK_BYTES      (512u << 10)

static struct context *full(struct sim_ctx *ctx)
{
	return (struct context *)ctx;
}

void limits_reset(struct context *ctx)
{
	memset(ctx->limit_memory, 0, sizeof(ctx->limit_memory));
	memset(ctx->limits, 0, sizeof(ctx->limits));
	ctx->limits[CU_LIMIT_STACK_SIZE] = DEFAULT_STACK_BYTES;
	ctx->limits[CU_LIMIT_PRINTF_FIFO_SIZE] = DEFAULT_PRINTF_BYTES;
	ctx->limits[CU_LIMIT_MALLOC_HEAP_SIZE] = DEFAULT_HEAP_BYTES;
	ctx->limits[CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2;
	ctx->limits[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048;
	ctx->limits[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64;
}

void limits_drop(struct context *ctx)
{
	for (int i = 0; i < LIMITS_WITH_MEMORY; i++) {
		if (ctx->limit_memory[i].id)
			rm_phys_unref(ctx->limit_memory[i].id);
		ctx->limit_memory[i].id = 0;
	}
}

/* Device bytes beyond the context's own that LIMIT at VALUE takes. Every resident thread
 * has a stack, whether or not it runs. */
static uint64_t extra_bytes(const struct context *ctx, CUlimit limit, size_t value)
{
	const struct rm_device *facts = sim_device_facts(ctx->base.machine);
	uint64_t threads = (uint64_t)facts->threads_per_sm * facts->sm_count;
	uint64_t bytes = 0;

	if (limit == CU_LIMIT_STACK_SIZE && value > DEFAULT_STACK_BYTES)
		bytes = (value - DEFAULT_STACK_BYTES) * threads;
	else if (limit == CU_LIMIT_PRINTF_FIFO_SIZE && value > DEFAULT_PRINTF_BYTES)
		bytes = value - DEFAULT_PRINTF_BYTES;
	else if (limit == CU_LIMIT_MALLOC_HEAP_SIZE && value > DEFAULT_HEAP_BYTES)
		bytes = value - DEFAULT_HEAP_BYTES;
	if (bytes > UINT64_MAX - RM_BLOCK_BYTES)
		return UINT64_MAX / RM_BLOCK_BYTES * RM_BLOCK_BYTES;
	return (bytes + RM_BLOCK_BYTES - 1) / RM_BLOCK_BYTES * RM_BLOCK_BYTES;
}

/* Takes the new memory before it gives back the old, so that a refusal changes nothing. */
static CUresult set_with_memory(struct context *ctx, CUlimit limit, size_t value)
{
	uint64_t bytes = extra_bytes(ctx, limit, value);
	struct rm_phys *held = &ctx->limit_memory[limit];
	struct rm_phys taken = { 0 };
	int r;

	if (held->id && held->bytes == bytes) {
		ctx->limits[limit] = value;
		return CUDA_SUCCESS;
	}
	if (bytes > 0) {
		r = rm_phys_alloc(&taken, ctx->base.machine, bytes, RM_LIMITS);
		if (r < 0)
			return sim_result(r);
	}
	if (held->id)
		rm_phys_unref(held->id);
	*held = taken;
	ctx->limits[limit] = value;
	return CUDA_SUCCESS;
}

static CUresult set_limit(struct context *ctx, CUlimit limit, size_t value)
{
	const struct rm_device *facts = sim_device_facts(ctx->base.machine);

	switch ((int)limit) {
	case CU_LIMIT_STACK_SIZE:
		if (value > MAX_STACK_BYTES)
			return CUDA_ERROR_INVALID_VALUE;
		return set_with_memory(ctx, limit, (value + 15) / 16 * 16);
	case CU_LIMIT_PRINTF_FIFO_SIZE:
	case CU_LIMIT_MALLOC_HEAP_SIZE:
		return set_with_memory(ctx, limit, value);
	case CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH:
		/* Gone with compute capability 9. */
		if (facts->cc_major >= 9)
			return CUDA_ERROR_UNSUPPORTED_LIMIT;
		break;
	case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
		if (value > 128)
			return CUDA_ERROR_INVALID_VALUE;
		break;
	case CU_LIMIT_PERSISTING_L2_CACHE_SIZE:
		if (facts->cc_major < 8)
			return CUDA_ERROR_UNSUPPORTED_LIMIT;
		if (value > facts->l2_bytes / 4 * 3)
			value = facts->l2_bytes / 4 * 3;
		break;
	case CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT:
		break;
	default:
		return CUDA_ERROR_UNSUPPORTED_LIMIT;
	}
	ctx->limits[limit] = value;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if ((unsigned int)limit >= CU_LIMIT_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&contexts_lock);
	r = set_limit(full(ctx), limit, value);
	pthread_mutex_unlock(&contexts_lock);
	return r;
}

CUresult cuCtxGetLimit(size_t *pvalue, CUlimit limit)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (!pvalue || (unsigned int)limit >= CU_LIMIT_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	if (limit > CU_LIMIT_PERSISTING_L2_CACHE_SIZE)
		return CUDA_ERROR_UNSUPPORTED_LIMIT;
	*pvalue = full(ctx)->limits[limit];
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCacheConfig(CUfunc_cache *pconfig)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (!pconfig)
		return CUDA_ERROR_INVALID_VALUE;
	*pconfig = full(ctx)->cache;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if ((unsigned int)config > CU_FUNC_CACHE_PREFER_EQUAL)
		return CUDA_ERROR_INVALID_VALUE;
	full(ctx)->cache = config;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetSharedMemConfig(CUsharedconfig *pConfig)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (!pConfig)
		return CUDA_ERROR_INVALID_VALUE;
	*pConfig = full(ctx)->shared;
	return CUDA_SUCCESS;
}

/* Banks are four bytes wide on every modelled device; the wish is checked and has no
 * effect. */
CUresult cuCtxSetSharedMemConfig(CUsharedconfig config)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	return (unsigned int)config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE
		       ? CUDA_ERROR_INVALID_VALUE
		       : CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned int *version)
{
	struct sim_ctx *found;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_of(ctx, &found);
	if (r != CUDA_SUCCESS)
		return r;
	if (!version)
		return CUDA_ERROR_INVALID_VALUE;
	*version = full(found)->api_version;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetId(CUcontext ctx, unsigned long long *ctxId)
{
	struct sim_ctx *found;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_of(ctx, &found);
	if (r != CUDA_SUCCESS)
		return r;
	if (!ctxId)
		return CUDA_ERROR_INVALID_VALUE;
	*ctxId = found->id;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetFlags(unsigned int *flags)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (!flags)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = full(ctx)->flags;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetFlags(unsigned int flags)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (flags & ~(unsigned int)CU_CTX_FLAGS_MASK)
		return CUDA_ERROR_INVALID_VALUE;
	full(ctx)->flags = flags;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int *leastPriority, int *greatestPriority)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (leastPriority)
		*leastPriority = 0;
	if (greatestPriority)
		*greatestPriority = -5;
	return CUDA_SUCCESS;
}

CUresult cuCtxResetPersistingL2Cache(void)
{
	struct sim_ctx *ctx;

	SIM_ENTER();
	return sim_ctx_current(&ctx);
}

CUresult cuCtxGetExecAffinity(CUexecAffinityParam *pExecAffinity, CUexecAffinityType type)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (!pExecAffinity || type != CU_EXEC_AFFINITY_TYPE_SM_COUNT)
		return CUDA_ERROR_INVALID_VALUE;
	pExecAffinity->type = type;
	pExecAffinity->param.smCount.val = sim_device_facts(ctx->machine)->sm_count;
	return CUDA_SUCCESS;
}

/* ---- peers --------------------------------------------------------------------------- */

static CUresult find_pair(CUcontext peer, struct sim_ctx **mine, struct sim_ctx **theirs)
{
	CUresult r = sim_ctx_current(mine);

	if (r != CUDA_SUCCESS)
		return r;
	if (!peer)
		return CUDA_ERROR_INVALID_CONTEXT;
	r = sim_ctx_of(peer, theirs);
	if (r == CUDA_SUCCESS && (*mine)->dev == (*theirs)->dev)
		r = CUDA_ERROR_INVALID_CONTEXT;
	return r;
}

static uint64_t *find_peer(struct context *ctx, uint64_t id)
{
	for (int i = 0; i < RM_DEVICES_MAX; i++) {
		if (ctx->peers[i] == id)
			return &ctx->peers[i];
	}
	return NULL;
}

CUresult cuCtxEnablePeerAccess(CUcontext peerContext, unsigned int Flags)
{
	struct sim_ctx *mine, *theirs;
	uint64_t *place;
	int can = 0;
	CUresult r;

	SIM_ENTER();
	if (Flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	r = find_pair(peerContext, &mine, &theirs);
	if (r == CUDA_SUCCESS)
		r = cuDeviceCanAccessPeer(&can, mine->dev, theirs->dev);
	if (r != CUDA_SUCCESS)
		return r;
	if (!can)
		return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
	pthread_mutex_lock(&contexts_lock);
	if (find_peer(full(mine), theirs->id)) {
		r = CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
	} else {
		place = find_peer(full(mine), 0);
		if (place)
			*place = theirs->id;
		else
			r = CUDA_ERROR_TOO_MANY_PEERS;
	}
	pthread_mutex_unlock(&contexts_lock);
	return r;
}

CUresult cuCtxDisablePeerAccess(CUcontext peerContext)
{
	struct sim_ctx *mine, *theirs;
	uint64_t *place;
	CUresult r;

	SIM_ENTER();
	r = find_pair(peerContext, &mine, &theirs);
	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&contexts_lock);
	place = find_peer(full(mine), theirs->id);
	if (place)
		*place = 0;
	else
		r = CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
	pthread_mutex_unlock(&contexts_lock);
	return r;
}
