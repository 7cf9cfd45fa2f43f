/* SPDX-License-Identifier: Apache-2.0 */
#include "managed.h"

/* Advice on managed memory, and what is known of a range. */

static void set_accessor(struct sim_page *page, const CUmemLocation *l, bool on)
{
	uint64_t bit;

	if (l->type != CU_MEM_LOCATION_TYPE_DEVICE) {
		page->accessed_by_cpu = on;
		return;
	}
	bit = UINT64_C(1) << l->id;
	page->accessed_by = on ? page->accessed_by | bit : page->accessed_by & ~bit;
}

static CUresult advise_page(struct sim_page *page, CUmem_advise advice,
			    const CUmemLocation *l)
{
	switch ((int)advice) {
	case CU_MEM_ADVISE_SET_READ_MOSTLY:
	case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
		page->read_mostly = advice == CU_MEM_ADVISE_SET_READ_MOSTLY;
		return CUDA_SUCCESS;
	case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
		page->preferred.type = (int)l->type;
		page->preferred.id = l->id;
		return CUDA_SUCCESS;
	case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
		page->preferred.type = CU_MEM_LOCATION_TYPE_INVALID;
		return CUDA_SUCCESS;
	case CU_MEM_ADVISE_SET_ACCESSED_BY:
	case CU_MEM_ADVISE_UNSET_ACCESSED_BY:
		set_accessor(page, l, advice == CU_MEM_ADVISE_SET_ACCESSED_BY);
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult advise_range(CUdeviceptr p, size_t n, CUmem_advise advice, CUmemLocation l)
{
	bool ignores = advice == CU_MEM_ADVISE_SET_READ_MOSTLY ||
		       advice == CU_MEM_ADVISE_UNSET_READ_MOSTLY ||
		       advice == CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION;
	struct sim_ctx *ctx;
	struct sim_span *s;
	size_t first, last;
	uint32_t machine;
	CUresult e = sim_ctx_current(&ctx);

	if (e == CUDA_SUCCESS && !ignores)
		e = sim_location_machine(&l, &machine);
	if (e != CUDA_SUCCESS)
		return e;
	sim_mem_lock();
	s = sim_managed_pages(p, n, &first, &last);
	if (s == NULL)
		e = CUDA_ERROR_INVALID_VALUE;
	for (size_t i = first; e == CUDA_SUCCESS && i <= last; i++)
		e = advise_page(&s->managed->pages[i], advice, &l);
	sim_mem_unlock();
	return e;
}

/* The place that all pages share, or INVALID. */
static struct sim_place common_place(const struct sim_page *pages, size_t n,
				     bool prefetched)
{
	struct sim_place none = { CU_MEM_LOCATION_TYPE_INVALID, CU_DEVICE_INVALID };
	struct sim_place p = prefetched ? pages[0].prefetched : pages[0].preferred;

	for (size_t i = 1; i < n; i++) {
		struct sim_place q = prefetched ? pages[i].prefetched : pages[i].preferred;

		if (q.type != p.type ||
		    (p.type == CU_MEM_LOCATION_TYPE_DEVICE && q.id != p.id))
			return none;
	}
	return p.type == CU_MEM_LOCATION_TYPE_INVALID ? none : p;
}

static int as_device(struct sim_place p)
{
	if (p.type == CU_MEM_LOCATION_TYPE_DEVICE)
		return p.id;
	return p.type == CU_MEM_LOCATION_TYPE_INVALID ? CU_DEVICE_INVALID : CU_DEVICE_CPU;
}

static void list_accessors(const struct sim_page *pages, size_t n, int *out, size_t room)
{
	uint64_t all = UINT64_MAX;
	bool all_cpu = true;
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		all &= pages[i].accessed_by;
		all_cpu = all_cpu && pages[i].accessed_by_cpu;
	}
	for (int d = 0; d < RM_DEVICES_MAX && k < room; d++)
		if ((all >> d & 1) != 0)
			out[k++] = d;
	if (all_cpu && k < room)
		out[k++] = CU_DEVICE_CPU;
	while (k < room)
		out[k++] = CU_DEVICE_INVALID;
}

static CUresult read_pages(const struct sim_page *pages, size_t n, CUmem_range_attribute a,
			   int *out, size_t room)
{
	bool all = true;

	switch ((int)a) {
	case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
		for (size_t i = 0; i < n; i++)
			all = all && pages[i].read_mostly;
		*out = all;
		return CUDA_SUCCESS;
	case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
		*out = as_device(common_place(pages, n, false));
		return CUDA_SUCCESS;
	case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY:
		list_accessors(pages, n, out, room);
		return CUDA_SUCCESS;
	case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
		*out = as_device(common_place(pages, n, true));
		return CUDA_SUCCESS;
	case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE:
	case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE:
		all = a == CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE;
		*out = common_place(pages, n, all).type;
		return CUDA_SUCCESS;
	case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID:
	case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID:
		all = a == CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID;
		*out = common_place(pages, n, all).id;
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult read_attribute(void *out, size_t bytes, CUmem_range_attribute a,
			       CUdeviceptr p, size_t n)
{
	bool is_list = a == CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY;
	const struct sim_span *s;
	size_t first, last;
	CUresult e;

	if (out == NULL || bytes == 0 || bytes % 4 != 0 || (!is_list && bytes != 4))
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	s = sim_managed_pages(p, n, &first, &last);
	e = s == NULL ? CUDA_ERROR_INVALID_VALUE
		      : read_pages(&s->managed->pages[first], last - first + 1, a, out,
				   bytes / 4);
	sim_mem_unlock();
	return e;
}

/* ---- what is exported -------------------------------------------------------------- */

CUresult CUDAAPI cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise advice,
			     CUdevice device)
{
	SIM_ENTER();
	return advise_range(devPtr, count, advice, sim_managed_location(device));
}

CUresult CUDAAPI cuMemAdvise_v2(CUdeviceptr devPtr, size_t count, CUmem_advise advice,
				CUmemLocation location)
{
	SIM_ENTER();
	return advise_range(devPtr, count, advice, location);
}

CUresult CUDAAPI cuMemRangeGetAttribute(void *data, size_t dataSize,
					CUmem_range_attribute attribute, CUdeviceptr devPtr,
					size_t count)
{
	SIM_ENTER();
	return read_attribute(data, dataSize, attribute, devPtr, count);
}

CUresult CUDAAPI cuMemRangeGetAttributes(void **data, size_t *dataSizes,
					 CUmem_range_attribute *attributes,
					 size_t numAttributes, CUdeviceptr devPtr,
					 size_t count)
{
	CUresult e = CUDA_SUCCESS;

	SIM_ENTER();
	if (data == NULL || dataSizes == NULL || attributes == NULL || numAttributes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < numAttributes && e == CUDA_SUCCESS; i++)
		e = read_attribute(data[i], dataSizes[i], attributes[i], devPtr, count);
	return e;
}

/* ---- where pages are --------------------------------------------------------------- */

static CUmemLocation most_common(const struct sim_page *pages, size_t n)
{
	size_t seen[RM_DEVICES_MAX + 1] = { 0 }, best = 0;
	CUmemLocation l = { .type = CU_MEM_LOCATION_TYPE_HOST };

	for (size_t i = 0; i < n; i++)
		seen[pages[i].device]++;
	for (size_t d = 1; d <= RM_DEVICES_MAX; d++)
		if (seen[d] > seen[best])
			best = d;
	if (best != 0) {
		l.type = CU_MEM_LOCATION_TYPE_DEVICE;
		l.id = sim_ordinal_of((uint32_t)best - 1);
	}
	return l;
}

CUresult CUDAAPI cuMemGetLocationInfo(CUdeviceptr ptr, size_t size,
				      size_t summaryGranularity, size_t samplingGranularity,
				      CUmemLocation *location_out)
{
	size_t first, last, done, k = 0;
	struct sim_span *s;

	SIM_ENTER();
	if (location_out == NULL || summaryGranularity == 0 || summaryGranularity > size ||
	    samplingGranularity > summaryGranularity)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	s = sim_managed_pages(ptr, size, &first, &last);
	for (done = 0; s != NULL && done < size; done += summaryGranularity) {
		size_t n = size - done < summaryGranularity ? size - done
							    : summaryGranularity;

		sim_managed_pages(ptr + done, n, &first, &last);
		location_out[k++] = most_common(&s->managed->pages[first],
						last - first + 1);
	}
	sim_mem_unlock();
	return s == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
