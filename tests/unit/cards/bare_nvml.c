/* SPDX-License-Identifier: Apache-2.0 */
/* An NVML with nothing but what has always been there: the rest of the simulated one is not exported. */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <dlfcn.h>
#include <nvml.h>
#include <stdlib.h>
#include <string.h>

static void *real(const char *name)
{
	void *found = dlsym(dlopen(SIM_NVML, RTLD_NOW | RTLD_LOCAL), name);

	if (!found)
		abort();
	return found;
}

#define BARE(type, name, params, args)                          \
	__attribute__((visibility("default"))) type name params \
	{                                                       \
		__typeof__(name) *it;                           \
		void *found = real(#name);                      \
                                                                \
		memcpy(&it, &found, sizeof(it));                \
		return it args;                                 \
	}

BARE(nvmlReturn_t, nvmlInit_v2, (void), ())
BARE(nvmlReturn_t, nvmlShutdown, (void), ())
BARE(const char *, nvmlErrorString, (nvmlReturn_t r), (r))
BARE(nvmlReturn_t, nvmlSystemGetDriverVersion, (char *out, unsigned n), (out, n))
BARE(nvmlReturn_t, nvmlDeviceGetCount_v2, (unsigned *out), (out))
BARE(nvmlReturn_t, nvmlDeviceGetHandleByIndex_v2, (unsigned i, nvmlDevice_t *out), (i, out))
BARE(nvmlReturn_t, nvmlDeviceGetHandleByUUID, (const char *uuid, nvmlDevice_t *out),
     (uuid, out))
BARE(nvmlReturn_t, nvmlDeviceGetUUID, (nvmlDevice_t d, char *out, unsigned n), (d, out, n))
BARE(nvmlReturn_t, nvmlDeviceGetName, (nvmlDevice_t d, char *out, unsigned n), (d, out, n))
BARE(nvmlReturn_t, nvmlDeviceGetMemoryInfo, (nvmlDevice_t d, nvmlMemory_t *out), (d, out))
