/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chain link|open: allocations with other preloaded libraries on either side of the hook.
 * Each of them sees what it would see without the hook, nobody runs in circles, and the
 * slice is charged once.
 */
#include <dlfcn.h>
#include <string.h>

#include "check.h"

/* How often the library NAME saw KIND; -1: it is not loaded. */
static int count(const char *name, const char *kind)
{
	char symbol[64];
	int *at;

	(void)snprintf(symbol, sizeof(symbol), "%s_%s", name, kind);
	at = dlsym(RTLD_DEFAULT, symbol);
	return at ? *at : -1;
}

int main(int argc, char **argv)
{
	int is_linked = argc == 2 && strcmp(argv[1], "link") == 0;
	CUresult (*alloc)(CUdeviceptr *, size_t) = cuMemAlloc;
	int want = is_linked ? 2 : 0;
	CUdeviceptr pointer;
	size_t before;
	void *driver;

	(void)check_context();
	if (!is_linked) {
		driver = dlopen("libcuda.so.1", RTLD_NOW);
		CHECK(driver);
		*(void **)&alloc = dlsym(driver, "cuMemAlloc_v2");
		CHECK(alloc);
	}
	before = check_free();
	OK(alloc(&pointer, 64 * MIB));
	CHECK_RESULT(before - check_free(), 64 * MIB);
	CHECK_RESULT(alloc(&pointer, 2048 * MIB), CUDA_ERROR_OUT_OF_MEMORY);
	CHECK(count("first", "calls") == -1 || count("first", "calls") == want);
	CHECK(count("last", "calls") == -1 || count("last", "calls") == want);
	CHECK(count("first", "mallocs") && count("last", "mallocs"));
	printf("first saw %d, last saw %d\n", count("first", "calls"),
	       count("last", "calls"));
	return 0;
}
