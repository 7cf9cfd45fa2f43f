/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_TEST_DRAW_H
#define TR_TEST_DRAW_H

#include <stdint.h>

/* Numbers that look random and are the same in every run (xorshift). */

static uint64_t draw_now;

static void draw_from(uint64_t seed)
{
	draw_now = seed;
}

/* Below BELOW; 0: any. */
static uint64_t draw(uint64_t below)
{
	draw_now ^= draw_now << 13;
	draw_now ^= draw_now >> 7;
	draw_now ^= draw_now << 17;
	return below ? draw_now % below : draw_now;
}

#endif /* TR_TEST_DRAW_H */
