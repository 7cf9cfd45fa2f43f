/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which GPUs a process sees: "cuda UUID" for each device of the driver, "nvml UUID" for each of
 * NVML, in their order; "cuda refused CODE" or "nvml refused CODE" where none can be had. Linked
 * with nothing but libc.
 */
#include <dlfcn.h>
#include <stdio.h>

#include <cuda.h>
#include <nvml.h>

static int see_cuda(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	__typeof__(cuInit) *init = library ? dlsym(library, "cuInit") : NULL;
	__typeof__(cuDeviceGetCount) *get_count =
		library ? dlsym(library, "cuDeviceGetCount") : NULL;
	__typeof__(cuDeviceGetUuid_v2) *get_uuid =
		library ? dlsym(library, "cuDeviceGetUuid_v2") : NULL;
	CUuuid uuid;
	CUresult r;
	int count = 0;

	if (!init || !get_count || !get_uuid)
		return puts("cuda missing");
	r = init(0);
	if (r == CUDA_SUCCESS)
		r = get_count(&count);
	if (r != CUDA_SUCCESS)
		return printf("cuda refused %d\n", (int)r);
	for (int i = 0; i < count && get_uuid(&uuid, i) == CUDA_SUCCESS; i++) {
		(void)printf("cuda GPU");
		for (int k = 0; k < 16; k++)
			(void)printf("%s%02x",
				     k == 0 || k == 4 || k == 6 || k == 8 || k == 10 ? "-"
										     : "",
				     (unsigned char)uuid.bytes[k]);
		(void)puts("");
	}
	return 0;
}

static int see_nvml(void)
{
	void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	__typeof__(nvmlInit_v2) *init = library ? dlsym(library, "nvmlInit_v2") : NULL;
	__typeof__(nvmlDeviceGetCount_v2) *get_count =
		library ? dlsym(library, "nvmlDeviceGetCount_v2") : NULL;
	__typeof__(nvmlDeviceGetHandleByIndex_v2) *get_handle =
		library ? dlsym(library, "nvmlDeviceGetHandleByIndex_v2") : NULL;
	__typeof__(nvmlDeviceGetUUID) *get_uuid =
		library ? dlsym(library, "nvmlDeviceGetUUID") : NULL;
	unsigned int count = 0;
	nvmlDevice_t device;
	nvmlReturn_t r;
	char uuid[96];

	if (!init || !get_count || !get_handle || !get_uuid)
		return puts("nvml missing");
	r = init();
	if (r == NVML_SUCCESS)
		r = get_count(&count);
	if (r != NVML_SUCCESS)
		return printf("nvml refused %d\n", (int)r);
	for (unsigned int i = 0; i < count; i++)
		if (get_handle(i, &device) == NVML_SUCCESS &&
		    get_uuid(device, uuid, sizeof(uuid)) == NVML_SUCCESS)
			(void)printf("nvml %s\n", uuid);
	return 0;
}

int main(void)
{
	(void)see_cuda();
	(void)see_nvml();
	return 0;
}
