/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_RT_SAT_H
#define TR_RT_SAT_H

#include <stdint.h>

/* Byte counts that end at UINT64_MAX or 0 instead of wrapping: too much is refused, never
 * small. */
static inline uint64_t tr_sat_add(uint64_t a, uint64_t b)
{
	uint64_t r;

	return __builtin_add_overflow(a, b, &r) ? UINT64_MAX : r;
}

static inline uint64_t tr_sat_mul(uint64_t a, uint64_t b)
{
	uint64_t r;

	return __builtin_mul_overflow(a, b, &r) ? UINT64_MAX : r;
}

static inline uint64_t tr_sat_sub(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static inline uint64_t tr_sat_shift(uint64_t a, int64_t by)
{
	return by < 0 ? tr_sat_sub(a, 0 - (uint64_t)by) : tr_sat_add(a, (uint64_t)by);
}

/* A * PART / OF; OF is not 0. */
static inline uint64_t tr_sat_part(uint64_t a, uint64_t part, uint64_t of)
{
	unsigned __int128 r = (unsigned __int128)a * part / of;

	return r > UINT64_MAX ? UINT64_MAX : (uint64_t)r;
}

/* Up to the next multiple of UNIT, a power of two. */
static inline uint64_t tr_sat_round_up(uint64_t a, uint64_t unit)
{
	return tr_sat_add(a, unit - 1) == UINT64_MAX ? UINT64_MAX
						     : (a + unit - 1) & ~(unit - 1);
}

#endif /* TR_RT_SAT_H */
