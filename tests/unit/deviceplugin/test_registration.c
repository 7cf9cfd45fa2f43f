/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node.h"
#include "rt/file.h"
#include "tr_test.h"

static void start_all(void)
{
	node_kubelet_start();
	node_plugin_start();
	node_offer(2, 0);
	node_register();
	assert_true(node_until(&node.lists, 1, 1000));
	assert_true(node_until(&node.states, 1, 1000));
	assert_int_equal(node.state, TR_KUBELET_REGISTERED);
}

static void registers(void **state)
{
	uint64_t start = tr_clock_ns();

	(void)state;
	start_all();
	assert_in_range(tr_clock_ns() - start, 0, 300000000);
	assert_string_equal(node.request->version, "v1beta1");
	assert_string_equal(node.request->endpoint, "nvidia-gpu.sock");
	assert_string_equal(node.request->resource_name, "nvidia.com/gpu");
	assert_non_null(node.request->options);
	assert_true(node.request->options->pre_start_required);
	assert_true(node.request->options->get_preferred_allocation_available);
	node_run_ms(1500);
	assert_int_equal(node.registered, 1); /* once is enough */
}

/* Ten restarts that empty the directory: known again within a second each. */
static void kubelet_restarts(void **state)
{
	(void)state;
	start_all();
	for (unsigned i = 0; i < 10; i++) {
		unsigned before = node.lists;

		node_kubelet_stop();
		node_run_ms(i * 40);
		node_kubelet_start();
		assert_true(node_until(&node.lists, before + 1, 1000));
		assert_true(tr_plugin_is_reachable(node.plugin));
	}
	node_run_ms(100);
	assert_int_equal(node.state, TR_KUBELET_REGISTERED);
	assert_int_equal(node.registered, 11);
}

static void kubelet_comes_late(void **state)
{
	(void)state;
	node_plugin_start();
	node_offer(1, 0);
	node_register();
	assert_true(node_until(&node.states, 1, 1000));
	assert_int_equal(node.state, TR_KUBELET_ABSENT);
	node_run_ms(900);
	assert_int_equal(node.states, 1); /* told once */
	node_kubelet_start();
	assert_true(node_until(&node.lists, 1, 1000));
}

/* Somebody removes our socket and nothing else. */
static void own_socket_removed(void **state)
{
	(void)state;
	start_all();
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(unlink(node.plugin_socket), 0);
		for (unsigned ms = 0; !tr_plugin_is_reachable(node.plugin); ms += 10) {
			assert_true(ms < 1000);
			node_run_ms(10);
		}
		node_run_ms(300);
	}
	/* Replaced by a file, as a confused script would. */
	assert_int_equal(unlink(node.plugin_socket), 0);
	fclose(fopen(node.plugin_socket, "w"));
	node_run_ms(900);
	assert_true(tr_plugin_is_reachable(node.plugin));
	node_offer(5, 0);
	node_run_ms(100);
	assert_int_equal(node.devices, 5);
}

static void refused(void **state)
{
	(void)state;
	node.refuses = "resource name is invalid";
	node_kubelet_start();
	node_plugin_start();
	node_register();
	assert_true(node_until(&node.registered, 4, 3000));
	assert_int_equal(node.state, TR_KUBELET_REFUSED);
	assert_non_null(strstr(node.sentence, "nvidia.com/gpu: resource name is invalid"));
	node_run_ms(1000);
	assert_in_range(node.registered, 4, 8); /* it does not hammer */
	node.refuses = NULL;
	assert_true(node_until(&node.lists, 1, 6000));
	assert_int_equal(node.state, TR_KUBELET_REGISTERED);
}

/* A socket nobody listens at, as between bind and listen. */
static void dead_socket(void **state)
{
	(void)state;
	node_plugin_start();
	node_kubelet_start();
	char kept[100];
	snprintf(kept, sizeof(kept), "%s~", node.kubelet_socket);
	rename(node.kubelet_socket, kept); /* so that it is not removed */
	tr_rpc_server_close(node.kubelet);
	node.kubelet = NULL;
	rename(kept, node.kubelet_socket);
	node_register();
	assert_true(node_until(&node.states, 1, 2000));
	assert_int_equal(node.state, TR_KUBELET_REFUSED);
	node_kubelet_start();
	assert_true(node_until(&node.lists, 1, 1000));
}

static void kubelet_hangs(void **state)
{
	(void)state;
	node.hangs = true;
	node_kubelet_start();
	node_plugin_start();
	node_register();
	assert_true(node_until(&node.registered, 1, 1000));
	struct tr_rpc_server *old = node.kubelet;
	struct tr_rpc_call *call = node.hanging;
	node.hangs = false;
	node.hanging = NULL;
	node_kubelet_start(); /* another one, while the old one still holds the call */
	assert_true(node_until(&node.lists, 1, 1000));
	tr_rpc_refuse(call, TR_RPC_INTERNAL, "");
	tr_rpc_server_close(old);
	assert_int_equal(node.state, TR_KUBELET_REGISTERED);
}

/* It registered us and never listens, or stopped to. */
static void stream_lost(void **state)
{
	(void)state;
	start_all();
	tr_rpc_cancel(node.listening);
	node.listening = NULL;
	assert_true(node_until(&node.registered, 2, 5000));
	node_run_ms(200);
	assert_int_equal(tr_plugin_streams(node.plugin), 1);
}

static void directory_replaced(void **state)
{
	char other[80];

	(void)state;
	start_all();
	node_kubelet_stop();
	snprintf(other, sizeof(other), "%s.old", node.dir);
	assert_int_equal(rename(node.dir, other), 0);
	node_run_ms(500);
	assert_int_equal(node.state, TR_KUBELET_NO_SOCKET);
	assert_int_equal(mkdir(node.dir, 0755), 0);
	node_kubelet_start();
	assert_true(node_until(&node.lists, 2, 1000));
	snprintf(other, sizeof(other), "rm -r %s.old", node.dir);
	assert_int_equal(system(other), 0);
}

/* Two agents on one node: the second says so, and does not steal. */
static void two_agents(void **state)
{
	struct tr_plugin_actions none = { .prefer = NULL };
	struct tr_plugin *first = NULL;

	(void)state;
	start_all();
	assert_int_equal(unlink(node.plugin_socket), 0);
	assert_int_equal(tr_plugin_open(node.rpc, node.plugin_socket, &none, &first, NULL),
			 0);
	node_run_ms(600);
	assert_int_equal(node.state, TR_KUBELET_NO_SOCKET);
	assert_non_null(strstr(node.sentence, "another process serves"));
	tr_plugin_close(first);
	node_run_ms(600);
	assert_int_equal(node.state, TR_KUBELET_REGISTERED);
	assert_true(tr_plugin_is_reachable(node.plugin));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, node_open, node_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(registers),          TEST(kubelet_restarts), TEST(kubelet_comes_late),
		TEST(own_socket_removed), TEST(refused),          TEST(dead_socket),
		TEST(kubelet_hangs),      TEST(stream_lost),      TEST(directory_replaced),
		TEST(two_agents),
	};

	return cmocka_run_group_tests_name("registration", tests, NULL, NULL);
}
