/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "init.h"
#include "sim.h"
#include "visible.h"

/* Written once by cuInit, under its lock. */
static uint32_t visible[RM_DEVICES_MAX];
static int visible_count;

CUresult sim_devices_find(void)
{
	uint64_t allowed;

	if (rm_allowed(&allowed) != 0)
		return CUDA_ERROR_NO_DEVICE;
	visible_count = sim_visible(sim_machine(), allowed, getenv("CUDA_VISIBLE_DEVICES"),
				    getenv("CUDA_DEVICE_ORDER"), visible);
	return visible_count > 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

int sim_device_count(void)
{
	return visible_count;
}

CUresult sim_device_machine(CUdevice dev, uint32_t *machine_index)
{
	if (dev < 0 || dev >= visible_count)
		return CUDA_ERROR_INVALID_DEVICE;
	*machine_index = visible[dev];
	return CUDA_SUCCESS;
}

const struct rm_device *sim_device_facts(uint32_t machine_index)
{
	const struct rm_machine *machine = sim_machine();

	return machine && machine_index < machine->device_count
		       ? &machine->devices[machine_index]
		       : NULL;
}

/* The facts of DEV; NULL for no device of this process. */
static const struct rm_device *facts_of(CUdevice dev)
{
	uint32_t index;

	return sim_device_machine(dev, &index) == CUDA_SUCCESS ? sim_device_facts(index)
							       : NULL;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	SIM_ENTER();
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	if (ordinal < 0 || ordinal >= visible_count)
		return CUDA_ERROR_INVALID_DEVICE;
	*device = ordinal;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
	SIM_ENTER();
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	*count = visible_count;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{
	const struct rm_device *facts;

	SIM_ENTER();
	facts = facts_of(dev);
	if (!facts)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!name || len <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(name, (size_t)len, "%s", facts->name);
	return CUDA_SUCCESS;
}

static CUresult tell_uuid(CUuuid *uuid, CUdevice dev)
{
	const struct rm_device *facts = facts_of(dev);

	if (!facts)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!uuid)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(uuid->bytes, facts->uuid, sizeof(facts->uuid));
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice dev)
{
	SIM_ENTER();
	return tell_uuid(uuid, dev);
}

/* The second ABI tells a MIG instance's own UUID; there are none here. */
CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
	SIM_ENTER();
	return tell_uuid(uuid, dev);
}

/* Only Windows has LUIDs. */
CUresult cuDeviceGetLuid(char *luid, unsigned int *deviceNodeMask, CUdevice dev)
{
	SIM_ENTER();
	if (!facts_of(dev))
		return CUDA_ERROR_INVALID_DEVICE;
	if (!luid || !deviceNodeMask)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_ERROR_NOT_SUPPORTED;
}

/* What programs are told is total excludes what the driver keeps for itself. */
static uint64_t usable_bytes(const struct rm_device *facts)
{
	return facts->total_bytes - facts->reserved_bytes;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
	const struct rm_device *facts;

	SIM_ENTER();
	facts = facts_of(dev);
	if (!facts)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!bytes)
		return CUDA_ERROR_INVALID_VALUE;
	*bytes = usable_bytes(facts);
	return CUDA_SUCCESS;
}

/* The 32-bit ABI cannot say more than 4 GiB less one byte. */
CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice dev)
{
	const struct rm_device *facts;

	SIM_ENTER();
	facts = facts_of(dev);
	if (!facts)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!bytes)
		return CUDA_ERROR_INVALID_VALUE;
	*bytes = usable_bytes(facts) > UINT32_MAX ? UINT32_MAX
						  : (unsigned int)usable_bytes(facts);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *pciBusId, int len, CUdevice dev)
{
	const struct rm_device *facts;

	SIM_ENTER();
	facts = facts_of(dev);
	if (!facts)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!pciBusId || len <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(pciBusId, (size_t)len, "%04X:%02X:%02X.0", facts->pci_domain,
		 facts->pci_bus, facts->pci_device);
	return CUDA_SUCCESS;
}

/* [domain:]bus:device[.function], hexadecimal. */
static bool parse_bus_id(const char *text, unsigned int *domain, unsigned int *bus,
			 unsigned int *device)
{
	unsigned int function = 0;
	int end = 0;

	for (const char *c = text; *c; c++) {
		if (!isxdigit((unsigned char)*c) && *c != ':' && *c != '.')
			return false;
	}
	if (sscanf(text, "%x:%x:%x%n", domain, bus, device, &end) != 3) {
		*domain = 0;
		if (sscanf(text, "%x:%x%n", bus, device, &end) != 2)
			return false;
	}
	if (text[end] == '.') {
		int more = 0;

		if (sscanf(text + end, ".%x%n", &function, &more) != 1)
			return false;
		end += more;
	}
	return text[end] == '\0' && function == 0;
}

CUresult cuDeviceGetByPCIBusId(CUdevice *dev, const char *pciBusId)
{
	unsigned int domain, bus, device;

	SIM_ENTER();
	if (!dev || !pciBusId || !parse_bus_id(pciBusId, &domain, &bus, &device))
		return CUDA_ERROR_INVALID_VALUE;
	for (int i = 0; i < visible_count; i++) {
		const struct rm_device *facts = facts_of(i);

		if (facts->pci_domain == domain && facts->pci_bus == bus &&
		    facts->pci_device == device) {
			*dev = i;
			return CUDA_SUCCESS;
		}
	}
	return CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice dev)
{
	const struct rm_device *facts;

	SIM_ENTER();
	facts = facts_of(dev);
	if (!facts)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!major || !minor)
		return CUDA_ERROR_INVALID_VALUE;
	*major = (int)facts->cc_major;
	*minor = (int)facts->cc_minor;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetExecAffinitySupport(int *pi, CUexecAffinityType type, CUdevice dev)
{
	const struct rm_device *facts;

	SIM_ENTER();
	facts = facts_of(dev);
	if (!facts)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!pi || type != CU_EXEC_AFFINITY_TYPE_SM_COUNT)
		return CUDA_ERROR_INVALID_VALUE;
	*pi = 0; /* only under MPS */
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetTexture1DLinearMaxWidth(size_t *maxWidthInElements,
					    CUarray_format format, unsigned numChannels,
					    CUdevice dev)
{
	SIM_ENTER();
	if (!facts_of(dev))
		return CUDA_ERROR_INVALID_DEVICE;
	if (!maxWidthInElements || format == 0 ||
	    (numChannels != 1 && numChannels != 2 && numChannels != 4))
		return CUDA_ERROR_INVALID_VALUE;
	*maxWidthInElements = (size_t)1 << 28;
	return CUDA_SUCCESS;
}

/* ---- between two devices ------------------------------------------------------------- */

static bool are_peers(CUdevice a, CUdevice b)
{
	/* Consumer devices do not reach each other without NVLink; the others do over PCIe.
	 */
	return a != b && facts_of(a)->cc_major == facts_of(b)->cc_major &&
	       (facts_of(a)->has_nvlink || !strstr(facts_of(a)->name, "GeForce"));
}

CUresult cuDeviceCanAccessPeer(int *canAccessPeer, CUdevice dev, CUdevice peerDev)
{
	SIM_ENTER();
	if (!facts_of(dev) || !facts_of(peerDev))
		return CUDA_ERROR_INVALID_DEVICE;
	if (!canAccessPeer)
		return CUDA_ERROR_INVALID_VALUE;
	*canAccessPeer = are_peers(dev, peerDev);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attrib,
				 CUdevice srcDevice, CUdevice dstDevice)
{
	bool peers, nvlink;

	SIM_ENTER();
	if (!facts_of(srcDevice) || !facts_of(dstDevice) || srcDevice == dstDevice)
		return CUDA_ERROR_INVALID_DEVICE;
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	peers = are_peers(srcDevice, dstDevice);
	nvlink = peers && facts_of(srcDevice)->has_nvlink &&
		 facts_of(dstDevice)->has_nvlink;
	switch (attrib) {
	case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK:
		*value = nvlink ? 0 : 1;
		return CUDA_SUCCESS;
	case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
	case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED:
		*value = peers;
		return CUDA_SUCCESS;
	case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
		*value = nvlink;
		return CUDA_SUCCESS;
	case CU_DEVICE_P2P_ATTRIBUTE_ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED:
		*value = 0;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult no_atomics(unsigned int *capabilities, const CUatomicOperation *operations,
			   unsigned int count)
{
	if (!capabilities || !operations || count == 0)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < count; i++)
		capabilities[i] = 0;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetHostAtomicCapabilities(unsigned int *capabilities,
					   const CUatomicOperation *operations,
					   unsigned int count, CUdevice dev)
{
	SIM_ENTER();
	if (!facts_of(dev))
		return CUDA_ERROR_INVALID_DEVICE;
	return no_atomics(capabilities, operations, count);
}

CUresult cuDeviceGetP2PAtomicCapabilities(unsigned int *capabilities,
					  const CUatomicOperation *operations,
					  unsigned int count, CUdevice srcDevice,
					  CUdevice dstDevice)
{
	SIM_ENTER();
	if (!facts_of(srcDevice) || !facts_of(dstDevice) || srcDevice == dstDevice)
		return CUDA_ERROR_INVALID_DEVICE;
	return no_atomics(capabilities, operations, count);
}
