/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the benchmarks rely on: the stub has every export, look-ups give the exported
 * functions, addresses rise, CUDA and NVML speak of one device, cuInit takes the time it is
 * told to, and an allocation costs next to nothing.
 */

#include <cuda.h>
#include <dlfcn.h>
#include <nvml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(what) check((what), #what, __LINE__)
#define CALLS       1000000

static void check(int good, const char *what, int line)
{
	if (good)
		return;
	fprintf(stderr, "answers.c:%d: %s\n", line, what);
	exit(1);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void *open_library(const char *name)
{
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);

	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	return library;
}

/* Every name of the version script is there, but for those of a driver that is not out yet.
 */
static void check_exports(void *library, const char *path)
{
	FILE *f = fopen(path, "r");
	char line[256];
	int found = 0, missing = 0;

	CHECK(f != NULL);
	while (fgets(line, sizeof line, f)) {
		char *name = strtok(line, "\t;\n");

		if (!name || strncmp(name, "cu", 2) != 0)
			continue;
		if (dlsym(library, name))
			found++;
		else
			missing++;
	}
	fclose(f);
	CHECK(found > 700);
	CHECK(missing == 6);
}

static void check_calls(void *library)
{
	CUresult (*alloc)(CUdeviceptr *, size_t) =
		(CUresult(*)(CUdeviceptr *, size_t))dlsym(library, "cuMemAlloc_v2");
	CUresult (*look_up)(const char *, void **, int, cuuint64_t,
			    CUdriverProcAddressQueryResult *) =
		(CUresult(*)(const char *, void **, int, cuuint64_t,
			     CUdriverProcAddressQueryResult *))dlsym(library,
								     "cuGetProcAddress_v2");
	CUdriverProcAddressQueryResult status;
	CUdeviceptr first = 0, second = 0;
	double start;
	void *p;

	CHECK(alloc(&first, 1000) == CUDA_SUCCESS && alloc(&second, 1) == CUDA_SUCCESS);
	CHECK(second >= first + 1000);
	CHECK(look_up("cuMemAlloc", &p, 13000, 0, &status) == CUDA_SUCCESS);
	CHECK(p == dlsym(library, "cuMemAlloc_v2"));
	CHECK(look_up("cuMemAlloc", &p, 2000, 0, &status) == CUDA_SUCCESS);
	CHECK(p == dlsym(library, "cuMemAlloc"));
	CHECK(look_up("cuLaunchKernel", &p, 13000,
		      CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM,
		      &status) == CUDA_SUCCESS);
	CHECK(p == dlsym(library, "cuLaunchKernel_ptsz"));
	CHECK(look_up("cuNoSuchThing", &p, 13000, 0, &status) == CUDA_SUCCESS && !p &&
	      status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
	start = now_ms();
	for (int i = 0; i < CALLS; i++)
		alloc(&first, 512);
	/* 100 ns a call: twenty times what it takes, so that a busy machine does not
	 * matter. */
	CHECK(now_ms() - start < CALLS * 100.0 / 1e6);
}

static void check_one_device(void *cuda, void *nvml)
{
	CUresult (*uuid_of)(CUuuid *, CUdevice) =
		(CUresult(*)(CUuuid *, CUdevice))dlsym(cuda, "cuDeviceGetUuid_v2");
	CUresult (*info)(size_t *, size_t *) =
		(CUresult(*)(size_t *, size_t *))dlsym(cuda, "cuMemGetInfo_v2");
	nvmlReturn_t (*by_uuid)(const char *, nvmlDevice_t *) = (nvmlReturn_t(*)(
		const char *, nvmlDevice_t *))dlsym(nvml, "nvmlDeviceGetHandleByUUID");
	nvmlReturn_t (*memory_of)(nvmlDevice_t, nvmlMemory_t *) = (nvmlReturn_t(*)(
		nvmlDevice_t, nvmlMemory_t *))dlsym(nvml, "nvmlDeviceGetMemoryInfo");
	size_t free_bytes, total_bytes, at = 4;
	nvmlMemory_t memory;
	nvmlDevice_t device;
	char text[64] = "GPU-";
	CUuuid uuid;

	CHECK(uuid_of(&uuid, 0) == CUDA_SUCCESS);
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			text[at++] = '-';
		at += (size_t)snprintf(text + at, sizeof text - at, "%02x",
				       (unsigned int)(unsigned char)uuid.bytes[i]);
	}
	CHECK(by_uuid(text, &device) == NVML_SUCCESS);
	CHECK(memory_of(device, &memory) == NVML_SUCCESS);
	CHECK(info(&free_bytes, &total_bytes) == CUDA_SUCCESS);
	CHECK(memory.free == free_bytes && memory.total > total_bytes);
}

int main(int argc, char **argv)
{
	void *cuda = open_library("libcuda.so.1");
	CUresult (*init)(unsigned int) = (CUresult(*)(unsigned int))dlsym(cuda, "cuInit");
	double start = now_ms();

	CHECK(argc == 2);
	CHECK(init(0) == CUDA_SUCCESS && now_ms() - start >= 50);
	check_exports(cuda, argv[1]);
	check_calls(cuda);
	check_one_device(cuda, open_library("libnvidia-ml.so.1"));
	return 0;
}
