/* SPDX-License-Identifier: Apache-2.0 */
/* A driver of version ARGUMENT has what came up to it, by dlsym and by cuGetProcAddress,
 * and nothing newer. */
#include <dlfcn.h>
#include <string.h>

#include "check.h"

/* From the driver's typedef headers. */
static const struct known {
	const char *symbol;
	const char *base;
	int version;
} known[] = {
	{ "cuInit", "cuInit", 2000 },
	{ "cuMemAlloc", "cuMemAlloc", 2000 },
	{ "cuMemAlloc_v2", "cuMemAlloc", 3020 },
	{ "cuLaunchKernel_ptsz", "cuLaunchKernel", 7000 },
	{ "cuMemCreate", "cuMemCreate", 10020 },
	{ "cuDevicePrimaryCtxRelease_v2", "cuDevicePrimaryCtxRelease", 11000 },
	{ "cuMemAllocAsync", "cuMemAllocAsync", 11020 },
	{ "cuMemAllocAsync_ptsz", "cuMemAllocAsync", 11020 },
	{ "cuGetProcAddress", "cuGetProcAddress", 11030 },
	{ "cuCtxCreate_v3", "cuCtxCreate", 11040 },
	{ "cuGraphAddMemAllocNode", "cuGraphAddMemAllocNode", 11040 },
	{ "cuLaunchKernelEx", "cuLaunchKernelEx", 11060 },
	{ "cuGetProcAddress_v2", "cuGetProcAddress", 12000 },
	{ "cuLibraryLoadData", "cuLibraryLoadData", 12000 },
	{ "cuMemAdvise_v2", "cuMemAdvise", 12020 },
	{ "cuGreenCtxCreate", "cuGreenCtxCreate", 12040 },
	{ "cuCtxCreate_v4", "cuCtxCreate", 12050 },
	{ "cuCtxSynchronize_v2", "cuCtxSynchronize", 13000 },
	{ "cuFabricCpyBatchAsync", "cuFabricCpyBatchAsync", 13050 },
	{ "cuFutureThing", "cuFutureThing", 14000 },
	{ "cuMemAlloc_v3", "cuMemAlloc", 14000 },
	{ "cuFutureAllocAsync_ptsz", "cuFutureAllocAsync", 14010 },
};

typedef CUresult (*look_up_4)(const char *, void **, int, cuuint64_t);
typedef CUresult (*look_up_5)(const char *, void **, int, cuuint64_t,
			      CUdriverProcAddressQueryResult *);

static void *look_up(void *library, const char *base, int version, cuuint64_t flags)
{
	look_up_5 five = (look_up_5)dlsym(library, "cuGetProcAddress_v2");
	look_up_4 four = (look_up_4)dlsym(library, "cuGetProcAddress");
	void *p = NULL;

	if (five)
		SUCCEEDS(five(base, &p, version, flags, NULL));
	else
		four(base, &p, version, flags);
	return p;
}

static void check_future(void *library)
{
	CUresult (*init)(unsigned int) = (CUresult(*)(unsigned int))dlsym(library,
									  "cuInit");
	CUresult (*thing)(int *) = (CUresult(*)(int *))dlsym(library, "cuFutureThing");
	CUresult (*table)(const void **, const CUuuid *) = (CUresult(*)(
		const void **, const CUuuid *))dlsym(library, "cuGetExportTable");
	const CUuuid id = { "sim-future-table" }, other = { "something else.." };
	const void *found = NULL;
	int answer = 0;

	SUCCEEDS(init(0));
	SUCCEEDS(thing(&answer));
	CHECK(answer == 42);
	SUCCEEDS(table(&found, &id));
	CHECK(found && *(const size_t *)found == 3 * sizeof(void *));
	ANSWERS(CUDA_ERROR_NOT_FOUND, table(&found, &other));
	CHECK(found == NULL);
}

int main(int argc, char **argv)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW);
	int (*tell)(int *);
	int want, driver = 0;

	CHECK(argc == 2 && library);
	want = atoi(argv[1]);
	tell = (int (*)(int *))dlsym(library, "cuDriverGetVersion");
	CHECK(tell && tell(&driver) == 0 && driver == want);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		const struct known *k = &known[i];
		void *p = dlsym(library, k->symbol);
		cuuint64_t flags = strstr(k->symbol, "_pt") ? 2 : 0;

		if ((p != NULL) != (k->version <= want)) {
			fprintf(stderr, "dlsym: %s (%d) in driver %d\n", k->symbol,
				k->version, want);
			return 1;
		}
		if (p && want >= 11030)
			CHECK(look_up(library, k->base, k->version, flags) == p);
		if (!p && want >= 11030)
			CHECK(look_up(library, k->base, want, flags) != (void *)1 &&
			      (strcmp(k->symbol, k->base) != 0 ||
			       !look_up(library, k->base, want, flags)));
	}
	if (want > 14000)
		check_future(library);
	return 0;
}
