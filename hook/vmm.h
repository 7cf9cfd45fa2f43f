/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_VMM_H
#define TR_HOOK_VMM_H

#include "hook.h"

/*
 * Memory that is not a pointer: an object lives while anybody holds a handle of it or it is
 * mapped somewhere, and is discharged when both have ended. Places where it can be mapped:
 * the address space, a multicast object, a sparse array. Objects that were imported cost
 * nothing here (their owner pays) and are followed all the same.
 */

/* A handle that the driver has just given: a new object of BYTES, or one more reference
 * when the handle is known (an import of one's own). -ENOMEM: not recorded. */
int tr_vmm_add(CUmemGenericAllocationHandle handle, tr_dev dev, uint64_t bytes);
int tr_vmm_add_import(CUmemGenericAllocationHandle handle);
/* The driver says that HANDLE is one more reference to what is mapped at ADDR. */
int tr_vmm_retained(CUmemGenericAllocationHandle handle, uint64_t addr);

/* Around cuMemRelease. */
struct tr_vmm_release {
	CUmemGenericAllocationHandle handle;
	uint32_t object;
	bool is_known, is_last;
};
void tr_vmm_release_begin(struct tr_vmm_release *release,
			  CUmemGenericAllocationHandle handle);
void tr_vmm_release_end(const struct tr_vmm_release *release, bool is_released);

struct tr_place {
	uint64_t space; /* TR_SPACE_ADDRESSES or what the functions below say */
	uint64_t start, bytes;
};
#define TR_SPACE_ADDRESSES 0u

/* The space of a multicast handle; false: not known. */
bool tr_vmm_space_of_multicast(CUmemGenericAllocationHandle handle, uint64_t *space);
/* The space of a sparse array, and a name for a part of it. */
uint64_t tr_vmm_space_of_array(const void *array);
struct tr_place tr_vmm_place_in_array(const CUarrayMapInfo *info);

/* Mapping: recorded before the driver is asked, kept or dropped after. What begin returns:
 * a number for end; 0: nothing known is mapped, nothing to end; negative: no memory to
 * record it. */
int64_t tr_vmm_map_begin(CUmemGenericAllocationHandle handle, const struct tr_place *place);
/* The same for whatever is mapped at [ADDR, ADDR + PLACE's bytes). */
int64_t tr_vmm_map_address_begin(uint64_t addr, const struct tr_place *place);
void tr_vmm_map_end(int64_t number, const struct tr_place *place, bool is_mapped);

/* Unmapping: the time before the driver is asked; what was mapped until then goes. */
uint32_t tr_vmm_unmap_begin(void);
void tr_vmm_unmap_end(uint32_t began, const struct tr_place *place, const tr_dev *only_dev);
/* The same for a whole space (its array or multicast object is gone). */
void tr_vmm_space_gone(uint32_t began, uint64_t space);

void tr_vmm_forget(void);

#endif /* TR_HOOK_VMM_H */
