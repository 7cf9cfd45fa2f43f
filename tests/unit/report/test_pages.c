/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "deviceplugin/report/report.h"
#include "rt/file.h"
#include "scene.h"

/* The pages as a client gets them. */

static struct scene scene;
static struct event_base *base;
static struct tr_report *report;
static const char *sick = "", *not_ready = "";
static unsigned filled;

static void fill(struct tr_report_view *view, struct tr_report_source *source, void *arg)
{
	assert_ptr_equal(arg, &scene);
	filled++;
	view->node = scene.view.node;
	view->version = scene.view.version;
	view->revision = scene.view.revision;
	view->build_date = scene.view.build_date;
	view->driver = scene.view.driver;
	view->cards = scene.rows;
	view->card_count = SCENE_CARDS;
	view->rpcs = scene.rpcs;
	view->rpc_count = 2;
	*source = scene.source;
}

static void health(struct tr_buf *reasons, void *arg)
{
	(void)arg;
	tr_buf_text(reasons, sick);
}

static void ready(struct tr_buf *reasons, void *arg)
{
	(void)arg;
	tr_buf_text(reasons, not_ready);
}

static int open_pages(void **state)
{
	const struct tr_report_actions actions = { fill, health, ready, &scene };
	struct tr_err err;

	(void)state;
	filled = 0;
	scene_open(&scene);
	scene_arm(&scene, scene_add(&scene, 1), "shop", "cart-0", "app", 1 << 30);
	scene_add(&scene, 2);
	base = event_base_new();
	return tr_report_open(base, "127.0.0.1:0", &actions, &report, &err);
}

static int close_pages(void **state)
{
	(void)state;
	tr_report_close(report);
	event_base_free(base);
	scene_close(&scene);
	return 0;
}

/* The whole answer to a request for PATH; free() it. */
static char *get(const char *path, const char *accept)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				  .sin_port = htons(tr_report_port(report)) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint64_t end = tr_clock_ns() + UINT64_C(5000000000);
	struct tr_buf got = { 0 };
	char request[512], bytes[4096];
	ssize_t n = 1;

	(void)snprintf(
		request, sizeof(request),
		"GET %s HTTP/1.1\r\nHost: h\r\nAccept: %s\r\nConnection: close\r\n\r\n",
		path, accept);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	while (n != 0 && tr_clock_ns() < end) {
		struct pollfd in = { fd, POLLIN, 0 };

		(void)event_base_loop(base, EVLOOP_NONBLOCK);
		(void)poll(&in, 1, 1);
		while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
			tr_buf_add(&got, bytes, (size_t)n);
	}
	(void)close(fd);
	return tr_buf_take(&got);
}

static void check(const char *path, const char *accept, const char *begin,
		  const char *holds)
{
	char *got = get(path, accept);

	assert_memory_equal(got, begin, strlen(begin));
	if (!strstr(got, holds))
		fail_msg("%s: no \"%s\"", path, holds);
	free(got);
}

static void test_metrics(void **state)
{
	(void)state;
	check("/metrics", "", "HTTP/1.1 200 OK\r\n",
	      "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n");
	check("/metrics", "application/openmetrics-text;version=1.0.0",
	      "HTTP/1.1 200 OK\r\n",
	      "Content-Type: application/openmetrics-text; version=1.0.0; "
	      "charset=utf-8\r\n");
	check("/metrics", "application/openmetrics-text", "HTTP/1.1 200 OK\r\n", "# EOF\n");
	check("/metrics", "*/*", "HTTP/1.1 200 OK\r\n",
	      "tranche_allocations{state=\"waiting\"} 1\n");
}

/* However often it is asked: the numbers are gathered once a second for a page. */
static void test_fresh(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 50; i++)
		free(get("/metrics", ""));
	assert_true(filled >= 1 && filled <= 3);
	tr_sleep_ns(UINT64_C(1050000000));
	filled = 0;
	scene_add(&scene, 1);
	check("/metrics", "", "HTTP/1.1 200 OK\r\n",
	      "tranche_allocations{state=\"waiting\"} 2\n");
	assert_int_equal(filled, 1);
}

static void test_process(void **state)
{
	char *got = get("/metrics", "");
	long long now = (long long)time(NULL);

	(void)state;
	assert_true(strtoull(scene_value(got, "process_resident_memory_bytes"), NULL, 10) >
		    100000);
	assert_true(strtoull(scene_value(got, "tranche_agent_anonymous_memory_bytes"), NULL,
			     10) > 10000);
	assert_true(strtoull(scene_value(got, "process_open_fds"), NULL, 10) > 4);
	assert_true(strtod(scene_value(got, "process_cpu_seconds_total"), NULL) > 0);
	assert_true(
		llabs(strtoll(scene_value(got, "process_start_time_seconds"), NULL, 10) -
		      now) < 60);
	free(got);
}

static void test_health(void **state)
{
	(void)state;
	sick = not_ready = "";
	check("/healthz", "", "HTTP/1.1 200 OK\r\n", "\r\n\r\nok\n");
	check("/readyz", "", "HTTP/1.1 200 OK\r\n", "\r\n\r\nok\n");
	not_ready = "no kubelet has asked for the devices yet\n";
	check("/healthz", "", "HTTP/1.1 200 OK\r\n", "ok\n");
	check("/readyz", "", "HTTP/1.1 503 Service Unavailable\r\n", not_ready);
	sick = "NVML has been silent for 61 s\n";
	check("/healthz", "", "HTTP/1.1 503 Service Unavailable\r\n", sick);
	check("/metricsx", "", "HTTP/1.1 404 Not Found\r\n", "404 Not Found\n");
	sick = not_ready = "";
}

static json_t *at(json_t *array, size_t i, const char *key)
{
	return json_object_get(json_array_get(array, i), key);
}

static void test_slices(void **state)
{
	struct tr_state *use = scene_state(&scene, &scene.allocs[0]);
	json_t *all, *slices, *device;
	char *got;

	(void)state;
	use->high_water = 1;
	use->mem[0][0].used_bytes = 5000;
	use->pace[0].gpu_ns = 1500000000;
	(void)snprintf(scene.allocs[0].container, sizeof(scene.allocs[0].container),
		       "a\xff\"");
	(void)snprintf(scene.cards[1].reason, sizeof(scene.cards[1].reason), "XID 79");
	got = get("/debug/slices", "");
	assert_non_null(strstr(got, "Content-Type: application/json\r\n"));
	all = json_loads(strstr(got, "\r\n\r\n") + 4, 0, NULL);
	assert_non_null(all);
	slices = json_object_get(all, "slices");
	assert_int_equal(json_array_size(slices), 2);
	assert_string_equal(json_string_value(at(slices, 0, "state")), "armed");
	assert_string_equal(json_string_value(at(slices, 1, "state")), "waiting");
	assert_string_equal(json_string_value(at(slices, 0, "container")),
			    "a\xef\xbf\xbd\"");
	device = json_array_get(at(slices, 0, "devices"), 0);
	assert_int_equal(json_integer_value(json_object_get(device, "memory_limit_bytes")),
			 1 << 30);
	assert_int_equal(json_integer_value(json_object_get(device, "memory_used_bytes")),
			 5000);
	assert_true(json_real_value(json_object_get(device, "gpu_seconds")) > 1.4);
	assert_string_equal(
		json_string_value(at(json_object_get(all, "cards"), 1, "reason")),
		"XID 79");
	json_decref(all);
	free(got);
	(void)munmap(use, sizeof(*use));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_pages, close_pages)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(test_metrics), TEST(test_fresh),
					    TEST(test_process), TEST(test_health),
					    TEST(test_slices) };

	return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
