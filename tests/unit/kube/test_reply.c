/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <string.h>

#include "kube/backoff.h"
#include "kube/client.h"
#include "kube/status.h"

static const struct path_case {
	const struct tr_kube_kind *kind;
	const char *space, *name, *sub;
	const char *want; /* NULL: refused */
} paths[] = {
	{ &tr_kube_pods, "a", "b-0.x", NULL, "/api/v1/namespaces/a/pods/b-0.x" },
	{ &tr_kube_pods, "a", "b", "binding", "/api/v1/namespaces/a/pods/b/binding" },
	{ &tr_kube_pods, "a", NULL, NULL, "/api/v1/namespaces/a/pods" },
	{ &tr_kube_pods, NULL, NULL, NULL, "/api/v1/pods" },
	{ &tr_kube_nodes, NULL, "n", NULL, "/api/v1/nodes/n" },
	{ &tr_kube_nodes, "ignored", "n", "status", "/api/v1/nodes/n/status" },
	{ &tr_kube_leases, "kube-node-lease", "n", NULL,
	  "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n" },
	{ &tr_kube_pods, NULL, "b", NULL, NULL },
	{ &tr_kube_pods, "a", "", NULL, NULL },
	{ &tr_kube_pods, "a", "..", NULL, NULL },
	{ &tr_kube_pods, ".", "b", NULL, NULL },
	{ &tr_kube_pods, "a/../b", "c", NULL, NULL },
	{ &tr_kube_pods, "a", "b?x=1", NULL, NULL },
	{ &tr_kube_pods, "a", "b%2f", NULL, NULL },
	{ &tr_kube_pods, "a", "b c", NULL, NULL },
	{ &tr_kube_pods, "a", "b\xc3\xa4", NULL, NULL },
};

static void test_paths(void **state)
{
	char long_name[300];
	char out[TR_KUBE_PATH];
	struct tr_err err = { 0 };

	(void)state;
	for (size_t i = 0; i < TR_COUNT(paths); i++) {
		const struct path_case *c = &paths[i];
		int r = tr_kube_path(out, c->kind, c->space, c->name, c->sub, &err);

		assert_int_equal(r, c->want ? 0 : -EINVAL);
		if (c->want)
			assert_string_equal(out, c->want);
	}
	(void)memset(long_name, 'a', sizeof(long_name));
	long_name[253] = '\0';
	assert_int_equal(tr_kube_path(out, &tr_kube_nodes, NULL, long_name, NULL, &err), 0);
	long_name[253] = 'a';
	long_name[254] = '\0';
	assert_int_equal(tr_kube_path(out, &tr_kube_nodes, NULL, long_name, NULL, &err),
			 -EINVAL);
}

static const struct status_case {
	int http;
	const char *body;
	int code;
	const char *reason, *message;
	uint32_t wait_s;
	int want; /* errno */
} statuses[] = {
	{ 404,
	  "{\"kind\":\"Status\",\"reason\":\"NotFound\",\"message\":\"pods \\\"a\\\" not "
	  "found\"}",
	  404, "NotFound", "pods \"a\" not found", 0, ENOENT },
	{ 0,
	  "{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\",\"message\":\"too "
	  "old\"}",
	  410, "Expired", "too old", 0, EKEYEXPIRED },
	{ 429, "{\"kind\":\"Status\",\"details\":{\"retryAfterSeconds\":7}}", 429, "", "",
	  7, EAGAIN },
	{ 429, "{\"kind\":\"Status\",\"details\":{\"retryAfterSeconds\":-7}}", 429, "", "",
	  0, EAGAIN },
	{ 429, "{\"kind\":\"Status\",\"details\":{\"retryAfterSeconds\":99999999999}}", 429,
	  "", "", 3600, EAGAIN },
	{ 409, "{\"kind\":\"Status\",\"reason\":\"AlreadyExists\"}", 409, "AlreadyExists",
	  "", 0, EEXIST },
	{ 409, "{\"kind\":\"Status\",\"reason\":\"Conflict\"}", 409, "Conflict", "", 0,
	  ESTALE },
	{ 422, "{\"kind\":\"Status\",\"reason\":5,\"message\":{}}", 422, "", "", 0,
	  EINVAL },
	{ 502, "<html>\n<body>bad\tgateway\n", 502, "", "<html> <body>bad gateway", 0,
	  EAGAIN },
	{ 403, "[]", 403, "", "[]", 0, EACCES },
	{ 418, "", 418, "", "", 0, EPROTO },
};

static void test_statuses(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(statuses); i++) {
		const struct status_case *c = &statuses[i];
		struct tr_kube_status s;
		json_t *body = json_loads(c->body, 0, NULL);

		tr_kube_status_read(&s, c->http, body, c->body, strlen(c->body));
		assert_int_equal(s.code, c->code);
		assert_string_equal(s.reason, c->reason);
		assert_string_equal(s.message, c->message);
		assert_int_equal(s.retry_after_s, c->wait_s);
		assert_int_equal(tr_kube_status_errno(&s), c->want);
		json_decref(body);
	}
}

/* A message that is cut ends with a whole character. */
static void test_long_message(void **state)
{
	char text[1001];
	struct tr_kube_status s;

	(void)state;
	for (size_t i = 0; i < 1000; i += 2)
		(void)memcpy(text + i, "\xc3\xa4", 2);
	text[1000] = '\0';
	tr_kube_status_read(&s, 500, NULL, text, 1000);
	assert_true(strlen(s.message) >= sizeof(s.message) - 3);
	assert_int_equal((unsigned char)s.message[strlen(s.message) - 1], 0xa4);
}

static void test_backoff(void **state)
{
	struct tr_backoff b = { .first_ms = 100, .max_ms = 5000, .chance = 7 };
	uint32_t most = 100, seen[64];
	int distinct = 0;

	(void)state;
	for (int i = 0; i < 64; i++) {
		seen[i] = tr_backoff_next(&b);
		assert_true(seen[i] >= most / 2 && seen[i] <= most);
		most = most * 2 > 5000 ? 5000 : most * 2;
		distinct += i > 10 && seen[i] != seen[i - 1];
	}
	assert_true(distinct > 45);
	tr_backoff_reset(&b);
	assert_true(tr_backoff_next(&b) <= 100);
	for (int i = 0; i < 1000; i++) {
		uint32_t x = tr_backoff_between(&b, 3, 5);

		assert_true(x >= 3 && x <= 5);
	}
	assert_int_equal(tr_backoff_between(&b, 9, 3), 9);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_long_message),
		cmocka_unit_test(test_backoff),
	};

	return cmocka_run_group_tests_name("kube reply", tests, NULL, NULL);
}
