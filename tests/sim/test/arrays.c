/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays take what a tiled layout takes, the machine's own books agree with what the driver
 * says, and everything returns when they are destroyed or their context is.
 */

#include <cuda.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "machine.h"
#include "rm/inspect.h"

#define UNIT_BYTES 65536u

static const CUarray_format u8 = CU_AD_FORMAT_UNSIGNED_INT8, f32 = CU_AD_FORMAT_FLOAT;

/* ---- the machine's books ----------------------------------------------------------- */

struct books {
	uint64_t listed_bytes; /* in the list of live objects */
	uint64_t held_bytes;   /* physically, in blocks */
	unsigned int objects;
};

static void see_object(const struct rm_live *object, void *arg)
{
	struct books *b = arg;

	if (object->kind != RM_ARRAY)
		return;
	b->objects++;
	b->listed_bytes += object->bytes;
}

static struct books read_books(void)
{
	static struct rm_client rows[16];
	struct books b = { 0 };
	size_t n = 16;

	CHECK(rm_open() == 0);
	CHECK(rm_clients(rows, &n) == 0);
	for (size_t i = 0; i < n; i++) {
		b.held_bytes += rows[i].bytes[0][RM_ARRAY];
		if (rows[i].has_objects)
			CHECK(rm_live_each(rows[i].serial, see_object, &b) == 0);
	}
	return b;
}

static void check_books(uint64_t listed, uint64_t held, unsigned int objects)
{
	struct books b = read_books();

	if (b.listed_bytes == listed && b.held_bytes == held && b.objects == objects)
		return;
	fprintf(stderr, "%u arrays of %llu bytes hold %llu, not %u of %llu holding %llu\n",
		b.objects, (unsigned long long)b.listed_bytes,
		(unsigned long long)b.held_bytes, objects, (unsigned long long)listed,
		(unsigned long long)held);
	exit(1);
}

/* ---- sizes ------------------------------------------------------------------------- */

struct shape {
	CUDA_ARRAY3D_DESCRIPTOR desc;
	uint64_t bytes;
};

/* Rows to 64 bytes, 8 rows, planes after one another, the whole to 64 KiB. */
static const struct shape shapes[] = {
	{ { 1, 0, 0, CU_AD_FORMAT_UNSIGNED_INT8, 1, 0 }, UNIT_BYTES },
	{ { 1000, 0, 0, CU_AD_FORMAT_FLOAT, 4, 0 }, 2 * UNIT_BYTES },     /* 16000 x 8 */
	{ { 1000, 1000, 0, CU_AD_FORMAT_FLOAT, 1, 0 }, 62 * UNIT_BYTES }, /* 4032 x 1000 */
	{ { 100, 100, 100, CU_AD_FORMAT_HALF, 2, 0 },
	  72 * UNIT_BYTES }, /* 448 x 104 x 100 */
	{ { 64, 0, 7, CU_AD_FORMAT_UNSIGNED_INT8, 1, CUDA_ARRAY3D_LAYERED }, UNIT_BYTES },
	{ { 64, 64, 33, CU_AD_FORMAT_UNSIGNED_INT16, 4, CUDA_ARRAY3D_LAYERED },
	  17 * UNIT_BYTES }, /* 512 x 64 x 33 */
	{ { 128, 128, 6, CU_AD_FORMAT_UNSIGNED_INT8, 4, CUDA_ARRAY3D_CUBEMAP },
	  6 * UNIT_BYTES },
	{ { 256, 256, 0, CU_AD_FORMAT_BC1_UNORM, 4, 0 }, UNIT_BYTES }, /* 512 x 64 */
	{ { 1920, 1080, 0, CU_AD_FORMAT_NV12, 3, 0 }, 48 * UNIT_BYTES },
	/* 1920 x 1080 and 1920 x 544 */
};

static void check_shape(const struct shape *s)
{
	uint64_t held = (s->bytes + RM_BLOCK_BYTES - 1) / RM_BLOCK_BYTES * RM_BLOCK_BYTES;
	CUDA_ARRAY3D_DESCRIPTOR deferred = s->desc, got;
	CUDA_ARRAY_MEMORY_REQUIREMENTS needs;
	CUarray array;

	SUCCEEDS(cuArray3DCreate(&array, &s->desc));
	check_books(s->bytes, held, 1);
	SUCCEEDS(cuArray3DGetDescriptor(&got, array));
	CHECK(memcmp(&got, &s->desc, sizeof got) == 0);
	/* The header: only with deferred mapping. */
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuArrayGetMemoryRequirements(&needs, array, 0));
	SUCCEEDS(cuArrayDestroy(array));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuArrayDestroy(array));
	check_books(0, 0, 0);
	deferred.Flags |= CUDA_ARRAY3D_DEFERRED_MAPPING;
	SUCCEEDS(cuArray3DCreate(&array, &deferred));
	check_books(0, 0, 0);
	SUCCEEDS(cuArrayGetMemoryRequirements(&needs, array, 0));
	CHECK(needs.size == s->bytes && needs.alignment == UNIT_BYTES);
	SUCCEEDS(cuArrayDestroy(array));
}

static void check_mipmap(void)
{
	/* 256 + 128 + 64 + 32 + ... square, four bytes: each level its own rows and tiles.
	 */
	CUDA_ARRAY3D_DESCRIPTOR d = { 256, 256, 0, f32, 1, 0 }, got;
	uint64_t bytes = 262144 + 65536 + 16384 + 4096 + 1024 + 4 * 512;
	uint64_t rounded = (bytes + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES;
	CUDA_ARRAY_MEMORY_REQUIREMENTS needs;
	float row[128], got_row[128] = { 0 };
	CUmipmappedArray mipmap;
	CUarray level, again;
	CUDA_MEMCPY2D c = { .srcMemoryType = CU_MEMORYTYPE_HOST,
			    .srcHost = row,
			    .dstMemoryType = CU_MEMORYTYPE_ARRAY,
			    .dstY = 127,
			    .WidthInBytes = sizeof row,
			    .Height = 1 };

	SUCCEEDS(cuMipmappedArrayCreate(&mipmap, &d, 99));
	check_books(rounded, RM_BLOCK_BYTES, 1);
	ANSWERS(CUDA_ERROR_INVALID_VALUE,
		cuMipmappedArrayGetMemoryRequirements(&needs, mipmap, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMipmappedArrayGetLevel(&level, mipmap, 9));
	SUCCEEDS(cuMipmappedArrayGetLevel(&level, mipmap, 8));
	SUCCEEDS(cuArray3DGetDescriptor(&got, level));
	CHECK(got.Width == 1 && got.Height == 1 && got.Depth == 0);
	SUCCEEDS(cuMipmappedArrayGetLevel(&level, mipmap, 1));
	SUCCEEDS(cuMipmappedArrayGetLevel(&again, mipmap, 1));
	CHECK(level == again);
	for (int i = 0; i < 128; i++)
		row[i] = (float)i;
	c.dstArray = level;
	SUCCEEDS(cuMemcpy2D(&c));
	c = (CUDA_MEMCPY2D){ .srcMemoryType = CU_MEMORYTYPE_ARRAY,
			     .srcArray = level,
			     .srcY = 127,
			     .dstMemoryType = CU_MEMORYTYPE_HOST,
			     .dstHost = got_row,
			     .WidthInBytes = sizeof row,
			     .Height = 1 };
	SUCCEEDS(cuMemcpy2D(&c));
	CHECK(memcmp(row, got_row, sizeof row) == 0);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuArrayDestroy(level));
	SUCCEEDS(cuMipmappedArrayDestroy(mipmap));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuMemcpy2D(&c));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuMipmappedArrayDestroy(mipmap));
	check_books(0, 0, 0);
	d.Flags = CUDA_ARRAY3D_DEFERRED_MAPPING;
	SUCCEEDS(cuMipmappedArrayCreate(&mipmap, &d, 99));
	SUCCEEDS(cuMipmappedArrayGetMemoryRequirements(&needs, mipmap, 0));
	CHECK(needs.size == rounded);
	SUCCEEDS(cuMipmappedArrayDestroy(mipmap));
}

/* 32 units fill one block, the 33rd needs another; freeing all gives both back. */
static void check_sharing(void)
{
	CUDA_ARRAY_DESCRIPTOR d = { 16, 16, u8, 1 };
	CUarray arrays[33];

	for (int i = 0; i < 32; i++)
		SUCCEEDS(cuArrayCreate(&arrays[i], &d));
	check_books(32 * UNIT_BYTES, RM_BLOCK_BYTES, 32);
	SUCCEEDS(cuArrayCreate(&arrays[32], &d));
	check_books(33 * UNIT_BYTES, 2 * RM_BLOCK_BYTES, 33);
	for (int i = 0; i < 33; i++)
		SUCCEEDS(cuArrayDestroy(arrays[i]));
	check_books(0, 0, 0);
}

static void check_planes(void)
{
	CUDA_ARRAY3D_DESCRIPTOR d = { 64, 32, 0, CU_AD_FORMAT_NV12, 3, 0 }, got;
	unsigned char luma[64], chroma[64], back[64];
	CUarray array, plane[2];

	SUCCEEDS(cuArray3DCreate(&array, &d));
	SUCCEEDS(cuArrayGetPlane(&plane[0], array, 0));
	SUCCEEDS(cuArrayGetPlane(&plane[1], array, 1));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuArrayGetPlane(&plane[1], array, 2));
	SUCCEEDS(cuArray3DGetDescriptor(&got, plane[1]));
	CHECK(got.Width == 32 && got.Height == 16 && got.NumChannels == 2 &&
	      got.Format == u8);
	memset(luma, 1, sizeof luma);
	memset(chroma, 2, sizeof chroma);
	SUCCEEDS(cuMemcpyHtoA(plane[0], 0, luma, 64));
	SUCCEEDS(cuMemcpyHtoA(plane[1], 0, chroma, 64));
	SUCCEEDS(cuMemcpyAtoH(back, plane[0], 0, 64));
	CHECK(memcmp(back, luma, 64) == 0);
	SUCCEEDS(cuArrayDestroy(array));
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuMemcpyAtoH(back, plane[0], 0, 64));
}

static void check_refusals(void)
{
	static const CUDA_ARRAY3D_DESCRIPTOR bad[] = {
		{ 0, 1, 0, CU_AD_FORMAT_FLOAT, 1, 0 },
		{ 1, 0, 1, CU_AD_FORMAT_FLOAT, 1, 0 },
		{ 1, 1, 0, CU_AD_FORMAT_FLOAT, 3, 0 },
		{ 1, 1, 0, CU_AD_FORMAT_FLOAT, 0, 0 },
		{ 1, 1, 0, (CUarray_format)0x77, 1, 0 },
		{ 131073, 0, 0, CU_AD_FORMAT_FLOAT, 1, 0 },
		{ 1, 65537, 0, CU_AD_FORMAT_FLOAT, 1, 0 },
		{ 16385, 1, 1, CU_AD_FORMAT_FLOAT, 1, 0 },
		{ 4, 4, 0, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_LAYERED },
		{ 4, 4, 2049, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_LAYERED },
		{ 4, 8, 6, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_CUBEMAP },
		{ 4, 4, 5, CU_AD_FORMAT_FLOAT, 1, CUDA_ARRAY3D_CUBEMAP },
		{ 4, 4, 0, CU_AD_FORMAT_FLOAT, 1, 0x8000 },
		{ SIZE_MAX, SIZE_MAX, SIZE_MAX, CU_AD_FORMAT_FLOAT, 4, 0 },
	};
	CUDA_ARRAY3D_DESCRIPTOR huge = { 16384, 16384, 16384, f32, 4, 0 };
	CUmipmappedArray mipmap;
	CUarray array;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		ANSWERS(CUDA_ERROR_INVALID_VALUE, cuArray3DCreate(&array, &bad[i]));
		ANSWERS(CUDA_ERROR_INVALID_VALUE,
			cuMipmappedArrayCreate(&mipmap, &bad[i], 1));
	}
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuArray3DCreate(NULL, &huge));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuArray3DCreate(&array, NULL));
	ANSWERS(CUDA_ERROR_OUT_OF_MEMORY, cuArray3DCreate(&array, &huge));
	ANSWERS(CUDA_ERROR_OUT_OF_MEMORY, cuMipmappedArrayCreate(&mipmap, &huge, 2));
	check_books(0, 0, 0);
}

/* An array over a tile pool: no memory of its own, and the pool lives as long as the
 * mapping. */
static void check_mapping(void)
{
	CUDA_ARRAY3D_DESCRIPTOR d = { 64, 64, 0, u8, 1, CUDA_ARRAY3D_DEFERRED_MAPPING };
	CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE },
				     .allocFlags.usage = CU_MEM_CREATE_USAGE_TILE_POOL };
	CUarrayMapInfo info = { .resourceType = CU_RESOURCE_TYPE_ARRAY,
				.memOperationType = CU_MEM_OPERATION_TYPE_MAP,
				.memHandleType = CU_MEM_HANDLE_TYPE_GENERIC,
				.deviceBitMask = 1 };
	size_t free_bytes, before, total_bytes;
	unsigned char row[64], back[64];
	CUarray array;

	SUCCEEDS(cuMemGetInfo(&before, &total_bytes));
	SUCCEEDS(cuArray3DCreate(&array, &d));
	memset(row, 7, sizeof row);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoA(array, 0, row, 64));
	info.resource.array = array;
	ANSWERS(CUDA_ERROR_INVALID_HANDLE, cuMemMapArrayAsync(&info, 1, NULL));
	SUCCEEDS(cuMemCreate(&info.memHandle.memHandle, RM_BLOCK_BYTES, &prop, 0));
	info.offset = RM_BLOCK_BYTES;
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemMapArrayAsync(&info, 1, NULL));
	info.offset = UNIT_BYTES;
	SUCCEEDS(cuMemMapArrayAsync(&info, 1, NULL));
	SUCCEEDS(cuMemRelease(info.memHandle.memHandle));
	SUCCEEDS(cuMemcpyHtoA(array, 0, row, 64));
	SUCCEEDS(cuMemcpyAtoH(back, array, 0, 64));
	CHECK(memcmp(row, back, 64) == 0);
	SUCCEEDS(cuMemGetInfo(&free_bytes, &total_bytes));
	CHECK(before - free_bytes == RM_BLOCK_BYTES);
	info.memOperationType = CU_MEM_OPERATION_TYPE_UNMAP;
	info.memHandle.memHandle = 0;
	SUCCEEDS(cuMemMapArrayAsync(&info, 1, NULL));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoA(array, 0, row, 64));
	SUCCEEDS(cuMemGetInfo(&free_bytes, &total_bytes));
	CHECK(before == free_bytes);
	SUCCEEDS(cuArrayDestroy(array));
}

/* What a context held goes with it, whatever the order of its parts. */
static void check_context(CUcontext primary)
{
	CUDA_ARRAY3D_DESCRIPTOR d = { 2000, 2000, 0, f32, 1, 0 };
	CUDA_TEXTURE_DESC texture = { .addressMode = { CU_TR_ADDRESS_MODE_CLAMP } };
	CUDA_RESOURCE_DESC resource = { .resType = CU_RESOURCE_TYPE_ARRAY }, got;
	CUmipmappedArray mipmap;
	CUtexObject object;
	CUsurfObject surface;
	CUcontext ctx;
	CUarray array;

	SUCCEEDS(cuCtxCreate(&ctx, NULL, 0, 0));
	SUCCEEDS(cuArray3DCreate(&array, &d));
	SUCCEEDS(cuMipmappedArrayCreate(&mipmap, &d, 5));
	d.Width = 8;
	SUCCEEDS(cuArray3DCreate(&array, &d));
	resource.res.array.hArray = array;
	SUCCEEDS(cuTexObjectCreate(&object, &resource, &texture, NULL));
	SUCCEEDS(cuSurfObjectCreate(&surface, &resource));
	SUCCEEDS(cuTexObjectGetResourceDesc(&got, object));
	CHECK(got.res.array.hArray == array);
	CHECK(read_books().objects == 3);
	SUCCEEDS(cuCtxDestroy(ctx));
	check_books(0, 0, 0);
	SUCCEEDS(cuCtxSetCurrent(primary));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuTexObjectGetResourceDesc(&got, object));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuSurfObjectDestroy(surface));
}

int main(void)
{
	CUDA_ARRAY_DESCRIPTOR one = { 1, 1, CU_AD_FORMAT_FLOAT, 1 };
	CUcontext ctx;
	CUarray array;

	machine_prepare("h100", "own");
	SUCCEEDS(cuInit(0));
	ANSWERS(CUDA_ERROR_INVALID_CONTEXT, cuArrayCreate(&array, &one));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(ctx));
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		check_shape(&shapes[i]);
	check_mipmap();
	check_sharing();
	check_planes();
	check_refusals();
	check_mapping();
	check_context(ctx);
	return 0;
}
