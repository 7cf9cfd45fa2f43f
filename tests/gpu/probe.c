/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_probe identity | calls | lookups FILE | memory | costs | limits BYTES | kill BYTES
 * Asks a driver, a simulated or a real one, bare or behind the hook, and prints what it answers as
 * JSON lines without addresses, so that two runs can be compared.
 */
#include "probe.h"

#include <dlfcn.h>
#include <nvml.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct probe_driver drv;

const char probe_kernel[] = ".version 6.4\n.target sm_70\n.address_size 64\n"
			    ".visible .entry nothing()\n{\n\tret;\n}\n";

static nvmlDevice_t nvml_device;
static __typeof__(nvmlDeviceGetMemoryInfo) *nvml_memory;

static void find(void *handle, const char *name, void *slot)
{
	void *found = dlsym(handle, name);

	memcpy(slot, &found, sizeof(found));
}

static void open_nvml(void)
{
	void *handle = dlopen("libnvidia-ml.so.1", RTLD_NOW);
	__typeof__(nvmlDeviceGetHandleByIndex_v2) *by_index;
	__typeof__(nvmlInit_v2) *init;

	if (!handle)
		return;
	find(handle, "nvmlInit_v2", &init);
	find(handle, "nvmlDeviceGetHandleByIndex_v2", &by_index);
	find(handle, "nvmlDeviceGetMemoryInfo", &nvml_memory);
	if (!init || !by_index || init() != NVML_SUCCESS ||
	    by_index(0, &nvml_device) != NVML_SUCCESS)
		nvml_memory = NULL;
}

void probe_open(void)
{
	drv.handle = dlopen("libcuda.so.1", RTLD_NOW);
	if (!drv.handle) {
		fprintf(stderr, "gpu_probe: %s\n", dlerror());
		exit(77);
	}
#define PROBE(name) find(drv.handle, #name, &drv.name);
#include "probe.def"
#undef PROBE
	open_nvml();
}

void probe_start(void)
{
	CUcontext context;
	CUdevice device;
	CUresult r = drv.cuInit(0);

	if (r == CUDA_SUCCESS)
		r = drv.cuDeviceGet(&device, 0);
	if (r == CUDA_SUCCESS)
		r = drv.cuDevicePrimaryCtxRetain(&context, device);
	if (r == CUDA_SUCCESS)
		r = drv.cuCtxSetCurrent(context);
	if (r != CUDA_SUCCESS) {
		fprintf(stderr, "gpu_probe: no context on device 0: error %d\n", (int)r);
		exit(1);
	}
}

uint64_t probe_nvml_used_bytes(void)
{
	nvmlMemory_t memory = { 0 };

	if (nvml_memory && nvml_memory(nvml_device, &memory) == NVML_SUCCESS)
		return memory.used;
	return 0;
}

uint64_t probe_cuda_free_bytes(void)
{
	size_t free_bytes = 0, total;

	(void)drv.cuMemGetInfo_v2(&free_bytes, &total);
	return free_bytes;
}

uint64_t probe_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void probe_say(const char *step, int result, const char *format, ...)
{
	va_list arguments;

	printf("{\"step\":\"%s\",\"result\":%d,\"value\":\"", step, result);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\"}\n");
	fflush(stdout);
}

static void identity(void)
{
	int version = 0, major = 0, minor = 0;
	size_t total = 0;
	char name[96] = "";
	CUdevice device;

	if (drv.cuInit(0) != CUDA_SUCCESS || drv.cuDeviceGet(&device, 0) != CUDA_SUCCESS) {
		fprintf(stderr, "gpu_probe: the driver has no device\n");
		exit(77);
	}
	drv.cuDriverGetVersion(&version);
	drv.cuDeviceGetName(name, sizeof(name), device);
	drv.cuDeviceTotalMem_v2(&total, device);
	drv.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
				 device);
	drv.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
				 device);
	probe_say("identity.name", 0, "%s", name);
	probe_say("identity.driver", 0, "%d.%d", version / 1000, version % 1000 / 10);
	probe_say("identity.compute", 0, "%d.%d", major, minor);
	probe_say("identity.total", 0, "%zu", total);
}

/* E2: what each look-up of the recorded runtime gives, by the name the same driver exports it
 * under. */
static const char *export_of(const void *pointer, const char *base, char out[128])
{
	static const char *const endings[] = { "",         "_v2",      "_v3",
					       "_v4",      "_ptsz",    "_ptds",
					       "_v2_ptsz", "_v2_ptds", "_v3_ptsz" };

	if (!pointer)
		return "null";
	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
		(void)snprintf(out, 128, "%s%s", base, endings[i]);
		if (dlsym(drv.handle, out) == pointer)
			return out;
	}
	return "a pointer that dlsym does not give";
}

void probe_lookups(const char *file)
{
	FILE *f = fopen(file, "re");
	char line[256], name[128], found[128], step[300];
	unsigned long number = 0;

	if (!f) {
		perror(file);
		exit(2);
	}
	(void)drv.cuInit(0);
	while (drv.cuGetProcAddress_v2 && fgets(line, sizeof(line), f)) {
		CUdriverProcAddressQueryResult status = 99;
		unsigned long long flags;
		void *pointer = NULL;
		int version, skip;
		CUresult r;

		number++;
		if (line[0] == '#')
			continue;
		skip = (int)strcspn(line, " ");
		(void)snprintf(name, sizeof(name), "%.*s", skip, line);
		if (sscanf(line + skip, "%d %llu", &version, &flags) != 2)
			continue;
		r = drv.cuGetProcAddress_v2(name, &pointer, version, flags, &status);
		(void)snprintf(step, sizeof(step), "same.lookup.%lu.%s.%d.%llu", number,
			       name, version, flags);
		probe_say(step, (int)r, "status %d, %s", (int)status,
			  export_of(pointer, name, found));
	}
	fclose(f);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	uint64_t number = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;

	if (strcmp(what, "kill") == 0 && argc == 3) {
		probe_kill(number); /* forks before anything is opened */
		return 0;
	}
	probe_open();
	if (strcmp(what, "identity") == 0)
		identity();
	else if (strcmp(what, "calls") == 0)
		probe_calls();
	else if (strcmp(what, "lookups") == 0 && argc == 3)
		probe_lookups(argv[2]);
	else if (strcmp(what, "memory") == 0)
		probe_memory();
	else if (strcmp(what, "costs") == 0)
		probe_costs();
	else if (strcmp(what, "limits") == 0 && argc == 3)
		probe_limits(number);
	else {
		fprintf(stderr,
			"gpu_probe identity | calls | lookups FILE | memory | costs | "
			"limits BYTES | kill BYTES\n");
		return 2;
	}
	return 0;
}
