/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* The power of two that a unit letter stands for, or 0 and no letter taken. */
static unsigned take_unit(const char **at)
{
	static const char letters[] = "kmgt";
	unsigned shift = 0;

	for (unsigned i = 0; letters[i]; i++)
		if (lower(**at) == letters[i])
			shift = 10 * (i + 1);
	if (shift)
		(*at)++;
	if (shift && lower(**at) == 'i')
		(*at)++;
	if (lower(**at) == 'b')
		(*at)++;
	return shift;
}

/* Bytes of the fraction that starts at AT: floor(0.digits << shift). 18 digits decide it:
 * one unit is 2^40 bytes at most, so digits beyond the 18th are worth less than a millionth
 * of a byte. */
static uint64_t fraction_bytes(const char *at, unsigned shift)
{
	uint64_t digits = 0, scale = 1;

	for (int n = 0; is_digit(*at) && n < 18; at++, n++) {
		digits = digits * 10 + (uint64_t)(*at - '0');
		scale *= 10;
	}
	return (uint64_t)(((unsigned __int128)digits << shift) / scale);
}

int tr_bytes_parse(const char *text, uint64_t *bytes_out)
{
	const char *at = text, *fraction = NULL;
	unsigned __int128 whole = 0;
	bool is_huge = false;
	unsigned shift;

	while (is_blank(*at))
		at++;
	if (!is_digit(*at))
		return -EINVAL;
	for (; is_digit(*at); at++) {
		whole = whole * 10 + (unsigned)(*at - '0');
		is_huge |= whole > UINT64_MAX;
		if (is_huge)
			whole = UINT64_MAX;
	}
	if (*at == '.') {
		fraction = ++at;
		if (!is_digit(*at))
			return -EINVAL;
		while (is_digit(*at))
			at++;
	}
	while (is_blank(*at))
		at++;
	shift = take_unit(&at);
	while (is_blank(*at))
		at++;
	if (*at)
		return -EINVAL;
	whole <<= shift;
	if (fraction)
		whole += fraction_bytes(fraction, shift);
	if (is_huge || whole > UINT64_MAX)
		return -ERANGE;
	*bytes_out = (uint64_t)whole;
	return 0;
}

void tr_bytes_print(char out[static TR_BYTES_TEXT], uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	unsigned u = 0;
	uint64_t unit = 1;

	while (u + 1 < sizeof(units) / sizeof(*units) && bytes / unit >= 1024) {
		unit <<= 10;
		u++;
	}
	if (bytes % unit == 0)
		(void)snprintf(out, TR_BYTES_TEXT, "%" PRIu64 " %s", bytes / unit,
			       units[u]);
	else
		(void)snprintf(out, TR_BYTES_TEXT, "%" PRIu64 ".%02u %s", bytes / unit,
			       (unsigned)((unsigned __int128)(bytes % unit) * 100 / unit),
			       units[u]);
}
