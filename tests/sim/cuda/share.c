/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/*
 * What goes from process to process: descriptors and fabric names of generic allocations,
 * and the marker pages that stand for pools and multicast objects. The exporter pays: an
 * imported handle keeps the memory alive, but it is not in the importer's list of live
 * objects.
 */

#define MARKER_MAGIC 0x72656b72616d6d69u

static void *map_marker(const struct rm_phys *phys)
{
	return mmap(NULL, SIM_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		    rm_backing(phys->device), (off_t)phys->offset);
}

int sim_marker_make(struct rm_phys *phys, struct sim_marker **out,
		    enum sim_marker_kind kind)
{
	int r = rm_phys_alloc(phys, RM_HOST, SIM_PAGE_BYTES, RM_OTHER);
	struct sim_marker *m;

	if (r != 0)
		return r;
	m = map_marker(phys);
	if (m == MAP_FAILED) {
		r = -errno;
		rm_phys_unref(phys->id);
		return r;
	}
	m->magic = MARKER_MAGIC;
	m->kind = kind;
	*out = m;
	return 0;
}

int sim_marker_open(const struct rm_phys *phys, struct sim_marker **out,
		    enum sim_marker_kind kind)
{
	struct sim_marker *m;

	if (phys->device != RM_HOST || phys->bytes != SIM_PAGE_BYTES)
		return -EBADF;
	m = map_marker(phys);
	if (m == MAP_FAILED)
		return -errno;
	if (m->magic != MARKER_MAGIC || (kind != 0 && m->kind != (uint32_t)kind)) {
		munmap(m, SIM_PAGE_BYTES);
		return -EBADF;
	}
	*out = m;
	return 0;
}

void sim_marker_close(struct sim_marker *m)
{
	munmap(m, SIM_PAGE_BYTES);
}

bool sim_marker_is_one(const struct rm_phys *phys)
{
	return phys->device == RM_HOST && phys->bytes == SIM_PAGE_BYTES;
}

CUresult sim_share_out(void *out, const struct rm_phys *phys,
		       CUmemAllocationHandleType type)
{
	if (type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return sim_result(rm_phys_export(phys->id, out));
	if (type == CU_MEM_HANDLE_TYPE_FABRIC)
		return sim_result(
			rm_name(phys->id, "fabric", 6, ((CUmemFabricHandle *)out)->data));
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_share_in(void *os_handle, CUmemAllocationHandleType type, struct rm_phys *out)
{
	const CUmemFabricHandle *name = os_handle;
	char text[192];
	size_t n = sizeof(text);
	int exporter;

	if (type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
		return rm_phys_import((int)(intptr_t)os_handle, out) == 0
			       ? CUDA_SUCCESS
			       : CUDA_ERROR_INVALID_VALUE;
	if (type != CU_MEM_HANDLE_TYPE_FABRIC || name == NULL ||
	    rm_named(name->data, out, text, &n, &exporter) != 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (n == 6 && memcmp(text, "fabric", 6) == 0)
		return CUDA_SUCCESS;
	rm_phys_unref(out->id);
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult CUDAAPI cuMemExportToShareableHandle(void *shareableHandle,
					      CUmemGenericAllocationHandle handle,
					      CUmemAllocationHandleType handleType,
					      unsigned long long flags)
{
	struct sim_vmm *v;
	unsigned long long may;
	CUresult e = CUDA_ERROR_INVALID_VALUE;

	SIM_ENTER();
	if (shareableHandle == NULL || flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	v = sim_vmm_get(handle);
	if (v != NULL) {
		may = v->multicast != NULL ? sim_multicast_handle_types(v->multicast)
					   : (unsigned)v->prop.requestedHandleTypes;
		if ((may & (unsigned)handleType) != 0)
			e = sim_share_out(shareableHandle, &v->phys, handleType);
	}
	sim_mem_unlock();
	return e;
}

/* A handle for PHYS, whose reference it takes over on success. */
static CUresult import_memory(const struct rm_phys *phys, CUmemAllocationHandleType type,
			      CUmemGenericAllocationHandle *out)
{
	int ordinal = phys->device == RM_HOST ? 0 : sim_ordinal_of(phys->device);
	struct sim_vmm *v;

	if (ordinal < 0)
		return CUDA_ERROR_INVALID_DEVICE; /* hidden from this process */
	v = sim_vmm_add(phys, phys->bytes);
	if (v == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	v->imported = true;
	v->prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	v->prop.requestedHandleTypes = type;
	v->prop.location.type = phys->device == RM_HOST ? CU_MEM_LOCATION_TYPE_HOST_NUMA
							: CU_MEM_LOCATION_TYPE_DEVICE;
	v->prop.location.id = ordinal;
	*out = v->at.key;
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle,
						void *osHandle,
						CUmemAllocationHandleType shHandleType)
{
	struct rm_phys phys;
	CUresult e;

	SIM_ENTER();
	if (handle == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	e = sim_share_in(osHandle, shHandleType, &phys);
	if (e == CUDA_SUCCESS) {
		e = sim_marker_is_one(&phys) ? sim_multicast_import(&phys, handle)
					     : import_memory(&phys, shHandleType, handle);
		if (e != CUDA_SUCCESS)
			rm_phys_unref(phys.id);
	}
	sim_mem_unlock();
	return e;
}
