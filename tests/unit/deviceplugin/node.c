/* SPDX-License-Identifier: Apache-2.0 */
#include "node.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/file.h"
#include "tr_test.h"

#define MS UINT64_C(1000000)

struct node node;
static const struct tr_rpc_limits limits = { 16u << 20, 16u << 20, 128u << 20 };

int node_open(void **state)
{
	char dir[] = "/tmp/node-XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(dir));
	node_open_at(dir);
	return 0;
}

void node_open_at(const char *dir)
{
	node = (struct node){ .state = -1 };
	snprintf(node.dir, sizeof(node.dir), "%s", dir);
	snprintf(node.kubelet_socket, 80, "%s/kubelet.sock", node.dir);
	snprintf(node.plugin_socket, 80, "%s/nvidia-gpu.sock", node.dir);
	snprintf(node.pods_socket, 80, "%s.pods", node.dir);
	node.base = event_base_new();
	assert_int_equal(tr_rpc_open(node.base, &node.rpc, NULL), 0);
}

int node_close(void **state)
{
	(void)state;
	if (node.is_turning)
		return 0;
	tr_kubelet_close(node.registration);
	node_kubelet_stop();
	tr_plugin_close(node.plugin);
	tr_rpc_server_close(node.pod_resources);
	tr_rpc_close(node.rpc);
	event_base_free(node.base);
	assert_int_equal(rmdir(node.dir), 0);
	return 0;
}

void node_turn(int flags)
{
	node.is_turning = true;
	event_base_loop(node.base, flags);
	node.is_turning = false;
}

bool node_until(const unsigned *value, unsigned at_least, unsigned ms)
{
	uint64_t end = tr_clock_ns() + ms * MS;

	while (*value < at_least && tr_clock_ns() < end) {
		node_turn(EVLOOP_NONBLOCK);
		tr_sleep_ns(200000);
	}
	return *value >= at_least;
}

void node_run_ms(unsigned ms)
{
	unsigned never = 0;

	(void)node_until(&never, 1, ms);
}

/* ---- the plugin ---- */

static void allocate(struct tr_rpc_call *call, const struct tr_ids *containers,
		     size_t count, void *arg)
{
	struct tr_injection all[TR_PLUGIN_CONTAINERS];

	(void)arg;
	node.allocations++;
	for (size_t i = 0; i < count; i++)
		all[i] = node.injection;
	assert_true(count == 0 || containers[0].count < 10000);
	assert_int_equal(tr_plugin_allocated(call, all, count), 0);
}

static void prefer(struct tr_rpc_call *call, const struct tr_preference *containers,
		   size_t count, void *arg)
{
	struct tr_ids chosen[TR_PLUGIN_CONTAINERS];

	(void)arg;
	node.preferences++;
	for (size_t i = 0; i < count; i++)
		chosen[i] = (struct tr_ids){ containers[i].available.ids,
					     containers[i].size };
	assert_int_equal(tr_plugin_preferred(call, chosen, count), 0);
}

static void prestart(struct tr_rpc_call *call, const struct tr_ids *ids, void *arg)
{
	(void)ids;
	(void)arg;
	node.prestarts++;
	if (node.refusal)
		tr_rpc_refuse(call, TR_RPC_FAILED_PRECONDITION, node.refusal);
	else
		assert_int_equal(tr_plugin_prestarted(call), 0);
}

void node_plugin_start(void)
{
	struct tr_plugin_actions actions = { .allocate = allocate,
					     .prefer = prefer,
					     .prestart = prestart };

	assert_int_equal(
		tr_plugin_open(node.rpc, node.plugin_socket, &actions, &node.plugin, NULL),
		0);
}

void node_offer(unsigned healthy, unsigned unhealthy)
{
	unsigned n = healthy + unhealthy;
	struct tr_plugin_device *devices = calloc(n + 1, sizeof(*devices));

	for (unsigned i = 0; i < n; i++) {
		snprintf(devices[i].id, TR_DEVICE_ID, "GPU-0-%u", i);
		devices[i].is_healthy = i < healthy;
		devices[i].numa_node = (int)(i % 3) - 1;
	}
	assert_int_equal(tr_plugin_offer(node.plugin, devices, n, NULL), 0);
	free(devices);
}

static void on_state(enum tr_kubelet_state state, const char *sentence, void *arg)
{
	(void)arg;
	node.state = (int)state;
	node.states++;
	snprintf(node.sentence, sizeof(node.sentence), "%s", sentence);
}

void node_register(void)
{
	struct tr_kubelet_options options = { .dir = node.dir,
					      .endpoint = "nvidia-gpu.sock",
					      .resource = "nvidia.com/gpu",
					      .on_state = on_state };

	assert_int_equal(tr_kubelet_open(node.rpc, node.base, node.plugin, &options,
					 &node.registration, NULL),
			 0);
}

/* ---- the kubelet ---- */

static void on_list(const ProtobufCMessage *message, void *arg)
{
	const V1beta1__ListAndWatchResponse *list = (const void *)message;

	(void)arg;
	node.lists++;
	node.devices = list->n_devices;
	node.healthy = node.with_numa = 0;
	for (size_t i = 0; i < list->n_devices; i++) {
		node.healthy += strcmp(list->devices[i]->health, "Healthy") == 0;
		node.with_numa += list->devices[i]->topology != NULL;
	}
	snprintf(node.first_id, 64, "%s", list->n_devices ? list->devices[0]->id : "");
}

static void on_list_end(const struct tr_rpc_end *end, void *arg)
{
	(void)end;
	(void)arg;
	node.listening = NULL;
}

void node_dial(void)
{
	V1beta1__Empty empty;
	struct tr_rpc_question question = {
		.method = "/v1beta1.DevicePlugin/ListAndWatch",
		.request = &empty.base,
		.reply = &v1beta1__list_and_watch_response__descriptor,
		.on_message = on_list,
		.on_end = on_list_end,
	};

	v1beta1__empty__init(&empty);
	if (!node.dialled)
		assert_int_equal(tr_rpc_channel_open(node.rpc, node.plugin_socket, &limits,
						     &node.dialled, NULL),
				 0);
	if (node.listening)
		tr_rpc_cancel(node.listening); /* it registered again */
	assert_int_equal(tr_rpc_ask(node.dialled, &question, &node.listening, NULL), 0);
}

static void on_register(struct tr_rpc_call *call, const ProtobufCMessage *request,
			void *arg)
{
	uint8_t copy[4096];
	size_t n = protobuf_c_message_pack(request, copy);
	V1beta1__Empty empty;

	(void)arg;
	v1beta1__empty__init(&empty);
	node.registered++;
	if (node.request)
		v1beta1__register_request__free_unpacked(node.request, NULL);
	node.request = v1beta1__register_request__unpack(NULL, n, copy);
	if (node.hangs) {
		node.hanging = call;
	} else if (node.refuses) {
		tr_rpc_refuse(call, TR_RPC_UNKNOWN, node.refuses);
	} else {
		if (!node.never_listens)
			node_dial();
		(void)tr_rpc_reply(call, &empty.base);
	}
}

static const struct tr_rpc_method kubelet_methods[] = {
	{ "/v1beta1.Registration/Register", &v1beta1__register_request__descriptor,
	  on_register, false },
};

static void empty_dir(void)
{
	DIR *dir = opendir(node.dir);
	struct dirent *e;
	char path[400];

	while (dir && (e = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", node.dir, e->d_name);
		if (e->d_name[0] != '.')
			unlink(path);
	}
	closedir(dir);
}

static struct tr_rpc_server *serve(const char *path, const struct tr_rpc_method *methods)
{
	struct tr_rpc_service service = { .path = path,
					  .mode = 0600,
					  .methods = methods,
					  .count = 1,
					  .limits = limits,
					  .calls_max = 1000 };
	struct tr_rpc_server *server;

	assert_int_equal(tr_rpc_server_open(node.rpc, &service, &server, NULL), 0);
	return server;
}

void node_kubelet_start(void)
{
	empty_dir();
	node.kubelet = serve(node.kubelet_socket, kubelet_methods);
}

void node_kubelet_stop(void)
{
	if (node.hanging)
		tr_rpc_refuse(node.hanging, TR_RPC_INTERNAL, "");
	node.hanging = NULL;
	if (node.listening)
		tr_rpc_cancel(node.listening);
	node.listening = NULL;
	tr_rpc_channel_close(node.dialled);
	node.dialled = NULL;
	tr_rpc_server_close(node.kubelet);
	node.kubelet = NULL;
	if (node.request)
		v1beta1__register_request__free_unpacked(node.request, NULL);
	node.request = NULL;
}

static void on_outcome(const struct tr_rpc_end *end, void *arg)
{
	struct outcome *out = arg;

	out->ends++;
	out->code = end->code;
	snprintf(out->sentence, sizeof(out->sentence), "%s", end->sentence);
	if (end->reply && out->look)
		out->look(end->reply);
}

void node_call(const char *method, const ProtobufCMessage *request,
	       const ProtobufCMessageDescriptor *reply, struct outcome *out)
{
	char full[80];
	struct tr_rpc_question question = { .method = full,
					    .request = request,
					    .reply = reply,
					    .deadline_ms = NODE_SOON_MS,
					    .on_end = on_outcome,
					    .arg = out };

	snprintf(full, sizeof(full), "/v1beta1.DevicePlugin/%s", method);
	out->ends = 0;
	assert_int_equal(tr_rpc_ask(node.dialled, &question, NULL, NULL), 0);
}

/* ---- PodResources: two pods, one device an entry, as the kubelet writes them ---- */

static void reply_pods(struct tr_rpc_call *call)
{
	static char gpu[] = "nvidia.com/gpu", other[] = "example.com/nic", ns[] = "default",
		    pod[] = "train", app[] = "app", side[] = "side", id0[] = "GPU-0-0",
		    id1[] = "GPU-0-1", nic[] = "nic-0";
	char *ids[] = { id0, nic, id1 }, *resources[] = { gpu, other, gpu };
	V1__ContainerDevices devices[3], *device_list[3];
	V1__ContainerResources containers[2],
		*container_list[2] = { &containers[0], &containers[1] };
	V1__PodResources one, *pods[1] = { &one };
	V1__ListPodResourcesResponse response;

	for (unsigned i = 0; i < 3; i++) {
		v1__container_devices__init(&devices[i]);
		devices[i].resource_name = resources[i];
		devices[i].device_ids = &ids[i];
		devices[i].n_device_ids = 1;
		device_list[i] = &devices[i];
	}
	v1__container_resources__init(&containers[0]);
	containers[0].name = side;
	v1__container_resources__init(&containers[1]);
	containers[1].name = app;
	containers[1].devices = device_list;
	containers[1].n_devices = 3;
	v1__pod_resources__init(&one);
	one.name = pod;
	one.namespace_ = ns;
	one.containers = container_list;
	one.n_containers = 2;
	v1__list_pod_resources_response__init(&response);
	response.pod_resources = pods;
	response.n_pod_resources = 1;
	(void)tr_rpc_reply(call, &response.base);
}

static void on_pods_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	reply_pods(arg);
}

static void on_pods(struct tr_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
	struct timeval wait = { .tv_sec = node.list_delay_ms / 1000,
				.tv_usec = node.list_delay_ms % 1000 * 1000L };

	(void)request;
	(void)arg;
	node.pod_lists++;
	if (node.exhausted) {
		node.exhausted--;
		tr_rpc_refuse(call, TR_RPC_RESOURCE_EXHAUSTED, "rejected by rate limit");
	} else {
		assert_int_equal(event_base_once(node.base, -1, EV_TIMEOUT, on_pods_time,
						 call, &wait),
				 0);
	}
}

static const struct tr_rpc_method pods_methods[] = {
	{ "/v1.PodResourcesLister/List", &v1__list_pod_resources_request__descriptor,
	  on_pods, false },
};

void node_pods_start(void)
{
	node.pod_resources = serve(node.pods_socket, pods_methods);
}
