/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_MODULE_H
#define SIM_CUDA_MODULE_H

/*
 * Modules, the functions in them, and the libraries that become modules in each context
 * that uses them. One lock guards all of it; no function of another file is called with it
 * held, except sim_mem_take and sim_mem_give.
 */

#include "image.h"
#include "live.h"
#include "sim.h"

struct sim_code_chunk;

struct sim_code { /* device memory of a module */
	CUdeviceptr at;
	size_t bytes; /* 0: none taken */
	struct sim_code_chunk *chunk;
};

struct sim_module;
struct sim_library;

struct sim_kernel {
	struct sim_library *library;
	size_t index; /* of its function in the image and in each module made of it */
	int max_dynamic_shared; /* -1: as the function */
};

struct sim_function {
	struct sim_module *module;
	const struct sim_image_function *decl;
	struct sim_kernel *kernel; /* NULL: not of a library */
	bool loaded;
	struct sim_code code;
	int max_dynamic_shared, carveout, cluster[3], cluster_required, nonportable,
		cluster_policy;
	CUfunc_cache cache;
	/* cuFuncSetBlockShape and its generation */
	unsigned int block[3], shared_bytes, param_bytes;
	uint64_t param_first; /* its first bytes */
};

struct sim_module {
	struct sim_ctx *ctx;
	struct sim_image *image;
	struct sim_library
		*library; /* NULL: loaded by cuModuleLoad*; then the image is its own */
	struct sim_function *functions;
	size_t *variable_offset; /* in `variables`, by index of the image */
	struct sim_code variables;
	struct sim_module *next;
};

struct sim_library {
	struct sim_image *image;
	struct sim_kernel *kernels;
	struct sim_module
		*modules; /* one per context that used it; linked by library_next */
};

/* The image is given away, also on errors (unless LIBRARY owns it). */
CUresult sim_module_create(struct sim_ctx *ctx, struct sim_image *image,
			   struct sim_library *library, struct sim_module **out);
void sim_module_destroy(struct sim_module *m);
/* The module of LIBRARY in CTX, made at its first use. */
CUresult sim_library_module(struct sim_library *library, struct sim_ctx *ctx,
			    struct sim_module **out);

/* Takes LIBRARY out of every context (under the lock). */
void sim_library_forget(struct sim_library *library);

/* What a launch or a query may name: a function, or a kernel, which then means its function
 * in the current context. INVALID_HANDLE. */
CUresult sim_function_of(CUfunction handle, struct sim_function **out);
/* Takes the function's memory unless it has it. */
CUresult sim_function_load(struct sim_function *f);

/* The image at P for CTX's device (NULL: the first device). */
CUresult sim_module_read(struct sim_ctx *ctx, const void *p, struct sim_image **out);
CUresult sim_module_read_file(struct sim_ctx *ctx, const char *path,
			      struct sim_image **out);
struct sim_image_target sim_module_target(struct sim_ctx *ctx);
CUresult sim_jit_options(unsigned int n, const CUjit_option *options, void **values);
CUmoduleLoadingMode sim_loading_mode(void);
/* *BYTES of FILE in *OUT (malloc, with a 0 behind them): FILE_NOT_FOUND. */
CUresult sim_file_read(const char *path, void **out, size_t *bytes);
CUresult sim_variable_find(struct sim_module *m, const char *name, CUdeviceptr *at,
			   size_t *bytes);

/* INVALID_VALUE beyond the last parameter, and for functions whose parameters are not
 * known. */
CUresult sim_param_at(const struct sim_image_function *decl, size_t i, size_t *offset,
		      size_t *bytes);
CUresult sim_function_attribute(const struct sim_function *f, CUfunction_attribute attrib,
				int *out);
CUresult sim_function_set(struct sim_function *f, CUfunction_attribute attrib, int value);
int sim_dynamic_shared_max(const struct sim_function *f);

/* Limits of the device of a function, as launches and occupancy meet them. */
struct sim_limits {
	uint32_t threads_per_sm, blocks_per_sm, registers_per_sm;
	uint32_t shared_per_sm, shared_per_block, shared_optin, shared_reserved,
		cluster_max;
	uint32_t sm_count;
};
void sim_limits_of(const struct sim_ctx *ctx, struct sim_limits *out);

/* Device memory for code or variables, counted as RM_CODE (code_heap.c; under the lock). */
CUresult sim_code_take(struct sim_ctx *ctx, size_t bytes, struct sim_code *code);
void sim_code_give(struct sim_code *code);

void sim_modules_lock(void);
void sim_modules_unlock(void);

#endif /* SIM_CUDA_MODULE_H */
