/* SPDX-License-Identifier: Apache-2.0 */
#include "nvml/sim_nvml.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Where a device sits: its address on the bus, the processors near it, the way to its
 * siblings.
 */

#define LONG_BITS (8 * sizeof(unsigned long))

/* ---- the bus ------------------------------------------------------------------------- */

/* The struct as it was before each version: the caller's memory ends there. */
struct pci_v1 {
	char bus_id[NVML_DEVICE_PCI_BUS_ID_BUFFER_V2_SIZE];
	unsigned int domain, bus, device, pci_device_id;
};
struct pci_v2 {
	struct pci_v1 first;
	unsigned int subsystem_id;
	unsigned int reserved[4];
};

static void fill_pci(const struct nv_device *dev, nvmlPciInfo_t *pci)
{
	const struct rm_device *d = dev->facts;

	memset(pci, 0, sizeof(*pci));
	snprintf(pci->busIdLegacy, sizeof(pci->busIdLegacy), "%04X:%02X:%02X.0",
		 d->pci_domain & 0xffffu, d->pci_bus & 0xffu, d->pci_device & 0x1fu);
	snprintf(pci->busId, sizeof(pci->busId), "%08X:%02X:%02X.0", d->pci_domain,
		 d->pci_bus, d->pci_device);
	pci->domain = d->pci_domain;
	pci->bus = d->pci_bus;
	pci->device = d->pci_device;
	pci->pciDeviceId = d->pci_id;
	pci->pciSubSystemId = 0x168010deu;
}

nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	struct nv_device dev;
	nvmlPciInfo_t now;
	struct pci_v1 then;

	NV_ENTER_DEVICE(device, &dev);
	if (!pci)
		return NVML_ERROR_INVALID_ARGUMENT;
	fill_pci(&dev, &now);
	memcpy(then.bus_id, now.busIdLegacy, sizeof(then.bus_id));
	then.domain = now.domain;
	then.bus = now.bus;
	then.device = now.device;
	then.pci_device_id = now.pciDeviceId;
	memcpy((void *)pci, &then, sizeof(then));
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	struct nv_device dev;
	nvmlPciInfo_t now;
	struct pci_v2 then = { 0 };

	NV_ENTER_DEVICE(device, &dev);
	if (!pci)
		return NVML_ERROR_INVALID_ARGUMENT;
	fill_pci(&dev, &now);
	memcpy(then.first.bus_id, now.busIdLegacy, sizeof(then.first.bus_id));
	then.first.domain = now.domain;
	then.first.bus = now.bus;
	then.first.device = now.device;
	then.first.pci_device_id = now.pciDeviceId;
	then.subsystem_id = now.pciSubSystemId;
	memcpy((void *)pci, &then, sizeof(then));
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!pci)
		return NVML_ERROR_INVALID_ARGUMENT;
	fill_pci(&dev, pci);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_t *pci)
{
	struct nv_device dev;
	nvmlPciInfo_t now;

	NV_ENTER_DEVICE(device, &dev);
	if (!pci)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (pci->version != nvmlPciInfoExt_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	fill_pci(&dev, &now);
	pci->domain = now.domain;
	pci->bus = now.bus;
	pci->device = now.device;
	pci->pciDeviceId = now.pciDeviceId;
	pci->pciSubSystemId = now.pciSubSystemId;
	pci->baseClass = 0x03; /* display controller; 0x02: a 3D one without a screen */
	pci->subClass = dev.board->has_display ? 0x00 : 0x02;
	memcpy(pci->busId, now.busId, sizeof(pci->busId));
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter,
					 unsigned int *value)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!value || counter >= NVML_PCIE_UTIL_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	*value = 0;
	return NVML_SUCCESS;
}

/* ---- processors ---------------------------------------------------------------------- */

/* The processors of the device's NUMA node where this host has such a node, else all of
 * them. */
static void fill_cpus(const struct nv_device *dev, unsigned long *words, unsigned int n)
{
	char path[64], *list = NULL;
	size_t room = 0;
	FILE *f;

	memset(words, 0, n * sizeof(*words));
	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist",
		 dev->facts->numa_node);
	f = fopen(path, "re");
	if (!f)
		f = fopen("/sys/devices/system/cpu/online", "re");
	if (!f)
		return;
	if (getline(&list, &room, f) > 0) {
		for (char *at = list; *at >= '0' && *at <= '9';) {
			unsigned long first = strtoul(at, &at, 10);
			unsigned long last = *at == '-' ? strtoul(at + 1, &at, 10) : first;

			for (unsigned long i = first; i <= last && i < n * LONG_BITS; i++)
				words[i / LONG_BITS] |= 1ul << i % LONG_BITS;
			if (*at == ',')
				at++;
		}
	}
	free(list);
	fclose(f);
}

nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned int cpuSetSize,
				      unsigned long *cpuSet)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!cpuSet || cpuSetSize == 0)
		return NVML_ERROR_INVALID_ARGUMENT;
	fill_cpus(&dev, cpuSet, cpuSetSize);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device,
						 unsigned int cpuSetSize,
						 unsigned long *cpuSet,
						 nvmlAffinityScope_t scope)
{
	struct nv_device dev;

	NV_ENTER_DEVICE(device, &dev);
	if (!cpuSet || cpuSetSize == 0 || scope > NVML_AFFINITY_SCOPE_SOCKET)
		return NVML_ERROR_INVALID_ARGUMENT;
	fill_cpus(&dev, cpuSet, cpuSetSize);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned int nodeSetSize,
					 unsigned long *nodeSet, nvmlAffinityScope_t scope)
{
	struct nv_device dev;
	size_t node;

	NV_ENTER_DEVICE(device, &dev);
	if (!nodeSet || nodeSetSize == 0 || scope > NVML_AFFINITY_SCOPE_SOCKET)
		return NVML_ERROR_INVALID_ARGUMENT;
	node = dev.facts->numa_node < 0 ? 0 : (size_t)dev.facts->numa_node;
	memset(nodeSet, 0, nodeSetSize * sizeof(*nodeSet));
	if (node < nodeSetSize * LONG_BITS)
		nodeSet[node / LONG_BITS] |= 1ul << node % LONG_BITS;
	return NVML_SUCCESS;
}

static nvmlReturn_t bind_thread(const cpu_set_t *cpus)
{
	return sched_setaffinity(0, sizeof(*cpus), cpus) == 0 ? NVML_SUCCESS
							      : NVML_ERROR_UNKNOWN;
}

nvmlReturn_t nvmlDeviceSetCpuAffinity(nvmlDevice_t device)
{
	unsigned long words[CPU_SETSIZE / LONG_BITS];
	struct nv_device dev;
	cpu_set_t cpus;

	NV_ENTER_DEVICE(device, &dev);
	fill_cpus(&dev, words, CPU_SETSIZE / LONG_BITS);
	memcpy(&cpus, words, sizeof(cpus));
	return bind_thread(&cpus);
}

nvmlReturn_t nvmlDeviceClearCpuAffinity(nvmlDevice_t device)
{
	struct nv_device dev;
	cpu_set_t cpus;

	NV_ENTER_DEVICE(device, &dev);
	memset(&cpus, 0xff, sizeof(cpus));
	return bind_thread(&cpus);
}

/* ---- siblings ------------------------------------------------------------------------ */

static nvmlGpuTopologyLevel_t level_between(const struct nv_device *a,
					    const struct nv_device *b)
{
	if (a->index == b->index)
		return NVML_TOPOLOGY_INTERNAL;
	if (a->facts->numa_node == b->facts->numa_node)
		return NVML_TOPOLOGY_NODE;
	return NVML_TOPOLOGY_SYSTEM;
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t device1, nvmlDevice_t device2,
						 nvmlGpuTopologyLevel_t *pathInfo)
{
	struct nv_device one, two;

	NV_ENTER_DEVICE(device1, &one);
	if (nv_device_of(device2, &two) != NVML_SUCCESS || !pathInfo)
		return NVML_ERROR_INVALID_ARGUMENT;
	*pathInfo = level_between(&one, &two);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device,
					      nvmlGpuTopologyLevel_t level,
					      unsigned int *count,
					      nvmlDevice_t *deviceArray)
{
	struct nv_device dev, other;
	unsigned int room, n = 0;

	NV_ENTER_DEVICE(device, &dev);
	if (!count || (*count != 0 && !deviceArray))
		return NVML_ERROR_INVALID_ARGUMENT;
	room = *count;
	for (uint32_t i = 0; i < rm_machine()->device_count; i++) {
		if (i == dev.index || nv_device_of(nv_handle(i), &other) != NVML_SUCCESS ||
		    level_between(&dev, &other) != level)
			continue;
		if (n < room)
			deviceArray[n] = nv_handle(i);
		n++;
	}
	*count = room != 0 && room < n ? room : n;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t device1, nvmlDevice_t device2,
				    nvmlGpuP2PCapsIndex_t p2pIndex,
				    nvmlGpuP2PStatus_t *p2pStatus)
{
	struct nv_device one, two;
	bool linked;

	NV_ENTER_DEVICE(device1, &one);
	if (nv_device_of(device2, &two) != NVML_SUCCESS || !p2pStatus ||
	    p2pIndex >= NVML_P2P_CAPS_INDEX_UNKNOWN)
		return NVML_ERROR_INVALID_ARGUMENT;
	linked = one.facts->has_nvlink && two.facts->has_nvlink;
	if (one.index == two.index)
		*p2pStatus = NVML_P2P_STATUS_OK;
	else if (p2pIndex == NVML_P2P_CAPS_INDEX_NVLINK ||
		 p2pIndex == NVML_P2P_CAPS_INDEX_ATOMICS)
		*p2pStatus = linked ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_NOT_SUPPORTED;
	else if (one.board->has_display || two.board->has_display)
		*p2pStatus = NVML_P2P_STATUS_CHIPSET_NOT_SUPPORTED;
	else
		*p2pStatus = NVML_P2P_STATUS_OK;
	return NVML_SUCCESS;
}

/* All links of a board with NVLink go to switches, as in a machine with eight of them. */
static nvmlReturn_t check_link(const struct nv_device *dev, unsigned int link)
{
	if (link >= NVML_NVLINK_MAX_LINKS)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!dev->facts->has_nvlink || link >= dev->board->nvlinks)
		return NVML_ERROR_NOT_SUPPORTED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link,
				      nvmlEnableState_t *isActive)
{
	struct nv_device dev;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device, &dev);
	if (!isActive)
		return NVML_ERROR_INVALID_ARGUMENT;
	r = check_link(&dev, link);
	if (r == NVML_SUCCESS)
		*isActive = NVML_FEATURE_ENABLED;
	return r;
}

nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, unsigned int link,
					unsigned int *version)
{
	struct nv_device dev;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device, &dev);
	if (!version)
		return NVML_ERROR_INVALID_ARGUMENT;
	r = check_link(&dev, link);
	if (r == NVML_SUCCESS)
		*version = dev.board->nvlink_version;
	return r;
}

nvmlReturn_t nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, unsigned int link,
					   nvmlNvLinkCapability_t capability,
					   unsigned int *capResult)
{
	struct nv_device dev;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device, &dev);
	if (!capResult || capability >= NVML_NVLINK_CAP_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	r = check_link(&dev, link);
	if (r == NVML_SUCCESS)
		*capResult = capability != NVML_NVLINK_CAP_SLI_BRIDGE;
	return r;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(
	nvmlDevice_t device, unsigned int link,
	nvmlIntNvLinkDeviceType_t *pNvLinkDeviceType)
{
	struct nv_device dev;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device, &dev);
	if (!pNvLinkDeviceType)
		return NVML_ERROR_INVALID_ARGUMENT;
	r = check_link(&dev, link);
	if (r == NVML_SUCCESS)
		*pNvLinkDeviceType = NVML_NVLINK_DEVICE_TYPE_SWITCH;
	return r;
}

/* Link L of every board ends at switch L of the machine. */
static nvmlReturn_t remote_pci(const char *entry, nvmlDevice_t device, unsigned int link,
			       nvmlPciInfo_t *pci)
{
	struct nv_device dev;
	nvmlReturn_t r;

	r = nv_enter_device(entry, device, &dev);
	if (r != NVML_SUCCESS)
		return r;
	if (!pci)
		return NVML_ERROR_INVALID_ARGUMENT;
	r = check_link(&dev, link);
	if (r != NVML_SUCCESS)
		return r;
	*pci = (nvmlPciInfo_t){ .domain = 0x10, .bus = link, .pciDeviceId = 0x22a310deu };
	snprintf(pci->busIdLegacy, sizeof(pci->busIdLegacy), "0010:%02X:00.0", pci->bus);
	snprintf(pci->busId, sizeof(pci->busId), "00000010:%02X:00.0", pci->bus);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link,
						 nvmlPciInfo_t *pci)
{
	return remote_pci(__func__, device, link, pci);
}

nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned int link,
					     nvmlNvLinkErrorCounter_t counter,
					     unsigned long long *counterValue)
{
	struct nv_device dev;
	nvmlReturn_t r;

	NV_ENTER_DEVICE(device, &dev);
	if (!counterValue || counter >= NVML_NVLINK_ERROR_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	r = check_link(&dev, link);
	if (r == NVML_SUCCESS)
		*counterValue = 0;
	return r;
}
