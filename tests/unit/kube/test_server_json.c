/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <string.h>

#include "kube/server_json.h"

static const struct nul_case {
	const char *name, *text, *want; /* want: NULL: no JSON */
} cases[] = {
	{ "none", "{\"a\": \"b\"}", "{\"a\":\"b\"}" },
	{ "in a value", "{\"a\": \"x\\u0000y\"}", "{\"a\":\"x\\uFFFDy\"}" },
	{ "in a key", "{\"a\\u0000b\": 1}", "{\"a\\uFFFDb\":1}" },
	{ "two, at both ends", "[\"\\u0000\\u0000\"]", "[\"\\uFFFD\\uFFFD\"]" },
	{ "an escaped backslash", "[\"\\\\u0000\"]", "[\"\\\\u0000\"]" },
	{ "after an escaped backslash", "[\"\\\\\\u0000\"]", "[\"\\\\\\uFFFD\"]" },
	{ "outside of a text", "\\u0000", NULL },
};

static void test_nul(void **state)
{
	const struct nul_case *c = *state;
	json_t *json = tr_server_json(c->text, strlen(c->text), 0, NULL);
	char *told = json ? json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	assert_true((told != NULL) == (c->want != NULL));
	if (told)
		assert_string_equal(told, c->want);
	free(told);
	json_decref(json);
}

int main(void)
{
	struct CMUnitTest tests[TR_COUNT(cases)];

	for (size_t i = 0; i < TR_COUNT(cases); i++)
		tests[i] = (struct CMUnitTest){ cases[i].name, test_nul, NULL, NULL,
						(void *)(uintptr_t)&cases[i] };
	return cmocka_run_group_tests_name("NULs in what the API server says", tests, NULL,
					   NULL);
}
