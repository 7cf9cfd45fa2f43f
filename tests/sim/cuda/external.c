/* SPDX-License-Identifier: Apache-2.0 */
/*
 * External memory and semaphores. A descriptor that names memory here is one that this
 * simulator exported (cuMemExportToShareableHandle): there is no graphics driver to get
 * another from. Memory that is imported counts where it was made, not again.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"

struct CUextMemory_st {
	struct sim_handle handle;
	struct rm_phys phys;
	size_t bytes; /* as the importer said */
	/* The mapping under mipmapped arrays; lives as long as the import, as the header
	 * asks. */
	CUdeviceptr view;
};

struct CUextSemaphore_st {
	struct sim_handle handle;
	CUexternalSemaphoreHandleType type;
	uint64_t value;
};

SIM_HANDLE_SET(memories);
SIM_HANDLE_SET(semaphores);

static bool is_zero(const unsigned int *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (words[i])
			return false;
	return true;
}

/* ---- memory ----------------------------------------------------------------------- */

CUresult cuImportExternalMemory(CUexternalMemory *extMem_out,
				const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *desc)
{
	CUexternalMemory m;
	int r;

	SIM_ENTER();
	if (!extMem_out || !desc || !desc->size || !is_zero(desc->reserved, 16) ||
	    desc->flags & ~(unsigned int)CUDA_EXTERNAL_MEMORY_DEDICATED)
		return CUDA_ERROR_INVALID_VALUE;
	if (desc->type != CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD &&
	    desc->type != CU_EXTERNAL_MEMORY_HANDLE_TYPE_DMABUF_FD)
		return CUDA_ERROR_NOT_SUPPORTED;
	m = calloc(1, sizeof *m);
	if (!m)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = rm_phys_import(desc->handle.fd, &m->phys);
	if (r < 0) {
		free(m);
		return r == -EBADF ? CUDA_ERROR_INVALID_VALUE : sim_result(r);
	}
	if (desc->size > m->phys.bytes) {
		rm_phys_unref(m->phys.id);
		free(m);
		return CUDA_ERROR_INVALID_VALUE;
	}
	m->bytes = (size_t)desc->size;
	/* From here the descriptor is the driver's, except a dma-buf's. */
	if (desc->type == CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD)
		close(desc->handle.fd);
	sim_handle_add(&memories, &m->handle);
	*extMem_out = m;
	return CUDA_SUCCESS;
}

static bool lies_within(unsigned long long offset, unsigned long long size, size_t whole)
{
	return size && offset <= whole && size <= whole - offset;
}

CUresult cuExternalMemoryGetMappedBuffer(CUdeviceptr *devPtr, CUexternalMemory extMem,
					 const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *desc)
{
	struct sim_ctx *ctx;
	CUresult r;

	SIM_ENTER();
	if (!devPtr || !desc || desc->flags || !is_zero(desc->reserved, 16))
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_handle_live(&memories, extMem))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!lies_within(desc->offset, desc->size, extMem->bytes))
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	return sim_mem_attach(ctx, &extMem->phys, (size_t)desc->offset, (size_t)desc->size,
			      devPtr);
}

/* The whole import as one range of addresses, made when first needed. */
static CUresult view_memory(CUexternalMemory m)
{
	struct sim_ctx *ctx;
	CUresult r;

	if (m->view)
		return CUDA_SUCCESS;
	r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	return sim_mem_attach(ctx, &m->phys, 0, m->bytes, &m->view);
}

CUresult cuExternalMemoryGetMappedMipmappedArray(
	CUmipmappedArray *mipmap, CUexternalMemory extMem,
	const CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC *desc)
{
	CUresult r;

	SIM_ENTER();
	if (!mipmap || !desc || !desc->numLevels || !is_zero(desc->reserved, 16))
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_handle_live(&memories, extMem))
		return CUDA_ERROR_INVALID_HANDLE;
	if (desc->offset >= extMem->bytes || desc->offset % ARRAY_ALIGN_BYTES)
		return CUDA_ERROR_INVALID_VALUE;
	r = view_memory(extMem);
	if (r != CUDA_SUCCESS)
		return r;
	return mipmap_over(&desc->arrayDesc, desc->numLevels,
			   (unsigned char *)(uintptr_t)(extMem->view + desc->offset),
			   extMem->bytes - (size_t)desc->offset, mipmap);
}

/* Mapped buffers keep their own reference and are freed with cuMemFree. */
CUresult cuDestroyExternalMemory(CUexternalMemory extMem)
{
	SIM_ENTER();
	if (!sim_handle_remove(&memories, extMem))
		return CUDA_ERROR_INVALID_HANDLE;
	if (extMem->view)
		sim_mem_give(extMem->view, extMem->bytes, &extMem->phys);
	rm_phys_unref(extMem->phys.id);
	free(extMem);
	return CUDA_SUCCESS;
}

/* ---- semaphores ------------------------------------------------------------------- */

CUresult cuImportExternalSemaphore(CUexternalSemaphore *extSem_out,
				   const CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC *desc)
{
	CUexternalSemaphore s;

	SIM_ENTER();
	if (!extSem_out || !desc || desc->flags || !is_zero(desc->reserved, 16))
		return CUDA_ERROR_INVALID_VALUE;
	if (desc->type != CU_EXTERNAL_SEMAPHORE_HANDLE_TYPE_OPAQUE_FD &&
	    desc->type != CU_EXTERNAL_SEMAPHORE_HANDLE_TYPE_TIMELINE_SEMAPHORE_FD)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (fcntl(desc->handle.fd, F_GETFD) < 0)
		return CUDA_ERROR_INVALID_VALUE;
	s = calloc(1, sizeof *s);
	if (!s)
		return CUDA_ERROR_OUT_OF_MEMORY;
	s->type = desc->type;
	close(desc->handle.fd); /* an import takes the descriptor over */
	sim_handle_add(&semaphores, &s->handle);
	*extSem_out = s;
	return CUDA_SUCCESS;
}

CUresult cuDestroyExternalSemaphore(CUexternalSemaphore extSem)
{
	SIM_ENTER();
	if (!sim_handle_remove(&semaphores, extSem))
		return CUDA_ERROR_INVALID_HANDLE;
	free(extSem);
	return CUDA_SUCCESS;
}

static CUresult check_semaphores(const CUexternalSemaphore *handles, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (!sim_handle_live(&semaphores, handles[i]))
			return CUDA_ERROR_INVALID_HANDLE;
	return CUDA_SUCCESS;
}

CUresult sim_signal_node(const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *p, struct sim_ctx *ctx)
{
	CUresult r = check_semaphores(p->extSemArray, p->numExtSems);

	(void)ctx;
	for (unsigned int i = 0; r == CUDA_SUCCESS && i < p->numExtSems; i++)
		p->extSemArray[i]->value = p->paramsArray[i].params.fence.value;
	return r;
}

/* Nothing takes time here and nobody outside can signal: a wait that has come is over. */
CUresult sim_wait_node(const CUDA_EXT_SEM_WAIT_NODE_PARAMS *p, struct sim_ctx *ctx)
{
	(void)ctx;
	return check_semaphores(p->extSemArray, p->numExtSems);
}

static CUresult run_signal(void *params, struct sim_ctx *ctx)
{
	return sim_signal_node(params, ctx);
}

static CUresult run_wait(void *params, struct sim_ctx *ctx)
{
	return sim_wait_node(params, ctx);
}

static void drop_signal(void *params)
{
	CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *p = params;

	free(p->extSemArray);
	free((void *)(uintptr_t)p->paramsArray);
}

static void drop_wait(void *params)
{
	CUDA_EXT_SEM_WAIT_NODE_PARAMS *p = params;

	free(p->extSemArray);
	free((void *)(uintptr_t)p->paramsArray);
}

/* A copy of N elements on the heap; NULL when there is no memory. */
static void *duplicate(const void *from, size_t n, size_t element_bytes)
{
	void *copy = calloc(n, element_bytes);

	if (copy)
		memcpy(copy, from, n * element_bytes);
	return copy;
}

/* What PARAMS point to is the op's: sim_submit() takes it, whatever it answers. */
static CUresult submit_or_drop(CUstream stream, bool ptsz, const struct sim_op *op,
			       bool complete)
{
	CUresult r = complete ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
	struct sim_stream *s;

	if (r == CUDA_SUCCESS)
		r = sim_stream_get(stream, ptsz, &s);
	if (r == CUDA_SUCCESS)
		return sim_submit(s, op);
	op->drop(op->params);
	return r;
}

static CUresult signal_all(const CUexternalSemaphore *handles,
			   const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS *params,
			   unsigned int n, CUstream stream, bool ptsz)
{
	CUDA_EXT_SEM_SIGNAL_NODE_PARAMS node = { .numExtSems = n };
	struct sim_op op = { CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL, run_signal, drop_signal,
			     &node, sizeof node };
	CUresult r;

	if (!handles || !params || !n)
		return CUDA_ERROR_INVALID_VALUE;
	r = check_semaphores(handles, n);
	if (r != CUDA_SUCCESS)
		return r;
	node.extSemArray = duplicate(handles, n, sizeof *handles);
	node.paramsArray = duplicate(params, n, sizeof *params);
	return submit_or_drop(stream, ptsz, &op, node.extSemArray && node.paramsArray);
}

static CUresult wait_all(const CUexternalSemaphore *handles,
			 const CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS *params, unsigned int n,
			 CUstream stream, bool ptsz)
{
	CUDA_EXT_SEM_WAIT_NODE_PARAMS node = { .numExtSems = n };
	struct sim_op op = { CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT, run_wait, drop_wait, &node,
			     sizeof node };
	CUresult r;

	if (!handles || !params || !n)
		return CUDA_ERROR_INVALID_VALUE;
	r = check_semaphores(handles, n);
	if (r != CUDA_SUCCESS)
		return r;
	node.extSemArray = duplicate(handles, n, sizeof *handles);
	node.paramsArray = duplicate(params, n, sizeof *params);
	return submit_or_drop(stream, ptsz, &op, node.extSemArray && node.paramsArray);
}

CUresult cuSignalExternalSemaphoresAsync(
	const CUexternalSemaphore *extSemArray,
	const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS *params, unsigned int numExtSems,
	CUstream stream)
{
	SIM_ENTER();
	return signal_all(extSemArray, params, numExtSems, stream, false);
}

CUresult cuSignalExternalSemaphoresAsync_ptsz(
	const CUexternalSemaphore *extSemArray,
	const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS *params, unsigned int numExtSems,
	CUstream stream)
{
	SIM_ENTER();
	return signal_all(extSemArray, params, numExtSems, stream, true);
}

CUresult cuWaitExternalSemaphoresAsync(const CUexternalSemaphore *extSemArray,
				       const CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS *params,
				       unsigned int numExtSems, CUstream stream)
{
	SIM_ENTER();
	return wait_all(extSemArray, params, numExtSems, stream, false);
}

CUresult cuWaitExternalSemaphoresAsync_ptsz(
	const CUexternalSemaphore *extSemArray,
	const CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS *params, unsigned int numExtSems,
	CUstream stream)
{
	SIM_ENTER();
	return wait_all(extSemArray, params, numExtSems, stream, true);
}
