/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entry 0 0 ROW: kernels of 2 ms through one entry point of the driver (F14), found by dlsym, or by
 * cuGetProcAddress when "gpa:" stands before it.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#include "tenant.h"

#define KERNEL_NS UINT64_C(2000000)

struct entry {
	const char *name;
	CUresult (*launch)(struct worker *w, void *symbol);
};

/* The symbol's type, by the header. */
#define AS(name, symbol) ((__typeof__(&name))(uintptr_t)(symbol))

static CUfunction kernel;
static CUgraphExec graph;

static CUresult by_kernel(struct worker *w, void *symbol)
{
	(void)w;
	return AS(cuLaunchKernel, symbol)(kernel, BLOCKS, 1, 1, THREADS, 1, 1, 0, NULL,
					  (void *[]){ &(uint64_t){ 0 } }, NULL);
}

static CUresult by_kernel_ex(struct worker *w, void *symbol)
{
	CUlaunchAttribute attribute = { .id = CU_LAUNCH_ATTRIBUTE_PRIORITY,
					.value = { .priority = 0 } };
	CUlaunchConfig config = { .gridDimX = BLOCKS,
				  .gridDimY = 1,
				  .gridDimZ = 1,
				  .blockDimX = THREADS,
				  .blockDimY = 1,
				  .blockDimZ = 1,
				  .attrs = &attribute,
				  .numAttrs = 1 };

	(void)w;
	return AS(cuLaunchKernelEx, symbol)(&config, kernel, (void *[]){ &(uint64_t){ 0 } },
					    NULL);
}

static CUresult by_cooperative(struct worker *w, void *symbol)
{
	(void)w;
	return AS(cuLaunchCooperativeKernel, symbol)(kernel, BLOCKS, 1, 1, THREADS, 1, 1, 0,
						     NULL, (void *[]){ &(uint64_t){ 0 } });
}

/* On both devices of the slice. */
static CUresult by_multi_device(struct worker *w, void *symbol)
{
	static CUfunction kernels[2];
	static CUstream streams[2];
	CUDA_LAUNCH_PARAMS list[2];
	void *params[] = { &(uint64_t){ 0 } };

	for (unsigned d = 0; d < 2; d++) {
		CUcontext ctx;

		if (!kernels[d]) {
			check(w, cuDevicePrimaryCtxRetain(&ctx, (CUdevice)d), "retain");
			check(w, cuCtxSetCurrent(ctx), "cuCtxSetCurrent");
			load_module(w);
			kernels[d] = find_function(w, "entry_2ms");
			check(w, cuStreamCreate(&streams[d], 0), "cuStreamCreate");
		}
		list[d] = (CUDA_LAUNCH_PARAMS){ .function = kernels[d],
						.gridDimX = BLOCKS,
						.gridDimY = 1,
						.gridDimZ = 1,
						.blockDimX = THREADS,
						.blockDimY = 1,
						.blockDimZ = 1,
						.hStream = streams[d],
						.kernelParams = params };
	}
	return AS(cuLaunchCooperativeKernelMultiDevice, symbol)(list, 2, 0);
}

/* Those of CUDA 3: shape and parameters are set on the function. */
static void set_shape(struct worker *w)
{
	check(w, cuFuncSetBlockShape(kernel, 1024, 1, 1), "cuFuncSetBlockShape");
	check(w, cuParamSetSize(kernel, 8), "cuParamSetSize");
	check(w, cuParamSeti(kernel, 0, 0), "cuParamSeti");
	check(w, cuParamSeti(kernel, 4, 0), "cuParamSeti");
}

static CUresult by_launch(struct worker *w, void *symbol)
{
	set_shape(w);
	return AS(cuLaunch, symbol)(kernel);
}

static CUresult by_grid(struct worker *w, void *symbol)
{
	set_shape(w);
	return AS(cuLaunchGrid, symbol)(kernel, (int)BLOCKS, 1);
}

static CUresult by_grid_async(struct worker *w, void *symbol)
{
	set_shape(w);
	return AS(cuLaunchGridAsync, symbol)(kernel, (int)BLOCKS, 1, w->stream);
}

static CUresult by_graph(struct worker *w, void *symbol)
{
	(void)w;
	return AS(cuGraphLaunch, symbol)(graph, NULL);
}

static const struct entry entries[] = {
	{ "cuLaunchKernel", by_kernel },
	{ "cuLaunchKernel_ptsz", by_kernel },
	{ "cuLaunchKernelEx", by_kernel_ex },
	{ "cuLaunchKernelEx_ptsz", by_kernel_ex },
	{ "cuLaunchCooperativeKernel", by_cooperative },
	{ "cuLaunchCooperativeKernel_ptsz", by_cooperative },
	{ "cuLaunchCooperativeKernelMultiDevice", by_multi_device },
	{ "cuLaunch", by_launch },
	{ "cuLaunchGrid", by_grid },
	{ "cuLaunchGridAsync", by_grid_async },
	{ "cuGraphLaunch", by_graph },
	{ "cuGraphLaunch_ptsz", by_graph },
};

static void make_graph(struct worker *w)
{
	CUDA_KERNEL_NODE_PARAMS node = { .func = kernel,
					 .gridDimX = BLOCKS,
					 .gridDimY = 1,
					 .gridDimZ = 1,
					 .blockDimX = THREADS,
					 .blockDimY = 1,
					 .blockDimZ = 1,
					 .kernelParams = (void *[]){ &(uint64_t){ 0 } } };
	CUgraphNode added;
	CUgraph made;

	check(w, cuGraphCreate(&made, 0), "cuGraphCreate");
	check(w, cuGraphAddKernelNode_v2(&added, made, NULL, 0, &node),
	      "cuGraphAddKernelNode");
	check(w, cuGraphInstantiateWithFlags(&graph, made, 0), "cuGraphInstantiate");
}

/* As programs look: by dlsym, or by cuGetProcAddress with the streams' flag. */
static void *find(struct worker *w, const char *name, bool is_asked)
{
	void *symbol = NULL;
	char base[64];
	size_t n = strlen(name);
	bool is_own = n > 5 && strcmp(name + n - 5, "_ptsz") == 0;

	if (!is_asked)
		return dlsym(RTLD_DEFAULT, name);
	(void)snprintf(base, sizeof(base), "%.*s", (int)(is_own ? n - 5 : n), name);
	check(w,
	      cuGetProcAddress_v2(base, &symbol, 13000,
				  is_own ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
					 : CU_GET_PROC_ADDRESS_LEGACY_STREAM,
				  NULL),
	      "cuGetProcAddress");
	return symbol;
}

void run_entry(struct worker *w)
{
	const char *row = w->argv[7];
	bool is_asked = row && strncmp(row, "gpa:", 4) == 0;
	const struct entry *entry = NULL;
	void *symbol;

	row = row && is_asked ? row + 4 : row;
	for (unsigned i = 0; row && i < sizeof(entries) / sizeof(*entries); i++)
		if (strcmp(row, entries[i].name) == 0)
			entry = &entries[i];
	check(w, entry ? 0 : CUDA_ERROR_NOT_FOUND, "no such row");
	kernel = find_function(w, "entry_2ms");
	make_graph(w);
	symbol = find(w, row, is_asked);
	check(w, symbol ? 0 : CUDA_ERROR_NOT_FOUND, "no such symbol");
	for (;;) {
		submit_begins(w);
		check(w, entry->launch(w, symbol), row);
		submit_ends(w);
		w->queued_ns += KERNEL_NS;
		if (w->queued_ns < 10 * KERNEL_NS)
			continue;
		w->queued_ns = 0;
		check(w, cuCtxSynchronize(), "cuCtxSynchronize");
	}
}
