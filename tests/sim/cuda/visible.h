/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_VISIBLE_H
#define SIM_CUDA_VISIBLE_H

#include "rm/rm.h"

/*
 * Which devices of MACHINE a process sees, of those ALLOWED (bits), in its own order: LIST is CUDA_VISIBLE_DEVICES
 * (NULL: all of them), ORDER is CUDA_DEVICE_ORDER. As the driver reads it: indices or UUIDs
 * (whole, or a prefix that only one device has), the kind of the first entry decides; the
 * list ends before the first entry that names no device; a device named twice leaves none
 * at all. Fills OUT with indices of the machine and returns how many.
 */
int sim_visible(const struct rm_machine *machine, uint64_t allowed, const char *list,
		const char *order, uint32_t out[RM_DEVICES_MAX]);
/* "GPU-8-4-4-4-12" */
void sim_uuid_format(const uint8_t uuid[16], char out[41]);

#endif /* SIM_CUDA_VISIBLE_H */
