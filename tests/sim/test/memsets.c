/* SPDX-License-Identifier: Apache-2.0 */
/* Every memset fills exactly what it names, in every ABI; misaligned and out of bounds are
 * refused. */

#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "machine.h"

#define BYTES 1024u
#define PITCH 64u

static unsigned char back[BYTES];
static CUdeviceptr_v1 low;
static CUdeviceptr p;
static CUstream stream;

static void clear(void)
{
	SUCCEEDS(cuMemsetD8_v2(p, 0xee, BYTES));
}

/* ROWS rows of N elements from byte 64 on hold VALUE, and everything else is untouched. */
static void check_filled(unsigned int value, size_t element_bytes, size_t n, size_t rows)
{
	SUCCEEDS(cuMemcpyDtoH_v2(back, p, BYTES));
	for (size_t i = 0; i < BYTES; i++) {
		size_t row = i / PITCH, x = i % PITCH;
		int inside = row >= 1 && row < 1 + rows && x < n * element_bytes;
		unsigned char want = 0xee;

		if (inside)
			want = (unsigned char)(value >> (8 * (x % element_bytes)));
		CHECK(back[i] == want);
	}
	clear();
}

/* The five flat and five pitched ABIs of one width, on the same bytes. */
#define WIDTH(bits, value)                                                             \
	static void check_width_##bits(void)                                           \
	{                                                                              \
		CUdeviceptr to = p + PITCH;                                            \
		CUdeviceptr_v1 low_to = low + PITCH;                                   \
		unsigned int n = 5, size = (bits) / 8;                                 \
                                                                                       \
		SUCCEEDS(cuMemsetD##bits(low_to, value, n));                           \
		check_filled(value, size, n, 1);                                       \
		SUCCEEDS(cuMemsetD##bits##_v2(to, value, n));                          \
		check_filled(value, size, n, 1);                                       \
		SUCCEEDS(cuMemsetD##bits##_v2_ptds(to, value, n));                     \
		check_filled(value, size, n, 1);                                       \
		SUCCEEDS(cuMemsetD##bits##Async(to, value, n, stream));                \
		check_filled(value, size, n, 1);                                       \
		SUCCEEDS(cuMemsetD##bits##Async_ptsz(to, value, n, NULL));             \
		check_filled(value, size, n, 1);                                       \
		SUCCEEDS(cuMemsetD2D##bits(low_to, PITCH, value, n, 3));               \
		check_filled(value, size, n, 3);                                       \
		SUCCEEDS(cuMemsetD2D##bits##_v2(to, PITCH, value, n, 3));              \
		check_filled(value, size, n, 3);                                       \
		SUCCEEDS(cuMemsetD2D##bits##_v2_ptds(to, PITCH, value, n, 3));         \
		check_filled(value, size, n, 3);                                       \
		SUCCEEDS(cuMemsetD2D##bits##Async(to, PITCH, value, n, 3, stream));    \
		check_filled(value, size, n, 3);                                       \
		SUCCEEDS(cuMemsetD2D##bits##Async_ptsz(to, PITCH, value, n, 3, NULL)); \
		check_filled(value, size, n, 3);                                       \
	}

WIDTH(8, 0xa5)
WIDTH(16, 0xa55b)
WIDTH(32, 0xa55b1234)

static void check_refusals(void)
{
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemsetD16_v2(p + 1, 0, 1));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemsetD32_v2(p + 2, 0, 1));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(p, 0, BYTES + 1));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemsetD32_v2(p, 0, SIZE_MAX / 2));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(0, 0, 1));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemsetD2D8_v2(p, 4, 0, 8, 2));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemsetD2D32_v2(p, 66, 0, 8, 2));
	ANSWERS(CUDA_ERROR_INVALID_VALUE, cuMemsetD2D8_v2(p, PITCH, 0, PITCH, 17));
	SUCCEEDS(cuMemsetD8_v2(p, 0, 0));
	SUCCEEDS(cuMemsetD2D8_v2(p, PITCH, 0, 0, 5));
	check_filled(0, 1, 0, 0);
}

int main(void)
{
	CUcontext ctx;

	machine_prepare("h100", "own");
	SUCCEEDS(cuInit(0));
	SUCCEEDS(cuDevicePrimaryCtxRetain(&ctx, 0));
	SUCCEEDS(cuCtxSetCurrent(ctx));
	SUCCEEDS(cuMemAlloc(&low, BYTES));
	SUCCEEDS(cuStreamCreate(&stream, 0));
	p = low;
	clear();
	check_width_8();
	check_width_16();
	check_width_32();
	check_refusals();
	return 0;
}
