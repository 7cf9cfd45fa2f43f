/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <string.h>

#include "rt/bytes.h"

#define K UINT64_C(1024)

static const struct parse_case {
	const char *name, *text;
	int want;
	uint64_t bytes;
} parse_cases[] = {
	{ "parse: bytes", "1073741824", 0, K *K *K },
	{ "parse: m as HAMi writes it", "3000m", 0, 3000 * K *K },
	{ "parse: Gi", "10Gi", 0, 10 * K *K *K },
	{ "parse: GiB", "1GiB", 0, K *K *K },
	{ "parse: gb, any case", "2gB", 0, 2 * K *K *K },
	{ "parse: K", "7k", 0, 7 * K },
	{ "parse: T", "1T", 0, K *K *K *K },
	{ "parse: B alone", "17B", 0, 17 },
	{ "parse: blanks around and before the unit", "  512 MiB\n", 0, 512 * K *K },
	{ "parse: fraction", "1.5g", 0, 3 * K *K *K / 2 },
	{ "parse: fraction rounds down to bytes", "0.0001k", 0, 0 },
	{ "parse: fraction of bytes", "1.9", 0, 1 },
	{ "parse: a third of a gibibyte", "0.333333333333333333G", 0, 357913941 },
	{ "parse: leading zeros are decimal", "010m", 0, 10 * K *K },
	{ "parse: zero", "0", 0, 0 },
	{ "parse: the largest", "18446744073709551615", 0, UINT64_MAX },
	{ "parse: one more", "18446744073709551616", -ERANGE, 0 },
	{ "parse: overflow by unit", "16777216T", -ERANGE, 0 },
	{ "parse: many digits", "99999999999999999999999999999999999999999999", -ERANGE,
	  0 },
	{ "parse: empty", "", -EINVAL, 0 },
	{ "parse: blank", "  ", -EINVAL, 0 },
	{ "parse: negative", "-1", -EINVAL, 0 },
	{ "parse: plus", "+1", -EINVAL, 0 },
	{ "parse: unit alone", "Gi", -EINVAL, 0 },
	{ "parse: no such unit", "10x", -EINVAL, 0 },
	{ "parse: i without unit", "10i", -EINVAL, 0 },
	{ "parse: two units", "1GM", -EINVAL, 0 },
	{ "parse: exponent", "1e9", -EINVAL, 0 },
	{ "parse: hex", "0x10", -EINVAL, 0 },
	{ "parse: point without digits", "1.g", -EINVAL, 0 },
	{ "parse: two points", "1.5.2g", -EINVAL, 0 },
	{ "parse: comma", "1,5g", -EINVAL, 0 },
	{ "parse: percent is not bytes", "25%", -EINVAL, 0 },
	{ "parse: words behind", "4Gi please", -EINVAL, 0 },
};

static void test_parse(void **state)
{
	const struct parse_case *c = *state;
	uint64_t bytes = 42;

	assert_int_equal(tr_bytes_parse(c->text, &bytes), c->want);
	assert_int_equal(bytes, c->want ? 42 : c->bytes); /* untouched on failure */
}

static const struct print_case {
	const char *name;
	uint64_t bytes;
	const char *want;
} print_cases[] = {
	{ "print: bytes", 17, "17 B" },
	{ "print: whole unit", 512 * K *K, "512 MiB" },
	{ "print: two digits", 3 * K *K *K / 2, "1.50 GiB" },
	{ "print: the largest", UINT64_MAX, "16777215.99 TiB" },
	{ "print: nothing", 0, "0 B" },
};

static void test_print(void **state)
{
	const struct print_case *c = *state;
	char text[TR_BYTES_TEXT];

	tr_bytes_print(text, c->bytes);
	assert_string_equal(text, c->want);
}

int main(void)
{
	struct CMUnitTest tests[TR_COUNT(parse_cases) + TR_COUNT(print_cases)];
	size_t n = 0;

	for (size_t i = 0; i < TR_COUNT(parse_cases); i++)
		tests[n++] = (struct CMUnitTest){ parse_cases[i].name, test_parse, NULL,
						  NULL,
						  (void *)(uintptr_t)&parse_cases[i] };
	for (size_t i = 0; i < TR_COUNT(print_cases); i++)
		tests[n++] = (struct CMUnitTest){ print_cases[i].name, test_print, NULL,
						  NULL,
						  (void *)(uintptr_t)&print_cases[i] };
	return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
