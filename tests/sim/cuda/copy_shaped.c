/* SPDX-License-Identifier: Apache-2.0 */
/* cuMemcpy2D*, cuMemcpy3D* and their peer forms: the old and the new ABI of each. */

#include "copy.h"

/* The fields that both ABIs and all shapes share by name; the compiler widens the old ones.
 */
#define FLAT_FIELDS(c)                                                                     \
	.srcXInBytes = (c)->srcXInBytes, .srcY = (c)->srcY,                                \
	.srcMemoryType = (c)->srcMemoryType, .srcHost = (c)->srcHost,                      \
	.srcDevice = (c)->srcDevice, .srcArray = (c)->srcArray, .srcPitch = (c)->srcPitch, \
	.dstXInBytes = (c)->dstXInBytes, .dstY = (c)->dstY,                                \
	.dstMemoryType = (c)->dstMemoryType, .dstHost = (c)->dstHost,                      \
	.dstDevice = (c)->dstDevice, .dstArray = (c)->dstArray, .dstPitch = (c)->dstPitch, \
	.WidthInBytes = (c)->WidthInBytes, .Height = (c)->Height

#define SOLID_FIELDS(c)                                                     \
	FLAT_FIELDS(c), .srcZ = (c)->srcZ, .srcLOD = (c)->srcLOD,           \
			.srcHeight = (c)->srcHeight, .dstZ = (c)->dstZ,     \
			.dstLOD = (c)->dstLOD, .dstHeight = (c)->dstHeight, \
			.Depth = (c)->Depth

static CUresult copy_2d(const CUDA_MEMCPY2D *c, CUstream stream, unsigned int mode)
{
	if (!c)
		return CUDA_ERROR_INVALID_VALUE;

	CUDA_MEMCPY3D copy = { FLAT_FIELDS(c), .Depth = 1 };

	return sim_copy_submit(&copy, stream, mode);
}

static CUresult copy_2d_v1(const CUDA_MEMCPY2D_v1 *c, CUstream stream, unsigned int mode)
{
	if (!c)
		return CUDA_ERROR_INVALID_VALUE;

	CUDA_MEMCPY3D copy = { FLAT_FIELDS(c), .Depth = 1 };

	return sim_copy_submit(&copy, stream, mode);
}

static CUresult copy_3d(const CUDA_MEMCPY3D *c, CUstream stream, unsigned int mode)
{
	if (!c)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_copy_submit(c, stream, mode);
}

static CUresult copy_3d_v1(const CUDA_MEMCPY3D_v1 *c, CUstream stream, unsigned int mode)
{
	if (!c)
		return CUDA_ERROR_INVALID_VALUE;

	CUDA_MEMCPY3D copy = { SOLID_FIELDS(c), .reserved0 = c->reserved0,
			       .reserved1 = c->reserved1 };

	return sim_copy_submit(&copy, stream, mode);
}

/* The contexts only say whose address an old, not unified, address is. */
static CUresult check_peer_context(CUmemorytype type, CUcontext handle)
{
	struct sim_ctx *ctx;

	if (type != CU_MEMORYTYPE_DEVICE)
		return CUDA_SUCCESS;
	return handle ? sim_ctx_of(handle, &ctx) : CUDA_ERROR_INVALID_CONTEXT;
}

static CUresult copy_3d_peer(const CUDA_MEMCPY3D_PEER *c, CUstream stream,
			     unsigned int mode)
{
	CUresult r;

	if (!c)
		return CUDA_ERROR_INVALID_VALUE;
	r = check_peer_context(c->srcMemoryType, c->srcContext);
	if (r == CUDA_SUCCESS)
		r = check_peer_context(c->dstMemoryType, c->dstContext);
	if (r != CUDA_SUCCESS)
		return r;

	CUDA_MEMCPY3D copy = { SOLID_FIELDS(c) };

	return sim_copy_submit(&copy, stream, mode);
}

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
ENTRY(cuMemcpy2D,		(const CUDA_MEMCPY2D_v1 *c), copy_2d_v1(c, NULL, SYNC))
ENTRY(cuMemcpy2D_v2,		(const CUDA_MEMCPY2D *c), copy_2d(c, NULL, SYNC))
ENTRY(cuMemcpy2D_v2_ptds,	(const CUDA_MEMCPY2D *c), copy_2d(c, NULL, PTDS))
ENTRY(cuMemcpy2DUnaligned,	(const CUDA_MEMCPY2D_v1 *c), copy_2d_v1(c, NULL, SYNC))
ENTRY(cuMemcpy2DUnaligned_v2,	(const CUDA_MEMCPY2D *c), copy_2d(c, NULL, SYNC))
ENTRY(cuMemcpy2DUnaligned_v2_ptds, (const CUDA_MEMCPY2D *c), copy_2d(c, NULL, PTDS))
ENTRY(cuMemcpy2DAsync,		(const CUDA_MEMCPY2D_v1 *c, CUstream s), copy_2d_v1(c, s, ASYNC))
ENTRY(cuMemcpy2DAsync_v2,	(const CUDA_MEMCPY2D *c, CUstream s), copy_2d(c, s, ASYNC))
ENTRY(cuMemcpy2DAsync_v2_ptsz,	(const CUDA_MEMCPY2D *c, CUstream s), copy_2d(c, s, PTSZ))

ENTRY(cuMemcpy3D,		(const CUDA_MEMCPY3D_v1 *c), copy_3d_v1(c, NULL, SYNC))
ENTRY(cuMemcpy3D_v2,		(const CUDA_MEMCPY3D *c), copy_3d(c, NULL, SYNC))
ENTRY(cuMemcpy3D_v2_ptds,	(const CUDA_MEMCPY3D *c), copy_3d(c, NULL, PTDS))
ENTRY(cuMemcpy3DAsync,		(const CUDA_MEMCPY3D_v1 *c, CUstream s), copy_3d_v1(c, s, ASYNC))
ENTRY(cuMemcpy3DAsync_v2,	(const CUDA_MEMCPY3D *c, CUstream s), copy_3d(c, s, ASYNC))
ENTRY(cuMemcpy3DAsync_v2_ptsz,	(const CUDA_MEMCPY3D *c, CUstream s), copy_3d(c, s, PTSZ))

ENTRY(cuMemcpy3DPeer,		(const CUDA_MEMCPY3D_PEER *c), copy_3d_peer(c, NULL, SYNC))
ENTRY(cuMemcpy3DPeer_ptds,	(const CUDA_MEMCPY3D_PEER *c), copy_3d_peer(c, NULL, PTDS))
ENTRY(cuMemcpy3DPeerAsync,	(const CUDA_MEMCPY3D_PEER *c, CUstream s), copy_3d_peer(c, s, ASYNC))
ENTRY(cuMemcpy3DPeerAsync_ptsz,	(const CUDA_MEMCPY3D_PEER *c, CUstream s), copy_3d_peer(c, s, PTSZ))
