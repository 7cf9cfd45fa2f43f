/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent costs that only waits: plugin, ListAndWatch stream, registration and PodResources
 * open, the kubelet in another process. Then 200 Allocate and 200 PreStartContainer at once, each
 * PreStart asking PodResources, from that process.
 */
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "node.h"
#include "rt/file.h"
#include "tr_test.h"

#define CALLS        200u
#define RSS_MOST_KIB 6144u /* the agent has 8 MiB in all */
#define THREADS_MOST 12u

static struct tr_pods *pods;
static char *program;

static unsigned status_number(const char *field)
{
	char line[256];
	unsigned value = 0;
	FILE *in = fopen("/proc/self/status", "r");

	while (in && fgets(line, sizeof(line), in))
		if (strncmp(line, field, strlen(field)) == 0)
			value = (unsigned)strtoul(line + strlen(field) + 1, NULL, 10);
	fclose(in);
	return value;
}

static uint64_t process_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the agent ---- */

static void on_pods(int r, const struct tr_pod_list *list, const char *sentence, void *arg)
{
	(void)list;
	if (r < 0)
		tr_rpc_refuse(arg, TR_RPC_UNAVAILABLE, sentence);
	else
		(void)tr_plugin_prestarted(arg);
}

static void on_prestart(struct tr_rpc_call *call, const struct tr_ids *ids, void *arg)
{
	(void)ids;
	(void)arg;
	node.prestarts++;
	assert_int_equal(tr_pods_ask(pods, 5000, on_pods, call, NULL, NULL), 0);
}

static void on_allocate(struct tr_rpc_call *call, const struct tr_ids *containers,
			size_t count, void *arg)
{
	static const struct tr_injection none;

	(void)containers;
	(void)count;
	(void)arg;
	(void)tr_plugin_allocated(call, &none, 1);
}

static void run_agent(void)
{
	struct tr_plugin_actions actions = { .allocate = on_allocate,
					     .prestart = on_prestart };
	uint64_t cpu_ns;

	assert_int_equal(
		tr_plugin_open(node.rpc, node.plugin_socket, &actions, &node.plugin, NULL),
		0);
	node_offer(CALLS, 0);
	assert_int_equal(tr_pods_open(node.rpc, node.base, node.pods_socket,
				      "nvidia.com/gpu", &pods, NULL),
			 0);
	node_register();
	for (unsigned ms = 0; !tr_plugin_streams(node.plugin) && ms < 5000; ms += 10)
		node_run_ms(10);
	node_run_ms(300);
	assert_int_equal(tr_plugin_streams(node.plugin), 1);
	print_message("idle: RssAnon %u KiB, %u threads\n", status_number("RssAnon:"),
		      status_number("Threads:"));
	assert_in_range(status_number("RssAnon:"), 1, RSS_MOST_KIB);
	assert_in_range(status_number("Threads:"), 1, THREADS_MOST);
	cpu_ns = process_ns();
	while (node.prestarts < CALLS)
		event_base_loop(node.base, EVLOOP_ONCE);
	cpu_ns = process_ns() - cpu_ns;
	node_run_ms(500);
	print_message("after %u calls: RssAnon %u KiB, %u threads, %.0f us of CPU a call\n",
		      2 * CALLS, status_number("RssAnon:"), status_number("Threads:"),
		      (double)cpu_ns / 1000 / (2 * CALLS));
}

/* ---- the kubelet's process ---- */

struct timed {
	uint64_t start_ns, took_ns;
};
static struct timed timed[2][CALLS];
static unsigned ended, failed;

static void on_timed(const struct tr_rpc_end *end, void *arg)
{
	struct timed *t = arg;

	t->took_ns = tr_clock_ns() - t->start_ns;
	ended++;
	failed += end->code != TR_RPC_OK;
}

static void ask(const char *method, const ProtobufCMessage *request,
		const ProtobufCMessageDescriptor *reply, struct timed *t)
{
	struct tr_rpc_question question = { .method = method,
					    .request = request,
					    .reply = reply,
					    .deadline_ms = 20000,
					    .on_end = on_timed,
					    .arg = t };

	t->start_ns = tr_clock_ns();
	assert_int_equal(tr_rpc_ask(node.dialled, &question, NULL, NULL), 0);
}

static int by_time(const void *a, const void *b)
{
	const struct timed *left = a, *right = b;

	return (left->took_ns > right->took_ns) - (left->took_ns < right->took_ns);
}

static void call_both(unsigned i)
{
	V1beta1__ContainerAllocateRequest one, *list[] = { &one };
	V1beta1__AllocateRequest allocate;
	V1beta1__PreStartContainerRequest prestart;
	char name[16], *ids[] = { name };

	snprintf(name, sizeof(name), "GPU-0-%u", i);
	v1beta1__container_allocate_request__init(&one);
	one.devices_ids = ids;
	one.n_devices_ids = 1;
	v1beta1__allocate_request__init(&allocate);
	allocate.container_requests = list;
	allocate.n_container_requests = 1;
	v1beta1__pre_start_container_request__init(&prestart);
	prestart.devices_ids = ids;
	prestart.n_devices_ids = 1;
	ask("/v1beta1.DevicePlugin/Allocate", &allocate.base,
	    &v1beta1__allocate_response__descriptor, &timed[0][i]);
	ask("/v1beta1.DevicePlugin/PreStartContainer", &prestart.base,
	    &v1beta1__pre_start_container_response__descriptor, &timed[1][i]);
}

static int run_kubelet(const char *dir)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	node_open_at(dir);
	node_pods_start();
	node_kubelet_start();
	assert_true(node_until(&node.lists, 1, 10000));
	node_run_ms(1000); /* the agent looks at itself meanwhile */
	for (unsigned i = 0; i < CALLS; i++)
		call_both(i);
	while (ended < 2 * CALLS)
		event_base_loop(node.base, EVLOOP_ONCE);
	for (unsigned m = 0; m < 2; m++) {
		qsort(timed[m], CALLS, sizeof(**timed), by_time);
		printf("%s: p50 %.1f ms, p99 %.1f ms\n",
		       m ? "PreStartContainer" : "Allocate",
		       (double)timed[m][CALLS / 2].took_ns / 1e6,
		       (double)timed[m][CALLS * 99 / 100].took_ns / 1e6);
	}
	printf("%u Lists, %u failed\n", node.pod_lists, failed);
	fflush(stdout);
	node_kubelet_stop();
	tr_rpc_server_close(node.pod_resources);
	tr_rpc_close(node.rpc);
	event_base_free(node.base);
	return failed ? 1 : 0;
}

static void idle(void **state)
{
	char *argv[] = { program, node.dir, NULL };
	pid_t kubelet;
	int status;

	(void)state;
	assert_int_equal(posix_spawn(&kubelet, program, NULL, NULL, argv, environ), 0);
	run_agent();
	assert_int_equal(waitpid(kubelet, &status, 0), kubelet);
	assert_int_equal(status, 0);
	tr_pods_close(pods);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(idle, node_open, node_close),
	};

	if (argc == 2)
		return run_kubelet(argv[1]);
	/* Another program in the kubelet's place: tests/kubelet. */
	program = getenv("TEST_KUBELET") ? getenv("TEST_KUBELET") : argv[0];
	return cmocka_run_group_tests_name("idle agent", tests, NULL, NULL);
}
