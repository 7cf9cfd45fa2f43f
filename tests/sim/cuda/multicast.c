/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/*
 * Multicast objects: the team of devices, what is bound where, and the references that
 * bindings hold. They take no device memory but a small table per device. Nothing
 * multiplies stores: kernels compute nothing here, and copies through a multicast mapping
 * are refused.
 */

#define TABLE_BYTES (64u << 10)
#define WAIT_MS     2000 /* for the team to be complete; the driver itself waits for ever */

struct binding {
	struct binding *next;
	uint32_t machine;
	size_t offset, bytes;
	struct sim_vmm *memory; /* NULL: memory of a pool, by its physical object */
	uint64_t phys_id;
};

struct sim_multicast {
	struct sim_marker *marker;
	struct binding *bindings;
	uint64_t tables[RM_DEVICES_MAX]; /* physical objects; 0: none */
	bool imported;
};

static void drop_binding(struct binding *b)
{
	if (b->memory != NULL) {
		b->memory->uses--;
		sim_vmm_settle(b->memory);
	} else {
		rm_phys_unref(b->phys_id);
	}
	free(b);
}

void sim_multicast_free(struct sim_multicast *m)
{
	while (m->bindings != NULL) {
		struct binding *b = m->bindings;

		m->bindings = b->next;
		drop_binding(b);
	}
	for (unsigned i = 0; i < RM_DEVICES_MAX; i++)
		if (m->tables[i] != 0)
			rm_phys_unref(m->tables[i]);
	sim_marker_close(m->marker);
	free(m);
}

static bool is_complete(const struct sim_multicast *m)
{
	uint64_t devices = atomic_load(&m->marker->devices);

	return (uint32_t)__builtin_popcountll(devices) == m->marker->device_count;
}

uint32_t sim_multicast_machine(const struct sim_multicast *m)
{
	uint64_t devices = atomic_load(&m->marker->devices);

	return devices == 0 ? 0 : (uint32_t)__builtin_ctzll(devices);
}

unsigned long long sim_multicast_handle_types(const struct sim_multicast *m)
{
	return m->imported ? 0 : m->marker->handle_types;
}

static struct sim_multicast *find_multicast(CUmemGenericAllocationHandle handle)
{
	struct sim_vmm *v = sim_vmm_get(handle);

	return v == NULL ? NULL : v->multicast;
}

CUresult sim_multicast_wait(CUmemGenericAllocationHandle handle)
{
	const struct timespec tick = { .tv_nsec = 1000000 };

	for (unsigned ms = 0; ms < WAIT_MS; ms++) {
		const struct sim_multicast *m;
		bool ready;

		sim_mem_lock();
		m = find_multicast(handle);
		ready = m == NULL || is_complete(m);
		sim_mem_unlock();
		if (ready)
			return CUDA_SUCCESS;
		nanosleep(&tick, NULL);
	}
	return CUDA_ERROR_SYSTEM_NOT_READY;
}

/* ---- the object -------------------------------------------------------------------- */

static CUresult add_object(const struct rm_phys *phys, struct sim_marker *marker,
			   bool imported, CUmemGenericAllocationHandle *out)
{
	struct sim_multicast *m = calloc(1, sizeof(*m));
	struct sim_vmm *v = m == NULL ? NULL : sim_vmm_add(phys, marker->bytes);

	if (v == NULL) {
		free(m);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	m->marker = marker;
	m->imported = imported;
	v->imported = imported;
	v->multicast = m;
	*out = v->at.key;
	return CUDA_SUCCESS;
}

CUresult sim_multicast_import(const struct rm_phys *phys, CUmemGenericAllocationHandle *out)
{
	struct sim_marker *marker;
	CUresult e;

	if (sim_marker_open(phys, &marker, SIM_MARKER_MULTICAST) != 0)
		return CUDA_ERROR_INVALID_VALUE;
	e = add_object(phys, marker, true, out);
	if (e != CUDA_SUCCESS)
		sim_marker_close(marker);
	return e;
}

/* Of the machine, not of what this process may see. */
static unsigned count_capable(void)
{
	const struct rm_machine *m = rm_machine();
	unsigned n = 0;

	for (uint32_t i = 0; i < m->device_count; i++)
		n += m->devices[i].has_multicast;
	return n;
}

static CUresult check_prop(const CUmulticastObjectProp *prop)
{
	const unsigned long long types = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR |
					 CU_MEM_HANDLE_TYPE_FABRIC;

	if (prop == NULL || prop->numDevices == 0 || prop->flags != 0 ||
	    (prop->handleTypes & ~types) != 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (count_capable() == 0)
		return CUDA_ERROR_NOT_SUPPORTED;
	return prop->numDevices > count_capable() ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult CUDAAPI cuMulticastGetGranularity(size_t *granularity,
					   const CUmulticastObjectProp *prop,
					   CUmulticastGranularity_flags option)
{
	CUresult e;

	SIM_ENTER();
	if (granularity == NULL || (option != CU_MULTICAST_GRANULARITY_MINIMUM &&
				    option != CU_MULTICAST_GRANULARITY_RECOMMENDED))
		return CUDA_ERROR_INVALID_VALUE;
	e = check_prop(prop);
	if (e == CUDA_SUCCESS)
		*granularity = SIM_VMM_GRANULE;
	return e;
}

CUresult CUDAAPI cuMulticastCreate(CUmemGenericAllocationHandle *mcHandle,
				   const CUmulticastObjectProp *prop)
{
	struct sim_marker *marker;
	struct rm_phys phys;
	CUresult e;
	int r;

	SIM_ENTER();
	if (mcHandle == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	e = check_prop(prop);
	if (e != CUDA_SUCCESS)
		return e;
	if (prop->size == 0 || prop->size % SIM_VMM_GRANULE != 0)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	r = sim_marker_make(&phys, &marker, SIM_MARKER_MULTICAST);
	e = sim_result(r);
	if (r == 0) {
		marker->bytes = prop->size;
		marker->handle_types = prop->handleTypes;
		marker->device_count = prop->numDevices;
		e = add_object(&phys, marker, false, mcHandle);
		if (e != CUDA_SUCCESS) {
			sim_marker_close(marker);
			rm_phys_unref(phys.id);
		}
	}
	sim_mem_unlock();
	return e;
}

/* Joins MACHINE to the team, which other processes may be joining too. */
static CUresult join_team(struct sim_multicast *m, uint32_t machine)
{
	uint64_t devices = atomic_load(&m->marker->devices), bit = UINT64_C(1) << machine;
	struct rm_phys table;
	int r;

	r = sim_phys_take(&table, machine, TABLE_BYTES, RM_MULTICAST);
	if (r != 0)
		return sim_result(r);
	do {
		if ((devices & bit) != 0 ||
		    (uint32_t)__builtin_popcountll(devices) == m->marker->device_count) {
			rm_phys_unref(table.id);
			return CUDA_ERROR_INVALID_VALUE;
		}
	} while (!atomic_compare_exchange_weak(&m->marker->devices, &devices,
					       devices | bit));
	m->tables[machine] = table.id;
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMulticastAddDevice(CUmemGenericAllocationHandle mcHandle, CUdevice dev)
{
	struct sim_multicast *m;
	uint32_t machine;
	CUresult e;

	SIM_ENTER();
	e = sim_device_machine(dev, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	if (!sim_device_facts(machine)->has_multicast)
		return CUDA_ERROR_INVALID_DEVICE;
	sim_mem_lock();
	m = find_multicast(mcHandle);
	e = m == NULL ? CUDA_ERROR_INVALID_VALUE : join_team(m, machine);
	sim_mem_unlock();
	return e;
}

/* ---- bindings ---------------------------------------------------------------------- */

struct bind_request {
	size_t mc_offset, bytes;
	int dev; /* -1: the device of the memory */
	unsigned long long flags;
};

static bool is_bound(const struct sim_multicast *m, uint32_t machine, size_t offset,
		     size_t bytes)
{
	for (const struct binding *b = m->bindings; b != NULL; b = b->next)
		if (b->machine == machine && offset < b->offset + b->bytes &&
		    b->offset < offset + bytes)
			return true;
	return false;
}

static CUresult check_request(const struct bind_request *q)
{
	uint32_t machine;

	if (q->bytes == 0 || q->flags != 0 || q->bytes % SIM_VMM_GRANULE != 0 ||
	    q->mc_offset % SIM_VMM_GRANULE != 0 || q->mc_offset + q->bytes < q->bytes)
		return CUDA_ERROR_INVALID_VALUE;
	return q->dev < 0 ? CUDA_SUCCESS : sim_device_machine(q->dev, &machine);
}

/* Binds memory that lives on HOME (RM_HOST: of the CPU's node). One of MEMORY and PHYS_ID
 * is set. */
static CUresult bind(struct sim_multicast *m, const struct bind_request *q, uint32_t home,
		     struct sim_vmm *memory, uint64_t phys_id)
{
	uint32_t machine = home;
	struct binding *b;

	if (q->dev >= 0 && (sim_device_machine(q->dev, &machine) != CUDA_SUCCESS ||
			    (home != RM_HOST && home != machine)))
		return CUDA_ERROR_INVALID_DEVICE;
	if (machine == RM_HOST || (atomic_load(&m->marker->devices) >> machine & 1) == 0)
		return CUDA_ERROR_INVALID_DEVICE;
	if (q->mc_offset + q->bytes > m->marker->bytes ||
	    is_bound(m, machine, q->mc_offset, q->bytes))
		return CUDA_ERROR_INVALID_VALUE;
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (memory == NULL && rm_phys_ref(phys_id) != 0) {
		free(b);
		return CUDA_ERROR_INVALID_VALUE;
	}
	b->machine = machine;
	b->offset = q->mc_offset;
	b->bytes = q->bytes;
	b->memory = memory;
	b->phys_id = phys_id;
	if (memory != NULL)
		memory->uses++;
	b->next = m->bindings;
	m->bindings = b;
	return CUDA_SUCCESS;
}

static CUresult bind_handle(CUmemGenericAllocationHandle mc, const struct bind_request *q,
			    CUmemGenericAllocationHandle handle, size_t offset)
{
	struct sim_multicast *m;
	struct sim_vmm *v;
	CUresult e = check_request(q);

	if (e == CUDA_SUCCESS)
		e = sim_multicast_wait(mc);
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	m = find_multicast(mc);
	v = sim_vmm_get(handle);
	if (m == NULL || v == NULL || v->multicast != NULL ||
	    offset % SIM_VMM_GRANULE != 0 || offset > v->bytes ||
	    q->bytes > v->bytes - offset)
		e = CUDA_ERROR_INVALID_VALUE;
	else if ((m->imported || m->marker->handle_types != 0) && !v->imported &&
		 v->prop.requestedHandleTypes == CU_MEM_HANDLE_TYPE_NONE)
		e = CUDA_ERROR_INVALID_VALUE; /* shareable objects take shareable memory
						 only */
	else
		e = bind(m, q, v->phys.device, v, 0);
	sim_mem_unlock();
	return e;
}

static CUresult bind_address(CUmemGenericAllocationHandle mc, const struct bind_request *q,
			     uint64_t p)
{
	const struct sim_span *s;
	struct sim_multicast *m;
	CUresult e = check_request(q);

	if (e == CUDA_SUCCESS)
		e = sim_multicast_wait(mc);
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	m = find_multicast(mc);
	s = sim_span_holding(p);
	if (m == NULL || s == NULL || p % SIM_VMM_GRANULE != 0 ||
	    q->bytes > s->at.key + s->at.len - p)
		e = CUDA_ERROR_INVALID_VALUE;
	else if (s->kind == SIM_SPAN_MAPPING && s->vmm->multicast == NULL)
		e = bind(m, q, s->machine, s->vmm, 0);
	else if (s->kind == SIM_SPAN_POOL)
		e = bind(m, q, s->machine, NULL, s->phys.id);
	else
		e = CUDA_ERROR_INVALID_VALUE;
	sim_mem_unlock();
	return e;
}

CUresult CUDAAPI cuMulticastBindMem(CUmemGenericAllocationHandle mcHandle, size_t mcOffset,
				    CUmemGenericAllocationHandle memHandle,
				    size_t memOffset, size_t size, unsigned long long flags)
{
	const struct bind_request q = { mcOffset, size, -1, flags };

	SIM_ENTER();
	return bind_handle(mcHandle, &q, memHandle, memOffset);
}

CUresult CUDAAPI cuMulticastBindMem_v2(CUmemGenericAllocationHandle mcHandle, CUdevice dev,
				       size_t mcOffset,
				       CUmemGenericAllocationHandle memHandle,
				       size_t memOffset, size_t size,
				       unsigned long long flags)
{
	const struct bind_request q = { mcOffset, size, dev, flags };

	SIM_ENTER();
	return dev < 0 ? CUDA_ERROR_INVALID_DEVICE
		       : bind_handle(mcHandle, &q, memHandle, memOffset);
}

CUresult CUDAAPI cuMulticastBindAddr(CUmemGenericAllocationHandle mcHandle, size_t mcOffset,
				     CUdeviceptr memptr, size_t size,
				     unsigned long long flags)
{
	const struct bind_request q = { mcOffset, size, -1, flags };

	SIM_ENTER();
	return bind_address(mcHandle, &q, memptr);
}

CUresult CUDAAPI cuMulticastBindAddr_v2(CUmemGenericAllocationHandle mcHandle, CUdevice dev,
					size_t mcOffset, CUdeviceptr memptr, size_t size,
					unsigned long long flags)
{
	const struct bind_request q = { mcOffset, size, dev, flags };

	SIM_ENTER();
	return dev < 0 ? CUDA_ERROR_INVALID_DEVICE : bind_address(mcHandle, &q, memptr);
}

CUresult CUDAAPI cuMulticastUnbind(CUmemGenericAllocationHandle mcHandle, CUdevice dev,
				   size_t mcOffset, size_t size)
{
	struct sim_multicast *m;
	uint32_t machine;
	CUresult e;

	SIM_ENTER();
	e = sim_device_machine(dev, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	if (size == 0 || size % SIM_VMM_GRANULE != 0 || mcOffset % SIM_VMM_GRANULE != 0)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	m = find_multicast(mcHandle);
	if (m == NULL || mcOffset > m->marker->bytes || size > m->marker->bytes - mcOffset)
		e = CUDA_ERROR_INVALID_VALUE;
	for (struct binding **at = m == NULL ? NULL : &m->bindings;
	     e == CUDA_SUCCESS && *at != NULL;) {
		struct binding *b = *at;

		if (b->machine == machine && b->offset >= mcOffset &&
		    b->offset + b->bytes <= mcOffset + size) {
			*at = b->next;
			drop_binding(b);
		} else {
			at = &b->next;
		}
	}
	sim_mem_unlock();
	return e;
}
