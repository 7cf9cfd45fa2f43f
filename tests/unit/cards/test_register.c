/* SPDX-License-Identifier: Apache-2.0 */
/* What the API server is told of a node's cards. */
#include "tr_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rfc3339.h"
#include "deviceplugin/cards/register.h"
#include "harness.h"
#include "kube/node_devices.h"
#include "tranche/names.h"

struct stage {
	struct tr_kube *kube;
	struct tr_register *reg;
	struct tr_cards *cards;
	unsigned troubles;
};

static void on_trouble(const char *sentence, void *arg)
{
	assert_true(sentence[0]);
	((struct stage *)arg)->troubles++;
}

/* ---- the server's side --------------------------------------------------------------- */

static json_t *ask(struct tr_kube *k, enum tr_kube_verb verb, const char *path,
		   json_t *body)
{
	struct tr_kube_ask a = { .verb = verb, .path = path, .body = body };
	struct kube_result r;
	json_t *json;

	if (kube_ask(k, &a, &r) != 0)
		fail_msg("%s", r.err.msg);
	json = json_incref(r.body);
	kube_result_free(&r);
	json_decref(body);
	return json;
}

static void tell(struct tr_kube *k, enum tr_kube_verb verb, const char *path, json_t *body)
{
	json_decref(ask(k, verb, path, body));
}

static void make_node(struct stage *s)
{
	tell(s->kube, TR_KUBE_CREATE, "/api/v1/nodes",
	     json_pack("{s:{s:s,s:s,s:{s:s}},s:{s:[{s:s,s:s}],s:{s:s}}}", "metadata",
		       "name", "node-a", "uid", "u-1", "annotations", "mine", "kept",
		       "status", "conditions", "type", "Ready", "status", "True",
		       "capacity", "cpu", "8"));
}

/* A field of an answer: keys apart by '|'. */
static const json_t *field(const json_t *json, const char *keys)
{
	char *copy = tr_xstrdup(keys), *rest = copy;

	for (char *key = strsep(&rest, "|"); key; key = strsep(&rest, "|"))
		json = json_is_array(json) ? json_array_get(json, strtoul(key, NULL, 10))
					   : json_object_get(json, key);
	free(copy);
	return json;
}

static const char *text(const json_t *json, const char *keys)
{
	const char *found = json_string_value(field(json, keys));

	return found ? found : "";
}

static json_t *node(struct stage *s)
{
	return ask(s->kube, TR_KUBE_GET, "/api/v1/nodes/node-a", NULL);
}

static const json_t *condition(const json_t *node)
{
	const json_t *list = field(node, "status|conditions");

	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(text(json_array_get(list, i), "type"), "GPUUnhealthy") == 0)
			return json_array_get(list, i);
	return NULL;
}

/* PATCHes of nodes so far. */
static unsigned patches(struct stage *s)
{
	json_t *log = ask(s->kube, TR_KUBE_GET, "/stage/log", NULL);
	const json_t *list = field(log, "write");
	unsigned n = 0;

	for (size_t i = 0; i < json_array_size(list); i++)
		n += strcmp(text(json_array_get(list, i), "method"), "PATCH") == 0 &&
		     strncmp(text(json_array_get(list, i), "path"), "nodes/", 6) == 0;
	json_decref(log);
	return n;
}

/* ---- our side ------------------------------------------------------------------------ */

static struct tr_cards *make_cards(unsigned count)
{
	static const struct tr_card_rules rules = TR_CARD_RULES_DEFAULT;
	struct tr_cards *cards = tr_xcalloc(1, sizeof(*cards));

	for (unsigned i = 0; i < count; i++) {
		char uuid[48];
		const struct tr_card_facts facts = {
			.uuid = uuid,
			.name = "NVIDIA A100-SXM4-80GB",
			.parent = "",
			.index = count - 1 - i, /* told out of order */
			.minor = (int)i,
			.numa = 1,
			.total_bytes = UINT64_C(80) << 30,
		};

		(void)snprintf(uuid, sizeof(uuid), "GPU-%08x-0000-0000-0000-000000000000",
			       facts.index);
		assert_int_equal(tr_cards_add(cards, &facts, &rules), 1);
	}
	cards->version = 1;
	return cards;
}

static void open_stage(struct stage *s, const char *scene, unsigned count)
{
	*s = (struct stage){ .kube = kube_client(scene), .cards = make_cards(count) };
}

static void open_register(struct stage *s, struct tr_register_options options)
{
	struct tr_err err = { 0 };

	options.node = "node-a";
	options.component = "tranched";
	options.on_trouble = on_trouble;
	options.arg = s;
	if (tr_register_open(&s->reg, s->kube, kube_base, &options, &err) < 0)
		fail_msg("%s", err.msg);
}

static void close_stage(struct stage *s)
{
	tr_register_close(s->reg);
	tr_kube_close(s->kube);
	free(s->cards);
}

static void settle(struct stage *s)
{
	for (int i = 0; i < 400 && !tr_register_state(s->reg).is_registered; i++)
		kube_run_ms(50);
	assert_true(tr_register_state(s->reg).is_registered);
}

/* ---- tests --------------------------------------------------------------------------- */

#define WHOLE                \
	"\"type\":\"NVIDIA " \
	"A100-SXM4-80GB\",\"numa\":1,\"mode\":\"hami-core\",\"health\":true}"

static void test_told_once(void **state)
{
	struct stage s;
	json_t *now;
	unsigned before;

	(void)state;
	open_stage(&s, "register-once", 2);
	make_node(&s);
	open_register(&s, (struct tr_register_options){ 0 });
	kube_run_ms(300);
	assert_int_equal(patches(&s), 0); /* nothing is known yet */
	tr_register_set(s.reg, s.cards, "[{\"uuid\":\"GPU-a\",\"score\":{}}]");
	settle(&s);
	now = node(&s);
	assert_string_equal(
		text(now, "metadata|annotations|" TR_NODE_REGISTER),
		"[{\"id\":\"GPU-00000000-0000-0000-0000-000000000000\",\"count\":10,"
		"\"devmem\":81920,\"devcore\":100," WHOLE
		",{\"id\":\"GPU-00000001-0000-0000-0000-000000000000\",\"index\":1,"
		"\"count\":10,\"devmem\":81920,\"devcore\":100," WHOLE "]");
	assert_string_equal(text(now, "metadata|annotations|" TR_NODE_SCORES),
			    "[{\"uuid\":\"GPU-a\",\"score\":{}}]");
	assert_string_equal(text(now, "metadata|annotations|mine"), "kept");
	assert_string_equal(text(condition(now), "status"), "False");
	assert_string_equal(text(condition(now), "message"), "2 of 2 GPUs are healthy");
	assert_int_equal(json_array_size(field(now, "status|conditions")), 2);
	assert_null(field(now, "status|capacity|" TR_RESOURCE_MEM));
	json_decref(now);
	before = patches(&s);
	assert_int_equal(before, 2);
	/* The same again, and a new agent on the same node: nothing to write. */
	tr_register_set(s.reg, s.cards, "[{\"uuid\":\"GPU-a\",\"score\":{}}]");
	settle(&s);
	tr_register_close(s.reg);
	open_register(&s, (struct tr_register_options){ 0 });
	tr_register_set(s.reg, s.cards, "[{\"uuid\":\"GPU-a\",\"score\":{}}]");
	settle(&s);
	kube_run_ms(1500);
	assert_int_equal(patches(&s), before);
	assert_int_equal(tr_register_state(s.reg).writes, 0);
	assert_int_equal(s.troubles, 0);
	close_stage(&s);
}

static void test_put_back(void **state)
{
	struct stage s;
	json_t *now;

	(void)state;
	open_stage(&s, "register-back", 1);
	make_node(&s);
	open_register(&s, (struct tr_register_options){ 0 });
	tr_register_set(s.reg, s.cards, NULL);
	settle(&s);
	kube_run_ms(500); /* the watch is open */
	tell(s.kube, TR_KUBE_PATCH_MERGE, "/api/v1/nodes/node-a",
	     json_pack("{s:{s:{s:s}}}", "metadata", "annotations", TR_NODE_REGISTER, "[]"));
	for (int i = 0; i < 200 && tr_register_state(s.reg).writes < 2; i++)
		kube_run_ms(50);
	settle(&s);
	now = node(&s);
	assert_non_null(strstr(text(now, "metadata|annotations|" TR_NODE_REGISTER),
			       "GPU-00000000"));
	json_decref(now);
	/* The node itself is made anew. */
	tell(s.kube, TR_KUBE_DELETE, "/api/v1/nodes/node-a", NULL);
	make_node(&s);
	for (int i = 0; i < 200 && tr_register_state(s.reg).writes < 3; i++)
		kube_run_ms(50);
	settle(&s);
	assert_int_equal(tr_register_state(s.reg).writes, 3);
	close_stage(&s);
}

static const json_t *find_event(const json_t *list, const char *reason)
{
	for (size_t i = 0; i < json_array_size(field(list, "items")); i++) {
		const json_t *event = json_array_get(field(list, "items"), i);

		if (strcmp(text(event, "reason"), reason) == 0)
			return event;
	}
	return NULL;
}

static void F35_health_is_told(void **state)
{
	struct stage s;
	json_t *now, *events;
	const json_t *event;

	(void)state;
	open_stage(&s, "register-health", 2);
	make_node(&s);
	open_register(&s, (struct tr_register_options){ 0 });
	tr_register_set(s.reg, s.cards, NULL);
	settle(&s);
	s.cards->at[0].is_healthy = false;
	(void)strcpy(s.cards->at[0].reason, "XID 79: it has fallen off the bus");
	tr_register_set(s.reg, s.cards, NULL);
	settle(&s);
	now = node(&s);
	assert_null(strstr(text(now, "metadata|annotations|" TR_NODE_REGISTER) + 160,
			   "\"health\":true}]"));
	assert_string_equal(text(condition(now), "status"), "True");
	assert_string_equal(text(condition(now), "message"),
			    "1 of 2 GPUs are healthy; GPU-00000001-0000-0000-0000-"
			    "000000000000: XID 79: it has fallen off the bus");
	json_decref(now);
	s.cards->at[0].is_healthy = true;
	s.cards->at[0].reason[0] = '\0';
	(void)strcpy(s.cards->odd_links, "A and B tell different NVLinks");
	tr_register_set(s.reg, s.cards, NULL);
	tr_register_set(s.reg, s.cards, NULL);
	settle(&s);
	kube_run_ms(300);
	now = node(&s);
	assert_string_equal(text(condition(now), "status"), "False");
	json_decref(now);
	events = ask(s.kube, TR_KUBE_GET, "/api/v1/namespaces/default/events", NULL);
	assert_int_equal(json_array_size(field(events, "items")), 3); /* each once */
	event = find_event(events, "GPULinksDiffer");
	assert_string_equal(text(event, "type"), "Warning");
	assert_string_equal(text(event, "message"), "A and B tell different NVLinks");
	event = find_event(events, "GPUUnhealthy");
	assert_string_equal(text(event, "type"), "Warning");
	assert_string_equal(text(event, "involvedObject|name"), "node-a");
	assert_string_equal(
		text(event, "message"),
		"GPU 1 (GPU-00000001-0000-0000-0000-000000000000) is unhealthy: "
		"XID 79: it has fallen off the bus");
	event = find_event(events, "GPUHealthy");
	assert_string_equal(text(event, "type"), "Normal");
	json_decref(events);
	close_stage(&s);
}

static void test_capacity(void **state)
{
	struct stage s;
	json_t *now;
	unsigned before;

	(void)state;
	open_stage(&s, "register-capacity", 2);
	make_node(&s);
	open_register(&s, (struct tr_register_options){ .with_capacity = true });
	tr_register_set(s.reg, s.cards, NULL);
	settle(&s);
	now = node(&s);
	assert_string_equal(text(now, "status|capacity|" TR_RESOURCE_MEM), "163840");
	assert_string_equal(text(now, "status|capacity|" TR_RESOURCE_CORES), "200");
	assert_string_equal(text(now, "status|capacity|cpu"), "8");
	json_decref(now);
	/* The same amount in another form is the same. */
	before = patches(&s);
	tell(s.kube, TR_KUBE_PATCH_MERGE, "/api/v1/nodes/node-a",
	     json_pack("{s:{s:{s:s},s:{s:s,s:s}}}", "status", "capacity", TR_RESOURCE_MEM,
		       "160Ki", "allocatable", TR_RESOURCE_MEM, "160Ki", TR_RESOURCE_CORES,
		       "200"));
	tr_register_set(s.reg, s.cards, NULL);
	settle(&s);
	kube_run_ms(1500);
	assert_int_equal(patches(&s), before + 1); /* that of the test */
	close_stage(&s);
}

static void test_lease(void **state)
{
	struct stage s;
	json_t *lease;
	char first[TR_RFC3339_TEXT];

	(void)state;
	open_stage(&s, "register-lease", 1);
	make_node(&s);
	open_register(&s, (struct tr_register_options){ .lease_space = "tranche-system",
							.lease_s = 2 });
	kube_run_ms(800);
	assert_int_equal(tr_register_state(s.reg).lease_unix_us, 0);
	tr_register_set(s.reg, s.cards, NULL);
	settle(&s);
	for (int i = 0; i < 100 && !tr_register_state(s.reg).lease_unix_us; i++)
		kube_run_ms(50);
	kube_run_ms(700);
	lease = ask(s.kube, TR_KUBE_GET,
		    "/apis/coordination.k8s.io/v1/namespaces/tranche-system/leases/node-a",
		    NULL);
	assert_string_equal(text(lease, "spec|holderIdentity"), "node-a");
	assert_int_equal(json_integer_value(field(lease, "spec|leaseDurationSeconds")), 2);
	assert_string_equal(text(lease, "metadata|ownerReferences|0|uid"), "u-1");
	(void)snprintf(first, sizeof(first), "%s", text(lease, "spec|renewTime"));
	json_decref(lease);
	kube_run_ms(1500);
	lease = ask(s.kube, TR_KUBE_GET,
		    "/apis/coordination.k8s.io/v1/namespaces/tranche-system/leases/node-a",
		    NULL);
	assert_true(strcmp(text(lease, "spec|renewTime"), first) > 0);
	json_decref(lease);
	close_stage(&s);
}

static void test_no_card(void **state)
{
	struct stage s;
	json_t *now;

	(void)state;
	open_stage(&s, "register-none", 0);
	(void)strcpy(s.cards->reason, "no NVIDIA driver on this machine");
	make_node(&s);
	open_register(&s, (struct tr_register_options){ .with_capacity = false });
	tr_register_set(s.reg, s.cards, NULL);
	settle(&s);
	now = node(&s);
	assert_null(field(now, "metadata|annotations|" TR_NODE_REGISTER));
	assert_string_equal(text(condition(now), "status"), "Unknown");
	assert_string_equal(text(condition(now), "reason"), "NoGPUs");
	assert_string_equal(text(condition(now), "message"),
			    "no GPU is offered; no NVIDIA driver on this machine");
	json_decref(now);
	/* Cards come and go: then there is something to take back. */
	free(s.cards);
	s.cards = make_cards(1);
	tr_register_set(s.reg, s.cards, NULL);
	settle(&s);
	s.cards->count = 0;
	tr_register_set(s.reg, s.cards, NULL);
	settle(&s);
	now = node(&s);
	assert_string_equal(text(now, "metadata|annotations|" TR_NODE_REGISTER), "[]");
	json_decref(now);
	close_stage(&s);
}

static void test_bad_days(void **state)
{
	struct stage s;
	json_t *now;

	(void)state;
	open_stage(&s, "register-bad", 1);
	open_register(&s, (struct tr_register_options){ 0 });
	tr_register_set(s.reg, s.cards, NULL);
	for (int i = 0; i < 100 && !s.troubles; i++)
		kube_run_ms(50);
	assert_true(s.troubles > 0); /* there is no such node yet */
	assert_false(tr_register_state(s.reg).is_registered);
	make_node(&s);
	tell(s.kube, TR_KUBE_CREATE, "/stage/faults",
	     json_pack("{s:[s,s,s,s]}", "write", "403", "500", "drop", "403"));
	settle(&s);
	now = node(&s);
	assert_non_null(field(now, "metadata|annotations|" TR_NODE_REGISTER));
	assert_non_null(condition(now));
	json_decref(now);
	close_stage(&s);
}

/* Annotations of others fill the node: scores wait until there is room. */
static void test_no_room_for_scores(void **state)
{
	char *others = tr_xcalloc(1, 200001), *scores = tr_xcalloc(1, 70001);
	struct stage s;
	json_t *now;

	(void)state;
	memset(others, 'x', 200000);
	memset(scores, 'y', 70000);
	open_stage(&s, "register-room", 2);
	make_node(&s);
	tell(s.kube, TR_KUBE_PATCH_MERGE, "/api/v1/nodes/node-a",
	     json_pack("{s:{s:{s:s}}}", "metadata", "annotations", "mine", others));
	open_register(&s, (struct tr_register_options){ 0 });
	tr_register_set(s.reg, s.cards, scores);
	settle(&s);
	now = node(&s);
	assert_non_null(strstr(text(now, "metadata|annotations|" TR_NODE_REGISTER),
			       "GPU-00000001"));
	assert_null(field(now, "metadata|annotations|" TR_NODE_SCORES));
	assert_int_equal(s.troubles, 1);
	json_decref(now);
	tell(s.kube, TR_KUBE_PATCH_MERGE, "/api/v1/nodes/node-a",
	     json_pack("{s:{s:{s:s}}}", "metadata", "annotations", "mine", ""));
	for (unsigned i = 0; i < 100; i++) {
		kube_run_ms(50);
		now = node(&s);
		if (field(now, "metadata|annotations|" TR_NODE_SCORES))
			i = 100;
		else
			assert_true(i < 99);
		json_decref(now);
	}
	assert_int_equal(s.troubles, 1);
	close_stage(&s);
	free(others);
	free(scores);
}

static void test_64_gpus(void **state)
{
	struct tr_cards *cards = make_cards(64);
	struct tr_node_devices back;
	struct tr_buf out = { 0 };
	char sentence[1024];

	(void)state;
	assert_int_equal(tr_register_print(cards, &out), 0);
	assert_true(out.n < 16384);
	assert_int_equal(tr_node_devices_parse(&back, out.p, NULL), 0);
	assert_int_equal(back.count, 64);
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(back.at[i].index, i);
		cards->at[i].is_healthy = false;
		memset(cards->at[i].reason, 'x', sizeof(cards->at[i].reason) - 1);
	}
	/* As much of it as there is room for. */
	tr_register_sentence(cards, sentence, sizeof(sentence));
	assert_int_equal(strncmp(sentence, "0 of 64 GPUs are healthy; GPU-", 30), 0);
	assert_int_equal(strlen(sentence), sizeof(sentence) - 1);
	tr_node_devices_free(&back);
	tr_buf_free(&out);
	free(cards);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_told_once),
		cmocka_unit_test(test_put_back),
		cmocka_unit_test(F35_health_is_told),
		cmocka_unit_test(test_capacity),
		cmocka_unit_test(test_lease),
		cmocka_unit_test(test_no_card),
		cmocka_unit_test(test_bad_days),
		cmocka_unit_test(test_64_gpus),
		cmocka_unit_test(test_no_room_for_scores),
	};

	return cmocka_run_group_tests_name("register", tests, kube_server_start,
					   kube_server_stop);
}
