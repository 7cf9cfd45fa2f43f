/* SPDX-License-Identifier: Apache-2.0 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

#include "queue.h"

/* What nodes do, made from the driver's parameter structs and told by them again. */

#define BATCH_MAX 256u

struct sim_payload *sim_payload_new(CUgraphNodeType type, const void *params, size_t bytes,
				    CUresult (*run)(void *, struct sim_ctx *),
				    void (*drop)(void *))
{
	struct sim_payload *p = calloc(1, sizeof *p);
	void *copy = malloc(bytes ? bytes : 1);

	if (copy && bytes)
		memcpy(copy, params, bytes);
	if (!p || !copy) {
		if (copy && drop)
			drop(copy);
		free(copy);
		free(p);
		return NULL;
	}
	*p = (struct sim_payload){ 1, type, run, drop, copy };
	return p;
}

struct sim_payload *sim_payload_ref(struct sim_payload *p)
{
	if (p)
		p->refs++;
	return p;
}

void sim_payload_unref(struct sim_payload *p)
{
	if (!p || --p->refs)
		return;
	if (p->drop)
		p->drop(p->params);
	free(p->params);
	free(p);
}

/* ---- what runs ----------------------------------------------------------------------- */

static CUresult run_memcpy(void *params, struct sim_ctx *ctx)
{
	return sim_copy3d(params, ctx);
}

static CUresult run_memset(void *params, struct sim_ctx *ctx)
{
	return sim_memset_node(params, ctx);
}

static CUresult run_host(void *params, struct sim_ctx *ctx)
{
	const CUDA_HOST_NODE_PARAMS *p = params;

	(void)ctx;
	sim_lane_reach();
	sim_queue_set_in_callback(true);
	p->fn(p->userData);
	sim_queue_set_in_callback(false);
	return CUDA_SUCCESS;
}

static CUresult run_record(void *params, struct sim_ctx *ctx)
{
	const CUDA_EVENT_RECORD_NODE_PARAMS *p = params;

	(void)ctx;
	return sim_event_record_here(p->event);
}

static CUresult run_wait(void *params, struct sim_ctx *ctx)
{
	const CUDA_EVENT_WAIT_NODE_PARAMS *p = params;

	(void)ctx;
	return sim_event_wait_here(p->event);
}

static CUresult run_batch(void *params, struct sim_ctx *ctx)
{
	return sim_batch_run(params, ctx);
}

static void drop_batch(void *params)
{
	free(((CUDA_BATCH_MEM_OP_NODE_PARAMS *)params)->paramArray);
}

/* ---- checks -------------------------------------------------------------------------- */

static bool is_memory_type(CUmemorytype t)
{
	return t >= CU_MEMORYTYPE_HOST && t <= CU_MEMORYTYPE_UNIFIED;
}

static bool is_memcpy(const CUDA_MEMCPY3D *p)
{
	return is_memory_type(p->srcMemoryType) && is_memory_type(p->dstMemoryType) &&
	       p->WidthInBytes && p->Height && p->Depth && !p->srcLOD && !p->dstLOD;
}

static bool is_memset(const CUDA_MEMSET_NODE_PARAMS *p)
{
	if (!p->dst || !p->width || !p->height)
		return false;
	if (p->elementSize != 1 && p->elementSize != 2 && p->elementSize != 4)
		return false;
	return p->height == 1 || p->pitch >= p->width * p->elementSize;
}

static CUresult made(struct sim_payload *p, struct sim_payload **out)
{
	*out = p;
	return p ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult make_batch(const CUDA_BATCH_MEM_OP_NODE_PARAMS *from,
			   struct sim_payload **out)
{
	CUDA_BATCH_MEM_OP_NODE_PARAMS p = *from;

	if (!p.count || p.count > BATCH_MAX || !p.paramArray || p.flags)
		return CUDA_ERROR_INVALID_VALUE;
	p.paramArray = malloc(p.count * sizeof *p.paramArray);
	if (!p.paramArray)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(p.paramArray, from->paramArray, p.count * sizeof *p.paramArray);
	return made(sim_payload_new(CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, &p, sizeof p,
				    run_batch, drop_batch),
		    out);
}

static CUresult make_memcpy(const CUDA_MEMCPY_NODE_PARAMS *p, struct sim_payload **out,
			    CUcontext *ctx)
{
	if (p->flags || p->reserved || !is_memcpy(&p->copyParams))
		return CUDA_ERROR_INVALID_VALUE;
	*ctx = p->copyCtx;
	return made(sim_payload_new(CU_GRAPH_NODE_TYPE_MEMCPY, &p->copyParams,
				    sizeof p->copyParams, run_memcpy, NULL),
		    out);
}

static CUresult make_memset(const CUDA_MEMSET_NODE_PARAMS_v2 *v2, struct sim_payload **out,
			    CUcontext *ctx)
{
	CUDA_MEMSET_NODE_PARAMS p = { v2->dst,         v2->pitch, v2->value,
				      v2->elementSize, v2->width, v2->height };

	if (!is_memset(&p))
		return CUDA_ERROR_INVALID_VALUE;
	*ctx = v2->ctx;
	return made(
		sim_payload_new(CU_GRAPH_NODE_TYPE_MEMSET, &p, sizeof p, run_memset, NULL),
		out);
}

static CUresult make_host(const CUDA_HOST_NODE_PARAMS_v2 *v2, struct sim_payload **out)
{
	CUDA_HOST_NODE_PARAMS p = { v2->fn, v2->userData };

	if (!p.fn)
		return CUDA_ERROR_INVALID_VALUE;
	return made(sim_payload_new(CU_GRAPH_NODE_TYPE_HOST, &p, sizeof p, run_host, NULL),
		    out);
}

static CUresult make_event(CUgraphNodeType type, CUevent event, struct sim_payload **out)
{
	if (!sim_event_is(event))
		return CUDA_ERROR_INVALID_VALUE;
	return made(sim_payload_new(type, &event, sizeof event,
				    type == CU_GRAPH_NODE_TYPE_WAIT_EVENT ? run_wait
									  : run_record,
				    NULL),
		    out);
}

CUresult sim_payload_make(const CUgraphNodeParams *params, struct sim_payload **out,
			  CUcontext *ctx)
{
	CUDA_KERNEL_NODE_PARAMS kernel;
	CUDA_BATCH_MEM_OP_NODE_PARAMS batch;

	*ctx = NULL;
	*out = NULL;
	switch ((int)params->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		memcpy(&kernel, &params->kernel,
		       sizeof kernel); /* versions 2 and 3 are alike */
		return sim_kernel_payload(&kernel, out, ctx);
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		return make_memcpy(&params->memcpy, out, ctx);
	case CU_GRAPH_NODE_TYPE_MEMSET:
		return make_memset(&params->memset, out, ctx);
	case CU_GRAPH_NODE_TYPE_HOST:
		return make_host(&params->host, out);
	case CU_GRAPH_NODE_TYPE_EMPTY:
		return CUDA_SUCCESS;
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
		return make_event(CU_GRAPH_NODE_TYPE_WAIT_EVENT, params->eventWait.event,
				  out);
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
		return make_event(CU_GRAPH_NODE_TYPE_EVENT_RECORD,
				  params->eventRecord.event, out);
	case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
		memcpy(&batch, &params->memOp,
		       sizeof batch); /* versions 1 and 2 are alike */
		*ctx = batch.ctx;
		return make_batch(&batch, out);
	case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
	case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
	case CU_GRAPH_NODE_TYPE_CONDITIONAL:
	case CU_GRAPH_NODE_TYPE_MEMCPY_BATCH:
	case CU_GRAPH_NODE_TYPE_FABRIC_CPY_BATCH:
		return CUDA_ERROR_NOT_SUPPORTED;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

/* ---- what a node's parameters are ---------------------------------------------------- */

static void tell_memset(const struct sim_graph_node *n, CUDA_MEMSET_NODE_PARAMS_v2 *out)
{
	const CUDA_MEMSET_NODE_PARAMS *p = n->payload->params;

	*out = (CUDA_MEMSET_NODE_PARAMS_v2){ p->dst,   p->pitch,  p->value, p->elementSize,
					     p->width, p->height, n->ctx };
}

static void tell_kernel(const struct sim_graph_node *n, CUDA_KERNEL_NODE_PARAMS_v3 *out)
{
	memcpy(out, n->payload->params, sizeof *out);
}

CUresult sim_payload_params(const struct sim_graph_node *n, CUgraphNodeParams *out)
{
	const void *p = n->payload ? n->payload->params : NULL;

	memset(out, 0, sizeof *out);
	out->type = n->type;
	switch ((int)n->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		tell_kernel(n, &out->kernel);
		break;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		out->memcpy.copyCtx = n->ctx;
		memcpy(&out->memcpy.copyParams, p, sizeof out->memcpy.copyParams);
		break;
	case CU_GRAPH_NODE_TYPE_MEMSET:
		tell_memset(n, &out->memset);
		break;
	case CU_GRAPH_NODE_TYPE_HOST:
		memcpy(&out->host, p, sizeof(CUDA_HOST_NODE_PARAMS));
		break;
	case CU_GRAPH_NODE_TYPE_GRAPH:
		out->graph.graph = (CUgraph)n->child;
		out->graph.ownership = CU_GRAPH_CHILD_GRAPH_OWNERSHIP_INVALID;
		break;
	case CU_GRAPH_NODE_TYPE_EMPTY:
		break;
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
		memcpy(&out->eventRecord.event, p, sizeof out->eventRecord.event);
		break;
	case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
		memcpy(&out->alloc, p, sizeof out->alloc);
		break;
	case CU_GRAPH_NODE_TYPE_MEM_FREE:
		memcpy(&out->free.dptr, p, sizeof out->free.dptr);
		break;
	case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
		memcpy(&out->memOp, p, sizeof out->memOp);
		break;
	default:
		return CUDA_ERROR_NOT_SUPPORTED;
	}
	return CUDA_SUCCESS;
}
