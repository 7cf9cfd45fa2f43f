/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deviceplugin/report/log.h"
#include "deviceplugin/report/log_bound.h"

/* What stands in the log is read back through a pipe. */

static int ends[2];
static char text[1 << 20];

static int open_pipe(void **state)
{
	(void)state;
	return pipe2(ends, O_CLOEXEC);
}

static int close_pipe(void **state)
{
	(void)state;
	(void)close(ends[0]);
	(void)close(ends[1]);
	return 0;
}

/* All that was written so far. */
static const char *drain(void)
{
	size_t n = 0;
	ssize_t got;

	(void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
	while ((got = read(ends[0], text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	return text;
}

/* The line without its time, which begins it. */
static const char *line_after_time(void)
{
	const char *line = drain();

	assert_memory_equal(line, "ts=20", 5);
	assert_non_null(strstr(line, "Z level="));
	return strstr(line, " level=") + 1;
}

static unsigned count_lines(const char *all)
{
	unsigned n = 0;

	for (; *all; all++)
		n += *all == '\n';
	return n;
}

static const struct value_case {
	const char *name, *value, *logfmt;
} value_cases[] = {
	{ "plain", "shop/cart-0", "key=shop/cart-0" },
	{ "empty", "", "key=\"\"" },
	{ "blank", "a b", "key=\"a b\"" },
	{ "quotes and backslash", "say \"no\" \\", "key=\"say \\\"no\\\" \\\\\"" },
	{ "a line of its own", "x\nts=1 level=error", "key=\"x\\nts=1 level=error\"" },
	{ "another key", "x pod=y", "key=\"x pod=y\"" },
	{ "equals", "a=b", "key=\"a=b\"" },
	{ "terminal", "\x1b[2J\x7f\t", "key=\"\\u001b[2J\\u007f\\t\"" },
	{ "terminal, 8 bits",
	  "\xc2\x9b"
	  "2J",
	  "key=\"\\u009b2J\"" },
	{ "text turned around",
	  "a\xe2\x80\xae"
	  "b",
	  "key=\"a\\u202eb\"" },
	{ "other languages",
	  "Gr\xc3\xb6\xc3\x9f"
	  "e",
	  "key=\"Gr\xc3\xb6\xc3\x9f"
	  "e\"" },
	{ "no UTF-8", "a\xff\xc3", "key=\"a\xef\xbf\xbd\xef\xbf\xbd\"" },
	{ "overlong", "\xc0\xaf", "key=\"\xef\xbf\xbd\xef\xbf\xbd\"" },
};

static void test_value(void **state)
{
	const struct value_case *c = *state;
	char want[256];

	tr_log_open(TR_LOG_INFO, TR_LOG_LOGFMT, ends[1]);
	tr_log(TR_LOG_WARN, "something", "key", c->value, "last", "1", NULL);
	(void)snprintf(want, sizeof(want), "level=warn event=something %s last=1\n",
		       c->logfmt);
	assert_string_equal(line_after_time(), want);
}

/* The same values come back from a JSON reader. */
static void test_json(void **state)
{
	(void)state;
	tr_log_open(TR_LOG_INFO, TR_LOG_JSON, ends[1]);
	for (size_t i = 0; i < TR_COUNT(value_cases); i++) {
		const char *value = value_cases[i].value;
		json_t *line;

		tr_log(TR_LOG_INFO, "something", "key", value, NULL);
		line = json_loads(drain(), 0, NULL);
		assert_non_null(line);
		assert_int_equal(text[strlen(text) - 1], '\n');
		assert_int_equal(count_lines(text), 1);
		assert_string_equal(json_string_value(json_object_get(line, "level")),
				    "info");
		if (!strstr(value_cases[i].logfmt, "\xef\xbf\xbd"))
			assert_string_equal(json_string_value(json_object_get(line, "key")),
					    value);
		json_decref(line);
	}
}

static void test_levels_and_missing(void **state)
{
	(void)state;
	tr_log_open(TR_LOG_WARN, TR_LOG_LOGFMT, ends[1]);
	tr_log(TR_LOG_INFO, "not_wanted", NULL);
	assert_string_equal(drain(), "");
	tr_log(TR_LOG_ERROR, "wanted", "pod", NULL, "n", tr_log_u64(UINT64_MAX), "m",
	       tr_log_i64(-3), NULL);
	assert_string_equal(line_after_time(),
			    "level=error event=wanted n=18446744073709551615 m=-3\n");
}

/* However much there is to say: one line, whole, no longer than a pipe takes at once. */
static void test_long(void **state)
{
	static char long_value[100000];
	const char *line;

	(void)state;
	memset(long_value, '\n', sizeof(long_value) - 1); /* two bytes each */
	tr_log_open(TR_LOG_INFO, TR_LOG_LOGFMT, ends[1]);
	tr_log(TR_LOG_INFO, "long", "a", long_value, "b", long_value, "c", long_value, "d",
	       "short", NULL);
	line = line_after_time();
	assert_true(strlen(text) <= TR_LOG_LINE);
	assert_int_equal(count_lines(text), 1);
	assert_non_null(strstr(line, "\\n...\""));
	assert_non_null(strstr(line, " d=short left_out=2\n"));
}

/* Nobody reads: whole lines are lost, counted, and the writer goes on; then it is as before. */
static void test_full_pipe(void **state)
{
	struct tr_log_counts counts;
	unsigned lines;
	const char *at;

	(void)state;
	tr_log_open(TR_LOG_INFO, TR_LOG_LOGFMT, ends[1]);
	for (unsigned i = 0; i < 1000; i++)
		tr_log(TR_LOG_INFO, "filling", "n", tr_log_u64(i), "text",
		       "as long as a line often is, or a little longer: with a device "
		       "GPU-00000000-0000-0000-0000-000000000000",
		       NULL);
	tr_log_counts(&counts);
	assert_true(counts.lost > 0);
	assert_int_equal(counts.lost + counts.lines[TR_LOG_INFO], 1000);
	lines = count_lines(drain());
	assert_int_equal(lines, counts.lines[TR_LOG_INFO]);
	for (at = text; *at; at = strchr(at, '\n') + 1)
		assert_memory_equal(at, "ts=20", 5);
	tr_log(TR_LOG_INFO, "after", NULL);
	assert_string_equal(line_after_time(), "level=info event=after\n");
}

static void *write_many(void *arg)
{
	for (unsigned i = 0; i < 200; i++)
		tr_log(TR_LOG_INFO, arg, "n", tr_log_u64(i), NULL);
	return NULL;
}

static void *read_all(void *arg)
{
	size_t *n = arg;
	ssize_t got;

	while (*n < sizeof(text) - 1 && (got = read(ends[0], text + *n, 1000)) > 0)
		*n += (size_t)got;
	return NULL;
}

static void test_threads(void **state)
{
	static char names[4][4] = { "a", "b", "c", "d" };
	pthread_t writers[4], reader;
	size_t n = 0;

	(void)state;
	tr_log_open(TR_LOG_INFO, TR_LOG_LOGFMT, ends[1]);
	assert_int_equal(pthread_create(&reader, NULL, read_all, &n), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&writers[i], NULL, write_many, names[i]),
				 0);
	for (unsigned i = 0; i < 4; i++)
		(void)pthread_join(writers[i], NULL);
	tr_log_open(TR_LOG_INFO, TR_LOG_LOGFMT, STDERR_FILENO);
	(void)close(ends[1]);
	(void)pthread_join(reader, NULL);
	text[n] = '\0';
	assert_int_equal(count_lines(text), 800);
	for (const char *at = text; *at; at = strchr(at, '\n') + 1)
		assert_memory_equal(at, "ts=20", 5);
}

/* ---- bounds ----------------------------------------------------------------------------- */

#define S UINT64_C(1000000000)

static void test_repeats(void **state)
{
	static struct tr_log_bound bound;
	uint64_t repeats, dropped, now = 100 * S;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(tr_log_admit(&bound, 7, 1, false, now, &repeats, &dropped),
				 i < TR_LOG_REPEATS ? TR_LOG_WRITE : TR_LOG_REPEAT);
	/* another line of the same event is none of it */
	assert_int_equal(tr_log_admit(&bound, 8, 1, false, now, &repeats, &dropped),
			 TR_LOG_WRITE);
	assert_int_equal(repeats, 0);
	assert_int_equal(tr_log_admit(&bound, 7, 1, false, now + TR_LOG_REPEAT_NS, &repeats,
				      &dropped),
			 TR_LOG_WRITE);
	assert_int_equal(repeats, 100 - TR_LOG_REPEATS);
}

static void test_burst(void **state)
{
	static struct tr_log_bound bound;
	uint64_t repeats, dropped, now = 100 * S;
	unsigned written = 0;

	(void)state;
	for (unsigned i = 0; i < 3000; i++)
		written += tr_log_admit(&bound, 1000 + i, 2, false, now, &repeats,
					&dropped) == TR_LOG_WRITE;
	assert_int_equal(written, TR_LOG_BURST);
	/* an error always, and another event */
	assert_int_equal(tr_log_admit(&bound, 5, 2, true, now, &repeats, &dropped),
			 TR_LOG_WRITE);
	assert_int_equal(dropped, 3000 - TR_LOG_BURST);
	assert_int_equal(tr_log_admit(&bound, 6, 3, false, now, &repeats, &dropped),
			 TR_LOG_WRITE);
	written = 0;
	for (unsigned i = 0; i < 3000; i++)
		written += tr_log_admit(&bound, 5000 + i, 2, false, now + S, &repeats,
					&dropped) == TR_LOG_WRITE;
	assert_int_equal(written, TR_LOG_RATE);
	/* however long it was quiet */
	written = 0;
	for (unsigned i = 0; i < 3000; i++)
		written += tr_log_admit(&bound, 9000 + i, 2, false, UINT64_MAX / 2,
					&repeats, &dropped) == TR_LOG_WRITE;
	assert_int_equal(written, TR_LOG_BURST);
}

static void test_names(void **state)
{
	enum tr_log_level level;
	enum tr_log_format format;

	(void)state;
	assert_int_equal(tr_log_level_parse("debug", &level), 0);
	assert_int_equal(level, TR_LOG_DEBUG);
	assert_int_equal(tr_log_level_parse("Debug", &level), -EINVAL);
	assert_int_equal(tr_log_format_parse("json", &format), 0);
	assert_int_equal(format, TR_LOG_JSON);
	assert_int_equal(tr_log_format_parse("", &format), -EINVAL);
}

int main(void)
{
	struct CMUnitTest values[TR_COUNT(value_cases)];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_json, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(test_levels_and_missing, open_pipe,
						close_pipe),
		cmocka_unit_test_setup_teardown(test_long, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(test_full_pipe, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(test_threads, open_pipe, close_pipe),
		cmocka_unit_test(test_repeats),
		cmocka_unit_test(test_burst),
		cmocka_unit_test(test_names),
	};
	int failed;

	for (size_t i = 0; i < TR_COUNT(value_cases); i++)
		values[i] = (struct CMUnitTest){ value_cases[i].name, test_value, open_pipe,
						 close_pipe,
						 (void *)(uintptr_t)&value_cases[i] };
	failed = cmocka_run_group_tests_name("values", values, NULL, NULL);
	return failed + cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
