/* SPDX-License-Identifier: Apache-2.0 */
#include "array_size.h"

#include "rt/sat.h"

/* Tiles of 64 B x 8 rows; what the driver adds to that is at most a page of its own. */
#define TILE_BYTES 64u
#define TILE_ROWS  8u
#define PAGE_BYTES 65536u

enum shape {
	SHAPE_NONE,
	SHAPE_CHANNELS, /* bytes per channel, NumChannels of them */
	SHAPE_WHOLE,    /* bytes per texel, whatever NumChannels says */
	SHAPE_BLOCKS,   /* bytes per 4 x 4 texels */
};

struct format {
	enum shape shape;
	uint8_t bytes;
};

/* By range: the header's numbers are grouped. Planar formats count as if no plane were
 * smaller. */
static struct format format_of(unsigned id)
{
	switch (id) {
	case CU_AD_FORMAT_UNSIGNED_INT8:
	case CU_AD_FORMAT_SIGNED_INT8:
		return (struct format){ SHAPE_CHANNELS, 1 };
	case CU_AD_FORMAT_UNSIGNED_INT16:
	case CU_AD_FORMAT_SIGNED_INT16:
	case CU_AD_FORMAT_HALF:
		return (struct format){ SHAPE_CHANNELS, 2 };
	case CU_AD_FORMAT_UNSIGNED_INT32:
	case CU_AD_FORMAT_SIGNED_INT32:
	case CU_AD_FORMAT_FLOAT:
		return (struct format){ SHAPE_CHANNELS, 4 };
	case CU_AD_FORMAT_UNORM_INT8X1:
	case CU_AD_FORMAT_SNORM_INT8X1:
		return (struct format){ SHAPE_WHOLE, 1 };
	case CU_AD_FORMAT_UNORM_INT8X2:
	case CU_AD_FORMAT_SNORM_INT8X2:
	case CU_AD_FORMAT_UNORM_INT16X1:
	case CU_AD_FORMAT_SNORM_INT16X1:
		return (struct format){ SHAPE_WHOLE, 2 };
	case CU_AD_FORMAT_UNORM_INT8X4:
	case CU_AD_FORMAT_SNORM_INT8X4:
	case CU_AD_FORMAT_UNORM_INT16X2:
	case CU_AD_FORMAT_SNORM_INT16X2:
	case CU_AD_FORMAT_UNORM_INT_101010_2:
		return (struct format){ SHAPE_WHOLE, 4 };
	case CU_AD_FORMAT_BC1_UNORM:
	case CU_AD_FORMAT_BC1_UNORM_SRGB:
	case CU_AD_FORMAT_BC4_UNORM:
	case CU_AD_FORMAT_BC4_SNORM:
		return (struct format){ SHAPE_BLOCKS, 8 };
	default:
		break;
	}
	if (id >= CU_AD_FORMAT_BC2_UNORM && id <= CU_AD_FORMAT_BC7_UNORM_SRGB)
		return (struct format){ SHAPE_BLOCKS, 16 };
	/* Everything else that is known: four channels of 16 bits at most. */
	if ((id > CU_AD_FORMAT_FLOAT && id < 0x100) || id >= 0x100)
		return (struct format){ SHAPE_WHOLE, 8 };
	return (struct format){ SHAPE_NONE, 0 };
}

static uint64_t level_bytes(const struct format *format, uint64_t width, uint64_t height,
			    uint64_t depth, unsigned channels)
{
	uint64_t row, rows = height;

	if (format->shape == SHAPE_BLOCKS) {
		row = tr_sat_mul(tr_sat_add(width, 3) / 4, format->bytes);
		rows = tr_sat_add(height, 3) / 4;
	} else {
		row = tr_sat_mul(width, format->bytes);
		if (format->shape == SHAPE_CHANNELS)
			row = tr_sat_mul(row, channels);
	}
	row = tr_sat_round_up(row, TILE_BYTES);
	if (rows > 1)
		rows = tr_sat_round_up(rows, TILE_ROWS);
	return tr_sat_mul(tr_sat_mul(row, rows), depth);
}

static uint64_t halve(uint64_t side)
{
	return side > 1 ? side / 2 : side;
}

uint64_t tr_array_bytes_max(const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned levels)
{
	struct format format = format_of((unsigned)desc->Format);
	uint64_t width = desc->Width, sum = 0;
	uint64_t height = desc->Height ? desc->Height : 1;
	uint64_t depth = desc->Depth ? desc->Depth : 1;
	bool is_layered = desc->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP);

	if (format.shape == SHAPE_NONE || !width || !desc->NumChannels)
		return 0;
	for (unsigned level = 0; level < levels && level < 64; level++) {
		uint64_t bytes = level_bytes(&format, width, height, depth,
					     desc->NumChannels);

		sum = tr_sat_add(sum, bytes);
		width = halve(width);
		height = halve(height);
		if (!is_layered)
			depth = halve(depth);
	}
	return tr_sat_round_up(sum, PAGE_BYTES);
}
