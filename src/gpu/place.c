/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/nvml_table.h"

static void read_bus_id(nvmlDevice_t device, struct tr_gpu_place *out)
{
	nvmlPciInfo_t pci = { 0 };

	if (tr_nvml.nvmlDeviceGetPciInfo_v3 &&
	    tr_nvml.nvmlDeviceGetPciInfo_v3(device, &pci) == NVML_SUCCESS)
		(void)snprintf(out->bus_id, sizeof(out->bus_id), "%.31s", pci.busId);
	else if (tr_nvml.nvmlDeviceGetPciInfo_v2 &&
		 tr_nvml.nvmlDeviceGetPciInfo_v2(device, &pci) == NVML_SUCCESS)
		(void)snprintf(out->bus_id, sizeof(out->bus_id), "0000%.27s",
			       pci.busIdLegacy);
}

/* What the kernel says of the device at BUS_ID; -1 also when it has no nodes. */
static int numa_of_bus(const char *bus_id)
{
	unsigned domain, bus, slot;
	char path[96], text[16] = "";
	FILE *f;

	if (sscanf(bus_id, "%x:%x:%x", &domain, &bus, &slot) != 3)
		return -1;
	(void)snprintf(path, sizeof(path),
		       "/sys/bus/pci/devices/%04x:%02x:%02x.0/numa_node", domain, bus,
		       slot);
	f = fopen(path, "re");
	if (!f)
		return -1;
	(void)!fgets(text, sizeof(text), f);
	(void)fclose(f);
	return text[0] >= '0' && text[0] <= '9' ? (int)strtol(text, NULL, 10) : -1;
}

/* Exactly one node, as the driver tells it, else the kernel's word. */
static int numa_of(nvmlDevice_t device, const char *bus_id)
{
	unsigned long nodes[16] = { 0 };
	const int bits = (int)(8 * sizeof(*nodes));
	int found = -1;

	if (!tr_nvml.nvmlDeviceGetMemoryAffinity ||
	    tr_nvml.nvmlDeviceGetMemoryAffinity(device, 16, nodes,
						NVML_AFFINITY_SCOPE_NODE) != NVML_SUCCESS)
		return numa_of_bus(bus_id);
	for (int i = 0; i < 16 * bits; i++) {
		if (!(nodes[i / bits] >> i % bits & 1))
			continue;
		if (found >= 0)
			return numa_of_bus(bus_id);
		found = i;
	}
	return found >= 0 ? found : numa_of_bus(bus_id);
}

int tr_gpu_place(const char *uuid, struct tr_gpu_place *out, struct tr_err *err)
{
	unsigned minor, mode = 0, pending = 0;
	nvmlDevice_t device;
	nvmlReturn_t r = tr_nvml.nvmlDeviceGetHandleByUUID(uuid, &device);

	*out = (struct tr_gpu_place){ .minor = -1, .numa = -1 };
	if (r != NVML_SUCCESS)
		return tr_nvml_fail(err, uuid, r);
	if (tr_nvml.nvmlDeviceGetMinorNumber &&
	    tr_nvml.nvmlDeviceGetMinorNumber(device, &minor) == NVML_SUCCESS)
		out->minor = (int)minor;
	read_bus_id(device, out);
	out->numa = numa_of(device, out->bus_id);
	if (tr_nvml.nvmlDeviceGetMigMode &&
	    tr_nvml.nvmlDeviceGetMigMode(device, &mode, &pending) == NVML_SUCCESS)
		out->is_mig = mode == NVML_DEVICE_MIG_ENABLE;
	return 0;
}

/* ---- instances ----------------------------------------------------------------------- */

static bool read_instance(nvmlDevice_t device, struct tr_gpu_instance *out)
{
	nvmlMemory_t memory = { 0 };

	*out = (struct tr_gpu_instance){ 0 };
	if (tr_nvml.nvmlDeviceGetUUID(device, out->uuid, sizeof(out->uuid)) !=
		    NVML_SUCCESS ||
	    tr_nvml.nvmlDeviceGetName(device, out->name, sizeof(out->name)) !=
		    NVML_SUCCESS ||
	    tr_nvml.nvmlDeviceGetGpuInstanceId(device, &out->gpu_instance) !=
		    NVML_SUCCESS ||
	    tr_nvml.nvmlDeviceGetComputeInstanceId(device, &out->compute_instance) !=
		    NVML_SUCCESS)
		return false;
	if (tr_nvml.nvmlDeviceGetMemoryInfo(device, &memory) == NVML_SUCCESS)
		out->total_bytes = memory.total;
	return true;
}

int tr_gpu_instances(const char *uuid, struct tr_gpu_instance *rows, size_t *count,
		     struct tr_err *err)
{
	nvmlDevice_t device, instance;
	nvmlReturn_t r = tr_nvml.nvmlDeviceGetHandleByUUID(uuid, &device);
	size_t room = *count;
	unsigned most = 0;

	*count = 0;
	if (r != NVML_SUCCESS)
		return tr_nvml_fail(err, uuid, r);
	if (!tr_nvml.nvmlDeviceGetMigDeviceHandleByIndex ||
	    !tr_nvml.nvmlDeviceGetMaxMigDeviceCount ||
	    !tr_nvml.nvmlDeviceGetGpuInstanceId ||
	    !tr_nvml.nvmlDeviceGetComputeInstanceId ||
	    tr_nvml.nvmlDeviceGetMaxMigDeviceCount(device, &most) != NVML_SUCCESS)
		return 0;
	/* Places are not closed up: what was destroyed leaves a hole. */
	for (unsigned i = 0; i < most && *count < room; i++)
		if (tr_nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, i, &instance) ==
			    NVML_SUCCESS &&
		    read_instance(instance, &rows[*count]))
			++*count;
	return 0;
}
