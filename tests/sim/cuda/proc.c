/* SPDX-License-Identifier: Apache-2.0 */
#include "proc.h"

#include <string.h>

#include "init.h"
#include "sim.h"

/* The first row of BASE in the table, which is sorted by it; NULL for a name nobody knows.
 */
static const struct sim_proc *first_of(const char *base)
{
	size_t low = 0;
	size_t high = sim_proc_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(sim_procs[middle].base, base) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == sim_proc_count || strcmp(sim_procs[low].base, base) != 0)
		return NULL;
	return &sim_procs[low];
}

/*
 * The newest ABI of BASE that VERSION may ask for on a driver of version DRIVER. A
 * per-thread twin wins over every plain one when it is asked for, because it came after the
 * ABI it twins. *known: this driver has the name, in whatever version.
 */
static const struct sim_proc *newest(const char *base, int version, int driver,
				     bool per_thread, bool *known)
{
	const struct sim_proc *end = sim_procs + sim_proc_count;
	const struct sim_proc *best = NULL;

	*known = false;
	for (const struct sim_proc *p = first_of(base); p && p < end; p++) {
		if (strcmp(p->base, base) != 0)
			break;
		if (p->version > driver)
			continue;
		*known = true;
		if (p->version > version || (p->per_thread && !per_thread))
			continue;
		if (!best || (p->per_thread && !best->per_thread) ||
		    (p->per_thread == best->per_thread && p->version > best->version))
			best = p;
	}
	return best;
}

static CUresult look_up(const char *symbol, void **pfn, int version, cuuint64_t flags,
			CUdriverProcAddressQueryResult *status)
{
	const cuuint64_t both = CU_GET_PROC_ADDRESS_LEGACY_STREAM |
				CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
	int driver = sim_driver_version();
	const struct rm_machine *machine = sim_machine();
	const struct sim_proc *proc;
	bool known;

	if (!symbol || !pfn || (flags & ~both) != 0 || flags == both || version > driver)
		return CUDA_ERROR_INVALID_VALUE;
	proc = newest(symbol, version, driver,
		      (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0, &known);
	if (!proc) {
		*status = known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
				: CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
		*pfn = NULL;
		return CUDA_SUCCESS;
	}
	*status = CU_GET_PROC_ADDRESS_SUCCESS;
	*pfn = (void *)(machine && machine->split_pointers ? proc->thunk : proc->export);
	return CUDA_SUCCESS;
}

/* The ABI of 11.3: no status word, so a name that is not found is an error. */
CUresult cuGetProcAddress(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags)
{
	CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SUCCESS;
	CUresult r = sim_enter_early(__func__);

	if (r == CUDA_SUCCESS)
		r = look_up(symbol, pfn, cudaVersion, flags, &status);
	if (r == CUDA_SUCCESS && status != CU_GET_PROC_ADDRESS_SUCCESS)
		r = CUDA_ERROR_NOT_FOUND;
	return r;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int cudaVersion,
			     cuuint64_t flags, CUdriverProcAddressQueryResult *symbolStatus)
{
	CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SUCCESS;
	CUresult r = sim_enter_early(__func__);

	if (r == CUDA_SUCCESS)
		r = look_up(symbol, pfn, cudaVersion, flags, &status);
	if (r == CUDA_SUCCESS && symbolStatus)
		*symbolStatus = status;
	return r;
}
