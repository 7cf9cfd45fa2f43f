/* SPDX-License-Identifier: Apache-2.0 */
#include "duration.h"
#include "launch.h"
#include "module.h"

/*
 * The launches of CUDA 3: block shape and parameters are set on the function first. Of the
 * parameters' values only the first bytes are kept, which may tell how long it takes.
 */

#define OLD_PARAM_BYTES 4096u

CUresult cuFuncSetBlockShape(CUfunction hfunc, int x, int y, int z)
{
	struct sim_function *f;
	SIM_ENTER();
	CUresult r = sim_function_of(hfunc, &f);
	if (r != CUDA_SUCCESS)
		return r;
	if (x <= 0 || y <= 0 || z <= 0 || x > 1024 || y > 1024 || z > 64 ||
	    x * y * z > 1024)
		return CUDA_ERROR_INVALID_VALUE;
	f->block[0] = (unsigned)x;
	f->block[1] = (unsigned)y;
	f->block[2] = (unsigned)z;
	return CUDA_SUCCESS;
}

CUresult cuFuncSetSharedSize(CUfunction hfunc, unsigned int bytes)
{
	struct sim_function *f;
	SIM_ENTER();
	CUresult r = sim_function_of(hfunc, &f);
	if (r == CUDA_SUCCESS && bytes > (unsigned)sim_dynamic_shared_max(f))
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		f->shared_bytes = bytes;
	return r;
}

CUresult cuParamSetSize(CUfunction hfunc, unsigned int numbytes)
{
	struct sim_function *f;
	SIM_ENTER();
	CUresult r = sim_function_of(hfunc, &f);
	if (r == CUDA_SUCCESS && numbytes > OLD_PARAM_BYTES)
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		f->param_bytes = numbytes;
	return r;
}

static CUresult set_param(CUfunction hfunc, int offset, const void *from,
			  unsigned int bytes)
{
	struct sim_function *f;
	CUresult r = sim_function_of(hfunc, &f);

	if (r != CUDA_SUCCESS)
		return r;
	if (offset < 0 || bytes > OLD_PARAM_BYTES ||
	    (unsigned)offset > OLD_PARAM_BYTES - bytes)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned i = (unsigned)offset; i < sizeof f->param_first; i++)
		if (i - (unsigned)offset < bytes)
			((unsigned char *)&f->param_first)[i] =
				((const unsigned char *)from)[i - (unsigned)offset];
	return CUDA_SUCCESS;
}

CUresult cuParamSeti(CUfunction hfunc, int offset, unsigned int value)
{
	SIM_ENTER();
	return set_param(hfunc, offset, &value, sizeof value);
}

CUresult cuParamSetf(CUfunction hfunc, int offset, float value)
{
	SIM_ENTER();
	return set_param(hfunc, offset, &value, sizeof value);
}

CUresult cuParamSetv(CUfunction hfunc, int offset, void *ptr, unsigned int numbytes)
{
	SIM_ENTER();
	return ptr ? set_param(hfunc, offset, ptr, numbytes) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuParamSetTexRef(CUfunction hfunc, int texunit, CUtexref hTexRef)
{
	struct sim_function *f;
	SIM_ENTER();
	if (texunit != CU_PARAM_TR_DEFAULT || !hTexRef)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_function_of(hfunc, &f);
}

static CUresult launch_old(CUfunction handle, int width, int height, CUstream stream)
{
	struct sim_function *f;
	struct sim_stream *s;
	struct rm_work work;
	CUresult r = sim_function_of(handle, &f);

	if (r != CUDA_SUCCESS)
		return r;
	if (width <= 0 || height <= 0 || height > 65535)
		return CUDA_ERROR_INVALID_VALUE;
	if (f->block[0] * f->block[1] * f->block[2] > f->decl->max_threads)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_get(stream, false, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (sim_stream_capturing(s))
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	if (sim_stream_ctx(s) != f->module->ctx)
		return CUDA_ERROR_INVALID_HANDLE;
	r = sim_function_load(f);
	if (r != CUDA_SUCCESS)
		return r;
	const struct sim_grid grid = {
		.blocks = (uint64_t)width * (uint64_t)height,
		.threads = f->block[0] * f->block[1] * f->block[2],
		.dynamic_bytes = f->shared_bytes,
		.first = f->param_first,
	};
	sim_kernel_work(f, &grid, &work);
	return sim_launch_work(s, &work);
}

CUresult cuLaunch(CUfunction f)
{
	SIM_ENTER();
	return launch_old(f, 1, 1, NULL);
}

CUresult cuLaunchGrid(CUfunction f, int grid_width, int grid_height)
{
	SIM_ENTER();
	return launch_old(f, grid_width, grid_height, NULL);
}

CUresult cuLaunchGridAsync(CUfunction f, int grid_width, int grid_height, CUstream hStream)
{
	SIM_ENTER();
	return launch_old(f, grid_width, grid_height, hStream);
}
