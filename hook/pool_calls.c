/* SPDX-License-Identifier: Apache-2.0 */
/* Stream-ordered memory. What counts is what the driver holds in reserve for a pool. */

#include "charge.h"
#include "pace.h"
#include "reserves.h"
#include "rt/sat.h"

#define GROW_BYTES  (UINT64_C(32) << 20) /* what drivers usually take at once */
#define BLOCK_BYTES (UINT64_C(2) << 20)

typedef CUresult (*alloc_fn)(CUdeviceptr *, size_t, CUstream);
typedef CUresult (*alloc_from_fn)(CUdeviceptr *, size_t, CUmemoryPool, CUstream);
typedef CUresult (*free_fn)(CUdeviceptr, CUstream);
typedef CUresult (*is_capturing_fn)(CUstream, CUstreamCaptureStatus *);

/* One call and its twin's conventions about the stream 0. */
struct order {
	alloc_fn alloc; /* one of these two */
	alloc_from_fn alloc_from;
	free_fn free;
	is_capturing_fn is_capturing;
	CUdeviceptr *out;
	size_t bytes;
	CUmemoryPool handle;
	CUstream stream;
};

static CUresult ask_driver(const struct order *o, CUdeviceptr *out)
{
	if (o->alloc)
		return o->alloc(out, o->bytes, o->stream);
	return o->alloc_from ? o->alloc_from(out, o->bytes, o->handle, o->stream)
			     : CUDA_ERROR_NOT_FOUND;
}

/* A captured allocation is a node of a graph: graph memory, when that is launched. */
static bool is_captured(const struct order *o)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;

	return o->is_capturing && (o->is_capturing(o->stream, &status) != CUDA_SUCCESS ||
				   status != CU_STREAM_CAPTURE_STATUS_NONE);
}

/* The reservation for GROWTH: by the usual step, so that what the driver takes is covered;
 * if that is too much, what must be at least. */
static CUresult charge_growth(struct tr_charge *charge, struct tr_reserve *pool,
			      uint64_t bytes, uint64_t growth)
{
	CUresult res;
	tr_dev dev = tr_reserve_dev(pool);
	uint64_t step = tr_sat_round_up(growth, GROW_BYTES);
	uint64_t limit = tr_limit_bytes(dev);

	*charge = (struct tr_charge){ .dev = dev };
	if (step < TR_BYTES_MAX &&
	    tr_ledger_reserve(&tr_self.ledger, dev, TR_USED, step, limit) == 0) {
		charge->bytes = step;
		return CUDA_SUCCESS;
	}
	res = tr_charge_on(charge, dev, NULL, tr_sat_round_up(growth, BLOCK_BYTES));
	if (res != CUDA_SUCCESS)
		return res;
	/* To make room, what the pool had in reserve may have been given up: then it grows
	 * by more. */
	growth = tr_sat_round_up(tr_reserve_growth(pool, bytes), BLOCK_BYTES);
	if (growth > charge->bytes)
		res = tr_charge_settle(charge, growth);
	if (res != CUDA_SUCCESS)
		tr_charge_refund(charge);
	return res;
}

static CUresult keep_pooled(struct tr_reserve *pool, CUdeviceptr got, uint64_t bytes)
{
	struct tr_object old, object = {
		.bytes = bytes,
		.kind = TR_KIND_POOLED,
		.dev = tr_reserve_dev(pool),
		.owner = tr_pool_number(pool),
	};
	int r;

	tr_pool_allocated(pool);
	r = tr_objects_put(got, &object, &old);
	if (r > 0)
		tr_object_discharge(&old);
	if (r < 0)
		tr_object_discharge(&object);
	return r < 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

/* A driver that does not tell its reserve: each allocation by itself. */
static CUresult allocate_alone(const struct order *o, tr_dev dev)
{
	struct tr_charge charge;
	CUdeviceptr got = 0;
	CUresult res = tr_charge_on(&charge, dev, NULL, o->bytes);

	if (res != CUDA_SUCCESS)
		return res;
	res = ask_driver(o, &got);
	if (res == CUDA_SUCCESS) {
		res = tr_charge_keep(&charge, TR_KIND_MEMORY, got);
		if (res == CUDA_SUCCESS)
			*o->out = got;
		else
			(void)o->free(got, o->stream);
	}
	tr_charge_refund(&charge);
	return res;
}

/* ---- pools whose allocations count one by one: managed memory, and those beyond the table */

static CUresult keep_single(CUmemoryPool handle, const tr_dev *dev)
{
	struct tr_object old, object = { .kind = TR_KIND_POOL, .owner = dev != NULL };

	if (dev)
		object.dev = *dev;
	return tr_objects_put((uint64_t)(uintptr_t)handle, &object, &old) < 0
		       ? CUDA_ERROR_OUT_OF_MEMORY
		       : CUDA_SUCCESS;
}

/* Nobody creates the default managed pool of a location: it is met by its handle. */
static bool is_default_managed(CUmemoryPool handle, CUmemLocation location)
{
	CUmemoryPool pool = NULL;

	return tr_real.cuMemGetDefaultMemPool &&
	       tr_real.cuMemGetDefaultMemPool(
		       &pool, &location, CU_MEM_ALLOCATION_TYPE_MANAGED) == CUDA_SUCCESS &&
	       pool == handle;
}

static bool find_default_managed(CUmemoryPool handle)
{
	static const CUmemLocationType others[] = { CU_MEM_LOCATION_TYPE_NONE,
						    CU_MEM_LOCATION_TYPE_HOST };
	int count = 0;

	if (!handle || !tr_real.cuDeviceGetCount ||
	    tr_real.cuDeviceGetCount(&count) != CUDA_SUCCESS)
		return false;
	for (int i = 0; i < count; i++) {
		tr_dev dev;

		if (is_default_managed(handle,
				       (CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_DEVICE,
							.id = i }))
			return tr_device_of(i, &dev) == CUDA_SUCCESS &&
			       keep_single(handle, &dev) == CUDA_SUCCESS;
	}
	for (unsigned i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (is_default_managed(handle, (CUmemLocation){ .type = others[i] }))
			return keep_single(handle, NULL) == CUDA_SUCCESS;
	return false;
}

/* SUCCESS: it is one, and DEV is charged. */
static CUresult find_single(CUmemoryPool handle, tr_dev *dev)
{
	uint64_t key = (uint64_t)(uintptr_t)handle;
	struct tr_object object;
	CUcontext ctx;

	if (!tr_objects_find(key, TR_KIND_POOL, &object) &&
	    (!find_default_managed(handle) || !tr_objects_find(key, TR_KIND_POOL, &object)))
		return CUDA_ERROR_NOT_FOUND;
	if (!object.owner)
		return tr_device_current(dev, &ctx);
	*dev = object.dev;
	return CUDA_SUCCESS;
}

static CUresult allocate_unknown(const struct order *o, CUmemoryPool handle)
{
	tr_dev dev;
	CUresult res = find_single(handle, &dev);

	if (res == CUDA_ERROR_NOT_PERMITTED)
		return res;
	return res == CUDA_SUCCESS && !is_captured(o) ? allocate_alone(o, dev)
						      : ask_driver(o, o->out);
}

/* The reserve may grow by this one: read it before and correct it after. */
static CUresult allocate_growing(const struct order *o, struct tr_reserve *pool,
				 uint64_t bytes, uint64_t growth)
{
	struct tr_charge charge = { 0 };
	CUdeviceptr got = 0;
	unsigned tries = 0;
	CUresult res = CUDA_SUCCESS, settled;

	if (growth)
		res = charge_growth(&charge, pool, bytes, growth);
	if (res != CUDA_SUCCESS) {
		tr_pool_unplan(pool, bytes);
		return res;
	}
	do {
		res = ask_driver(o, &got);
	} while (tr_charge_should_retry(res, &tries));
	if (res != CUDA_SUCCESS) {
		tr_pool_unplan(pool, bytes);
		tr_charge_refund(&charge);
		return res;
	}
	/* On an unreadable moment the reservation stays: too much until the next reading.
	 */
	settled = tr_reserve_settle(pool, &charge, bytes);
	res = keep_pooled(pool, got, bytes);
	if (res == CUDA_SUCCESS && settled == CUDA_SUCCESS) {
		*o->out = got;
		return CUDA_SUCCESS;
	}
	if (res == CUDA_SUCCESS) {
		struct tr_release release;

		tr_ledger_refused(&tr_self.ledger, tr_reserve_dev(pool), bytes);
		tr_release_begin(&release, got, TR_KIND_POOLED);
		tr_release_end(&release, o->free(got, o->stream));
	} else {
		(void)o->free(got, o->stream);
	}
	tr_reserves_refresh(tr_reserve_dev(pool), true);
	return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult allocate(const struct order *o, struct tr_reserve *pool)
{
	uint64_t bytes = tr_sat_round_up(o->bytes, TR_UNIT_BYTES), growth = 0;
	CUdeviceptr got = 0;
	CUresult res;

	if (is_captured(o))
		return ask_driver(o, o->out);
	if (bytes >= TR_BYTES_MAX)
		bytes = TR_BYTES_MAX; /* never served, always refused */
	switch (tr_pool_plan(pool, bytes, o->stream, &growth)) {
	case TR_UNREADABLE:
		return allocate_alone(o, tr_reserve_dev(pool));
	case TR_LOOK:
	case TR_GROW:
		return allocate_growing(o, pool, bytes, growth);
	case TR_SERVED:
		break;
	}
	res = ask_driver(o, &got);
	if (res != CUDA_SUCCESS) {
		tr_pool_unplan(pool, bytes);
		return res;
	}
	res = keep_pooled(pool, got, bytes);
	if (res == CUDA_SUCCESS)
		*o->out = got;
	else
		(void)o->free(got, o->stream);
	return res;
}

/* The device whose current pool serves STREAM: the stream's, which need not be the
 * thread's. */
static CUresult ordinal_of(CUstream stream, CUdevice *ordinal)
{
	CUresult res = CUDA_ERROR_NOT_SUPPORTED;

	if (stream != NULL && stream != CU_STREAM_LEGACY &&
	    stream != CU_STREAM_PER_THREAD && tr_real.cuStreamGetDevice)
		res = tr_real.cuStreamGetDevice(stream, ordinal);
	if (res != CUDA_SUCCESS && tr_real.cuCtxGetDevice)
		res = tr_real.cuCtxGetDevice(ordinal);
	return res;
}

static CUresult allocate_entered(struct order *o)
{
	struct tr_reserve *pool = NULL;
	CUmemoryPool handle = NULL;
	CUdevice ordinal = 0;
	CUresult res;
	tr_dev dev;

	if (o->alloc_from) {
		pool = tr_pool_find(o->handle);
		return pool ? allocate(o, pool) : allocate_unknown(o, o->handle);
	}
	res = ordinal_of(o->stream, &ordinal);
	if (res == CUDA_SUCCESS)
		pool = tr_pool_current(ordinal);
	if (pool)
		return allocate(o, pool);
	/* A device that the slice does not name has no pool of ours. */
	if (res == CUDA_SUCCESS && tr_device_of(ordinal, &dev) == CUDA_ERROR_NOT_PERMITTED)
		return CUDA_ERROR_NOT_PERMITTED;
	if (res == CUDA_SUCCESS && tr_real.cuDeviceGetMemPool &&
	    tr_real.cuDeviceGetMemPool(&handle, ordinal) == CUDA_SUCCESS)
		return allocate_unknown(o, handle);
	return ask_driver(o, o->out);
}

static CUresult order(struct order *o)
{
	CUresult res;

	if (!o->out || !o->bytes || !tr_enter())
		return ask_driver(o, o->out);
	res = allocate_entered(o);
	tr_leave();
	return res;
}

CUresult cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
	struct order o = { .alloc = tr_real.cuMemAllocAsync,
			   .free = tr_real.cuMemFreeAsync,
			   .is_capturing = tr_real.cuStreamIsCapturing,
			   .out = dptr,
			   .bytes = bytesize,
			   .stream = hStream };

	return order(&o);
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
	struct order o = { .alloc = tr_real.cuMemAllocAsync_ptsz,
			   .free = tr_real.cuMemFreeAsync_ptsz,
			   .is_capturing = tr_real.cuStreamIsCapturing_ptsz,
			   .out = dptr,
			   .bytes = bytesize,
			   .stream = hStream };

	return order(&o);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool,
				 CUstream hStream)
{
	struct order o = { .alloc_from = tr_real.cuMemAllocFromPoolAsync,
			   .free = tr_real.cuMemFreeAsync,
			   .is_capturing = tr_real.cuStreamIsCapturing,
			   .out = dptr,
			   .bytes = bytesize,
			   .handle = pool,
			   .stream = hStream };

	return order(&o);
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool,
				      CUstream hStream)
{
	struct order o = { .alloc_from = tr_real.cuMemAllocFromPoolAsync_ptsz,
			   .free = tr_real.cuMemFreeAsync_ptsz,
			   .is_capturing = tr_real.cuStreamIsCapturing_ptsz,
			   .out = dptr,
			   .bytes = bytesize,
			   .handle = pool,
			   .stream = hStream };

	return order(&o);
}

static CUresult free_ordered(free_fn real, CUdeviceptr dptr, CUstream stream)
{
	struct tr_release release;
	CUresult res;

	if (!tr_enter())
		return real(dptr, stream);
	tr_release_begin(&release, dptr, TR_KIND_POOLED);
	res = real(dptr, stream);
	tr_release_end(&release, res);
	if (res == CUDA_SUCCESS && release.is_known &&
	    release.object.kind == TR_KIND_POOLED)
		tr_pool_freed(release.object.owner, release.object.bytes, stream);
	tr_leave();
	return res;
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream)
{
	return free_ordered(tr_real.cuMemFreeAsync, dptr, hStream);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr dptr, CUstream hStream)
{
	return free_ordered(tr_real.cuMemFreeAsync_ptsz, dptr, hStream);
}

/* ---- the pools themselves ------------------------------------------------------------ */

/* The CUDA ordinal where the pool's memory is that device's. */
static bool is_on_device(const CUmemPoolProps *props, CUdevice *ordinal)
{
	if (props->location.type == CU_MEM_LOCATION_TYPE_DEVICE)
		*ordinal = props->location.id;
	else if (props->location.type == CU_MEM_LOCATION_TYPE_DEVICE_LOCALITY_DOMAIN)
		*ordinal = props->location.localized.deviceId;
	else
		return false;
	return true;
}

/* As the program wants it: a maxSize of ours would stay where it is when the limit moves. */
static CUresult create(CUmemoryPool *pool, const CUmemPoolProps *props)
{
	bool is_managed = props->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED, is_ours;
	CUmemoryPool got = NULL;
	CUdevice ordinal = 0;
	CUresult res;
	tr_dev dev = { 0 };

	if (is_on_device(props, &ordinal)) {
		res = tr_device_of(ordinal, &dev);
		if (res == CUDA_ERROR_NOT_PERMITTED)
			return res;
		is_ours = res == CUDA_SUCCESS;
		if (!is_ours)
			return tr_real.cuMemPoolCreate(pool, props); /* its own error */
	} else {
		is_ours = false;
		if (!is_managed)
			return tr_real.cuMemPoolCreate(pool, props);
	}
	res = tr_real.cuMemPoolCreate(&got, props);
	if (res == CUDA_SUCCESS && (is_managed || tr_pool_add(got, ordinal, dev) < 0))
		res = keep_single(got, is_ours ? &dev : NULL);
	if (res == CUDA_SUCCESS)
		*pool = got;
	else if (got)
		(void)tr_real.cuMemPoolDestroy(got);
	return res;
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *poolProps)
{
	CUresult res;

	if (!pool || !poolProps || !tr_enter())
		return tr_real.cuMemPoolCreate(pool, poolProps);
	res = create(pool, poolProps);
	tr_leave();
	return res;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
	struct tr_reserve *known;
	struct tr_release single;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemPoolDestroy(pool);
	known = tr_pool_destroy_begin(pool);
	tr_release_begin(&single, (uint64_t)(uintptr_t)pool, TR_KIND_POOL);
	res = tr_real.cuMemPoolDestroy(pool);
	tr_release_end(&single, res);
	tr_pool_destroy_end(known, res == CUDA_SUCCESS);
	tr_leave();
	return res;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t minBytesToKeep)
{
	struct tr_reserve *known;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemPoolTrimTo(pool, minBytesToKeep);
	res = tr_real.cuMemPoolTrimTo(pool, minBytesToKeep);
	known = res == CUDA_SUCCESS ? tr_pool_find(pool) : NULL;
	if (known)
		(void)tr_reserve_settle(known, NULL, UINT64_MAX);
	tr_leave();
	return res;
}

CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool)
{
	CUresult res = tr_real.cuDeviceSetMemPool(dev, pool);

	if (res == CUDA_SUCCESS)
		tr_pool_current_changed();
	return res;
}

CUresult cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type,
			 CUmemoryPool pool)
{
	CUresult res = tr_real.cuMemSetMemPool(location, type, pool);

	if (res == CUDA_SUCCESS)
		tr_pool_current_changed();
	return res;
}

/* ---- waiting: unused reserve goes back to the device then, and runs are measured ------- */

/* STREAM NULL: all of the current context's. */
static void will_wait(CUstream stream)
{
	if (!atomic_load_explicit(&tr_pace_is_armed, memory_order_relaxed) || !tr_enter())
		return;
	tr_pace_wait_begin(stream);
	tr_leave();
}

static CUresult waited(CUresult res)
{
	if (res != CUDA_SUCCESS)
		return res;
	if (atomic_load_explicit(&tr_pace_is_armed, memory_order_relaxed) && tr_enter()) {
		tr_pace_wait_end();
		tr_leave();
	}
	tr_reserves_synchronised();
	return res;
}

CUresult cuCtxSynchronize(void)
{
	will_wait(NULL);
	return waited(tr_real.cuCtxSynchronize());
}

CUresult cuCtxSynchronize_v2(CUcontext ctx)
{
	will_wait(NULL);
	return waited(tr_real.cuCtxSynchronize_v2(ctx));
}

CUresult cuStreamSynchronize(CUstream hStream)
{
	will_wait(tr_stream_of(hStream, false));
	return waited(tr_real.cuStreamSynchronize(hStream));
}

CUresult cuStreamSynchronize_ptsz(CUstream hStream)
{
	will_wait(tr_stream_of(hStream, true));
	return waited(tr_real.cuStreamSynchronize_ptsz(hStream));
}

CUresult cuEventSynchronize(CUevent hEvent)
{
	will_wait(NULL);
	return waited(tr_real.cuEventSynchronize(hEvent));
}
