/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another preloaded library: counts cuMemAlloc_v2 and malloc on their way, as profilers do.
 * Built as NAME; with WRAP_DLSYM it stands before dlsym too.
 */
#include <dlfcn.h>
#include <stddef.h>

#include <cuda.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)

extern int JOIN(NAME, _calls), JOIN(NAME, _mallocs), JOIN(NAME, _lookups);
int JOIN(NAME, _calls), JOIN(NAME, _mallocs), JOIN(NAME, _lookups);

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes)
{
	static CUresult (*next)(CUdeviceptr *, size_t);

	JOIN(NAME, _calls)++;
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "cuMemAlloc_v2");
	return next ? next(out, bytes) : CUDA_ERROR_NOT_INITIALIZED;
}

void *malloc(size_t bytes)
{
	static void *(*next)(size_t);

	JOIN(NAME, _mallocs)++;
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "malloc");
	return next(bytes);
}

#ifdef WRAP_DLSYM
void *dlsym(void *handle, const char *name)
{
	static void *(*next)(void *, const char *);

	if (!next)
		*(void **)&next = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
	if (!next)
		*(void **)&next = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
	if (!next)
		*(void **)&next = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.17");
	JOIN(NAME, _lookups)++;
	return next(handle, name);
}
#endif
