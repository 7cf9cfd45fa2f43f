/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm.h"

#include <errno.h>
#include <stdlib.h>

/*
 * Virtual memory management. A mapping is put behind its addresses when access is first
 * granted: until then a touch faults, as on the device. A mapping of a multicast object
 * never has bytes behind it, because nothing here computes with it; copies through it are
 * refused.
 */

struct reservation {
	struct sim_node at;
	size_t va_bytes;
};

static struct sim_node *reservations;
static struct sim_node *handles;
static uint64_t last_handle = 0x5a0000000000u;

/* ---- handles ----------------------------------------------------------------------- */

struct sim_vmm *sim_vmm_add(const struct rm_phys *phys, size_t bytes)
{
	struct sim_vmm *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return NULL;
	v->refs = 1;
	v->phys = *phys;
	v->bytes = bytes;
	last_handle += 0x40;
	sim_tree_insert(&handles, &v->at, last_handle, 1);
	return v;
}

static struct sim_vmm *find_handle(uint64_t handle)
{
	struct sim_node *n = sim_tree_below(handles, handle);

	return n != NULL && n->key == handle ? (struct sim_vmm *)(void *)n : NULL;
}

struct sim_vmm *sim_vmm_get(CUmemGenericAllocationHandle handle)
{
	struct sim_vmm *v = find_handle(handle);

	return v != NULL && v->refs > 0 ? v : NULL;
}

void sim_vmm_settle(struct sim_vmm *v)
{
	if (v->refs > 0 || v->uses > 0)
		return;
	sim_tree_remove(&handles, v->at.key);
	if (v->multicast != NULL)
		sim_multicast_free(v->multicast);
	else if (!v->imported && v->phys.device != RM_HOST)
		rm_object_remove(RM_VMM, v->at.key);
	rm_phys_unref(v->phys.id);
	free(v);
}

CUmemAllocationHandleType sim_vmm_handle_types(const struct sim_vmm *v)
{
	return v->prop.requestedHandleTypes;
}

/* ---- reservations ------------------------------------------------------------------ */

static struct reservation *reservation_at(uint64_t p)
{
	struct sim_node *n = sim_tree_below(reservations, p);

	return n != NULL && p - n->key < n->len ? (struct reservation *)(void *)n : NULL;
}

bool sim_vmm_reservation(uint64_t p, struct sim_reservation *out)
{
	const struct reservation *r = reservation_at(p);

	if (r == NULL)
		return false;
	out->base = r->at.key;
	out->bytes = r->at.len;
	return true;
}

static CUresult reserve(uint64_t *out, size_t size, size_t align, uint64_t wish)
{
	struct reservation *r = calloc(1, sizeof(*r));
	uint64_t base = 0;

	if (r == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (wish != 0 && (align == 0 || wish % align == 0) &&
	    sim_va_take_at(SIM_WINDOW_DEVICE, wish, size))
		base = wish;
	if (base == 0)
		base = sim_va_take(SIM_WINDOW_DEVICE, size, align);
	if (base == 0) {
		free(r);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	r->va_bytes = size;
	sim_tree_insert(&reservations, &r->at, base, size);
	*out = base;
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemAddressReserve(CUdeviceptr *ptr, size_t size, size_t alignment,
				     CUdeviceptr addr, unsigned long long flags)
{
	uint64_t base = 0;
	CUresult e;

	SIM_ENTER();
	if (ptr == NULL || size == 0 || size % SIM_PAGE_BYTES != 0 ||
	    addr % SIM_PAGE_BYTES != 0 || (alignment & (alignment - 1)) != 0 || flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	e = reserve(&base, size, alignment, addr);
	sim_mem_unlock();
	if (e == CUDA_SUCCESS)
		*ptr = base;
	return e;
}

CUresult CUDAAPI cuMemAddressFree(CUdeviceptr ptr, size_t size)
{
	const struct sim_span *in;
	struct reservation *r;
	CUresult e = CUDA_ERROR_INVALID_VALUE;

	SIM_ENTER();
	sim_mem_lock();
	r = reservation_at(ptr);
	in = sim_span_after(ptr - 1);
	if (r != NULL && r->at.key == ptr && r->at.len == size &&
	    (in == NULL || in->at.key >= ptr + size)) {
		sim_tree_remove(&reservations, ptr);
		sim_va_give(SIM_WINDOW_DEVICE, ptr, r->va_bytes);
		free(r);
		e = CUDA_SUCCESS;
	}
	sim_mem_unlock();
	return e;
}

/* ---- creation ---------------------------------------------------------------------- */

/* What cuMemCreate and the granularity query accept, and where it is. */
static CUresult check_prop(const CUmemAllocationProp *prop, uint32_t *machine)
{
	unsigned types;
	CUresult e;

	if (prop == NULL || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
	    prop->win32HandleMetaData != NULL)
		return CUDA_ERROR_INVALID_VALUE;
	types = (unsigned)prop->requestedHandleTypes;
	if ((types & ~(unsigned)(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR |
				 CU_MEM_HANDLE_TYPE_FABRIC)) != 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (prop->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT ||
	    (prop->location.type == CU_MEM_LOCATION_TYPE_HOST && types != 0) ||
	    (prop->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA &&
	     prop->location.id < 0))
		return CUDA_ERROR_INVALID_VALUE;
	e = sim_location_machine(&prop->location, machine);
	if (e == CUDA_SUCCESS && (types & CU_MEM_HANDLE_TYPE_FABRIC) != 0 &&
	    *machine != RM_HOST && !sim_device_facts(*machine)->has_multicast)
		e = CUDA_ERROR_NOT_SUPPORTED;
	return e;
}

CUresult CUDAAPI cuMemGetAllocationGranularity(size_t *granularity,
					       const CUmemAllocationProp *prop,
					       CUmemAllocationGranularity_flags option)
{
	uint32_t machine;
	CUresult e;

	SIM_ENTER();
	if (granularity == NULL || (option != CU_MEM_ALLOC_GRANULARITY_MINIMUM &&
				    option != CU_MEM_ALLOC_GRANULARITY_RECOMMENDED))
		return CUDA_ERROR_INVALID_VALUE;
	e = check_prop(prop, &machine);
	if (e == CUDA_SUCCESS)
		*granularity = SIM_VMM_GRANULE;
	return e;
}

static CUresult create(CUmemGenericAllocationHandle *handle, size_t size,
		       const CUmemAllocationProp *prop, uint32_t machine)
{
	struct rm_phys phys;
	struct sim_vmm *v;
	int r = sim_phys_take(&phys, machine, size, RM_VMM);

	if (r != 0)
		return sim_result(r);
	v = sim_vmm_add(&phys, size);
	if (v == NULL) {
		rm_phys_unref(phys.id);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	v->prop = *prop;
	if (prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE_LOCALITY_DOMAIN) {
		v->prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
		v->prop.location.id = prop->location.localized.deviceId;
	}
	v->prop.allocFlags.compressionType =
		CU_MEM_ALLOCATION_COMP_NONE; /* a hint, not taken */
	if (machine != RM_HOST)
		rm_object_add(RM_VMM, machine, v->at.key, size);
	*handle = v->at.key;
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
			     const CUmemAllocationProp *prop, unsigned long long flags)
{
	uint32_t machine;
	CUresult e;

	SIM_ENTER();
	if (handle == NULL || size == 0 || flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	e = check_prop(prop, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	if (size % SIM_VMM_GRANULE != 0)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	e = create(handle, size, prop, machine);
	sim_mem_unlock();
	return e;
}

CUresult CUDAAPI cuMemRelease(CUmemGenericAllocationHandle handle)
{
	struct sim_vmm *v;

	SIM_ENTER();
	sim_mem_lock();
	v = sim_vmm_get(handle);
	if (v != NULL) {
		v->refs--;
		sim_vmm_settle(v);
	}
	sim_mem_unlock();
	return v == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

/* ---- mappings ---------------------------------------------------------------------- */

/* Is [p, p + n) free within one reservation? */
static bool is_unmapped(uint64_t p, size_t n)
{
	const struct reservation *r = reservation_at(p);
	const struct sim_span *next = sim_span_after(p - 1);

	return r != NULL && n <= r->at.key + r->at.len - p && sim_span_holding(p) == NULL &&
	       (next == NULL || next->at.key >= p + n);
}

static CUresult map(uint64_t p, size_t n, struct sim_vmm *v)
{
	struct sim_span *s;

	if (n > v->bytes || !is_unmapped(p, n))
		return CUDA_ERROR_INVALID_VALUE;
	s = sim_span_add(SIM_SPAN_MAPPING, p, n);
	if (s == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	s->machine = v->multicast == NULL ? v->phys.device
					  : sim_multicast_machine(v->multicast);
	s->held_bytes = n;
	s->accessible = false;
	s->vmm = v;
	v->uses++;
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemMap(CUdeviceptr ptr, size_t size, size_t offset,
			  CUmemGenericAllocationHandle handle, unsigned long long flags)
{
	struct sim_vmm *v;
	CUresult e;

	SIM_ENTER();
	if (ptr == 0 || size == 0 || ptr % SIM_VMM_GRANULE != 0 ||
	    size % SIM_VMM_GRANULE != 0 || offset != 0 /* as the driver documents */ ||
	    flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	e = sim_multicast_wait(handle);
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	v = sim_vmm_get(handle);
	e = v == NULL ? CUDA_ERROR_INVALID_VALUE : map(ptr, size, v);
	sim_mem_unlock();
	return e;
}

/* Whether [p, p + n) consists of whole mappings without a hole. */
static bool is_whole_mappings(uint64_t p, size_t n)
{
	uint64_t end = p + n;

	if (n == 0 || end < p)
		return false;
	while (p < end) {
		const struct sim_span *s = sim_span_starting(p);

		if (s == NULL || s->kind != SIM_SPAN_MAPPING || s->at.len > end - p)
			return false;
		p += s->at.len;
	}
	return true;
}

static void unmap(struct sim_span *s)
{
	struct sim_vmm *v = s->vmm;

	if (s->accessible)
		sim_va_unmap(s->at.key, s->at.len);
	sim_span_drop(s);
	v->uses--;
	sim_vmm_settle(v);
}

CUresult CUDAAPI cuMemUnmap(CUdeviceptr ptr, size_t size)
{
	bool ok;

	SIM_ENTER();
	sim_mem_lock();
	ok = is_whole_mappings(ptr, size);
	for (uint64_t p = ptr; ok && p < ptr + size;) {
		struct sim_span *s = sim_span_starting(p);

		p += s->at.len;
		unmap(s);
	}
	sim_mem_unlock();
	return ok ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- access ------------------------------------------------------------------------ */

static CUresult check_access(const CUmemAccessDesc *d, uint64_t p, size_t n)
{
	uint32_t machine;
	CUresult e = sim_location_machine(&d->location, &machine);

	if (e != CUDA_SUCCESS)
		return e;
	if (d->flags != CU_MEM_ACCESS_FLAGS_PROT_NONE &&
	    d->flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
	    d->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
		return CUDA_ERROR_INVALID_VALUE;
	for (uint64_t at = p; machine == RM_HOST && at < p + n;) {
		const struct sim_span *s = sim_span_starting(at);

		if (s->machine != RM_HOST)
			return CUDA_ERROR_INVALID_VALUE; /* the CPU does not reach device
							    memory */
		at += s->at.len;
	}
	return CUDA_SUCCESS;
}

static CUresult give_access(struct sim_span *s, const CUmemAccessDesc *desc, size_t count)
{
	const struct rm_phys *phys = &s->vmm->phys;
	bool wanted;

	for (size_t i = 0; i < count; i++) {
		unsigned shift = 2 * (unsigned)desc[i].location.id;

		if (desc[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE)
			s->access = (s->access & ~(3u << shift)) | (uint32_t)desc[i].flags
									   << shift;
		else
			s->host_access = (uint32_t)desc[i].flags;
	}
	if (s->vmm->multicast != NULL)
		return CUDA_SUCCESS;
	wanted = s->access != 0 || s->host_access != 0;
	if (wanted && !s->accessible) {
		int r = sim_va_map(s->at.key, s->at.len, rm_backing(phys->device),
				   phys->offset);

		if (r != 0)
			return sim_result(r);
	} else if (!wanted && s->accessible) {
		sim_va_unmap(s->at.key, s->at.len);
	}
	s->accessible = wanted;
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc *desc,
				size_t count)
{
	CUresult e = CUDA_SUCCESS;

	SIM_ENTER();
	if (ptr == 0 || size == 0 || desc == NULL || count == 0)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	if (!is_whole_mappings(ptr, size))
		e = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count && e == CUDA_SUCCESS; i++)
		e = check_access(&desc[i], ptr, size);
	for (uint64_t p = ptr; e == CUDA_SUCCESS && p < ptr + size;) {
		struct sim_span *s = sim_span_starting(p);

		e = give_access(s, desc, count);
		p += s->at.len;
	}
	sim_mem_unlock();
	return e;
}

uint32_t sim_vmm_access(const struct sim_span *mapping, int ordinal)
{
	return ordinal < 0 ? mapping->host_access
			   : mapping->access >> (2 * (unsigned)ordinal) & 3;
}

CUresult CUDAAPI cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location,
				CUdeviceptr ptr)
{
	const struct sim_span *s;
	uint32_t machine;
	CUresult e;

	SIM_ENTER();
	if (flags == NULL || location == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	e = sim_location_machine(location, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	s = sim_span_holding(ptr);
	if (s == NULL || s->kind != SIM_SPAN_MAPPING)
		e = CUDA_ERROR_INVALID_VALUE;
	else
		*flags = sim_vmm_access(s, machine == RM_HOST ? -1 : location->id);
	sim_mem_unlock();
	return e;
}

/* ---- from an address or a handle --------------------------------------------------- */

CUresult CUDAAPI cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle,
					     void *addr)
{
	struct sim_span *s;
	CUresult e = CUDA_ERROR_INVALID_VALUE;

	SIM_ENTER();
	if (handle == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	s = sim_span_holding((uintptr_t)addr);
	if (s != NULL && s->kind == SIM_SPAN_MAPPING) {
		s->vmm->refs++;
		*handle = s->vmm->at.key;
		e = CUDA_SUCCESS;
	}
	sim_mem_unlock();
	return e;
}

CUresult CUDAAPI cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *prop,
							CUmemGenericAllocationHandle handle)
{
	const struct sim_vmm *v;
	CUresult e = CUDA_ERROR_INVALID_VALUE;

	SIM_ENTER();
	if (prop == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	v = sim_vmm_get(handle);
	if (v != NULL && v->multicast == NULL) {
		*prop = v->prop;
		e = CUDA_SUCCESS;
	}
	sim_mem_unlock();
	return e;
}
