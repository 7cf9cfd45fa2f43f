/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "sim.h"

#define A(name) CU_DEVICE_ATTRIBUTE_##name

/* What every modelled device says alike. */
static const struct constant {
	CUdevice_attribute attribute;
	int value;
} constants[] = {
	{ A(MAX_THREADS_PER_BLOCK), 1024 },
	{ A(MAX_BLOCK_DIM_X), 1024 },
	{ A(MAX_BLOCK_DIM_Y), 1024 },
	{ A(MAX_BLOCK_DIM_Z), 64 },
	{ A(MAX_GRID_DIM_X), 2147483647 },
	{ A(MAX_GRID_DIM_Y), 65535 },
	{ A(MAX_GRID_DIM_Z), 65535 },
	{ A(MAX_SHARED_MEMORY_PER_BLOCK), 49152 },
	{ A(TOTAL_CONSTANT_MEMORY), 65536 },
	{ A(WARP_SIZE), 32 },
	{ A(MAX_PITCH), 2147483647 },
	{ A(MAX_REGISTERS_PER_BLOCK), 65536 },
	{ A(TEXTURE_ALIGNMENT), 512 },
	{ A(GPU_OVERLAP), 1 },
	{ A(KERNEL_EXEC_TIMEOUT), 0 },
	{ A(INTEGRATED), 0 },
	{ A(CAN_MAP_HOST_MEMORY), 1 },
	{ A(COMPUTE_MODE), 0 },
	{ A(MAXIMUM_TEXTURE1D_WIDTH), 131072 },
	{ A(MAXIMUM_TEXTURE2D_WIDTH), 131072 },
	{ A(MAXIMUM_TEXTURE2D_HEIGHT), 65536 },
	{ A(MAXIMUM_TEXTURE3D_WIDTH), 16384 },
	{ A(MAXIMUM_TEXTURE3D_HEIGHT), 16384 },
	{ A(MAXIMUM_TEXTURE3D_DEPTH), 16384 },
	{ A(MAXIMUM_TEXTURE2D_LAYERED_WIDTH), 32768 },
	{ A(MAXIMUM_TEXTURE2D_LAYERED_HEIGHT), 32768 },
	{ A(MAXIMUM_TEXTURE2D_LAYERED_LAYERS), 2048 },
	{ A(SURFACE_ALIGNMENT), 512 },
	{ A(CONCURRENT_KERNELS), 1 },
	{ A(TCC_DRIVER), 0 },
	{ A(UNIFIED_ADDRESSING), 1 },
	{ A(MAXIMUM_TEXTURE1D_LAYERED_WIDTH), 32768 },
	{ A(MAXIMUM_TEXTURE1D_LAYERED_LAYERS), 2048 },
	{ A(CAN_TEX2D_GATHER), 1 },
	{ A(MAXIMUM_TEXTURE2D_GATHER_WIDTH), 32768 },
	{ A(MAXIMUM_TEXTURE2D_GATHER_HEIGHT), 32768 },
	{ A(MAXIMUM_TEXTURE3D_WIDTH_ALTERNATE), 8192 },
	{ A(MAXIMUM_TEXTURE3D_HEIGHT_ALTERNATE), 8192 },
	{ A(MAXIMUM_TEXTURE3D_DEPTH_ALTERNATE), 32768 },
	{ A(TEXTURE_PITCH_ALIGNMENT), 32 },
	{ A(MAXIMUM_TEXTURECUBEMAP_WIDTH), 32768 },
	{ A(MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH), 32768 },
	{ A(MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS), 2046 },
	{ A(MAXIMUM_SURFACE1D_WIDTH), 32768 },
	{ A(MAXIMUM_SURFACE2D_WIDTH), 131072 },
	{ A(MAXIMUM_SURFACE2D_HEIGHT), 65536 },
	{ A(MAXIMUM_SURFACE3D_WIDTH), 16384 },
	{ A(MAXIMUM_SURFACE3D_HEIGHT), 16384 },
	{ A(MAXIMUM_SURFACE3D_DEPTH), 16384 },
	{ A(MAXIMUM_SURFACE1D_LAYERED_WIDTH), 32768 },
	{ A(MAXIMUM_SURFACE1D_LAYERED_LAYERS), 2048 },
	{ A(MAXIMUM_SURFACE2D_LAYERED_WIDTH), 32768 },
	{ A(MAXIMUM_SURFACE2D_LAYERED_HEIGHT), 32768 },
	{ A(MAXIMUM_SURFACE2D_LAYERED_LAYERS), 2048 },
	{ A(MAXIMUM_SURFACECUBEMAP_WIDTH), 32768 },
	{ A(MAXIMUM_SURFACECUBEMAP_LAYERED_WIDTH), 32768 },
	{ A(MAXIMUM_SURFACECUBEMAP_LAYERED_LAYERS), 2046 },
	{ A(MAXIMUM_TEXTURE1D_LINEAR_WIDTH), 268435456 },
	{ A(MAXIMUM_TEXTURE2D_LINEAR_WIDTH), 131072 },
	{ A(MAXIMUM_TEXTURE2D_LINEAR_HEIGHT), 65000 },
	{ A(MAXIMUM_TEXTURE2D_LINEAR_PITCH), 2097120 },
	{ A(MAXIMUM_TEXTURE2D_MIPMAPPED_WIDTH), 32768 },
	{ A(MAXIMUM_TEXTURE2D_MIPMAPPED_HEIGHT), 32768 },
	{ A(MAXIMUM_TEXTURE1D_MIPMAPPED_WIDTH), 32768 },
	{ A(STREAM_PRIORITIES_SUPPORTED), 1 },
	{ A(GLOBAL_L1_CACHE_SUPPORTED), 1 },
	{ A(LOCAL_L1_CACHE_SUPPORTED), 1 },
	{ A(MAX_REGISTERS_PER_MULTIPROCESSOR), 65536 },
	{ A(MANAGED_MEMORY), 1 },
	{ A(MULTI_GPU_BOARD), 0 },
	{ A(HOST_NATIVE_ATOMIC_SUPPORTED), 0 },
	{ A(PAGEABLE_MEMORY_ACCESS), 0 },
	{ A(CONCURRENT_MANAGED_ACCESS), 1 },
	{ A(COMPUTE_PREEMPTION_SUPPORTED), 1 },
	{ A(CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM), 1 },
	{ A(CAN_USE_STREAM_MEM_OPS_V1), 1 },
	{ A(CAN_USE_64_BIT_STREAM_MEM_OPS_V1), 1 },
	{ A(CAN_USE_STREAM_WAIT_VALUE_NOR_V1), 1 },
	{ A(COOPERATIVE_LAUNCH), 1 },
	{ A(COOPERATIVE_MULTI_DEVICE_LAUNCH), 0 },
	{ A(CAN_FLUSH_REMOTE_WRITES), 0 },
	{ A(HOST_REGISTER_SUPPORTED), 1 },
	{ A(PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES), 0 },
	{ A(DIRECT_MANAGED_MEM_ACCESS_FROM_HOST), 0 },
	{ A(VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED), 1 },
	{ A(HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED), 1 },
	{ A(HANDLE_TYPE_WIN32_HANDLE_SUPPORTED), 0 },
	{ A(HANDLE_TYPE_WIN32_KMT_HANDLE_SUPPORTED), 0 },
	{ A(GENERIC_COMPRESSION_SUPPORTED), 0 },
	{ A(GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED), 0 },
	{ A(RESERVED_SHARED_MEMORY_PER_BLOCK), 1024 },
	{ A(SPARSE_CUDA_ARRAY_SUPPORTED), 1 },
	{ A(READ_ONLY_HOST_REGISTER_SUPPORTED), 1 },
	{ A(TIMELINE_SEMAPHORE_INTEROP_SUPPORTED), 1 },
	{ A(MEMORY_POOLS_SUPPORTED), 1 },
	{ A(GPU_DIRECT_RDMA_SUPPORTED), 0 },
	{ A(GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS), 1 },
	{ A(GPU_DIRECT_RDMA_WRITES_ORDERING), 0 },
	{ A(MEMPOOL_SUPPORTED_HANDLE_TYPES), CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR },
	{ A(DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED), 1 },
	{ A(CAN_USE_64_BIT_STREAM_MEM_OPS), 1 },
	{ A(CAN_USE_STREAM_WAIT_VALUE_NOR), 1 },
	{ A(DMA_BUF_SUPPORTED), 0 },
	{ A(IPC_EVENT_SUPPORTED), 0 },
	{ A(UNIFIED_FUNCTION_POINTERS), 0 },
	{ A(NUMA_CONFIG), 0 },
	{ A(NUMA_ID), -1 },
	{ A(MPS_ENABLED), 0 },
	{ A(D3D12_CIG_SUPPORTED), 0 },
	{ A(MEM_DECOMPRESS_ALGORITHM_MASK), 0 },
	{ A(MEM_DECOMPRESS_MAXIMUM_LENGTH), 0 },
	{ A(VULKAN_CIG_SUPPORTED), 0 },
	{ A(HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED), 1 },
	{ A(HOST_NUMA_MEMORY_POOLS_SUPPORTED), 1 },
	{ A(HOST_NUMA_MULTINODE_IPC_SUPPORTED), 0 },
	{ A(HOST_MEMORY_POOLS_SUPPORTED), 1 },
	{ A(HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED), 1 },
	{ A(HOST_ALLOC_DMA_BUF_SUPPORTED), 0 },
	{ A(ONLY_PARTIAL_HOST_NATIVE_ATOMIC_SUPPORTED), 0 },
	{ A(ATOMIC_REDUCTION_SUPPORTED), 1 },
	{ A(LOCALITY_DOMAIN_COUNT), 1 },
	{ A(MAX_OVERSIZED_SHARED_MEMORY_PER_BLOCK), 0 },
	{ A(D3D12_CIG_STREAMS_SUPPORTED), 0 },
	{ A(DMA_BUF_MMAP_SUPPORTED), 0 },
	{ A(LOGICAL_ENDPOINT_UNICAST_SUPPORTED), 0 },
	{ A(LOGICAL_ENDPOINT_MULTICAST_SUPPORTED), 0 },
	{ A(LOGICAL_ENDPOINT_COUNTED_OPS_SUPPORTED), 0 },
	{ A(LOGICAL_ENDPOINT_UNICAST_ACCESS_ON_OWNER_DEVICE_SUPPORTED), 0 },
	{ A(LOGICAL_ENDPOINT_SUPPORTED_HANDLE_TYPES), 0 },
	{ A(VULKAN_CIG_STREAMS_SUPPORTED), 0 },
	{ A(TENSOR_MAP_LARGE_TENSOR_MIN_SIZE), 0 },
	{ A(GPU_DIRECT_RDMA_WITH_LOCALIZED_MEMORY_SUPPORTED), 0 },
};

static int shared_per_multiprocessor(const struct rm_device *d)
{
	switch (d->cc_major * 10 + d->cc_minor) {
	case 75:
		return 64 << 10;
	case 80:
		return 164 << 10;
	case 70:
		return 96 << 10;
	case 86:
	case 89:
	case 120:
		return 100 << 10;
	default:
		return d->cc_major >= 9 ? 228 << 10 : 96 << 10;
	}
}

static int blocks_per_multiprocessor(const struct rm_device *d)
{
	if (d->cc_major == 7 && d->cc_minor == 5)
		return 16;
	return d->cc_major == 8 && d->cc_minor >= 6 ? (d->cc_minor == 9 ? 24 : 16) : 32;
}

static bool is_consumer(const struct rm_device *d)
{
	return strstr(d->name, "GeForce") != NULL;
}

static bool is_hopper(const struct rm_device *d)
{
	return d->cc_major >= 9;
}

/* What follows from the facts of one device; false for an attribute that does not. */
static bool from_facts(const struct rm_device *d, CUdevice_attribute attribute, int *value)
{
	switch ((int)attribute) {
	case A(CLOCK_RATE):
		*value = (int)d->clock_khz;
		return true;
	case A(MULTIPROCESSOR_COUNT):
	case A(LOCALITY_DOMAIN_MULTIPROCESSOR_COUNT):
		*value = (int)d->sm_count;
		return true;
	case A(ECC_ENABLED):
		*value = !is_consumer(d);
		return true;
	case A(PCI_BUS_ID):
		*value = (int)d->pci_bus;
		return true;
	case A(PCI_DEVICE_ID):
		*value = (int)d->pci_device;
		return true;
	case A(PCI_DOMAIN_ID):
		*value = (int)d->pci_domain;
		return true;
	case A(GPU_PCI_DEVICE_ID):
		*value = (int)d->pci_id;
		return true;
	case A(GPU_PCI_SUBSYSTEM_ID):
		*value = (int)d->pci_id;
		return true;
	case A(MEMORY_CLOCK_RATE):
		*value = (int)d->memory_clock_khz;
		return true;
	case A(GLOBAL_MEMORY_BUS_WIDTH):
		*value = (int)d->bus_width_bits;
		return true;
	case A(L2_CACHE_SIZE):
		*value = (int)d->l2_bytes;
		return true;
	case A(MAX_THREADS_PER_MULTIPROCESSOR):
		*value = (int)d->threads_per_sm;
		return true;
	case A(COMPUTE_CAPABILITY_MAJOR):
		*value = (int)d->cc_major;
		return true;
	case A(COMPUTE_CAPABILITY_MINOR):
		*value = (int)d->cc_minor;
		return true;
	default:
		return false;
	}
}

static bool from_generation(const struct rm_device *d, CUdevice_attribute attribute,
			    int *value)
{
	switch ((int)attribute) {
	case A(ASYNC_ENGINE_COUNT):
		*value = is_consumer(d) ? 2 : 3;
		return true;
	case A(MAX_SHARED_MEMORY_PER_MULTIPROCESSOR):
		*value = shared_per_multiprocessor(d);
		return true;
	case A(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN):
		/* From Ampere on the driver keeps 1 KiB of each block for itself. */
		*value = shared_per_multiprocessor(d) - (d->cc_major >= 8 ? 1024 : 0);
		return true;
	case A(MULTI_GPU_BOARD_GROUP_ID):
		*value = (int)d->minor;
		return true;
	case A(SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO):
		*value = d->cc_minor == 0 && d->cc_major >= 8 ? 2 : 32;
		return true;
	case A(MAX_BLOCKS_PER_MULTIPROCESSOR):
		*value = blocks_per_multiprocessor(d);
		return true;
	case A(MAX_PERSISTING_L2_CACHE_SIZE):
		*value = d->cc_major >= 8 ? (int)(d->l2_bytes / 4 * 3) : 0;
		return true;
	case A(MAX_ACCESS_POLICY_WINDOW_SIZE):
		*value = d->cc_major >= 8 ? 128 << 20 : 0;
		return true;
	case A(CLUSTER_LAUNCH):
	case A(TENSOR_MAP_ACCESS_SUPPORTED):
		*value = is_hopper(d);
		return true;
	case A(MEM_SYNC_DOMAIN_COUNT):
		*value = is_hopper(d) ? 4 : 1;
		return true;
	case A(MULTICAST_SUPPORTED):
		*value = d->has_multicast;
		return true;
	case A(HANDLE_TYPE_FABRIC_SUPPORTED):
		*value = d->has_nvlink && is_hopper(d);
		return true;
	case A(HOST_NUMA_ID):
		*value = d->numa_node;
		return true;
	default:
		return false;
	}
}

static CUresult read_attribute(int *value, CUdevice_attribute attribute, CUdevice dev)
{
	const struct rm_device *facts;
	uint32_t index;

	if (sim_device_machine(dev, &index) != CUDA_SUCCESS)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	facts = sim_device_facts(index);
	if (from_facts(facts, attribute, value) || from_generation(facts, attribute, value))
		return CUDA_SUCCESS;
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
		if (constants[i].attribute == attribute) {
			*value = constants[i].value;
			return CUDA_SUCCESS;
		}
	}
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{
	SIM_ENTER();
	return read_attribute(pi, attrib, dev);
}

static int attribute_of(CUdevice dev, CUdevice_attribute attribute)
{
	int value = 0;

	read_attribute(&value, attribute, dev);
	return value;
}

CUresult cuDeviceGetProperties(CUdevprop *prop, CUdevice dev)
{
	uint32_t index;

	SIM_ENTER();
	if (sim_device_machine(dev, &index) != CUDA_SUCCESS)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!prop)
		return CUDA_ERROR_INVALID_VALUE;
	*prop = (CUdevprop){
		.maxThreadsPerBlock = attribute_of(dev, A(MAX_THREADS_PER_BLOCK)),
		.maxThreadsDim = { attribute_of(dev, A(MAX_BLOCK_DIM_X)),
				   attribute_of(dev, A(MAX_BLOCK_DIM_Y)),
				   attribute_of(dev, A(MAX_BLOCK_DIM_Z)) },
		.maxGridSize = { attribute_of(dev, A(MAX_GRID_DIM_X)),
				 attribute_of(dev, A(MAX_GRID_DIM_Y)),
				 attribute_of(dev, A(MAX_GRID_DIM_Z)) },
		.sharedMemPerBlock = attribute_of(dev, A(MAX_SHARED_MEMORY_PER_BLOCK)),
		.totalConstantMemory = attribute_of(dev, A(TOTAL_CONSTANT_MEMORY)),
		.SIMDWidth = attribute_of(dev, A(WARP_SIZE)),
		.memPitch = attribute_of(dev, A(MAX_PITCH)),
		.regsPerBlock = attribute_of(dev, A(MAX_REGISTERS_PER_BLOCK)),
		.clockRate = attribute_of(dev, A(CLOCK_RATE)),
		.textureAlign = attribute_of(dev, A(TEXTURE_ALIGNMENT)),
	};
	return CUDA_SUCCESS;
}
