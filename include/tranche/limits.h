/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_LIMITS_H
#define TR_LIMITS_H

#include <stdint.h>

/* Maxima that both shared files are laid out for. Raising one is a new ABI number there. */
#define TR_DEVICES_MAX 16u
#define TR_SLOTS_MAX   1024u

/* "no limit" where bytes are expected. 0 means zero: nothing may be allocated. */
#define TR_UNLIMITED UINT64_MAX

/* A device of one slice (row of the policy page) and a slot of one process, in range by
 * construction. CUDA ordinals and NVML indices are other numbers and do not convert. */
typedef struct {
	uint8_t at;
} tr_dev;
typedef struct {
	uint16_t at;
} tr_slot;

#endif /* TR_LIMITS_H */
