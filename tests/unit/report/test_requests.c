/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/report/http.h"
#include "deviceplugin/report/metrics.h"

/* What is read of a client's words: requests, Accept, and the address of the configuration. */

#define HOST "Host: h\r\n"
#define END  "\r\n"

static const struct request_case {
	const char *name, *bytes;
	int want; /* 0: more is needed; 1: all of it; below 0: as told */
	const char *path, *query, *accept;
	bool keep, is_head;
} request_cases[] = {
	{ "get", "GET /metrics HTTP/1.1\r\n" HOST END, 1, "/metrics", "", "", true },
	{ "head", "HEAD / HTTP/1.1\r\n" HOST END, 1, "/", "", "", true, true },
	{ "query", "GET /a?b=c&d HTTP/1.1\r\n" HOST END, 1, "/a", "b=c&d", "", true },
	{ "absolute", "GET http://h:1/a HTTP/1.1\r\n" HOST END, 1, "/a", "", "", true },
	{ "absolute, no path", "GET http://h HTTP/1.1\r\n" HOST END, 1, "/", "", "", true },
	{ "empty line before", "\r\nGET / HTTP/1.1\r\n" HOST END, 1, "/", "", "", true },
	{ "accept twice", "GET / HTTP/1.1\r\nACCEPT:  a \r\naccept:b;q=0.1, c\r\n" HOST END,
	  1, "/", "", "a, b;q=0.1, c", true },
	{ "close", "GET / HTTP/1.1\r\nConnection: x , Close\r\n" HOST END, 1, "/", "", "",
	  false },
	{ "1.0", "GET / HTTP/1.0\r\n" END, 1, "/", "", "", false },
	{ "1.0 keep", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n" END, 1, "/", "", "",
	  true },
	{ "no body", "GET / HTTP/1.1\r\nContent-Length: 0\r\n" HOST END, 1, "/", "", "",
	  true },
	{ "odd value", "GET / HTTP/1.1\r\nX: \xff\x80 \t:\r\n" HOST END, 1, "/", "", "",
	  true },

	{ "nothing", "", 0 },
	{ "half a line", "GET / HT", 0 },
	{ "half a field", "GET / HTTP/1.1\r\nHos", 0 },
	{ "no empty line", "GET / HTTP/1.1\r\n" HOST "\r", 0 },

	{ "post", "POST / HTTP/1.1\r\n" HOST END, -405 },
	{ "another word", "GETS / HTTP/1.1\r\n" HOST END, -405 },
	{ "small letters", "get / HTTP/1.1\r\n" HOST END, -405 },
	{ "body", "GET / HTTP/1.1\r\nContent-Length: 1\r\n" HOST END, -413 },
	{ "chunks", "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" HOST END, -413 },
	{ "length", "GET / HTTP/1.1\r\nContent-Length: -1\r\n" HOST END, -400 },
	{ "no length", "GET / HTTP/1.1\r\nContent-Length:\r\n" HOST END, -400 },
	{ "no host", "GET / HTTP/1.1\r\n" END, -400 },
	{ "two hosts", "GET / HTTP/1.1\r\n" HOST HOST END, -400 },
	{ "folded", "GET / HTTP/1.1\r\n" HOST " more\r\n" END, -400 },
	{ "blank before colon", "GET / HTTP/1.1\r\nHost : h\r\n" END, -400 },
	{ "no colon", "GET / HTTP/1.1\r\nHost\r\n" END, -400 },
	{ "no name", "GET / HTTP/1.1\r\n: h\r\n" END, -400 },
	{ "line feed alone", "GET / HTTP/1.1\nHost: h\n\n", -400 },
	{ "return alone", "GET / HTTP/1.1\r\nX: a\rb\r\n" HOST END, -400 },
	{ "return twice", "GET / HTTP/1.1\r\n" HOST "X: a\r\r\n\r\n", -400 },
	{ "control", "GET / HTTP/1.1\r\nX: \x01\r\n" HOST END, -400 },
	{ "tls", "\x16\x03\x01\x02", -400 },
	{ "no target", "GET HTTP/1.1\r\n" HOST END, -400 },
	{ "star", "GET * HTTP/1.1\r\n" HOST END, -400 },
	{ "no slash", "GET metrics HTTP/1.1\r\n" HOST END, -400 },
	{ "eight bits", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST END, -400 },
	{ "two blanks", "GET  / HTTP/1.1\r\n" HOST END, -400 },
	{ "no version", "GET /\r\n" HOST END, -400 },
	{ "version 2", "GET / HTTP/2.0\r\n" HOST END, -505 },
	{ "version x", "GET / HTTP/x.1\r\n" HOST END, -400 },
};

static void test_request(void **state)
{
	const struct request_case *c = *state;
	size_t n = strlen(c->bytes);
	char *bytes = malloc(n ? n : 1); /* exactly: what is read beyond shows */
	struct tr_http_request request;
	int r;

	assert_non_null(bytes);
	memcpy(bytes, c->bytes, n);
	r = tr_http_parse(bytes, n, &request);
	assert_int_equal(r, c->want > 0 ? (int)n : c->want);
	if (r > 0) {
		assert_string_equal(request.path, c->path);
		assert_string_equal(request.query, c->query);
		assert_string_equal(request.accept, c->accept);
		assert_int_equal(request.keep, c->keep);
		assert_int_equal(request.is_head, c->is_head);
		/* what comes after is another request's */
		for (size_t cut = 0; cut < n; cut++)
			assert_int_equal(tr_http_parse(bytes, cut, &request), 0);
	}
	free(bytes);
}

static void test_too_long(void **state)
{
	static char bytes[3 * TR_HTTP_REQUEST];
	struct tr_http_request request;
	int n;

	(void)state;
	memset(bytes, 'a', sizeof(bytes));
	memcpy(bytes, "GET /", 5);
	assert_int_equal(tr_http_parse(bytes, TR_HTTP_REQUEST - 1, &request), 0);
	assert_int_equal(tr_http_parse(bytes, TR_HTTP_REQUEST, &request), -414);
	n = snprintf(bytes, sizeof(bytes), "GET /%0200d HTTP/1.1\r\n" HOST END, 0);
	assert_int_equal(tr_http_parse(bytes, (size_t)n, &request), -414);
	n = snprintf(bytes, sizeof(bytes), "GET / HTTP/1.1\r\nX: %09000d\r\n" HOST END, 0);
	assert_int_equal(tr_http_parse(bytes, (size_t)n, &request), -431);
	n = snprintf(bytes, sizeof(bytes), "GET / HTTP/1.1\r\n" HOST);
	for (unsigned i = 0; i < 100; i++)
		n += snprintf(bytes + n, sizeof(bytes) - (size_t)n, "X: y\r\n");
	memcpy(bytes + n, END, sizeof(END));
	assert_int_equal(tr_http_parse(bytes, (size_t)n + 2, &request), -431);
	/* an Accept that does not fit is none */
	n = snprintf(bytes, sizeof(bytes),
		     "GET / HTTP/1.1\r\n" HOST "Accept: a\r\nAccept: %0900d\r\n" END, 0);
	assert_int_equal(tr_http_parse(bytes, (size_t)n, &request), n);
	assert_string_equal(request.accept, "");
}

static void test_accept(void **state)
{
	static const struct {
		const char *accept;
		enum tr_metrics_format want;
	} cases[] = {
		{ "", TR_METRICS_TEXT },
		{ "*/*", TR_METRICS_TEXT },
		{ "text/plain", TR_METRICS_TEXT },
		{ "text/html,application/xhtml+xml,*/*;q=0.8", TR_METRICS_TEXT },
		{ "application/openmetrics-text", TR_METRICS_OPENMETRICS },
		{ "application/openmetrics-text; version=1.0.0; charset=utf-8",
		  TR_METRICS_OPENMETRICS },
		{ "application/openmetrics-text;version=2.0.0", TR_METRICS_TEXT },
		{ "application/openmetrics-text;q=0", TR_METRICS_TEXT },
		{ "application/openmetrics-text;q=0.2,text/plain;q=0.3", TR_METRICS_TEXT },
		/* Prometheus 2 */
		{ "application/openmetrics-text;version=1.0.0,"
		  "application/openmetrics-text;version=0.0.1;q=0.75,"
		  "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
		  TR_METRICS_OPENMETRICS },
		/* Prometheus 3 */
		{ "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
		  "application/openmetrics-text;version=0.0.1;q=0.5,"
		  "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
		  "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
		  TR_METRICS_OPENMETRICS },
		/* ... told to want protocol buffers most */
		{ "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
		  "encoding=delimited,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
		  TR_METRICS_TEXT },
		{ ",,;;=,q=;version=", TR_METRICS_TEXT },
		{ "application/openmetrics-text;version=1.0.0;q=1.0000000000000000001",
		  TR_METRICS_OPENMETRICS },
	};

	(void)state;
	for (size_t i = 0; i < TR_COUNT(cases); i++)
		if (tr_metrics_choose(cases[i].accept) != cases[i].want)
			fail_msg("\"%s\"", cases[i].accept);
}

static void test_address(void **state)
{
	static const char *const good[] = { ":9394", "0.0.0.0:0", "127.0.0.1:65535",
					    "[::1]:80", "[::]:9394" },
				 *const bad[] = {
					 "",         "9394",    ":",           ":65536",
					 ":-1",      ":1x",     "localhost:1", "1.2.3:1",
					 "::1:9394", "[::1]",   "[1.2.3.4]:1", "1.2.3.4:",
					 " :1",      ":000001", "[]:1"
				 };
	struct tr_err err = { 0 };

	(void)state;
	for (size_t i = 0; i < TR_COUNT(good); i++)
		assert_int_equal(tr_http_address_check(good[i], &err), 0);
	for (size_t i = 0; i < TR_COUNT(bad); i++) {
		if (tr_http_address_check(bad[i], &err) != -EINVAL)
			fail_msg("\"%s\"", bad[i]);
		assert_non_null(strstr(err.msg, bad[i]));
	}
}

int main(void)
{
	struct CMUnitTest requests[TR_COUNT(request_cases)];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_address),
	};
	int failed;

	for (size_t i = 0; i < TR_COUNT(request_cases); i++)
		requests[i] = (struct CMUnitTest){ request_cases[i].name, test_request,
						   NULL, NULL,
						   (void *)(uintptr_t)&request_cases[i] };
	failed = cmocka_run_group_tests_name("requests", requests, NULL, NULL);
	return failed + cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
