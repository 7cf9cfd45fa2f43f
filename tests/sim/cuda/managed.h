/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_MANAGED_H
#define SIM_CUDA_MANAGED_H

/* Managed memory by page: between managed.c (which memory it is), prefetch.c and advise.c.
 */

#include "mem.h"

#define SIM_MANAGED_PAGE_BYTES RM_BLOCK_BYTES

/* Separate pieces of device memory behind one allocation, per device. */
#define SIM_MANAGED_PIECES 64

struct sim_place {
	int type, id; /* CUmemLocationType */
};

struct sim_page {
	struct sim_place preferred, prefetched;
	uint64_t accessed_by; /* bit per ordinal */
	uint8_t device;       /* machine index + 1 that holds it; 0: host */
	bool accessed_by_cpu, read_mostly;
};

struct sim_managed_held {
	struct rm_phys pieces[SIM_MANAGED_PIECES];
	unsigned count;
	size_t pages;
};

struct sim_managed {
	size_t page_count;
	struct sim_managed_held *held[RM_DEVICES_MAX];
	struct sim_page pages[];
};

/* The managed span that holds [p, p + n), and which of its pages; NULL. Lock held. */
struct sim_span *sim_managed_pages(uint64_t p, size_t n, size_t *first, size_t *last);
/* Moves pages. Takes the lock itself. */
CUresult sim_managed_prefetch(uint64_t p, size_t n, const CUmemLocation *to);
/* CU_DEVICE_CPU or an ordinal, as the first ABIs said it. */
CUmemLocation sim_managed_location(CUdevice dev);

#endif /* SIM_CUDA_MANAGED_H */
