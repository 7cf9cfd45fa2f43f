/* SPDX-License-Identifier: Apache-2.0 */
/* cuMemset*: every width, flat and pitched, every ABI. All become the parameters of a graph
 * node. */

#include <stdint.h>
#include <string.h>

#include "copy.h"
#include "duration.h"
#include "lane.h"
#include "stream.h"

#define MAX_PITCH_BYTES 0x7fffffffu

static bool is_empty(const CUDA_MEMSET_NODE_PARAMS *set)
{
	return !set->width || !set->height;
}

CUresult sim_memset_check(const CUDA_MEMSET_NODE_PARAMS *set)
{
	size_t row_bytes, span;
	struct sim_range range;

	if (set->elementSize != 1 && set->elementSize != 2 && set->elementSize != 4)
		return CUDA_ERROR_INVALID_VALUE;
	if (is_empty(set))
		return CUDA_SUCCESS;
	if (!set->dst || set->dst % set->elementSize ||
	    __builtin_mul_overflow(set->width, (size_t)set->elementSize, &row_bytes))
		return CUDA_ERROR_INVALID_VALUE;
	span = row_bytes;
	if (set->height > 1) {
		size_t above;

		if (set->pitch < row_bytes || set->pitch % set->elementSize ||
		    set->pitch > MAX_PITCH_BYTES ||
		    __builtin_mul_overflow(set->height - 1, set->pitch, &above) ||
		    __builtin_add_overflow(span, above, &span))
			return CUDA_ERROR_INVALID_VALUE;
	}
	if (!sim_mem_find(set->dst, span, &range) || !range.mapped)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

static void set_row(unsigned char *row, const CUDA_MEMSET_NODE_PARAMS *set)
{
	if (set->elementSize == 1) {
		memset(row, (int)(set->value & 0xff), set->width);
	} else if (set->elementSize == 2) {
		uint16_t value = (uint16_t)set->value;

		for (size_t i = 0; i < set->width; i++)
			memcpy(row + i * sizeof value, &value, sizeof value);
	} else {
		uint32_t value = set->value;

		for (size_t i = 0; i < set->width; i++)
			memcpy(row + i * sizeof value, &value, sizeof value);
	}
}

CUresult sim_memset_node(const CUDA_MEMSET_NODE_PARAMS *set, struct sim_ctx *ctx)
{
	CUresult r = sim_memset_check(set);
	unsigned char *row = (unsigned char *)(uintptr_t)set->dst;

	if (r != CUDA_SUCCESS || is_empty(set))
		return r;
	for (size_t y = 0; y < set->height; y++, row += set->pitch)
		set_row(row, set);
	return sim_copy_time(ctx->machine, SIM_COPY_LOCAL,
			     (uint64_t)set->width * set->elementSize * set->height);
}

static CUresult run_memset(void *params, struct sim_ctx *ctx)
{
	return sim_memset_node(params, ctx);
}

static CUresult set_rows(CUDA_MEMSET_NODE_PARAMS set, CUstream stream, unsigned int mode)
{
	struct sim_op op = {
		.type = CU_GRAPH_NODE_TYPE_MEMSET,
		.run = run_memset,
		.params = &set,
		.params_bytes = sizeof set,
	};
	struct sim_stream *s;
	CUresult r = CUDA_SUCCESS;

	if (mode & COPY_SYNC)
		r = sim_capture_forbids();
	else
		sim_spend(SIM_SPEND_COPY_NS - SIM_SPEND_CALL_NS);
	if (r == CUDA_SUCCESS)
		r = sim_stream_get(stream, mode & COPY_PTSZ, &s);
	/* The host does not wait: no program sees a memset before its end. What waits behind other work is judged now: later there is nobody to tell. What
	 * is captured may name memory that a node of the same capture allocates. */
	if (r == CUDA_SUCCESS && mode & COPY_SYNC)
		r = sim_stream_settle(s);
	else if (r == CUDA_SUCCESS && !sim_stream_capturing(s))
		r = sim_memset_check(&set);
	if (r != CUDA_SUCCESS || is_empty(&set))
		return r;
	return sim_submit(s, &op);
}

static CUDA_MEMSET_NODE_PARAMS flat(CUdeviceptr to, unsigned int element_bytes,
				    unsigned int value, size_t n)
{
	return (CUDA_MEMSET_NODE_PARAMS){ .dst = to,
					  .elementSize = element_bytes,
					  .value = value,
					  .width = n,
					  .height = 1 };
}

static CUDA_MEMSET_NODE_PARAMS pitched(CUdeviceptr to, size_t pitch,
				       unsigned int element_bytes, unsigned int value,
				       size_t width, size_t height)
{
	return (CUDA_MEMSET_NODE_PARAMS){ .dst = to,
					  .pitch = pitch,
					  .elementSize = element_bytes,
					  .value = value,
					  .width = width,
					  .height = height };
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
#define FLAT(bytes, s, mode)	set_rows(flat(to, bytes, value, n), s, mode)
#define PITCHED(bytes, s, mode)	set_rows(pitched(to, pitch, bytes, value, w, h), s, mode)

/* All ABIs of one element width: the old 32-bit one, _v2, its twin, and the two that take a stream. */
#define FLAT_ENTRIES(bits, T) \
	ENTRY(cuMemsetD##bits, (CUdeviceptr_v1 to, T value, unsigned int n), FLAT((bits) / 8, NULL, SYNC)) \
	ENTRY(cuMemsetD##bits##_v2, (CUdeviceptr to, T value, size_t n), FLAT((bits) / 8, NULL, SYNC)) \
	ENTRY(cuMemsetD##bits##_v2_ptds, (CUdeviceptr to, T value, size_t n), FLAT((bits) / 8, NULL, PTDS)) \
	ENTRY(cuMemsetD##bits##Async, (CUdeviceptr to, T value, size_t n, CUstream s), FLAT((bits) / 8, s, ASYNC)) \
	ENTRY(cuMemsetD##bits##Async_ptsz, (CUdeviceptr to, T value, size_t n, CUstream s), FLAT((bits) / 8, s, PTSZ))

#define PITCHED_ENTRIES(bits, T) \
	ENTRY(cuMemsetD2D##bits, (CUdeviceptr_v1 to, unsigned int pitch, T value, unsigned int w, unsigned int h), \
	      PITCHED((bits) / 8, NULL, SYNC)) \
	ENTRY(cuMemsetD2D##bits##_v2, (CUdeviceptr to, size_t pitch, T value, size_t w, size_t h), \
	      PITCHED((bits) / 8, NULL, SYNC)) \
	ENTRY(cuMemsetD2D##bits##_v2_ptds, (CUdeviceptr to, size_t pitch, T value, size_t w, size_t h), \
	      PITCHED((bits) / 8, NULL, PTDS)) \
	ENTRY(cuMemsetD2D##bits##Async, (CUdeviceptr to, size_t pitch, T value, size_t w, size_t h, CUstream s), \
	      PITCHED((bits) / 8, s, ASYNC)) \
	ENTRY(cuMemsetD2D##bits##Async_ptsz, (CUdeviceptr to, size_t pitch, T value, size_t w, size_t h, CUstream s), \
	      PITCHED((bits) / 8, s, PTSZ))

FLAT_ENTRIES(8, unsigned char)
FLAT_ENTRIES(16, unsigned short)
FLAT_ENTRIES(32, unsigned int)
PITCHED_ENTRIES(8, unsigned char)
PITCHED_ENTRIES(16, unsigned short)
PITCHED_ENTRIES(32, unsigned int)
