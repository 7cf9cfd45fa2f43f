/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches of copies. Every operation is checked before the first one runs, so that a batch
 * is done whole or not at all; a capture records one memcpy node for each.
 */

#include <stdint.h>

#include "copy.h"

static bool valid_order(CUmemcpySrcAccessOrder order)
{
	return order >= CU_MEMCPY_SRC_ACCESS_ORDER_STREAM &&
	       order <= CU_MEMCPY_SRC_ACCESS_ORDER_ANY;
}

static bool valid_flags(unsigned int flags)
{
	return !(flags & ~(unsigned int)CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE);
}

/* The driver takes no batch on the legacy stream. */
static bool is_legacy(CUstream stream, unsigned int mode)
{
	return stream == CU_STREAM_LEGACY || (!stream && !(mode & COPY_PTSZ));
}

static void set_failed(size_t *where, size_t index)
{
	if (where)
		*where = index;
}

/* ---- pointers --------------------------------------------------------------------- */

struct batch {
	const CUdeviceptr *to, *from;
	const size_t *sizes;
	size_t count;
	const CUmemcpyAttributes *attrs;
	const size_t *first; /* of each attribute: index of its first copy */
	size_t attr_count;
};

static bool valid_attributes(const struct batch *b)
{
	if (!b->attrs || !b->first || !b->attr_count || b->attr_count > b->count ||
	    b->first[0])
		return false;
	for (size_t i = 0; i < b->attr_count; i++) {
		if (!valid_order(b->attrs[i].srcAccessOrder) ||
		    !valid_flags(b->attrs[i].flags))
			return false;
		if (b->first[i] >= b->count || (i && b->first[i] <= b->first[i - 1]))
			return false;
	}
	return true;
}

static CUDA_MEMCPY3D nth_copy(const struct batch *b, size_t i)
{
	return (CUDA_MEMCPY3D){
		.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
		.srcDevice = b->from[i],
		.dstMemoryType = CU_MEMORYTYPE_UNIFIED,
		.dstDevice = b->to[i],
		.WidthInBytes = b->sizes[i],
		.Height = 1,
		.Depth = 1,
	};
}

static CUresult copy_batch(const struct batch *b, size_t *failed, CUstream stream,
			   unsigned int mode)
{
	set_failed(failed, SIZE_MAX);
	if (!b->count || !b->to || !b->from || !b->sizes || is_legacy(stream, mode) ||
	    !valid_attributes(b))
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < b->count; i++) {
		CUDA_MEMCPY3D copy = nth_copy(b, i);
		CUresult r = b->sizes[i] ? sim_copy3d_check(&copy)
					 : CUDA_ERROR_INVALID_VALUE;

		if (r != CUDA_SUCCESS) {
			set_failed(failed, i);
			return r;
		}
	}
	for (size_t i = 0; i < b->count; i++) {
		CUDA_MEMCPY3D copy = nth_copy(b, i);
		CUresult r = sim_copy_submit(&copy, stream, mode);

		if (r != CUDA_SUCCESS)
			return r;
	}
	return CUDA_SUCCESS;
}

/* ---- volumes ---------------------------------------------------------------------- */

/* Element size by the arrays of an operation: 1 when there are none, 0 when they differ. */
static CUresult element_size(const CUDA_MEMCPY3D_BATCH_OP *op, size_t *out)
{
	const CUmemcpy3DOperand *sides[2] = { &op->src, &op->dst };
	size_t found = 0;

	for (int i = 0; i < 2; i++) {
		struct sim_array_view view;
		CUresult r;

		if (sides[i]->type != CU_MEMCPY_OPERAND_TYPE_ARRAY)
			continue;
		r = sim_array_view(sides[i]->op.array.array, &view);
		if (r != CUDA_SUCCESS)
			return r;
		if (found && found != view.element_bytes)
			return CUDA_ERROR_INVALID_VALUE;
		found = view.element_bytes;
	}
	*out = found ? found : 1;
	return CUDA_SUCCESS;
}

static bool valid_operand(const CUmemcpy3DOperand *o, const CUextent3D *extent)
{
	if (o->type == CU_MEMCPY_OPERAND_TYPE_ARRAY)
		return true;
	return o->type == CU_MEMCPY_OPERAND_TYPE_POINTER &&
	       (!o->op.ptr.rowLength || o->op.ptr.rowLength >= extent->width) &&
	       (!o->op.ptr.layerHeight || o->op.ptr.layerHeight >= extent->height);
}

static void set_source(CUDA_MEMCPY3D *copy, const CUmemcpy3DOperand *o, size_t element)
{
	if (o->type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
		copy->srcMemoryType = CU_MEMORYTYPE_ARRAY;
		copy->srcArray = o->op.array.array;
		copy->srcXInBytes = o->op.array.offset.x * element;
		copy->srcY = o->op.array.offset.y;
		copy->srcZ = o->op.array.offset.z;
		return;
	}
	copy->srcMemoryType = CU_MEMORYTYPE_UNIFIED;
	copy->srcDevice = o->op.ptr.ptr;
	copy->srcPitch = o->op.ptr.rowLength * element;
	copy->srcHeight = o->op.ptr.layerHeight ? o->op.ptr.layerHeight : copy->Height;
}

static void set_destination(CUDA_MEMCPY3D *copy, const CUmemcpy3DOperand *o, size_t element)
{
	if (o->type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
		copy->dstMemoryType = CU_MEMORYTYPE_ARRAY;
		copy->dstArray = o->op.array.array;
		copy->dstXInBytes = o->op.array.offset.x * element;
		copy->dstY = o->op.array.offset.y;
		copy->dstZ = o->op.array.offset.z;
		return;
	}
	copy->dstMemoryType = CU_MEMORYTYPE_UNIFIED;
	copy->dstDevice = o->op.ptr.ptr;
	copy->dstPitch = o->op.ptr.rowLength * element;
	copy->dstHeight = o->op.ptr.layerHeight ? o->op.ptr.layerHeight : copy->Height;
}

static CUresult copy_of(const CUDA_MEMCPY3D_BATCH_OP *op, CUDA_MEMCPY3D *out)
{
	const CUextent3D *e = &op->extent;
	size_t element;
	CUresult r;

	if (!e->width || !e->height || !e->depth || !valid_order(op->srcAccessOrder) ||
	    !valid_flags(op->flags) || !valid_operand(&op->src, e) ||
	    !valid_operand(&op->dst, e))
		return CUDA_ERROR_INVALID_VALUE;
	r = element_size(op, &element);
	if (r != CUDA_SUCCESS)
		return r;
	*out = (CUDA_MEMCPY3D){ .Height = e->height, .Depth = e->depth };
	if (__builtin_mul_overflow(e->width, element, &out->WidthInBytes))
		return CUDA_ERROR_INVALID_VALUE;
	set_source(out, &op->src, element);
	set_destination(out, &op->dst, element);
	return CUDA_SUCCESS;
}

static CUresult copy_3d_batch(size_t count, const CUDA_MEMCPY3D_BATCH_OP *ops,
			      size_t *failed, unsigned long long flags, CUstream stream,
			      unsigned int mode)
{
	CUDA_MEMCPY3D copy;
	CUresult r;

	set_failed(failed, SIZE_MAX);
	if (!count || !ops || flags || is_legacy(stream, mode))
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count; i++) {
		r = copy_of(&ops[i], &copy);
		if (r == CUDA_SUCCESS)
			r = sim_copy3d_check(&copy);
		if (r != CUDA_SUCCESS) {
			set_failed(failed, i);
			return r;
		}
	}
	for (size_t i = 0; i < count; i++) {
		r = copy_of(&ops[i], &copy);
		if (r == CUDA_SUCCESS)
			r = sim_copy_submit(&copy, stream, mode);
		if (r != CUDA_SUCCESS)
			return r;
	}
	return CUDA_SUCCESS;
}

/* One volume on any stream, the legacy one too. */
static CUresult copy_3d_attributed(const CUDA_MEMCPY3D_BATCH_OP *op,
				   unsigned long long flags, CUstream stream,
				   unsigned int mode)
{
	CUDA_MEMCPY3D copy;
	CUresult r;

	if (!op || flags)
		return CUDA_ERROR_INVALID_VALUE;
	r = copy_of(op, &copy);
	return r == CUDA_SUCCESS ? sim_copy_submit(&copy, stream, mode) : r;
}

#define ENTRY(name, params, call) \
	CUresult name params      \
	{                         \
		SIM_ENTER();      \
		return call;      \
	}

/* clang-format off */
#define ARGS_BATCH	(CUdeviceptr *to, CUdeviceptr *from, size_t *n, size_t count, \
			 CUmemcpyAttributes *attrs, size_t *first, size_t attr_count, CUstream s)
#define ARGS_BATCH_V1	(CUdeviceptr *to, CUdeviceptr *from, size_t *n, size_t count, \
			 CUmemcpyAttributes *attrs, size_t *first, size_t attr_count, \
			 size_t *failed, CUstream s)
#define ARGS_BATCH3	(size_t count, CUDA_MEMCPY3D_BATCH_OP *ops, unsigned long long flags, CUstream s)
#define ARGS_BATCH3_V1	(size_t count, CUDA_MEMCPY3D_BATCH_OP *ops, size_t *failed, \
			 unsigned long long flags, CUstream s)
#define ARGS_ONE3	(CUDA_MEMCPY3D_BATCH_OP *op, unsigned long long flags, CUstream s)
#define BATCH		&(struct batch){ to, from, n, count, attrs, first, attr_count }

ENTRY(cuMemcpyBatchAsync,		ARGS_BATCH_V1, copy_batch(BATCH, failed, s, COPY_ASYNC))
ENTRY(cuMemcpyBatchAsync_ptsz,		ARGS_BATCH_V1, copy_batch(BATCH, failed, s, COPY_PTSZ))
ENTRY(cuMemcpyBatchAsync_v2,		ARGS_BATCH, copy_batch(BATCH, NULL, s, COPY_ASYNC))
ENTRY(cuMemcpyBatchAsync_v2_ptsz,	ARGS_BATCH, copy_batch(BATCH, NULL, s, COPY_PTSZ))
ENTRY(cuMemcpy3DBatchAsync,		ARGS_BATCH3_V1, copy_3d_batch(count, ops, failed, flags, s, COPY_ASYNC))
ENTRY(cuMemcpy3DBatchAsync_ptsz,	ARGS_BATCH3_V1, copy_3d_batch(count, ops, failed, flags, s, COPY_PTSZ))
ENTRY(cuMemcpy3DBatchAsync_v2,		ARGS_BATCH3, copy_3d_batch(count, ops, NULL, flags, s, COPY_ASYNC))
ENTRY(cuMemcpy3DBatchAsync_v2_ptsz,	ARGS_BATCH3, copy_3d_batch(count, ops, NULL, flags, s, COPY_PTSZ))
ENTRY(cuMemcpy3DWithAttributesAsync,	ARGS_ONE3, copy_3d_attributed(op, flags, s, COPY_ASYNC))
ENTRY(cuMemcpy3DWithAttributesAsync_ptsz, ARGS_ONE3, copy_3d_attributed(op, flags, s, COPY_PTSZ))
