/* SPDX-License-Identifier: Apache-2.0 */
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Memory of graph memory nodes. A node has its addresses from the day it is made; memory
 * comes behind them when the graph runs and goes into the device's cache when it is freed.
 * The cache is what the driver calls the graph reserve; only trimming (or the primary
 * context's end) empties it. It grows in steps of 2 MiB.
 */

#define OBJECT_OF(machine) (0x6772617068000000u + (uint64_t)(machine))

/* Addresses of one node. */
struct area {
	struct sim_node at;
	bool is_live;    /* memory is behind them */
	bool is_dropped; /* the node is gone; they go when the memory does */
};

struct cached {
	struct cached *next;
	struct rm_phys phys;
};

static struct reserve {
	size_t used, used_high, reserved, reserved_high;
	struct cached *cache;
	bool is_listed;
} reserves[RM_DEVICES_MAX];

static struct sim_node *areas;

static struct area *area_at(uint64_t p)
{
	struct sim_node *n = sim_tree_below(areas, p);

	return n != NULL && n->key == p ? (struct area *)(void *)n : NULL;
}

static void note_reserve(uint32_t machine)
{
	struct reserve *r = &reserves[machine];

	if (r->reserved > r->reserved_high)
		r->reserved_high = r->reserved;
	if (r->reserved == 0 && r->is_listed)
		rm_object_remove(RM_GRAPH, OBJECT_OF(machine));
	else if (r->reserved != 0 && r->is_listed)
		rm_object_resize(RM_GRAPH, OBJECT_OF(machine), r->reserved);
	else if (r->reserved != 0)
		rm_object_add(RM_GRAPH, machine, OBJECT_OF(machine), r->reserved);
	r->is_listed = r->reserved != 0;
}

static bool empty_cache(uint32_t machine)
{
	struct reserve *r = &reserves[machine];
	bool any = r->cache != NULL;

	while (r->cache != NULL) {
		struct cached *c = r->cache;

		r->cache = c->next;
		r->reserved -= c->phys.bytes;
		rm_phys_unref(c->phys.id);
		free(c);
	}
	if (any)
		note_reserve(machine);
	return any;
}

/* The smallest cached piece that is large enough, taken out. */
static bool take_cached(struct reserve *r, size_t bytes, struct rm_phys *out)
{
	struct cached **best = NULL, *c;

	for (struct cached **at = &r->cache; *at != NULL; at = &(*at)->next)
		if ((*at)->phys.bytes >= bytes &&
		    (best == NULL || (*at)->phys.bytes < (*best)->phys.bytes))
			best = at;
	if (best == NULL)
		return false;
	c = *best;
	*best = c->next;
	*out = c->phys;
	free(c);
	return true;
}

static void put_cached(uint32_t machine, const struct rm_phys *phys)
{
	struct cached *c = malloc(sizeof(*c));

	if (c == NULL) {
		reserves[machine].reserved -= phys->bytes;
		rm_phys_unref(phys->id);
		note_reserve(machine);
		return;
	}
	c->phys = *phys;
	c->next = reserves[machine].cache;
	reserves[machine].cache = c;
}

static int take_memory(uint32_t machine, size_t bytes, struct rm_phys *out)
{
	struct reserve *r = &reserves[machine];
	int e;

	if (take_cached(r, bytes, out))
		return 0;
	e = sim_phys_take(out, machine, bytes, RM_GRAPH);
	if (e == -ENOMEM && empty_cache(machine))
		e = rm_phys_alloc(out, machine, bytes, RM_GRAPH);
	if (e == 0) {
		r->reserved += out->bytes;
		note_reserve(machine);
	}
	return e;
}

/* ---- for graph.c ------------------------------------------------------------------- */

CUresult sim_graphmem_reserve_va(struct sim_ctx *ctx, CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	size_t bytes = sim_round_up(params->bytesize, RM_BLOCK_BYTES);
	struct area *a;
	uint64_t va;

	(void)ctx;
	if (params->bytesize == 0)
		return CUDA_ERROR_INVALID_VALUE;
	a = bytes == SIZE_MAX ? NULL : calloc(1, sizeof(*a));
	if (a == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	sim_mem_lock();
	va = sim_va_take(SIM_WINDOW_DEVICE, bytes, 0);
	if (va != 0)
		sim_tree_insert(&areas, &a->at, va, bytes);
	sim_mem_unlock();
	if (va == 0) {
		free(a);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	params->dptr = va;
	return CUDA_SUCCESS;
}

static int put_behind(struct sim_ctx *ctx, struct area *a, size_t bytes)
{
	struct reserve *r = &reserves[ctx->machine];
	struct sim_span *s = NULL;
	struct rm_phys phys;
	int e = take_memory(ctx->machine, a->at.len, &phys);

	if (e != 0)
		return e;
	e = sim_va_map(a->at.key, a->at.len, rm_backing(phys.device), phys.offset);
	if (e == 0 && (s = sim_span_add(SIM_SPAN_GRAPH, a->at.key, bytes)) == NULL) {
		sim_va_unmap(a->at.key, a->at.len);
		e = -ENOMEM;
	}
	if (e != 0) {
		put_cached(ctx->machine, &phys);
		return e;
	}
	s->machine = ctx->machine;
	s->ctx_id = ctx->id;
	s->ctx = sim_ctx_handle(ctx);
	s->held_bytes = a->at.len;
	s->phys = phys;
	a->is_live = true;
	r->used += a->at.len;
	if (r->used > r->used_high)
		r->used_high = r->used;
	return 0;
}

CUresult sim_graphmem_alloc(struct sim_ctx *ctx, CUdeviceptr dptr, size_t bytes)
{
	struct area *a;
	CUresult e;

	sim_mem_lock();
	a = area_at(dptr);
	if (a == NULL || a->is_live || bytes > a->at.len)
		e = CUDA_ERROR_INVALID_VALUE; /* launched again before its memory was freed
					       */
	else
		e = sim_result(put_behind(ctx, a, bytes));
	sim_mem_unlock();
	return e;
}

static void forget_area(struct area *a)
{
	sim_tree_remove(&areas, a->at.key);
	sim_va_give(SIM_WINDOW_DEVICE, a->at.key, a->at.len);
	free(a);
}

CUresult sim_graphmem_release(struct sim_span *s)
{
	struct area *a = area_at(s->at.key);

	sim_va_unmap(s->at.key, s->held_bytes);
	reserves[s->machine].used -= s->held_bytes;
	put_cached(s->machine, &s->phys);
	sim_span_drop(s);
	a->is_live = false;
	if (a->is_dropped)
		forget_area(a);
	return CUDA_SUCCESS;
}

CUresult sim_graphmem_free(struct sim_ctx *ctx, CUdeviceptr dptr)
{
	struct sim_span *s;
	CUresult e;

	(void)ctx;
	sim_mem_lock();
	s = sim_span_starting(dptr);
	e = s == NULL || s->kind != SIM_SPAN_GRAPH ? CUDA_ERROR_INVALID_VALUE
						   : sim_graphmem_release(s);
	sim_mem_unlock();
	return e;
}

void sim_graphmem_drop_va(struct sim_ctx *ctx, CUdeviceptr dptr)
{
	struct area *a;

	(void)ctx;
	sim_mem_lock();
	a = area_at(dptr);
	if (a != NULL && a->is_live)
		a->is_dropped = true;
	else if (a != NULL)
		forget_area(a);
	sim_mem_unlock();
}

void sim_graphmem_device_gone(uint32_t machine)
{
	struct sim_span *s;
	uint64_t at = 0;

	while ((s = sim_span_after(at)) != NULL) {
		at = s->at.key;
		if (s->kind == SIM_SPAN_GRAPH && s->machine == machine)
			(void)sim_graphmem_release(s);
	}
	(void)empty_cache(machine);
}

/* ---- what is exported -------------------------------------------------------------- */

CUresult CUDAAPI cuDeviceGraphMemTrim(CUdevice device)
{
	uint32_t machine;
	CUresult e;

	SIM_ENTER();
	e = sim_device_machine(device, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	(void)empty_cache(machine);
	sim_mem_unlock();
	return CUDA_SUCCESS;
}

static size_t *attribute_of(struct reserve *r, CUgraphMem_attribute attr)
{
	switch ((int)attr) {
	case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
		return &r->used;
	case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
		return &r->used_high;
	case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
		return &r->reserved;
	case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
		return &r->reserved_high;
	default:
		return NULL;
	}
}

CUresult CUDAAPI cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attr,
					      void *value)
{
	const size_t *at;
	cuuint64_t bytes;
	uint32_t machine;
	CUresult e;

	SIM_ENTER();
	e = sim_device_machine(device, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	at = attribute_of(&reserves[machine], attr);
	if (at == NULL || value == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	bytes = *at;
	sim_mem_unlock();
	memcpy(value, &bytes, sizeof(bytes));
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attr,
					      void *value)
{
	cuuint64_t bytes;
	struct reserve *r;
	uint32_t machine;
	CUresult e;

	SIM_ENTER();
	e = sim_device_machine(device, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	if (value == NULL || (attr != CU_GRAPH_MEM_ATTR_USED_MEM_HIGH &&
			      attr != CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH))
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&bytes, value, sizeof(bytes));
	if (bytes != 0)
		return CUDA_ERROR_INVALID_VALUE;
	r = &reserves[machine];
	sim_mem_lock();
	if (attr == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)
		r->used_high = r->used;
	else
		r->reserved_high = r->reserved;
	sim_mem_unlock();
	return CUDA_SUCCESS;
}
