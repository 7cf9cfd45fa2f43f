/* SPDX-License-Identifier: Apache-2.0 */
#include "managed.h"

#include <errno.h>
#include <stdlib.h>

/*
 * Managed memory. Its bytes live in host memory; a device holds those pages of 2 MiB (at
 * least) that were last prefetched to it, and only those count against the device. A copy
 * or a memset does not migrate. A prefetch to a full device moves nothing and succeeds, as
 * eviction would. The list of live objects has the full size, on the device of the context:
 * that is what a careful observer who cannot see residency would charge.
 */

int sim_managed_take(struct sim_ctx *ctx, size_t bytes, unsigned flags,
		     struct sim_span **out)
{
	size_t rounded = sim_round_up(bytes, SIM_MANAGED_PAGE_BYTES),
	       n = rounded / SIM_MANAGED_PAGE_BYTES;
	struct sim_managed *m;
	struct sim_span *s = NULL;
	uint64_t va;
	int r;

	if (rounded == SIZE_MAX)
		return -ENOMEM;
	m = calloc(1, sizeof(*m) + n * sizeof(m->pages[0]));
	va = m == NULL ? 0 : sim_va_take(SIM_WINDOW_DEVICE, rounded, 0);
	if (va == 0) {
		free(m);
		return -ENOMEM;
	}
	r = sim_va_map_anonymous(va, rounded);
	if (r == 0 && (s = sim_span_add(SIM_SPAN_MANAGED, va, bytes)) == NULL)
		r = -ENOMEM;
	if (r != 0) {
		sim_va_give(SIM_WINDOW_DEVICE, va, rounded);
		free(m);
		return r;
	}
	m->page_count = n;
	s->window = SIM_WINDOW_DEVICE;
	s->flags = flags;
	s->machine = ctx->machine;
	s->ctx_id = ctx->id;
	s->ctx = sim_ctx_handle(ctx);
	s->held_bytes = sim_round_up(bytes, SIM_SLOT_BYTES);
	s->va_base = va;
	s->va_bytes = rounded;
	s->managed = m;
	*out = s;
	return 0;
}

static void drop_held(struct sim_managed_held *h)
{
	for (unsigned i = 0; i < h->count; i++)
		rm_phys_unref(h->pieces[i].id);
	h->count = 0;
	h->pages = 0;
}

void sim_managed_release(struct sim_span *s)
{
	struct sim_managed *m = s->managed;

	rm_object_remove(RM_MANAGED, s->at.key);
	if (s->pool != NULL)
		sim_pool_note_managed(s->pool, -(int64_t)s->held_bytes);
	for (unsigned d = 0; d < RM_DEVICES_MAX; d++) {
		if (m->held[d] != NULL)
			drop_held(m->held[d]);
		free(m->held[d]);
	}
	free(m);
	sim_span_release(s);
}

/* Makes device D hold N pages of M. False: it is too full, and holds none or what it held.
 */
static bool hold_pages(struct sim_managed *m, uint32_t d, size_t n)
{
	struct sim_managed_held *h = m->held[d];

	if (h == NULL) {
		h = m->held[d] = calloc(1, sizeof(*h));
		if (h == NULL)
			return false;
	}
	if (n < h->pages || h->count == SIM_MANAGED_PIECES)
		drop_held(h);
	if (n == h->pages)
		return true;
	if (sim_phys_take(&h->pieces[h->count], d, (n - h->pages) * SIM_MANAGED_PAGE_BYTES,
			  RM_MANAGED) != 0)
		return false;
	h->count++;
	h->pages = n;
	return true;
}

/* Sends pages without a device's memory back to the host. */
static void evict_pages(struct sim_managed *m, uint32_t d)
{
	for (size_t i = 0; i < m->page_count; i++)
		if (m->pages[i].device == d + 1)
			m->pages[i].device = 0;
}

static void settle_residency(struct sim_managed *m)
{
	size_t want[RM_DEVICES_MAX] = { 0 };

	for (size_t i = 0; i < m->page_count; i++)
		if (m->pages[i].device != 0)
			want[m->pages[i].device - 1]++;
	for (uint32_t d = 0; d < RM_DEVICES_MAX; d++) {
		if (want[d] == (m->held[d] == NULL ? 0 : m->held[d]->pages))
			continue;
		if (!hold_pages(m, d, want[d])) {
			if (m->held[d] != NULL)
				drop_held(m->held[d]);
			evict_pages(m, d);
		}
	}
}

/* The managed span that holds [p, p + n), and which of its pages. Lock held. */
struct sim_span *sim_managed_pages(uint64_t p, size_t n, size_t *first, size_t *last)
{
	struct sim_span *s = sim_span_holding(p);

	if (s == NULL || s->kind != SIM_SPAN_MANAGED || n == 0 ||
	    n > s->at.key + s->at.len - p)
		return NULL;
	*first = (p - s->at.key) / SIM_MANAGED_PAGE_BYTES;
	*last = (p - s->at.key + n - 1) / SIM_MANAGED_PAGE_BYTES;
	return s;
}

CUresult sim_managed_prefetch(uint64_t p, size_t n, const CUmemLocation *to)
{
	size_t first, last;
	struct sim_span *s;
	uint32_t machine;
	CUresult e = sim_location_machine(to, &machine);

	if (e != CUDA_SUCCESS)
		return e;
	if (to->type == CU_MEM_LOCATION_TYPE_DEVICE_LOCALITY_DOMAIN)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	s = sim_managed_pages(p, n, &first, &last);
	if (s == NULL) {
		sim_mem_unlock();
		return CUDA_ERROR_INVALID_VALUE;
	}
	for (size_t i = first; i <= last; i++) {
		struct sim_page *page = &s->managed->pages[i];

		page->device = machine == RM_HOST ? 0 : (uint8_t)(machine + 1);
		page->prefetched.type = (int)to->type;
		page->prefetched.id = to->id;
	}
	settle_residency(s->managed);
	sim_mem_unlock();
	return CUDA_SUCCESS;
}

/* CU_DEVICE_CPU or an ordinal, as the first ABIs said it. */
CUmemLocation sim_managed_location(CUdevice dev)
{
	CUmemLocation l = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = dev };

	if (dev == CU_DEVICE_CPU) {
		l.type = CU_MEM_LOCATION_TYPE_HOST;
		l.id = 0;
	}
	return l;
}

/* ---- what is exported -------------------------------------------------------------- */

CUresult CUDAAPI cuMemAllocManaged(CUdeviceptr *dptr, size_t bytesize, unsigned int flags)
{
	struct sim_span *s = NULL;
	struct sim_ctx *ctx;
	CUresult e;
	int r;

	SIM_ENTER();
	e = sim_ctx_current(&ctx);
	if (e == CUDA_SUCCESS)
		e = sim_capture_forbids();
	if (e != CUDA_SUCCESS)
		return e;
	if (dptr == NULL || bytesize == 0 ||
	    (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST))
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	r = sim_managed_take(ctx, bytesize, flags, &s);
	sim_mem_unlock();
	if (r != 0)
		return sim_result(r);
	*dptr = s->at.key;
	rm_object_add(RM_MANAGED, ctx->machine, s->at.key, s->held_bytes);
	return CUDA_SUCCESS;
}
