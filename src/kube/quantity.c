/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/quantity.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define MANTISSA_DIGITS 24 /* of 36 that 127 bits hold; the rest is for the suffix */

struct amount {
	unsigned __int128 digits; /* all of them, the point left out */
	int ten;                  /* times 10^ten */
	int two;                  /* times 2^two */
	bool is_negative;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int take_digits(const char **at, struct amount *a)
{
	const char *from = *at;
	bool in_fraction = false, any = false;
	int significant = 0;

	for (;; (*at)++) {
		if (**at == '.' && !in_fraction) {
			in_fraction = true;
			continue;
		}
		if (!is_digit(**at))
			break;
		any = true;
		if (a->digits || **at != '0')
			significant++;
		if (significant > MANTISSA_DIGITS || *at - from > 64)
			return -ERANGE;
		a->digits = a->digits * 10 + (unsigned)(**at - '0');
		if (in_fraction)
			a->ten--;
	}
	return any ? 0 : -EINVAL;
}

static int take_exponent(const char **at, struct amount *a)
{
	int value = 0, sign = 1;

	if (**at == '+' || **at == '-')
		sign = *(*at)++ == '-' ? -1 : 1;
	if (!is_digit(**at))
		return -EINVAL;
	for (; is_digit(**at); (*at)++)
		if (value < 1000)
			value = value * 10 + (**at - '0');
	a->ten += sign * value;
	return 0;
}

static int take_suffix(const char **at, struct amount *a)
{
	static const char letters[] = "kMGTPE", small[] = "mun";
	const char *found;

	if (!**at)
		return 0;
	if ((**at == 'e' || **at == 'E') && (*at)[1]) {
		if ((*at)[1] == 'i') {
			a->two = 60;
			*at += 2;
			return 0;
		}
		(*at)++;
		return take_exponent(at, a);
	}
	if (**at == 'K' && (*at)[1] != 'i')
		return -EINVAL; /* thousands are a small k */
	found = strchr(small, **at);
	if (found) {
		a->ten -= 3 * (int)(found - small + 1);
		(*at)++;
		return 0;
	}
	found = strchr(letters, **at == 'K' ? 'k' : **at);
	if (!found)
		return -EINVAL;
	if ((*at)[1] == 'i') {
		if (**at == 'k')
			return -EINVAL;
		a->two = 10 * (int)(found - letters + 1);
		*at += 2;
	} else {
		a->ten += 3 * (int)(found - letters + 1);
		(*at)++;
	}
	return 0;
}

/* digits * 10^ten * 2^two as a whole number. */
static int reckon(const struct amount *a, int64_t *out)
{
	unsigned __int128 v = a->digits;
	int ten = a->ten, two = a->two;

	/* Factors that go away first, so that what is left fits. */
	for (; v && ten < 0; ten++) {
		if (v % 10 == 0) {
			v /= 10;
		} else if (v % 5 == 0 && two > 0) {
			v /= 5;
			two--;
		} else {
			return -EDOM;
		}
	}
	for (; v && ten > 0; ten--) {
		v *= 10;
		if (v >> 63)
			return -ERANGE;
	}
	for (; v && two > 0; two--) {
		v *= 2;
		if (v >> 63)
			return -ERANGE;
	}
	if (v >> 63)
		return -ERANGE;
	*out = a->is_negative ? -(int64_t)v : (int64_t)v;
	return 0;
}

int tr_quantity_parse(const char *text, int64_t *out)
{
	struct amount a = { 0 };
	const char *at = text;
	int r;

	if (*at == '+' || *at == '-')
		a.is_negative = *at++ == '-';
	r = take_digits(&at, &a);
	if (r == 0)
		r = take_suffix(&at, &a);
	if (r == 0 && *at)
		r = -EINVAL;
	return r < 0 ? r : reckon(&a, out);
}
