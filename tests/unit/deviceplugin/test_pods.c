/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "node.h"
#include "rt/file.h"
#include "tr_test.h"

static struct tr_pods *pods;

static int open_pods(void **state)
{
	node_open(state);
	node_pods_start();
	assert_int_equal(tr_pods_open(node.rpc, node.base, node.pods_socket,
				      "nvidia.com/gpu", &pods, NULL),
			 0);
	return 0;
}

static int close_pods(void **state)
{
	tr_pods_close(pods);
	return node_close(state);
}

struct told {
	unsigned answers;
	int r;
	char sentence[256];
	unsigned lists;                /* the kubelet had answered when this came */
	struct tr_pods_waiter *victim; /* to be forgotten by the answer */
};

static void on_answer(int r, const struct tr_pod_list *list, const char *sentence,
		      void *arg)
{
	struct told *t = arg;

	t->answers++;
	t->r = r;
	t->lists = node.pod_lists;
	snprintf(t->sentence, sizeof(t->sentence), "%s", sentence);
	if (t->victim)
		tr_pods_forget(t->victim);
	if (r < 0) {
		assert_null(list);
		return;
	}
	assert_int_equal(list->count, 1); /* not the container without devices */
	assert_string_equal(list->rows[0].namespace, "default");
	assert_string_equal(list->rows[0].pod, "train");
	assert_string_equal(list->rows[0].container, "app");
	assert_int_equal(list->rows[0].count,
			 2); /* two entries, and one of another resource */
	assert_string_equal(list->rows[0].ids[0], "GPU-0-0");
	assert_string_equal(list->rows[0].ids[1], "GPU-0-1");
}

static struct tr_pods_waiter *ask(struct told *t, unsigned deadline_ms)
{
	struct tr_pods_waiter *waiter;

	assert_int_equal(tr_pods_ask(pods, deadline_ms, on_answer, t, &waiter, NULL), 0);
	return waiter;
}

static void rows(void **state)
{
	struct told t = { 0 };

	(void)state;
	ask(&t, 2000);
	assert_int_equal(t.answers, 0);
	assert_true(node_until(&t.answers, 1, 2000));
	assert_int_equal(t.r, 0);
}

/* One List for all that ask before it leaves; who comes later needs one of its own. */
static void one_list_for_all(void **state)
{
	static struct told early[200], late[200];

	(void)state;
	node.list_delay_ms = 50;
	for (unsigned i = 0; i < 200; i++)
		ask(&early[i], 5000);
	assert_true(node_until(&node.pod_lists, 1, 2000));
	for (unsigned i = 0; i < 200; i++)
		ask(&late[i], 5000);
	for (unsigned i = 0; i < 200; i++) {
		assert_true(node_until(&late[i].answers, 1, 5000));
		assert_int_equal(early[i].answers, 1);
		assert_int_equal(early[i].lists, 1);
		assert_int_equal(late[i].lists, 2);
	}
	assert_int_equal(node.pod_lists, 2);
}

static void exhausted(void **state)
{
	struct told t = { 0 };
	uint64_t start = tr_clock_ns();

	(void)state;
	node.exhausted = 3;
	ask(&t, 5000);
	assert_true(node_until(&t.answers, 1, 5000));
	assert_int_equal(t.r, 0);
	assert_int_equal(node.pod_lists, 4);
	/* 20 + 40 + 80 ms and up to twice as much */
	assert_in_range(tr_clock_ns() - start, 130000000, 900000000);
}

static void exhausted_for_good(void **state)
{
	struct told t = { 0 };

	(void)state;
	node.exhausted = 1000;
	ask(&t, 700);
	assert_true(node_until(&t.answers, 1, 2000));
	assert_int_equal(t.r, -ETIMEDOUT);
	assert_non_null(strstr(t.sentence, "did not answer within 0.7 s: "));
	assert_non_null(strstr(t.sentence, "rejected by rate limit"));
	assert_in_range(node.pod_lists, 3, 7);
	node.exhausted = 0;
	t = (struct told){ 0 };
	ask(&t, 2000);
	assert_true(node_until(&t.answers, 1, 2000));
	assert_int_equal(t.r, 0);
}

static void kubelet_away(void **state)
{
	struct told t = { 0 }, u = { 0 };

	(void)state;
	tr_rpc_server_close(node.pod_resources);
	node.pod_resources = NULL;
	ask(&t, 300);
	ask(&u, 3000);
	assert_true(node_until(&t.answers, 1, 2000));
	assert_int_equal(t.r, -ETIMEDOUT);
	node_pods_start(); /* it comes back: who still waits is answered */
	assert_true(node_until(&u.answers, 1, 2500));
	assert_int_equal(u.r, 0);
}

/* It takes calls, and says nothing: what it is that does not answer is told, before its caller gives up. */
static void kubelet_silent(void **state)
{
	struct told t = { 0 };

	(void)state;
	node.list_delay_ms = 5500;
	ask(&t, 60000);
	assert_true(node_until(&t.answers, 1, 30000));
	assert_int_equal(t.r, -ETIMEDOUT);
	assert_non_null(strstr(t.sentence, node.pods_socket));
	assert_non_null(strstr(t.sentence, "did not answer within 5 s"));
	node.list_delay_ms = 0;
	t = (struct told){ 0 };
	ask(&t, 30000);
	assert_true(node_until(&t.answers, 1, 30000));
	assert_int_equal(t.r, 0);
	/* The late answer is nobody's. */
	assert_false(node_until(&t.answers, 2, 1000));
}

static void forgotten(void **state)
{
	struct told first = { 0 }, second = { 0 }, third = { 0 };

	(void)state;
	node.list_delay_ms = 20;
	tr_pods_forget(ask(&third, 1000));
	/* Answered in the order they asked. */
	ask(&first, 1000);
	first.victim = ask(&second, 1000);
	node_run_ms(300);
	assert_int_equal(first.answers, 1);
	assert_int_equal(second.answers, 0);
	assert_int_equal(third.answers, 0);
}

static void closed_while_waiting(void **state)
{
	struct told t = { 0 };

	(void)state;
	node.list_delay_ms = 100;
	ask(&t, 1000);
	assert_true(node_until(&node.pod_lists, 1, 1000));
	tr_pods_close(pods);
	pods = NULL;
	node_run_ms(200);
	assert_int_equal(t.answers, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_pods, close_pods)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(rows),         TEST(one_list_for_all),
		TEST(exhausted),    TEST(exhausted_for_good),
		TEST(kubelet_away), TEST(kubelet_silent),
		TEST(forgotten),    TEST(closed_while_waiting),
	};

	return cmocka_run_group_tests_name("pod resources", tests, NULL, NULL);
}
