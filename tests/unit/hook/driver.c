/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/sat.h"
#include "tr_test.h"
#include "tranche/paths.h"

#define THINGS   8192u
#define CONTEXTS 64u
#define BASE     UINT64_C(0x700000000000)
#define DISTANCE (UINT64_C(1) << 32)
#define STEP     (UINT64_C(32) << 20)

enum kind { NOTHING, POINTER, POOLED, OBJECT };

struct thing {
	enum kind kind;
	uint64_t bytes;
	const struct ctx *ctx; /* of pointers */
	unsigned references, maps;
	uint64_t mapped_at; /* of objects */
};

struct ctx {
	unsigned uses; /* 0: the handle is free */
};

struct driver driver;
struct tr_real tr_real;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct thing things[THINGS];
static unsigned next_place; /* where to look first: freed places are reused soon */
static struct ctx contexts[CONTEXTS], primary;
static uint64_t pool_reserved, pool_used;
static _Thread_local struct ctx *current;
static char dir[] = "/dev/shm/tr-hook-unit-XXXXXX";
static char policy[64], state[64];

static void call(void (*what)(void))
{
	if (what)
		what();
}

/* ---- things -------------------------------------------------------------------------- */

static uint64_t address_of(unsigned place)
{
	return BASE + place * DISTANCE;
}

static struct thing *thing_at(uint64_t address)
{
	uint64_t place = (address - BASE) / DISTANCE;

	if (address < BASE || place >= THINGS || address != address_of((unsigned)place) ||
	    things[place].kind == NOTHING)
		return NULL;
	return &things[place];
}

static uint64_t make(enum kind kind, uint64_t bytes)
{
	for (unsigned n = 0; n < THINGS; n++) {
		unsigned place = (next_place + n) % THINGS;

		if (things[place].kind != NOTHING)
			continue;
		next_place = place + 1;
		things[place] = (struct thing){ .kind = kind,
						.bytes = tr_sat_round_up(bytes, 512),
						.ctx = current,
						.references = 1 };
		return address_of(place);
	}
	abort();
}

static void unmake(struct thing *thing)
{
	next_place = (unsigned)(thing - things);
	thing->kind = NOTHING;
}

static CUresult alloc(CUdeviceptr *out, size_t bytes)
{
	if (!current)
		return CUDA_ERROR_INVALID_CONTEXT;
	pthread_mutex_lock(&lock);
	*out = make(POINTER, bytes);
	pthread_mutex_unlock(&lock);
	call(driver.in_alloc);
	return CUDA_SUCCESS;
}

static CUresult release(CUdeviceptr address)
{
	struct thing *thing;

	pthread_mutex_lock(&lock);
	thing = thing_at(address);
	if (thing && thing->kind == POINTER)
		unmake(thing);
	else
		thing = NULL;
	pthread_mutex_unlock(&lock);
	return thing ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- the pool ------------------------------------------------------------------------ */

static CUresult default_pool(CUmemoryPool *out, CUdevice ordinal)
{
	*out = (CUmemoryPool)(void *)&pool_reserved;
	return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static CUresult pool_attribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *out)
{
	cuuint64_t value = 0;

	(void)pool;
	pthread_mutex_lock(&lock);
	if (attribute == CU_MEMPOOL_ATTR_USED_MEM_CURRENT)
		value = pool_used;
	else if (attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)
		value = pool_reserved;
	pthread_mutex_unlock(&lock);
	memcpy(out, &value, sizeof(value));
	return CUDA_SUCCESS;
}

static CUresult alloc_async(CUdeviceptr *out, size_t bytes, CUstream stream)
{
	uint64_t rounded = tr_sat_round_up(bytes, 512);

	(void)stream;
	pthread_mutex_lock(&lock);
	if (pool_used + rounded > pool_reserved)
		pool_reserved += tr_sat_round_up(rounded, STEP);
	pool_used += rounded;
	*out = make(POOLED, rounded);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

static CUresult free_async(CUdeviceptr address, CUstream stream)
{
	struct thing *thing;

	(void)stream;
	pthread_mutex_lock(&lock);
	thing = thing_at(address);
	if (thing && thing->kind == POOLED) {
		pool_used -= thing->bytes;
		unmake(thing);
	} else {
		thing = NULL;
	}
	pthread_mutex_unlock(&lock);
	return thing ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult trim(CUmemoryPool pool, size_t keep)
{
	(void)pool;
	pthread_mutex_lock(&lock);
	if (!pool_used && pool_reserved > keep)
		pool_reserved = keep;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

static CUresult synchronise(void)
{
	return trim(NULL, 0);
}

/* ---- objects ------------------------------------------------------------------------- */

static CUresult create_object(CUmemGenericAllocationHandle *out, size_t bytes,
			      const CUmemAllocationProp *prop, unsigned long long flags)
{
	(void)prop;
	(void)flags;
	pthread_mutex_lock(&lock);
	*out = make(OBJECT, bytes);
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

static void end_object(struct thing *thing)
{
	if (!thing->references && !thing->maps)
		unmake(thing);
}

static CUresult release_object(CUmemGenericAllocationHandle handle)
{
	struct thing *thing;
	CUresult res = CUDA_ERROR_INVALID_VALUE;

	pthread_mutex_lock(&lock);
	thing = thing_at(handle);
	if (thing && thing->kind == OBJECT && thing->references) {
		thing->references--;
		end_object(thing);
		res = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&lock);
	return res;
}

static CUresult map(CUdeviceptr at, size_t bytes, size_t offset,
		    CUmemGenericAllocationHandle handle, unsigned long long flags)
{
	struct thing *thing;
	CUresult res = CUDA_ERROR_INVALID_VALUE;

	(void)bytes;
	(void)offset;
	(void)flags;
	pthread_mutex_lock(&lock);
	thing = thing_at(handle);
	if (thing && thing->kind == OBJECT && thing->references && !thing->maps) {
		thing->maps = 1;
		thing->mapped_at = at;
		res = CUDA_SUCCESS;
	}
	pthread_mutex_unlock(&lock);
	return res;
}

static CUresult unmap(CUdeviceptr at, size_t bytes)
{
	CUresult res = CUDA_ERROR_INVALID_VALUE;

	(void)bytes;
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < THINGS && res != CUDA_SUCCESS; i++)
		if (things[i].kind == OBJECT && things[i].maps &&
		    things[i].mapped_at == at) {
			things[i].maps = 0;
			end_object(&things[i]);
			res = CUDA_SUCCESS;
		}
	pthread_mutex_unlock(&lock);
	return res;
}

/* ---- contexts ------------------------------------------------------------------------ */

static CUcontext handle_of(struct ctx *ctx)
{
	return (CUcontext)(void *)ctx;
}

static CUresult create(CUcontext *out, unsigned flags, CUdevice ordinal)
{
	struct ctx *ctx = NULL;

	(void)flags;
	(void)ordinal;
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < CONTEXTS && !ctx; i++)
		if (!contexts[i].uses)
			ctx = &contexts[i];
	if (!ctx)
		abort();
	ctx->uses = 1;
	pthread_mutex_unlock(&lock);
	current = ctx;
	*out = handle_of(ctx);
	call(driver.in_create);
	return CUDA_SUCCESS;
}

static void end_context(struct ctx *ctx)
{
	ctx->uses = 0;
	for (unsigned i = 0; i < THINGS; i++)
		if (things[i].kind == POINTER && things[i].ctx == ctx)
			unmake(&things[i]);
}

static CUresult drop(struct ctx *ctx)
{
	bool is_end = false, is_known;

	call(driver.before_destroy);
	pthread_mutex_lock(&lock);
	is_known = ctx->uses > 0;
	if (is_known && --ctx->uses == 0) {
		end_context(ctx);
		is_end = true;
	}
	pthread_mutex_unlock(&lock);
	if (current == ctx && is_end)
		current = NULL;
	if (is_end)
		call(driver.in_destroy);
	return is_known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

static CUresult destroy(CUcontext handle)
{
	return drop((struct ctx *)(void *)handle);
}

static CUresult attach(CUcontext *out, unsigned flags)
{
	(void)flags;
	if (!current)
		return CUDA_ERROR_INVALID_CONTEXT;
	pthread_mutex_lock(&lock);
	current->uses++;
	pthread_mutex_unlock(&lock);
	*out = handle_of(current);
	return CUDA_SUCCESS;
}

static CUresult get_current(CUcontext *out)
{
	*out = handle_of(current);
	return CUDA_SUCCESS;
}

static CUresult set_current(CUcontext handle)
{
	current = (struct ctx *)(void *)handle;
	return CUDA_SUCCESS;
}

static CUresult retain_primary(CUcontext *out, CUdevice ordinal)
{
	(void)ordinal;
	pthread_mutex_lock(&lock);
	primary.uses++;
	pthread_mutex_unlock(&lock);
	*out = handle_of(&primary);
	return CUDA_SUCCESS;
}

static CUresult release_primary(CUdevice ordinal)
{
	(void)ordinal;
	return drop(&primary);
}

static CUresult reset_primary(CUdevice ordinal)
{
	(void)ordinal;
	pthread_mutex_lock(&lock);
	end_context(&primary);
	pthread_mutex_unlock(&lock);
	call(driver.in_destroy);
	return CUDA_SUCCESS;
}

static CUresult primary_state(CUdevice ordinal, unsigned *flags, int *active)
{
	(void)ordinal;
	pthread_mutex_lock(&lock);
	*flags = 0;
	*active = primary.uses > 0;
	pthread_mutex_unlock(&lock);
	return CUDA_SUCCESS;
}

/* ---- the device ---------------------------------------------------------------------- */

static CUresult init(unsigned flags)
{
	(void)flags;
	return CUDA_SUCCESS;
}

static CUresult uuid(CUuuid *out, CUdevice ordinal)
{
	memset(out, 0x11, sizeof(*out));
	return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static CUresult ctx_device(CUdevice *out)
{
	*out = 0;
	return current ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

static CUresult device_count(int *out)
{
	*out = 1;
	return CUDA_SUCCESS;
}

static void fill_real(void)
{
	tr_real = (struct tr_real){
		.cuInit = init,
		.cuDeviceGetUuid_v2 = uuid,
		.cuDeviceGetCount = device_count,
		.cuCtxGetDevice = ctx_device,
		.cuCtxGetCurrent = get_current,
		.cuCtxSetCurrent = set_current,
		.cuCtxCreate_v2 = create,
		.cuCtxDestroy_v2 = destroy,
		.cuCtxDetach = destroy,
		.cuCtxAttach = attach,
		.cuCtxSynchronize = synchronise,
		.cuDevicePrimaryCtxRetain = retain_primary,
		.cuDevicePrimaryCtxRelease_v2 = release_primary,
		.cuDevicePrimaryCtxReset_v2 = reset_primary,
		.cuDevicePrimaryCtxGetState = primary_state,
		.cuMemAlloc_v2 = alloc,
		.cuMemFree_v2 = release,
		.cuMemCreate = create_object,
		.cuMemRelease = release_object,
		.cuMemMap = map,
		.cuMemUnmap = unmap,
		.cuDeviceGetDefaultMemPool = default_pool,
		.cuDeviceGetMemPool = default_pool,
		.cuMemPoolGetAttribute = pool_attribute,
		.cuMemAllocAsync = alloc_async,
		.cuMemFreeAsync = free_async,
		.cuMemPoolTrimTo = trim,
	};
}

/* ---- the process --------------------------------------------------------------------- */

void driver_start(uint64_t limit_bytes)
{
	const struct tr_page_device device = {
		.uuid = "GPU-11111111-1111-1111-1111-111111111111",
		.limit_bytes = limit_bytes,
		.context_floor_bytes = DRIVER_FLOOR_BYTES,
	};
	const struct tr_page_spec spec = { .name = "unit",
					   .state_path = state,
					   .serial = 7,
					   .device_count = 1,
					   .devices = &device };

	fill_real();
	assert_non_null(mkdtemp(dir));
	(void)snprintf(state, sizeof(state), "%s/state", dir);
	(void)snprintf(policy, sizeof(policy), "%s/policy", dir);
	assert_int_equal(tr_state_create(state, spec.serial, 0600, NULL), 0);
	assert_int_equal(tr_page_create(policy, &spec, NULL), 0);
	assert_int_equal(setenv(TR_ENV_POLICY, policy, 1), 0);
	assert_int_equal(cuInit(0), CUDA_SUCCESS);
}

void driver_end(void)
{
	tr_seat_leave(&tr_self.seat);
	assert_int_equal(unlink(state), 0);
	assert_int_equal(unlink(policy), 0);
	assert_int_equal(rmdir(dir), 0);
}

uint64_t driver_live_bytes(void)
{
	uint64_t sum;

	pthread_mutex_lock(&lock);
	sum = pool_reserved;
	for (unsigned i = 0; i < THINGS; i++)
		if (things[i].kind == POINTER || things[i].kind == OBJECT)
			sum += things[i].bytes;
	pthread_mutex_unlock(&lock);
	return sum;
}

unsigned driver_contexts(void)
{
	unsigned n;

	pthread_mutex_lock(&lock);
	n = primary.uses > 0;
	for (unsigned i = 0; i < CONTEXTS; i++)
		n += contexts[i].uses > 0;
	pthread_mutex_unlock(&lock);
	return n;
}

static struct tr_state_mem *own_words(void)
{
	return &tr_self.ledger.state->mem[0][tr_self.ledger.slot.at];
}

uint64_t driver_used_bytes(void)
{
	return atomic_load(&own_words()->used_bytes);
}

uint64_t driver_floor_bytes(void)
{
	return atomic_load(&own_words()->floor_bytes);
}
