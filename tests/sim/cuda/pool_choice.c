/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

/* Default and current pools: one per location and type of allocation, made when first asked
 * for. */

#define CHOICES 96

static struct choice {
	CUmemAllocationType type;
	CUmemLocationType where;
	int id;
	struct sim_pool *standard, *current;
} choices[CHOICES];
static unsigned choice_count;

/* What has pools: the id is ignored, and made 0, where the location's type says all. */
static CUresult check_place(const CUmemLocation *l, CUmemAllocationType type,
			    CUmemLocation *out, uint32_t *machine)
{
	bool managed = type == CU_MEM_ALLOCATION_TYPE_MANAGED;

	if (l == NULL || (!managed && type != CU_MEM_ALLOCATION_TYPE_PINNED))
		return CUDA_ERROR_INVALID_VALUE;
	*out = *l;
	*machine = RM_HOST;
	switch ((int)l->type) {
	case CU_MEM_LOCATION_TYPE_NONE:
		out->id = 0;
		return managed ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	case CU_MEM_LOCATION_TYPE_HOST:
		out->id = 0;
		return CUDA_SUCCESS;
	case CU_MEM_LOCATION_TYPE_HOST_NUMA:
		return l->id < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	case CU_MEM_LOCATION_TYPE_DEVICE_LOCALITY_DOMAIN:
		if (managed)
			return CUDA_ERROR_INVALID_VALUE;
		out->type = CU_MEM_LOCATION_TYPE_DEVICE; /* one domain: the whole device */
		out->id = l->localized.deviceId;
		return sim_location_machine(l, machine);
	case CU_MEM_LOCATION_TYPE_DEVICE:
		return sim_location_machine(l, machine);
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult find_choice(const CUmemLocation *l, CUmemAllocationType type,
			    struct choice **out)
{
	CUmemPoolProps props = { .allocType = type };
	uint32_t machine;
	struct choice *c;
	CUresult e = check_place(l, type, &props.location, &machine);

	if (e != CUDA_SUCCESS)
		return e;
	for (c = choices; c < choices + choice_count; c++)
		if (c->type == type && c->where == props.location.type &&
		    c->id == props.location.id) {
			*out = c;
			return CUDA_SUCCESS;
		}
	if (choice_count == CHOICES)
		return CUDA_ERROR_OUT_OF_MEMORY;
	c->standard = sim_pool_add(&props, machine);
	if (c->standard == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	c->standard->is_default = true;
	c->type = type;
	c->where = props.location.type;
	c->id = props.location.id;
	c->current = c->standard;
	choice_count++;
	*out = c;
	return CUDA_SUCCESS;
}

CUresult sim_pool_default(const CUmemLocation *l, CUmemAllocationType type,
			  struct sim_pool **out)
{
	struct choice *c;
	CUresult e = find_choice(l, type, &c);

	if (e == CUDA_SUCCESS)
		*out = c->standard;
	return e;
}

CUresult sim_pool_current(const CUmemLocation *l, CUmemAllocationType type,
			  struct sim_pool **out)
{
	struct choice *c;
	CUresult e = find_choice(l, type, &c);

	if (e == CUDA_SUCCESS)
		*out = c->current;
	return e;
}

void sim_pool_forget_choice(const struct sim_pool *p)
{
	for (unsigned i = 0; i < choice_count; i++)
		if (choices[i].current == p)
			choices[i].current = choices[i].standard;
}

static CUresult answer(CUmemoryPool *out, const CUmemLocation *l, CUmemAllocationType type,
		       bool standard)
{
	struct sim_pool *p = NULL;
	CUresult e;

	if (out == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	sim_mem_lock();
	e = standard ? sim_pool_default(l, type, &p) : sim_pool_current(l, type, &p);
	sim_mem_unlock();
	if (e == CUDA_SUCCESS)
		*out = (CUmemoryPool)(void *)p;
	return e;
}

static CUresult choose(const CUmemLocation *l, CUmemAllocationType type,
		       CUmemoryPool handle)
{
	struct choice *c = NULL;
	struct sim_pool *p;
	CUresult e;

	sim_mem_lock();
	e = find_choice(l, type, &c);
	p = sim_pool_get(handle);
	if (e == CUDA_SUCCESS &&
	    (p == NULL || p->is_imported || p->props.allocType != type ||
	     p->props.location.type != c->where ||
	     (c->where == CU_MEM_LOCATION_TYPE_DEVICE && p->props.location.id != c->id)))
		e = CUDA_ERROR_INVALID_VALUE;
	if (e == CUDA_SUCCESS)
		c->current = p;
	sim_mem_unlock();
	return e;
}

static CUmemLocation device_location(CUdevice dev)
{
	return (CUmemLocation){ .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = dev };
}

CUresult CUDAAPI cuDeviceGetDefaultMemPool(CUmemoryPool *pool_out, CUdevice dev)
{
	CUmemLocation l = device_location(dev);

	SIM_ENTER();
	return answer(pool_out, &l, CU_MEM_ALLOCATION_TYPE_PINNED, true);
}

CUresult CUDAAPI cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev)
{
	CUmemLocation l = device_location(dev);

	SIM_ENTER();
	return answer(pool, &l, CU_MEM_ALLOCATION_TYPE_PINNED, false);
}

CUresult CUDAAPI cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool)
{
	CUmemLocation l = device_location(dev);

	SIM_ENTER();
	return choose(&l, CU_MEM_ALLOCATION_TYPE_PINNED, pool);
}

CUresult CUDAAPI cuMemGetDefaultMemPool(CUmemoryPool *pool_out, CUmemLocation *location,
					CUmemAllocationType type)
{
	SIM_ENTER();
	return answer(pool_out, location, type, true);
}

CUresult CUDAAPI cuMemGetMemPool(CUmemoryPool *pool, CUmemLocation *location,
				 CUmemAllocationType type)
{
	SIM_ENTER();
	return answer(pool, location, type, false);
}

CUresult CUDAAPI cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type,
				 CUmemoryPool pool)
{
	SIM_ENTER();
	return choose(location, type, pool);
}
