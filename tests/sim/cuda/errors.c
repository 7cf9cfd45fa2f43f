/* SPDX-License-Identifier: Apache-2.0 */
#include "errors.h"

#include <stdlib.h>

static int compare_codes(const void *key, const void *row)
{
	CUresult code = *(const CUresult *)key;
	const struct sim_error *error = row;

	return (code > error->code) - (code < error->code);
}

static const struct sim_error *find_error(CUresult code)
{
	return bsearch(&code, sim_errors, sim_error_count, sizeof(sim_errors[0]),
		       compare_codes);
}

CUresult cuGetErrorName(CUresult error, const char **pStr)
{
	const struct sim_error *found = find_error(error);
	CUresult r = sim_enter_early(__func__);

	if (r != CUDA_SUCCESS)
		return r;
	if (!pStr)
		return CUDA_ERROR_INVALID_VALUE;
	*pStr = found ? found->name : NULL;
	return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **pStr)
{
	const struct sim_error *found = find_error(error);
	CUresult r = sim_enter_early(__func__);

	if (r != CUDA_SUCCESS)
		return r;
	if (!pStr)
		return CUDA_ERROR_INVALID_VALUE;
	*pStr = found ? found->text : NULL;
	return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
