/* SPDX-License-Identifier: Apache-2.0 */
/* What a client with one watch costs, beside a server with pods as large as pods are. */
#include "tr_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "harness.h"

#define PODS      250 /* more than a node may have by default */
#define POD_BYTES 10000

static void make_pods(struct tr_kube *k)
{
	char *padding = tr_xcalloc(1, POD_BYTES);
	int left = PODS;

	(void)memset(padding, 'x', POD_BYTES - 1);
	for (int i = 0; i < PODS; i++) {
		char name[16];
		struct kube_result got;
		struct tr_kube_ask ask = { .verb = TR_KUBE_CREATE,
					   .path = "/api/v1/namespaces/a/pods" };
		json_t *body;

		(void)snprintf(name, sizeof(name), "pod-%d", i);
		body = json_pack(
			"{s:{s:s,s:{s:s,s:s}},s:{s:s,s:[{s:s,s:{s:{s:s}}}]}}", "metadata",
			"name", name, "annotations", "hami.io/vgpu-devices-allocated",
			"GPU-0fc3a1b2-0000-0000-0000-000000000001,NVIDIA,3000,30:;",
			"fields", padding, "spec", "nodeName", "n", "containers", "name",
			"main", "resources", "limits", "nvidia.com/gpu", "1");
		ask.body = body;
		assert_int_equal(kube_ask(k, &ask, &got), 0);
		kube_result_free(&got);
		json_decref(body);
		left--;
	}
	assert_int_equal(left, 0);
	free(padding);
}

static void test_memory(void **state)
{
	struct tr_kube *k = kube_client("memory");
	char *command = tr_xprintf("%s https://127.0.0.1:%d/memory %s/ca.crt 2", KUBE_IDLE,
				   kube_server.tls_port, kube_server.dir);
	long start = 0, synced = 0, idle = 0, pods = 0;
	FILE *in;

	(void)state;
	make_pods(k);
	in = popen(command, "re");
	assert_non_null(in);
	assert_int_equal(fscanf(in, "%ld %ld %ld %ld", &start, &synced, &idle, &pods), 4);
	assert_int_equal(pclose(in), 0);
	print_message("RssAnon: %ld KiB at the start, %ld with %ld pods listed, %ld idle\n",
		      start, synced, pods, idle);
	assert_int_equal(pods, PODS);
	if (KUBE_IS_PLAIN) /* a sanitizer's own memory is not ours */
		assert_true(idle - start < 2500);
	tr_kube_close(k);
	free(command);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_memory) };

	return cmocka_run_group_tests_name("kube memory", tests, kube_server_start,
					   kube_server_stop);
}
