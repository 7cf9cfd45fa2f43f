/* SPDX-License-Identifier: Apache-2.0 */
/* Bindings, annotations, leases and events, as an API server takes them. */
#include "tr_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "harness.h"
#include "kube/write.h"

static struct kube_result got;

static int wait_for(int r)
{
	assert_int_equal(r, 0);
	kube_run_until(&got.ended);
	return got.r;
}

static void forget(void)
{
	kube_result_free(&got);
}

static json_t *read_object(struct tr_kube *k, const char *path)
{
	struct tr_kube_ask ask = { .path = path };
	struct kube_result r;
	json_t *json;

	assert_int_equal(kube_ask(k, &ask, &r), 0);
	json = json_incref(r.body);
	kube_result_free(&r);
	return json;
}

static const char *text(const json_t *o, const char *a, const char *b, const char *c)
{
	const char *t;

	o = json_object_get(o, a);
	o = b ? json_object_get(o, b) : o;
	t = json_string_value(c ? json_object_get(o, c) : o);
	return t ? t : "";
}

static void make_pod(struct tr_kube *k, const char *name, const char *uid)
{
	json_t *body = json_pack("{s:{s:s,s:s,s:{s:s}},s:{}}", "metadata", "name", name,
				 "uid", uid, "annotations", "mine", "kept", "spec");
	struct tr_kube_ask ask = { .verb = TR_KUBE_CREATE,
				   .path = "/api/v1/namespaces/a/pods",
				   .body = body };
	struct kube_result r;

	assert_int_equal(kube_ask(k, &ask, &r), 0);
	kube_result_free(&r);
	json_decref(body);
}

static void test_bind(void **state)
{
	struct tr_kube *k = kube_client("bind");
	struct tr_named named[] = { { "hami.io/vgpu-devices-allocated", "G,NVIDIA,1,2:;" },
				    { "hami.io/vgpu-node", "node-a" } };
	struct tr_binding b = { "a", "p", "u-2", "node-a", { named, 2 } };
	struct tr_err err = { 0 };
	json_t *pod;

	(void)state;
	make_pod(k, "p", "u-1");
	assert_int_equal(wait_for(tr_kube_bind(k, &b, kube_result_take, &got, NULL, &err)),
			 -ESTALE);
	forget();
	b.uid = "u-1";
	assert_int_equal(wait_for(tr_kube_bind(k, &b, kube_result_take, &got, NULL, &err)),
			 0);
	forget();
	pod = read_object(k, "/api/v1/namespaces/a/pods/p");
	assert_string_equal(text(pod, "spec", "nodeName", NULL), "node-a");
	assert_string_equal(
		text(pod, "metadata", "annotations", "hami.io/vgpu-devices-allocated"),
		"G,NVIDIA,1,2:;");
	assert_string_equal(text(pod, "metadata", "annotations", "mine"), "kept");
	json_decref(pod);
	/* Bound already. */
	assert_int_equal(wait_for(tr_kube_bind(k, &b, kube_result_take, &got, NULL, &err)),
			 -ESTALE);
	forget();
	b.pod = "../nodes/x";
	assert_int_equal(tr_kube_bind(k, &b, kube_result_take, &got, NULL, &err), -EINVAL);
	b.pod = "p";
	named[0].value = "\xff";
	assert_int_equal(tr_kube_bind(k, &b, kube_result_take, &got, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "UTF-8"));
	tr_kube_close(k);
}

static void test_annotate(void **state)
{
	struct tr_kube *k = kube_client("annotate");
	struct tr_named named[] = { { "a/b", "c" }, { "mine", NULL } };
	struct tr_annotating a = { &tr_kube_pods, "a", "p", NULL, { named, 2 } };
	struct tr_err err = { 0 };
	json_t *pod;
	char *version;

	(void)state;
	make_pod(k, "p", "u-1");
	pod = read_object(k, "/api/v1/namespaces/a/pods/p");
	version = tr_xstrdup(text(pod, "metadata", "resourceVersion", NULL));
	json_decref(pod);
	a.version = version;
	assert_int_equal(
		wait_for(tr_kube_annotate(k, &a, kube_result_take, &got, NULL, &err)), 0);
	assert_string_equal(text(got.body, "metadata", "annotations", "a/b"), "c");
	assert_string_equal(text(got.body, "metadata", "annotations", "mine"), "");
	forget();
	/* Now it is another. */
	assert_int_equal(
		wait_for(tr_kube_annotate(k, &a, kube_result_take, &got, NULL, &err)),
		-ESTALE);
	forget();
	a.version = NULL;
	assert_int_equal(
		wait_for(tr_kube_annotate(k, &a, kube_result_take, &got, NULL, &err)), 0);
	forget();
	a.name = "q";
	assert_int_equal(
		wait_for(tr_kube_annotate(k, &a, kube_result_take, &got, NULL, &err)),
		-ENOENT);
	forget();
	free(version);
	tr_kube_close(k);
}

static int write_lease(struct tr_kube *k, const struct tr_lease *l)
{
	struct tr_err err = { 0 };

	return wait_for(tr_lease_write(k, l, 5000, kube_result_take, &got, NULL, &err));
}

static void test_lease(void **state)
{
	struct tr_kube *k = kube_client("lease");
	struct tr_lease l = { .space = "kube-node-lease",
			      .name = "gpu-node-a",
			      .holder = "node-a",
			      .duration_s = 40,
			      .renewed_us = 1787306400000001,
			      .owner_kind = "Node",
			      .owner_name = "node-a",
			      .owner_uid = "u-n" };
	struct tr_lease seen;
	struct tr_err err = { 0 };
	char *version;

	(void)state;
	assert_int_equal(write_lease(k, &l), 0); /* is made */
	assert_string_equal(
		text(json_array_get(json_object_get(json_object_get(got.body, "metadata"),
						    "ownerReferences"),
				    0),
		     "uid", NULL, NULL),
		"u-n");
	forget();
	l.renewed_us += 10000000;
	assert_int_equal(write_lease(k, &l), 0); /* is patched */
	assert_int_equal(tr_lease_read(got.body, &seen, &err), 0);
	assert_string_equal(seen.holder, "node-a");
	assert_int_equal(seen.duration_s, 40);
	assert_true(seen.renewed_us == l.renewed_us);
	assert_true(seen.acquired_us == 0);
	version = tr_xstrdup(seen.version);
	forget();
	l.version = "";
	assert_int_equal(write_lease(k, &l), -EEXIST);
	forget();
	l.version = version;
	l.holder = "node-b";
	assert_int_equal(write_lease(k, &l), 0);
	forget();
	assert_int_equal(write_lease(k, &l), -ESTALE); /* somebody was quicker: we were */
	forget();
	l.name = "none";
	assert_int_equal(write_lease(k, &l), -ENOENT);
	forget();
	l.version = "";
	assert_int_equal(write_lease(k, &l), 0);
	forget();
	l.name = "a/b";
	assert_int_equal(tr_lease_write(k, &l, 0, NULL, NULL, NULL, &err), -EINVAL);
	free(version);
	tr_kube_close(k);
}

static void test_lease_cancelled(void **state)
{
	struct tr_kube *k = kube_client("lease-cancelled");
	struct tr_lease l = { .space = "a", .name = "b" };
	struct tr_lease_write *w = NULL;
	struct tr_err err = { 0 };

	(void)state;
	assert_int_equal(tr_lease_write(k, &l, 0, kube_result_take, &got, &w, &err), 0);
	tr_lease_write_cancel(w);
	kube_run_ms(200);
	assert_int_equal(got.ended, 0);
	tr_kube_close(k);
}

static const char *const not_leases[] = {
	"{}",
	"{\"metadata\":{\"name\":\"a\",\"namespace\":\"b\"},\"spec\":[]}",
	"{\"metadata\":{\"name\":\"a\",\"namespace\":\"b\"},\"spec\":{\"renewTime\":"
	"\"now\"}}",
	"{\"metadata\":{\"name\":\"a\",\"namespace\":\"b\"},\"spec\":{"
	"\"leaseDurationSeconds\":-1}}",
};

static void test_not_leases(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(not_leases); i++) {
		json_t *json = json_loads(not_leases[i], 0, NULL);
		struct tr_err err = { 0 };
		struct tr_lease l;

		assert_int_equal(tr_lease_read(json, &l, &err), -EBADMSG);
		assert_true(err.msg[0]);
		json_decref(json);
	}
}

static void test_event(void **state)
{
	struct tr_kube *k = kube_client("event");
	char message[3000];
	struct tr_event_note e = { "v1",
				   "Pod",
				   "a",
				   "p",
				   "u-1",
				   true,
				   "SliceRefused",
				   message,
				   "tranched",
				   "node-a",
				   1787306400000000,
				   0 };
	struct tr_err err = { 0 };

	(void)state;
	for (size_t i = 0; i + 2 < sizeof(message); i += 2)
		(void)memcpy(message + i, "\xc3\xa4", 3);
	message[0] = message[1] = 'x';
	(void)memmove(message + 1, message + 2, strlen(message + 2) + 1);
	assert_int_equal(wait_for(tr_kube_event(k, &e, kube_result_take, &got, NULL, &err)),
			 0);
	assert_string_equal(text(got.body, "involvedObject", "uid", NULL), "u-1");
	assert_string_equal(text(got.body, "metadata", "namespace", NULL), "a");
	assert_string_equal(text(got.body, "type", NULL, NULL), "Warning");
	assert_string_equal(text(got.body, "reason", NULL, NULL), "SliceRefused");
	assert_string_equal(text(got.body, "source", "host", NULL), "node-a");
	assert_string_equal(text(got.body, "lastTimestamp", NULL, NULL),
			    "2026-08-21T10:00:00Z");
	assert_int_equal(strlen(text(got.body, "message", NULL, NULL)), 1023);
	forget();
	/* The same again: another event. Not UTF-8: told as well as can be. */
	e.message = "bad \xff byte";
	assert_int_equal(wait_for(tr_kube_event(k, &e, kube_result_take, &got, NULL, &err)),
			 0);
	assert_string_equal(text(got.body, "message", NULL, NULL), "bad ? byte");
	forget();
	e.space = "";
	e.kind = "Node";
	assert_int_equal(wait_for(tr_kube_event(k, &e, kube_result_take, &got, NULL, &err)),
			 0);
	assert_string_equal(text(got.body, "metadata", "namespace", NULL), "default");
	assert_null(
		json_object_get(json_object_get(got.body, "involvedObject"), "namespace"));
	forget();
	tr_kube_close(k);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bind),       cmocka_unit_test(test_annotate),
		cmocka_unit_test(test_lease),      cmocka_unit_test(test_lease_cancelled),
		cmocka_unit_test(test_not_leases), cmocka_unit_test(test_event),
	};

	return cmocka_run_group_tests_name("kube write", tests, kube_server_start,
					   kube_server_stop);
}
