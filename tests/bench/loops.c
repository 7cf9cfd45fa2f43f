/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that are measured. Linked to the driver's libraries as any application is. */
#include "loops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cuda.h>
#include <nvml.h>

#define PAIR_BYTES  512
#define SYNC_EVERY  512 /* launches; a real device has a queue */
#define ASYNC_BYTES (1u << 20)

static CUcontext context;
static CUfunction function;
static nvmlDevice_t nvml_device;

/* As the application gets it by the runtime's way of looking up. */
static CUresult (*looked_up_launch)(CUfunction, unsigned, unsigned, unsigned, unsigned,
				    unsigned, unsigned, unsigned, CUstream, void **,
				    void **);

static const char kernel[] = ".version 6.4\n.target sm_70\n.address_size 64\n"
			     ".visible .entry nothing()\n{\n\tret;\n}\n";

_Noreturn void bench_fail(const char *what, int code)
{
	fprintf(stderr, "bench: %s answers %d\n", what, code);
	exit(1);
}

static void must(CUresult r, const char *what)
{
	if (r != CUDA_SUCCESS)
		bench_fail(what, (int)r);
}

uint64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_driver_start(void)
{
	CUdevice device;

	must(cuInit(0), "cuInit");
	must(cuDeviceGet(&device, 0), "cuDeviceGet");
	must(cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
	must(cuCtxSetCurrent(context), "cuCtxSetCurrent");
}

void bench_driver_join(void)
{
	must(cuCtxSetCurrent(context), "cuCtxSetCurrent");
}

void bench_live_make(unsigned long n)
{
	CUdeviceptr p;

	while (n-- > 0)
		must(cuMemAlloc(&p, PAIR_BYTES), "cuMemAlloc");
}

void bench_uuid_print(void)
{
	CUdevice device;
	CUuuid id;

	must(cuInit(0), "cuInit");
	must(cuDeviceGet(&device, 0), "cuDeviceGet");
	must(cuDeviceGetUuid(&id, device), "cuDeviceGetUuid");
	printf("GPU-");
	for (int i = 0; i < 16; i++)
		printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
		       (unsigned char)id.bytes[i]);
	printf("\n");
}

static void prepare_launch(void)
{
	CUdriverProcAddressQueryResult status;
	CUmodule module;
	void *found = NULL;

	bench_driver_start();
	must(cuModuleLoadData(&module, kernel), "cuModuleLoadData");
	must(cuModuleGetFunction(&function, module, "nothing"), "cuModuleGetFunction");
	must(cuGetProcAddress("cuLaunchKernel", &found, 12000, 0, &status),
	     "cuGetProcAddress");
	memcpy(&looked_up_launch, &found, sizeof(found));
	if (!found)
		bench_fail("cuGetProcAddress(cuLaunchKernel)", 0);
}

static void launch_looked_up(unsigned long n)
{
	CUresult r = CUDA_SUCCESS;

	for (unsigned long i = 1; i <= n && r == CUDA_SUCCESS; i++) {
		r = looked_up_launch(function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
		if (i % SYNC_EVERY == 0)
			cuCtxSynchronize();
	}
	must(r, "cuLaunchKernel");
}

static void launch_symbol(unsigned long n)
{
	CUresult r = CUDA_SUCCESS;

	for (unsigned long i = 1; i <= n && r == CUDA_SUCCESS; i++) {
		r = cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
		if (i % SYNC_EVERY == 0)
			cuCtxSynchronize();
	}
	must(r, "cuLaunchKernel");
}

static void pair(unsigned long n)
{
	CUresult r = CUDA_SUCCESS;
	CUdeviceptr p;

	while (n-- > 0 && r == CUDA_SUCCESS) {
		r = cuMemAlloc(&p, PAIR_BYTES);
		if (r == CUDA_SUCCESS)
			r = cuMemFree(p);
	}
	must(r, "cuMemAlloc or cuMemFree");
}

static void async_pair(unsigned long n)
{
	CUresult r = CUDA_SUCCESS;
	CUdeviceptr p;

	while (n-- > 0 && r == CUDA_SUCCESS) {
		r = cuMemAllocAsync(&p, ASYNC_BYTES, NULL);
		if (r == CUDA_SUCCESS)
			r = cuMemFreeAsync(p, NULL);
	}
	must(r, "cuMemAllocAsync or cuMemFreeAsync");
}

/* A reserve that is never given back, with room for one allocation. */
static void prepare_async(void)
{
	cuuint64_t keep = UINT64_MAX;
	CUmemoryPool pool;

	bench_driver_start();
	must(cuDeviceGetDefaultMemPool(&pool, 0), "cuDeviceGetDefaultMemPool");
	must(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep),
	     "cuMemPoolSetAttribute");
	async_pair(16);
	must(cuCtxSynchronize(), "cuCtxSynchronize");
}

static void told_cuda(unsigned long n)
{
	size_t free_bytes, total_bytes;
	CUresult r = CUDA_SUCCESS;

	while (n-- > 0 && r == CUDA_SUCCESS)
		r = cuMemGetInfo(&free_bytes, &total_bytes);
	must(r, "cuMemGetInfo");
}

static void prepare_nvml(void)
{
	nvmlReturn_t r = nvmlInit();

	bench_driver_start();
	if (r == NVML_SUCCESS)
		r = nvmlDeviceGetHandleByIndex(0, &nvml_device);
	if (r != NVML_SUCCESS)
		bench_fail("nvmlDeviceGetHandleByIndex", (int)r);
}

static void told_nvml(unsigned long n)
{
	nvmlReturn_t r = NVML_SUCCESS;
	nvmlMemory_t memory;

	while (n-- > 0 && r == NVML_SUCCESS)
		r = nvmlDeviceGetMemoryInfo(nvml_device, &memory);
	if (r != NVML_SUCCESS)
		bench_fail("nvmlDeviceGetMemoryInfo", (int)r);
}

static void told_nvml2(unsigned long n)
{
	nvmlReturn_t r = NVML_SUCCESS;
	nvmlMemory_v2_t memory = { .version = nvmlMemory_v2 };

	while (n-- > 0 && r == NVML_SUCCESS)
		r = nvmlDeviceGetMemoryInfo_v2(nvml_device, &memory);
	if (r != NVML_SUCCESS)
		bench_fail("nvmlDeviceGetMemoryInfo_v2", (int)r);
}

static void nothing_before(void)
{
}

static void init(unsigned long n)
{
	while (n-- > 0)
		must(cuInit(0), "cuInit");
}

static const struct bench_loop loops[] = {
	{ "launch_lookup", prepare_launch, launch_looked_up },
	{ "launch_symbol", prepare_launch, launch_symbol },
	{ "pair", bench_driver_start, pair },
	{ "async", prepare_async, async_pair },
	{ "told_cuda", bench_driver_start, told_cuda },
	{ "told_nvml", prepare_nvml, told_nvml },
	{ "told_nvml2", prepare_nvml, told_nvml2 },
	{ "init", nothing_before, init },
};

const struct bench_loop *bench_loop_find(const char *name)
{
	for (size_t i = 0; i < sizeof(loops) / sizeof(*loops); i++)
		if (strcmp(loops[i].name, name) == 0)
			return &loops[i];
	fprintf(stderr, "bench: no loop is called \"%s\"\n", name);
	exit(2);
}
