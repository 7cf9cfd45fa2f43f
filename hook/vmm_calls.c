/* SPDX-License-Identifier: Apache-2.0 */
/* Memory by handles: cuMemCreate, mapping, multicast. What an object costs ends with its
 * last handle and its last mapping, whichever is later. */

#include "vmm.h"

#include "charge.h"

/* The CUDA ordinal where LOCATION is device memory. */
static bool is_on_device(const CUmemLocation *location, CUdevice *ordinal)
{
	if (location->type == CU_MEM_LOCATION_TYPE_DEVICE)
		*ordinal = location->id;
	else if (location->type == CU_MEM_LOCATION_TYPE_DEVICE_LOCALITY_DOMAIN)
		*ordinal = location->localized.deviceId;
	else
		return false;
	return true;
}

static CUresult create_charged(CUmemGenericAllocationHandle *handle, size_t size,
			       const CUmemAllocationProp *prop, unsigned long long flags,
			       tr_dev dev)
{
	CUmemGenericAllocationHandle got = 0;
	struct tr_charge charge;
	unsigned tries = 0;
	CUresult res = tr_charge_on(&charge, dev, NULL, size);

	if (res != CUDA_SUCCESS)
		return res;
	do {
		res = tr_real.cuMemCreate(&got, size, prop, flags);
	} while (tr_charge_should_retry(res, &tries));
	if (res == CUDA_SUCCESS && tr_vmm_add(got, dev, charge.bytes) < 0) {
		(void)tr_real.cuMemRelease(got);
		res = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (res == CUDA_SUCCESS)
		*handle = got;
	else
		tr_charge_refund(&charge);
	return res;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
		     const CUmemAllocationProp *prop, unsigned long long flags)
{
	CUdevice ordinal;
	tr_dev dev;
	CUresult res;

	if (!handle || !size || !prop || !is_on_device(&prop->location, &ordinal) ||
	    !tr_enter())
		return tr_real.cuMemCreate(handle, size, prop, flags);
	res = tr_device_of(ordinal, &dev);
	if (res == CUDA_SUCCESS)
		res = create_charged(handle, size, prop, flags, dev);
	else if (res !=
		 CUDA_ERROR_NOT_PERMITTED) /* the driver's own word on that ordinal */
		res = tr_real.cuMemCreate(handle, size, prop, flags);
	tr_leave();
	return res;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle,
					void *osHandle,
					CUmemAllocationHandleType shHandleType)
{
	CUmemGenericAllocationHandle got = 0;
	CUresult res;

	if (!handle || !tr_enter())
		return tr_real.cuMemImportFromShareableHandle(handle, osHandle,
							      shHandleType);
	res = tr_real.cuMemImportFromShareableHandle(&got, osHandle, shHandleType);
	if (res == CUDA_SUCCESS && tr_vmm_add_import(got) < 0) {
		(void)tr_real.cuMemRelease(got);
		res = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (res == CUDA_SUCCESS)
		*handle = got;
	tr_leave();
	return res;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *addr)
{
	CUmemGenericAllocationHandle got = 0;
	CUresult res;

	if (!handle || !tr_enter())
		return tr_real.cuMemRetainAllocationHandle(handle, addr);
	res = tr_real.cuMemRetainAllocationHandle(&got, addr);
	if (res == CUDA_SUCCESS && tr_vmm_retained(got, (uint64_t)(uintptr_t)addr) < 0) {
		(void)tr_real.cuMemRelease(got);
		res = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (res == CUDA_SUCCESS)
		*handle = got;
	tr_leave();
	return res;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
	struct tr_vmm_release release;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemRelease(handle);
	tr_vmm_release_begin(&release, handle);
	res = tr_real.cuMemRelease(handle);
	tr_vmm_release_end(&release, res == CUDA_SUCCESS);
	tr_leave();
	return res;
}

CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset,
		  CUmemGenericAllocationHandle handle, unsigned long long flags)
{
	const struct tr_place place = { TR_SPACE_ADDRESSES, ptr, size };
	CUresult res = CUDA_ERROR_OUT_OF_MEMORY;
	int64_t number;

	if (!size || !tr_enter())
		return tr_real.cuMemMap(ptr, size, offset, handle, flags);
	number = tr_vmm_map_begin(handle, &place);
	if (number >= 0) {
		res = tr_real.cuMemMap(ptr, size, offset, handle, flags);
		tr_vmm_map_end(number, &place, res == CUDA_SUCCESS);
	}
	tr_leave();
	return res;
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t size)
{
	const struct tr_place place = { TR_SPACE_ADDRESSES, ptr, size };
	uint32_t began;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMemUnmap(ptr, size);
	began = tr_vmm_unmap_begin();
	res = tr_real.cuMemUnmap(ptr, size);
	if (res == CUDA_SUCCESS)
		tr_vmm_unmap_end(began, &place, NULL);
	tr_leave();
	return res;
}

/* ---- parts of sparse arrays ---------------------------------------------------------- */

typedef CUresult (*map_arrays_fn)(CUarrayMapInfo *, unsigned int, CUstream);

#define ARRAY_MAPS_AT_ONCE 64u

static void end_array_maps(const CUarrayMapInfo *list, const int64_t *numbers,
			   unsigned count, uint32_t began, bool is_mapped)
{
	for (unsigned i = 0; i < count; i++) {
		struct tr_place place = tr_vmm_place_in_array(&list[i]);

		/* Mapping something else there is an unmapping too. */
		if (is_mapped)
			tr_vmm_unmap_end(began, &place, NULL);
		tr_vmm_map_end(numbers[i], &place, is_mapped);
	}
}

static CUresult map_arrays(map_arrays_fn real, CUarrayMapInfo *list, unsigned count,
			   CUstream stream)
{
	int64_t numbers[ARRAY_MAPS_AT_ONCE] = { 0 };
	uint32_t began = tr_vmm_unmap_begin();
	CUresult res = CUDA_ERROR_OUT_OF_MEMORY;
	unsigned known = 0;

	for (; known < count; known++) {
		struct tr_place place = tr_vmm_place_in_array(&list[known]);

		if (list[known].memOperationType == CU_MEM_OPERATION_TYPE_MAP)
			numbers[known] = tr_vmm_map_begin(list[known].memHandle.memHandle,
							  &place);
		if (numbers[known] < 0)
			break;
	}
	if (known == count)
		res = real(list, count, stream);
	end_array_maps(list, numbers, known, began, res == CUDA_SUCCESS);
	return res;
}

/* A long list goes to the driver in parts: what is remembered between begin and end is on
 * the stack. The order is the stream's, so the parts mean the same. */
static CUresult map_all_arrays(map_arrays_fn real, CUarrayMapInfo *list, unsigned count,
			       CUstream stream)
{
	CUresult res = CUDA_SUCCESS;

	if (!list || !count || !tr_enter())
		return real(list, count, stream);
	for (unsigned done = 0; res == CUDA_SUCCESS && done < count;) {
		unsigned part = count - done;

		if (part > ARRAY_MAPS_AT_ONCE)
			part = ARRAY_MAPS_AT_ONCE;
		res = map_arrays(real, list + done, part, stream);
		done += part;
	}
	tr_leave();
	return res;
}

CUresult cuMemMapArrayAsync(CUarrayMapInfo *mapInfoList, unsigned int count,
			    CUstream hStream)
{
	return map_all_arrays(tr_real.cuMemMapArrayAsync, mapInfoList, count, hStream);
}

CUresult cuMemMapArrayAsync_ptsz(CUarrayMapInfo *mapInfoList, unsigned int count,
				 CUstream hStream)
{
	return map_all_arrays(tr_real.cuMemMapArrayAsync_ptsz, mapInfoList, count, hStream);
}
