/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kube/object.h"
#include "kube/quantity.h"
#include "kube/store.h"

static const struct quantity_case {
	const char *text;
	int want;
	int64_t value;
} quantities[] = {
	{ "0", 0, 0 },
	{ "1", 0, 1 },
	{ "+3", 0, 3 },
	{ "-3", 0, -3 },
	{ "007", 0, 7 },
	{ "3Gi", 0, INT64_C(3221225472) },
	{ "1.5Gi", 0, INT64_C(1610612736) },
	{ "0.5Ki", 0, 512 },
	{ ".5Ki", 0, 512 },
	{ "5.", 0, 5 },
	{ "2k", 0, 2000 },
	{ "1M", 0, 1000000 },
	{ "1E", 0, INT64_C(1000000000000000000) },
	{ "1E3", 0, 1000 },
	{ "12e3", 0, 12000 },
	{ "1e-1", -EDOM, 0 },
	{ "10e-1", 0, 1 },
	{ "3000m", 0, 3 },
	{ "100m", -EDOM, 0 },
	{ "1000000000n", 0, 1 },
	{ "1u", -EDOM, 0 },
	{ "0m", 0, 0 },
	{ "7Ei", 0, INT64_C(8070450532247928832) },
	{ "8Ei", -ERANGE, 0 },
	{ "9223372036854775807", 0, INT64_MAX },
	{ "9223372036854775808", -ERANGE, 0 },
	{ "1e999999999", -ERANGE, 0 },
	{ "0e999999999", 0, 0 },
	{ "1234567890123456789012345", -ERANGE, 0 },
	{ "", -EINVAL, 0 },
	{ "Gi", -EINVAL, 0 },
	{ ".", -EINVAL, 0 },
	{ "1K", -EINVAL, 0 },
	{ "1ki", -EINVAL, 0 },
	{ "1 Gi", -EINVAL, 0 },
	{ "1GiB", -EINVAL, 0 },
	{ "1e", -EINVAL, 0 },
	{ "1mi", -EINVAL, 0 },
	{ "0x10", -EINVAL, 0 },
	{ "1..5", -EINVAL, 0 },
	{ "--1", -EINVAL, 0 },
	{ "inf", -EINVAL, 0 },
};

static void test_quantities(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(quantities); i++) {
		int64_t value = 0;
		int r = tr_quantity_parse(quantities[i].text, &value);

		if (r != quantities[i].want || (r == 0 && value != quantities[i].value))
			fail_msg("%s: %d, %lld", quantities[i].text, r, (long long)value);
	}
}

static const char *const annotations[] = { "hami.io/*", "exact", NULL };
static const char *const labels[] = { "app", NULL };
static const char *const resources[] = { "nvidia.com/gpu*", NULL };
static const char *const env[] = { "CUDA_DISABLE_CONTROL", NULL };
static const struct tr_keep keep = { annotations, labels, resources, env };
static const struct tr_keep keep_none = { NULL, NULL, NULL, NULL };

/* Up to 8 bytes of a running pod, 4 of one that has ended; of those that ask for a GPU. */
static const struct tr_keep keep_short = { .annotations = annotations,
					   .resources = resources,
					   .asks_for = "nvidia.com/gpu",
					   .annotation_max = 8,
					   .ended_annotation_max = 4 };

#define META                                                                \
	"\"metadata\":{\"namespace\":\"a\",\"name\":\"p\",\"uid\":\"u-1\"," \
	"\"resourceVersion\":\"9\","

static struct tr_pod *extract(const char *text, const struct tr_keep *what)
{
	json_t *json = json_loads(text, 0, NULL);
	struct tr_object *o = NULL;
	struct tr_err err = { 0 };

	assert_non_null(json);
	if (tr_pod_extract(json, what, &o, &err) < 0)
		fail_msg("%s", err.msg);
	json_decref(json);
	return (struct tr_pod *)(void *)o;
}

static struct tr_pod *extract_asking(const char *list, const char *amount,
				     const char *phase)
{
	char text[600];

	snprintf(text, sizeof(text),
		 "{" META "\"annotations\":{\"exact\":\"123456789\",\"hami.io/a\":"
		 "\"12345678\",\"hami.io/b\":\"1234\",\"other\":\"123456789\"}},"
		 "\"spec\":{\"containers\":[{\"name\":\"c\"}],\"%s\":[{\"name\":\"m\","
		 "\"resources\":{\"limits\":{\"nvidia.com/%s}}}]},\"status\":{\"phase\":"
		 "\"%s\"}}",
		 list, amount, phase);
	return extract(text, &keep_short);
}

/* What anybody may write at any length takes no memory of ours. */
static void test_long_annotations(void **state)
{
	static const char *const none[] = { "gpu\":\"0\"", "gpu\":\"x\"",
					    "gpumem\":\"1\"" };
	static const char *const lists[] = { "containers", "initContainers" };
	const char *value;

	(void)state;
	for (size_t i = 0; i < TR_COUNT(lists); i++) {
		struct tr_pod *p = extract_asking(lists[i], "gpu\":\"1\"", "Running");
		struct tr_err err = { 0 };

		assert_int_equal(p->object.annotations.count, 2);
		assert_int_equal(p->object.too_long_count, 1);
		assert_int_equal(tr_pod_annotation(p, "hami.io/a", &value, &err), 0);
		assert_string_equal(value, "12345678");
		assert_int_equal(tr_pod_annotation(p, "other", &value, &err), -ENOENT);
		assert_string_equal(err.msg, "");
		assert_int_equal(tr_pod_annotation(p, "exact", &value, &err), -EFBIG);
		assert_string_equal(err.msg, "annotation exact of pod a/p has 9 bytes: "
					     "more than 8 are not read");
		free(p);
	}
	for (size_t i = 0; i < TR_COUNT(none); i++) {
		struct tr_pod *p = extract_asking("containers", none[i], "Running");

		assert_int_equal(p->object.annotations.count, 0);
		assert_int_equal(p->object.too_long_count, 0);
		free(p);
	}
	for (size_t i = 0; i < 2; i++) {
		struct tr_pod *p = extract_asking("containers", "gpu\":\"1\"",
						  i ? "Failed" : "Succeeded");

		assert_int_equal(p->object.annotations.count, 1);
		assert_int_equal(p->object.too_long_count, 2);
		free(p);
	}
}

static const struct tr_keep keep_few = { .annotations = annotations,
					 .resources = resources,
					 .asks_for = "nvidia.com/gpu",
					 .annotation_max = 65536,
					 .ended_annotation_max = 65536,
					 .containers_max = 3 };

/* With COUNT containers, the first of which asks for AMOUNT. */
static struct tr_pod *extract_wide(unsigned count, unsigned amount, const char *phase,
				   size_t length)
{
	static char text[4096], decision[1000];
	size_t n;

	memset(decision, 'x', sizeof(decision));
	n = (size_t)snprintf(text, sizeof(text),
			     "{" META "\"annotations\":{\"exact\":\"%.*s\"}},\"status\":{"
			     "\"phase\":\"%s\"},\"spec\":{\"containers\":[{\"name\":"
			     "\"c\",\"resources\":{\"limits\":{\"nvidia.com/gpu\":%u}}}",
			     (int)length, decision, phase, amount);
	while (--count)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ",{\"name\":\"c\"}");
	(void)snprintf(text + n, sizeof(text) - n, "]}}");
	return extract(text, &keep_few);
}

/* Nor what it is made of. */
static void test_wide(void **state)
{
	static const struct {
		unsigned count, amount;
		const char *phase;
		size_t length, kept, unread, annotations;
	} cases[] = {
		{ 1, 1, "Running", 400, 1, 0, 1 }, { 1, 1, "Running", 401, 1, 0, 0 },
		{ 1, 2, "Running", 528, 1, 0, 1 }, { 1, 2, "Running", 529, 1, 0, 0 },
		{ 3, 1, "Running", 432, 3, 0, 1 }, { 3, 1, "Running", 433, 3, 0, 0 },
		{ 4, 1, "Running", 1, 0, 4, 0 },   { 3, 0, "Running", 1, 0, 0, 0 },
		{ 4, 0, "Running", 1, 0, 0, 0 },   { 3, 1, "Failed", 1, 0, 0, 1 },
		{ 3, 1, "Succeeded", 1, 0, 0, 1 },
	};

	(void)state;
	for (size_t i = 0; i < TR_COUNT(cases); i++) {
		struct tr_pod *p = extract_wide(cases[i].count, cases[i].amount,
						cases[i].phase, cases[i].length);

		assert_int_equal(p->asked, cases[i].amount);
		assert_int_equal(p->container_count, cases[i].kept);
		assert_int_equal(p->unread_count, cases[i].unread);
		assert_int_equal(p->object.annotations.count, cases[i].annotations);
		free(p);
	}
}

/* The API server takes it at any length. */
static void test_scheduler(void **state)
{
	char text[600];

	(void)state;
	for (int n = 253; n <= 254; n++) {
		struct tr_pod *p;

		snprintf(text, sizeof(text),
			 "{" META "\"x\":0},\"spec\":{\"schedulerName\":\"%0*d\"}}", n, 7);
		p = extract(text, &keep_none);
		assert_int_equal(strlen(p->scheduler), n == 253 ? 253 : 0);
		free(p);
	}
}

static void test_pod(void **state)
{
	static const char text[] =
		"{" META "\"deletionTimestamp\":\"2026-08-21T10:00:00Z\",\"annotations\":{"
		"\"hami.io/vgpu-node\":\"n\",\"exact\":\"1\",\"exactly\":\"2\",\"other/"
		"x\":\"3\"},"
		"\"labels\":{\"app\":\"web\",\"b\":\"c\"},\"managedFields\":[{\"f\":{}}]},"
		"\"spec\":{\"nodeName\":\"n\",\"schedulerName\":\"hami-scheduler\","
		"\"initContainers\":[{\"name\":\"i\",\"resources\":{\"limits\":{\"nvidia."
		"com/gpu\":2}}},"
		"{\"name\":\"s\",\"restartPolicy\":\"Always\"}],"
		"\"containers\":[{\"name\":\"m\",\"env\":[{\"name\":\"CUDA_DISABLE_"
		"CONTROL\",\"value\":"
		"\"true\"},{\"name\":\"PATH\",\"value\":\"/"
		"\"},{\"name\":\"CUDA_DISABLE_CONTROL\","
		"\"valueFrom\":{}}],\"resources\":{\"limits\":{\"nvidia.com/gpu\":\"1\","
		"\"nvidia.com/gpumem\":\"3Gi\",\"nvidia.com/"
		"gpucores\":\"half\",\"cpu\":\"1\"}}}]},"
		"\"status\":{\"phase\":\"Running\"}}";
	struct tr_pod *p = extract(text, &keep);
	const struct tr_amount *a;

	(void)state;
	assert_string_equal(p->object.space, "a");
	assert_string_equal(p->object.name, "p");
	assert_string_equal(p->object.uid, "u-1");
	assert_string_equal(p->object.version, "9");
	assert_string_equal(p->node, "n");
	assert_string_equal(p->scheduler, "hami-scheduler");
	assert_int_equal(p->phase, TR_POD_RUNNING);
	assert_true(p->is_deleting);
	assert_int_equal(p->object.annotations.count, 2);
	assert_string_equal(tr_named_find(&p->object.annotations, "exact"), "1");
	assert_null(tr_named_find(&p->object.annotations, "other/x"));
	assert_int_equal(p->object.labels.count, 1);
	assert_int_equal(p->container_count, 3);
	assert_int_equal(p->init_count, 2);
	assert_int_equal(p->containers[0].kind, TR_CONTAINER_INIT);
	assert_int_equal(p->containers[0].limits.at[0].value, 2);
	assert_int_equal(p->containers[1].kind, TR_CONTAINER_SIDECAR);
	assert_string_equal(p->containers[1].name, "s");
	assert_int_equal(p->containers[1].limits.count, 0);
	assert_int_equal(p->containers[2].kind, TR_CONTAINER_APP);
	assert_int_equal(p->containers[2].limits.count, 3);
	a = tr_amount_find(&p->containers[2].limits, "nvidia.com/gpumem");
	assert_true(a->value == INT64_C(3221225472) && !a->is_bad);
	assert_true(
		tr_amount_find(&p->containers[2].limits, "nvidia.com/gpucores")->is_bad);
	assert_int_equal(p->containers[2].env.count, 2);
	assert_string_equal(p->containers[2].env.at[0].value, "true");
	assert_string_equal(p->containers[2].env.at[1].value, "");
	free(p);
}

/* The least that is a pod; nothing kept. */
static void test_small_pod(void **state)
{
	struct tr_pod *p = extract("{" META "\"annotations\":{\"exact\":\"1\"}}}",
				   &keep_none);

	(void)state;
	assert_string_equal(p->node, "");
	assert_int_equal(p->phase, TR_POD_PENDING);
	assert_false(p->is_deleting);
	assert_int_equal(p->container_count, 0);
	assert_int_equal(p->object.annotations.count, 0);
	free(p);
}

static const char *const not_pods[] = {
	"{}",
	"{\"metadata\":[]}",
	"{\"metadata\":{\"name\":\"a\",\"uid\":\"u\"}}",
	"{\"metadata\":{\"name\":\"a\",\"namespace\":\"b\"}}",
	"{\"metadata\":{\"name\":7,\"namespace\":\"b\",\"uid\":\"u\"}}",
	"{" META "\"a\":1},\"spec\":{\"containers\":[{}]}}",
	"{" META "\"a\":1},\"spec\":{\"containers\":[[]]}}",
};

static void test_not_pods(void **state)
{
	(void)state;
	for (size_t i = 0; i < TR_COUNT(not_pods); i++) {
		json_t *json = json_loads(not_pods[i], 0, NULL);
		struct tr_object *o = NULL;
		struct tr_err err = { 0 };

		assert_non_null(json);
		assert_int_equal(tr_pod_extract(json, &keep, &o, &err), -EBADMSG);
		assert_true(err.msg[0]);
		assert_null(o);
		json_decref(json);
	}
}

static struct tr_object *make(const char *space, const char *name)
{
	char text[256];

	(void)snprintf(
		text, sizeof(text),
		"{\"metadata\":{\"namespace\":\"%s\",\"name\":\"%s\",\"uid\":\"u\"}}",
		space, name);
	return &extract(text, &keep)->object;
}

static void test_store(void **state)
{
	struct tr_store s = { 0 };
	struct tr_object *o, *old;
	char name[16];
	size_t at = 0, n = 0;

	(void)state;
	assert_null(tr_store_find(&s, "a", "x"));
	assert_null(tr_store_take(&s, "a", "x"));
	for (int i = 0; i < 1000; i++) {
		(void)snprintf(name, sizeof(name), "p%d", i);
		o = make(i % 2 ? "a" : "b", name);
		o->round = i % 10 ? 2 : 1;
		assert_null(tr_store_put(&s, o));
	}
	assert_int_equal(s.count, 1000);
	assert_non_null(tr_store_find(&s, "a", "p1"));
	assert_null(tr_store_find(&s, "b", "p1"));
	old = tr_store_find(&s, "b", "p2");
	o = make("b", "p2");
	o->round = 2;
	assert_ptr_equal(tr_store_put(&s, o), old);
	free(old);
	assert_ptr_equal(tr_store_find(&s, "b", "p2"), o);
	assert_int_equal(s.count, 1000);
	while ((old = tr_store_take_older(&s, 2, &at))) {
		assert_int_equal(old->round, 1);
		free(old);
		n++;
	}
	assert_int_equal(n, 100);
	o = NULL;
	at = n = 0;
	while ((o = tr_store_next(&s, o, &at)))
		n++;
	assert_int_equal(n, 900);
	assert_int_equal(s.count, 900);
	free(tr_store_take(&s, "a", "p1"));
	assert_null(tr_store_find(&s, "a", "p1"));
	tr_store_free(&s);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quantities),       cmocka_unit_test(test_pod),
		cmocka_unit_test(test_long_annotations), cmocka_unit_test(test_wide),
		cmocka_unit_test(test_scheduler),        cmocka_unit_test(test_small_pod),
		cmocka_unit_test(test_not_pods),         cmocka_unit_test(test_store),
	};

	return cmocka_run_group_tests_name("kube object", tests, NULL, NULL);
}
