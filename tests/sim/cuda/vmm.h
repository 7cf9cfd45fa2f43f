/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_VMM_H
#define SIM_CUDA_VMM_H

/* Generic allocation handles: memory and multicast objects. Everything with sim_mem_lock()
 * held. */

#include "mem.h"

#define SIM_VMM_GRANULE RM_BLOCK_BYTES

struct sim_multicast;

/* One handle of this process. It lives while it has references or mappings (or bindings to
 * a multicast object); the physical memory behind it lives while any process has such a
 * handle. */
struct sim_vmm {
	struct sim_node at; /* key: the handle's value */
	unsigned refs; /* cuMemCreate, import, cuMemRetainAllocationHandle less cuMemRelease
			*/
	unsigned uses; /* mappings and bindings */
	bool imported;
	struct rm_phys phys;
	size_t bytes;
	CUmemAllocationProp prop;
	struct sim_multicast *multicast; /* NULL: memory */
};

/* A page of host memory that stands for something that is no memory (a pool, a multicast
 * object) where a descriptor or a name must carry it to another process. */
enum sim_marker_kind { SIM_MARKER_POOL = 1, SIM_MARKER_MULTICAST };
struct sim_marker {
	uint64_t magic;
	uint32_t kind;
	uint32_t machine;
	uint64_t bytes;
	uint64_t handle_types;
	uint32_t location_type;
	uint32_t device_count;
	_Atomic uint64_t devices; /* multicast: bit per machine index added */
};

/* A marker of our own / the marker PHYS is, mapped (-EBADF: it is none). 0/-errno */
int sim_marker_make(struct rm_phys *phys, struct sim_marker **out,
		    enum sim_marker_kind kind);
int sim_marker_open(const struct rm_phys *phys, struct sim_marker **out,
		    enum sim_marker_kind kind);
void sim_marker_close(struct sim_marker *m); /* only unmaps it */
bool sim_marker_is_one(const struct rm_phys *phys);

/* A descriptor or a 64-byte name for PHYS, in the form HANDLE_TYPE asks for; and back. */
CUresult sim_share_out(void *out, const struct rm_phys *phys,
		       CUmemAllocationHandleType type);
CUresult sim_share_in(void *os_handle, CUmemAllocationHandleType type, struct rm_phys *out);

/* A new handle with one reference; NULL: no memory. */
struct sim_vmm *sim_vmm_add(const struct rm_phys *phys, size_t bytes);
/* The handle's object, valid for new uses; NULL. */
struct sim_vmm *sim_vmm_get(CUmemGenericAllocationHandle handle);
/* One use less: forgets V when neither uses nor references are left. */
void sim_vmm_settle(struct sim_vmm *v);

/* multicast.c */
void sim_multicast_free(struct sim_multicast *m);
uint32_t sim_multicast_machine(const struct sim_multicast *m);
/* Waits until every device is in HANDLE's team; at once when it is no multicast object.
 * Without the lock. */
CUresult sim_multicast_wait(CUmemGenericAllocationHandle handle);
unsigned long long sim_multicast_handle_types(const struct sim_multicast *m);
/* Imports the object behind PHYS; takes over its reference on success. */
CUresult sim_multicast_import(const struct rm_phys *phys,
			      CUmemGenericAllocationHandle *out);

#endif /* SIM_CUDA_VMM_H */
