/* SPDX-License-Identifier: Apache-2.0 */
/* What the driver knows about array descriptors: formats, limits, sizes. No state. */

#include "array.h"

/* Limits of the models, as their attributes say (CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE*). */
#define MAX_WIDTH_1D     131072u
#define MAX_WIDTH_2D     131072u
#define MAX_HEIGHT_2D    65536u
#define MAX_SIDE_3D      16384u
#define MAX_SIDE_LAYERED 32768u
#define MAX_LAYERS       2048u
#define MAX_CUBE_LAYERS  2046u

#define KNOWN_FLAGS                                                                \
	(CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST | CUDA_ARRAY3D_CUBEMAP | \
	 CUDA_ARRAY3D_TEXTURE_GATHER | CUDA_ARRAY3D_DEPTH_TEXTURE |                \
	 CUDA_ARRAY3D_COLOR_ATTACHMENT | CUDA_ARRAY3D_SPARSE |                     \
	 CUDA_ARRAY3D_DEFERRED_MAPPING | CUDA_ARRAY3D_VIDEO_ENCODE_DECODE)

static const struct array_format formats[] = {
	{ CU_AD_FORMAT_UNSIGNED_INT8, 0, 1, FORMAT_PACKED },
	{ CU_AD_FORMAT_UNSIGNED_INT16, 0, 2, FORMAT_PACKED },
	{ CU_AD_FORMAT_UNSIGNED_INT32, 0, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_SIGNED_INT8, 0, 1, FORMAT_PACKED },
	{ CU_AD_FORMAT_SIGNED_INT16, 0, 2, FORMAT_PACKED },
	{ CU_AD_FORMAT_SIGNED_INT32, 0, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_HALF, 0, 2, FORMAT_PACKED },
	{ CU_AD_FORMAT_FLOAT, 0, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_UNORM_INT8X1, 1, 1, FORMAT_PACKED },
	{ CU_AD_FORMAT_UNORM_INT8X2, 2, 2, FORMAT_PACKED },
	{ CU_AD_FORMAT_UNORM_INT8X4, 4, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_UNORM_INT16X1, 1, 2, FORMAT_PACKED },
	{ CU_AD_FORMAT_UNORM_INT16X2, 2, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_UNORM_INT16X4, 4, 8, FORMAT_PACKED },
	{ CU_AD_FORMAT_SNORM_INT8X1, 1, 1, FORMAT_PACKED },
	{ CU_AD_FORMAT_SNORM_INT8X2, 2, 2, FORMAT_PACKED },
	{ CU_AD_FORMAT_SNORM_INT8X4, 4, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_SNORM_INT16X1, 1, 2, FORMAT_PACKED },
	{ CU_AD_FORMAT_SNORM_INT16X2, 2, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_SNORM_INT16X4, 4, 8, FORMAT_PACKED },
	{ CU_AD_FORMAT_UNORM_INT_101010_2, 4, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_BC1_UNORM, 4, 8, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC1_UNORM_SRGB, 4, 8, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC2_UNORM, 4, 16, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC2_UNORM_SRGB, 4, 16, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC3_UNORM, 4, 16, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC3_UNORM_SRGB, 4, 16, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC4_UNORM, 1, 8, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC4_SNORM, 1, 8, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC5_UNORM, 2, 16, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC5_SNORM, 2, 16, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC6H_UF16, 3, 16, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC6H_SF16, 3, 16, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC7_UNORM, 4, 16, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_BC7_UNORM_SRGB, 4, 16, FORMAT_BLOCKS },
	{ CU_AD_FORMAT_NV12, 3, 1, FORMAT_SEMI_420 },
	{ CU_AD_FORMAT_P010, 3, 2, FORMAT_SEMI_420 },
	{ CU_AD_FORMAT_P016, 3, 2, FORMAT_SEMI_420 },
	{ CU_AD_FORMAT_NV16, 3, 1, FORMAT_SEMI_422 },
	{ CU_AD_FORMAT_P210, 3, 2, FORMAT_SEMI_422 },
	{ CU_AD_FORMAT_P216, 3, 2, FORMAT_SEMI_422 },
	{ CU_AD_FORMAT_YUV444_8bit_SemiPlanar, 3, 1, FORMAT_SEMI_444 },
	{ CU_AD_FORMAT_YUV444_16bit_SemiPlanar, 3, 2, FORMAT_SEMI_444 },
	{ CU_AD_FORMAT_Y444_PLANAR8, 3, 1, FORMAT_PLANAR_444 },
	{ CU_AD_FORMAT_Y444_PLANAR10, 3, 2, FORMAT_PLANAR_444 },
	{ CU_AD_FORMAT_YUY2, 3, 2, FORMAT_PACKED },
	{ CU_AD_FORMAT_Y210, 3, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_Y216, 3, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_AYUV, 4, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_Y410, 4, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_Y416, 4, 8, FORMAT_PACKED },
	{ CU_AD_FORMAT_UINT8_PACKED_422, 3, 2, FORMAT_PACKED },
	{ CU_AD_FORMAT_UINT8_PACKED_444, 3, 4, FORMAT_PACKED },
	{ CU_AD_FORMAT_UINT8_SEMIPLANAR_420, 3, 1, FORMAT_SEMI_420 },
	{ CU_AD_FORMAT_UINT16_SEMIPLANAR_420, 3, 2, FORMAT_SEMI_420 },
	{ CU_AD_FORMAT_UINT8_SEMIPLANAR_422, 3, 1, FORMAT_SEMI_422 },
	{ CU_AD_FORMAT_UINT16_SEMIPLANAR_422, 3, 2, FORMAT_SEMI_422 },
	{ CU_AD_FORMAT_UINT8_SEMIPLANAR_444, 3, 1, FORMAT_SEMI_444 },
	{ CU_AD_FORMAT_UINT16_SEMIPLANAR_444, 3, 2, FORMAT_SEMI_444 },
	{ CU_AD_FORMAT_UINT8_PLANAR_420, 3, 1, FORMAT_PLANAR_420 },
	{ CU_AD_FORMAT_UINT16_PLANAR_420, 3, 2, FORMAT_PLANAR_420 },
	{ CU_AD_FORMAT_UINT8_PLANAR_422, 3, 1, FORMAT_PLANAR_422 },
	{ CU_AD_FORMAT_UINT16_PLANAR_422, 3, 2, FORMAT_PLANAR_422 },
	{ CU_AD_FORMAT_UINT8_PLANAR_444, 3, 1, FORMAT_PLANAR_444 },
	{ CU_AD_FORMAT_UINT16_PLANAR_444, 3, 2, FORMAT_PLANAR_444 },
};

const struct array_format *array_format_find(CUarray_format id)
{
	for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
		if (formats[i].id == id)
			return &formats[i];
	return NULL;
}

unsigned int array_format_planes(const struct array_format *format)
{
	if (format->kind >= FORMAT_PLANAR_420)
		return 3;
	return format->kind >= FORMAT_SEMI_420 ? 2 : 1;
}

CUDA_ARRAY3D_DESCRIPTOR array_format_plane(const struct array_format *format,
					   const CUDA_ARRAY3D_DESCRIPTOR *desc,
					   unsigned int i)
{
	CUDA_ARRAY3D_DESCRIPTOR plane = *desc;
	bool half_width, half_height;

	if (array_format_planes(format) == 1)
		return plane;
	half_height = format->kind == FORMAT_SEMI_420 || format->kind == FORMAT_PLANAR_420;
	half_width = half_height || format->kind == FORMAT_SEMI_422 ||
		     format->kind == FORMAT_PLANAR_422;
	plane.Format = format->bytes == 1 ? CU_AD_FORMAT_UNSIGNED_INT8
					  : CU_AD_FORMAT_UNSIGNED_INT16;
	plane.NumChannels = i && array_format_planes(format) == 2 ? 2 : 1;
	if (i && half_width)
		plane.Width = (desc->Width + 1) / 2;
	if (i && half_height)
		plane.Height = (desc->Height + 1) / 2;
	return plane;
}

static size_t shrink(size_t side, unsigned int level)
{
	size_t smaller = side >> level;

	return side && !smaller ? 1 : smaller;
}

CUDA_ARRAY3D_DESCRIPTOR array_level_desc(const CUDA_ARRAY3D_DESCRIPTOR *desc,
					 unsigned int level)
{
	CUDA_ARRAY3D_DESCRIPTOR at = *desc;

	at.Width = shrink(desc->Width, level);
	at.Height = shrink(desc->Height, level);
	if (!(desc->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)))
		at.Depth = shrink(desc->Depth, level);
	return at;
}

unsigned int array_levels_max(const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	bool solid = !(desc->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP));
	size_t longest = desc->Width > desc->Height ? desc->Width : desc->Height;
	unsigned int levels = 1;

	if (solid && desc->Depth > longest)
		longest = desc->Depth;
	while (longest >>= 1)
		levels++;
	return levels;
}

static bool channels_valid(const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	const struct array_format *format = array_format_find(desc->Format);
	unsigned int n = desc->NumChannels;

	if (!format)
		return false;
	return format->channels ? n == format->channels : n == 1 || n == 2 || n == 4;
}

static bool cubemap_valid(const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	size_t faces = desc->Depth;

	if (desc->Width != desc->Height || desc->Width > MAX_SIDE_LAYERED)
		return false;
	if (desc->Flags & CUDA_ARRAY3D_LAYERED)
		return faces && faces % 6 == 0 && faces <= MAX_CUBE_LAYERS;
	return faces == 6;
}

bool array_desc_valid(const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	bool layered = desc->Flags & CUDA_ARRAY3D_LAYERED;

	if (!desc->Width || desc->Flags & ~(unsigned int)KNOWN_FLAGS ||
	    !channels_valid(desc))
		return false;
	if (desc->Flags & CUDA_ARRAY3D_TEXTURE_GATHER && (!desc->Height || desc->Depth))
		return false;
	if (array_format_planes(array_format_find(desc->Format)) > 1 &&
	    (!desc->Height || desc->Depth))
		return false;
	if (desc->Flags & CUDA_ARRAY3D_SPARSE && !desc->Height)
		return false;
	if (desc->Flags & CUDA_ARRAY3D_CUBEMAP)
		return cubemap_valid(desc);
	if (layered)
		return desc->Depth && desc->Depth <= MAX_LAYERS &&
		       desc->Width <= MAX_SIDE_LAYERED && desc->Height <= MAX_SIDE_LAYERED;
	if (desc->Depth)
		return desc->Height && desc->Width <= MAX_SIDE_3D &&
		       desc->Height <= MAX_SIDE_3D && desc->Depth <= MAX_SIDE_3D;
	if (desc->Height)
		return desc->Width <= MAX_WIDTH_2D && desc->Height <= MAX_HEIGHT_2D;
	return desc->Width <= MAX_WIDTH_1D;
}

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static size_t at_least_one(size_t n)
{
	return n ? n : 1;
}

/* The limits above keep every product here below 2^49. */
static struct array_layout plane_layout(const struct array_format *format,
					const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	bool layered = desc->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP);
	struct array_layout l = { .width = desc->Width,
				  .height = at_least_one(desc->Height) };

	if (format->kind == FORMAT_BLOCKS) {
		l.width = (l.width + 3) / 4;
		l.height = (l.height + 3) / 4;
	}
	l.depth = layered ? 1 : at_least_one(desc->Depth);
	l.layers = layered ? desc->Depth : 1;
	l.element_bytes = format->channels ? format->bytes
					   : (size_t)format->bytes * desc->NumChannels;
	l.row_pitch = round_up(l.width * l.element_bytes, ARRAY_ROW_ALIGN_BYTES);
	l.slice_pitch = l.row_pitch * round_up(l.height, ARRAY_ROWS_ALIGN);
	l.bytes = l.slice_pitch * l.depth * l.layers;
	return l;
}

struct array_layout array_layout_of(const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	const struct array_format *format = array_format_find(desc->Format);
	unsigned int planes = array_format_planes(format);
	struct array_layout all = { .bytes = 0 };

	if (planes == 1)
		return plane_layout(format, desc);
	for (unsigned int i = 0; i < planes; i++) {
		CUDA_ARRAY3D_DESCRIPTOR plane = array_format_plane(format, desc, i);

		all.bytes += plane_layout(array_format_find(plane.Format), &plane).bytes;
	}
	return all;
}

/* The standard shapes of a 64 KiB tile, by element size. */
static void set_tile(CUDA_ARRAY_SPARSE_PROPERTIES *p, size_t element_bytes, bool solid)
{
	static const unsigned int flat[5][2] = {
		{ 256, 256 }, { 256, 128 }, { 128, 128 }, { 128, 64 }, { 64, 64 }
	};
	static const unsigned int cube[5][3] = { { 64, 32, 32 },
						 { 32, 32, 32 },
						 { 32, 32, 16 },
						 { 32, 16, 16 },
						 { 16, 16, 16 } };
	unsigned int i = 0;

	while (i < 4 && element_bytes > (size_t)1 << i)
		i++;
	p->tileExtent.width = solid ? cube[i][0] : flat[i][0];
	p->tileExtent.height = solid ? cube[i][1] : flat[i][1];
	p->tileExtent.depth = solid ? cube[i][2] : 1;
}

CUDA_ARRAY_SPARSE_PROPERTIES array_sparse_properties(const CUDA_ARRAY3D_DESCRIPTOR *desc,
						     unsigned int levels)
{
	CUDA_ARRAY_SPARSE_PROPERTIES p = { .flags = 0 };
	bool layered = desc->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP);
	size_t tail_bytes = 0;

	set_tile(&p, array_layout_of(desc).element_bytes, desc->Depth && !layered);
	p.miptailFirstLevel = levels;
	for (unsigned int i = 0; i < levels; i++) {
		CUDA_ARRAY3D_DESCRIPTOR at = array_level_desc(desc, i);
		struct array_layout l = array_layout_of(&at);

		if (p.miptailFirstLevel == levels && l.width >= p.tileExtent.width &&
		    l.height >= p.tileExtent.height && l.depth >= p.tileExtent.depth)
			continue;
		if (p.miptailFirstLevel == levels)
			p.miptailFirstLevel = i;
		tail_bytes += l.bytes / l.layers;
	}
	p.miptailSize = round_up(tail_bytes, ARRAY_ALIGN_BYTES);
	return p;
}
