/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init.h"

#define VARIABLE_ALIGN 256u
#define FILE_MAX_BYTES (4ll << 30)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sim_module *all; /* every module, those of libraries too */

void sim_modules_lock(void)
{
	pthread_mutex_lock(&lock);
}

void sim_modules_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

/* ---- how and for what modules are read ----------------------------------------------- */

CUmoduleLoadingMode sim_loading_mode(void)
{
	const char *text = getenv("CUDA_MODULE_LOADING");
	int driver = sim_driver_version();

	if (driver < 11070)
		return CU_MODULE_EAGER_LOADING;
	if (text && !strcmp(text, "EAGER"))
		return CU_MODULE_EAGER_LOADING;
	if (text && !strcmp(text, "LAZY"))
		return CU_MODULE_LAZY_LOADING;
	return driver < 12020 ? CU_MODULE_EAGER_LOADING : CU_MODULE_LAZY_LOADING;
}

struct sim_image_target sim_module_target(struct sim_ctx *ctx)
{
	uint32_t machine = ctx ? ctx->machine : 0;
	struct sim_image_target t = { 0, (uint32_t)sim_driver_version() };

	if (!ctx && sim_device_machine(0, &machine) != CUDA_SUCCESS)
		return t;
	const struct rm_device *d = sim_device_facts(machine);
	t.cc = d->cc_major * 10 + d->cc_minor;
	return t;
}

CUresult sim_module_read(struct sim_ctx *ctx, const void *p, struct sim_image **out)
{
	struct sim_image_target target = sim_module_target(ctx);

	return sim_image_load(p, &target, out);
}

CUresult sim_file_read(const char *path, void **out, size_t *bytes)
{
	/* statx: fstat of this glibc is newer than what the library may need */
	struct statx st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return CUDA_ERROR_FILE_NOT_FOUND;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, &st) ||
	    !S_ISREG(st.stx_mode) || st.stx_size > FILE_MAX_BYTES) {
		close(fd);
		return CUDA_ERROR_FILE_NOT_FOUND;
	}
	size_t n = (size_t)st.stx_size, got = 0;
	char *text = malloc(n + 1);
	while (text && got < n) {
		ssize_t r = read(fd, text + got, n - got);
		if (r <= 0)
			break;
		got += (size_t)r;
	}
	close(fd);
	if (!text)
		return CUDA_ERROR_OUT_OF_MEMORY;
	text[got] = '\0';
	*out = text;
	*bytes = got;
	return CUDA_SUCCESS;
}

CUresult sim_module_read_file(struct sim_ctx *ctx, const char *path, struct sim_image **out)
{
	struct sim_image_target target = sim_module_target(ctx);
	void *text;
	size_t n;
	CUresult r = sim_file_read(path, &text, &n);

	if (r != CUDA_SUCCESS)
		return r;
	r = sim_image_parse(text, n, &target, out);
	free(text);
	return r;
}

/* Nothing is compiled, so the logs are empty; their size comes back in place of the
 * buffer's. */
CUresult sim_jit_options(unsigned int n, const CUjit_option *options, void **values)
{
	if (n && (!options || !values))
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < n; i++) {
		if ((unsigned int)options[i] >= CU_JIT_NUM_OPTIONS)
			return CUDA_ERROR_INVALID_VALUE;
		if (options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES ||
		    options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES ||
		    options[i] == CU_JIT_WALL_TIME)
			values[i] = NULL;
	}
	return CUDA_SUCCESS;
}

/* ---- device memory of modules -------------------------------------------------------- */

/* All variables of a module lie in one block. */
static CUresult take_variables(struct sim_module *m)
{
	const struct sim_image *image = m->image;
	size_t total = 0;

	m->variable_offset = calloc(image->variable_count + 1, sizeof *m->variable_offset);
	if (!m->variable_offset)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; i < image->variable_count; i++) {
		m->variable_offset[i] = total;
		if (image->variables[i].bytes > (1ull << 46))
			return CUDA_ERROR_OUT_OF_MEMORY;
		total += (image->variables[i].bytes + VARIABLE_ALIGN - 1) &
			 ~(size_t)(VARIABLE_ALIGN - 1);
		if (total > (1ull << 46))
			return CUDA_ERROR_OUT_OF_MEMORY;
	}
	CUresult r = sim_code_take(m->ctx, total, &m->variables);
	for (size_t i = 0; r == CUDA_SUCCESS && i < image->variable_count; i++) {
		const struct sim_image_variable *v = &image->variables[i];
		if (v->init_bytes)
			memcpy((void *)(uintptr_t)(m->variables.at + m->variable_offset[i]),
			       v->init, v->init_bytes);
	}
	return r;
}

static CUresult load_locked(struct sim_function *f)
{
	if (f->loaded)
		return CUDA_SUCCESS;
	CUresult r = sim_code_take(f->module->ctx, f->decl->code_bytes, &f->code);
	f->loaded = r == CUDA_SUCCESS;
	return r;
}

CUresult sim_function_load(struct sim_function *f)
{
	if (f->loaded)
		return CUDA_SUCCESS;
	sim_modules_lock();
	CUresult r = load_locked(f);
	sim_modules_unlock();
	return r;
}

/* ---- life of a module ---------------------------------------------------------------- */

static void free_module(struct sim_module *m)
{
	for (size_t i = 0; m->functions && i < m->image->function_count; i++) {
		sim_live_remove(&m->functions[i]);
		sim_code_give(&m->functions[i].code);
	}
	sim_code_give(&m->variables);
	sim_live_remove(m);
	if (!m->library)
		sim_image_free(m->image);
	free(m->functions);
	free(m->variable_offset);
	free(m);
}

static CUresult make_functions(struct sim_module *m)
{
	size_t n = m->image->function_count;
	bool eager = sim_loading_mode() == CU_MODULE_EAGER_LOADING;

	m->functions = calloc(n + 1, sizeof *m->functions);
	if (!m->functions)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; i < n; i++) {
		struct sim_function *f = &m->functions[i];
		f->module = m;
		f->decl = &m->image->functions[i];
		f->kernel = m->library ? &m->library->kernels[i] : NULL;
		f->carveout = -1;
		f->block[0] = f->block[1] = f->block[2] = 1;
		CUresult r = sim_live_add(f, SIM_LIVE_FUNCTION) ? CUDA_SUCCESS
								: CUDA_ERROR_OUT_OF_MEMORY;
		if (r == CUDA_SUCCESS && eager)
			r = load_locked(f);
		if (r != CUDA_SUCCESS)
			return r;
	}
	return CUDA_SUCCESS;
}

CUresult sim_module_create(struct sim_ctx *ctx, struct sim_image *image,
			   struct sim_library *library, struct sim_module **out)
{
	struct sim_module *m = calloc(1, sizeof *m);

	if (!m) {
		if (!library)
			sim_image_free(image);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	m->ctx = ctx;
	m->image = image;
	m->library = library;
	CUresult r = sim_live_add(m, SIM_LIVE_MODULE) ? take_variables(m)
						      : CUDA_ERROR_OUT_OF_MEMORY;
	if (r == CUDA_SUCCESS)
		r = make_functions(m);
	if (r != CUDA_SUCCESS) {
		free_module(m);
		return r;
	}
	m->next = all;
	all = m;
	*out = m;
	return CUDA_SUCCESS;
}

void sim_module_destroy(struct sim_module *m)
{
	for (struct sim_module **p = &all; *p; p = &(*p)->next)
		if (*p == m) {
			*p = m->next;
			break;
		}
	free_module(m);
}

CUresult sim_library_module(struct sim_library *library, struct sim_ctx *ctx,
			    struct sim_module **out)
{
	for (struct sim_module *m = all; m; m = m->next)
		if (m->library == library && m->ctx == ctx) {
			*out = m;
			return CUDA_SUCCESS;
		}
	return sim_module_create(ctx, library->image, library, out);
}

static void free_modules_of(const struct sim_ctx *ctx, const struct sim_library *library)
{
	for (struct sim_module **p = &all; *p;) {
		struct sim_module *m = *p;
		if (m->ctx != ctx && (!library || m->library != library)) {
			p = &m->next;
			continue;
		}
		*p = m->next;
		free_module(m);
	}
}

void sim_library_forget(struct sim_library *library)
{
	free_modules_of(NULL, library);
}

void sim_module_ctx_gone(struct sim_ctx *ctx)
{
	sim_modules_lock();
	free_modules_of(ctx, NULL);
	sim_modules_unlock();
}

static CUresult module_of(CUmodule handle, struct sim_module **out)
{
	if (!sim_live_is(handle, SIM_LIVE_MODULE))
		return CUDA_ERROR_INVALID_HANDLE;
	*out = (struct sim_module *)handle;
	return CUDA_SUCCESS;
}

/* ---- cuModule*
 * ------------------------------------------------------------------------------ */

static CUresult load(CUmodule *out, const void *image, const char *path)
{
	struct sim_ctx *ctx;
	struct sim_image *parsed;
	struct sim_module *m;
	CUresult r = sim_ctx_current(&ctx);

	if (r != CUDA_SUCCESS)
		return r;
	if (!out || (!image && !path))
		return CUDA_ERROR_INVALID_VALUE;
	r = image ? sim_module_read(ctx, image, &parsed)
		  : sim_module_read_file(ctx, path, &parsed);
	if (r != CUDA_SUCCESS)
		return r;
	sim_modules_lock();
	r = sim_module_create(ctx, parsed, NULL, &m);
	sim_modules_unlock();
	if (r == CUDA_SUCCESS)
		*out = (CUmodule)m;
	return r;
}

CUresult cuModuleLoad(CUmodule *module, const char *fname)
{
	SIM_ENTER();
	return load(module, NULL, fname);
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
	SIM_ENTER();
	return load(module, image, NULL);
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions,
			    CUjit_option *options, void **optionValues)
{
	SIM_ENTER();
	CUresult r = sim_jit_options(numOptions, options, optionValues);
	return r == CUDA_SUCCESS ? load(module, image, NULL) : r;
}

CUresult cuModuleLoadFatBinary(CUmodule *module, const void *fatCubin)
{
	SIM_ENTER();
	return load(module, fatCubin, NULL);
}

CUresult cuModuleUnload(CUmodule hmod)
{
	struct sim_module *m;
	SIM_ENTER();
	CUresult r = module_of(hmod, &m);
	if (r != CUDA_SUCCESS)
		return r;
	if (m->library)
		return CUDA_ERROR_NOT_PERMITTED;
	sim_modules_lock();
	sim_module_destroy(m);
	sim_modules_unlock();
	return CUDA_SUCCESS;
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode *mode)
{
	SIM_ENTER();
	if (!mode)
		return CUDA_ERROR_INVALID_VALUE;
	*mode = sim_loading_mode();
	return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name)
{
	struct sim_module *m;
	SIM_ENTER();
	if (!hfunc || !name)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = module_of(hmod, &m);
	if (r != CUDA_SUCCESS)
		return r;
	for (size_t i = 0; i < m->image->function_count; i++) {
		struct sim_function *f = &m->functions[i];
		if (!f->decl->entry || strcmp(f->decl->name, name) != 0)
			continue;
		r = sim_function_load(f);
		if (r == CUDA_SUCCESS)
			*hfunc = (CUfunction)f;
		return r;
	}
	return CUDA_ERROR_NOT_FOUND;
}

CUresult cuModuleGetFunctionCount(unsigned int *count, CUmodule mod)
{
	struct sim_module *m;
	SIM_ENTER();
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = module_of(mod, &m);
	if (r != CUDA_SUCCESS)
		return r;
	*count = 0;
	for (size_t i = 0; i < m->image->function_count; i++)
		*count += m->functions[i].decl->entry;
	return CUDA_SUCCESS;
}

CUresult cuModuleEnumerateFunctions(CUfunction *functions, unsigned int numFunctions,
				    CUmodule mod)
{
	struct sim_module *m;
	SIM_ENTER();
	if (!functions || !numFunctions)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = module_of(mod, &m);
	if (r != CUDA_SUCCESS)
		return r;
	unsigned int n = 0;
	for (size_t i = 0; i < m->image->function_count && n < numFunctions; i++)
		if (m->functions[i].decl->entry)
			functions[n++] = (CUfunction)&m->functions[i];
	return CUDA_SUCCESS;
}

CUresult sim_variable_find(struct sim_module *m, const char *name, CUdeviceptr *at,
			   size_t *bytes)
{
	for (size_t i = 0; i < m->image->variable_count; i++) {
		const struct sim_image_variable *v = &m->image->variables[i];
		if (strcmp(v->name, name) != 0 || v->kind == SIM_VAR_TEXTURE ||
		    v->kind == SIM_VAR_SURFACE)
			continue;
		if (at)
			*at = m->variables.at + m->variable_offset[i];
		if (bytes)
			*bytes = v->bytes;
		return CUDA_SUCCESS;
	}
	return CUDA_ERROR_NOT_FOUND;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule hmod,
			      const char *name)
{
	struct sim_module *m;
	SIM_ENTER();
	if (!name || (!dptr && !bytes))
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = module_of(hmod, &m);
	return r == CUDA_SUCCESS ? sim_variable_find(m, name, dptr, bytes) : r;
}

CUresult cuModuleGetGlobal(CUdeviceptr_v1 *dptr, unsigned int *bytes, CUmodule hmod,
			   const char *name)
{
	struct sim_module *m;
	CUdeviceptr at;
	size_t n;
	SIM_ENTER();
	if (!name || (!dptr && !bytes))
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = module_of(hmod, &m);
	if (r == CUDA_SUCCESS)
		r = sim_variable_find(m, name, &at, &n);
	if (r != CUDA_SUCCESS)
		return r;
	if (dptr)
		*dptr = (CUdeviceptr_v1)at;
	if (bytes)
		*bytes = (unsigned int)n;
	return CUDA_SUCCESS;
}

static bool declares(CUmodule hmod, const char *name, enum sim_variable_kind kind,
		     CUresult *r)
{
	struct sim_module *m;

	*r = name ? module_of(hmod, &m) : CUDA_ERROR_INVALID_VALUE;
	if (*r != CUDA_SUCCESS)
		return false;
	for (size_t i = 0; i < m->image->variable_count; i++)
		if (m->image->variables[i].kind == kind &&
		    !strcmp(m->image->variables[i].name, name))
			return true;
	*r = CUDA_ERROR_NOT_FOUND;
	return false;
}

/* A declared reference is a new one: nothing binds it to code, since no code runs. */
CUresult cuModuleGetTexRef(CUtexref *pTexRef, CUmodule hmod, const char *name)
{
	CUresult r;
	SIM_ENTER();
	if (!pTexRef)
		return CUDA_ERROR_INVALID_VALUE;
	return declares(hmod, name, SIM_VAR_TEXTURE, &r) ? cuTexRefCreate(pTexRef) : r;
}

CUresult cuModuleGetSurfRef(CUsurfref *pSurfRef, CUmodule hmod, const char *name)
{
	CUresult r;
	SIM_ENTER();
	if (!pSurfRef)
		return CUDA_ERROR_INVALID_VALUE;
	/* Surface references cannot be created by themselves; CUDA 12 dropped them. */
	return declares(hmod, name, SIM_VAR_SURFACE, &r) ? CUDA_ERROR_NOT_SUPPORTED : r;
}
