/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader local|global|deepbind|reopen|ctypes|dlmopen|libc|libc_version: ways to open a driver,
 * and to look it up: the last two take dlsym itself from libc. Each ends in a slice of 1
 * GiB, but dlmopen: a namespace of its own is beyond a preloaded library, and must only
 * work.
 */
#include <dlfcn.h>
#include <string.h>

#include "check.h"

typedef CUresult init_fn(unsigned);
typedef CUresult get_fn(CUdevice *, int);
typedef CUresult retain_fn(CUcontext *, CUdevice);
typedef CUresult current_fn(CUcontext);
typedef CUresult info_fn(size_t *, size_t *);
typedef CUresult proc_fn(const char *, void **, int, cuuint64_t);

static void *(*look_up)(void *, const char *) = dlsym;

static void *find(void *handle, const char *name)
{
	void *found = look_up(handle, name);

	CHECK(found);
	return found;
}

static size_t use(void *driver)
{
	size_t free_bytes, total_bytes, again;
	void *info = NULL;
	CUcontext ctx;
	CUdevice dev;

	OK(((init_fn *)find(driver, "cuInit"))(0));
	OK(((get_fn *)find(driver, "cuDeviceGet"))(&dev, 0));
	OK(((retain_fn *)find(driver, "cuDevicePrimaryCtxRetain"))(&ctx, dev));
	OK(((current_fn *)find(driver, "cuCtxSetCurrent"))(ctx));
	OK(((info_fn *)find(driver, "cuMemGetInfo_v2"))(&free_bytes, &total_bytes));
	OK(((proc_fn *)find(driver, "cuGetProcAddress"))("cuMemGetInfo", &info, 12000, 0));
	OK(((info_fn *)info)(&free_bytes, &again));
	CHECK(again == total_bytes);
	return total_bytes;
}

static void take_from_libc(const char *version)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), *found;

	CHECK(libc);
	found = version ? dlvsym(libc, "dlsym", version) : dlsym(libc, "dlsym");
	if (!found)
		SKIP("dlsym is in a library of its own here");
	*(void **)&look_up = found;
}

int main(int argc, char **argv)
{
	const char *how = argc == 2 ? argv[1] : "";
	int flags = RTLD_NOW | RTLD_LOCAL;
	void *driver;

	if (strcmp(how, "global") == 0)
		flags = RTLD_NOW | RTLD_GLOBAL;
	else if (strcmp(how, "deepbind") == 0)
		flags = RTLD_NOW | RTLD_DEEPBIND;
	else if (strcmp(how, "ctypes") == 0)
		flags = RTLD_LAZY;
	if (strcmp(how, "libc") == 0)
		take_from_libc(NULL);
	else if (strcmp(how, "libc_version") == 0)
		take_from_libc("GLIBC_2.34");
	if (strcmp(how, "dlmopen") == 0) {
		driver = dlmopen(LM_ID_NEWLM, "libcuda.so.1", RTLD_NOW);
		if (!driver)
			SKIP(dlerror());
		CHECK(use(driver) >= 1024 * MIB);
		return 0;
	}
	CHECK(!dlsym(RTLD_DEFAULT, "cuInit") && !dlsym(RTLD_NEXT, "cuInit"));
	driver = dlopen("libcuda.so.1", flags);
	CHECK(driver);
	CHECK_RESULT(use(driver), 1024 * MIB);
	if (strcmp(how, "global") == 0) {
		CHECK(dlsym(RTLD_DEFAULT, "cuInit") && dlsym(RTLD_NEXT, "cuInit"));
		CHECK_RESULT(use(RTLD_DEFAULT), 1024 * MIB);
	} else {
		CHECK(!dlsym(RTLD_DEFAULT, "cuInit") && !dlsym(RTLD_NEXT, "cuInit"));
	}
	if (strcmp(how, "reopen") == 0) {
		CHECK(dlclose(driver) == 0);
		driver = dlopen("libcuda.so.1", flags);
		CHECK(driver);
		CHECK_RESULT(use(driver), 1024 * MIB);
	}
	return 0;
}
