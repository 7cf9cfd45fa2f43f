/* SPDX-License-Identifier: Apache-2.0 */
#include "reserves.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "lock.h"
#include "objects.h"
#include "rt/sat.h"

#define BLOCK_BYTES (UINT64_C(2) << 20) /* what larger allocations are aligned to */
#define LOOK_NS     UINT64_C(100000000) /* how old a reading may be when nothing else asks */

enum life {
	LIFE_NONE,
	LIFE_POOL,
	LIFE_GRAPHS,
	LIFE_LEAVING, /* cuMemPoolDestroy is under way, or done while allocations live */
};

struct tr_reserve {
	struct tr_lock lock;
	atomic_uint life;
	_Atomic(CUmemoryPool) pool;
	CUdevice ordinal;
	tr_dev dev;
	bool is_unreadable;     /* the driver does not tell (11.2): charge one by one */
	_Atomic(CUstream) last; /* memory freed on one stream need not serve another */
	_Atomic int64_t used;   /* given to the application; an estimate between readings */
	_Atomic uint64_t charged; /* of the ledger: what was reserved when last read */
	_Atomic int64_t live;     /* allocations; a destroyed pool waits for them */
	_Atomic uint64_t hole;    /* a free piece of the reserve that `last` may have */
	_Atomic uint64_t read_ns;
	atomic_uint tickets; /* readings begun */
	unsigned applied;    /* the latest of them that is in `charged`; under the lock */
};

static struct tr_reserve pools[TR_POOLS_MAX];
static struct tr_reserve graphs[TR_ORDINALS_MAX];
static atomic_uint pools_used;
static atomic_bool may_shrink;  /* something was freed since a synchronise was looked at */
static struct tr_lock registry; /* for making pools known */
static _Atomic(struct tr_reserve *) current[TR_ORDINALS_MAX];
static _Atomic bool has_default[TR_ORDINALS_MAX];

static uint64_t coarse_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Reading an attribute or trimming must not count as a forbidden call of a capture. */
static CUstreamCaptureMode relax(void)
{
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;

	if (tr_real.cuThreadExchangeStreamCaptureMode)
		(void)tr_real.cuThreadExchangeStreamCaptureMode(&mode);
	return mode;
}

static void restore(CUstreamCaptureMode mode)
{
	if (tr_real.cuThreadExchangeStreamCaptureMode)
		(void)tr_real.cuThreadExchangeStreamCaptureMode(&mode);
}

static CUresult read_attribute(const struct tr_reserve *reserve,
			       CUmemPool_attribute of_pool, CUgraphMem_attribute of_graphs,
			       uint64_t *out)
{
	cuuint64_t value = 0;
	CUresult res = CUDA_ERROR_NOT_SUPPORTED;

	if (atomic_load(&reserve->life) != LIFE_GRAPHS && tr_real.cuMemPoolGetAttribute)
		res = tr_real.cuMemPoolGetAttribute(atomic_load(&reserve->pool), of_pool,
						    &value);
	else if (atomic_load(&reserve->life) == LIFE_GRAPHS &&
		 tr_real.cuDeviceGetGraphMemAttribute)
		res = tr_real.cuDeviceGetGraphMemAttribute(reserve->ordinal, of_graphs,
							   &value);
	*out = value;
	return res;
}

static CUresult read_driver(const struct tr_reserve *reserve, uint64_t *reserved,
			    uint64_t *used)
{
	CUresult res = read_attribute(reserve, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT,
				      CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, reserved);

	return res == CUDA_SUCCESS
		       ? read_attribute(reserve, CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
					CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, used)
		       : res;
}

/*
 * Brings the ledger from what was last read to what is reserved now. CHARGE is a
 * reservation that its caller made for growth; it is spent here. Two threads may read in
 * one order and come here in the other: the reading that began last decides, because it
 * cannot have missed what the other saw.
 */
static CUresult settle(struct tr_reserve *reserve, struct tr_charge *charge,
		       uint64_t taken_bytes)
{
	unsigned ticket = atomic_fetch_add(&reserve->tickets, 1) + 1;
	uint64_t reserved = 0, used = 0, before, had = charge ? charge->bytes : 0;
	CUresult res = read_driver(reserve, &reserved, &used);
	bool is_newest;

	if (res != CUDA_SUCCESS)
		return res;
	tr_lock(&reserve->lock);
	before = atomic_load(&reserve->charged);
	is_newest = (int)(ticket - reserve->applied) > 0 &&
		    atomic_load(&reserve->life) != LIFE_LEAVING;
	if (is_newest) {
		reserve->applied = ticket;
		atomic_store(&reserve->charged, reserved);
		atomic_store(&reserve->used, (int64_t)used);
		atomic_store(&reserve->read_ns, coarse_ns());
		/* What was added is one piece. What is left of it serves what comes next.
		 */
		if (reserved > before)
			atomic_store(&reserve->hole,
				     tr_sat_sub(reserved - before,
						tr_sat_round_up(taken_bytes, BLOCK_BYTES)));
		else if (reserved < before)
			atomic_store(&reserve->hole, 0);
	}
	tr_unlock(&reserve->lock);
	if (!is_newest)
		reserved = before;
	if (reserved > before && reserved - before > had)
		tr_ledger_add(&tr_self.ledger, reserve->dev, TR_USED,
			      reserved - before - had);
	else if (tr_sat_add(before, had) > reserved)
		tr_ledger_refund(&tr_self.ledger, reserve->dev, TR_USED,
				 before + had - reserved);
	if (charge)
		charge->bytes = 0;
	return reserved > tr_sat_add(before, had) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

CUresult tr_reserve_settle(struct tr_reserve *reserve, struct tr_charge *charge,
			   uint64_t taken_bytes)
{
	CUresult res = settle(reserve, charge, taken_bytes);

	/* The driver took more than was asked for the slice: that is a fact now and
	 * counted. It is a refusal only where it leads past the limit. */
	if (res == CUDA_ERROR_OUT_OF_MEMORY &&
	    tr_ledger_sum(&tr_self.ledger, reserve->dev) > tr_limit_bytes(reserve->dev))
		return res;
	return CUDA_SUCCESS;
}

uint64_t tr_reserve_growth(struct tr_reserve *reserve, uint64_t bytes)
{
	uint64_t reserved = 0, used = 0;

	if (read_driver(reserve, &reserved, &used) != CUDA_SUCCESS)
		return bytes;
	return tr_sat_sub(bytes, tr_sat_sub(reserved, used));
}

tr_dev tr_reserve_dev(const struct tr_reserve *reserve)
{
	return reserve->dev;
}

/* ---- pools --------------------------------------------------------------------------- */

static struct tr_reserve *find_known(CUmemoryPool handle)
{
	unsigned used = atomic_load_explicit(&pools_used, memory_order_acquire);

	for (unsigned i = 0; i < used; i++)
		if (atomic_load_explicit(&pools[i].pool, memory_order_relaxed) == handle &&
		    atomic_load_explicit(&pools[i].life, memory_order_acquire) == LIFE_POOL)
			return &pools[i];
	return NULL;
}

static int add_locked(CUmemoryPool handle, CUdevice ordinal, tr_dev dev)
{
	for (unsigned i = 0; i < TR_POOLS_MAX; i++) {
		struct tr_reserve *pool = &pools[i];

		if (atomic_load(&pool->life) != LIFE_NONE)
			continue;
		pool->ordinal = ordinal;
		pool->dev = dev;
		pool->is_unreadable = false;
		pool->applied = atomic_load(&pool->tickets);
		atomic_store(&pool->last, NULL);
		atomic_store(&pool->used, 0);
		atomic_store(&pool->charged, 0);
		atomic_store(&pool->live, 0);
		atomic_store(&pool->hole, 0);
		atomic_store(&pool->read_ns, 0);
		atomic_store(&pool->pool, handle);
		atomic_store(&pool->life, LIFE_POOL);
		if (atomic_load(&pools_used) < i + 1)
			atomic_store(&pools_used, i + 1);
		return 0;
	}
	return -ENOMEM;
}

int tr_pool_add(CUmemoryPool handle, CUdevice ordinal, tr_dev dev)
{
	struct tr_reserve *pool;
	int r = 0;

	tr_lock(&registry);
	if (!find_known(handle))
		r = add_locked(handle, ordinal, dev);
	tr_unlock(&registry);
	pool = r == 0 ? find_known(handle) : NULL;
	if (pool) {
		CUresult res = settle(pool, NULL, UINT64_MAX);

		pool->is_unreadable = res != CUDA_SUCCESS &&
				      res != CUDA_ERROR_OUT_OF_MEMORY;
	}
	return r;
}

/* The pools that nobody created: known from the first time that one is met. */
static void add_default(CUdevice ordinal)
{
	CUmemoryPool pool = NULL;
	tr_dev dev;

	if (atomic_load(&has_default[ordinal]) || !tr_real.cuDeviceGetDefaultMemPool ||
	    tr_real.cuDeviceGetDefaultMemPool(&pool, ordinal) != CUDA_SUCCESS ||
	    tr_device_of(ordinal, &dev) != CUDA_SUCCESS)
		return;
	if (tr_pool_add(pool, ordinal, dev) == 0)
		atomic_store(&has_default[ordinal], true);
}

struct tr_reserve *tr_pool_find(CUmemoryPool handle)
{
	struct tr_reserve *pool = find_known(handle);
	int count = 0;

	if (pool || !handle || !tr_real.cuDeviceGetCount ||
	    tr_real.cuDeviceGetCount(&count) != CUDA_SUCCESS)
		return pool;
	for (int ordinal = 0; ordinal < count && ordinal < (int)TR_ORDINALS_MAX; ordinal++)
		add_default(ordinal);
	return find_known(handle);
}

struct tr_reserve *tr_pool_current(CUdevice ordinal)
{
	struct tr_reserve *pool;
	CUmemoryPool handle = NULL;

	if (ordinal < 0 || ordinal >= (int)TR_ORDINALS_MAX)
		return NULL;
	pool = atomic_load_explicit(&current[ordinal], memory_order_acquire);
	if (pool && atomic_load(&pool->life) == LIFE_POOL)
		return pool;
	if (!tr_real.cuDeviceGetMemPool ||
	    tr_real.cuDeviceGetMemPool(&handle, ordinal) != CUDA_SUCCESS)
		return NULL;
	pool = tr_pool_find(handle);
	atomic_store(&current[ordinal], pool);
	return pool;
}

void tr_pool_current_changed(void)
{
	for (unsigned i = 0; i < TR_ORDINALS_MAX; i++)
		atomic_store(&current[i], NULL);
}

/* Room in the reserve is not enough, it may be in pieces: only a piece that is known to be
 * free to this stream makes the question unnecessary. */
static bool is_served(struct tr_reserve *pool, uint64_t bytes, CUstream stream)
{
	uint64_t hole = atomic_load_explicit(&pool->hole, memory_order_relaxed);

	if (atomic_load_explicit(&pool->last, memory_order_relaxed) != stream) {
		atomic_store_explicit(&pool->last, stream, memory_order_relaxed);
		atomic_store_explicit(&pool->hole, 0, memory_order_relaxed);
		return false;
	}
	if (coarse_ns() - atomic_load_explicit(&pool->read_ns, memory_order_relaxed) >=
	    LOOK_NS)
		return false;
	while (bytes <= hole)
		if (atomic_compare_exchange_weak(
			    &pool->hole, &hole,
			    tr_sat_sub(hole, tr_sat_round_up(bytes, BLOCK_BYTES))))
			return true;
	return false;
}

enum tr_pool_plan tr_pool_plan(struct tr_reserve *pool, uint64_t bytes, CUstream stream,
			       uint64_t *growth)
{
	uint64_t charged = atomic_load_explicit(&pool->charged, memory_order_relaxed);
	int64_t used;

	if (pool->is_unreadable)
		return TR_UNREADABLE;
	used = atomic_fetch_add(&pool->used, (int64_t)bytes) + (int64_t)bytes;
	if (used > 0 && (uint64_t)used > charged) {
		*growth = (uint64_t)used - charged;
		return TR_GROW;
	}
	if (is_served(pool, bytes, stream))
		return TR_SERVED;
	return TR_LOOK;
}

void tr_pool_unplan(struct tr_reserve *pool, uint64_t bytes)
{
	atomic_fetch_sub(&pool->used, (int64_t)bytes);
}

void tr_pool_allocated(struct tr_reserve *pool)
{
	atomic_fetch_add_explicit(&pool->live, 1, memory_order_relaxed);
}

uint16_t tr_pool_number(const struct tr_reserve *pool)
{
	return (uint16_t)(pool - pools);
}

/* A destroyed pool whose last allocation has ended: the driver has given everything back.
 */
static void retire(struct tr_reserve *pool)
{
	unsigned leaving = LIFE_LEAVING;
	uint64_t charged;

	if (atomic_load(&pool->live) > 0 || atomic_load(&pool->pool))
		return;
	charged = atomic_exchange(&pool->charged, 0);
	if (charged)
		tr_ledger_refund(&tr_self.ledger, pool->dev, TR_USED, charged);
	(void)atomic_compare_exchange_strong(&pool->life, &leaving, LIFE_NONE);
}

void tr_pool_returned(uint16_t number, uint64_t bytes)
{
	struct tr_reserve *pool = &pools[number % TR_POOLS_MAX];

	atomic_fetch_sub_explicit(&pool->used, (int64_t)bytes, memory_order_relaxed);
	atomic_fetch_sub(&pool->live, 1);
	if (!atomic_load_explicit(&may_shrink, memory_order_relaxed))
		atomic_store_explicit(&may_shrink, true, memory_order_relaxed);
	if (atomic_load_explicit(&pool->life, memory_order_relaxed) == LIFE_LEAVING)
		retire(pool);
}

void tr_pool_freed(uint16_t number, uint64_t bytes, CUstream stream)
{
	struct tr_reserve *pool = &pools[number % TR_POOLS_MAX];

	if (atomic_load_explicit(&pool->last, memory_order_relaxed) == stream &&
	    atomic_load_explicit(&pool->hole, memory_order_relaxed) < bytes)
		atomic_store_explicit(&pool->hole, bytes, memory_order_relaxed);
}

struct tr_reserve *tr_pool_destroy_begin(CUmemoryPool handle)
{
	struct tr_reserve *pool = find_known(handle);

	/* The driver may give the same handle to a new pool at once. */
	if (pool) {
		(void)settle(pool, NULL, UINT64_MAX);
		atomic_store(&pool->life, LIFE_LEAVING);
	}
	return pool;
}

void tr_pool_destroy_end(struct tr_reserve *pool, bool is_destroyed)
{
	if (!pool)
		return;
	if (!is_destroyed) {
		atomic_store(&pool->life, LIFE_POOL);
		return;
	}
	tr_pool_current_changed();
	atomic_store(&pool->pool, NULL);
	retire(pool);
}

/* ---- graphs -------------------------------------------------------------------------- */

struct tr_reserve *tr_graph_reserve(CUdevice ordinal)
{
	struct tr_reserve *reserve;
	tr_dev dev;

	if (ordinal < 0 || ordinal >= (int)TR_ORDINALS_MAX)
		return NULL;
	reserve = &graphs[ordinal];
	if (atomic_load(&reserve->life) == LIFE_GRAPHS)
		return reserve;
	if (tr_device_of(ordinal, &dev) != CUDA_SUCCESS)
		return NULL;
	tr_lock(&registry);
	reserve->ordinal = ordinal;
	reserve->dev = dev;
	atomic_store(&reserve->life, LIFE_GRAPHS);
	tr_unlock(&registry);
	return reserve;
}

/* ---- all ----------------------------------------------------------------------------- */

static void refresh(struct tr_reserve *reserve, bool trim)
{
	unsigned life = atomic_load(&reserve->life);

	if (life == LIFE_GRAPHS) {
		if (trim)
			tr_graph_trim(reserve->ordinal);
	} else if (life == LIFE_POOL) {
		if (trim && tr_real.cuMemPoolTrimTo)
			(void)tr_real.cuMemPoolTrimTo(atomic_load(&reserve->pool), 0);
	} else {
		return;
	}
	(void)settle(reserve, NULL, UINT64_MAX);
}

static void refresh_all(const tr_dev *only, bool trim)
{
	unsigned used = atomic_load(&pools_used);
	CUstreamCaptureMode mode = relax();

	for (unsigned i = 0; i < used; i++)
		if (!only || pools[i].dev.at == only->at)
			refresh(&pools[i], trim);
	for (unsigned i = 0; i < TR_ORDINALS_MAX; i++)
		if (!only || graphs[i].dev.at == only->at)
			refresh(&graphs[i], trim);
	restore(mode);
}

static bool has_any(void)
{
	if (atomic_load(&pools_used))
		return true;
	for (unsigned i = 0; i < TR_ORDINALS_MAX; i++)
		if (atomic_load(&graphs[i].life) != LIFE_NONE)
			return true;
	return false;
}

void tr_reserves_refresh(tr_dev dev, bool trim)
{
	if (has_any())
		refresh_all(&dev, trim);
}

void tr_reserves_look(tr_dev dev)
{
	static _Atomic uint64_t looked_ns[TR_DEVICES_MAX];
	uint64_t now;

	if (!has_any())
		return;
	now = coarse_ns();
	if (now - atomic_exchange(&looked_ns[dev.at % TR_DEVICES_MAX], now) >= LOOK_NS)
		refresh_all(&dev, false);
}

/* Frees run in the order of their stream: after a synchronise of another one this pool has
 * still more than it will keep. */
static bool is_to_shrink(const struct tr_reserve *pool)
{
	uint64_t reserved = atomic_load(&pool->charged);
	int64_t used = atomic_load(&pool->used);
	cuuint64_t threshold = 0;

	return reserved && (used < 0 || reserved > (uint64_t)used) &&
	       tr_real.cuMemPoolGetAttribute(atomic_load(&pool->pool),
					     CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
					     &threshold) == CUDA_SUCCESS &&
	       reserved > threshold;
}

void tr_reserves_synchronised(void)
{
	unsigned used = atomic_load(&pools_used);
	bool is_pending = false;
	CUstreamCaptureMode mode;

	if (!atomic_load_explicit(&may_shrink, memory_order_relaxed) || !tr_enter())
		return;
	atomic_store(&may_shrink, false);
	mode = relax();
	for (unsigned i = 0; i < used; i++) {
		if (atomic_load(&pools[i].life) != LIFE_POOL || pools[i].is_unreadable)
			continue;
		(void)settle(&pools[i], NULL, UINT64_MAX);
		is_pending |= is_to_shrink(&pools[i]);
	}
	restore(mode);
	if (is_pending)
		atomic_store(&may_shrink, true);
	tr_leave();
}

struct search {
	uint16_t number;
	uint64_t key; /* 0: none yet */
};

static bool finds(uint64_t key, const struct tr_object *object, void *arg)
{
	struct search *search = arg;

	if (object->kind == TR_KIND_POOLED && object->owner == search->number)
		search->key = key;
	return false;
}

static bool is_of_pool(uint64_t key, const struct tr_object *object, void *arg)
{
	uint16_t number = *(const uint16_t *)arg;

	(void)key;
	if (object->kind != TR_KIND_POOLED || object->owner != number)
		return false;
	atomic_fetch_sub(&pools[number].live, 1);
	return true;
}

/* A destroyed pool cannot be asked any more; any of its allocations can. */
static bool is_empty(uint16_t number, const tr_dev *primary_of)
{
	struct search search = { .number = number };
	const struct tr_reserve *pool = &pools[number];
	int ordinal;

	if (atomic_load(&pool->life) == LIFE_POOL)
		return atomic_load(&pool->used) == 0;
	if (atomic_load(&pool->life) != LIFE_LEAVING || atomic_load(&pool->pool) ||
	    !primary_of || primary_of->at != pool->dev.at || !tr_real.cuPointerGetAttribute)
		return false;
	tr_objects_sweep(finds, &search);
	return search.key &&
	       tr_real.cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
					     search.key) == CUDA_ERROR_INVALID_VALUE;
}

/* A primary context takes the allocations of its device's pools with it. */
void tr_reserves_context_gone(const tr_dev *primary_of)
{
	if (!has_any())
		return;
	refresh_all(primary_of, false);
	for (unsigned at = 0; at < atomic_load(&pools_used); at++) {
		uint16_t i = (uint16_t)at;

		if (!atomic_load(&pools[i].live) || !is_empty(i, primary_of))
			continue;
		tr_objects_sweep(is_of_pool, &i);
		if (atomic_load(&pools[i].life) == LIFE_LEAVING)
			retire(&pools[i]);
	}
}

void tr_reserves_forget(void)
{
	memset(pools, 0, atomic_load(&pools_used) * sizeof(*pools));
	memset(graphs, 0, sizeof(graphs));
	tr_graphs_forget();
	tr_pool_current_changed();
	for (unsigned i = 0; i < TR_ORDINALS_MAX; i++)
		atomic_store(&has_default[i], false);
	atomic_store(&pools_used, 0);
	atomic_store(&may_shrink, false);
	tr_unlock(&registry);
}
