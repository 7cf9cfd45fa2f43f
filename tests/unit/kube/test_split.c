/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "kube/split.h"

static const struct split_case {
	const char *name;
	bool is_list;
	const char *text;
	int want;
	bool is_whole;
	const char *pieces; /* each with the first letter of its kind before it */
} cases[] = {
	{ "stream: nothing", false, "", 0, true, "" },
	{ "stream: two", false, "{\"a\":1}\n{\"b\":{}}\n", 0, true,
	  "E{\"a\":1}E{\"b\":{}}" },
	{ "stream: without blanks", false, "{}{}", 0, true, "E{}E{}" },
	{ "stream: brackets in texts", false, "{\"a\":\"}{]\\\"}\"}", 0, true,
	  "E{\"a\":\"}{]\\\"}\"}" },
	{ "stream: an escaped backslash", false, "{\"a\":\"\\\\\"}{}", 0, true,
	  "E{\"a\":\"\\\\\"}E{}" },
	{ "stream: cut", false, "{\"a\":1}{\"b\"", 0, false, "E{\"a\":1}" },
	{ "stream: not an object", false, "[1]", -EBADMSG, false, "" },
	{ "stream: text", false, "Unauthorized", -EBADMSG, false, "" },
	{ "stream: too large", false,
	  "{\"a\":\"0123456789012345678901234567890123456789\"}{}", 0, true,
	  "T{\"a\":\"0123456789012345678901234567890123456789\"}E{}" },
	{ "list: empty", true, "{\"items\":[]}", 0, true, "" },
	{ "list: none", true, "{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":null}",
	  0, true, "M{\"resourceVersion\":\"7\"}" },
	{ "list: as the server writes it", true,
	  "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{\"a\":1},\"items\":[{"
	  "\"m\":1},"
	  "{\"n\":[2,{}]}]}\n",
	  0, true, "M{\"a\":1}I{\"m\":1}I{\"n\":[2,{}]}" },
	{ "list: blanks everywhere", true,
	  " { \"items\" : [ {\"a\": 1} , {} ] , \"x\" : -1.5e3 , \"metadata\" : {} } ", 0,
	  true, "I{\"a\": 1}I{}M{}" },
	{ "list: what is passed over", true,
	  "{\"a\":{\"items\":[{\"x\":1}]},\"b\":[{\"metadata\":{}}],\"c\":true,\"d\":"
	  "\"items\","
	  "\"items\":[{}]}",
	  0, true, "I{}" },
	{ "list: a long key", true, "{\"itemsitemsitemsitems\":[{}],\"items\":[{\"y\":1}]}",
	  0, true, "I{\"y\":1}" },
	{ "list: too large", true,
	  "{\"items\":[{\"a\":\"0123456789012345678901234567890123456789\"},{\"b\":1}]}", 0,
	  true, "T{\"a\":\"0123456789012345678901234567890123456789\"}I{\"b\":1}" },
	{ "list: cut in an item", true, "{\"items\":[{\"a\":1},{\"b\"", 0, false,
	  "I{\"a\":1}" },
	{ "list: cut between items", true, "{\"items\":[{\"a\":1},", 0, false,
	  "I{\"a\":1}" },
	{ "list: items that are no objects", true, "{\"items\":[1]}", -EBADMSG, false, "" },
	{ "list: an array", true, "[{}]", -EBADMSG, false, "" },
	{ "list: something after it", true, "{\"items\":[]}{", -EBADMSG, false, "" },
	{ "list: no colon", true, "{\"items\" [{}]}", -EBADMSG, false, "" },
	{ "list: a key without quotes", true, "{items:[]}", -EBADMSG, false, "" },
};

static int take(void *arg, enum tr_split_piece what, const char *bytes, size_t n)
{
	struct tr_buf *out = arg;

	assert_int_equal(bytes[n], '\0');
	tr_buf_add(out, &"EIMT"[what], 1);
	tr_buf_add(out, bytes, n);
	return 0;
}

/* The same whatever the portions. */
static void test_split(void **state)
{
	const struct split_case *c = *state;
	size_t n = strlen(c->text);

	for (size_t portion = 1; portion <= n + 1; portion++) {
		struct tr_buf got = { 0 };
		struct tr_split s;
		int r = 0;

		tr_buf_text(&got, "");
		tr_split_init(&s, c->is_list, 40, take, &got);
		for (size_t at = 0; at < n && r == 0; at += portion)
			r = tr_split_feed(&s, c->text + at,
					  n - at < portion ? n - at : portion);
		assert_int_equal(r, c->want);
		if (r == 0)
			assert_int_equal(tr_split_is_whole(&s), c->is_whole);
		if (strchr(c->pieces, 'T')) /* its head's length depends on the portions */
			assert_int_equal(got.p[strlen(got.p) - 1], '}');
		else
			assert_string_equal(got.p, c->pieces);
		tr_split_free(&s);
		tr_buf_free(&got);
	}
}

static int refuse(void *arg, enum tr_split_piece what, const char *bytes, size_t n)
{
	(void)arg;
	(void)what;
	(void)bytes;
	(void)n;
	return -ECANCELED;
}

static void test_refused(void **state)
{
	struct tr_split s;

	(void)state;
	tr_split_init(&s, false, 100, refuse, NULL);
	assert_int_equal(tr_split_feed(&s, "{}{}", 4), -ECANCELED);
	tr_split_free(&s);
}

/* Ten megabytes of one object are passed over without being kept. */
static void test_memory(void **state)
{
	struct tr_split s;
	struct tr_buf got = { 0 };
	char block[4096];

	(void)state;
	(void)memset(block, 'x', sizeof(block));
	tr_split_init(&s, false, (size_t)64 << 10, take, &got);
	assert_int_equal(tr_split_feed(&s, "{\"a\":\"", 6), 0);
	for (int i = 0; i < 2560; i++) {
		assert_int_equal(tr_split_feed(&s, block, sizeof(block)), 0);
		assert_true(s.piece.room < (size_t)128 << 10);
	}
	assert_int_equal(tr_split_feed(&s, "\"}", 2), 0);
	assert_true(tr_split_is_whole(&s));
	assert_true(got.n < 1024);
	tr_split_free(&s);
	tr_buf_free(&got);
}

int main(void)
{
	struct CMUnitTest tests[TR_COUNT(cases) + 2] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_memory),
	};

	for (size_t i = 0; i < TR_COUNT(cases); i++)
		tests[i + 2] = (struct CMUnitTest){ cases[i].name, test_split, NULL, NULL,
						    (void *)(uintptr_t)&cases[i] };
	return cmocka_run_group_tests_name("kube split", tests, NULL, NULL);
}
