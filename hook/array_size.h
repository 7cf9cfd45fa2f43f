/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_ARRAY_SIZE_H
#define TR_HOOK_ARRAY_SIZE_H

#include "hook.h"

/* What an array, or LEVELS of a mipmapped one, may take: an upper bound for when the driver
 * cannot be asked. 0: this descriptor is none that any driver takes; let it say so. */
uint64_t tr_array_bytes_max(const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned levels);

#endif /* TR_HOOK_ARRAY_SIZE_H */
