/* SPDX-License-Identifier: Apache-2.0 */
/* Values in memory that streams wait for and write. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "context.h"
#include "queue.h"
#include "stream.h"
#include "stream_list.h"

#define MAX_OPERATIONS 256
#define POLL_NS        20000

static bool is_memory(CUdeviceptr address, size_t bytes)
{
	struct sim_range range;

	return address % bytes == 0 && sim_mem_find(address, bytes, &range);
}

static uint64_t load(CUdeviceptr address, bool wide)
{
	void *p = (void *)(uintptr_t)address;

	return wide ? __atomic_load_n((uint64_t *)p, __ATOMIC_ACQUIRE)
		    : __atomic_load_n((uint32_t *)p, __ATOMIC_ACQUIRE);
}

static bool is_satisfied(const CUstreamBatchMemOpParams *p)
{
	bool wide = p->operation == CU_STREAM_MEM_OP_WAIT_VALUE_64;
	uint64_t have = load(p->waitValue.address, wide);
	uint64_t want = wide ? p->waitValue.value64 : p->waitValue.value;

	switch (p->waitValue.flags & 3) {
	case CU_STREAM_WAIT_VALUE_GEQ: /* cyclic */
		return wide ? (int64_t)(have - want) >= 0
			    : (int32_t)((uint32_t)have - (uint32_t)want) >= 0;
	case CU_STREAM_WAIT_VALUE_EQ:
		return have == want;
	case CU_STREAM_WAIT_VALUE_AND:
		return (have & want) != 0;
	default:
		return (wide ? ~(have | want) : (uint32_t) ~(have | want)) != 0;
	}
}

static void wait_value(const CUstreamBatchMemOpParams *p, struct sim_ctx *ctx)
{
	const struct timespec nap = { .tv_nsec = POLL_NS };

	/* A context that ends takes its waits with it. */
	while (!is_satisfied(p) && !(ctx && atomic_load(&((struct context *)ctx)->closing)))
		nanosleep(&nap, NULL);
}

static void write_value(const CUstreamBatchMemOpParams *p)
{
	void *at = (void *)(uintptr_t)p->writeValue.address;

	if (p->operation == CU_STREAM_MEM_OP_WRITE_VALUE_64)
		__atomic_store_n((uint64_t *)at, p->writeValue.value64, __ATOMIC_RELEASE);
	else
		__atomic_store_n((uint32_t *)at, p->writeValue.value, __ATOMIC_RELEASE);
}

static void reduce(const CUstreamBatchMemOpParams *p)
{
	void *at = (void *)(uintptr_t)p->atomicReduction.address;
	uint64_t value = p->atomicReduction.value;
	bool wide = p->atomicReduction.dataType == CU_STREAM_ATOMIC_REDUCTION_UNSIGNED_64;

	if (p->atomicReduction.reductionOp == CU_STREAM_ATOMIC_REDUCTION_OP_ADD) {
		if (wide)
			__atomic_fetch_add((uint64_t *)at, value, __ATOMIC_ACQ_REL);
		else
			__atomic_fetch_add((uint32_t *)at, (uint32_t)value,
					   __ATOMIC_ACQ_REL);
	} else if (p->atomicReduction.reductionOp == CU_STREAM_ATOMIC_REDUCTION_OP_OR) {
		if (wide)
			__atomic_fetch_or((uint64_t *)at, value, __ATOMIC_ACQ_REL);
		else
			__atomic_fetch_or((uint32_t *)at, (uint32_t)value,
					  __ATOMIC_ACQ_REL);
	} else if (wide) {
		__atomic_fetch_and((uint64_t *)at, value, __ATOMIC_ACQ_REL);
	} else {
		__atomic_fetch_and((uint32_t *)at, (uint32_t)value, __ATOMIC_ACQ_REL);
	}
}

CUresult sim_batch_run(const CUDA_BATCH_MEM_OP_NODE_PARAMS *params, struct sim_ctx *ctx)
{
	CUresult r = sim_lane_reach();

	if (r != CUDA_SUCCESS)
		return r;
	for (unsigned int i = 0; i < params->count; i++) {
		const CUstreamBatchMemOpParams *p = &params->paramArray[i];

		switch (p->operation) {
		case CU_STREAM_MEM_OP_WAIT_VALUE_32:
		case CU_STREAM_MEM_OP_WAIT_VALUE_64:
			wait_value(p, ctx);
			break;
		case CU_STREAM_MEM_OP_WRITE_VALUE_32:
		case CU_STREAM_MEM_OP_WRITE_VALUE_64:
			write_value(p);
			break;
		case CU_STREAM_MEM_OP_ATOMIC_REDUCTION:
			reduce(p);
			break;
		case CU_STREAM_MEM_OP_BARRIER:
		case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
			break;
		default:
			return CUDA_ERROR_INVALID_VALUE;
		}
	}
	return CUDA_SUCCESS;
}

static bool is_valid(const CUstreamBatchMemOpParams *p)
{
	const unsigned int wait_flags = 3u | CU_STREAM_WAIT_VALUE_FLUSH;
	bool wide;

	switch (p->operation) {
	case CU_STREAM_MEM_OP_WAIT_VALUE_32:
	case CU_STREAM_MEM_OP_WAIT_VALUE_64:
		wide = p->operation == CU_STREAM_MEM_OP_WAIT_VALUE_64;
		return (p->waitValue.flags & ~wait_flags) == 0 &&
		       is_memory(p->waitValue.address, wide ? 8 : 4);
	case CU_STREAM_MEM_OP_WRITE_VALUE_32:
	case CU_STREAM_MEM_OP_WRITE_VALUE_64:
		wide = p->operation == CU_STREAM_MEM_OP_WRITE_VALUE_64;
		return p->writeValue.flags <= CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER &&
		       is_memory(p->writeValue.address, wide ? 8 : 4);
	case CU_STREAM_MEM_OP_ATOMIC_REDUCTION:
		if (p->atomicReduction.reductionOp != CU_STREAM_ATOMIC_REDUCTION_OP_OR &&
		    p->atomicReduction.reductionOp != CU_STREAM_ATOMIC_REDUCTION_OP_AND &&
		    p->atomicReduction.reductionOp != CU_STREAM_ATOMIC_REDUCTION_OP_ADD)
			return false;
		if (p->atomicReduction.dataType == CU_STREAM_ATOMIC_REDUCTION_UNSIGNED_64)
			return is_memory(p->atomicReduction.address, 8);
		return p->atomicReduction.dataType ==
			       CU_STREAM_ATOMIC_REDUCTION_UNSIGNED_32 &&
		       is_memory(p->atomicReduction.address, 4);
	case CU_STREAM_MEM_OP_BARRIER:
	case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
		return true;
	default:
		return false;
	}
}

static CUresult run_batch(void *params, struct sim_ctx *ctx)
{
	return sim_batch_run(params, ctx);
}

static void drop_batch(void *params)
{
	free(((CUDA_BATCH_MEM_OP_NODE_PARAMS *)params)->paramArray);
}

/* Whether something in it is not there yet, so that the stream's own thread must wait. */
static bool must_wait(const CUstreamBatchMemOpParams *p, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		if ((p[i].operation == CU_STREAM_MEM_OP_WAIT_VALUE_32 ||
		     p[i].operation == CU_STREAM_MEM_OP_WAIT_VALUE_64) &&
		    !is_satisfied(&p[i]))
			return true;
	}
	return false;
}

static CUresult batch(CUstream handle, bool ptsz, unsigned int count,
		      const CUstreamBatchMemOpParams *list, unsigned int flags)
{
	CUDA_BATCH_MEM_OP_NODE_PARAMS params = { .count = count, .flags = flags };
	const struct sim_op op = {
		.type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP,
		.run = run_batch,
		.drop = drop_batch,
		.params = &params,
		.params_bytes = sizeof(params),
		.reaches = true,
	};
	struct sim_stream *s;
	CUresult r = sim_stream_get(handle, ptsz, &s);

	if (r != CUDA_SUCCESS)
		return r;
	if (!list || count == 0 || count > MAX_OPERATIONS || flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < count; i++) {
		if (!is_valid(&list[i]))
			return CUDA_ERROR_INVALID_VALUE;
	}
	params.ctx = sim_ctx_handle(s->ctx);
	params.paramArray = malloc(count * sizeof(*list));
	if (!params.paramArray)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(params.paramArray, list, count * sizeof(*list));
	if (sim_stream_capturing(s))
		return sim_submit(s, &op);
	return stream_submit(s->priv, &op, must_wait(list, count));
}

static CUresult one(CUstream handle, bool ptsz, CUstreamBatchMemOpType operation,
		    CUdeviceptr address, cuuint64_t value, unsigned int flags)
{
	CUstreamBatchMemOpParams p;

	/* Waits and writes have one layout. */
	memset(&p, 0, sizeof(p));
	p.operation = operation;
	p.waitValue.address = address;
	p.waitValue.value64 = value;
	p.waitValue.flags = flags;
	return batch(handle, ptsz, 1, &p, 0);
}

CUresult cuStreamWriteValue32(CUstream stream, CUdeviceptr addr, cuuint32_t value,
			      unsigned int flags)
{
	SIM_ENTER();
	return one(stream, false, CU_STREAM_MEM_OP_WRITE_VALUE_32, addr, value, flags);
}

CUresult cuStreamWriteValue32_ptsz(CUstream stream, CUdeviceptr addr, cuuint32_t value,
				   unsigned int flags)
{
	SIM_ENTER();
	return one(stream, true, CU_STREAM_MEM_OP_WRITE_VALUE_32, addr, value, flags);
}

CUresult cuStreamWriteValue64(CUstream stream, CUdeviceptr addr, cuuint64_t value,
			      unsigned int flags)
{
	SIM_ENTER();
	return one(stream, false, CU_STREAM_MEM_OP_WRITE_VALUE_64, addr, value, flags);
}

CUresult cuStreamWriteValue64_ptsz(CUstream stream, CUdeviceptr addr, cuuint64_t value,
				   unsigned int flags)
{
	SIM_ENTER();
	return one(stream, true, CU_STREAM_MEM_OP_WRITE_VALUE_64, addr, value, flags);
}

CUresult cuStreamWaitValue32(CUstream stream, CUdeviceptr addr, cuuint32_t value,
			     unsigned int flags)
{
	SIM_ENTER();
	return one(stream, false, CU_STREAM_MEM_OP_WAIT_VALUE_32, addr, value, flags);
}

CUresult cuStreamWaitValue32_ptsz(CUstream stream, CUdeviceptr addr, cuuint32_t value,
				  unsigned int flags)
{
	SIM_ENTER();
	return one(stream, true, CU_STREAM_MEM_OP_WAIT_VALUE_32, addr, value, flags);
}

CUresult cuStreamWaitValue64(CUstream stream, CUdeviceptr addr, cuuint64_t value,
			     unsigned int flags)
{
	SIM_ENTER();
	return one(stream, false, CU_STREAM_MEM_OP_WAIT_VALUE_64, addr, value, flags);
}

CUresult cuStreamWaitValue64_ptsz(CUstream stream, CUdeviceptr addr, cuuint64_t value,
				  unsigned int flags)
{
	SIM_ENTER();
	return one(stream, true, CU_STREAM_MEM_OP_WAIT_VALUE_64, addr, value, flags);
}

CUresult cuStreamBatchMemOp(CUstream stream, unsigned int count,
			    CUstreamBatchMemOpParams *paramArray, unsigned int flags)
{
	SIM_ENTER();
	return batch(stream, false, count, paramArray, flags);
}

CUresult cuStreamBatchMemOp_ptsz(CUstream stream, unsigned int count,
				 CUstreamBatchMemOpParams *paramArray, unsigned int flags)
{
	SIM_ENTER();
	return batch(stream, true, count, paramArray, flags);
}

CUresult cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr addr, cuuint32_t value,
				 unsigned int flags)
{
	SIM_ENTER();
	return one(stream, false, CU_STREAM_MEM_OP_WRITE_VALUE_32, addr, value, flags);
}

CUresult cuStreamWriteValue32_v2_ptsz(CUstream stream, CUdeviceptr addr, cuuint32_t value,
				      unsigned int flags)
{
	SIM_ENTER();
	return one(stream, true, CU_STREAM_MEM_OP_WRITE_VALUE_32, addr, value, flags);
}

CUresult cuStreamWriteValue64_v2(CUstream stream, CUdeviceptr addr, cuuint64_t value,
				 unsigned int flags)
{
	SIM_ENTER();
	return one(stream, false, CU_STREAM_MEM_OP_WRITE_VALUE_64, addr, value, flags);
}

CUresult cuStreamWriteValue64_v2_ptsz(CUstream stream, CUdeviceptr addr, cuuint64_t value,
				      unsigned int flags)
{
	SIM_ENTER();
	return one(stream, true, CU_STREAM_MEM_OP_WRITE_VALUE_64, addr, value, flags);
}

CUresult cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr addr, cuuint32_t value,
				unsigned int flags)
{
	SIM_ENTER();
	return one(stream, false, CU_STREAM_MEM_OP_WAIT_VALUE_32, addr, value, flags);
}

CUresult cuStreamWaitValue32_v2_ptsz(CUstream stream, CUdeviceptr addr, cuuint32_t value,
				     unsigned int flags)
{
	SIM_ENTER();
	return one(stream, true, CU_STREAM_MEM_OP_WAIT_VALUE_32, addr, value, flags);
}

CUresult cuStreamWaitValue64_v2(CUstream stream, CUdeviceptr addr, cuuint64_t value,
				unsigned int flags)
{
	SIM_ENTER();
	return one(stream, false, CU_STREAM_MEM_OP_WAIT_VALUE_64, addr, value, flags);
}

CUresult cuStreamWaitValue64_v2_ptsz(CUstream stream, CUdeviceptr addr, cuuint64_t value,
				     unsigned int flags)
{
	SIM_ENTER();
	return one(stream, true, CU_STREAM_MEM_OP_WAIT_VALUE_64, addr, value, flags);
}

CUresult cuStreamBatchMemOp_v2(CUstream stream, unsigned int count,
			       CUstreamBatchMemOpParams *paramArray, unsigned int flags)
{
	SIM_ENTER();
	return batch(stream, false, count, paramArray, flags);
}

CUresult cuStreamBatchMemOp_v2_ptsz(CUstream stream, unsigned int count,
				    CUstreamBatchMemOpParams *paramArray,
				    unsigned int flags)
{
	SIM_ENTER();
	return batch(stream, true, count, paramArray, flags);
}
