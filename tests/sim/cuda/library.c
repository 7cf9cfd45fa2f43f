/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

#include <stdlib.h>
#include <string.h>

/* Libraries belong to no context; each context that uses one gets a module of it. */

static CUresult library_of(CUlibrary handle, struct sim_library **out)
{
	if (!sim_live_is(handle, SIM_LIVE_LIBRARY))
		return CUDA_ERROR_INVALID_HANDLE;
	*out = (struct sim_library *)handle;
	return CUDA_SUCCESS;
}

static CUresult kernel_of(CUkernel handle, struct sim_kernel **out)
{
	if (!sim_live_is(handle, SIM_LIVE_KERNEL))
		return CUDA_ERROR_INVALID_HANDLE;
	*out = (struct sim_kernel *)handle;
	return CUDA_SUCCESS;
}

static void free_library(struct sim_library *l)
{
	for (size_t i = 0; l->kernels && i < l->image->function_count; i++)
		sim_live_remove(&l->kernels[i]);
	sim_live_remove(l);
	sim_image_free(l->image);
	free(l->kernels);
	free(l);
}

static CUresult make_library(struct sim_image *image, struct sim_library **out)
{
	struct sim_library *l = calloc(1, sizeof *l);

	if (!l) {
		sim_image_free(image);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	l->image = image;
	l->kernels = calloc(image->function_count + 1, sizeof *l->kernels);
	bool ok = l->kernels && sim_live_add(l, SIM_LIVE_LIBRARY);
	for (size_t i = 0; ok && i < image->function_count; i++) {
		l->kernels[i] = (struct sim_kernel){ l, i, -1 };
		ok = sim_live_add(&l->kernels[i], SIM_LIVE_KERNEL);
	}
	if (!ok) {
		free_library(l);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*out = l;
	return CUDA_SUCCESS;
}

/* The module of L in the current context. */
static CUresult current_module(struct sim_library *l, struct sim_module **out)
{
	struct sim_ctx *ctx;
	CUresult r = sim_ctx_current(&ctx);

	if (r != CUDA_SUCCESS)
		return r;
	sim_modules_lock();
	r = sim_library_module(l, ctx, out);
	sim_modules_unlock();
	return r;
}

struct library_options {
	CUjit_option *jit;
	void **jit_values;
	unsigned int jit_count;
	CUlibraryOption *options;
	void **values;
	unsigned int count;
};

static CUresult check_options(const struct library_options *o)
{
	if (o->count && (!o->options || !o->values))
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < o->count; i++)
		if ((unsigned int)o->options[i] >= CU_LIBRARY_NUM_OPTIONS)
			return CUDA_ERROR_INVALID_VALUE;
	return sim_jit_options(o->jit_count, o->jit, o->jit_values);
}

static CUresult load(CUlibrary *out, const void *code, const char *path,
		     const struct library_options *o)
{
	struct sim_image *image;
	struct sim_library *l;
	struct sim_module *m;
	CUresult r = !out || (!code && !path) ? CUDA_ERROR_INVALID_VALUE : check_options(o);

	if (r != CUDA_SUCCESS)
		return r;
	r = code ? sim_module_read(NULL, code, &image)
		 : sim_module_read_file(NULL, path, &image);
	if (r == CUDA_SUCCESS)
		r = make_library(image, &l);
	if (r != CUDA_SUCCESS)
		return r;
	*out = (CUlibrary)l;
	/* Eager loading puts it into the contexts that exist; here that is the current one.
	 */
	struct sim_ctx *ctx;
	if (sim_loading_mode() == CU_MODULE_LAZY_LOADING ||
	    sim_ctx_current(&ctx) != CUDA_SUCCESS)
		return CUDA_SUCCESS;
	r = current_module(l, &m);
	if (r != CUDA_SUCCESS)
		free_library(l);
	return r;
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jitOptions,
			   void **jitOptionsValues, unsigned int numJitOptions,
			   CUlibraryOption *libraryOptions, void **libraryOptionValues,
			   unsigned int numLibraryOptions)
{
	SIM_ENTER();
	struct library_options o = {
		jitOptions,     jitOptionsValues,    numJitOptions,
		libraryOptions, libraryOptionValues, numLibraryOptions
	};
	return load(library, code, NULL, &o);
}

CUresult cuLibraryLoadFromFile(CUlibrary *library, const char *fileName,
			       CUjit_option *jitOptions, void **jitOptionsValues,
			       unsigned int numJitOptions, CUlibraryOption *libraryOptions,
			       void **libraryOptionValues, unsigned int numLibraryOptions)
{
	SIM_ENTER();
	struct library_options o = {
		jitOptions,     jitOptionsValues,    numJitOptions,
		libraryOptions, libraryOptionValues, numLibraryOptions
	};
	return load(library, NULL, fileName, &o);
}

CUresult cuLibraryUnload(CUlibrary library)
{
	struct sim_library *l;
	SIM_ENTER();
	CUresult r = library_of(library, &l);
	if (r != CUDA_SUCCESS)
		return r;
	sim_modules_lock();
	sim_library_forget(l);
	free_library(l);
	sim_modules_unlock();
	return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel *pKernel, CUlibrary library, const char *name)
{
	struct sim_library *l;
	SIM_ENTER();
	if (!pKernel || !name)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = library_of(library, &l);
	if (r != CUDA_SUCCESS)
		return r;
	for (size_t i = 0; i < l->image->function_count; i++)
		if (l->image->functions[i].entry &&
		    !strcmp(l->image->functions[i].name, name)) {
			*pKernel = (CUkernel)&l->kernels[i];
			return CUDA_SUCCESS;
		}
	return CUDA_ERROR_NOT_FOUND;
}

CUresult cuLibraryGetKernelCount(unsigned int *count, CUlibrary lib)
{
	struct sim_library *l;
	SIM_ENTER();
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = library_of(lib, &l);
	if (r != CUDA_SUCCESS)
		return r;
	*count = 0;
	for (size_t i = 0; i < l->image->function_count; i++)
		*count += l->image->functions[i].entry;
	return CUDA_SUCCESS;
}

CUresult cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int numKernels,
				   CUlibrary lib)
{
	struct sim_library *l;
	SIM_ENTER();
	if (!kernels || !numKernels)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = library_of(lib, &l);
	if (r != CUDA_SUCCESS)
		return r;
	unsigned int n = 0;
	for (size_t i = 0; i < l->image->function_count && n < numKernels; i++)
		if (l->image->functions[i].entry)
			kernels[n++] = (CUkernel)&l->kernels[i];
	return CUDA_SUCCESS;
}

CUresult cuLibraryGetModule(CUmodule *pMod, CUlibrary library)
{
	struct sim_library *l;
	struct sim_module *m;
	SIM_ENTER();
	if (!pMod)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = library_of(library, &l);
	if (r == CUDA_SUCCESS)
		r = current_module(l, &m);
	if (r == CUDA_SUCCESS)
		*pMod = (CUmodule)m;
	return r;
}

CUresult sim_function_of(CUfunction handle, struct sim_function **out)
{
	struct sim_kernel *k = (struct sim_kernel *)handle;
	struct sim_module *m;

	if (sim_live_is(handle, SIM_LIVE_FUNCTION)) {
		*out = (struct sim_function *)handle;
		return CUDA_SUCCESS;
	}
	if (!sim_live_is(handle, SIM_LIVE_KERNEL))
		return CUDA_ERROR_INVALID_HANDLE;
	CUresult r = current_module(k->library, &m);
	if (r == CUDA_SUCCESS)
		*out = &m->functions[k->index];
	return r;
}

CUresult cuKernelGetFunction(CUfunction *pFunc, CUkernel kernel)
{
	struct sim_kernel *k;
	struct sim_function *f;
	SIM_ENTER();
	if (!pFunc)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = kernel_of(kernel, &k);
	if (r == CUDA_SUCCESS)
		r = sim_function_of((CUfunction)kernel, &f);
	if (r == CUDA_SUCCESS)
		r = sim_function_load(f);
	if (r == CUDA_SUCCESS)
		*pFunc = (CUfunction)f;
	return r;
}

CUresult cuKernelGetLibrary(CUlibrary *pLib, CUkernel kernel)
{
	struct sim_kernel *k;
	SIM_ENTER();
	if (!pLib)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = kernel_of(kernel, &k);
	if (r == CUDA_SUCCESS)
		*pLib = (CUlibrary)k->library;
	return r;
}

static CUresult find_variable(CUlibrary library, const char *name, bool managed,
			      CUdeviceptr *dptr, size_t *bytes)
{
	struct sim_library *l;
	struct sim_module *m;

	if (!name || (!dptr && !bytes))
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = library_of(library, &l);
	if (r != CUDA_SUCCESS)
		return r;
	for (size_t i = 0; i < l->image->variable_count; i++) {
		const struct sim_image_variable *v = &l->image->variables[i];
		if ((v->kind == SIM_VAR_MANAGED) != managed || strcmp(v->name, name) != 0)
			continue;
		r = current_module(l, &m);
		return r == CUDA_SUCCESS ? sim_variable_find(m, name, dptr, bytes) : r;
	}
	return CUDA_ERROR_NOT_FOUND;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *dptr, size_t *bytes, CUlibrary library,
			    const char *name)
{
	SIM_ENTER();
	return find_variable(library, name, false, dptr, bytes);
}

CUresult cuLibraryGetManaged(CUdeviceptr *dptr, size_t *bytes, CUlibrary library,
			     const char *name)
{
	SIM_ENTER();
	return find_variable(library, name, true, dptr, bytes);
}

/* Unified function pointers need hardware that none of the models has. */
CUresult cuLibraryGetUnifiedFunction(void **fptr, CUlibrary library, const char *symbol)
{
	struct sim_library *l;
	SIM_ENTER();
	if (!fptr || !symbol)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = library_of(library, &l);
	return r == CUDA_SUCCESS ? CUDA_ERROR_NOT_FOUND : r;
}

/* ---- facts of kernels ---------------------------------------------------------------- */

CUresult cuKernelGetName(const char **name, CUkernel hfunc)
{
	struct sim_kernel *k;
	SIM_ENTER();
	if (!name)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = kernel_of(hfunc, &k);
	if (r == CUDA_SUCCESS)
		*name = k->library->image->functions[k->index].name;
	return r;
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t paramIndex, size_t *paramOffset,
			      size_t *paramSize)
{
	struct sim_kernel *k;
	SIM_ENTER();
	if (!paramOffset)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = kernel_of(kernel, &k);
	if (r != CUDA_SUCCESS)
		return r;
	return sim_param_at(&k->library->image->functions[k->index], paramIndex,
			    paramOffset, paramSize);
}

CUresult cuKernelGetParamCount(CUkernel kernel, size_t *paramCount)
{
	struct sim_kernel *k;
	SIM_ENTER();
	if (!paramCount)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = kernel_of(kernel, &k);
	if (r == CUDA_SUCCESS)
		*paramCount = k->library->image->functions[k->index].param_count;
	return r;
}

CUresult cuKernelGetAttribute(int *pi, CUfunction_attribute attrib, CUkernel kernel,
			      CUdevice dev)
{
	struct sim_kernel *k;
	uint32_t machine;
	SIM_ENTER();
	CUresult r = kernel_of(kernel, &k);
	if (r == CUDA_SUCCESS)
		r = sim_device_machine(dev, &machine);
	if (r != CUDA_SUCCESS)
		return r;
	const struct sim_image *image = k->library->image;
	struct sim_module module = { .image = k->library->image };
	struct sim_function f = { .module = &module,
				  .decl = &image->functions[k->index],
				  .max_dynamic_shared = k->max_dynamic_shared,
				  .carveout = -1 };
	return sim_function_attribute(&f, attrib, pi);
}

CUresult cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel,
			      CUdevice dev)
{
	struct sim_kernel *k;
	struct sim_function *f;
	struct sim_ctx *ctx;
	uint32_t machine;
	SIM_ENTER();
	CUresult r = kernel_of(kernel, &k);
	if (r == CUDA_SUCCESS)
		r = sim_device_machine(dev, &machine);
	if (r == CUDA_SUCCESS)
		r = sim_ctx_current(&ctx);
	if (r == CUDA_SUCCESS)
		r = sim_function_of((CUfunction)kernel, &f);
	if (r == CUDA_SUCCESS)
		r = sim_function_set(f, attrib, val);
	if (r == CUDA_SUCCESS && attrib == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
		k->max_dynamic_shared = val;
	return r;
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice dev)
{
	struct sim_kernel *k;
	uint32_t machine;
	SIM_ENTER();
	if ((unsigned int)config > CU_FUNC_CACHE_PREFER_EQUAL)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = kernel_of(kernel, &k);
	return r == CUDA_SUCCESS ? sim_device_machine(dev, &machine) : r;
}
