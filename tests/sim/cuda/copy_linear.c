/* SPDX-License-Identifier: Apache-2.0 */
/* cuMemcpy* between two runs of bytes: every direction, and every ABI of each on a line of
 * its own. */

#include <stdint.h>

#include "copy.h"

/* One end: memory, or a one-dimensional array at a byte offset. */
struct end {
	CUmemorytype type;
	uintptr_t address;
	CUarray array;
	size_t offset_bytes;
};

static struct end host_end(const void *p)
{
	return (struct end){ .type = CU_MEMORYTYPE_HOST, .address = (uintptr_t)p };
}

static struct end device_end(CUdeviceptr p)
{
	return (struct end){ .type = CU_MEMORYTYPE_DEVICE, .address = p };
}

static struct end any_end(CUdeviceptr p)
{
	return (struct end){ .type = CU_MEMORYTYPE_UNIFIED, .address = p };
}

static struct end array_end(CUarray array, size_t offset_bytes)
{
	return (struct end){ .type = CU_MEMORYTYPE_ARRAY,
			     .array = array,
			     .offset_bytes = offset_bytes };
}

static CUresult copy_line(struct end to, struct end from, size_t bytes, CUstream stream,
			  unsigned int mode)
{
	CUDA_MEMCPY3D copy = {
		.srcXInBytes = from.offset_bytes,
		.srcMemoryType = from.type,
		.srcHost = (const void *)from.address,
		.srcDevice = (CUdeviceptr)from.address,
		.srcArray = from.array,
		.dstXInBytes = to.offset_bytes,
		.dstMemoryType = to.type,
		.dstHost = (void *)to.address,
		.dstDevice = (CUdeviceptr)to.address,
		.dstArray = to.array,
		.WidthInBytes = bytes,
		.Height = 1,
		.Depth = 1,
	};

	return sim_copy_submit(&copy, stream, mode);
}

static CUresult copy_peer(CUdeviceptr to, CUcontext to_ctx, CUdeviceptr from,
			  CUcontext from_ctx, size_t bytes, CUstream stream,
			  unsigned int mode)
{
	struct sim_ctx *ctx;
	CUresult r;

	if (!to_ctx || !from_ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	r = sim_ctx_of(to_ctx, &ctx);
	if (r == CUDA_SUCCESS)
		r = sim_ctx_of(from_ctx, &ctx);
	if (r != CUDA_SUCCESS)
		return r;
	return copy_line(any_end(to), any_end(from), bytes, stream, mode);
}

static CUresult copy_attributed(CUdeviceptr to, CUdeviceptr from, size_t bytes,
				const CUmemcpyAttributes *attr, CUstream stream,
				unsigned int mode)
{
	if (!attr || attr->srcAccessOrder < CU_MEMCPY_SRC_ACCESS_ORDER_STREAM ||
	    attr->srcAccessOrder > CU_MEMCPY_SRC_ACCESS_ORDER_ANY ||
	    attr->flags & ~(unsigned int)CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE)
		return CUDA_ERROR_INVALID_VALUE;
	return copy_line(any_end(to), any_end(from), bytes, stream, mode);
}

/* An exported function: its name, its parameters, what it does. */
#define ENTRY(name, params, call) \
	CUresult name params      \
	{                         \
		SIM_ENTER();      \
		return call;      \
	}

#define SYNC  COPY_SYNC
#define PTDS  (COPY_SYNC | COPY_PTSZ)
#define ASYNC COPY_ASYNC
#define PTSZ  COPY_PTSZ

/* clang-format off */

/* Parameters by direction: `P` the pointer type, `N` the size type of the ABI. */
#define ARGS_UNIFIED	(CUdeviceptr to, CUdeviceptr from, size_t n)
#define ARGS_UNIFIED_S	(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s)
#define ARGS_PEER	(CUdeviceptr to, CUcontext tc, CUdeviceptr from, CUcontext fc, size_t n)
#define ARGS_PEER_S	(CUdeviceptr to, CUcontext tc, CUdeviceptr from, CUcontext fc, size_t n, CUstream s)
#define ARGS_HTOD(P, N)	(P to, const void *from, N n)
#define ARGS_DTOH(P, N)	(void *to, P from, N n)
#define ARGS_DTOD(P, N)	(P to, P from, N n)
#define ARGS_DTOA(P, N)	(CUarray to, N at, P from, N n)
#define ARGS_ATOD(P, N)	(P to, CUarray from, N at, N n)
#define ARGS_HTOA(N)	(CUarray to, N at, const void *from, N n)
#define ARGS_ATOH(N)	(void *to, CUarray from, N at, N n)
#define ARGS_ATOA(N)	(CUarray to, N at, CUarray from, N from_at, N n)
#define ARGS_HTOD_S(P, N) (P to, const void *from, N n, CUstream s)
#define ARGS_DTOH_S(P, N) (void *to, P from, N n, CUstream s)
#define ARGS_DTOD_S(P, N) (P to, P from, N n, CUstream s)
#define ARGS_HTOA_S(N)	(CUarray to, N at, const void *from, N n, CUstream s)
#define ARGS_ATOH_S(N)	(void *to, CUarray from, N at, N n, CUstream s)
#define ARGS_ATTR	(CUdeviceptr to, CUdeviceptr from, size_t n, CUmemcpyAttributes *attr, CUstream s)

#define UNIFIED(s, mode) copy_line(any_end(to), any_end(from), n, s, mode)
#define HTOD(s, mode)	copy_line(device_end(to), host_end(from), n, s, mode)
#define DTOH(s, mode)	copy_line(host_end(to), device_end(from), n, s, mode)
#define DTOD(s, mode)	copy_line(device_end(to), device_end(from), n, s, mode)
#define DTOA(s, mode)	copy_line(array_end(to, at), device_end(from), n, s, mode)
#define ATOD(s, mode)	copy_line(device_end(to), array_end(from, at), n, s, mode)
#define HTOA(s, mode)	copy_line(array_end(to, at), host_end(from), n, s, mode)
#define ATOH(s, mode)	copy_line(host_end(to), array_end(from, at), n, s, mode)
#define ATOA(s, mode)	copy_line(array_end(to, at), array_end(from, from_at), n, s, mode)

#define V1 CUdeviceptr_v1, unsigned int
#define V2 CUdeviceptr, size_t
#define EXPAND(args, abi) args(abi)

ENTRY(cuMemcpy,			ARGS_UNIFIED,	UNIFIED(NULL, SYNC))
ENTRY(cuMemcpy_ptds,		ARGS_UNIFIED,	UNIFIED(NULL, PTDS))
ENTRY(cuMemcpyAsync,		ARGS_UNIFIED_S,	UNIFIED(s, ASYNC))
ENTRY(cuMemcpyAsync_ptsz,	ARGS_UNIFIED_S,	UNIFIED(s, PTSZ))

ENTRY(cuMemcpyPeer,		ARGS_PEER,	copy_peer(to, tc, from, fc, n, NULL, SYNC))
ENTRY(cuMemcpyPeer_ptds,	ARGS_PEER,	copy_peer(to, tc, from, fc, n, NULL, PTDS))
ENTRY(cuMemcpyPeerAsync,	ARGS_PEER_S,	copy_peer(to, tc, from, fc, n, s, ASYNC))
ENTRY(cuMemcpyPeerAsync_ptsz,	ARGS_PEER_S,	copy_peer(to, tc, from, fc, n, s, PTSZ))

ENTRY(cuMemcpyHtoD,		EXPAND(ARGS_HTOD, V1), HTOD(NULL, SYNC))
ENTRY(cuMemcpyHtoD_v2,		EXPAND(ARGS_HTOD, V2), HTOD(NULL, SYNC))
ENTRY(cuMemcpyHtoD_v2_ptds,	EXPAND(ARGS_HTOD, V2), HTOD(NULL, PTDS))
ENTRY(cuMemcpyDtoH,		EXPAND(ARGS_DTOH, V1), DTOH(NULL, SYNC))
ENTRY(cuMemcpyDtoH_v2,		EXPAND(ARGS_DTOH, V2), DTOH(NULL, SYNC))
ENTRY(cuMemcpyDtoH_v2_ptds,	EXPAND(ARGS_DTOH, V2), DTOH(NULL, PTDS))
ENTRY(cuMemcpyDtoD,		EXPAND(ARGS_DTOD, V1), DTOD(NULL, SYNC))
ENTRY(cuMemcpyDtoD_v2,		EXPAND(ARGS_DTOD, V2), DTOD(NULL, SYNC))
ENTRY(cuMemcpyDtoD_v2_ptds,	EXPAND(ARGS_DTOD, V2), DTOD(NULL, PTDS))
ENTRY(cuMemcpyDtoA,		EXPAND(ARGS_DTOA, V1), DTOA(NULL, SYNC))
ENTRY(cuMemcpyDtoA_v2,		EXPAND(ARGS_DTOA, V2), DTOA(NULL, SYNC))
ENTRY(cuMemcpyDtoA_v2_ptds,	EXPAND(ARGS_DTOA, V2), DTOA(NULL, PTDS))
ENTRY(cuMemcpyAtoD,		EXPAND(ARGS_ATOD, V1), ATOD(NULL, SYNC))
ENTRY(cuMemcpyAtoD_v2,		EXPAND(ARGS_ATOD, V2), ATOD(NULL, SYNC))
ENTRY(cuMemcpyAtoD_v2_ptds,	EXPAND(ARGS_ATOD, V2), ATOD(NULL, PTDS))
ENTRY(cuMemcpyHtoA,		ARGS_HTOA(unsigned int), HTOA(NULL, SYNC))
ENTRY(cuMemcpyHtoA_v2,		ARGS_HTOA(size_t), HTOA(NULL, SYNC))
ENTRY(cuMemcpyHtoA_v2_ptds,	ARGS_HTOA(size_t), HTOA(NULL, PTDS))
ENTRY(cuMemcpyAtoH,		ARGS_ATOH(unsigned int), ATOH(NULL, SYNC))
ENTRY(cuMemcpyAtoH_v2,		ARGS_ATOH(size_t), ATOH(NULL, SYNC))
ENTRY(cuMemcpyAtoH_v2_ptds,	ARGS_ATOH(size_t), ATOH(NULL, PTDS))
ENTRY(cuMemcpyAtoA,		ARGS_ATOA(unsigned int), ATOA(NULL, SYNC))
ENTRY(cuMemcpyAtoA_v2,		ARGS_ATOA(size_t), ATOA(NULL, SYNC))
ENTRY(cuMemcpyAtoA_v2_ptds,	ARGS_ATOA(size_t), ATOA(NULL, PTDS))

ENTRY(cuMemcpyHtoDAsync,	EXPAND(ARGS_HTOD_S, V1), HTOD(s, ASYNC))
ENTRY(cuMemcpyHtoDAsync_v2,	EXPAND(ARGS_HTOD_S, V2), HTOD(s, ASYNC))
ENTRY(cuMemcpyHtoDAsync_v2_ptsz, EXPAND(ARGS_HTOD_S, V2), HTOD(s, PTSZ))
ENTRY(cuMemcpyDtoHAsync,	EXPAND(ARGS_DTOH_S, V1), DTOH(s, ASYNC))
ENTRY(cuMemcpyDtoHAsync_v2,	EXPAND(ARGS_DTOH_S, V2), DTOH(s, ASYNC))
ENTRY(cuMemcpyDtoHAsync_v2_ptsz, EXPAND(ARGS_DTOH_S, V2), DTOH(s, PTSZ))
ENTRY(cuMemcpyDtoDAsync,	EXPAND(ARGS_DTOD_S, V1), DTOD(s, ASYNC))
ENTRY(cuMemcpyDtoDAsync_v2,	EXPAND(ARGS_DTOD_S, V2), DTOD(s, ASYNC))
ENTRY(cuMemcpyDtoDAsync_v2_ptsz, EXPAND(ARGS_DTOD_S, V2), DTOD(s, PTSZ))
ENTRY(cuMemcpyHtoAAsync,	ARGS_HTOA_S(unsigned int), HTOA(s, ASYNC))
ENTRY(cuMemcpyHtoAAsync_v2,	ARGS_HTOA_S(size_t), HTOA(s, ASYNC))
ENTRY(cuMemcpyHtoAAsync_v2_ptsz, ARGS_HTOA_S(size_t), HTOA(s, PTSZ))
ENTRY(cuMemcpyAtoHAsync,	ARGS_ATOH_S(unsigned int), ATOH(s, ASYNC))
ENTRY(cuMemcpyAtoHAsync_v2,	ARGS_ATOH_S(size_t), ATOH(s, ASYNC))
ENTRY(cuMemcpyAtoHAsync_v2_ptsz, ARGS_ATOH_S(size_t), ATOH(s, PTSZ))

ENTRY(cuMemcpyWithAttributesAsync, ARGS_ATTR, copy_attributed(to, from, n, attr, s, ASYNC))
ENTRY(cuMemcpyWithAttributesAsync_ptsz, ARGS_ATTR, copy_attributed(to, from, n, attr, s, PTSZ))
