/* SPDX-License-Identifier: Apache-2.0 */
#include "fake.h"

#include <stdlib.h>
#include <string.h>

#include "process.h"
#include "rt/sat.h"
#include "tr_test.h"

#define THINGS   4096u
#define STEP     (UINT64_C(32) << 20)
#define BASE     UINT64_C(0x700000000000)
#define DISTANCE (UINT64_C(1) << 32)

/* One thing of the driver: its number is its place. */
struct thing {
	uint64_t bytes; /* 0: none here */
	unsigned references, maps;
	bool is_object;
};

struct mapping {
	uint64_t start, bytes;
	unsigned object; /* place + 1; 0: none here */
};

struct fake fake;

static struct thing things[THINGS];
static struct mapping mappings[THINGS];
static uint64_t pool_reserved, pool_used;

CUresult tr_device_current(tr_dev *dev, CUcontext *ctx)
{
	dev->at = 0;
	*ctx = fake.ctx;
	return CUDA_SUCCESS;
}

CUresult tr_device_of(CUdevice ordinal, tr_dev *dev)
{
	dev->at = 0;
	if (fake.device_errors)
		return (CUresult)fake.device_errors;
	return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

bool tr_context_is_own(CUcontext ctx)
{
	(void)ctx;
	return false;
}

uint64_t tr_limit_bytes(tr_dev dev)
{
	return dev.at == 0 ? fake.limit_bytes : 0;
}

/* True for the call that is to fail. */
static bool fails(void)
{
	return ++fake.calls == fake.fail_at;
}

static unsigned take_thing(uint64_t bytes)
{
	for (unsigned i = 0; i < THINGS; i++)
		if (!things[i].bytes) {
			things[i] = (struct thing){ .bytes = bytes };
			return i;
		}
	abort();
}

static uint64_t address_of(unsigned place)
{
	return BASE + place * DISTANCE;
}

/* The place of a live thing that starts at ADDRESS, or THINGS. */
static unsigned place_of(uint64_t address)
{
	uint64_t place = (address - BASE) / DISTANCE;

	if (address < BASE || place >= THINGS || address != address_of((unsigned)place) ||
	    !things[place].bytes)
		return THINGS;
	return (unsigned)place;
}

static CUresult fake_alloc(CUdeviceptr *out, size_t bytes)
{
	if (fails())
		return fake.fail_with;
	*out = address_of(take_thing(tr_sat_round_up(bytes, 512)));
	return CUDA_SUCCESS;
}

static CUresult fake_pitch(CUdeviceptr *out, size_t *pitch, size_t width, size_t rows,
			   unsigned element)
{
	(void)element;
	if (fails())
		return fake.fail_with;
	*pitch = tr_sat_round_up(width, 4096);
	*out = address_of(take_thing(*pitch * rows));
	return CUDA_SUCCESS;
}

static CUresult fake_managed(CUdeviceptr *out, size_t bytes, unsigned flags)
{
	(void)flags;
	return fake_alloc(out, bytes);
}

static CUresult fake_free(CUdeviceptr address)
{
	unsigned place = place_of(address);

	if (fails())
		return fake.fail_with;
	if (place == THINGS)
		return CUDA_ERROR_INVALID_VALUE;
	things[place].bytes = 0;
	if (fake.after_free)
		fake.after_free();
	return CUDA_SUCCESS;
}

/* ---- objects ------------------------------------------------------------------------- */

static CUresult fake_create(CUmemGenericAllocationHandle *out, size_t bytes,
			    const CUmemAllocationProp *prop, unsigned long long flags)
{
	unsigned place;

	(void)flags;
	if (fails())
		return fake.fail_with;
	if (!prop || prop->location.id != 0)
		return CUDA_ERROR_INVALID_DEVICE;
	place = take_thing(bytes);
	things[place].is_object = true;
	things[place].references = 1;
	*out = place + 1;
	return CUDA_SUCCESS;
}

static void end_object(unsigned place)
{
	if (!things[place].references && !things[place].maps)
		things[place] = (struct thing){ 0 };
}

static CUresult fake_release(CUmemGenericAllocationHandle handle)
{
	if (fails())
		return fake.fail_with;
	if (!handle || handle > THINGS || !things[handle - 1].references)
		return CUDA_ERROR_INVALID_VALUE;
	things[handle - 1].references--;
	end_object((unsigned)handle - 1);
	return CUDA_SUCCESS;
}

static CUresult fake_map(CUdeviceptr at, size_t bytes, size_t offset,
			 CUmemGenericAllocationHandle handle, unsigned long long flags)
{
	(void)offset;
	(void)flags;
	if (fails())
		return fake.fail_with;
	if (!handle || handle > THINGS || !things[handle - 1].references)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned i = 0; i < THINGS; i++)
		if (!mappings[i].object) {
			mappings[i] = (struct mapping){ at, bytes, (unsigned)handle };
			things[handle - 1].maps++;
			return CUDA_SUCCESS;
		}
	abort();
}

static CUresult fake_unmap(CUdeviceptr at, size_t bytes)
{
	if (fails())
		return fake.fail_with;
	for (unsigned i = 0; i < THINGS; i++) {
		struct mapping *m = &mappings[i];

		if (!m->object || m->start < at || m->start + m->bytes > at + bytes)
			continue;
		things[m->object - 1].maps--;
		end_object(m->object - 1);
		m->object = 0;
	}
	return CUDA_SUCCESS;
}

static CUresult fake_retain(CUmemGenericAllocationHandle *out, void *address)
{
	uint64_t at = (uint64_t)(uintptr_t)address;

	if (fails())
		return fake.fail_with;
	for (unsigned i = 0; i < THINGS; i++) {
		const struct mapping *m = &mappings[i];

		if (!m->object || at < m->start || at >= m->start + m->bytes)
			continue;
		things[m->object - 1].references++;
		*out = m->object;
		return CUDA_SUCCESS;
	}
	return CUDA_ERROR_INVALID_VALUE;
}

/* ---- one pool ------------------------------------------------------------------------ */

static CUresult fake_default_pool(CUmemoryPool *out, CUdevice ordinal)
{
	*out = (CUmemoryPool)(void *)&pool_reserved;
	return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static CUresult fake_attribute(CUmemoryPool pool, CUmemPool_attribute attribute,
			       void *value)
{
	(void)pool;
	if (!fake.tells_pools)
		return CUDA_ERROR_INVALID_VALUE;
	*(cuuint64_t *)value = attribute == CU_MEMPOOL_ATTR_USED_MEM_CURRENT
				       ? pool_used
				       : pool_reserved;
	return CUDA_SUCCESS;
}

static CUresult fake_alloc_async(CUdeviceptr *out, size_t bytes, CUstream stream)
{
	uint64_t rounded = tr_sat_round_up(bytes, 512);

	(void)stream;
	if (fails())
		return fake.fail_with;
	if (pool_used + rounded > pool_reserved)
		pool_reserved += tr_sat_round_up(rounded, STEP);
	pool_used += rounded;
	*out = address_of(take_thing(rounded));
	return CUDA_SUCCESS;
}

static CUresult fake_free_async(CUdeviceptr address, CUstream stream)
{
	unsigned place = place_of(address);

	(void)stream;
	if (fails())
		return fake.fail_with;
	if (place == THINGS)
		return CUDA_ERROR_INVALID_VALUE;
	pool_used -= things[place].bytes;
	things[place].bytes = 0;
	return CUDA_SUCCESS;
}

static CUresult fake_trim(CUmemoryPool pool, size_t keep)
{
	(void)pool;
	if (!pool_used && pool_reserved > keep)
		pool_reserved = keep;
	return CUDA_SUCCESS;
}

/* ---- arrays -------------------------------------------------------------------------- */

static CUresult fake_array(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	uint64_t bytes = desc->Width * (desc->Height ? desc->Height : 1) *
			 desc->NumChannels;

	if (fails())
		return fake.fail_with;
	/* One without memory of its own: told apart by a size that nothing has. */
	if (desc->Flags & CUDA_ARRAY3D_DEFERRED_MAPPING) {
		static uint64_t twin;

		twin = tr_sat_round_up(bytes, 65536);
		*out = (CUarray)(void *)&twin;
		return CUDA_SUCCESS;
	}
	*out = (CUarray)(uintptr_t)address_of(take_thing(tr_sat_round_up(bytes, 65536)));
	return CUDA_SUCCESS;
}

static CUresult fake_array_destroy(CUarray array)
{
	uint64_t address = (uint64_t)(uintptr_t)array;

	if (place_of(address) == THINGS)
		return CUDA_SUCCESS; /* a twin */
	return fake_free(address);
}

static CUresult fake_array_needs(CUDA_ARRAY_MEMORY_REQUIREMENTS *out, CUarray array,
				 CUdevice ordinal)
{
	(void)ordinal;
	if (!fake.asks_arrays)
		return CUDA_ERROR_INVALID_VALUE;
	out->size = *(const uint64_t *)(const void *)array;
	return CUDA_SUCCESS;
}

static CUresult fake_ctx_device(CUdevice *out)
{
	*out = 0;
	return CUDA_SUCCESS;
}

static CUresult fake_device_count(int *out)
{
	*out = 1;
	return CUDA_SUCCESS;
}

static void fill_real(void)
{
	tr_real = (struct tr_real){
		.cuMemAlloc_v2 = fake_alloc,
		.cuMemAllocPitch_v2 = fake_pitch,
		.cuMemAllocManaged = fake_managed,
		.cuMemFree_v2 = fake_free,
		.cuMemCreate = fake_create,
		.cuMemRelease = fake_release,
		.cuMemMap = fake_map,
		.cuMemUnmap = fake_unmap,
		.cuMemRetainAllocationHandle = fake_retain,
		.cuDeviceGetDefaultMemPool = fake_default_pool,
		.cuDeviceGetMemPool = fake_default_pool,
		.cuMemPoolGetAttribute = fake_attribute,
		.cuMemAllocAsync = fake_alloc_async,
		.cuMemFreeAsync = fake_free_async,
		.cuMemPoolTrimTo = fake_trim,
		.cuArray3DCreate_v2 = fake_array,
		.cuArrayDestroy = fake_array_destroy,
		.cuArrayGetMemoryRequirements = fake_array_needs,
		.cuCtxGetDevice = fake_ctx_device,
		.cuDeviceGetCount = fake_device_count,
	};
}

void fake_start(void)
{
	fake = (struct fake){ .limit_bytes = TR_UNLIMITED,
			      .fail_with = CUDA_ERROR_UNKNOWN,
			      .asks_arrays = true,
			      .tells_pools = true };
	fake.ctx = (CUcontext)(void *)things;
	memset(things, 0, sizeof(things));
	memset(mappings, 0, sizeof(mappings));
	pool_reserved = pool_used = 0;
	tr_objects_forget();
	fill_real();
	process_start();
}

void fake_end(void)
{
	process_end();
	tr_objects_forget();
}

uint64_t fake_used_bytes(void)
{
	return atomic_load(
		&tr_self.ledger.state->mem[0][tr_self.ledger.slot.at].used_bytes);
}

uint64_t fake_live_bytes(void)
{
	uint64_t sum = pool_reserved - pool_used;

	for (unsigned i = 0; i < THINGS; i++)
		sum += things[i].bytes;
	return sum;
}

void fake_drop_context(void)
{
	for (unsigned i = 0; i < THINGS; i++)
		if (!things[i].is_object)
			things[i].bytes = 0;
	pool_reserved = pool_used = 0;
}
