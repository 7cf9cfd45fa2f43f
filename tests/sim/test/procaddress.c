/* SPDX-License-Identifier: Apache-2.0 */
/* cuGetProcAddress finds the ABI that was asked for. Argument: what cudart looks up,
 * recorded. */
#include <dlfcn.h>
#include <string.h>

#include "check.h"

typedef CUresult (*look_up_5)(const char *, void **, int, cuuint64_t,
			      CUdriverProcAddressQueryResult *);
typedef CUresult (*look_up_4)(const char *, void **, int, cuuint64_t);

static void *library;
static look_up_5 look_up;
static int driver;

static void *symbol(const char *name)
{
	void *p = dlsym(library, name);

	CHECK(p);
	return p;
}

static void expect(const char *base, int version, cuuint64_t flags, const char *name)
{
	CUdriverProcAddressQueryResult status = (CUdriverProcAddressQueryResult)77;
	void *p = NULL;

	SUCCEEDS(look_up(base, &p, version, flags, &status));
	if (p != symbol(name) || status != CU_GET_PROC_ADDRESS_SUCCESS) {
		fprintf(stderr, "%s %d %d is not %s\n", base, version, (int)flags, name);
		exit(1);
	}
}

static void expect_none(const char *base, int version, CUdriverProcAddressQueryResult want)
{
	CUdriverProcAddressQueryResult status = (CUdriverProcAddressQueryResult)77;
	void *p = &p;

	SUCCEEDS(look_up(base, &p, version, 0, &status));
	CHECK(p == NULL && status == want);
	p = &p;
	SUCCEEDS(look_up(base, &p, version, 0, NULL));
	CHECK(p == NULL);
}

static void check_versions(void)
{
	expect("cuMemAlloc", 2000, 0, "cuMemAlloc");
	expect("cuMemAlloc", 3010, 0, "cuMemAlloc");
	expect("cuMemAlloc", 3020, 0, "cuMemAlloc_v2");
	expect("cuMemAlloc", driver, 0, "cuMemAlloc_v2");
	expect("cuCtxCreate", 2000, 0, "cuCtxCreate");
	expect("cuCtxCreate", 11030, 0, "cuCtxCreate_v2");
	expect("cuCtxCreate", 12040, 0, "cuCtxCreate_v3");
	expect("cuCtxCreate", 12050, 0, "cuCtxCreate_v4");
	expect("cuMemAdvise", 8000, 0, "cuMemAdvise");
	expect("cuMemAdvise", 12010, 0, "cuMemAdvise");
	expect("cuMemAdvise", 12020, 0, "cuMemAdvise_v2");
	expect("cuGraphInstantiate", 10000, 0, "cuGraphInstantiate");
	expect("cuGraphInstantiate", 11000, 0, "cuGraphInstantiate_v2");
	expect("cuGetProcAddress", 11030, 0, "cuGetProcAddress");
	expect("cuGetProcAddress", 11080, 0, "cuGetProcAddress");
	expect("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2");
	expect("cuProfilerStart", 4000, 0, "cuProfilerStart");
}

static void check_flags(void)
{
	const cuuint64_t legacy = CU_GET_PROC_ADDRESS_LEGACY_STREAM;
	const cuuint64_t own = CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;

	expect("cuLaunchKernel", 7000, 0, "cuLaunchKernel");
	expect("cuLaunchKernel", 7000, legacy, "cuLaunchKernel");
	expect("cuLaunchKernel", 7000, own, "cuLaunchKernel_ptsz");
	expect("cuLaunchKernel", 4000, own, "cuLaunchKernel");
	expect("cuMemcpyHtoD", 7000, own, "cuMemcpyHtoD_v2_ptds");
	expect("cuMemcpyHtoD", 3020, legacy, "cuMemcpyHtoD_v2");
	expect("cuMemPrefetchAsync", 8000, own, "cuMemPrefetchAsync_ptsz");
	expect("cuMemPrefetchAsync", 12020, own, "cuMemPrefetchAsync_v2_ptsz");
	expect("cuStreamBeginCapture", 10000, own, "cuStreamBeginCapture_ptsz");
	expect("cuStreamBeginCapture", 10010, own, "cuStreamBeginCapture_v2_ptsz");
	expect("cuMemAlloc", 3020, own, "cuMemAlloc_v2"); /* has no twin */
}

static void check_refusals(void)
{
	look_up_4 old = (look_up_4)symbol("cuGetProcAddress");
	CUdriverProcAddressQueryResult status;
	void *p = NULL;

	expect_none("", 0, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
	expect_none("cuNoSuchThing", 12000, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
	expect_none("cuMemAlloc_v2", 12000, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
	expect_none("cuLaunchKernel_ptsz", 12000, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
	expect_none("cuFutureThing", driver, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
	expect_none("cuMemAllocAsync", 11010, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
	expect_none("cuMemAlloc", 1000, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
	ANSWERS(CUDA_ERROR_INVALID_VALUE, look_up(NULL, &p, 12000, 0, &status));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, look_up("cuInit", NULL, 12000, 0, &status));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, look_up("cuInit", &p, 12000, 4, &status));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, look_up("cuInit", &p, driver + 10, 0, &status));

	ANSWERS(CUDA_ERROR_NOT_FOUND, old("cuNoSuchThing", &p, 11030, 0));
	CHECK(p == NULL);
	ANSWERS(CUDA_ERROR_NOT_FOUND, old("cuMemAllocAsync", &p, 11010, 0));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, old(NULL, &p, 11030, 0));
	SUCCEEDS(old("cuMemAlloc", &p, 11030, 0));
	CHECK(p == symbol("cuMemAlloc_v2"));
}

/* Every name in the recording that this driver knows is found, and is an export of that
 * name. */
static int replay(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[256], base[128];
	int version, count = 0;
	unsigned int flags;

	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		CUdriverProcAddressQueryResult status;
		Dl_info info;
		void *p = NULL;

		if (sscanf(line, "cu%125s %d %u", base + 2, &version, &flags) != 3)
			continue;
		memcpy(base, "cu", 2);
		SUCCEEDS(look_up(base, &p, version, flags, NULL));
		SUCCEEDS(look_up(base, &p, version, flags, &status));
		CHECK(p && status == CU_GET_PROC_ADDRESS_SUCCESS);
		CHECK(dladdr(p, &info) && info.dli_sname && info.dli_saddr == p);
		CHECK(strncmp(info.dli_sname, base, strlen(base)) == 0);
		CHECK(p == symbol(info.dli_sname));
		count++;
	}
	fclose(file);
	return count;
}

int main(int argc, char **argv)
{
	int (*version)(int *);
	int count;

	CHECK(argc == 2);
	library = dlopen("libcuda.so.1", RTLD_NOW);
	CHECK(library);
	version = (int (*)(int *))symbol("cuDriverGetVersion");
	CHECK(version(&driver) == 0 && driver == 13050);
	look_up = (look_up_5)symbol("cuGetProcAddress_v2");
	check_versions();
	check_flags();
	check_refusals();
	count = replay(argv[1]);
	CHECK(count > 430);
	printf("%d recorded look-ups\n", count);
	return 0;
}
