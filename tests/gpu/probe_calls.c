/* SPDX-License-Identifier: Apache-2.0 */
/* What must be the same with and without the hook: results and outputs, right and wrong calls; the
 * limit; what a killed process leaves; what calls cost. */
#include "probe.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK   (64 * MIB)
#define CHUNKS  4096
#define WAIT_NS 20000000000ull

static void wrong_calls(void)
{
	CUdeviceptr p = 7;
	CUmemGenericAllocationHandle handle = 7;
	CUmemAllocationProp prop = { 0 };
	size_t bytes = 7;
	CUarray array = NULL;
	int n = -1;

	probe_say("same.init_flags", (int)drv.cuInit(1), " ");
	probe_say("same.alloc_zero", (int)drv.cuMemAlloc_v2(&p, 0), "%llu", p);
	probe_say("same.alloc_null", (int)drv.cuMemAlloc_v2(NULL, 512), " ");
	probe_say("same.free_null", (int)drv.cuMemFree_v2(0), " ");
	probe_say("same.free_unknown", (int)drv.cuMemFree_v2(0x1234), " ");
	probe_say("same.range_unknown",
		  (int)drv.cuMemGetAddressRange_v2(&p, &bytes, 0x1234), " ");
	probe_say("same.pitch_zero", (int)drv.cuMemAllocPitch_v2(&p, &bytes, 0, 0, 4), " ");
	probe_say("same.managed_flags", (int)drv.cuMemAllocManaged(&p, 4096, 99), " ");
	probe_say("same.create_bad", (int)drv.cuMemCreate(&handle, 1, &prop, 0), " ");
	probe_say("same.release_bad", (int)drv.cuMemRelease(0x1234567), " ");
	probe_say("same.array_null", (int)drv.cuArrayCreate_v2(&array, NULL), " ");
	probe_say("same.info_null", (int)drv.cuMemGetInfo_v2(NULL, NULL), " ");
	probe_say("same.device_bad", (int)drv.cuDeviceGet(&n, 999), "%d", n);
	probe_say("same.context_none", (int)drv.cuCtxSetCurrent(NULL), " ");
	probe_say("same.alloc_no_context", (int)drv.cuMemAlloc_v2(&p, 512), " ");
}

void probe_calls(void)
{
	unsigned char there[64] = { 0 }, back[64] = { 0 };
	CUdeviceptr p = 0, base = 0;
	CUmodule module = NULL;
	CUfunction function = NULL;
	size_t bytes = 0, pitch = 0;
	CUresult r;
	int n = 0;

	r = drv.cuMemAlloc_v2(&p, 512);
	probe_say("same.before_init", (int)r, " ");
	probe_start();
	r = drv.cuDeviceGetCount(&n);
	probe_say("same.count", (int)r, "%d", n);
	r = drv.cuMemAlloc_v2(&p, 1000);
	probe_say("same.alloc", (int)r, "aligned %d", p % 512 == 0);
	r = drv.cuMemGetAddressRange_v2(&base, &bytes, p + 10);
	probe_say("same.range", (int)r, "%d %zu", base == p, bytes);
	memset(there, 0x5a, sizeof(there));
	r = drv.cuMemcpyHtoD_v2(p, there, sizeof(there));
	probe_say("same.there", (int)r, " ");
	r = drv.cuMemsetD8_v2(p + 1, 7, 2);
	probe_say("same.set", (int)r, " ");
	r = drv.cuMemcpyDtoH_v2(back, p, sizeof(back));
	probe_say("same.back", (int)r, "%d %d %d %d", back[0], back[1], back[2], back[3]);
	probe_say("same.free", (int)drv.cuMemFree_v2(p), " ");
	probe_say("same.free_twice", (int)drv.cuMemFree_v2(p), " ");
	r = drv.cuMemAllocPitch_v2(&p, &pitch, 1000, 10, 4);
	probe_say("same.pitch", (int)r, "%zu", pitch);
	probe_say("same.pitch_free", (int)drv.cuMemFree_v2(p), " ");
	r = drv.cuModuleLoadData(&module, probe_kernel);
	probe_say("same.module", (int)r, " ");
	r = drv.cuModuleGetFunction(&function, module, "nothing");
	probe_say("same.function", (int)r, " ");
	r = drv.cuModuleGetFunction(&function, module, "absent");
	probe_say("same.function_absent", (int)r, " ");
	r = drv.cuModuleGetFunction(&function, module, "nothing");
	r = r ? r : drv.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
	probe_say("same.launch", (int)r, " ");
	probe_say("same.synchronize", (int)drv.cuCtxSynchronize(), " ");
	probe_say("same.unload", (int)drv.cuModuleUnload(module), " ");
	wrong_calls();
}

/* Fills the slice with pieces of SIZE. How many. */
static unsigned fill(CUdeviceptr *pieces, unsigned room, size_t size, CUresult *last)
{
	unsigned n = 0;

	while (n < room && (*last = drv.cuMemAlloc_v2(&pieces[n], size)) == CUDA_SUCCESS)
		n++;
	return n;
}

void probe_limits(uint64_t limit_bytes)
{
	static CUdeviceptr big[CHUNKS], small[CHUNKS];
	size_t free_bytes = 0, total_bytes = 0, device_bytes = 0;
	unsigned bigs, smalls;
	CUresult last = CUDA_SUCCESS;
	uint64_t sum;

	probe_start();
	drv.cuMemGetInfo_v2(&free_bytes, &total_bytes);
	drv.cuDeviceTotalMem_v2(&device_bytes, 0);
	probe_say("limits.told_total", total_bytes == limit_bytes ? 0 : 1, "%zu",
		  total_bytes);
	probe_say("limits.told_device", device_bytes == limit_bytes ? 0 : 1, "%zu",
		  device_bytes);
	bigs = fill(big, CHUNKS, CHUNK, &last);
	probe_say("limits.refusal", last == CUDA_ERROR_OUT_OF_MEMORY ? 0 : 1, "error %d",
		  (int)last);
	smalls = fill(small, CHUNKS, MIB, &last);
	sum = (uint64_t)bigs * CHUNK + (uint64_t)smalls * MIB;
	probe_say("limits.within", sum <= limit_bytes ? 0 : 1, "%llu",
		  (unsigned long long)sum);
	/* All that is told to be free can be had: nothing is lost but less than a piece. */
	probe_say("limits.exhausted", probe_cuda_free_bytes() < MIB ? 0 : 1, "%llu",
		  (unsigned long long)probe_cuda_free_bytes());
	probe_say("limits.had_what_was_told",
		  sum <= free_bytes && free_bytes - sum < MIB ? 0 : 1, "%llu of %zu",
		  (unsigned long long)sum, free_bytes);
	if (bigs > 0) {
		drv.cuMemFree_v2(big[--bigs]);
		last = drv.cuMemAlloc_v2(&big[bigs], CHUNK);
	}
	probe_say("limits.again", (int)last, " ");
	probe_say("limits.nvml", probe_nvml_used_bytes() <= limit_bytes ? 0 : 1, "%llu",
		  (unsigned long long)probe_nvml_used_bytes());
}

/* E8: from SIGKILL until the memory is back, as NVML and as CUDA tell it. */
static _Noreturn void victim(int ready, uint64_t bytes)
{
	char byte = 0;
	CUdeviceptr p;

	probe_open();
	probe_start();
	for (uint64_t had = 0; had < bytes; had += CHUNK)
		if (drv.cuMemAlloc_v2(&p, CHUNK) != CUDA_SUCCESS)
			_exit(1);
	if (write(ready, &byte, 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

void probe_kill(uint64_t bytes)
{
	uint64_t began_ns, nvml_ns = 0, cuda_ns = 0, now_ns, nvml_full, cuda_full;
	int ends[2];
	pid_t pid;
	char byte;

	if (pipe(ends) < 0)
		exit(1);
	pid = fork();
	if (pid == 0)
		victim(ends[1], bytes);
	close(ends[1]);
	probe_open();
	probe_start();
	if (read(ends[0], &byte, 1) != 1) {
		fprintf(stderr, "gpu_probe: no %llu bytes to be had\n",
			(unsigned long long)bytes);
		exit(1);
	}
	nvml_full = probe_nvml_used_bytes();
	cuda_full = probe_cuda_free_bytes();
	began_ns = probe_now_ns();
	kill(pid, SIGKILL);
	do {
		now_ns = probe_now_ns() - began_ns;
		if (!nvml_ns && probe_nvml_used_bytes() + bytes <= nvml_full)
			nvml_ns = now_ns + 1;
		if (!cuda_ns && probe_cuda_free_bytes() >= cuda_full + bytes)
			cuda_ns = now_ns + 1;
	} while ((!nvml_ns || !cuda_ns) && now_ns < WAIT_NS);
	waitpid(pid, NULL, 0);
	probe_say("kill.nvml_back_us", nvml_ns ? 0 : 1, "%llu",
		  (unsigned long long)nvml_ns / 1000);
	probe_say("kill.cuda_back_us", cuda_ns ? 0 : 1, "%llu",
		  (unsigned long long)cuda_ns / 1000);
}
