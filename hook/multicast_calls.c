/* SPDX-License-Identifier: Apache-2.0 */
/* A multicast object costs nothing, but what is bound to it stays allocated. */

#include "vmm.h"

CUresult cuMulticastCreate(CUmemGenericAllocationHandle *mcHandle,
			   const CUmulticastObjectProp *prop)
{
	CUmemGenericAllocationHandle got = 0;
	CUresult res;

	if (!mcHandle || !tr_enter())
		return tr_real.cuMulticastCreate(mcHandle, prop);
	res = tr_real.cuMulticastCreate(&got, prop);
	if (res == CUDA_SUCCESS && tr_vmm_add(got, (tr_dev){ 0 }, 0) < 0) {
		(void)tr_real.cuMemRelease(got);
		res = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (res == CUDA_SUCCESS)
		*mcHandle = got;
	tr_leave();
	return res;
}

struct bind {
	CUmemGenericAllocationHandle mc, memory;
	CUdevice device;
	bool has_device;
	size_t mc_offset, memory_offset, size;
	CUdeviceptr address;
	unsigned long long flags;
};

static CUresult bind_real(const struct bind *b, bool by_address)
{
	if (by_address)
		return b->has_device
			       ? tr_real.cuMulticastBindAddr_v2(b->mc, b->device,
								b->mc_offset, b->address,
								b->size, b->flags)
			       : tr_real.cuMulticastBindAddr(b->mc, b->mc_offset,
							     b->address, b->size, b->flags);
	return b->has_device
		       ? tr_real.cuMulticastBindMem_v2(b->mc, b->device, b->mc_offset,
						       b->memory, b->memory_offset, b->size,
						       b->flags)
		       : tr_real.cuMulticastBindMem(b->mc, b->mc_offset, b->memory,
						    b->memory_offset, b->size, b->flags);
}

static CUresult bind_memory(const struct bind *b, bool by_address)
{
	struct tr_place place = { 0, b->mc_offset, b->size };
	CUresult res = CUDA_ERROR_OUT_OF_MEMORY;
	int64_t number = 0;

	if (!tr_enter())
		return bind_real(b, by_address);
	if (tr_vmm_space_of_multicast(b->mc, &place.space))
		number = by_address ? tr_vmm_map_address_begin(b->address, &place)
				    : tr_vmm_map_begin(b->memory, &place);
	if (number >= 0) {
		res = bind_real(b, by_address);
		tr_vmm_map_end(number, &place, res == CUDA_SUCCESS);
	}
	tr_leave();
	return res;
}

CUresult cuMulticastBindMem(CUmemGenericAllocationHandle mcHandle, size_t mcOffset,
			    CUmemGenericAllocationHandle memHandle, size_t memOffset,
			    size_t size, unsigned long long flags)
{
	const struct bind b = { .mc = mcHandle,
				.memory = memHandle,
				.mc_offset = mcOffset,
				.memory_offset = memOffset,
				.size = size,
				.flags = flags };

	return bind_memory(&b, false);
}

CUresult cuMulticastBindMem_v2(CUmemGenericAllocationHandle mcHandle, CUdevice dev,
			       size_t mcOffset, CUmemGenericAllocationHandle memHandle,
			       size_t memOffset, size_t size, unsigned long long flags)
{
	const struct bind b = { .mc = mcHandle,
				.memory = memHandle,
				.device = dev,
				.has_device = true,
				.mc_offset = mcOffset,
				.memory_offset = memOffset,
				.size = size,
				.flags = flags };

	return bind_memory(&b, false);
}

CUresult cuMulticastBindAddr(CUmemGenericAllocationHandle mcHandle, size_t mcOffset,
			     CUdeviceptr memptr, size_t size, unsigned long long flags)
{
	const struct bind b = { .mc = mcHandle,
				.address = memptr,
				.mc_offset = mcOffset,
				.size = size,
				.flags = flags };

	return bind_memory(&b, true);
}

CUresult cuMulticastBindAddr_v2(CUmemGenericAllocationHandle mcHandle, CUdevice dev,
				size_t mcOffset, CUdeviceptr memptr, size_t size,
				unsigned long long flags)
{
	const struct bind b = { .mc = mcHandle,
				.device = dev,
				.has_device = true,
				.address = memptr,
				.mc_offset = mcOffset,
				.size = size,
				.flags = flags };

	return bind_memory(&b, true);
}

CUresult cuMulticastUnbind(CUmemGenericAllocationHandle mcHandle, CUdevice dev,
			   size_t mcOffset, size_t size)
{
	struct tr_place place = { 0, mcOffset, size };
	bool is_known;
	uint32_t began;
	tr_dev at;
	CUresult res;

	if (!tr_enter())
		return tr_real.cuMulticastUnbind(mcHandle, dev, mcOffset, size);
	is_known = tr_vmm_space_of_multicast(mcHandle, &place.space) &&
		   tr_device_of(dev, &at) == CUDA_SUCCESS;
	began = tr_vmm_unmap_begin();
	res = tr_real.cuMulticastUnbind(mcHandle, dev, mcOffset, size);
	if (res == CUDA_SUCCESS && is_known)
		tr_vmm_unmap_end(began, &place, &at);
	tr_leave();
	return res;
}
