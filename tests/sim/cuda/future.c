/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only the "unknown newer driver" has: exports, new ABIs of known names and an export
 * table that no header describes. Programs that meet such a driver must come through
 * unharmed, so these work: a new ABI does what the old one does.
 */
#include <string.h>

#include "init.h"
#include "sim.h"

struct future_launch {
	CUfunction function;
	unsigned int grid[3];
	unsigned int block[3];
	unsigned int shared_bytes;
	void **parameters;
};

CUresult cuFutureThing(int *out);
CUresult cuMemAlloc_v3(CUdeviceptr *dptr, size_t bytes, unsigned long long flags);
CUresult cuLaunchKernel_v2(const struct future_launch *launch, CUstream stream);
CUresult cuLaunchKernel_v2_ptsz(const struct future_launch *launch, CUstream stream);
CUresult cuFutureAllocAsync(CUdeviceptr *dptr, size_t bytes, CUstream stream);
CUresult cuFutureAllocAsync_ptsz(CUdeviceptr *dptr, size_t bytes, CUstream stream);

CUresult cuFutureThing(int *out)
{
	SIM_ENTER();
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	*out = 42;
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v3(CUdeviceptr *dptr, size_t bytes, unsigned long long flags)
{
	SIM_ENTER();
	if (flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	return cuMemAlloc_v2(dptr, bytes);
}

CUresult cuLaunchKernel_v2(const struct future_launch *l, CUstream stream)
{
	SIM_ENTER();
	if (!l)
		return CUDA_ERROR_INVALID_VALUE;
	return cuLaunchKernel(l->function, l->grid[0], l->grid[1], l->grid[2], l->block[0],
			      l->block[1], l->block[2], l->shared_bytes, stream,
			      l->parameters, NULL);
}

CUresult cuLaunchKernel_v2_ptsz(const struct future_launch *l, CUstream stream)
{
	SIM_ENTER();
	if (!l)
		return CUDA_ERROR_INVALID_VALUE;
	return cuLaunchKernel_ptsz(l->function, l->grid[0], l->grid[1], l->grid[2],
				   l->block[0], l->block[1], l->block[2], l->shared_bytes,
				   stream, l->parameters, NULL);
}

CUresult cuFutureAllocAsync(CUdeviceptr *dptr, size_t bytes, CUstream stream)
{
	SIM_ENTER();
	return cuMemAllocAsync(dptr, bytes, stream);
}

CUresult cuFutureAllocAsync_ptsz(CUdeviceptr *dptr, size_t bytes, CUstream stream)
{
	SIM_ENTER();
	return cuMemAllocAsync_ptsz(dptr, bytes, stream);
}

/* An export table begins with its size in bytes. This one's id is made up, its functions
 * work. */
static const struct future_table {
	size_t bytes;
	CUresult (*thing)(int *out);
	CUresult (*alloc)(CUdeviceptr *dptr, size_t bytes, unsigned long long flags);
} future_table = { sizeof(future_table), cuFutureThing, cuMemAlloc_v3 };
static const CUuuid future_table_id = { "sim-future-table" };

/*
 * Private tables of the real driver are not served: the CUDA runtime takes them as proof
 * that it talks to the genuine driver, and the simulator does not forge that.
 */
CUresult cuGetExportTable(const void **ppExportTable, const CUuuid *pExportTableId)
{
	const struct rm_machine *machine = sim_machine();
	CUresult r = sim_enter_early(__func__);

	if (r != CUDA_SUCCESS)
		return r;
	if (!ppExportTable || !pExportTableId)
		return CUDA_ERROR_INVALID_VALUE;
	*ppExportTable = NULL;
	if (!machine || !machine->newer_driver ||
	    memcmp(pExportTableId, &future_table_id, sizeof(future_table_id)) != 0)
		return CUDA_ERROR_NOT_FOUND;
	*ppExportTable = &future_table;
	return CUDA_SUCCESS;
}
