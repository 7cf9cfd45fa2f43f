/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/rfc3339.h"
#include "base/slurp.h"
#include "base/yaml.h"

static const struct time_case {
	const char *text;
	int want;
	int64_t us;
	const char *printed; /* with microseconds */
} times[] = {
	{ "1970-01-01T00:00:00Z", 0, 0, "1970-01-01T00:00:00.000000Z" },
	{ "2026-08-21T10:00:00Z", 0, 1787306400000000, "2026-08-21T10:00:00.000000Z" },
	{ "2026-08-21T12:00:00.25+02:00", 0, 1787306400250000,
	  "2026-08-21T10:00:00.250000Z" },
	{ "2000-02-29T23:59:60Z", 0, 951868800000000, "2000-03-01T00:00:00.000000Z" },
	{ "1969-12-31T23:59:59.9999999999Z", 0, -1, "1969-12-31T23:59:59.999999Z" },
	{ "0001-01-01T00:00:00Z", 0, -62135596800000000, "0001-01-01T00:00:00.000000Z" },
	{ "2100-02-29T00:00:00Z", -EBADMSG, 0, NULL },
	{ "2026-13-01T00:00:00Z", -EBADMSG, 0, NULL },
	{ "2026-08-21 10:00:00Z", -EBADMSG, 0, NULL },
	{ "2026-08-21T10:00:00", -EBADMSG, 0, NULL },
	{ "2026-08-21T10:00:00.Z", -EBADMSG, 0, NULL },
	{ "2026-08-21T10:00:00Zx", -EBADMSG, 0, NULL },
	{ "2026-08-21T24:00:00Z", -EBADMSG, 0, NULL },
	{ "2026-08-21T10:00:00+2:00", -EBADMSG, 0, NULL },
	{ "", -EBADMSG, 0, NULL },
};

static void test_times(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(times); i++) {
		char text[TR_RFC3339_TEXT];
		int64_t us = 0;

		if (tr_rfc3339_parse(times[i].text, &us) != times[i].want)
			fail_msg("%s", times[i].text);
		if (times[i].want < 0)
			continue;
		assert_true(us == times[i].us);
		tr_rfc3339_print_us(text, us);
		assert_string_equal(text, times[i].printed);
	}
}

/* Every day from the first to the last, there and back, in seconds without a fraction. */
static void test_every_day(void **state)
{
	char text[TR_RFC3339_TEXT];

	(void)state;
	for (int64_t s = -62135596800; s <= 253402300799; s += 86400 * 7 + 3601) {
		int64_t us = 0;

		tr_rfc3339_print(text, s);
		assert_int_equal(tr_rfc3339_parse(text, &us), 0);
		assert_true(us == s * 1000000);
	}
	tr_rfc3339_print(text, INT64_MAX);
	assert_string_equal(text, "9999-12-31T23:59:59Z");
	tr_rfc3339_print(text, INT64_MIN);
	assert_string_equal(text, "0001-01-01T00:00:00Z");
}

static const struct base64_case {
	const char *text;
	const char *want; /* NULL: refused */
} base64s[] = {
	{ "", "" },           { "Zg==", "f" },          { "Zm8=", "fo" },
	{ "Zm9v", "foo" },    { "Zm9v\nYg==", "foob" }, { "Zm9vYmE=\n", "fooba" },
	{ "Zm9", NULL },      { "Zg=", NULL },          { "Z===", NULL },
	{ "Zg==Zg==", NULL }, { "Zm9v=", NULL },        { "Zm-v", NULL },
	{ "=", NULL },
};

static void test_base64(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(base64s); i++) {
		char out[32] = { 0 };
		size_t n = 0;
		int r = tr_base64_decode(base64s[i].text, strlen(base64s[i].text), out, &n);

		if ((r == 0) != (base64s[i].want != NULL))
			fail_msg("\"%s\": %d", base64s[i].text, r);
		if (r == 0) {
			assert_int_equal(n, strlen(base64s[i].want));
			assert_memory_equal(out, base64s[i].want, n);
		}
	}
}

static const struct yaml_case {
	const char *text;
	const char *want; /* as compact JSON; NULL: refused */
	const char *says;
} yamls[] = {
	{ "", "null", "" },
	{ "# nothing\n", "null", "" },
	{ "a: 1\nb: [x, 'y', \"z\"]\n", "{\"a\":1,\"b\":[\"x\",\"y\",\"z\"]}", "" },
	{ "a: true\nb: ~\nc:\nd: 1.5\ne: -7\nf: '1'\n",
	  "{\"a\":true,\"b\":null,\"c\":null,\"d\":1.5,\"e\":-7,\"f\":\"1\"}", "" },
	{ "{\"a\": {\"b\": [1, \"t\"]}}", "{\"a\":{\"b\":[1,\"t\"]}}", "" },
	{ "a: |\n  x\n  y\n", "{\"a\":\"x\\ny\\n\"}", "" },
	{ "a: 99999999999999999999\n", "{\"a\":1e20}", "" },
	{ "a: 1.2.3\nb: 1e\nc: v1\nd: +\ne: .inf\nf: 0x10\n",
	  "{\"a\":\"1.2.3\",\"b\":\"1e\",\"c\":\"v1\",\"d\":\"+\",\"e\":\".inf\",\"f\":"
	  "\"0x10\"}",
	  "" },
	{ "a: 1\na: 2\n", NULL, "line 2: \"a\" is given twice" },
	{ "a: &x 1\nb: *x\n", NULL, "line 1: anchors" },
	{ "a: !!str 1\n", NULL, "line 1: anchors and tags" },
	{ "a: 1\n---\nb: 2\n", NULL, "a second document" },
	{ "[a, b]: 1\n", NULL, "a key must be a text" },
	{ "a: [1, 2\nb: 3\n", NULL, "line" },
	{ "a:\n\t- 1\n", NULL, "line 2" },
	{ "\"a\\0b\": 1\n", NULL, "a key must be a text" },
	{ "a: \"x\\0y\"\n", NULL, "a NUL" },
};

static void test_yaml(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(yamls); i++) {
		const struct yaml_case *c = &yamls[i];
		struct tr_err err = { 0 };
		json_t *got = NULL;
		int r = tr_yaml_parse(c->text, strlen(c->text), &got, &err);
		char *text;

		if ((r == 0) != (c->want != NULL))
			fail_msg("\"%s\": %d %s", c->text, r, err.msg);
		if (!c->want) {
			assert_null(got);
			if (!strstr(err.msg, c->says))
				fail_msg("\"%s\" does not say \"%s\"", err.msg, c->says);
			continue;
		}
		text = json_dumps(got, JSON_COMPACT | JSON_ENCODE_ANY);
		assert_string_equal(text, c->want);
		free(text);
		json_decref(got);
	}
}

static void test_yaml_depth(void **state)
{
	char text[2048] = "";
	struct tr_err err = { 0 };
	json_t *got = NULL;

	(void)state;
	for (int i = 0; i < 60; i++)
		(void)strcat(text, "[");
	for (int i = 0; i < 60; i++)
		(void)strcat(text, "]");
	assert_int_equal(tr_yaml_parse(text, strlen(text), &got, &err), 0);
	json_decref(got);
	(void)memset(text, '[', 200);
	assert_int_equal(tr_yaml_parse(text, 200, &got, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "too deep"));
}

static void test_buf(void **state)
{
	struct tr_buf b = { 0 };
	char *text;

	(void)state;
	tr_buf_text(&b, "a");
	tr_buf_print(&b, "%d-%s", 12, "x");
	assert_string_equal(b.p, "a12-x");
	for (int i = 0; i < 1000; i++)
		tr_buf_add(&b, "0123456789", 10);
	assert_int_equal(b.n, 10005);
	assert_int_equal(b.p[b.n], '\0');
	tr_buf_clear(&b);
	assert_int_equal(b.n, 0);
	text = tr_buf_take(&b);
	assert_string_equal(text, "");
	free(text);
	text = tr_buf_take(&b);
	assert_string_equal(text, "");
	free(text);
	tr_buf_free(&b);
}

static void test_slurp(void **state)
{
	char dir[] = "/tmp/tr-slurp-XXXXXX";
	char path[64], *text = NULL;
	struct tr_err err = { 0 };
	size_t n = 0;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/a", dir);
	assert_int_equal(tr_slurp(path, 10, &text, &n, &err), -ENOENT);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	(void)close(fd);
	assert_int_equal(tr_slurp(path, 9, &text, &n, &err), -EFBIG);
	assert_int_equal(tr_slurp(path, 10, &text, &n, &err), 0);
	assert_int_equal(n, 10);
	assert_string_equal(text, "0123456789");
	free(text);
	(void)unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(tr_slurp(path, 10, &text, &n, &err), -EBADMSG);
	(void)unlink(path);
	(void)rmdir(dir);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times),      cmocka_unit_test(test_every_day),
		cmocka_unit_test(test_base64),     cmocka_unit_test(test_yaml),
		cmocka_unit_test(test_yaml_depth), cmocka_unit_test(test_buf),
		cmocka_unit_test(test_slurp),
	};

	return cmocka_run_group_tests_name("base text", tests, NULL, NULL);
}
