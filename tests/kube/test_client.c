/* SPDX-License-Identifier: Apache-2.0 */
/* Requests against a server that does what servers do on bad days. */
#include "tr_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "harness.h"

/* One request with one fault; ROW.name is the scene. */
static const struct fault {
	const char *name;
	enum tr_kube_verb verb;
	const char *path;
	uint32_t deadline_ms;
	int want;
	unsigned tries;   /* 0: not looked at */
	const char *says; /* in the sentence */
} faults[] = {
	{ "get: 404", TR_KUBE_GET,
	  "/status?code=404&reason=NotFound&message=pods+x+not+found", 0, -ENOENT, 1,
	  "404 NotFound: pods x not found" },
	{ "get: 403", TR_KUBE_GET, "/status?code=403&reason=Forbidden&message=no", 0,
	  -EACCES, 1, "403 Forbidden: no" },
	{ "get: 401", TR_KUBE_GET, "/status?code=401&reason=Unauthorized", 0, -EACCES, 1,
	  "401" },
	{ "create: it exists", TR_KUBE_CREATE, "/status?code=409&reason=AlreadyExists", 0,
	  -EEXIST, 1, "409 AlreadyExists" },
	{ "create: conflict", TR_KUBE_CREATE, "/status?code=409&reason=Conflict", 0,
	  -ESTALE, 1, "409 Conflict" },
	{ "patch: invalid", TR_KUBE_PATCH_MERGE,
	  "/status?code=422&reason=Invalid&message=bad", 0, -EINVAL, 1,
	  "422 Invalid: bad" },
	{ "get: a proxy's page", TR_KUBE_GET, "/plain?code=404&text=<h1>no%0Ahere</h1>", 0,
	  -ENOENT, 1, "404: <h1>no here</h1>" },
	{ "get: not JSON", TR_KUBE_GET, "/plain?text={", 0, -EBADMSG, 1, "not JSON" },
	{ "get: redirected elsewhere", TR_KUBE_GET, "/redirect", 0, -EPROTO, 1, "302" },
	{ "get: too large", TR_KUBE_GET, "/huge?mb=20", 0, -EMSGSIZE, 1, "too large" },
	{ "get: 429 twice", TR_KUBE_GET, "/throttle?n=2", 0, 0, 3, "" },
	{ "create: 429 twice", TR_KUBE_CREATE, "/throttle?n=2", 0, 0, 3, "" },
	{ "create: 503 with Retry-After", TR_KUBE_CREATE, "/throttle?n=1&code=503&after=1",
	  0, 0, 2, "" },
	{ "create: 500 as it is", TR_KUBE_CREATE, "/throttle?n=1&code=500", 0, -EAGAIN, 1,
	  "500" },
	{ "get: 500 once", TR_KUBE_GET, "/throttle?n=1&code=500", 0, 0, 2, "" },
	{ "get: throttled for ever", TR_KUBE_GET, "/throttle", 1500, -EAGAIN, 0,
	  "429 TooManyRequests: too many" },
	{ "get: Retry-After beyond the deadline", TR_KUBE_GET, "/throttle?after=60", 2000,
	  -EAGAIN, 1, "429" },
	{ "get: dropped once", TR_KUBE_GET, "/drop?n=1", 0, 0, 2, "" },
	{ "patch: dropped once", TR_KUBE_PATCH_STRATEGIC, "/drop?n=1", 0, 0, 2, "" },
	{ "create: dropped", TR_KUBE_CREATE, "/drop?n=1", 0, -ECONNRESET, 1, "POST" },
	{ "json patch: dropped", TR_KUBE_PATCH_JSON, "/drop?n=1", 0, -ECONNRESET, 1,
	  "PATCH" },
	{ "get: cut in the middle", TR_KUBE_GET, "/cut?n=1", 0, 0, 2, "" },
	{ "get: no answer at first", TR_KUBE_GET, "/hang?n=1", 4000, 0, 2, "" },
	{ "create: no answer", TR_KUBE_CREATE, "/hang?n=1", 1500, -ETIMEDOUT, 1, "" },
	{ "get: a byte now and then", TR_KUBE_GET, "/slow", 1500, -ETIMEDOUT, 0, "" },
	{ "delete: dropped once", TR_KUBE_DELETE, "/drop?n=1", 0, 0, 2, "" },
};

static void test_fault(void **state)
{
	const struct fault *f = *state;
	char *scene = tr_xprintf("fault-%zu", (size_t)(f - faults));
	struct tr_kube *k = kube_client(scene);
	json_t *body = json_pack("{s:s}", "kind", "Pod");
	struct kube_result got;
	struct tr_kube_ask ask = { .verb = f->verb,
				   .path = f->path,
				   .deadline_ms = f->deadline_ms };
	struct timespec from, to;

	if (f->verb != TR_KUBE_GET && f->verb != TR_KUBE_DELETE)
		ask.body = body;
	(void)clock_gettime(CLOCK_MONOTONIC, &from);
	assert_int_equal(kube_ask(k, &ask, &got), f->want);
	(void)clock_gettime(CLOCK_MONOTONIC, &to);
	assert_int_equal(got.err.code, -f->want);
	if (!strstr(got.err.msg, f->says))
		fail_msg("\"%s\" does not say \"%s\"", got.err.msg, f->says);
	if (f->tries)
		assert_int_equal(got.tries, f->tries);
	if (f->deadline_ms) /* a loaded machine's second is generous */
		assert_true((uint32_t)(to.tv_sec - from.tv_sec) * 1000 <=
			    f->deadline_ms + 2500);
	kube_result_free(&got);
	json_decref(body);
	tr_kube_close(k);
	free(scene);
}

static const struct verb_case {
	const char *name;
	enum tr_kube_verb verb;
	const char *method, *type;
} verb_cases[] = {
	{ "verb: get", TR_KUBE_GET, "GET", NULL },
	{ "verb: create", TR_KUBE_CREATE, "POST", "application/json" },
	{ "verb: replace", TR_KUBE_REPLACE, "PUT", "application/json" },
	{ "verb: merge patch", TR_KUBE_PATCH_MERGE, "PATCH",
	  "application/merge-patch+json" },
	{ "verb: strategic patch", TR_KUBE_PATCH_STRATEGIC, "PATCH",
	  "application/strategic-merge-patch+json" },
	{ "verb: json patch", TR_KUBE_PATCH_JSON, "PATCH", "application/json-patch+json" },
	{ "verb: delete", TR_KUBE_DELETE, "DELETE", NULL },
};

static const char *text_at(const json_t *o, const char *a, const char *b)
{
	const char *text;

	o = json_object_get(o, a);
	text = json_string_value(b ? json_object_get(o, b) : o);
	return text ? text : "";
}

static void test_verb(void **state)
{
	const struct verb_case *c = *state;
	struct tr_kube *k = kube_client("verbs");
	json_t *body = json_pack("{s:{s:s}}", "metadata", "name", "a");
	struct tr_kube_ask ask = { .verb = c->verb, .path = "/echo/x?dryRun=All" };
	struct kube_result got;

	if (c->type)
		ask.body = body;
	assert_int_equal(kube_ask(k, &ask, &got), 0);
	assert_string_equal(text_at(got.body, "method", NULL), c->method);
	assert_string_equal(text_at(got.body, "path", NULL), "/verbs/echo/x?dryRun=All");
	assert_string_equal(text_at(got.body, "headers", "Content-Type"),
			    c->type ? c->type : "");
	assert_string_equal(text_at(got.body, "headers", "Accept"), "application/json");
	assert_string_equal(text_at(got.body, "body", NULL),
			    c->type ? "{\"metadata\":{\"name\":\"a\"}}" : "");
	kube_result_free(&got);
	json_decref(body);
	tr_kube_close(k);
}

/* The pauses asked for are kept, and not all to the same moment. */
static void test_retry_after_is_kept(void **state)
{
	static const char *const paths[] = { "/throttle?n=1&after=2",
					     "/throttle?n=1&detail=2" };
	struct kube_result got;

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct tr_kube *k = kube_client(i ? "after-1" : "after-0");
		struct tr_kube_ask ask = { .path = paths[i] };
		double pause;

		assert_int_equal(kube_ask(k, &ask, &got), 0);
		pause = json_real_value(json_array_get(json_object_get(got.body, "at"), 1));
		assert_true(pause >= 2.0 && pause < 5.0);
		assert_int_equal(tr_kube_counts(k)->throttled, 1);
		assert_int_equal(tr_kube_counts(k)->requests, 2);
		kube_result_free(&got);
		tr_kube_close(k);
	}
}

static int ask_access(struct tr_kube_access *access, struct kube_result *got)
{
	struct tr_kube_ask ask = { .path = "/echo", .deadline_ms = 3000 };
	struct tr_kube *k = NULL;
	int r;

	assert_int_equal(tr_kube_access_check(access, NULL), 0);
	assert_int_equal(tr_kube_open(&k, kube_base, access, NULL), 0);
	r = kube_ask(k, &ask, got);
	tr_kube_close(k);
	return r;
}

static void open_secret(struct tr_kube_secret *s, const char *name)
{
	char *path = tr_xprintf("%s/%s", kube_server.dir, name);

	assert_int_equal(tr_kube_secret_open(s, TR_KUBE_PEM, path, NULL), 0);
	free(path);
}

static void test_client_certificate(void **state)
{
	struct tr_kube_access a;
	struct kube_result got;

	(void)state;
	kube_access_tls(&a, "tls");
	open_secret(&a.cert, "client.crt");
	open_secret(&a.key, "client.key");
	assert_int_equal(ask_access(&a, &got), 0);
	assert_string_equal(text_at(got.body, "peer", NULL), "node-a");
	kube_result_free(&got);
}

static void test_password(void **state)
{
	struct tr_kube_access a;
	struct kube_result got;

	(void)state;
	kube_access_tls(&a, "tls");
	a.user = tr_xstrdup("root");
	a.password = tr_xstrdup("secret");
	assert_int_equal(ask_access(&a, &got), 0);
	assert_string_equal(text_at(got.body, "headers", "Authorization"),
			    "Basic cm9vdDpzZWNyZXQ=");
	kube_result_free(&got);
}

static void test_another_authority(void **state)
{
	struct tr_kube_access a;
	struct kube_result got;

	(void)state;
	kube_access_tls(&a, "tls");
	open_secret(&a.ca, "other.crt");
	assert_int_equal(ask_access(&a, &got), -EPROTO);
	assert_non_null(strstr(got.err.msg, "certificate"));
	kube_result_free(&got);

	/* The machine's own authorities do not count either. */
	kube_access_tls(&a, "tls");
	free(a.ca.text);
	a.ca.text = NULL;
	assert_int_equal(ask_access(&a, &got), -EPROTO);
	kube_result_free(&got);

	kube_access_tls(&a, "tls");
	free(a.ca.text);
	a.ca.text = NULL;
	a.is_insecure = true;
	assert_int_equal(ask_access(&a, &got), 0);
	kube_result_free(&got);
}

/* A certificate for a name that is not the address. */
static void test_server_name(void **state)
{
	struct tr_kube_access a;
	struct kube_result got;

	(void)state;
	for (int named = 0; named < 2; named++) {
		kube_access_tls(&a, "tls");
		free(a.server);
		a.server = tr_xprintf("https://127.0.0.1:%d/tls", kube_server.named_port);
		if (named)
			a.tls_name = tr_xstrdup("api.tranche.test");
		assert_int_equal(ask_access(&a, &got), named ? 0 : -EPROTO);
		kube_result_free(&got);
	}
}

static void write_text(const char *path, const char *text)
{
	char *beside = tr_xprintf("%s.new", path);
	FILE *out = fopen(beside, "we");

	assert_non_null(out);
	assert_true(fputs(text, out) >= 0);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(rename(beside, path), 0);
	free(beside);
}

/* The kubelet exchanges a pod's token; the old one is refused one day. */
static void test_token_is_read_again(void **state)
{
	char *path = tr_xprintf("%s/token", kube_server.dir);
	struct tr_kube_access a;
	struct tr_kube_ask ask = { .path = "/token?is=second" };
	struct tr_kube *k = NULL;
	struct kube_result got;

	(void)state;
	write_text(path, "first\n");
	kube_access_tls(&a, "token");
	assert_int_equal(tr_kube_secret_open(&a.token, TR_KUBE_TOKEN, path, NULL), 0);
	assert_int_equal(tr_kube_open(&k, kube_base, &a, NULL), 0);
	assert_int_equal(kube_ask(k, &ask, &got), -EACCES);
	assert_int_equal(got.tries, 1);
	kube_result_free(&got);
	write_text(path, "bad token\n"); /* half-written: the old one stays */
	assert_int_equal(kube_ask(k, &ask, &got), -EACCES);
	kube_result_free(&got);
	write_text(path, "second\n");
	assert_int_equal(kube_ask(k, &ask, &got), 0);
	assert_int_equal(got.tries, 2);
	kube_result_free(&got);
	tr_kube_close(k);
	free(path);
}

static void test_no_server(void **state)
{
	struct tr_kube_access a = { .server = tr_xstrdup("https://127.0.0.1:1") };
	struct tr_kube_ask ask = { .verb = TR_KUBE_CREATE,
				   .path = "/x",
				   .deadline_ms = 1200 };
	struct tr_kube *k = NULL;
	struct kube_result got;

	(void)state;
	assert_int_equal(tr_kube_open(&k, kube_base, &a, NULL), 0);
	assert_int_equal(kube_ask(k, &ask, &got), -ECONNREFUSED);
	/* Nothing was sent, so even a POST was tried again. */
	assert_true(got.tries >= 2);
	assert_int_equal(got.status.code, 0);
	kube_result_free(&got);
	tr_kube_close(k);
}

static void start_and_cancel(void *arg, int r, const struct tr_kube_reply *reply,
			     const struct tr_err *err)
{
	struct kube_result *out = arg;

	kube_result_take(out, r, reply, err);
}

/* Cancelled before it began, while it hangs, and while it waits for another try. */
static void test_cancel(void **state)
{
	static const char *const paths[] = { "/echo", "/hang", "/throttle?after=9" };
	struct tr_kube *k = kube_client("cancel");
	struct kube_result never = { 0 }, got;

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct tr_kube_ask ask = { .path = paths[i] }, other = { .path = "/echo" };
		struct tr_kube_call *call = tr_kube_start(k, &ask, start_and_cancel,
							  &never);

		if (i)
			kube_run_ms(300);
		tr_kube_cancel(call);
		assert_int_equal(kube_ask(k, &other, &got), 0);
		kube_result_free(&got);
	}
	/* Closed with one under way. */
	(void)tr_kube_start(k, &(struct tr_kube_ask){ .path = "/hang" }, start_and_cancel,
			    &never);
	kube_run_ms(100);
	tr_kube_close(k);
	assert_int_equal(never.ended, 0);
}

static void count_down(void *arg, int r, const struct tr_kube_reply *reply,
		       const struct tr_err *err)
{
	int *left = arg;

	(void)reply;
	(void)err;
	assert_int_equal(r, 0);
	--*left;
}

static void test_many_at_once(void **state)
{
	struct tr_kube *k = kube_client("many");
	int left = 100;

	(void)state;
	for (int i = 0; i < 100; i++)
		(void)tr_kube_start(k, &(struct tr_kube_ask){ .path = "/echo" }, count_down,
				    &left);
	for (int i = 0; i < 100 && left; i++)
		kube_run_ms(100);
	assert_int_equal(left, 0);
	tr_kube_close(k);
}

int main(void)
{
	static const struct CMUnitTest others[] = {
		cmocka_unit_test(test_retry_after_is_kept),
		cmocka_unit_test(test_client_certificate),
		cmocka_unit_test(test_password),
		cmocka_unit_test(test_another_authority),
		cmocka_unit_test(test_server_name),
		cmocka_unit_test(test_token_is_read_again),
		cmocka_unit_test(test_no_server),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_many_at_once),
	};
	struct CMUnitTest tests[TR_COUNT(faults) + TR_COUNT(verb_cases) + TR_COUNT(others)];
	size_t n = 0;

	for (size_t i = 0; i < TR_COUNT(faults); i++)
		tests[n++] = (struct CMUnitTest){ faults[i].name, test_fault, NULL, NULL,
						  (void *)(uintptr_t)&faults[i] };
	for (size_t i = 0; i < TR_COUNT(verb_cases); i++)
		tests[n++] = (struct CMUnitTest){ verb_cases[i].name, test_verb, NULL, NULL,
						  (void *)(uintptr_t)&verb_cases[i] };
	for (size_t i = 0; i < TR_COUNT(others); i++)
		tests[n++] = others[i];
	return cmocka_run_group_tests_name("kube client", tests, kube_server_start,
					   kube_server_stop);
}
