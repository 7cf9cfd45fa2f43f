/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an API server sends: cut into objects, and the fields of pods and nodes taken out of them. First
 * byte: odd a list, even a stream; second: how large the portions are. The pieces must be the same
 * whatever the portions, and an object that jansson reads as a pod must keep its names.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/yaml.h"
#include "fuzz.h"
#include "kube/object.h"
#include "kube/server_json.h"
#include "kube/split.h"
#include "naive.h"

#define PIECE_MAX 2048u

static const char *const all[] = { "*", NULL };
static const struct tr_keep keep = { all, all, all, all };

static uint64_t sum_named(const struct tr_named_list *list)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < list->count; i++)
		sum += strlen(list->at[i].name) + strlen(list->at[i].value);
	return sum;
}

static uint64_t sum_amounts(const struct tr_amount_list *list)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < list->count; i++) {
		sum += strlen(list->at[i].name);
		CHECK(list->at[i].is_bad || list->at[i].value >= 0);
	}
	return sum;
}

static void read_pod(const json_t *json)
{
	struct tr_object *o = NULL;
	const struct tr_pod *pod;
	struct tr_err err = { 0 };
	uint64_t sum = 0;
	int r = tr_pod_extract(json, &keep, &o, &err);

	CHECK(r == 0 ? o != NULL : r == -EBADMSG && err.msg[0]);
	if (r < 0)
		return;
	pod = (const struct tr_pod *)(const void *)o;
	CHECK(*o->space && *o->name && *o->uid);
	sum += strlen(o->version) + strlen(pod->node) + strlen(pod->scheduler);
	sum += sum_named(&o->annotations) + sum_named(&o->labels);
	for (size_t i = 0; i < pod->container_count; i++) {
		CHECK(*pod->containers[i].name);
		CHECK((pod->containers[i].kind == TR_CONTAINER_APP) ==
		      (i >= pod->init_count));
		sum += sum_amounts(&pod->containers[i].limits);
		sum += sum_named(&pod->containers[i].env);
	}
	CHECK(sum < 16 * PIECE_MAX);
	free(o);
}

static void read_object(const char *bytes, size_t n)
{
	json_t *json = tr_server_json(bytes, n, 0, NULL);
	json_t *inner = json_object_get(json, "object");
	struct tr_object *o = NULL;

	read_pod(inner ? inner : json);
	if (tr_node_extract(inner ? inner : json, &keep, &o, NULL) == 0) {
		CHECK(*o->name && !*o->space);
		(void)sum_amounts(&((const struct tr_node *)(const void *)o)->allocatable);
		free(o);
	}
	json_decref(json);
}

struct sum {
	uint64_t hash;
	bool is_read;
};

static int take(void *arg, enum tr_split_piece what, const char *bytes, size_t n)
{
	struct sum *s = arg;

	CHECK(bytes[n] == '\0' && n && bytes[0] == '{');
	CHECK(n <= PIECE_MAX);
	s->hash = s->hash * 1099511628211u + what;
	if (what == TR_SPLIT_TOO_LARGE) /* how much of it is kept depends on the portions */
		return 0;
	for (size_t i = 0; i < n; i++)
		s->hash = (s->hash ^ (unsigned char)bytes[i]) * 1099511628211u;
	if (s->is_read)
		read_object(bytes, n);
	return 0;
}

static int run(const uint8_t *bytes, size_t n, bool is_list, size_t portion,
	       struct sum *sum)
{
	struct tr_split s;
	int r = 0;

	tr_split_init(&s, is_list, PIECE_MAX, take, sum);
	for (size_t at = 0; at < n && r == 0; at += portion)
		r = tr_split_feed(&s, (const char *)bytes + at,
				  n - at < portion ? n - at : portion);
	CHECK(r == 0 || r == -EBADMSG);
	r = r < 0 ? r : tr_split_is_whole(&s);
	tr_split_free(&s);
	return r;
}

/* The same bytes as a kubeconfig: what is read as YAML and printed as JSON reads as the same. */
static void try_yaml(const char *text, size_t n)
{
	json_t *once = NULL, *twice = NULL;
	struct tr_err err = { 0 };
	char *printed;

	if (tr_yaml_parse(text, n, &once, &err) < 0) {
		CHECK(err.msg[0] && !once);
		return;
	}
	printed = json_dumps(once, JSON_ENCODE_ANY | JSON_COMPACT);
	if (printed && tr_yaml_parse(printed, strlen(printed), &twice, NULL) == 0)
		CHECK(json_equal(once, twice));
	free(printed);
	json_decref(once);
	json_decref(twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct sum whole = { .is_read = true }, parts = { 0 };
	bool is_list;

	if (n < 2)
		return 0;
	if (bytes[0] == 'y') {
		try_yaml((const char *)bytes + 1, n - 1);
		return 0;
	}
	is_list = bytes[0] & 1;
	CHECK(run(bytes + 2, n - 2, is_list, n, &whole) ==
	      run(bytes + 2, n - 2, is_list, 1 + bytes[1] % 64, &parts));
	CHECK(whole.hash == parts.hash);
	return 0;
}
