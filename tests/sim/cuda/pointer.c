/* SPDX-License-Identifier: Apache-2.0 */
#include "mem.h"

#include <string.h>

/* What the driver knows about an address. */

/* Everything a query may need, copied under the lock. */
struct known {
	struct sim_span span;
	struct sim_reservation
		range; /* of addresses: a VMM reservation, else the allocation */
	uint64_t block_id;
	CUcontext ctx;
	int ordinal;
	unsigned handle_types, access;
	bool is_mapped;
};

static bool is_host(const struct known *k)
{
	return k->span.kind == SIM_SPAN_HOST || k->span.kind == SIM_SPAN_REGISTERED ||
	       k->span.machine == RM_HOST;
}

static void read_access(struct known *k, int current)
{
	const struct sim_span *s = &k->span;

	k->access = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	if (s->kind == SIM_SPAN_MAPPING) {
		k->access = current < 0 ? 0 : sim_vmm_access(s, current);
		k->handle_types = (unsigned)sim_vmm_handle_types(s->vmm);
	} else if (s->pool != NULL) {
		if (current >= 0 && s->kind == SIM_SPAN_POOL)
			k->access = sim_pool_access(s->pool, current);
		k->handle_types = (unsigned)sim_pool_handle_types(s->pool);
	}
}

static bool look_up(CUdeviceptr p, struct known *k)
{
	struct sim_ctx *ctx = NULL;
	struct rm_phys phys = { 0 };
	struct sim_span *s;
	uint64_t base;
	bool found = true;
	int current = sim_ctx_current(&ctx) == CUDA_SUCCESS ? (int)ctx->dev : -1;

	memset(k, 0, sizeof(*k));
	sim_mem_lock();
	s = sim_span_holding(p);
	if (s != NULL) {
		k->span = *s;
		k->is_mapped = true;
		k->ctx = s->ctx;
		k->ordinal = s->machine == RM_HOST ? CU_DEVICE_CPU
						   : sim_ordinal_of(s->machine);
		k->range.base = s->at.key;
		k->range.bytes = s->at.len;
		sim_span_backing(s, &phys, &base);
		k->block_id = phys.id != 0 ? phys.id : s->buffer_id;
		if (s->kind == SIM_SPAN_MAPPING)
			(void)sim_vmm_reservation(p, &k->range);
		read_access(k, current);
	} else {
		found = sim_vmm_reservation(p, &k->range);
		k->span.kind = SIM_SPAN_MAPPING;
		k->ordinal = CU_DEVICE_INVALID;
	}
	sim_mem_unlock();
	return found;
}

/* Answers are of four shapes. */
static CUresult put_int(void *out, int v)
{
	memcpy(out, &v, sizeof(v));
	return CUDA_SUCCESS;
}

static CUresult put_bool(void *out, bool v)
{
	/* the header says "boolean"; the driver writes one byte or an int by attribute, and
	 * an int's first byte is right for both */
	return put_int(out, v);
}

static CUresult put_u64(void *out, uint64_t v)
{
	memcpy(out, &v, sizeof(v));
	return CUDA_SUCCESS;
}

static CUresult put_tokens(void *out, const struct known *k)
{
	CUDA_POINTER_ATTRIBUTE_P2P_TOKENS t = { 0 };
	struct sim_span *s;

	if (k->span.kind != SIM_SPAN_SMALL && k->span.kind != SIM_SPAN_LARGE)
		return CUDA_ERROR_INVALID_VALUE;
	t.p2pToken = k->span.buffer_id;
	t.vaSpaceToken = (unsigned)k->span.machine + 1;
	memcpy(out, &t, sizeof(t));
	sim_mem_lock();
	s = sim_span_starting(k->span.at.key);
	if (s != NULL)
		s->sync_memops = true; /* as asking for the tokens does */
	sim_mem_unlock();
	return CUDA_SUCCESS;
}

static bool is_cumemalloc(const struct known *k)
{
	return k->span.kind == SIM_SPAN_SMALL || k->span.kind == SIM_SPAN_LARGE;
}

static CUresult answer_memory(const struct known *k, CUpointer_attribute a, CUdeviceptr p,
			      void *out)
{
	switch ((int)a) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
		return put_u64(out, (uintptr_t)k->ctx);
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
		return put_int(out, is_host(k) ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
		return put_u64(out, p);
	case CU_POINTER_ATTRIBUTE_HOST_POINTER:
		if (!is_host(k) && k->span.kind != SIM_SPAN_MANAGED)
			return CUDA_ERROR_INVALID_VALUE;
		return put_u64(out, p);
	case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
		return put_tokens(out, k);
	case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
		return put_bool(out, k->span.sync_memops);
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
		return put_u64(out, k->span.buffer_id);
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
		return put_bool(out, k->span.kind == SIM_SPAN_MANAGED);
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		return put_int(out, k->ordinal);
	default:
		return CUDA_ERROR_NOT_FOUND;
	}
}

static CUresult answer_allocation(const struct known *k, CUpointer_attribute a, void *out)
{
	const struct sim_pool *pool = k->span.kind == SIM_SPAN_MAPPING ? NULL
								       : k->span.pool;

	switch ((int)a) {
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
		return put_bool(out, is_cumemalloc(k));
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
		return put_u64(out, k->range.base);
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
		return put_u64(out, k->range.bytes);
	case CU_POINTER_ATTRIBUTE_MAPPED:
		return put_bool(out, k->is_mapped);
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
		return put_u64(out, k->handle_types);
	case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
		return put_bool(out,
				is_cumemalloc(k) || (k->span.kind == SIM_SPAN_MAPPING &&
						     k->is_mapped && !is_host(k)));
	case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
		return put_int(out, (int)k->access);
	case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
		return put_u64(out, (uintptr_t)pool);
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
		return put_u64(out, k->span.at.len);
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
		return put_u64(out, k->span.at.key);
	case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
		return put_u64(out, k->block_id);
	case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
		return put_bool(out, false);
	case CU_POINTER_ATTRIBUTE_LOCALITY_DOMAIN_ORDINAL:
		return put_int(out, -1);
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult answer(const struct known *k, CUpointer_attribute a, CUdeviceptr p,
		       void *out)
{
	bool of_addresses = a == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR ||
			    a == CU_POINTER_ATTRIBUTE_RANGE_SIZE ||
			    a == CU_POINTER_ATTRIBUTE_MAPPED;
	CUresult e;

	if (!k->is_mapped && !of_addresses)
		return CUDA_ERROR_INVALID_VALUE; /* a hole in a reservation */
	e = answer_memory(k, a, p, out);
	return e == CUDA_ERROR_NOT_FOUND ? answer_allocation(k, a, out) : e;
}

static size_t size_of(CUpointer_attribute a)
{
	switch ((int)a) {
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
	case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
	case CU_POINTER_ATTRIBUTE_MAPPED:
	case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
	case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
	case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
	case CU_POINTER_ATTRIBUTE_LOCALITY_DOMAIN_ORDINAL:
		return sizeof(int);
	case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
		return sizeof(CUDA_POINTER_ATTRIBUTE_P2P_TOKENS);
	default:
		return sizeof(uint64_t);
	}
}

CUresult CUDAAPI cuPointerGetAttribute(void *data, CUpointer_attribute attribute,
				       CUdeviceptr ptr)
{
	struct known k;

	SIM_ENTER();
	if (data == NULL || !look_up(ptr, &k))
		return CUDA_ERROR_INVALID_VALUE;
	return answer(&k, attribute, ptr, data);
}

/* Unlike the single query, this one answers zeros for addresses and attributes that have
 * none. */
CUresult CUDAAPI cuPointerGetAttributes(unsigned int numAttributes,
					CUpointer_attribute *attributes, void **data,
					CUdeviceptr ptr)
{
	struct known k;
	bool found;

	SIM_ENTER();
	if (numAttributes == 0 || attributes == NULL || data == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	found = look_up(ptr, &k);
	for (unsigned i = 0; i < numAttributes; i++) {
		CUpointer_attribute a = attributes[i];

		if (data[i] == NULL || (int)a < CU_POINTER_ATTRIBUTE_CONTEXT ||
		    (int)a > CU_POINTER_ATTRIBUTE_LOCALITY_DOMAIN_ORDINAL)
			return CUDA_ERROR_INVALID_VALUE;
		if (found && answer(&k, a, ptr, data[i]) == CUDA_SUCCESS)
			continue;
		memset(data[i], 0, size_of(a));
		if (a == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
			(void)put_int(data[i], CU_DEVICE_INVALID);
	}
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuPointerSetAttribute(const void *value, CUpointer_attribute attribute,
				       CUdeviceptr ptr)
{
	struct sim_span *s;
	int on;

	SIM_ENTER();
	if (value == NULL || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&on, value, sizeof(on));
	sim_mem_lock();
	s = sim_span_holding(ptr);
	if (s != NULL && s->kind != SIM_SPAN_HOST && s->kind != SIM_SPAN_REGISTERED)
		s->sync_memops = on != 0;
	else
		s = NULL;
	sim_mem_unlock();
	return s == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
