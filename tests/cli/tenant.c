/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver-API program for tests: linked with nothing but libc, opens libcuda.so.1 by name.
 *   tenant [MIB]...        allocates each, prints one line each, then the memory it is told
 *   tenant - [MIB]...      the same, then obeys lines on standard input: a number of MiB to
 *                          allocate, "free" for the last one, "info", "fork"; ends with the
 * input Lines: "ok MIB", "refused CODE MIB", "info FREE TOTAL".
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cuda.h>

static __typeof__(cuInit) *init;
static __typeof__(cuDevicePrimaryCtxRetain) *retain;
static __typeof__(cuCtxSetCurrent) *set_current;
static __typeof__(cuMemAlloc) *alloc;
static __typeof__(cuMemFree) *give;
static __typeof__(cuMemGetInfo) *get_info;

static CUdeviceptr held[4096];
static unsigned held_count;

static void *find(void *library, const char *name)
{
	void *symbol = dlsym(library, name);

	if (!symbol) {
		(void)printf("no %s\n", name);
		exit(3);
	}
	return symbol;
}

static void take(const char *mib)
{
	size_t bytes = strtoull(mib, NULL, 10) << 20;
	CUresult r = alloc(&held[held_count], bytes);

	if (r == CUDA_SUCCESS) {
		held_count++;
		(void)printf("ok %s\n", mib);
	} else {
		(void)printf("refused %d %s\n", (int)r, mib);
	}
	(void)fflush(stdout);
}

static void tell(void)
{
	size_t free_bytes = 0, total = 0;
	CUresult r = get_info(&free_bytes, &total);

	(void)printf("info %zu %zu %d\n", free_bytes, total, (int)r);
	(void)fflush(stdout);
}

static int begin(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	CUcontext context;
	CUresult r;

	if (!library) {
		(void)printf("no driver: %s\n", dlerror());
		return 3;
	}
	init = find(library, "cuInit");
	retain = find(library, "cuDevicePrimaryCtxRetain");
	set_current = find(library, "cuCtxSetCurrent");
	alloc = find(library, "cuMemAlloc_v2");
	give = find(library, "cuMemFree_v2");
	get_info = find(library, "cuMemGetInfo_v2");
	r = init(0);
	if (r == CUDA_SUCCESS)
		r = retain(&context, 0);
	if (r == CUDA_SUCCESS)
		r = set_current(context);
	if (r != CUDA_SUCCESS) {
		(void)printf("refused %d start\n", (int)r);
		return 4;
	}
	return 0;
}

static void obey(char *line)
{
	line[strcspn(line, "\n")] = '\0';
	if (strcmp(line, "info") == 0)
		tell();
	else if (strcmp(line, "free") == 0 && held_count)
		(void)printf("freed %d\n", (int)give(held[--held_count]));
	else
		take(line);
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	int first = argc > 1 && strcmp(argv[1], "-") == 0 ? 2 : 1;
	int r = begin();
	char line[128];

	if (r)
		return r;
	for (int i = first; i < argc; i++)
		take(argv[i]);
	tell();
	while (first == 2 && fgets(line, sizeof(line), stdin))
		obey(line);
	return 0;
}
