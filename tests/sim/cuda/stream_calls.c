/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of a stream, and host functions in it. */
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "queue.h"
#include "stream.h"
#include "stream_list.h"

static CUresult query(CUstream handle, bool ptsz, bool wait)
{
	struct sim_stream *s;
	CUresult r = sim_stream_get(handle, ptsz, &s);

	if (r == CUDA_SUCCESS)
		r = sim_capture_prohibits(s);
	if (r == CUDA_SUCCESS)
		r = sim_capture_forbids();
	if (r != CUDA_SUCCESS)
		return r;
	if (wait) {
		r = sim_stream_drain(s);
		sim_pool_sync(sim_stream_ctx(s)->machine);
		return r;
	}
	return sim_queue_is_idle(((struct stream *)s->priv)->queue) ? CUDA_SUCCESS
								    : sim_lane_not_ready();
}

CUresult cuStreamQuery(CUstream hStream)
{
	SIM_ENTER();
	return query(hStream, false, false);
}

CUresult cuStreamQuery_ptsz(CUstream hStream)
{
	SIM_ENTER();
	return query(hStream, true, false);
}

CUresult cuStreamSynchronize(CUstream hStream)
{
	SIM_ENTER();
	return query(hStream, false, true);
}

CUresult cuStreamSynchronize_ptsz(CUstream hStream)
{
	SIM_ENTER();
	return query(hStream, true, true);
}

static CUresult tell_priority(CUstream handle, bool ptsz, int *priority)
{
	struct stream *s;
	CUresult r = priority ? stream_find(handle, ptsz, &s) : CUDA_ERROR_INVALID_VALUE;

	if (r == CUDA_SUCCESS)
		*priority = s->base.priority;
	return r;
}

CUresult cuStreamGetPriority(CUstream hStream, int *priority)
{
	SIM_ENTER();
	return tell_priority(hStream, false, priority);
}

CUresult cuStreamGetPriority_ptsz(CUstream hStream, int *priority)
{
	SIM_ENTER();
	return tell_priority(hStream, true, priority);
}

static CUresult tell_flags(CUstream handle, bool ptsz, unsigned int *flags)
{
	struct stream *s;
	CUresult r = flags ? stream_find(handle, ptsz, &s) : CUDA_ERROR_INVALID_VALUE;

	if (r == CUDA_SUCCESS)
		*flags = s->base.flags;
	return r;
}

CUresult cuStreamGetFlags(CUstream hStream, unsigned int *flags)
{
	SIM_ENTER();
	return tell_flags(hStream, false, flags);
}

CUresult cuStreamGetFlags_ptsz(CUstream hStream, unsigned int *flags)
{
	SIM_ENTER();
	return tell_flags(hStream, true, flags);
}

static CUresult tell_id(CUstream handle, bool ptsz, unsigned long long *id)
{
	struct stream *s;
	CUresult r = id ? stream_find(handle, ptsz, &s) : CUDA_ERROR_INVALID_VALUE;

	if (r == CUDA_SUCCESS)
		*id = s->base.id;
	return r;
}

CUresult cuStreamGetId(CUstream hStream, unsigned long long *streamId)
{
	SIM_ENTER();
	return tell_id(hStream, false, streamId);
}

CUresult cuStreamGetId_ptsz(CUstream hStream, unsigned long long *streamId)
{
	SIM_ENTER();
	return tell_id(hStream, true, streamId);
}

static CUresult tell_device(CUstream handle, bool ptsz, CUdevice *device)
{
	struct stream *s;
	CUresult r = device ? stream_find(handle, ptsz, &s) : CUDA_ERROR_INVALID_VALUE;

	if (r == CUDA_SUCCESS)
		*device = s->base.ctx->dev;
	return r;
}

CUresult cuStreamGetDevice(CUstream hStream, CUdevice *device)
{
	SIM_ENTER();
	return tell_device(hStream, false, device);
}

CUresult cuStreamGetDevice_ptsz(CUstream hStream, CUdevice *device)
{
	SIM_ENTER();
	return tell_device(hStream, true, device);
}

/* The first ABI cannot name a green context; the second one tells either kind apart. */
static CUresult tell_context(CUstream handle, bool ptsz, CUcontext *ctx, CUgreenCtx *green)
{
	struct sim_stream *s;
	CUresult r = ctx ? sim_stream_get(handle, ptsz, &s) : CUDA_ERROR_INVALID_VALUE;

	if (r != CUDA_SUCCESS)
		return r;
	*ctx = sim_ctx_handle(s->ctx);
	if (green)
		*green = s->ctx->green ? (CUgreenCtx)*ctx : NULL;
	return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream hStream, CUcontext *pctx)
{
	SIM_ENTER();
	return tell_context(hStream, false, pctx, NULL);
}

CUresult cuStreamGetCtx_ptsz(CUstream hStream, CUcontext *pctx)
{
	SIM_ENTER();
	return tell_context(hStream, true, pctx, NULL);
}

CUresult cuStreamGetCtx_v2(CUstream hStream, CUcontext *pCtx, CUgreenCtx *pGreenCtx)
{
	CUcontext ctx = NULL;
	CUgreenCtx green = NULL;
	CUresult r;

	SIM_ENTER();
	if (!pCtx && !pGreenCtx)
		return CUDA_ERROR_INVALID_VALUE;
	r = tell_context(hStream, false, &ctx, &green);
	if (r == CUDA_SUCCESS && pCtx)
		*pCtx = green ? NULL : ctx;
	if (r == CUDA_SUCCESS && pGreenCtx)
		*pGreenCtx = green;
	return r;
}

CUresult cuStreamGetCtx_v2_ptsz(CUstream hStream, CUcontext *pCtx, CUgreenCtx *pGreenCtx)
{
	CUcontext ctx = NULL;
	CUgreenCtx green = NULL;
	CUresult r;

	SIM_ENTER();
	if (!pCtx && !pGreenCtx)
		return CUDA_ERROR_INVALID_VALUE;
	r = tell_context(hStream, true, &ctx, &green);
	if (r == CUDA_SUCCESS && pCtx)
		*pCtx = green ? NULL : ctx;
	if (r == CUDA_SUCCESS && pGreenCtx)
		*pGreenCtx = green;
	return r;
}

CUresult cuStreamGetGreenCtx(CUstream hStream, CUgreenCtx *phCtx)
{
	CUcontext ctx;

	SIM_ENTER();
	return phCtx ? tell_context(hStream, false, &ctx, phCtx) : CUDA_ERROR_INVALID_VALUE;
}

static CUresult tell_resource(CUstream handle, bool ptsz, CUdevResource *resource,
			      CUdevResourceType type)
{
	struct stream *s;
	CUresult r = stream_find(handle, ptsz, &s);

	return r == CUDA_SUCCESS
		       ? cuCtxGetDevResource(sim_ctx_handle(s->base.ctx), resource, type)
		       : r;
}

CUresult cuStreamGetDevResource(CUstream hStream, CUdevResource *resource,
				CUdevResourceType type)
{
	SIM_ENTER();
	return tell_resource(hStream, false, resource, type);
}

CUresult cuStreamGetDevResource_ptsz(CUstream hStream, CUdevResource *resource,
				     CUdevResourceType type)
{
	SIM_ENTER();
	return tell_resource(hStream, true, resource, type);
}

/* ---- attributes ---------------------------------------------------------------------- */

static CUresult get_attribute(struct stream *s, CUstreamAttrID attr,
			      CUstreamAttrValue *value)
{
	switch ((int)attr) {
	case CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW:
		value->accessPolicyWindow = s->window;
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY:
		value->syncPolicy = s->sync_policy ? s->sync_policy : CU_SYNC_POLICY_AUTO;
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_PRIORITY:
		value->priority = s->base.priority;
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN:
		value->memSyncDomain = s->domain;
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
		value->memSyncDomainMap = s->domain_map;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult set_attribute(struct stream *s, CUstreamAttrID attr,
			      const CUstreamAttrValue *value)
{
	switch ((int)attr) {
	case CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW:
		if (!(value->accessPolicyWindow.hitRatio >= 0.0f &&
		      value->accessPolicyWindow.hitRatio <= 1.0f))
			return CUDA_ERROR_INVALID_VALUE;
		s->window = value->accessPolicyWindow;
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY:
		if (value->syncPolicy < CU_SYNC_POLICY_AUTO ||
		    value->syncPolicy > CU_SYNC_POLICY_BLOCKING_SYNC)
			return CUDA_ERROR_INVALID_VALUE;
		s->sync_policy = value->syncPolicy;
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_PRIORITY:
		/* A channel that is open keeps its own. */
		s->base.priority = value->priority;
		s->queue->lane.priority = value->priority;
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN:
		s->domain = value->memSyncDomain;
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
		s->domain_map = value->memSyncDomainMap;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult use_attribute(CUstream handle, bool ptsz, CUstreamAttrID attr,
			      CUstreamAttrValue *out, const CUstreamAttrValue *in)
{
	struct stream *s;
	CUresult r = out || in ? stream_find(handle, ptsz, &s) : CUDA_ERROR_INVALID_VALUE;

	if (r != CUDA_SUCCESS)
		return r;
	return out ? get_attribute(s, attr, out) : set_attribute(s, attr, in);
}

CUresult cuStreamGetAttribute(CUstream hStream, CUstreamAttrID attr,
			      CUstreamAttrValue *value)
{
	SIM_ENTER();
	return use_attribute(hStream, false, attr, value, NULL);
}

CUresult cuStreamGetAttribute_ptsz(CUstream hStream, CUstreamAttrID attr,
				   CUstreamAttrValue *value)
{
	SIM_ENTER();
	return use_attribute(hStream, true, attr, value, NULL);
}

CUresult cuStreamSetAttribute(CUstream hStream, CUstreamAttrID attr,
			      const CUstreamAttrValue *param)
{
	SIM_ENTER();
	return use_attribute(hStream, false, attr, NULL, param);
}

CUresult cuStreamSetAttribute_ptsz(CUstream hStream, CUstreamAttrID attr,
				   const CUstreamAttrValue *param)
{
	SIM_ENTER();
	return use_attribute(hStream, true, attr, NULL, param);
}

static CUresult copy_attributes(CUstream to_handle, CUstream from_handle, bool ptsz)
{
	struct stream *to, *from;
	CUresult r = stream_find(to_handle, ptsz, &to);

	if (r == CUDA_SUCCESS)
		r = stream_find(from_handle, ptsz, &from);
	if (r != CUDA_SUCCESS)
		return r;
	to->window = from->window;
	to->sync_policy = from->sync_policy;
	to->domain = from->domain;
	to->domain_map = from->domain_map;
	return CUDA_SUCCESS;
}

CUresult cuStreamCopyAttributes(CUstream dstStream, CUstream srcStream)
{
	SIM_ENTER();
	return copy_attributes(dstStream, srcStream, false);
}

CUresult cuStreamCopyAttributes_ptsz(CUstream dstStream, CUstream srcStream)
{
	SIM_ENTER();
	return copy_attributes(dstStream, srcStream, true);
}
