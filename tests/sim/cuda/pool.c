/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <errno.h>
#include <stdlib.h>

/*
 * A pool takes memory from the driver in chunks of 32 MiB (more for what is larger, less
 * when the device or the pool's own maximum has no such room left) and hands out slots of
 * 512 bytes. Streams take no time, so what is freed can be handed out again at once; a
 * chunk goes back when nothing in it is used and the program synchronises, trims, or
 * someone needs the memory.
 */

static struct sim_pool *pools;

struct sim_pool *sim_pool_get(CUmemoryPool handle)
{
	struct sim_pool *p = pools;

	while (p != NULL && ((CUmemoryPool)(void *)p != handle || p->is_destroyed))
		p = p->next;
	return p;
}

bool sim_pool_is_managed(const struct sim_pool *p)
{
	return p->props.allocType == CU_MEM_ALLOCATION_TYPE_MANAGED;
}

struct sim_pool *sim_pool_add(const CUmemPoolProps *props, uint32_t machine)
{
	struct sim_pool *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->props = *props;
	p->machine = machine;
	p->max_bytes = props->maxSize == 0 ? 0
					   : sim_round_up(props->maxSize, RM_BLOCK_BYTES);
	for (unsigned i = 0; i < SIM_POOL_REUSES; i++)
		p->reuse[i] = 1;
	if (props->location.type == CU_MEM_LOCATION_TYPE_DEVICE)
		p->access = (uint32_t)CU_MEM_ACCESS_FLAGS_PROT_READWRITE
			    << (2 * (unsigned)props->location.id);
	p->next = pools;
	pools = p;
	return p;
}

CUmemAllocationHandleType sim_pool_handle_types(const struct sim_pool *p)
{
	return p->is_imported ? CU_MEM_HANDLE_TYPE_NONE : p->props.handleTypes;
}

uint32_t sim_pool_access(const struct sim_pool *p, int ordinal)
{
	if (ordinal >= 0)
		return p->access >> (2 * (unsigned)ordinal) & 3;
	return p->machine == RM_HOST || sim_pool_is_managed(p) ? 3u : 0u;
}

/* The reserve has changed: its high mark and what the list of live objects says. */
static void note_reserve(struct sim_pool *p)
{
	uint64_t handle = (uintptr_t)p;

	if (p->reserved > p->reserved_high)
		p->reserved_high = p->reserved;
	if (p->machine == RM_HOST || sim_pool_is_managed(p))
		return;
	if (p->reserved == 0 && p->is_listed)
		rm_object_remove(RM_POOL, handle);
	else if (p->reserved != 0 && p->is_listed)
		rm_object_resize(RM_POOL, handle, p->reserved);
	else if (p->reserved != 0)
		rm_object_add(RM_POOL, p->machine, handle, p->reserved);
	p->is_listed = p->reserved != 0;
}

/* ---- chunks ------------------------------------------------------------------------ */

static struct sim_chunk *chunk_of(struct sim_node *n)
{
	return (struct sim_chunk *)(void *)n;
}

/* A stretch of addresses behind each chunk stays unused, so that the free ranges of two
 * never merge. */
static size_t chunk_va_bytes(const struct sim_chunk *c)
{
	return c->phys.bytes + RM_BLOCK_BYTES;
}

static int map_chunk(struct sim_pool *p, struct sim_chunk *c)
{
	uint64_t va = sim_va_take(SIM_WINDOW_DEVICE, chunk_va_bytes(c), 0);
	int r;

	if (va == 0)
		return -ENOMEM;
	r = sim_va_map(va, c->phys.bytes, rm_backing(c->phys.device), c->phys.offset);
	if (r == 0)
		r = sim_gaps_give(&p->free, va, c->phys.bytes, NULL, NULL);
	if (r != 0) {
		sim_va_give(SIM_WINDOW_DEVICE, va, chunk_va_bytes(c));
		return r;
	}
	sim_tree_insert(&p->chunks, &c->at, va, c->phys.bytes);
	return 0;
}

static int add_chunk(struct sim_pool *p, size_t bytes)
{
	struct sim_chunk *c;
	int r;

	if (p->max_bytes != 0 &&
	    (bytes > p->max_bytes || p->reserved > p->max_bytes - bytes))
		return -ENOMEM;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return -ENOMEM;
	r = sim_phys_take(&c->phys, p->machine, bytes, RM_POOL);
	if (r == 0) {
		r = map_chunk(p, c);
		if (r != 0)
			rm_phys_unref(c->phys.id);
	}
	if (r != 0) {
		free(c);
		return r;
	}
	p->reserved += bytes;
	note_reserve(p);
	return 0;
}

static int grow_pool(struct sim_pool *p, size_t held)
{
	size_t step = sim_round_up(held, SIM_POOL_STEP_BYTES);
	size_t least = sim_round_up(held, RM_BLOCK_BYTES);
	int r;

	if (step == SIZE_MAX || least == SIZE_MAX)
		return -ENOMEM;
	r = add_chunk(p, step);
	return r == -ENOMEM && least < step ? add_chunk(p, least) : r;
}

static void drop_chunk(struct sim_pool *p, struct sim_chunk *c)
{
	sim_tree_remove(&p->chunks, c->at.key);
	sim_va_give(SIM_WINDOW_DEVICE, c->at.key, chunk_va_bytes(c));
	rm_phys_unref(c->phys.id);
	p->reserved -= c->at.len;
	free(c);
}

bool sim_pool_trim(struct sim_pool *p, size_t keep_bytes)
{
	struct sim_node *n = sim_tree_above(p->chunks, 0);
	size_t before = p->reserved;

	while (n != NULL && p->reserved > keep_bytes) {
		struct sim_chunk *c = chunk_of(n);

		n = sim_tree_above(p->chunks, n->key);
		if (c->used_bytes == 0 && p->reserved - c->at.len >= keep_bytes &&
		    sim_gaps_take_at(&p->free, c->at.key, c->at.len))
			drop_chunk(p, c);
	}
	if (p->reserved == before)
		return false;
	note_reserve(p);
	return true;
}

bool sim_pool_reclaim(uint32_t machine)
{
	bool any = false;

	for (struct sim_pool *p = pools; p != NULL; p = p->next)
		if (p->machine == machine)
			any = sim_pool_trim(p, 0) || any;
	return any;
}

void sim_pool_sync(uint32_t machine)
{
	sim_mem_lock();
	for (struct sim_pool *p = pools; p != NULL; p = p->next)
		if ((p->machine == machine || p->machine == RM_HOST) &&
		    p->reserved > p->threshold)
			(void)sim_pool_trim(p, p->threshold);
	sim_mem_unlock();
}

/* ---- allocations ------------------------------------------------------------------- */

static void note_used(struct sim_pool *p, size_t bytes)
{
	p->used += bytes;
	p->live++;
	if (p->used > p->used_high)
		p->used_high = p->used;
}

void sim_pool_note_managed(struct sim_pool *p, int64_t bytes)
{
	if (bytes < 0) {
		p->used -= (size_t)-bytes;
		p->live--;
	} else {
		note_used(p, (size_t)bytes);
	}
	p->reserved = p->used;
	note_reserve(p);
	if (p->is_destroyed)
		sim_pool_end(p);
}

static int take_managed(struct sim_pool *p, struct sim_ctx *ctx, size_t bytes,
			struct sim_span **out)
{
	int r = sim_managed_take(ctx, bytes, CU_MEM_ATTACH_GLOBAL, out);

	if (r != 0)
		return r;
	(*out)->ctx_id = 0; /* the pool's, not the context's */
	(*out)->pool = p;
	sim_pool_note_managed(p, (int64_t)(*out)->held_bytes);
	rm_object_add(RM_MANAGED, (*out)->machine, (*out)->at.key, (*out)->held_bytes);
	return 0;
}

int sim_pool_take(struct sim_pool *p, struct sim_ctx *ctx, size_t bytes,
		  struct sim_span **out)
{
	size_t held = sim_round_up(bytes, SIM_SLOT_BYTES), align;
	struct sim_chunk *c;
	struct sim_span *s;
	uint64_t va;
	int r;

	if (sim_pool_is_managed(p))
		return take_managed(p, ctx, bytes, out);
	if (held == SIZE_MAX)
		return -ENOMEM;
	align = held < RM_BLOCK_BYTES ? SIM_SLOT_BYTES : RM_BLOCK_BYTES;
	va = sim_gaps_take(&p->free, held, align);
	if (va == 0) {
		r = grow_pool(p, held);
		if (r != 0)
			return r;
		va = sim_gaps_take(&p->free, held, align);
	}
	s = va == 0 ? NULL : sim_span_add(SIM_SPAN_POOL, va, bytes);
	if (s == NULL)
		return -ENOMEM;
	c = chunk_of(sim_tree_below(p->chunks, va));
	c->used_bytes += held;
	s->machine = p->machine;
	s->held_bytes = held;
	s->pool = p;
	s->phys = c->phys; /* the chunk's: not this span's to give back */
	note_used(p, held);
	*out = s;
	return 0;
}

void sim_pool_give(struct sim_span *s)
{
	struct sim_pool *p = s->pool;
	struct sim_chunk *c = chunk_of(sim_tree_below(p->chunks, s->at.key));

	c->used_bytes -= s->held_bytes;
	p->used -= s->held_bytes;
	p->live--;
	/* no memory for the note: the range stays out of use until its chunk goes */
	(void)sim_gaps_give(&p->free, s->at.key, s->held_bytes, NULL, NULL);
	sim_span_drop(s);
	if (p->is_destroyed)
		sim_pool_end(p);
}

void sim_pool_shared_release(struct sim_span *s)
{
	struct sim_pool *p = s->pool;

	sim_span_release(s);
	p->live--;
	if (p->is_destroyed)
		sim_pool_end(p);
}

/* ---- ends -------------------------------------------------------------------------- */

void sim_pool_end(struct sim_pool *p)
{
	struct sim_pool **at = &pools;

	p->is_destroyed = true;
	sim_pool_forget_choice(p);
	if (p->live > 0)
		return;
	(void)sim_pool_trim(p, 0);
	sim_gaps_clear(&p->free);
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	if (p->marker != NULL) {
		sim_marker_close(p->marker);
		rm_phys_unref(p->marker_phys.id);
	}
	free(p);
}

/* Every allocation of the machine's pools goes with the device's primary context. */
void sim_pool_device_gone(uint32_t machine)
{
	struct sim_span *s;
	uint64_t at = 0;

	while ((s = sim_span_after(at)) != NULL) {
		at = s->at.key;
		if (s->pool == NULL || s->machine != machine)
			continue;
		if (s->kind == SIM_SPAN_SHARED)
			sim_pool_shared_release(s);
		else if (s->kind == SIM_SPAN_MANAGED)
			sim_managed_release(s);
		else if (s->kind == SIM_SPAN_POOL)
			sim_pool_give(s);
	}
	for (struct sim_pool *p = pools; p != NULL; p = p->next)
		if (p->machine == machine) {
			(void)sim_pool_trim(p, 0);
			p->threshold = 0;
		}
}
