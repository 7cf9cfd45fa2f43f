/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_ARRAY_H
#define SIM_CUDA_ARRAY_H

/*
 * Arrays and mipmapped arrays, and how large the simulated driver makes them.
 *
 * A real driver tiles: its smallest tile is 64 bytes by 8 rows, and its unit of array
 * memory is 64 KiB. The simulated one keeps rows in order, so that copies are simple, but
 * takes the same space: rows rounded up to 64 bytes, slices to 8 rows, planes and levels
 * after one another, the whole rounded up to 64 KiB.
 */

#include "handle.h"
#include "sim.h"

#define ARRAY_ROW_ALIGN_BYTES 64u
#define ARRAY_ROWS_ALIGN      8u
#define ARRAY_ALIGN_BYTES     65536u
#define ARRAY_PLANES_MAX      3
#define ARRAY_LEVELS_MAX      18 /* of the largest width, 131072 */

/* How the samples of a format lie in memory. */
enum format_kind {
	FORMAT_PACKED,   /* one plane; an element holds all channels */
	FORMAT_BLOCKS,   /* one plane of compressed 4 x 4 blocks; an element is a block */
	FORMAT_SEMI_420, /* luma, then interleaved chroma */
	FORMAT_SEMI_422,
	FORMAT_SEMI_444,
	FORMAT_PLANAR_420, /* three planes */
	FORMAT_PLANAR_422,
	FORMAT_PLANAR_444,
};

struct array_format {
	CUarray_format id;
	unsigned char
		channels;    /* the only number accepted; 0: 1, 2 or 4, each of `bytes` */
	unsigned char bytes; /* of a channel where channels is 0, of a sample in planes,
			      * else of the element */
	enum format_kind kind;
};

struct array_layout {
	size_t width, height, depth, layers; /* in elements, at least 1 */
	size_t element_bytes, row_pitch, slice_pitch, bytes;
};

/* NULL when there is no such format. */
const struct array_format *array_format_find(CUarray_format id);
unsigned int array_format_planes(const struct array_format *format);
/* What plane I of an array described by DESC is on its own. */
CUDA_ARRAY3D_DESCRIPTOR array_format_plane(const struct array_format *format,
					   const CUDA_ARRAY3D_DESCRIPTOR *desc,
					   unsigned int i);
/* Level LEVEL of DESC as a descriptor of its own. */
CUDA_ARRAY3D_DESCRIPTOR array_level_desc(const CUDA_ARRAY3D_DESCRIPTOR *desc,
					 unsigned int level);
unsigned int array_levels_max(const CUDA_ARRAY3D_DESCRIPTOR *desc);

/* Whether the driver makes such an array, by the limits of cc 7.5 and later. */
bool array_desc_valid(const CUDA_ARRAY3D_DESCRIPTOR *desc);
/* Rows and slices of a valid DESC with one plane; for more planes, only `bytes` of all of
 * them. */
struct array_layout array_layout_of(const CUDA_ARRAY3D_DESCRIPTOR *desc);
CUDA_ARRAY_SPARSE_PROPERTIES array_sparse_properties(const CUDA_ARRAY3D_DESCRIPTOR *desc,
						     unsigned int levels);

struct array_block;

/* Device memory behind an array; bytes 0 when there is none, or it is another's. */
struct array_memory {
	CUdeviceptr address;
	size_t bytes;
	struct rm_phys phys;       /* of an array with memory of its own */
	struct array_block *block; /* of a small one: what it lies in */
};

struct sim_vmm;

/* What cuMemMapArrayAsync put behind an array; vmm NULL when nothing is mapped. */
struct array_mapping {
	struct sim_vmm *vmm;
	CUdeviceptr address;
	struct rm_phys phys;
};

struct CUarray_st {
	struct sim_handle handle;
	uint64_t ctx_id;
	uint32_t machine;
	bool child; /* a plane or a level: goes with what it is part of */
	CUDA_ARRAY3D_DESCRIPTOR desc;
	struct array_layout layout;
	unsigned char *bytes; /* NULL: no memory mapped yet */
	struct array_memory memory;
	struct array_mapping mapping;
	CUarray planes[ARRAY_PLANES_MAX];
};

struct CUmipmappedArray_st {
	struct sim_handle handle;
	uint64_t ctx_id;
	uint32_t machine;
	CUDA_ARRAY3D_DESCRIPTOR desc;
	unsigned int levels;
	size_t total_bytes;
	unsigned char *bytes;
	struct array_memory memory;
	struct array_mapping mapping;
	CUarray level[ARRAY_LEVELS_MAX];
};

/* array_memory.c: takes BYTES, a multiple of 64 KiB, of CTX' device for an object known as
 * HANDLE, and lists it. Small ones share 2 MiB blocks, as every allocation of the driver
 * does. */
CUresult array_memory_take(struct sim_ctx *ctx, struct array_memory *m, const void *handle,
			   size_t bytes);
void array_memory_give(struct array_memory *m, const void *handle);

/* array.c, for mipmap.c: an array that is part of another object, not counted by itself. */
CUresult array_child_new(struct sim_ctx *ctx, const CUDA_ARRAY3D_DESCRIPTOR *desc,
			 unsigned char *bytes, CUarray *out);
void array_child_bind(CUarray array, unsigned char *bytes);
void array_child_drop(CUarray array);
bool array_is_live(CUarray array);
/* array_map.c */
void array_mapping_drop(struct array_mapping *m);

bool mipmap_is_live(CUmipmappedArray mipmap);
void mipmap_ctx_gone(struct sim_ctx *ctx);
/* A mipmapped array in someone else's memory of ROOM bytes; INVALID_VALUE when that is too
 * small. */
CUresult mipmap_over(const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned int levels,
		     unsigned char *bytes, size_t room, CUmipmappedArray *out);

/* texture.c: objects that look at arrays of a context end with it. */
void texture_ctx_gone(struct sim_ctx *ctx);

#endif /* SIM_CUDA_ARRAY_H */
