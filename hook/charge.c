/* SPDX-License-Identifier: Apache-2.0 */
#include "charge.h"

#include <errno.h>
#include <fcntl.h>

#include "reserves.h"
#include "rt/cleanup.h"
#include "rt/file.h"
#include "rt/sat.h"
#include "vmm.h"

#define REAPED_FRESH_NS UINT64_C(3000000000) /* a dead process' memory is back by then */
#define RETRY_FIRST_NS  UINT64_C(10000000)   /* 10, 20, 40 ms */
#define RETRIES         3u

CUresult tr_charge(struct tr_charge *charge, uint64_t bytes)
{
	CUcontext ctx = NULL;
	tr_dev dev = { 0 };
	CUresult res = tr_device_current(&dev, &ctx);

	*charge = (struct tr_charge){ 0 };
	if (res == CUDA_SUCCESS)
		return tr_charge_on(charge, dev, ctx, bytes);
	/* Without a context there is nothing to charge, and what is wrong the driver says itself. */
	return res == CUDA_ERROR_NOT_PERMITTED ? res : CUDA_SUCCESS;
}

/* Fast, then with own reserves given up, then as the only one who asks. */
static int reserve(tr_dev dev, uint64_t bytes)
{
	uint64_t limit = tr_limit_bytes(dev);

	/* Nothing is this large: the driver refuses it, and the counter must not wrap
	 * first. */
	if (bytes >= TR_BYTES_MAX)
		return -ENOMEM;
	if (tr_ledger_reserve(&tr_self.ledger, dev, TR_USED, bytes, limit) == 0)
		return 0;
	if (bytes > limit)
		return -ENOMEM;
	tr_reserves_refresh(dev, true);
	if (tr_ledger_reserve(&tr_self.ledger, dev, TR_USED, bytes, limit) == 0)
		return 0;
	return tr_ledger_reserve_slowly(&tr_self.ledger, tr_self.seat.path, dev, TR_USED,
					bytes, limit);
}

CUresult tr_charge_on(struct tr_charge *charge, tr_dev dev, CUcontext ctx, uint64_t bytes)
{
	*charge = (struct tr_charge){ .dev = dev, .ctx = ctx };
	bytes = tr_sat_round_up(bytes, TR_UNIT_BYTES);
	if (bytes && reserve(dev, bytes) < 0) {
		tr_ledger_refused(&tr_self.ledger, dev, bytes);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	charge->bytes = bytes;
	return CUDA_SUCCESS;
}

CUresult tr_charge_settle(struct tr_charge *charge, uint64_t actual_bytes)
{
	uint64_t actual = tr_sat_round_up(actual_bytes, TR_UNIT_BYTES);

	if (actual > charge->bytes) {
		if (reserve(charge->dev, actual - charge->bytes) < 0) {
			tr_ledger_refused(&tr_self.ledger, charge->dev, actual);
			return CUDA_ERROR_OUT_OF_MEMORY;
		}
	} else if (actual < charge->bytes) {
		tr_ledger_refund(&tr_self.ledger, charge->dev, TR_USED,
				 charge->bytes - actual);
	}
	charge->bytes = actual;
	return CUDA_SUCCESS;
}

void tr_charge_refund(struct tr_charge *charge)
{
	if (charge->bytes)
		tr_ledger_refund(&tr_self.ledger, charge->dev, TR_USED, charge->bytes);
	charge->bytes = 0;
}

bool tr_charge_should_retry(CUresult res, unsigned *tries)
{
	struct tr_state *state = tr_self.ledger.state;
	uint64_t reaped_ns;

	if (res != CUDA_ERROR_OUT_OF_MEMORY || *tries >= RETRIES)
		return false;
	if (*tries == 0) {
		tr_autoclose int fd = open(tr_self.seat.path,
					   O_RDWR | O_CLOEXEC | O_NOFOLLOW);

		if (fd >= 0)
			(void)tr_state_reap(state, fd);
	}
	reaped_ns = atomic_load(&state->reaped_ns);
	if (!reaped_ns || tr_sat_sub(tr_clock_ns(), reaped_ns) > REAPED_FRESH_NS)
		return false;
	tr_sleep_ns(RETRY_FIRST_NS << (*tries)++);
	return true;
}

uint16_t tr_charge_owner(CUcontext ctx, tr_dev dev)
{
	uint16_t number = tr_context_find(ctx);

	return number ? number : tr_context_number(ctx, dev, tr_context_is_own(ctx));
}

CUresult tr_charge_keep(struct tr_charge *charge, enum tr_kind kind, uint64_t key)
{
	struct tr_object old, object = {
		.bytes = charge->bytes,
		.kind = kind,
		.dev = charge->dev,
		.owner = tr_charge_owner(charge->ctx, charge->dev),
	};
	int r;

	/* Given without a context, so uncounted: it goes back. */
	if (!charge->ctx && !charge->bytes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = tr_objects_put(key, &object, &old);
	if (r < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	/* The driver let go of this pointer by a way that we do not see. */
	if (r > 0)
		tr_object_discharge(&old);
	charge->bytes = 0;
	return CUDA_SUCCESS;
}

void tr_release_begin(struct tr_release *release, uint64_t key, enum tr_kind kind)
{
	release->key = key;
	release->is_known = key && tr_objects_take(key, kind, &release->object);
}

void tr_release_end(struct tr_release *release, CUresult res)
{
	if (!release->is_known)
		return;
	if (res != CUDA_SUCCESS) {
		tr_objects_put_back(release->key, &release->object);
		return;
	}
	tr_objects_drop(release->key, release->object.kind);
	tr_object_discharge(&release->object);
}

void tr_object_discharge(const struct tr_object *object)
{
	switch (object->kind) {
	case TR_KIND_MEMORY:
	case TR_KIND_ARRAY:
	case TR_KIND_MIPMAP:
		tr_ledger_refund(&tr_self.ledger, object->dev, TR_USED, object->bytes);
		break;
	case TR_KIND_POOLED:
		tr_pool_returned(object->owner, object->bytes);
		break;
	case TR_KIND_PINNED:
	case TR_KIND_REGISTERED:
		tr_pinned_subtract(object->bytes);
		break;
	case TR_KIND_NONE:
	case TR_KIND_HANDLE:
	case TR_KIND_EXEC:
	case TR_KIND_POOL:
		break;
	}
}

static bool is_leaving(uint64_t key, const struct tr_object *object, void *arg)
{
	const struct tr_leaving *leaving = arg;

	(void)key;
	for (unsigned i = 0; i < leaving->count; i++) {
		if (object->owner != leaving->rows[i].number ||
		    !tr_is_of_context(object->kind))
			continue;
		tr_object_discharge(object);
		return true;
	}
	return false;
}

void tr_objects_context_gone(struct tr_leaving *leaving)
{
	/* The numbers are free for others only when nothing bears them any more. */
	if (leaving->count)
		tr_objects_sweep(is_leaving, leaving);
	tr_leaving_gone(leaving);
}

void tr_objects_forget(void)
{
	tr_table_forget();
	tr_vmm_forget();
	tr_reserves_forget();
}

static _Atomic uint64_t *pinned_word(void)
{
	return &tr_self.ledger.state->slots[tr_self.ledger.slot.at].pinned_bytes;
}

void tr_pinned_add(uint64_t bytes)
{
	atomic_fetch_add_explicit(pinned_word(), bytes, memory_order_relaxed);
}

void tr_pinned_subtract(uint64_t bytes)
{
	_Atomic uint64_t *word = pinned_word();
	uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);

	while (!atomic_compare_exchange_weak(word, &seen, tr_sat_sub(seen, bytes)))
		;
}
