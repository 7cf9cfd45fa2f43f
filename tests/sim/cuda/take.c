/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm.h"

#include <errno.h>
#include <stdlib.h>

/*
 * Device memory as the driver takes it: whole 2 MiB blocks. What is small shares a block
 * with other small allocations of its context; an empty block goes back at once.
 */

struct block {
	struct sim_node at;
	struct rm_phys phys;
	uint64_t ctx_id;
};

/* The blocks of one context. */
struct shelf {
	struct shelf *next;
	uint64_t ctx_id;
	struct sim_gaps free;
};

static struct sim_node *blocks;
static struct shelf *shelves;

int sim_phys_take(struct rm_phys *out, uint32_t machine, size_t bytes, enum rm_kind kind)
{
	int r = rm_phys_alloc(out, machine, bytes, kind);

	if (r == -ENOMEM && machine != RM_HOST && sim_pool_reclaim(machine))
		r = rm_phys_alloc(out, machine, bytes, kind);
	return r;
}

int sim_phys_map(const struct rm_phys *phys, enum sim_window w, uint64_t *va)
{
	int r;

	*va = sim_va_take(w, phys->bytes, 0);
	if (*va == 0)
		return -ENOMEM;
	r = sim_va_map(*va, phys->bytes, rm_backing(phys->device), phys->offset);
	if (r != 0)
		sim_va_give(w, *va, phys->bytes);
	return r;
}

static int take_locked(struct sim_ctx *ctx, enum sim_span_kind kind, enum sim_window w,
		       size_t bytes, enum rm_kind why, struct sim_span **out)
{
	size_t rounded = sim_round_up(bytes, RM_BLOCK_BYTES);
	struct rm_phys phys;
	struct sim_span *s;
	uint64_t va;
	int r;

	if (rounded == SIZE_MAX)
		return -ENOMEM;
	r = sim_phys_take(&phys, ctx->machine, rounded, why);
	if (r != 0)
		return r;
	r = sim_phys_map(&phys, w, &va);
	if (r != 0) {
		rm_phys_unref(phys.id);
		return r;
	}
	s = sim_span_add(kind, va, bytes);
	if (s == NULL) {
		sim_va_give(w, va, rounded);
		rm_phys_unref(phys.id);
		return -ENOMEM;
	}
	s->window = w;
	s->machine = ctx->machine;
	s->ctx_id = ctx->id;
	s->ctx = sim_ctx_handle(ctx);
	s->held_bytes = sim_round_up(bytes, SIM_SLOT_BYTES);
	s->va_base = va;
	s->va_bytes = rounded;
	s->phys = phys;
	*out = s;
	return 0;
}

int sim_span_take(struct sim_ctx *ctx, enum sim_span_kind kind, enum sim_window w,
		  size_t bytes, enum rm_kind why, struct sim_span **out)
{
	int r;

	sim_mem_lock();
	r = take_locked(ctx, kind, w, bytes, why, out);
	sim_mem_unlock();
	return r;
}

void sim_span_release(struct sim_span *s)
{
	if (s->va_bytes != 0)
		sim_va_give(s->window, s->va_base, s->va_bytes);
	if (s->phys.id != 0)
		rm_phys_unref(s->phys.id);
	sim_span_drop(s);
}

/* ---- small allocations ------------------------------------------------------------- */

static struct shelf *shelf_of(uint64_t ctx_id, bool make)
{
	struct shelf *f;

	for (f = shelves; f != NULL; f = f->next)
		if (f->ctx_id == ctx_id)
			return f;
	f = make ? calloc(1, sizeof(*f)) : NULL;
	if (f != NULL) {
		f->ctx_id = ctx_id;
		f->free.fence_shift =
			21; /* never across blocks: each is given back alone */
		f->next = shelves;
		shelves = f;
	}
	return f;
}

static struct block *block_at(uint64_t base)
{
	struct sim_node *n = sim_tree_below(blocks, base);

	return n != NULL && n->key == base ? (struct block *)(void *)n : NULL;
}

static void return_block(struct block *b)
{
	sim_tree_remove(&blocks, b->at.key);
	sim_va_give(SIM_WINDOW_DEVICE, b->at.key, RM_BLOCK_BYTES);
	rm_phys_unref(b->phys.id);
	free(b);
}

static int add_block(struct sim_ctx *ctx, struct shelf *f)
{
	struct block *b = calloc(1, sizeof(*b));
	uint64_t va;
	int r = b == NULL ? -ENOMEM
			  : sim_phys_take(&b->phys, ctx->machine, RM_BLOCK_BYTES, RM_BLOCK);

	if (r != 0) {
		free(b);
		return r;
	}
	r = sim_phys_map(&b->phys, SIM_WINDOW_DEVICE, &va);
	if (r != 0) {
		rm_phys_unref(b->phys.id);
		free(b);
		return r;
	}
	b->ctx_id = ctx->id;
	sim_tree_insert(&blocks, &b->at, va, RM_BLOCK_BYTES);
	r = sim_gaps_give(&f->free, va, RM_BLOCK_BYTES, NULL, NULL);
	if (r != 0)
		return_block(b);
	return r;
}

int sim_block_take(struct sim_ctx *ctx, size_t bytes, struct sim_span **out)
{
	size_t held = sim_round_up(bytes, SIM_SLOT_BYTES);
	struct shelf *f = shelf_of(ctx->id, true);
	struct sim_span *s;
	uint64_t p;
	int r;

	if (f == NULL)
		return -ENOMEM;
	p = sim_gaps_take(&f->free, held, SIM_SLOT_BYTES);
	if (p == 0) {
		r = add_block(ctx, f);
		if (r != 0)
			return r;
		p = sim_gaps_take(&f->free, held, SIM_SLOT_BYTES);
	}
	s = p == 0 ? NULL : sim_span_add(SIM_SPAN_SMALL, p, bytes);
	if (s == NULL)
		return -ENOMEM;
	s->machine = ctx->machine;
	s->ctx_id = ctx->id;
	s->ctx = sim_ctx_handle(ctx);
	s->held_bytes = held;
	*out = s;
	return 0;
}

void sim_block_give(struct sim_span *s)
{
	uint64_t p = s->at.key, whole = 0, whole_bytes = 0;
	struct shelf *f = shelf_of(s->ctx_id, false);
	size_t held = s->held_bytes;

	sim_span_drop(s);
	if (f == NULL || sim_gaps_give(&f->free, p, held, &whole, &whole_bytes) != 0)
		return;
	if (whole_bytes == RM_BLOCK_BYTES) {
		sim_gaps_take_at(&f->free, whole, whole_bytes);
		return_block(block_at(whole));
	}
}

void sim_span_backing(const struct sim_span *s, struct rm_phys *phys, uint64_t *base)
{
	const struct block *b;

	*phys = s->phys;
	*base = s->va_base;
	if (s->kind == SIM_SPAN_SMALL) {
		b = block_at(s->at.key & ~(uint64_t)(RM_BLOCK_BYTES - 1));
		*phys = b->phys;
		*base = b->at.key;
	} else if (s->kind == SIM_SPAN_MAPPING) {
		*phys = s->vmm->phys;
		*base = s->at.key;
	}
}

void sim_block_ctx_gone(uint64_t ctx_id)
{
	struct sim_node *n = sim_tree_above(blocks, 0);

	for (struct shelf **at = &shelves; *at != NULL; at = &(*at)->next) {
		struct shelf *f = *at;

		if (f->ctx_id == ctx_id) {
			*at = f->next;
			sim_gaps_clear(&f->free);
			free(f);
			break;
		}
	}
	while (n != NULL) {
		struct block *b = (struct block *)(void *)n;

		n = sim_tree_above(blocks, n->key);
		if (b->ctx_id == ctx_id)
			return_block(b);
	}
}

/* ---- for the other files of the library -------------------------------------------- */

CUresult sim_mem_take(struct sim_ctx *ctx, size_t bytes, enum rm_kind kind,
		      CUdeviceptr *out, struct rm_phys *phys)
{
	struct sim_span *s;
	int r = sim_span_take(ctx, SIM_SPAN_TAKEN, SIM_WINDOW_DEVICE, bytes, kind, &s);

	if (r != 0)
		return sim_result(r);
	*out = s->at.key;
	*phys = s->phys;
	return CUDA_SUCCESS;
}

void sim_mem_give(CUdeviceptr p, size_t bytes, const struct rm_phys *phys)
{
	struct sim_span *s;

	(void)bytes;
	sim_mem_lock();
	s = sim_span_starting(p);
	if (s != NULL && (s->kind == SIM_SPAN_TAKEN || s->kind == SIM_SPAN_ATTACHED) &&
	    s->phys.id == phys->id)
		sim_span_release(s);
	sim_mem_unlock();
}

CUresult sim_mem_attach(struct sim_ctx *ctx, const struct rm_phys *phys, size_t offset,
			size_t bytes, CUdeviceptr *out)
{
	struct sim_span *s = NULL;
	uint64_t va = 0;
	int r;

	sim_mem_lock();
	r = rm_phys_ref(phys->id);
	if (r == 0) {
		r = sim_phys_map(phys, SIM_WINDOW_DEVICE, &va);
		if (r == 0 &&
		    (s = sim_span_add(SIM_SPAN_ATTACHED, va + offset, bytes)) == NULL) {
			sim_va_give(SIM_WINDOW_DEVICE, va, phys->bytes);
			r = -ENOMEM;
		}
		if (r != 0)
			rm_phys_unref(phys->id);
	}
	if (r == 0) {
		s->machine = phys->device;
		s->ctx_id = ctx->id;
		s->ctx = sim_ctx_handle(ctx);
		s->held_bytes = bytes;
		s->va_base = va;
		s->va_bytes = phys->bytes;
		s->phys = *phys;
		*out = s->at.key;
	}
	sim_mem_unlock();
	return sim_result(r);
}

int sim_ordinal_of(uint32_t machine)
{
	for (int i = 0; i < sim_device_count(); i++) {
		uint32_t m;

		if (sim_device_machine(i, &m) == CUDA_SUCCESS && m == machine)
			return i;
	}
	return -1;
}

CUresult sim_location_machine(const CUmemLocation *l, uint32_t *machine)
{
	switch ((int)l->type) {
	case CU_MEM_LOCATION_TYPE_DEVICE:
		return sim_device_machine(l->id, machine);
	case CU_MEM_LOCATION_TYPE_DEVICE_LOCALITY_DOMAIN: /* every device has one domain */
		if (l->localized.localityDomainId != 0)
			return CUDA_ERROR_INVALID_VALUE;
		return sim_device_machine(l->localized.deviceId, machine);
	case CU_MEM_LOCATION_TYPE_HOST:
	case CU_MEM_LOCATION_TYPE_HOST_NUMA:
	case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
		*machine = RM_HOST;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}
