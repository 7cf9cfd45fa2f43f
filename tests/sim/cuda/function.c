/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

#include <string.h>

/* Facts and settings of functions. */

#define SHARED_DEFAULT (48u << 10)

void sim_limits_of(const struct sim_ctx *ctx, struct sim_limits *out)
{
	const struct rm_device *d = sim_device_facts(ctx->machine);
	uint32_t cc = d->cc_major * 10 + d->cc_minor;
	bool wide = cc == 80 || cc == 90 || cc >= 100;

	out->threads_per_sm = d->threads_per_sm;
	out->sm_count = d->sm_count;
	out->registers_per_sm = 65536;
	out->blocks_per_sm = cc == 75 || cc == 86 ? 16 : cc == 89 ? 24 : 32;
	out->shared_per_block = SHARED_DEFAULT;
	out->shared_reserved = cc >= 80 ? 1024 : 0;
	if (cc < 80)
		out->shared_per_sm = 64u << 10;
	else if (!wide || cc >= 120)
		out->shared_per_sm = 100u << 10;
	else
		out->shared_per_sm = cc == 80 ? 164u << 10 : 228u << 10;
	out->shared_optin = out->shared_per_sm - out->shared_reserved;
	out->cluster_max = cc >= 90 ? 8 : 1;
}

int sim_dynamic_shared_max(const struct sim_function *f)
{
	uint32_t fixed = f->decl->shared_bytes;

	if (f->max_dynamic_shared > 0)
		return f->max_dynamic_shared;
	return fixed >= SHARED_DEFAULT ? 0 : (int)(SHARED_DEFAULT - fixed);
}

CUresult sim_param_at(const struct sim_image_function *decl, size_t i, size_t *offset,
		      size_t *bytes)
{
	if (i >= decl->param_count)
		return CUDA_ERROR_INVALID_VALUE;
	*offset = decl->params[i].offset;
	if (bytes)
		*bytes = decl->params[i].bytes;
	return CUDA_SUCCESS;
}

static uint32_t const_bytes(const struct sim_image *image)
{
	uint64_t total = 0;

	for (size_t i = 0; i < image->variable_count; i++)
		if (image->variables[i].kind == SIM_VAR_CONST &&
		    image->variables[i].bytes <= 65536)
			total += image->variables[i].bytes;
	return total > 65536 ? 65536 : (uint32_t)total;
}

CUresult sim_function_attribute(const struct sim_function *f, CUfunction_attribute attrib,
				int *out)
{
	const struct sim_image_function *d = f->decl;
	const struct sim_image *image = f->module->image;

	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	switch ((int)attrib) {
	case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
		*out = (int)d->max_threads;
		break;
	case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
		*out = (int)d->shared_bytes;
		break;
	case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
		*out = (int)const_bytes(image);
		break;
	case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
		*out = (int)d->local_bytes;
		break;
	case CU_FUNC_ATTRIBUTE_NUM_REGS:
		*out = (int)d->registers;
		break;
	case CU_FUNC_ATTRIBUTE_PTX_VERSION:
		*out = image->ptx_version;
		break;
	case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
		*out = image->binary_version;
		break;
	case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
	case CU_FUNC_ATTRIBUTE_DEVICE_NODE_UPDATE_SUPPORTED:
	case CU_FUNC_ATTRIBUTE_SHARED_MEMORY_MODE:
		*out = 0;
		break;
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		*out = sim_dynamic_shared_max(f);
		break;
	case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		*out = f->carveout;
		break;
	case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
		*out = f->cluster_required;
		break;
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
		*out = f->cluster[attrib - CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH];
		break;
	case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
		*out = f->nonportable;
		break;
	case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
		*out = f->cluster_policy;
		break;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

CUresult sim_function_set(struct sim_function *f, CUfunction_attribute attrib, int value)
{
	struct sim_limits limits;

	sim_limits_of(f->module->ctx, &limits);
	switch ((int)attrib) {
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		if (value < 0 ||
		    (uint64_t)value + f->decl->shared_bytes > limits.shared_optin)
			return CUDA_ERROR_INVALID_VALUE;
		f->max_dynamic_shared = value;
		break;
	case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		if (value < -1 || value > 100)
			return CUDA_ERROR_INVALID_VALUE;
		f->carveout = value;
		break;
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
		if (value < 0)
			return CUDA_ERROR_INVALID_VALUE;
		f->cluster[attrib - CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH] = value;
		break;
	case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
		f->nonportable = value != 0;
		break;
	case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
		if (value < 0 || value > 2)
			return CUDA_ERROR_INVALID_VALUE;
		f->cluster_policy = value;
		break;
	default:
		return CUDA_ERROR_INVALID_VALUE; /* not an attribute, or one that is only
						    read */
	}
	return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction hfunc)
{
	struct sim_function *f;
	SIM_ENTER();
	CUresult r = sim_function_of(hfunc, &f);
	return r == CUDA_SUCCESS ? sim_function_attribute(f, attrib, pi) : r;
}

CUresult cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value)
{
	struct sim_function *f;
	SIM_ENTER();
	CUresult r = sim_function_of(hfunc, &f);
	return r == CUDA_SUCCESS ? sim_function_set(f, attrib, value) : r;
}

CUresult cuFuncSetCacheConfig(CUfunction hfunc, CUfunc_cache config)
{
	struct sim_function *f;
	SIM_ENTER();
	if ((unsigned int)config > CU_FUNC_CACHE_PREFER_EQUAL)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_function_of(hfunc, &f);
	if (r == CUDA_SUCCESS)
		f->cache = config;
	return r;
}

CUresult cuFuncSetSharedMemConfig(CUfunction hfunc, CUsharedconfig config)
{
	struct sim_function *f;
	SIM_ENTER();
	if ((unsigned int)config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_function_of(hfunc, &f);
}

CUresult cuFuncGetModule(CUmodule *hmod, CUfunction hfunc)
{
	struct sim_function *f;
	SIM_ENTER();
	if (!hmod)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_function_of(hfunc, &f);
	if (r == CUDA_SUCCESS)
		*hmod = (CUmodule)f->module;
	return r;
}

CUresult cuFuncGetName(const char **name, CUfunction hfunc)
{
	struct sim_function *f;
	SIM_ENTER();
	if (!name)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_function_of(hfunc, &f);
	if (r == CUDA_SUCCESS)
		*name = f->decl->name;
	return r;
}

CUresult cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t *paramOffset,
			    size_t *paramSize)
{
	struct sim_function *f;
	SIM_ENTER();
	if (!paramOffset)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_function_of(func, &f);
	return r == CUDA_SUCCESS ? sim_param_at(f->decl, paramIndex, paramOffset, paramSize)
				 : r;
}

CUresult cuFuncGetParamCount(CUfunction func, size_t *paramCount)
{
	struct sim_function *f;
	SIM_ENTER();
	if (!paramCount)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_function_of(func, &f);
	if (r == CUDA_SUCCESS)
		*paramCount = f->decl->param_count;
	return r;
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction function)
{
	struct sim_function *f;
	SIM_ENTER();
	if (!state)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_function_of(function, &f);
	if (r == CUDA_SUCCESS)
		*state = f->loaded ? CU_FUNCTION_LOADING_STATE_LOADED
				   : CU_FUNCTION_LOADING_STATE_UNLOADED;
	return r;
}

CUresult cuFuncLoad(CUfunction function)
{
	struct sim_function *f;
	SIM_ENTER();
	CUresult r = sim_function_of(function, &f);
	return r == CUDA_SUCCESS ? sim_function_load(f) : r;
}
