/* SPDX-License-Identifier: Apache-2.0 */
#include "context.h"

/* A device's primary context keeps its handle for the life of the process; what was in it
 * goes with the last release or a reset. All under contexts_lock. */
static struct primary {
	struct context *ctx; /* made by the first use */
	unsigned int flags;
} primaries[RM_DEVICES_MAX];
static pthread_mutex_t primaries_lock = PTHREAD_MUTEX_INITIALIZER;

/* Makes the context of DEV exist, not necessarily alive. Under primaries_lock. */
static CUresult find(CUdevice dev, struct primary **out)
{
	struct context *made;
	uint32_t machine;
	CUresult r = sim_device_machine(dev, &machine);

	if (r != CUDA_SUCCESS)
		return r;
	*out = &primaries[dev];
	if ((*out)->ctx)
		return CUDA_SUCCESS;
	r = context_new(dev, 0, CONTEXT_PRIMARY, &made);
	if (r != CUDA_SUCCESS)
		return r;
	made->uses = 0;
	(*out)->ctx = made;
	return CUDA_SUCCESS;
}

/* Alive, counted USES more times. Under primaries_lock. */
static CUresult activate(CUdevice dev, unsigned int uses, struct context **out)
{
	struct primary *primary;
	CUresult r = find(dev, &primary);

	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&contexts_lock);
	if (!atomic_load(&primary->ctx->alive)) {
		primary->ctx->flags = primary->flags;
		r = context_revive(primary->ctx);
	}
	if (r == CUDA_SUCCESS)
		primary->ctx->uses += uses;
	pthread_mutex_unlock(&contexts_lock);
	*out = primary->ctx;
	return r;
}

CUresult sim_ctx_primary(CUdevice dev, struct sim_ctx **out)
{
	struct context *ctx;
	CUresult r;

	pthread_mutex_lock(&primaries_lock);
	r = activate(dev, 0, &ctx);
	pthread_mutex_unlock(&primaries_lock);
	if (r == CUDA_SUCCESS)
		*out = &ctx->base;
	return r;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
{
	struct context *ctx;
	CUresult r;

	SIM_ENTER();
	if (!pctx)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&primaries_lock);
	r = activate(dev, 1, &ctx);
	pthread_mutex_unlock(&primaries_lock);
	if (r == CUDA_SUCCESS)
		*pctx = ctx->handle;
	return r;
}

/* Under primaries_lock, which keeps the context from coming back half gone. */
static void end(struct context *ctx)
{
	bool alive;

	pthread_mutex_lock(&contexts_lock);
	alive = atomic_load(&ctx->alive);
	ctx->closing = true;
	ctx->uses = 0;
	pthread_mutex_unlock(&contexts_lock);
	if (alive)
		context_end(ctx);
}

static CUresult release(CUdevice dev)
{
	struct primary *primary;
	CUresult r;

	pthread_mutex_lock(&primaries_lock);
	r = find(dev, &primary);
	if (r == CUDA_SUCCESS && primary->ctx->uses == 0)
		r = CUDA_ERROR_INVALID_CONTEXT;
	if (r == CUDA_SUCCESS && --primary->ctx->uses == 0)
		end(primary->ctx);
	pthread_mutex_unlock(&primaries_lock);
	return r;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice dev)
{
	SIM_ENTER();
	return release(dev);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev)
{
	SIM_ENTER();
	return release(dev);
}

static CUresult reset(CUdevice dev)
{
	struct primary *primary;
	CUresult r;

	pthread_mutex_lock(&primaries_lock);
	r = find(dev, &primary);
	if (r == CUDA_SUCCESS)
		end(primary->ctx);
	pthread_mutex_unlock(&primaries_lock);
	return r;
}

CUresult cuDevicePrimaryCtxReset(CUdevice dev)
{
	SIM_ENTER();
	return reset(dev);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev)
{
	SIM_ENTER();
	return reset(dev);
}

/* The first ABI refuses while the context is active, the second one changes it. */
static CUresult set_flags(CUdevice dev, unsigned int flags, bool may_be_active)
{
	unsigned int sched = flags & CU_CTX_SCHED_MASK;
	struct primary *primary;
	CUresult r;

	if ((flags & ~(unsigned int)CU_CTX_FLAGS_MASK) || (sched & (sched - 1)))
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&primaries_lock);
	r = find(dev, &primary);
	if (r == CUDA_SUCCESS && atomic_load(&primary->ctx->alive)) {
		if (!may_be_active)
			r = CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE;
		else
			primary->ctx->flags = flags;
	}
	if (r == CUDA_SUCCESS)
		primary->flags = flags;
	pthread_mutex_unlock(&primaries_lock);
	return r;
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags)
{
	SIM_ENTER();
	return set_flags(dev, flags, false);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags)
{
	SIM_ENTER();
	return set_flags(dev, flags, true);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active)
{
	struct primary *primary;
	uint32_t machine;
	CUresult r;

	SIM_ENTER();
	r = sim_device_machine(dev, &machine);
	if (r != CUDA_SUCCESS)
		return r;
	if (!flags || !active)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&primaries_lock);
	primary = &primaries[dev];
	*flags = primary->flags;
	*active = primary->ctx && primary->ctx->uses > 0;
	pthread_mutex_unlock(&primaries_lock);
	return CUDA_SUCCESS;
}
