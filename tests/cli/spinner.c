/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that wants all of a GPU: linked with nothing but libc, opens libcuda.so.1 by name.
 *   spinner [KERNEL_US [SECONDS [around]]]   kernels of that length, always some queued ahead;
 * 0 seconds: for ever. "around": every other launch by the address in the driver's own symbol table,
 * which no preload library sees.
 * On a simulated GPU the kernel is told its time, on a real one it spins as long. Prints how many ran.
 */
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cuda.h>

#define BATCH_US 10000u /* what is queued between two events, at least one kernel */

static const char ptx[] = ".version 6.0\n.target sm_50\n.address_size 64\n"
			  ".visible .entry tranche_loop(.param .u64 ns)\n{\n"
			  "\t.reg .u64 %t<4>;\n\t.reg .pred %p;\n"
			  "\tld.param.u64 %t0, [ns];\n\tmov.u64 %t1, %globaltimer;\n"
			  "again:\n\tmov.u64 %t2, %globaltimer;\n\tsub.u64 %t3, %t2, %t1;\n"
			  "\tsetp.lt.u64 %p, %t3, %t0;\n\t@%p bra again;\n\tret;\n}\n";

#define CALLS(X)                    \
	X(cuInit)                   \
	X(cuDevicePrimaryCtxRetain) \
	X(cuCtxSetCurrent)          \
	X(cuModuleLoadData)         \
	X(cuModuleGetFunction)      \
	X(cuEventCreate)            \
	X(cuEventRecord)            \
	X(cuEventSynchronize)       \
	X(cuLaunchKernel)

static struct {
#define MEMBER(name) __typeof__(name) *name;
	CALLS(MEMBER)
#undef MEMBER
} cuda;
static __typeof__(cuLaunchKernel) *launch_around;

static void check(CUresult r, const char *what)
{
	if (r == CUDA_SUCCESS)
		return;
	(void)printf("%s answers %d\n", what, (int)r);
	exit(4);
}

static void *find(void *library, const char *name)
{
	void *symbol = dlsym(library, name);

	if (!symbol) {
		(void)printf("no %s\n", name);
		exit(3);
	}
	return symbol;
}

/* As a program that reads the library's tables finds NAME; symbols lie right before their names. */
static void *find_around(void *library, const char *name)
{
	const struct link_map *map = NULL;
	const char *names = NULL;
	const ElfW(Sym) *symbol = NULL;

	if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0)
		return NULL;
	for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_STRTAB)
			names = (const char *)d->d_un.d_ptr;
		else if (d->d_tag == DT_SYMTAB)
			symbol = (const ElfW(Sym) *)d->d_un.d_ptr;
	}
	for (; names && symbol && (const char *)symbol < names; symbol++)
		if (symbol->st_value && strcmp(names + symbol->st_name, name) == 0)
			return (void *)(map->l_addr + symbol->st_value);
	return NULL;
}

static CUfunction begin(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	CUcontext context;
	CUfunction function;
	CUmodule module;

	if (!library) {
		(void)printf("no driver: %s\n", dlerror());
		exit(3);
	}
#define FIND(name) cuda.name = find(library, #name);
	CALLS(FIND)
#undef FIND
	launch_around = (__typeof__(launch_around))find_around(library, "cuLaunchKernel");
	check(cuda.cuInit(0), "cuInit");
	check(cuda.cuDevicePrimaryCtxRetain(&context, 0), "cuDevicePrimaryCtxRetain");
	check(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent");
	check(cuda.cuModuleLoadData(&module, ptx), "cuModuleLoadData");
	check(cuda.cuModuleGetFunction(&function, module, "tranche_loop"),
	      "cuModuleGetFunction");
	return function;
}

static double now_seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	unsigned long kernel_us = argc > 1 ? strtoul(argv[1], NULL, 10) : 5000;
	double seconds = argc > 2 ? strtod(argv[2], NULL) : 0, end;
	unsigned long long ns = kernel_us * 1000ull, count = 0;
	void *parameters[] = { &ns };
	CUfunction function = begin();
	bool is_around = argc > 3 && strcmp(argv[3], "around") == 0 && launch_around;
	CUevent events[2];

	for (unsigned i = 0; i < 2; i++)
		check(cuda.cuEventCreate(&events[i], CU_EVENT_DISABLE_TIMING),
		      "cuEventCreate");
	end = now_seconds() + seconds;
	for (unsigned long turn = 0; seconds <= 0 || now_seconds() < end; turn++) {
		/* The batch before the last one: one is always queued behind another. */
		if (turn >= 2)
			check(cuda.cuEventSynchronize(events[turn % 2]),
			      "cuEventSynchronize");
		for (unsigned long us = 0; us == 0 || us < BATCH_US;
		     us += kernel_us + 1, count++)
			check((is_around && count % 2
				       ? launch_around
				       : cuda.cuLaunchKernel)(function, 1, 1, 1, 1, 1, 1, 0,
							      NULL, parameters, NULL),
			      "cuLaunchKernel");
		check(cuda.cuEventRecord(events[turn % 2], NULL), "cuEventRecord");
	}
	(void)printf("%llu kernels of %lu us\n", count, kernel_us);
	return 0;
}
