/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STUB_STUB_H
#define STUB_STUB_H

/*
 * A driver that costs nothing, for measuring what stands before it: every call succeeds at
 * once, a handful of instructions without a lock, and nothing is counted. What a caller
 * needs to get going has constant answers: one device of 80 GiB, one context, addresses
 * that only ever rise.
 */

#include <stdint.h>

#define STUB_TOTAL_BYTES (80ull << 30)
#define STUB_RESERVED_BYTES \
	(512ull << 20) /* the driver's own: what NVML v2 calls reserved */
#define STUB_USED_BYTES     (448ull << 20) /* as if one context were there */
#define STUB_NAME           "NVIDIA H100 80GB HBM3"
#define STUB_DRIVER_VERSION 13050
/* The same sixteen bytes for CUDA, as text for NVML. */
#define STUB_UUID_BYTES                                                                 \
	{                                                                               \
		0x73, 0x74, 0x75, 0x62, 0x00, 0x00, 0x40, 0x00, 0x80, 0x00, 0x00, 0x00, \
			0x00, 0x00, 0x00, 0x01                                          \
	}
#define STUB_UUID_TEXT "GPU-73747562-0000-4000-8000-000000000001"

#endif /* STUB_STUB_H */
