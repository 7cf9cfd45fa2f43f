/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "scene.h"
#include "tr_test.h"

#define G0 "GPU-00000001-0000-0000-0000-000000000000"
#define G1 "GPU-00000002-0000-0000-0000-000000000000"
#define GI (UINT64_C(1) << 30)

static const struct tr_arm_rules rules = { .resource = "nvidia.com/gpu",
					   .resource_priority = "nvidia.com/priority" };

static struct tr_share shares[SCENE_CONTAINERS];

/* A pod of a container without GPUs and one with WANTED of them. */
static struct scene_pod *pod_of(const char *decision, unsigned wanted)
{
	struct scene_pod *pod = scene_pod_new("p");

	scene_add(pod, "none", TR_CONTAINER_APP, 0, 0);
	scene_add(pod, "main", TR_CONTAINER_APP, wanted, 1);
	pod->decision = decision;
	return pod;
}

static void read_well(void **state)
{
	struct scene_pod *pod = pod_of(";" G1 ",NVIDIA,3000,30:" G0 ",NVIDIA,16384,100:;",
				       2);
	struct tr_err err = { 0 };

	(void)state;
	assert_int_equal(
		tr_decision_read(scene_object(pod), &rules, &scene.cards, shares, &err), 0);
	assert_int_equal(shares[0].count, 0);
	assert_int_equal(shares[1].count, 2);
	assert_string_equal(shares[1].parts[0].uuid, G1);
	assert_int_equal(shares[1].parts[0].limit_bytes, UINT64_C(3000) << 20);
	assert_int_equal(shares[1].parts[0].cores, 30);
	assert_int_equal(shares[1].parts[1].cores, 100);
	assert_int_equal(shares[1].priority, TR_PRIORITY_NORMAL);
	tr_shares_free(shares, 2);
}

/* HAMi 2.10 leaves placeholders out: a container's devices stand too early. */
static void read_shifted(void **state)
{
	struct scene_pod *pod = pod_of(G0 ",NVIDIA,3000,0:;", 1);

	(void)state;
	assert_int_equal(
		tr_decision_read(scene_object(pod), &rules, &scene.cards, shares, NULL), 0);
	assert_int_equal(shares[0].count, 0);
	assert_int_equal(shares[1].count, 1);
	tr_shares_free(shares, 2);
}

static void read_defaults(void **state)
{
	struct tr_arm_rules other = rules;
	struct scene_pod *pod = pod_of(";" G0 ",NVIDIA,3000,0:;", 1);

	(void)state;
	other.default_cores = 40;
	assert_int_equal(
		tr_decision_read(scene_object(pod), &other, &scene.cards, shares, NULL), 0);
	assert_int_equal(shares[1].parts[0].cores, 40);
	tr_shares_free(shares, 2);
	other.is_core_unlimited = true;
	assert_int_equal(
		tr_decision_read(scene_object(pod), &other, &scene.cards, shares, NULL), 0);
	assert_int_equal(shares[1].parts[0].cores, 0);
	tr_shares_free(shares, 2);
}

static void read_priorities(void **state)
{
	static const enum tr_priority wants[] = { TR_PRIORITY_HIGH, TR_PRIORITY_NORMAL,
						  TR_PRIORITY_LOW, TR_PRIORITY_LOW };

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct scene_pod *pod = pod_of(";" G0 ",NVIDIA,3000,0:;", 1);

		pod->at[1].priority = i == 3 ? 77 : i;
		assert_int_equal(tr_decision_read(scene_object(pod), &rules, &scene.cards,
						  shares, NULL),
				 0);
		assert_int_equal(shares[1].priority, wants[i]);
		tr_shares_free(shares, 2);
	}
}

/* Neither read nor taken for none: who asks for whole cards would get them instead. */
static void too_long(void **state)
{
	static const struct tr_too_long rows[] = { { "hami.io/vgpu-devices-allocated",
						     250000, 65536 } };
	struct tr_pod pod = *scene_object(pod_of("", 1));
	struct tr_err err = { 0 };

	(void)state;
	pod.object.too_long = rows;
	pod.object.too_long_count = 1;
	assert_int_equal(tr_decision_read(&pod, &rules, &scene.cards, shares, &err),
			 -EFBIG);
	assert_string_equal(err.msg, "annotation hami.io/vgpu-devices-allocated of pod "
				     "default/p has 250000 bytes: more than 65536 are not "
				     "read");
}

struct bad_case {
	const char *decision;
	unsigned wanted;
	int r;
	const char *sentence; /* a part of it */
};

static const struct bad_case bad_cases[] = {
	{ "", 1, -ENOENT, "no GPU scheduler has decided on pod default/p" },
	{ ";;", 1, -EBADMSG, "asks for 1 device, the decision gives it 0" },
	{ ";" G0 ",NVIDIA,1,0:;", 2, -EBADMSG,
	  "asks for 2 devices, the decision gives it 1" },
	{ ";" G0 ",NVIDIA,1,0:" G1 ",NVIDIA,1,0:;", 1, -EBADMSG,
	  "asks for 1 device, the decision gives it 2" },
	{ G0 ",NVIDIA,1,0:;" G0 ",NVIDIA,1,0:;", 1, -EBADMSG, "more containers than ask" },
	{ ";" G0 ",NVIDIA,1,0:" G0 ",NVIDIA,1,0:;", 2, -EBADMSG,
	  G0 " was decided on twice" },
	{ ";GPU-other,NVIDIA,1,0:;", 1, -EBADMSG,
	  "GPU-other was decided on and is not on" },
	{ ";" G0 ",DCU,1,0:;", 1, -EBADMSG, "is not of vendor NVIDIA" },
	{ ";" G0 ",NVIDIA,0,0:;", 1, -EBADMSG, "with no memory at all" },
	{ ";" G0 ",NVIDIA,1,101:;", 1, -EBADMSG, "more than 100 percent" },
	{ ";" G0 ",NVIDIA,-1,0:;", 1, -EBADMSG,
	  "the scheduler's decision on pod default/p" },
	{ ";" G0 ",NVIDIA,99999999999,0:;", 1, -EBADMSG, "decision on pod" },
	{ "garbage", 1, -EBADMSG, "decision" },
	{ ";" G0 ",NVIDIA,1:;", 1, -EBADMSG, "decision" },
};

static void refuse(void **state)
{
	const struct bad_case *c = *state;
	struct tr_err err = { 0 };

	assert_int_equal(tr_decision_read(scene_object(pod_of(c->decision, c->wanted)),
					  &rules, &scene.cards, shares, &err),
			 c->r);
	if (!strstr(err.msg, c->sentence))
		fail_msg("%s: %s", c->decision, err.msg);
}

static void refuse_unhealthy(void **state)
{
	struct scene_pod *pod = pod_of(";" G0 ",NVIDIA,3000,0:;", 1);
	struct tr_err err = { 0 };

	(void)state;
	scene.cards.at[0].is_healthy = false;
	strcpy(scene.cards.at[0].reason, "XID 79");
	assert_int_equal(
		tr_decision_read(scene_object(pod), &rules, &scene.cards, shares, &err),
		-EBADMSG);
	assert_string_equal(err.msg, "container main of pod default/p: device " G0
				     " is unhealthy: XID 79");
}

/* ---- room ---- */

static struct tr_book book;

static struct tr_alloc *armed(const char *uid, unsigned index, enum tr_container_kind kind,
			      uint64_t bytes, uint32_t cores)
{
	static const char *const ids[] = { "x" };
	struct tr_ids of = { ids, 1 };
	struct tr_alloc *alloc = tr_alloc_new(&book, &of, 1);
	struct tr_alloc_part part = { .limit_bytes = bytes, .cores = cores };

	memcpy(part.uuid, G0, sizeof(G0));
	alloc->state = TR_ALLOC_ARMED;
	alloc->index = index;
	alloc->kind = kind;
	snprintf(alloc->uid, sizeof(alloc->uid), "%s", uid);
	tr_alloc_set_parts(alloc, &part, 1);
	assert_int_equal(tr_book_add(&book, alloc), 0);
	return alloc;
}

static int close_book(void **state)
{
	tr_book_free(&book);
	return scene_close(state);
}

static struct tr_err room_err;

static int add_to(const char *uid, unsigned index, enum tr_container_kind kind,
		  uint64_t bytes, uint32_t cores)
{
	struct tr_alloc_part part = { .limit_bytes = bytes, .cores = cores };
	struct tr_room_row row = { uid, kind, index, &part, 1, NULL };

	memcpy(part.uuid, G0, sizeof(G0));
	memset(&room_err, 0, sizeof(room_err));
	return tr_room_check(&book, &scene.cards, &row, 1, &room_err);
}

#define APP  TR_CONTAINER_APP
#define SIDE TR_CONTAINER_SIDECAR
#define INIT TR_CONTAINER_INIT

static void room_bytes(void **state)
{
	(void)state;
	assert_int_equal(add_to("b", 0, APP, 16 * GI, 0), 0);
	assert_int_equal(add_to("b", 0, APP, 16 * GI + 1, 0), -ENOSPC);
	armed("a", 0, APP, 10 * GI, 0);
	assert_int_equal(add_to("b", 0, APP, 6 * GI, 0), 0);
	assert_int_equal(add_to("b", 0, APP, 6 * GI + 1, 0), -ENOSPC);
	assert_string_equal(room_err.msg,
			    "card " G0 " has no room for 6.00 GiB of one pod: "
			    "10 GiB of 16 GiB are taken by others");
	assert_int_equal(add_to("b", 0, APP, UINT64_MAX, 0), -ENOSPC);
}

static void room_time_and_count(void **state)
{
	(void)state;
	armed("a", 0, APP, GI, 60);
	assert_int_equal(add_to("b", 0, APP, GI, 40), 0);
	assert_int_equal(add_to("b", 0, APP, GI, 41), -ENOSPC);
	assert_non_null(strstr(room_err.msg, "60 of 100 are taken"));
	assert_int_equal(add_to("b", 0, APP, GI, 0), 0);
	scene.cards.at[0].split = 1;
	assert_int_equal(add_to("b", 0, APP, GI, 0), -ENOSPC);
	assert_non_null(strstr(room_err.msg, "1 of 1 places are taken"));
}

/* An init container that ends runs before the others, and not with them. */
static void room_init(void **state)
{
	(void)state;
	armed("a", 0, INIT, 15 * GI, 0);
	armed("a", 1, SIDE, 4 * GI, 0); /* started after the init container */
	assert_int_equal(add_to("a", 2, APP, 12 * GI, 0), 0);
	assert_int_equal(add_to("a", 2, APP, 13 * GI, 0), -ENOSPC);
	assert_int_equal(add_to("b", 0, APP, 1 * GI, 0), 0);
	assert_int_equal(add_to("b", 0, APP, 2 * GI, 0), -ENOSPC);
}

/* In whichever order they were allocated, and whatever came between. */
static void room_out_of_order(void **state)
{
	struct tr_room taken;

	(void)state;
	armed("a", 1, INIT, 8 * GI, 0);
	armed("a", 0, SIDE, 4 * GI, 0); /* the kubelet had lost what it knew of it */
	armed("b", 0, APP, 1 * GI, 0);
	armed("a", 2, APP, 2 * GI, 0);
	tr_room_taken(&book, G0, &taken);
	assert_int_equal(taken.bytes, 13 * GI);
	assert_int_equal(taken.containers, 3);
	assert_int_equal(add_to("c", 0, APP, 3 * GI, 0), 0);
	assert_int_equal(add_to("c", 0, APP, 3 * GI + 1, 0), -ENOSPC);
}

/* All of a card's time is for one container, also beside those that have no limit and are promised nothing. */
static void room_whole(void **state)
{
	(void)state;
	armed("a", 0, APP, GI, 0);
	assert_int_equal(add_to("b", 0, APP, GI, 99), 0);
	assert_int_equal(add_to("b", 0, APP, GI, 100), -ENOSPC);
	assert_non_null(strstr(room_err.msg, "all of its time: 1 containers of other"));
	assert_int_equal(add_to("a", 1, APP, GI, 100), -ENOSPC); /* its own pod's */
	assert_non_null(strstr(room_err.msg, "two containers of one pod at once"));
	tr_book_free(&book);
	armed("a", 1, APP, GI, 100);
	assert_int_equal(add_to("a", 0, INIT, GI, 0), 0); /* it has ended by then */
	assert_int_equal(add_to("a", 0, SIDE, GI, 0), -ENOSPC);
	assert_int_equal(add_to("a", 2, APP, GI, 0), -ENOSPC);
	assert_int_equal(add_to("b", 0, APP, GI, 0), -ENOSPC);
	assert_non_null(strstr(room_err.msg, "another pod has all of its time"));
	/* Where time is given out more than once, 100 is a number like any other. */
	scene.cards.at[0].give_cores = 200;
	assert_int_equal(add_to("b", 0, APP, GI, 0), 0);
	assert_int_equal(add_to("b", 0, APP, GI, 100), 0);
	assert_int_equal(add_to("a", 2, APP, GI, 100), 0);
}

static void room_sidecar_first(void **state)
{
	(void)state;
	armed("a", 0, SIDE, 4 * GI, 0);
	assert_int_equal(add_to("a", 1, INIT, 12 * GI, 0), 0);
	assert_int_equal(add_to("a", 1, INIT, 13 * GI, 0), -ENOSPC);
}

static void room_replaced(void **state)
{
	struct tr_alloc_part part = { .limit_bytes = 16 * GI };
	struct tr_room_row row = { "a", APP, 0, &part, 1, NULL };

	(void)state;
	memcpy(part.uuid, G0, sizeof(G0));
	row.instead = armed("a", 0, APP, 10 * GI, 0);
	assert_int_equal(tr_room_check(&book, &scene.cards, &row, 1, NULL), 0);
	armed("b", 0, APP, 1, 0);
	assert_int_equal(tr_room_check(&book, &scene.cards, &row, 1, NULL), -ENOSPC);
	memcpy(part.uuid, "GPU-gone", 9);
	assert_int_equal(tr_room_check(&book, &scene.cards, &row, 1, NULL), -ENODEV);
}

/* By brute force: all sets of containers that the rules let run at once. */
static uint64_t most_at_once(const uint64_t *bytes, const enum tr_container_kind *kinds,
			     size_t n)
{
	uint64_t most = 0, staying = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t now = 0;

		if (kinds[i] != INIT) {
			staying += bytes[i];
			continue;
		}
		for (size_t k = 0; k < i; k++)
			now += kinds[k] == SIDE ? bytes[k] : 0;
		now += bytes[i];
		most = now > most ? now : most;
	}
	return staying > most ? staying : most;
}

static void room_as_brute_force(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 500; round++) {
		uint64_t bytes[5], all = 0;
		enum tr_container_kind kinds[5];
		struct tr_room taken;
		char uid[8];

		for (unsigned pod = 0; pod < 4; pod++) {
			size_t n = 1 + scene_random(5);

			snprintf(uid, sizeof(uid), "%u", pod);
			for (unsigned i = 0; i < n; i++) {
				bytes[i] = scene_random(100) + 1;
				kinds[i] = i < n / 2 ? (scene_random(2) ? INIT : SIDE)
						     : APP;
				armed(uid, i, kinds[i], bytes[i], 0);
			}
			all += most_at_once(bytes, kinds, n);
		}
		tr_room_taken(&book, G0, &taken);
		assert_int_equal(taken.bytes, all);
		tr_book_free(&book);
	}
}

/* ---- pods that came past every scheduler ---- */

static bool is_first(const char *uuid, void *arg)
{
	(void)arg;
	return strcmp(uuid, G0) == 0;
}

static int whole(struct scene_pod *pod, tr_card_is_promised *is_promised,
		 struct tr_buf *out)
{
	tr_buf_clear(out);
	tr_buf_text(out, "");
	memset(&room_err, 0, sizeof(room_err));
	return tr_whole_cards(&book, &scene.cards, scene_object(pod), "nvidia.com/gpu",
			      is_promised, NULL, out, &room_err);
}

static void whole_cards(void **state)
{
	tr_auto_buf struct tr_buf out = { 0 };
	struct scene_pod *pod = pod_of("", 1);

	(void)state;
	assert_int_equal(whole(pod, NULL, &out), 0);
	assert_string_equal(out.p, ";" G0 ",NVIDIA,16384,100:;");
	assert_int_equal(whole(pod, is_first, &out), 0);
	assert_string_equal(out.p, ";" G1 ",NVIDIA,16384,100:;");
	armed("a", 0, APP, 1, 0);
	assert_int_equal(whole(pod, NULL, &out), 0);
	assert_string_equal(out.p, ";" G1 ",NVIDIA,16384,100:;");
	scene.cards.at[1].is_healthy = false;
	assert_int_equal(whole(pod, NULL, &out), -ENOSPC);
	assert_string_equal(
		room_err.msg,
		"no GPU scheduler has decided on pod default/p, and of the 1 whole "
		"GPUs that it would get 0 are free");
}

/* Whatever the kinds, what comes out can be armed. */
static void whole_kinds(void **state)
{
	(void)state;
	scene_cards(10, UINT64_C(16) << 30);
	for (unsigned round = 0; round < 300; round++) {
		struct tr_room_row rows[SCENE_CONTAINERS];
		tr_auto_buf struct tr_buf out = { 0 };
		struct scene_pod *pod = scene_pod_new("p");
		size_t n = 0;

		for (unsigned i = scene_random(4); i--;)
			scene_add(pod, "i", scene_random(2) ? INIT : SIDE, scene_random(3),
				  1);
		scene_add(pod, "a", APP, 1 + scene_random(2), 1);
		scene_add(pod, "b", APP, scene_random(3), 1);
		assert_int_equal(whole(pod, NULL, &out), 0);
		pod->decision = out.p;
		assert_int_equal(tr_decision_read(scene_object(pod), &rules, &scene.cards,
						  shares, &room_err),
				 0);
		for (unsigned i = 0; i < pod->count; i++)
			rows[n++] = (struct tr_room_row){
				"u", pod->at[i].kind, i, shares[i].parts, shares[i].count,
				NULL
			};
		assert_int_equal(tr_room_check(&book, &scene.cards, rows, n, &room_err), 0);
		tr_shares_free(shares, pod->count);
		assert_true(tr_pod_is_on(
			scene_object(pod), rules.resource,
			scene.cards.at[0].uuid)); /* the first is taken first */
		assert_false(tr_pod_is_on(scene_object(pod), rules.resource, "GPU-other"));
		pod->phase = "Succeeded";
		assert_false(tr_pod_is_on(scene_object(pod), rules.resource,
					  scene.cards.at[0].uuid));
		pod->decision = NULL;
		scene_forget(pod);
	}
}

/* A decision that anybody wrote to a pod that asks for other devices, or none, keeps no card from others. */
static void promises_of_nobody(void **state)
{
	static const struct {
		const char *decision;
		unsigned wanted;
		bool is_promise;
	} cases[] = {
		{ G0 ",NVIDIA,1,0:;", 1, true },
		{ G0 ",NVIDIA,1,0:;", 0, false },
		{ G0 ",NVIDIA,1,0:" G1 ",NVIDIA,1,0:;", 1, false },
		{ G0 ",NVIDIA,1,0:" G1 ",NVIDIA,1,0:;", 2, true },
		{ ";" G0 ",NVIDIA,1,0:;", 1, false },
	};

	(void)state;
	for (size_t i = 0; i < TR_COUNT(cases); i++) {
		struct scene_pod *pod = scene_pod_new("p");

		scene_add(pod, "a", APP, cases[i].wanted, 1);
		pod->decision = (char *)(uintptr_t)cases[i].decision;
		if (tr_pod_is_on(scene_object(pod), "nvidia.com/gpu", G0) !=
		    cases[i].is_promise)
			fail_msg("row %zu", i);
		assert_false(tr_pod_is_on(scene_object(pod), "vendor.com/gpu", G0));
		pod->decision = NULL;
		scene_forget(pod);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, scene_open, close_book)

int main(void)
{
	struct CMUnitTest tests[40] = {
		TEST(read_well),           TEST(too_long),
		TEST(read_shifted),        TEST(read_defaults),
		TEST(read_priorities),     TEST(refuse_unhealthy),
		TEST(room_bytes),          TEST(room_time_and_count),
		TEST(room_init),           TEST(room_whole),
		TEST(room_sidecar_first),  TEST(room_replaced),
		TEST(room_as_brute_force), TEST(whole_cards),
		TEST(whole_kinds),         TEST(promises_of_nobody),
		TEST(room_out_of_order),
	};
	size_t n = 17;

	for (size_t i = 0; i < TR_COUNT(bad_cases); i++)
		tests[n++] = (struct CMUnitTest){
			.name = bad_cases[i].sentence,
			.test_func = refuse,
			.setup_func = scene_open,
			.teardown_func = close_book,
			.initial_state = (void *)(uintptr_t)&bad_cases[i]
		};
	return _cmocka_run_group_tests("decision", tests, n, NULL, NULL);
}
