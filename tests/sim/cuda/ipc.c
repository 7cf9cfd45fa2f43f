/* SPDX-License-Identifier: Apache-2.0 */
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/*
 * cuMemAlloc memory in other processes. A handle is the machine's name for the physical
 * object (for small allocations their whole block) with the place in it. The importer's
 * reference keeps the object until it is closed; only the exporter has it among its live
 * objects.
 */

struct ipc_text {
	uint64_t process; /* a random word: a process may not open its own handles */
	uint64_t offset, bytes;
};

static uint64_t own_word(void)
{
	static uint64_t word;

	if (word == 0 && getrandom(&word, sizeof(word), 0) != sizeof(word))
		word = (uintptr_t)&word;
	return word;
}

/* The name of S, made once: the same memory always has the same handle. */
static CUresult name_of(struct sim_span *s, uint8_t out[64])
{
	struct ipc_text t = { .process = own_word(), .bytes = s->at.len };
	struct rm_phys phys;
	uint64_t base;
	int r;

	if (s->name == NULL) {
		s->name = malloc(64);
		if (s->name == NULL)
			return CUDA_ERROR_OUT_OF_MEMORY;
		sim_span_backing(s, &phys, &base);
		t.offset = s->at.key - base;
		r = rm_name(phys.id, &t, sizeof(t), s->name);
		if (r != 0) {
			free(s->name);
			s->name = NULL;
			return sim_result(r);
		}
	}
	memcpy(out, s->name, 64);
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuIpcGetMemHandle(CUipcMemHandle *pHandle, CUdeviceptr dptr)
{
	struct sim_ctx *ctx;
	struct sim_span *s;
	CUresult e;

	SIM_ENTER();
	if (pHandle == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	e = sim_ctx_current(&ctx);
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	s = sim_span_holding(dptr);
	if (s == NULL || (s->kind != SIM_SPAN_SMALL && s->kind != SIM_SPAN_LARGE))
		e = CUDA_ERROR_INVALID_VALUE;
	else
		e = name_of(s, (uint8_t *)pHandle->reserved);
	sim_mem_unlock();
	return e;
}

/* What CTX has open under NAME. */
static struct sim_span *find_open(uint64_t ctx_id, const uint8_t name[64])
{
	struct sim_span *s = sim_span_after(0);

	while (s != NULL && (s->kind != SIM_SPAN_IPC || s->ctx_id != ctx_id ||
			     memcmp(s->name, name, 64) != 0))
		s = sim_span_after(s->at.key);
	return s;
}

static CUresult add_open(struct sim_ctx *ctx, const struct rm_phys *phys,
			 const struct ipc_text *t, const uint8_t name[64],
			 struct sim_span **out)
{
	struct sim_span *s = NULL;
	uint64_t va;
	int r;

	if (t->offset > phys->bytes || t->bytes > phys->bytes - t->offset)
		return CUDA_ERROR_INVALID_VALUE;
	if (sim_ordinal_of(phys->device) < 0)
		return CUDA_ERROR_INVALID_DEVICE;
	r = sim_phys_map(phys, SIM_WINDOW_DEVICE, &va);
	if (r != 0)
		return sim_result(r);
	s = sim_span_add(SIM_SPAN_IPC, va + t->offset, t->bytes);
	if (s != NULL)
		s->name = malloc(64);
	if (s == NULL || s->name == NULL) {
		if (s != NULL)
			sim_span_drop(s);
		sim_va_give(SIM_WINDOW_DEVICE, va, phys->bytes);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	memcpy(s->name, name, 64);
	s->machine = phys->device;
	s->ctx_id = ctx->id;
	s->ctx = sim_ctx_handle(ctx);
	s->held_bytes = t->bytes;
	s->va_base = va;
	s->va_bytes = phys->bytes;
	s->phys = *phys;
	*out = s;
	return CUDA_SUCCESS;
}

static CUresult open_name(struct sim_ctx *ctx, const uint8_t name[64],
			  struct sim_span **out)
{
	struct ipc_text t;
	size_t n = sizeof(t);
	struct rm_phys phys;
	CUresult e;
	int exporter;

	*out = find_open(ctx->id, name);
	if (*out != NULL)
		return CUDA_SUCCESS;
	if (rm_named(name, &phys, &t, &n, &exporter) != 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (n != sizeof(t))
		e = CUDA_ERROR_INVALID_VALUE;
	else if (t.process == own_word())
		e = CUDA_ERROR_INVALID_CONTEXT;
	else
		e = add_open(ctx, &phys, &t, name, out);
	if (e != CUDA_SUCCESS)
		rm_phys_unref(phys.id);
	return e;
}

static CUresult open_handle(CUdeviceptr *pdptr, const CUipcMemHandle *handle,
			    unsigned flags)
{
	struct sim_span *s = NULL;
	struct sim_ctx *ctx;
	CUresult e;

	if (pdptr == NULL || (flags & ~(unsigned)CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) != 0)
		return CUDA_ERROR_INVALID_VALUE;
	e = sim_ctx_current(&ctx);
	if (e == CUDA_SUCCESS)
		e = sim_capture_forbids();
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	e = open_name(ctx, (const uint8_t *)handle->reserved, &s);
	if (e == CUDA_SUCCESS) {
		s->opened++;
		*pdptr = s->at.key;
	}
	sim_mem_unlock();
	return e;
}

CUresult CUDAAPI cuIpcOpenMemHandle(CUdeviceptr *pdptr, CUipcMemHandle handle,
				    unsigned int Flags)
{
	SIM_ENTER();
	return open_handle(pdptr, &handle, Flags);
}

CUresult CUDAAPI cuIpcOpenMemHandle_v2(CUdeviceptr *pdptr, CUipcMemHandle handle,
				       unsigned int Flags)
{
	SIM_ENTER();
	return open_handle(pdptr, &handle, Flags);
}

void sim_ipc_release(struct sim_span *s)
{
	sim_span_release(s);
}

CUresult CUDAAPI cuIpcCloseMemHandle(CUdeviceptr dptr)
{
	struct sim_ctx *ctx;
	struct sim_span *s;
	CUresult e;

	SIM_ENTER();
	e = sim_ctx_current(&ctx);
	if (e == CUDA_SUCCESS)
		e = sim_capture_forbids();
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	s = sim_span_starting(dptr);
	if (s == NULL || s->kind != SIM_SPAN_IPC)
		e = CUDA_ERROR_INVALID_VALUE;
	else if (--s->opened == 0)
		sim_ipc_release(s);
	sim_mem_unlock();
	return e;
}
