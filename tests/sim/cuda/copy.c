/* SPDX-License-Identifier: Apache-2.0 */
/* The one copy engine: checks a CUDA_MEMCPY3D as the driver does, finds both ends, moves
 * the rows. */

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "copy.h"
#include "duration.h"
#include "lane.h"
#include "mem.h"
#include "stream.h"

#define MAX_PITCH_BYTES 0x7fffffffu /* CU_DEVICE_ATTRIBUTE_MAX_PITCH of every model */

/* One end of a copy as the caller described it, the same for source and destination. */
struct side {
	CUmemorytype type;
	size_t x_bytes, y, z;
	uintptr_t address; /* host or device */
	CUarray array;
	size_t pitch_bytes, height;
};

/* One end of a copy, found: rows of a slice, slices of a volume. */
struct place {
	unsigned char *first;
	size_t row_pitch, slice_pitch;
	bool is_host;
	uint32_t machine; /* unless is_host */
};

struct extent {
	size_t width_bytes, height, depth;
};

static bool multiply_add(size_t *sum, size_t a, size_t b)
{
	size_t product;

	return !__builtin_mul_overflow(a, b, &product) &&
	       !__builtin_add_overflow(*sum, product, sum);
}

/* Whether the first and last byte can be read. */
static bool can_read(uintptr_t address, size_t bytes)
{
	unsigned char got[2];
	struct iovec to = { got, sizeof got };
	struct iovec from[2] = { { (void *)address, 1 },
				 { (void *)(address + bytes - 1), 1 } };
	ssize_t n = process_vm_readv(getpid(), &to, 1, from, 2, 0);

	return n == 2 ||
	       (n < 0 && errno != EFAULT); /* forbidden by a sandbox: trust the caller */
}

/*
 * A unified pointer outside every live allocation: plain host memory, or something freed,
 * which the driver refuses and which may not even be mapped here any more.
 */
static bool is_plain_host(uintptr_t address, size_t bytes)
{
	struct sim_range range;
	bool device;

	if (sim_mem_find((CUdeviceptr)address, 1, &range))
		return false; /* begins in an allocation and runs past its end */
	sim_mem_lock();
	device = sim_va_is_device(address);
	sim_mem_unlock();
	return !device && can_read(address, bytes);
}

/* Where the rows of linear memory lie, and that all of them lie in one live allocation. */
static CUresult find_linear(const struct side *side, const struct extent *extent,
			    struct place *out)
{
	size_t row_end, rows, start = 0, span = extent->width_bytes;
	size_t pitch = side->pitch_bytes, height = side->height;
	struct sim_range range;

	if (!side->address || pitch > MAX_PITCH_BYTES ||
	    __builtin_add_overflow(side->x_bytes, extent->width_bytes, &row_end) ||
	    __builtin_add_overflow(side->y, extent->height, &rows))
		return CUDA_ERROR_INVALID_VALUE;
	if (!pitch)
		pitch = row_end;
	if (!height && extent->depth == 1 && !side->z)
		height = rows;
	if (pitch < row_end || height < rows)
		return CUDA_ERROR_INVALID_VALUE;
	if (__builtin_mul_overflow(pitch, height, &out->slice_pitch) ||
	    !multiply_add(&start, side->z, out->slice_pitch) ||
	    !multiply_add(&start, side->y, pitch) ||
	    !multiply_add(&start, side->x_bytes, 1) ||
	    !multiply_add(&span, extent->depth - 1, out->slice_pitch) ||
	    !multiply_add(&span, extent->height - 1, pitch) ||
	    __builtin_add_overflow(start, side->address, &start) || start + span < start)
		return CUDA_ERROR_INVALID_VALUE;
	out->first = (unsigned char *)start;
	out->row_pitch = pitch;
	out->is_host = true;
	if (side->type == CU_MEMORYTYPE_HOST)
		return CUDA_SUCCESS;
	if (sim_mem_find((CUdeviceptr)start, span, &range)) {
		out->is_host = range.where == SIM_HOST_PINNED ||
			       range.machine >= RM_DEVICES_MAX;
		out->machine = range.machine;
		return range.mapped ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	}
	if (side->type == CU_MEMORYTYPE_UNIFIED && is_plain_host(start, span))
		return CUDA_SUCCESS;
	return CUDA_ERROR_INVALID_VALUE;
}

static CUresult find_array(const struct side *side, const struct extent *extent,
			   struct place *out)
{
	struct sim_array_view view;
	size_t row_bytes, slices;
	CUresult r = sim_array_view(side->array, &view);

	if (r != CUDA_SUCCESS)
		return r;
	row_bytes = view.width * view.element_bytes;
	slices = view.depth > view.layers ? view.depth : view.layers;
	if (!view.bytes || side->x_bytes % view.element_bytes ||
	    extent->width_bytes % view.element_bytes)
		return CUDA_ERROR_INVALID_VALUE;
	if (side->x_bytes > row_bytes || extent->width_bytes > row_bytes - side->x_bytes ||
	    side->y > view.height || extent->height > view.height - side->y ||
	    side->z > slices || extent->depth > slices - side->z)
		return CUDA_ERROR_INVALID_VALUE;
	out->first = (unsigned char *)view.bytes + side->z * view.slice_pitch +
		     side->y * view.row_pitch + side->x_bytes;
	out->is_host = false;
	out->machine = view.machine;
	out->row_pitch = view.row_pitch;
	out->slice_pitch = view.slice_pitch;
	return CUDA_SUCCESS;
}

static CUresult find_side(const struct side *side, const struct extent *extent,
			  struct place *out)
{
	switch (side->type) {
	case CU_MEMORYTYPE_HOST:
	case CU_MEMORYTYPE_DEVICE:
	case CU_MEMORYTYPE_UNIFIED:
		return find_linear(side, extent, out);
	case CU_MEMORYTYPE_ARRAY:
		return find_array(side, extent, out);
	}
	return CUDA_ERROR_INVALID_VALUE;
}

static struct side source_of(const CUDA_MEMCPY3D *c)
{
	return (struct side){
		.type = c->srcMemoryType,
		.x_bytes = c->srcXInBytes,
		.y = c->srcY,
		.z = c->srcZ,
		.address = c->srcMemoryType == CU_MEMORYTYPE_HOST ? (uintptr_t)c->srcHost
								  : (uintptr_t)c->srcDevice,
		.array = c->srcArray,
		.pitch_bytes = c->srcPitch,
		.height = c->srcHeight,
	};
}

static struct side destination_of(const CUDA_MEMCPY3D *c)
{
	return (struct side){
		.type = c->dstMemoryType,
		.x_bytes = c->dstXInBytes,
		.y = c->dstY,
		.z = c->dstZ,
		.address = c->dstMemoryType == CU_MEMORYTYPE_HOST ? (uintptr_t)c->dstHost
								  : (uintptr_t)c->dstDevice,
		.array = c->dstArray,
		.pitch_bytes = c->dstPitch,
		.height = c->dstHeight,
	};
}

static bool known_type(CUmemorytype type)
{
	return type >= CU_MEMORYTYPE_HOST && type <= CU_MEMORYTYPE_UNIFIED;
}

static bool is_empty(const CUDA_MEMCPY3D *c)
{
	return !c->WidthInBytes || !c->Height || !c->Depth;
}

static CUresult find_both(const CUDA_MEMCPY3D *c, struct place *from, struct place *to)
{
	struct extent extent = { c->WidthInBytes, c->Height, c->Depth };
	struct side source = source_of(c), destination = destination_of(c);
	CUresult r;

	if (!known_type(source.type) || !known_type(destination.type) || c->srcLOD ||
	    c->dstLOD || c->reserved0 || c->reserved1)
		return CUDA_ERROR_INVALID_VALUE;
	if (is_empty(c))
		return CUDA_SUCCESS;
	r = find_side(&source, &extent, from);
	if (r != CUDA_SUCCESS)
		return r;
	return find_side(&destination, &extent, to);
}

CUresult sim_copy3d_check(const CUDA_MEMCPY3D *copy)
{
	struct place from, to;

	return find_both(copy, &from, &to);
}

/* What the copy takes on the GPU, which runs in the order of the stream. */
static CUresult take_time(const struct place *from, const struct place *to, uint64_t bytes,
			  uint32_t machine)
{
	if (from->is_host && to->is_host)
		return sim_copy_time(machine, SIM_COPY_LOCAL, bytes);
	if (from->is_host)
		return sim_copy_time(to->machine, SIM_COPY_IN, bytes);
	if (to->is_host)
		return sim_copy_time(from->machine, SIM_COPY_OUT, bytes);
	return sim_copy_time(from->machine,
			     from->machine == to->machine ? SIM_COPY_LOCAL : SIM_COPY_PEER,
			     bytes);
}

CUresult sim_copy3d(const CUDA_MEMCPY3D *copy, struct sim_ctx *ctx)
{
	struct place from, to;
	CUresult r = find_both(copy, &from, &to);
	size_t width = copy->WidthInBytes;

	if (r != CUDA_SUCCESS || is_empty(copy))
		return r;
	for (size_t z = 0; z < copy->Depth; z++)
		for (size_t y = 0; y < copy->Height; y++)
			memmove(to.first + z * to.slice_pitch + y * to.row_pitch,
				from.first + z * from.slice_pitch + y * from.row_pitch,
				width);
	return take_time(&from, &to, (uint64_t)width * copy->Height * copy->Depth,
			 ctx->machine);
}

static CUresult run_copy(void *params, struct sim_ctx *ctx)
{
	return sim_copy3d(params, ctx);
}

/* Copies within devices are ordered, but nobody waits for them. */
static bool touches_host(const CUDA_MEMCPY3D *copy)
{
	struct place from = { 0 }, to = { 0 };

	return find_both(copy, &from, &to) == CUDA_SUCCESS && (from.is_host || to.is_host);
}

CUresult sim_copy_submit(const CUDA_MEMCPY3D *copy, CUstream stream, unsigned int mode)
{
	CUDA_MEMCPY3D params = *copy;
	struct sim_op op = {
		.type = CU_GRAPH_NODE_TYPE_MEMCPY,
		.run = run_copy,
		.params = &params,
		.params_bytes = sizeof params,
	};
	struct sim_stream *s;
	CUresult r = CUDA_SUCCESS;
	bool waits;

	if (mode & COPY_SYNC)
		r = sim_capture_forbids();
	else
		sim_spend(SIM_SPEND_COPY_NS - SIM_SPEND_CALL_NS);
	if (r == CUDA_SUCCESS)
		r = sim_stream_get(stream, mode & COPY_PTSZ, &s);
	/* What waits behind other work is judged now: later there is nobody to tell. What
	 * is captured may name memory that a node of the same capture allocates. */
	if (r == CUDA_SUCCESS && mode & COPY_SYNC)
		r = sim_stream_settle(s);
	else if (r == CUDA_SUCCESS && !sim_stream_capturing(s))
		r = sim_copy3d_check(copy);
	if (r == CUDA_SUCCESS && mode & COPY_SYNC && is_empty(copy))
		r = sim_copy3d_check(copy);
	if (r != CUDA_SUCCESS || is_empty(copy))
		return r;
	waits = mode & COPY_SYNC && touches_host(copy);
	r = sim_submit(s, &op);
	return r == CUDA_SUCCESS && waits ? sim_stream_drain(s) : r;
}
