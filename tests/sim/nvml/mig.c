/* SPDX-License-Identifier: Apache-2.0 */
#include "nvml/sim_nvml.h"

#include <stdio.h>
#include <string.h>

/*
 * Instances of a device in MIG mode: as many as were asked for (rm_state_set), of an eighth of
 * the device each, as its smallest profile is. Only NVML shows them: programs cannot use them here.
 */

static char handles[RM_DEVICES_MAX * NV_MIG_MOST];

uint32_t nv_mig_count(const struct nv_device *dev)
{
	uint64_t set = rm_state(dev->index, RM_MIG);

	if (!dev->facts->has_mig)
		return 0;
	return set < NV_MIG_MOST ? (uint32_t)set : NV_MIG_MOST;
}

bool nv_mig_of(nvmlDevice_t handle, uint32_t *index, uint32_t *instance)
{
	uintptr_t at = (uintptr_t)handle - (uintptr_t)handles;

	if (!handle || at >= sizeof(handles))
		return false;
	*index = (uint32_t)at / NV_MIG_MOST;
	*instance = (uint32_t)at % NV_MIG_MOST + 1;
	return true;
}

nvmlDevice_t nv_mig_handle(uint32_t index, uint32_t instance)
{
	return (nvmlDevice_t)(void *)&handles[index * NV_MIG_MOST + instance - 1];
}

void nv_mig_uuid(const struct nv_device *dev, char *out, size_t room)
{
	uint8_t uuid[16];
	char text[48];

	memcpy(uuid, dev->facts->uuid, sizeof(uuid));
	uuid[15] ^= (uint8_t)dev->instance;
	nv_uuid_text(uuid, text, sizeof(text));
	snprintf(out, room, "MIG-%.36s", text + 4);
}

void nv_mig_name(const struct nv_device *dev, char *out, size_t room)
{
	unsigned long long gib = nv_mig_bytes(dev, dev->facts->total_bytes) >> 30;

	snprintf(out, room, "%.40s MIG 1g.%llugb", dev->facts->name, gib);
}

uint64_t nv_mig_bytes(const struct nv_device *dev, uint64_t bytes)
{
	return dev->instance ? bytes / 8 : bytes;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index,
						 nvmlDevice_t *migDevice)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!migDevice || dev.instance || index >= NV_MIG_MOST)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!dev.facts->has_mig)
		return NVML_ERROR_NOT_SUPPORTED;
	if (index >= nv_mig_count(&dev))
		return NVML_ERROR_NOT_FOUND;
	*migDevice = nv_mig_handle(dev.index, index + 1);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t migDevice,
							  nvmlDevice_t *device)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(migDevice, &dev);
	if (!device || !dev.instance)
		return NVML_ERROR_INVALID_ARGUMENT;
	*device = nv_handle(dev.index);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!id)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!dev.instance)
		return NVML_ERROR_NOT_SUPPORTED;
	*id = dev.instance + 6; /* as the smallest profile's are counted */
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!id)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!dev.instance)
		return NVML_ERROR_NOT_SUPPORTED;
	*id = 0;
	return NVML_SUCCESS;
}
