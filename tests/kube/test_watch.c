/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of pods and nodes, kept up to date by a server with bad days. */
#include "tr_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "harness.h"
#include "kube/watch.h"

static const char *const annotations[] = { "hami.io/*", "tranche.io/granted", NULL };
static const char *const labels[] = { "gpu", NULL };
static const char *const resources[] = { "nvidia.com/gpu", "nvidia.com/gpumem", NULL };
static const char *const env[] = { "CUDA_DISABLE_CONTROL", NULL };
static const struct tr_keep keep = { annotations, labels, resources, env };

/* One scene, its client and watch, and what the watch told. */
struct stage {
	struct tr_kube *kube;
	struct tr_watch *watch;
	int synced, added, modified, deleted, troubles;
	int wanted_name; /* counts changes of `name` */
	const char *name;
	int last_trouble;
};

static void on_changed(void *arg, const struct tr_object *old, const struct tr_object *now)
{
	struct stage *s = arg;

	s->added += !old;
	s->deleted += !now;
	s->modified += old && now;
	if (s->name && strcmp((now ? now : old)->name, s->name) == 0)
		s->wanted_name++;
}

static void on_synced(void *arg)
{
	((struct stage *)arg)->synced++;
}

static void on_trouble(void *arg, int r, const struct tr_err *err)
{
	struct stage *s = arg;

	assert_int_equal(err->code, -r);
	assert_true(err->msg[0]);
	s->troubles++;
	s->last_trouble = r;
}

static void open_stage(struct stage *s, const char *scene)
{
	*s = (struct stage){ .kube = kube_client(scene) };
}

static void open_watch(struct stage *s, struct tr_watch_options o)
{
	struct tr_err err = { 0 };

	o.keep = &keep;
	o.changed = on_changed;
	o.synced = on_synced;
	o.trouble = on_trouble;
	o.arg = s;
	if (!o.kind)
		o.kind = &tr_watch_pods;
	if (tr_watch_open(&s->watch, s->kube, &o, &err) < 0)
		fail_msg("%s", err.msg);
}

static void close_stage(struct stage *s)
{
	tr_watch_close(s->watch);
	tr_kube_close(s->kube);
}

/* Steals BODY. */
static void ask(struct stage *s, enum tr_kube_verb verb, const char *path, json_t *body)
{
	struct kube_result got;
	struct tr_kube_ask a = { .verb = verb, .path = path, .body = body };

	if (kube_ask(s->kube, &a, &got) < 0)
		fail_msg("%s", got.err.msg);
	kube_result_free(&got);
	json_decref(body);
}

static void spoil(struct stage *s, const char *verb, const char *one, const char *two)
{
	json_t *list = json_array();

	if (one)
		json_array_append_new(list, json_string(one));
	if (two)
		json_array_append_new(list, json_string(two));
	ask(s, TR_KUBE_CREATE, "/stage/faults", json_pack("{s:o}", verb, list));
}

static void direct(struct stage *s, const char *what)
{
	char *path = tr_xprintf("/stage/%s", what);

	ask(s, TR_KUBE_CREATE, path, NULL);
	free(path);
}

static void make_pod(struct stage *s, const char *name, const char *node)
{
	ask(s, TR_KUBE_CREATE, "/api/v1/namespaces/a/pods",
	    json_pack("{s:{s:s, s:{s:s, s:s}}, s:{s:s, s:[{s:s, s:{s:{s:s}}}]}}",
		      "metadata", "name", name, "annotations", "hami.io/bind-phase",
		      "allocating", "other", "dropped", "spec", "nodeName", node,
		      "containers", "name", "main", "resources", "limits", "nvidia.com/gpu",
		      "1"));
}

static void set_phase(struct stage *s, const char *name, const char *phase)
{
	char *path = tr_xprintf("/api/v1/namespaces/a/pods/%s", name);

	ask(s, TR_KUBE_PATCH_MERGE, path, json_pack("{s:{s:s}}", "status", "phase", phase));
	free(path);
}

static void delete_pod(struct stage *s, const char *name)
{
	char *path = tr_xprintf("/api/v1/namespaces/a/pods/%s", name);

	ask(s, TR_KUBE_DELETE, path, NULL);
	free(path);
}

static const struct tr_pod *pod(struct stage *s, const char *name)
{
	return (const struct tr_pod *)(const void *)tr_watch_find(s->watch, "a", name);
}

static json_t *read_log(struct stage *s, const char *which)
{
	struct kube_result got;
	struct tr_kube_ask a = { .path = "/stage/log" };
	json_t *list;

	assert_int_equal(kube_ask(s->kube, &a, &got), 0);
	list = json_incref(json_object_get(got.body, which));
	kube_result_free(&got);
	return list;
}

static const char *query_at(const json_t *log, size_t i, const char *key)
{
	const char *text = json_string_value(json_object_get(json_array_get(log, i), key));

	return text ? text : "";
}

/* Waits until COUNTER is at least WANT. */
static void reach(const int *counter, int want)
{
	for (int i = 0; i < 400 && *counter < want; i++)
		kube_run_ms(50);
	if (*counter < want)
		fail_msg("%d, not %d", *counter, want);
}

static void reach_state(struct stage *s, uint64_t (*what)(struct tr_watch_state),
			uint64_t want)
{
	for (int i = 0; i < 400 && what(tr_watch_state(s->watch)) < want; i++)
		kube_run_ms(50);
	assert_true(what(tr_watch_state(s->watch)) >= want);
}

static uint64_t watches_of(struct tr_watch_state s)
{
	return s.watches;
}

static uint64_t bookmarks_of(struct tr_watch_state s)
{
	return s.bookmarks;
}

static uint64_t is_watching(struct tr_watch_state s)
{
	return s.is_watching;
}

static void test_a_life(void **state)
{
	struct stage s;
	const struct tr_pod *p;

	(void)state;
	open_stage(&s, "life");
	make_pod(&s, "one", "n");
	open_watch(&s, (struct tr_watch_options){ 0 });
	assert_false(tr_watch_state(s.watch).is_synced);
	reach(&s.synced, 1);
	assert_int_equal(s.added, 1);
	p = pod(&s, "one");
	assert_string_equal(p->node, "n");
	assert_int_equal(p->object.annotations.count, 1);
	assert_string_equal(tr_named_find(&p->object.annotations, "hami.io/bind-phase"),
			    "allocating");
	assert_int_equal(tr_amount_find(&p->containers[0].limits, "nvidia.com/gpu")->value,
			 1);
	make_pod(&s, "two", "n");
	reach(&s.added, 2);
	set_phase(&s, "one", "Running");
	reach(&s.modified, 1);
	assert_int_equal(pod(&s, "one")->phase, TR_POD_RUNNING);
	delete_pod(&s, "one");
	reach(&s.deleted, 1);
	assert_null(pod(&s, "one"));
	assert_non_null(pod(&s, "two"));
	assert_int_equal(tr_watch_state(s.watch).objects, 1);
	assert_int_equal(s.troubles, 0);
	assert_true(tr_watch_state(s.watch).is_watching);
	close_stage(&s);
}

/* Who may make a pod may do so: nobody else's must become unreadable for it. */
static void test_nul_in_a_list(void **state)
{
	struct stage s;

	(void)state;
	open_stage(&s, "nul");
	ask(&s, TR_KUBE_CREATE, "/api/v1/namespaces/a/pods",
	    json_pack("{s:{s:s, s:{s:s%}}}", "metadata", "name", "bad", "annotations",
		      "hami.io/x", "a\0b", (size_t)3));
	make_pod(&s, "good", "n");
	open_watch(&s, (struct tr_watch_options){ 0 });
	reach(&s.synced, 1);
	assert_non_null(pod(&s, "good"));
	assert_string_equal(tr_named_find(&pod(&s, "bad")->object.annotations, "hami.io/x"),
			    "a\xef\xbf\xbd"
			    "b");
	set_phase(&s, "bad", "Running");
	reach(&s.modified, 1);
	assert_int_equal(s.troubles, 0);
	close_stage(&s);
}

static void test_pages_and_selectors(void **state)
{
	struct stage s;
	json_t *log;

	(void)state;
	open_stage(&s, "pages");
	for (int i = 0; i < 11; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "p%d", i);
		make_pod(&s, name, i == 5 ? "other" : "mine");
	}
	open_watch(&s, (struct tr_watch_options){ .page = 4,
						  .field_selector = "spec.nodeName=mine" });
	reach(&s.synced, 1);
	assert_int_equal(s.added, 10);
	log = read_log(&s, "list");
	assert_int_equal(json_array_size(log), 3);
	assert_string_equal(query_at(log, 0, "limit"), "4");
	assert_string_equal(query_at(log, 2, "continue"), "8");
	assert_string_equal(query_at(log, 2, "fieldSelector"), "spec.nodeName=mine");
	json_decref(log);
	reach_state(&s, is_watching, 1);
	log = read_log(&s, "watch");
	assert_string_equal(query_at(log, 0, "fieldSelector"), "spec.nodeName=mine");
	assert_string_equal(query_at(log, 0, "resourceVersion"), "1011");
	assert_string_equal(query_at(log, 0, "allowWatchBookmarks"), "true");
	assert_true(atoi(query_at(log, 0, "timeoutSeconds")) >= 300);
	assert_true(atoi(query_at(log, 0, "timeoutSeconds")) <= 600);
	json_decref(log);
	/* It comes to this node: new here. */
	ask(&s, TR_KUBE_PATCH_MERGE, "/api/v1/namespaces/a/pods/p5",
	    json_pack("{s:{s:s}}", "spec", "nodeName", "mine"));
	reach(&s.added, 11);
	close_stage(&s);
}

/* The watch is ended by the server: it goes on from where it was, without a list. */
static void test_bookmarks_carry_on(void **state)
{
	struct stage s;
	json_t *log;
	uint64_t before;

	(void)state;
	open_stage(&s, "bookmarks");
	make_pod(&s, "one", "mine");
	open_watch(&s, (struct tr_watch_options){ .field_selector = "spec.nodeName=mine" });
	reach(&s.synced, 1);
	make_pod(&s, "elsewhere", "other"); /* only a bookmark tells of it */
	before = bookmarks_of(tr_watch_state(s.watch));
	reach_state(&s, bookmarks_of, before + 2);
	direct(&s, "hangup");
	reach_state(&s, watches_of, 2);
	reach_state(&s, is_watching, 1);
	log = read_log(&s, "watch");
	assert_string_equal(query_at(log, 1, "resourceVersion"), "1002");
	json_decref(log);
	assert_int_equal(tr_watch_state(s.watch).lists, 1);
	assert_int_equal(s.added, 1);
	close_stage(&s);
}

/* Events are lost and their history with them: a new list tells what they would have. */
static void test_expired(void **state)
{
	struct stage s;
	json_t *log;

	(void)state;
	open_stage(&s, "expired");
	make_pod(&s, "stays", "n");
	make_pod(&s, "goes", "n");
	make_pod(&s, "changes", "n");
	make_pod(&s, "again", "n");
	open_watch(&s, (struct tr_watch_options){ 0 });
	reach(&s.synced, 1);
	direct(&s, "blind");
	delete_pod(&s, "goes");
	set_phase(&s, "changes", "Failed");
	delete_pod(&s, "again");
	make_pod(&s, "again", "n");
	make_pod(&s, "comes", "n");
	assert_int_equal(s.added + s.modified + s.deleted, 4);
	s.name = "again";
	direct(&s, "compact");
	reach(&s.synced, 2);
	assert_int_equal(s.added, 4 + 1 + 1);
	assert_int_equal(s.modified, 1);
	assert_int_equal(s.deleted, 2);
	assert_int_equal(s.wanted_name, 2); /* gone, and new: another uid */
	assert_null(pod(&s, "goes"));
	assert_int_equal(pod(&s, "changes")->phase, TR_POD_FAILED);
	assert_int_equal(tr_watch_state(s.watch).expired, 1);
	log = read_log(&s, "list");
	assert_int_equal(json_array_size(log), 2);
	json_decref(log);
	close_stage(&s);
}

/* Faults of a running watch; after each the copy becomes right. */
static const struct watch_fault {
	const char *name, *one, *two;
	int trouble; /* the last one told; 0: none */
	uint64_t lists;
} watch_faults[] = {
	{ "watch: 429", "429", NULL, -EAGAIN, 1 },
	{ "watch: 500 twice", "500", "500", -EAGAIN, 1 },
	{ "watch: 403", "403", NULL, -EACCES, 1 },
	/* twice: once is repeated by libcurl, which takes it for a kept connection that died */
	{ "watch: dropped", "drop", "drop", -ECONNRESET, 1 },
	{ "watch: an event cut in the middle", "cut", NULL, -ECONNRESET, 1 },
	{ "watch: ends at once", "end", "end", 0, 1 },
	{ "watch: garbage", "garbage", NULL, -EBADMSG, 1 },
	{ "watch: 410", "gone", NULL, -EKEYEXPIRED, 2 },
	{ "watch: 410 as an event", "gone-event", NULL, -EKEYEXPIRED, 2 },
	{ "watch: expired, without a code", "gone-reason", NULL, -EKEYEXPIRED, 2 },
	{ "watch: 500 as an event", "error-event", NULL, -EAGAIN, 1 },
	{ "watch: some bytes at a time", "bytes", NULL, 0, 1 },
};

static void test_watch_fault(void **state)
{
	const struct watch_fault *f = *state;
	char *scene = tr_xprintf("watch-%zu", (size_t)(f - watch_faults));
	struct stage s;

	open_stage(&s, scene);
	make_pod(&s, "one", "n");
	spoil(&s, "watch", f->one, f->two);
	open_watch(&s, (struct tr_watch_options){ 0 });
	reach(&s.synced, 1);
	make_pod(&s, "two", "n");
	set_phase(&s, "one", "Running");
	reach(&s.added, 2);
	for (int i = 0; i < 200 && pod(&s, "one")->phase != TR_POD_RUNNING; i++)
		kube_run_ms(50);
	assert_int_equal(pod(&s, "one")->phase, TR_POD_RUNNING);
	assert_int_equal(s.last_trouble, f->trouble);
	assert_int_equal(tr_watch_state(s.watch).lists, f->lists);
	assert_int_equal(s.deleted, 0);
	close_stage(&s);
	free(scene);
}

static const struct list_fault {
	const char *name, *one, *two;
	int trouble;
	uint64_t lists;
} list_faults[] = {
	{ "list: 429", "429", NULL, -EAGAIN, 2 },
	{ "list: 500 twice", "500", "500", -EAGAIN, 3 },
	{ "list: dropped", "drop", "drop", -ECONNRESET, 2 },
	{ "list: cut in the middle", "cut", NULL, -ECONNRESET, 2 },
	{ "list: garbage", "garbage", NULL, -EBADMSG, 2 },
	{ "list: a page that is gone", "gone", NULL, -EKEYEXPIRED, 2 },
};

static void test_list_fault(void **state)
{
	const struct list_fault *f = *state;
	char *scene = tr_xprintf("list-%zu", (size_t)(f - list_faults));
	struct stage s;
	json_t *log;

	open_stage(&s, scene);
	make_pod(&s, "one", "n");
	make_pod(&s, "two", "n");
	make_pod(&s, "three", "n");
	spoil(&s, "list", f->one, f->two);
	open_watch(&s, (struct tr_watch_options){ .page = 2 });
	reach(&s.synced, 1);
	assert_int_equal(s.added, 3);
	assert_int_equal(s.deleted, 0);
	assert_int_equal(s.last_trouble, f->trouble);
	assert_int_equal(tr_watch_state(s.watch).lists, f->lists);
	log = read_log(&s, "list");
	if (f->trouble == -EKEYEXPIRED) /* then all in one page */
		assert_string_equal(query_at(log, json_array_size(log) - 1, "limit"), "");
	json_decref(log);
	close_stage(&s);
	free(scene);
}

/* What is larger than we read is passed over, and does not count as gone. */
static void test_huge_objects(void **state)
{
	struct stage s;

	(void)state;
	open_stage(&s, "huge");
	make_pod(&s, "a", "n");
	make_pod(&s, "b", "n");
	open_watch(&s, (struct tr_watch_options){ .object_max = (size_t)1 << 20 });
	reach(&s.synced, 1);
	reach_state(&s, is_watching, 1);
	spoil(&s, "watch", "huge", NULL);
	direct(&s, "hangup");
	reach_state(&s, watches_of, 2);
	set_phase(&s, "a", "Running"); /* this one is spoilt */
	set_phase(&s, "b", "Running");
	reach(&s.modified, 1);
	assert_int_equal(pod(&s, "b")->phase, TR_POD_RUNNING);
	assert_int_equal(pod(&s, "a")->phase, TR_POD_PENDING);
	assert_int_equal(tr_watch_state(s.watch).too_large, 1);
	assert_int_equal(s.last_trouble, -EMSGSIZE);
	spoil(&s, "list", "huge", NULL);
	direct(&s, "blind");
	delete_pod(&s, "b");
	direct(&s, "compact");
	reach(&s.synced, 2);
	assert_int_equal(tr_watch_state(s.watch).too_large, 2);
	assert_int_equal(s.deleted, 0); /* a is not gone; of b nobody can know */
	close_stage(&s);
}

static void test_nodes(void **state)
{
	struct stage s;
	const struct tr_node *n;

	(void)state;
	open_stage(&s, "nodes");
	ask(&s, TR_KUBE_CREATE, "/api/v1/nodes",
	    json_pack("{s:{s:s,s:{s:s,s:s}}, s:{s:b}, s:{s:{s:s,s:s},s:[{s:s,s:s}]}}",
		      "metadata", "name", "node-a", "labels", "gpu", "on", "x", "y", "spec",
		      "unschedulable", 1, "status", "allocatable", "nvidia.com/gpu", "80",
		      "cpu", "7900m", "conditions", "type", "Ready", "status", "True"));
	open_watch(&s, (struct tr_watch_options){ .kind = &tr_watch_nodes });
	reach(&s.synced, 1);
	n = (const struct tr_node *)(const void *)tr_watch_find(s.watch, "", "node-a");
	assert_true(n->is_ready && n->is_unschedulable);
	assert_int_equal(n->allocatable.count, 1);
	assert_int_equal(n->allocatable.at[0].value, 80);
	assert_string_equal(tr_named_find(&n->object.labels, "gpu"), "on");
	close_stage(&s);
}

/* A server that is not there yet, and one that hangs with a watch open when the client is closed. */
static void test_server_comes_back(void **state)
{
	struct stage s;

	(void)state;
	open_stage(&s, "back");
	spoil(&s, "list", "drop", "drop");
	spoil(&s, "watch", "silent", NULL);
	open_watch(&s, (struct tr_watch_options){ 0 });
	reach(&s.synced, 1);
	assert_int_equal(tr_watch_state(s.watch).lists, 1 + (uint64_t)s.troubles);
	kube_run_ms(300);
	assert_false(tr_watch_state(s.watch).is_watching);
	close_stage(&s);
}

int main(void)
{
	static const struct CMUnitTest others[] = {
		cmocka_unit_test(test_a_life),
		cmocka_unit_test(test_nul_in_a_list),
		cmocka_unit_test(test_pages_and_selectors),
		cmocka_unit_test(test_bookmarks_carry_on),
		cmocka_unit_test(test_expired),
		cmocka_unit_test(test_huge_objects),
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_server_comes_back),
	};
	struct CMUnitTest
		tests[TR_COUNT(others) + TR_COUNT(watch_faults) + TR_COUNT(list_faults)];
	size_t n = 0;

	for (size_t i = 0; i < TR_COUNT(others); i++)
		tests[n++] = others[i];
	for (size_t i = 0; i < TR_COUNT(watch_faults); i++)
		tests[n++] = (struct CMUnitTest){ watch_faults[i].name, test_watch_fault,
						  NULL, NULL,
						  (void *)(uintptr_t)&watch_faults[i] };
	for (size_t i = 0; i < TR_COUNT(list_faults); i++)
		tests[n++] = (struct CMUnitTest){ list_faults[i].name, test_list_fault,
						  NULL, NULL,
						  (void *)(uintptr_t)&list_faults[i] };
	return cmocka_run_group_tests_name("kube watch", tests, kube_server_start,
					   kube_server_stop);
}
