/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Green contexts: a part of a device's multiprocessors. Memory belongs to the device's
 * primary context, which a green one keeps alive; only streams are its own.
 */
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "stream_list.h"

/* A descriptor is made once from resources and used by any number of contexts; the driver
 * has no call that frees one. */
#define DESC_MAGIC 0x73646573
struct CUdevResourceDesc_st {
	unsigned int magic;
	CUdevResource sm;
	CUdevResource workqueue;
};

/* Multiprocessors come in groups of this many. */
static unsigned int partition_of(const struct rm_device *facts)
{
	return facts->cc_major >= 9 ? 8 : facts->cc_major == 7 ? 2 : 4;
}

static CUresult tell_whole(CUdevice dev, CUdevResource *resource, CUdevResourceType type)
{
	const struct rm_device *facts;
	uint32_t machine;
	CUresult r = sim_device_machine(dev, &machine);

	if (r != CUDA_SUCCESS)
		return r;
	if (!resource)
		return CUDA_ERROR_INVALID_VALUE;
	facts = sim_device_facts(machine);
	memset(resource, 0, sizeof(*resource));
	resource->type = type;
	/* The device travels in the padding, so that a split knows whose part it makes. */
	resource->_internal_padding[0] = (unsigned char)(dev + 1);
	switch ((int)type) {
	case CU_DEV_RESOURCE_TYPE_SM:
		resource->sm.smCount = facts->sm_count;
		resource->sm.minSmPartitionSize = partition_of(facts);
		resource->sm.smCoscheduledAlignment = partition_of(facts);
		return CUDA_SUCCESS;
	case CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG:
		resource->wqConfig.device = dev;
		resource->wqConfig.wqConcurrencyLimit = 32;
		resource->wqConfig.sharingScope = CU_WORKQUEUE_SCOPE_DEVICE_CTX;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_RESOURCE_TYPE;
	}
}

CUresult cuDeviceGetDevResource(CUdevice device, CUdevResource *resource,
				CUdevResourceType type)
{
	SIM_ENTER();
	return tell_whole(device, resource, type);
}

static CUresult tell_context(const struct context *ctx, CUdevResource *resource,
			     CUdevResourceType type)
{
	if (!resource)
		return CUDA_ERROR_INVALID_VALUE;
	if (!ctx->base.green)
		return tell_whole(ctx->base.dev, resource, type);
	if (type == CU_DEV_RESOURCE_TYPE_SM)
		*resource = ctx->sm;
	else if (type == CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG &&
		 ctx->workqueue.type == type)
		*resource = ctx->workqueue;
	else
		return tell_whole(ctx->base.dev, resource, type);
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevResource(CUcontext hCtx, CUdevResource *resource,
			     CUdevResourceType type)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_ctx_of(hCtx, &ctx);
	return r == CUDA_SUCCESS ? tell_context((struct context *)ctx, resource, type) : r;
}

static struct context *green_of(CUgreenCtx handle)
{
	struct context *ctx = handle ? context_of((CUcontext)handle) : NULL;

	return ctx && ctx->base.green ? ctx : NULL;
}

CUresult cuGreenCtxGetDevResource(CUgreenCtx hCtx, CUdevResource *resource,
				  CUdevResourceType type)
{
	const struct context *ctx;

	SIM_ENTER();
	ctx = green_of(hCtx);
	return ctx ? tell_context(ctx, resource, type) : CUDA_ERROR_INVALID_CONTEXT;
}

/* ---- splitting ----------------------------------------------------------------------- */

static bool is_sm(const CUdevResource *resource)
{
	return resource && resource->type == CU_DEV_RESOURCE_TYPE_SM &&
	       resource->_internal_padding[0] != 0 && resource->sm.minSmPartitionSize != 0;
}

static CUdevResource part_of(const CUdevResource *whole, unsigned int count)
{
	CUdevResource part = *whole;

	part.sm.smCount = count;
	part.nextResource = NULL;
	if (count == 0)
		part.type = CU_DEV_RESOURCE_TYPE_INVALID;
	return part;
}

CUresult cuDevSmResourceSplitByCount(CUdevResource *result, unsigned int *nbGroups,
				     const CUdevResource *input, CUdevResource *remainder,
				     unsigned int flags, unsigned int minCount)
{
	const unsigned int all = CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING |
				 CU_DEV_SM_RESOURCE_SPLIT_MAX_POTENTIAL_CLUSTER_SIZE;
	unsigned int step, each, groups;

	SIM_ENTER();
	if (!nbGroups || !is_sm(input) || (flags & ~all))
		return CUDA_ERROR_INVALID_VALUE;
	step = flags & CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING
		       ? 2
		       : input->sm.minSmPartitionSize;
	if (minCount > input->sm.smCount)
		return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
	each = (minCount + step - 1) / step * step;
	each = each ? each : step;
	groups = input->sm.smCount / each;
	if (!result) { /* asks how many there could be */
		*nbGroups = groups;
		return CUDA_SUCCESS;
	}
	groups = *nbGroups < groups ? *nbGroups : groups;
	if (groups == 0)
		return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
	for (unsigned int i = 0; i < groups; i++)
		result[i] = part_of(input, each);
	if (remainder)
		*remainder = part_of(input, input->sm.smCount - groups * each);
	*nbGroups = groups;
	return CUDA_SUCCESS;
}

CUresult cuDevSmResourceSplit(CUdevResource *result, unsigned int nbGroups,
			      const CUdevResource *input, CUdevResource *remainder,
			      unsigned int flags,
			      CU_DEV_SM_RESOURCE_GROUP_PARAMS *groupParams)
{
	unsigned int left;

	SIM_ENTER();
	if (!is_sm(input) || nbGroups == 0 || !groupParams || flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	left = input->sm.smCount;
	for (unsigned int i = 0; i < nbGroups; i++) {
		unsigned int count = groupParams[i].smCount;

		if (groupParams[i].flags & ~(unsigned int)CU_DEV_SM_RESOURCE_GROUP_BACKFILL)
			return CUDA_ERROR_NOT_SUPPORTED;
		if (count == 0) /* discovery: as much as there is */
			count = left / input->sm.minSmPartitionSize *
				input->sm.minSmPartitionSize;
		if (count == 0 || count > left || count % 2 != 0)
			return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
		groupParams[i].smCount = count;
		if (result)
			result[i] = part_of(input, count);
		left -= count;
	}
	if (remainder)
		*remainder = part_of(input, left);
	return CUDA_SUCCESS;
}

CUresult cuDevResourceGenerateDesc(CUdevResourceDesc *phDesc, CUdevResource *resources,
				   unsigned int nbResources)
{
	CUdevResourceDesc desc;

	SIM_ENTER();
	if (!phDesc || !resources || nbResources == 0)
		return CUDA_ERROR_INVALID_VALUE;
	desc = calloc(1, sizeof(*desc));
	if (!desc)
		return CUDA_ERROR_OUT_OF_MEMORY;
	desc->magic = DESC_MAGIC;
	for (unsigned int i = 0; i < nbResources; i++) {
		const CUdevResource *r = &resources[i];

		if (r->type == CU_DEV_RESOURCE_TYPE_WORKQUEUE_CONFIG) {
			desc->workqueue = *r;
		} else if (is_sm(r) &&
			   (!desc->sm.type ||
			    desc->sm._internal_padding[0] == r->_internal_padding[0])) {
			unsigned int before = desc->sm.sm.smCount;

			desc->sm = *r;
			desc->sm.sm.smCount += before;
		} else {
			free(desc);
			return CUDA_ERROR_INVALID_RESOURCE_TYPE;
		}
	}
	*phDesc = desc;
	return CUDA_SUCCESS;
}

/* ---- contexts ------------------------------------------------------------------------ */

CUresult cuGreenCtxCreate(CUgreenCtx *phCtx, CUdevResourceDesc desc, CUdevice dev,
			  unsigned int flags)
{
	struct context *ctx;
	CUcontext primary;
	CUresult r;

	SIM_ENTER();
	if (!phCtx || !desc || desc->magic != DESC_MAGIC ||
	    flags != CU_GREEN_CTX_DEFAULT_STREAM ||
	    (desc->sm.type && desc->sm._internal_padding[0] != dev + 1))
		return CUDA_ERROR_INVALID_VALUE;
	r = cuDevicePrimaryCtxRetain(&primary, dev);
	if (r != CUDA_SUCCESS)
		return r;
	r = context_new(dev, 0, CONTEXT_GREEN, &ctx);
	if (r != CUDA_SUCCESS) {
		cuDevicePrimaryCtxRelease_v2(dev);
		return r;
	}
	ctx->sm = desc->sm;
	ctx->workqueue = desc->workqueue;
	if (!ctx->sm.type)
		tell_whole(dev, &ctx->sm, CU_DEV_RESOURCE_TYPE_SM);
	*phCtx = (CUgreenCtx)ctx->handle;
	return CUDA_SUCCESS;
}

CUresult cuGreenCtxDestroy(CUgreenCtx hCtx)
{
	struct context *ctx;
	CUdevice dev;

	SIM_ENTER();
	pthread_mutex_lock(&contexts_lock);
	ctx = green_of(hCtx);
	if (ctx && atomic_exchange(&ctx->closing, true))
		ctx = NULL;
	pthread_mutex_unlock(&contexts_lock);
	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	dev = ctx->base.dev;
	context_end(ctx);
	return cuDevicePrimaryCtxRelease_v2(dev);
}

CUresult cuCtxFromGreenCtx(CUcontext *pContext, CUgreenCtx hCtx)
{
	const struct context *ctx;

	SIM_ENTER();
	if (!pContext)
		return CUDA_ERROR_INVALID_VALUE;
	ctx = green_of(hCtx);
	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	*pContext = ctx->handle;
	return CUDA_SUCCESS;
}

CUresult cuGreenCtxGetId(CUgreenCtx greenCtx, unsigned long long *greenCtxId)
{
	const struct context *ctx;

	SIM_ENTER();
	ctx = green_of(greenCtx);
	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (!greenCtxId)
		return CUDA_ERROR_INVALID_VALUE;
	*greenCtxId = ctx->base.id;
	return CUDA_SUCCESS;
}

CUresult cuGreenCtxStreamCreate(CUstream *phStream, CUgreenCtx greenCtx, unsigned int flags,
				int priority)
{
	struct context *ctx;

	SIM_ENTER();
	ctx = green_of(greenCtx);
	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	/* Only streams that do not mind the legacy one. */
	if (flags != CU_STREAM_NON_BLOCKING)
		return CUDA_ERROR_INVALID_VALUE;
	return stream_create(&ctx->base, phStream, flags, priority);
}
