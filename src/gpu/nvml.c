/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu/gpu.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "gpu/nvml_table.h"

struct tr_nvml tr_nvml;

#define PROCESSES_MAX 2048

static const char *library;

void tr_gpu_library(const char *path)
{
	library = path;
}

static int load(struct tr_err *err)
{
	enum need { optional, required };
	static const struct {
		const char *name;
		enum need need;
		size_t offset;
	} rows[] = {
#define TR_NVML(symbol, need) { #symbol, need, offsetof(struct tr_nvml, symbol) },
#include "gpu/nvml.def"
#undef TR_NVML
	};

	tr_nvml.library = dlopen(library ? library : "libnvidia-ml.so.1",
				 RTLD_NOW | RTLD_LOCAL);
	if (!tr_nvml.library)
		return tr_fail(err, ENOENT, "no NVIDIA driver on this machine: %s",
			       dlerror());
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		void *symbol = dlsym(tr_nvml.library, rows[i].name);

		if (!symbol && rows[i].need == required)
			return tr_fail(err, ENODEV, "libnvidia-ml.so.1 has no %s",
				       rows[i].name);
		memcpy((char *)&tr_nvml + rows[i].offset, &symbol, sizeof(symbol));
	}
	return 0;
}

int tr_nvml_fail(struct tr_err *err, const char *what, nvmlReturn_t r)
{
	return tr_fail(err, ENODEV, "%s: NVML says %s", what, tr_nvml.nvmlErrorString(r));
}

static nvmlReturn_t usable_bytes(nvmlDevice_t device, uint64_t *total)
{
	nvmlMemory_v2_t v2 = { .version = nvmlMemory_v2 };
	nvmlMemory_t v1;
	nvmlReturn_t r;

	/* v1 counts what the driver keeps for itself as used; v2 tells it apart. */
	if (tr_nvml.nvmlDeviceGetMemoryInfo_v2 &&
	    tr_nvml.nvmlDeviceGetMemoryInfo_v2(device, &v2) == NVML_SUCCESS) {
		*total = v2.total - v2.reserved;
		return NVML_SUCCESS;
	}
	r = tr_nvml.nvmlDeviceGetMemoryInfo(device, &v1);
	*total = r == NVML_SUCCESS ? v1.total : 0;
	return r;
}

static int read_gpu(struct tr_gpu *gpu, unsigned at, bool must_have_memory,
		    struct tr_err *err)
{
	nvmlDevice_t device;
	nvmlReturn_t r = tr_nvml.nvmlDeviceGetHandleByIndex_v2(at, &device);

	gpu->index = at;
	if (r == NVML_SUCCESS)
		r = tr_nvml.nvmlDeviceGetUUID(device, gpu->uuid, sizeof(gpu->uuid));
	if (r == NVML_SUCCESS)
		r = tr_nvml.nvmlDeviceGetName(device, gpu->name, sizeof(gpu->name));
	if (r == NVML_SUCCESS)
		r = usable_bytes(device, &gpu->total_bytes);
	if (r == NVML_ERROR_NOT_SUPPORTED && !must_have_memory)
		r = NVML_SUCCESS;
	if (r != NVML_SUCCESS) {
		char what[32];

		(void)snprintf(what, sizeof(what), "device %u", at);
		return tr_nvml_fail(err, what, r);
	}
	if (tr_nvml.nvmlDeviceGetCudaComputeCapability)
		(void)tr_nvml.nvmlDeviceGetCudaComputeCapability(
			device, &gpu->compute_major, &gpu->compute_minor);
	return 0;
}

/* MISSING NULL: all of them must answer. */
static int open_gpus(struct tr_gpus *out, unsigned *missing, struct tr_err *err)
{
	unsigned count = 0;
	nvmlReturn_t r;
	int failed = load(err);

	memset(out, 0, sizeof(*out));
	if (failed < 0)
		return failed;
	r = tr_nvml.nvmlInit_v2();
	if (r == NVML_SUCCESS)
		r = tr_nvml.nvmlSystemGetDriverVersion(out->driver, sizeof(out->driver));
	if (r == NVML_SUCCESS)
		r = tr_nvml.nvmlDeviceGetCount_v2(&count);
	if (r != NVML_SUCCESS)
		return tr_nvml_fail(err, "the NVIDIA driver does not answer", r);
	if (count == 0)
		return tr_fail(err, ENODEV, "the NVIDIA driver has no device");
	for (unsigned i = 0; i < count && out->count < TR_GPUS_MAX; i++) {
		struct tr_gpu *gpu = &out->gpus[out->count];

		failed = read_gpu(gpu, i, !missing, err);
		if (failed < 0 && !missing)
			return failed;
		if (failed < 0) {
			*gpu = (struct tr_gpu){ 0 };
			++*missing;
		} else {
			out->count++;
		}
	}
	return 0;
}

int tr_gpu_open(struct tr_gpus *out, struct tr_err *err)
{
	return open_gpus(out, NULL, err);
}

int tr_gpu_open_most(struct tr_gpus *out, unsigned *missing, struct tr_err *err)
{
	*missing = 0;
	return open_gpus(out, missing, err);
}

void tr_gpu_close(void)
{
	if (tr_nvml.library) {
		if (tr_nvml.nvmlShutdown)
			(void)tr_nvml.nvmlShutdown();
		(void)dlclose(tr_nvml.library);
	}
	memset(&tr_nvml, 0, sizeof(tr_nvml));
}

/* v2 and v3 share one struct; v1 has no instance ids. Newest first. */
static nvmlReturn_t list_processes(nvmlDevice_t device, struct tr_gpu_process *rows,
				   unsigned *count)
{
	static nvmlProcessInfo_t v2[PROCESSES_MAX];
	static nvmlProcessInfo_v1_t v1[PROCESSES_MAX];
	bool is_v1 = !tr_nvml.nvmlDeviceGetComputeRunningProcesses_v3 &&
		     !tr_nvml.nvmlDeviceGetComputeRunningProcesses_v2;
	unsigned n = PROCESSES_MAX;
	nvmlReturn_t r = NVML_ERROR_NOT_SUPPORTED;

	if (tr_nvml.nvmlDeviceGetComputeRunningProcesses_v3)
		r = tr_nvml.nvmlDeviceGetComputeRunningProcesses_v3(device, &n, v2);
	else if (tr_nvml.nvmlDeviceGetComputeRunningProcesses_v2)
		r = tr_nvml.nvmlDeviceGetComputeRunningProcesses_v2(
			device, &n, (nvmlProcessInfo_v2_t *)v2);
	else if (tr_nvml.nvmlDeviceGetComputeRunningProcesses)
		r = tr_nvml.nvmlDeviceGetComputeRunningProcesses(device, &n, v1);
	if (r != NVML_SUCCESS)
		return r;
	if (n < *count)
		*count = n;
	for (unsigned i = 0; i < *count; i++)
		rows[i] = (struct tr_gpu_process){
			(pid_t)(is_v1 ? v1[i].pid : v2[i].pid),
			is_v1 ? v1[i].usedGpuMemory : v2[i].usedGpuMemory,
		};
	return NVML_SUCCESS;
}

int tr_gpu_processes(const char *uuid, struct tr_gpu_process *rows, size_t *count,
		     struct tr_err *err)
{
	unsigned n = *count > PROCESSES_MAX ? PROCESSES_MAX : (unsigned)*count, kept = 0;
	nvmlDevice_t device;
	nvmlReturn_t r = tr_nvml.nvmlDeviceGetHandleByUUID(uuid, &device);

	if (r == NVML_SUCCESS)
		r = list_processes(device, rows, &n);
	if (r == NVML_ERROR_NOT_SUPPORTED)
		return tr_fail(err, ENODATA, "%s: no process list on this driver", uuid);
	if (r != NVML_SUCCESS)
		return tr_nvml_fail(err, uuid, r);
	for (unsigned i = 0; i < n; i++)
		if (rows[i].bytes != UINT64_MAX /* not available */)
			rows[kept++] = rows[i];
	*count = kept;
	return 0;
}
