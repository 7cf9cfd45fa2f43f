/* SPDX-License-Identifier: Apache-2.0 */
#include "naive.h"

#include <errno.h>
#include <regex.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX    320
#define FRACTION_KEPT 18 /* digits beyond are worth less than a millionth of a byte */

static regex_t *pattern(regex_t *regex, bool *ready, const char *text)
{
	if (!*ready)
		CHECK(regcomp(regex, text, REG_EXTENDED) == 0);
	*ready = true;
	return regex;
}

/* A decimal number, lowest digit first. */
struct number {
	unsigned char digits[DIGITS_MAX];
	unsigned n;
};

static void push_front(struct number *a, unsigned char digit)
{
	memmove(a->digits + 1, a->digits, a->n);
	a->digits[0] = digit;
	a->n++;
}

static void twice(struct number *a)
{
	unsigned carry = 0;

	for (unsigned i = 0; i < a->n; i++) {
		carry += 2u * a->digits[i];
		a->digits[i] = (unsigned char)(carry % 10);
		carry /= 10;
	}
	if (carry)
		a->digits[a->n++] = (unsigned char)carry;
}

/* Of the digits above the lowest SKIP. */
static int to_word(const struct number *a, unsigned skip, uint64_t *out)
{
	unsigned __int128 value = 0;

	for (unsigned i = a->n; i > skip; i--) {
		value = value * 10 + a->digits[i - 1];
		if (value > UINT64_MAX)
			return -ERANGE;
	}
	*out = (uint64_t)value;
	return 0;
}

int naive_amount(const char *text, uint64_t *bytes_out)
{
	static const char units[] = "kmgt";
	static regex_t regex;
	static bool ready;
	struct number a = { .n = 0 };
	unsigned shift = 0, skip = 0;
	regmatch_t m[6];
	char unit;

	if (regexec(pattern(&regex, &ready,
			    "^[ \t\r\n]*([0-9]+)(\\.([0-9]+))?[ \t\r\n]*"
			    "(([kmgtKMGT])[iI]?)?[bB]?[ \t\r\n]*$"),
		    text, 6, m, 0) != 0)
		return -EINVAL;
	for (regoff_t i = m[1].rm_so; i < m[1].rm_eo; i++)
		push_front(&a, (unsigned char)(text[i] - '0'));
	for (regoff_t i = m[3].rm_so; i >= 0 && i < m[3].rm_eo && skip < FRACTION_KEPT;
	     i++, skip++)
		push_front(&a, (unsigned char)(text[i] - '0'));
	if (m[5].rm_so >= 0) {
		unit = text[m[5].rm_so];
		unit = unit < 'a' ? (char)(unit - 'A' + 'a') : unit;
		shift = 10u * (unsigned)(strchr(units, unit) - units + 1);
	}
	while (shift--)
		twice(&a);
	return to_word(&a, skip, bytes_out);
}

int64_t naive_percent(const char *text)
{
	static regex_t regex;
	static bool ready;
	struct number a = { .n = 0 };
	regmatch_t m[4];
	uint64_t value;
	unsigned kept = 0;

	if (regexec(pattern(&regex, &ready, "^([0-9]+)(\\.([0-9]{0,3}))?%$"), text, 4, m,
		    0) != 0)
		return -1;
	for (regoff_t i = m[1].rm_so; i < m[1].rm_eo; i++)
		push_front(&a, (unsigned char)(text[i] - '0'));
	for (regoff_t i = m[3].rm_so; kept < 3; kept++, i++)
		push_front(&a,
			   (unsigned char)(m[3].rm_so >= 0 && i < m[3].rm_eo ? text[i] - '0'
									     : 0));
	return to_word(&a, 0, &value) < 0 || value > INT64_MAX ? INT64_MAX : (int64_t)value;
}
