/* SPDX-License-Identifier: Apache-2.0 */
#include "nvml/sim_nvml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/*
 * Which device: handles by index, UUID, serial number and bus address, and what a device
 * is. NVML knows all devices of the machine: CUDA_VISIBLE_DEVICES is CUDA's alone.
 */

static uint64_t allowed; /* bits of machine devices; written under nvmlInit's lock */

nvmlReturn_t nv_find_devices(void)
{
	return rm_allowed(&allowed) == 0 ? NVML_SUCCESS : NVML_ERROR_DRIVER_NOT_LOADED;
}

bool nv_is_allowed(uint32_t index)
{
	return (allowed >> index & 1) != 0;
}

/* How many of the devices before machine device INDEX this process may use. */
static unsigned int allowed_before(uint32_t index)
{
	uint64_t before = index < 64 ? (UINT64_C(1) << index) - 1 : UINT64_MAX;

	return (unsigned int)__builtin_popcountll(allowed & before);
}

/* A handle is the address of its device's byte: checked without ever being read. */
static char handles[RM_DEVICES_MAX];

nvmlDevice_t nv_handle(uint32_t index)
{
	return (nvmlDevice_t)(void *)&handles[index];
}

nvmlReturn_t nv_device_of(nvmlDevice_t handle, struct nv_device *out)
{
	uintptr_t at = (uintptr_t)handle - (uintptr_t)handles;
	uint32_t index;

	out->instance = 0;
	if (nv_mig_of(handle, &index, &out->instance))
		at = index;
	if (!handle || at >= rm_machine()->device_count || !nv_is_allowed((uint32_t)at))
		return NVML_ERROR_INVALID_ARGUMENT;
	out->index = (uint32_t)at;
	out->facts = &rm_machine()->devices[at];
	out->board = nv_board_of(out->facts);
	return out->instance > nv_mig_count(out) ? NVML_ERROR_INVALID_ARGUMENT
						 : NVML_SUCCESS;
}

void nv_uuid_text(const uint8_t u[16], char *out, size_t room)
{
	snprintf(out, room,
		 "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11],
		 u[12], u[13], u[14], u[15]);
}

/* 13 digits, from the UUID: two machines' boards do not share one. */
static void serial_text(const struct nv_device *dev, char *out, size_t room)
{
	uint64_t n = 0;

	for (size_t i = 0; i < sizeof(dev->facts->uuid); i++)
		n = n * 131 + dev->facts->uuid[i];
	snprintf(out, room, "16%011llu", (unsigned long long)(n % 100000000000u));
}

static nvmlReturn_t tell_count(unsigned int *count)
{
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	*count = allowed_before(rm_machine()->device_count);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int *deviceCount)
{
	NV_ENTER();
	return tell_count(deviceCount);
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *deviceCount)
{
	NV_ENTER();
	return tell_count(deviceCount);
}

static nvmlReturn_t by_index(unsigned int index, nvmlDevice_t *device)
{
	if (!device)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (uint32_t i = 0; i < rm_machine()->device_count; i++) {
		if (!nv_is_allowed(i) || allowed_before(i) != index)
			continue;
		*device = nv_handle(i);
		return nv_answer(i);
	}
	return NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device)
{
	NV_ENTER();
	return by_index(index, device);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
	NV_ENTER();
	return by_index(index, device);
}

nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device)
{
	struct nv_device dev;
	char text[32];

	NV_ENTER();
	if (!serial || !device)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (uint32_t i = 0; i < rm_machine()->device_count; i++) {
		if (nv_device_of(nv_handle(i), &dev) != NVML_SUCCESS ||
		    !dev.board->has_serial)
			continue;
		serial_text(&dev, text, sizeof(text));
		if (strcmp(text, serial) != 0)
			continue;
		*device = nv_handle(i);
		return NVML_SUCCESS;
	}
	return NVML_ERROR_NOT_FOUND;
}

static nvmlReturn_t instance_by_uuid(const char *uuid, nvmlDevice_t *device)
{
	struct nv_device dev;
	char text[48];

	for (uint32_t i = 0; i < rm_machine()->device_count; i++) {
		if (nv_device_of(nv_handle(i), &dev) != NVML_SUCCESS)
			continue;
		for (dev.instance = 1; dev.instance <= nv_mig_count(&dev); dev.instance++) {
			nv_mig_uuid(&dev, text, sizeof(text));
			if (strcasecmp(text, uuid) != 0)
				continue;
			*device = nv_mig_handle(i, dev.instance);
			return nv_answer(i);
		}
	}
	return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
	char text[48];

	NV_ENTER();
	if (!uuid || !device)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (uint32_t i = 0; i < rm_machine()->device_count; i++) {
		nv_uuid_text(rm_machine()->devices[i].uuid, text, sizeof(text));
		if (!nv_is_allowed(i) || strcasecmp(text, uuid) != 0)
			continue;
		*device = nv_handle(i);
		return nv_answer(i);
	}
	return instance_by_uuid(uuid, device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_t *uuid, nvmlDevice_t *device)
{
	char text[48];

	NV_ENTER();
	if (!uuid || !device)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (uuid->version != nvmlUUID_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (uuid->type != NVML_UUID_TYPE_ASCII && uuid->type != NVML_UUID_TYPE_BINARY)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (uint32_t i = 0; i < rm_machine()->device_count; i++) {
		const uint8_t *own = rm_machine()->devices[i].uuid;

		nv_uuid_text(own, text, sizeof(text));
		if (!nv_is_allowed(i))
			continue;
		if (uuid->type == NVML_UUID_TYPE_BINARY
			    ? memcmp(own, uuid->value.bytes, 16) != 0
			    : strncasecmp(text, uuid->value.str, sizeof(uuid->value.str)))
			continue;
		*device = nv_handle(i);
		return NVML_SUCCESS;
	}
	return NVML_ERROR_NOT_FOUND;
}

/* "0000:01:00.0", "00000000:01:00.0", "01:00.0" and "01:00" all name one place. */
static bool parse_bus_id(const char *text, unsigned int *domain, unsigned int *bus,
			 unsigned int *slot)
{
	unsigned long part[3];
	size_t n = 0;
	char *end;

	if (strlen(text) >= NVML_DEVICE_PCI_BUS_ID_BUFFER_SIZE)
		return false;
	while (n < 3) {
		part[n] = strtoul(text, &end, 16);
		if (end == text || part[n] > UINT32_MAX)
			return false;
		n++;
		if (*end != ':')
			break;
		text = end + 1;
	}
	if (n < 2 || (*end != '\0' && strcmp(end, ".0") != 0))
		return false;
	*domain = n == 3 ? (unsigned int)part[0] : 0;
	*bus = (unsigned int)part[n - 2];
	*slot = (unsigned int)part[n - 1];
	return true;
}

static nvmlReturn_t by_bus_id(const char *text, nvmlDevice_t *device)
{
	unsigned int domain, bus, slot;

	if (!text || !device || !parse_bus_id(text, &domain, &bus, &slot))
		return NVML_ERROR_INVALID_ARGUMENT;
	for (uint32_t i = 0; i < rm_machine()->device_count; i++) {
		const struct rm_device *d = &rm_machine()->devices[i];

		if (!nv_is_allowed(i) || d->pci_domain != domain || d->pci_bus != bus ||
		    d->pci_device != slot)
			continue;
		*device = nv_handle(i);
		return NVML_SUCCESS;
	}
	return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *pciBusId, nvmlDevice_t *device)
{
	NV_ENTER();
	return by_bus_id(pciBusId, device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *pciBusId, nvmlDevice_t *device)
{
	NV_ENTER();
	return by_bus_id(pciBusId, device);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
	struct nv_device dev;
	char text[80];

	NV_ENTER_DEVICE(device, &dev);
	nv_mig_name(&dev, text, sizeof(text));
	return nv_text(name, length, dev.instance ? text : dev.facts->name);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!index)
		return NVML_ERROR_INVALID_ARGUMENT;
	*index = allowed_before(dev.index);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
	struct nv_device dev;
	char text[48];

	NV_ENTER_DEVICE(device, &dev);
	nv_uuid_text(dev.facts->uuid, text, sizeof(text));
	if (dev.instance)
		nv_mig_uuid(&dev, text, sizeof(text));
	return nv_text(uuid, length, text);
}

nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned int length)
{
	struct nv_device dev;
	char text[32];

	NV_ENTER_DEVICE(device, &dev);
	if (!dev.board->has_serial)
		return NVML_ERROR_NOT_SUPPORTED;
	serial_text(&dev, text, sizeof(text));
	return nv_text(serial, length, text);
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minorNumber)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!minorNumber)
		return NVML_ERROR_INVALID_ARGUMENT;
	*minorNumber = dev.facts->minor;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t *type)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!type)
		return NVML_ERROR_INVALID_ARGUMENT;
	*type = dev.board->brand;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t *arch)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!arch)
		return NVML_ERROR_INVALID_ARGUMENT;
	switch (dev.facts->cc_major * 10 + dev.facts->cc_minor) {
	case 70:
		*arch = NVML_DEVICE_ARCH_VOLTA;
		break;
	case 75:
		*arch = NVML_DEVICE_ARCH_TURING;
		break;
	case 80:
	case 86:
		*arch = NVML_DEVICE_ARCH_AMPERE;
		break;
	case 89:
		*arch = NVML_DEVICE_ARCH_ADA;
		break;
	case 90:
		*arch = NVML_DEVICE_ARCH_HOPPER;
		break;
	case 100:
	case 103:
	case 120:
		*arch = NVML_DEVICE_ARCH_BLACKWELL;
		break;
	default:
		*arch = NVML_DEVICE_ARCH_UNKNOWN;
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!major || !minor)
		return NVML_ERROR_INVALID_ARGUMENT;
	*major = (int)dev.facts->cc_major;
	*minor = (int)dev.facts->cc_minor;
	return NVML_SUCCESS;
}

/* FP32 lanes per multiprocessor: 128 but for Volta, Turing and the A100. */
nvmlReturn_t nvmlDeviceGetNumGpuCores(nvmlDevice_t device, unsigned int *numCores)
{
	struct nv_device dev;
	uint32_t cc;

	NV_ENTER_DEVICE(device, &dev);
	if (!numCores)
		return NVML_ERROR_INVALID_ARGUMENT;
	cc = dev.facts->cc_major * 10 + dev.facts->cc_minor;
	*numCores = dev.facts->sm_count * (cc <= 80 ? 64 : 128);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBoardPartNumber(nvmlDevice_t device, char *partNumber,
					  unsigned int length)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!dev.board->part_number)
		return NVML_ERROR_NOT_SUPPORTED;
	return nv_text(partNumber, length, dev.board->part_number);
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version,
				       unsigned int length)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	return nv_text(version, length, dev.board->vbios);
}

nvmlReturn_t nvmlDeviceGetBoardId(nvmlDevice_t device, unsigned int *boardId)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!boardId)
		return NVML_ERROR_INVALID_ARGUMENT;
	*boardId = dev.facts->pci_domain << 16 | dev.facts->pci_bus << 8;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMultiGpuBoard(nvmlDevice_t device, unsigned int *multiGpuBool)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!multiGpuBool)
		return NVML_ERROR_INVALID_ARGUMENT;
	*multiGpuBool = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t device1, nvmlDevice_t device2,
				   int *onSameBoard)
{
	struct nv_device one, two;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device1, &one);
	r = nv_device_of(device2, &two);
	if (r != NVML_SUCCESS || !onSameBoard)
		return NVML_ERROR_INVALID_ARGUMENT;
	*onSameBoard = one.index == two.index;
	return NVML_SUCCESS;
}
