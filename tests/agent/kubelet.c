/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kubelet DIR PODS_SOCKET RESOURCE: a kubelet's side of the device plugin, for tests that drive it. In
 * DIR it serves registration and dials who registers, at PODS_SOCKET it serves PodResources. What
 * happens is told on standard output, one JSON object a line:
 *
 *   {"event": "registered", "endpoint": ..., "options": {...}}
 *   {"event": "devices", "devices": [{"ID": ..., "health": ...}, ...]}
 *   {"id": N, "us": ..., "code": gRPC's, "says": sentence, "reply": {...}}        of a call
 *
 * and what to do comes from standard input: {"id": N, "do": "Allocate" | "PreStartContainer" |
 * "GetPreferredAllocation", "ids": [...]}, {"do": "rows", "rows": [{"namespace": ..., "pod": ...,
 * "container": ..., "ids": [...]}]}: what PodResources answers from now on; {"do": "restart"}: as a
 * kubelet that starts, DIR is emptied and the socket made anew; {"do": "leave"}: as one that has ended,
 * until {"do": "come"}. Ends with its input.
 */
#include <dirent.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/deviceplugin.pb-c.h"
#include "proto/podresources.pb-c.h"
#include "rpc/rpc.h"
#include "rt/file.h"

#define CHECKPOINT "kubelet_internal_checkpoint" /* outlives it */

static const struct tr_rpc_limits limits = { 16u << 20, 16u << 20, 256u << 20 };
static const char *dir, *pods_path, *resource;
static struct event_base *base;
static struct tr_rpc *rpc;
static struct tr_rpc_server *registration, *pod_resources;
static struct tr_rpc_channel *plugin;
static struct tr_rpc_ask *listening;
static json_t *rows;

static void must(int r, const struct tr_err *err)
{
	if (r >= 0)
		return;
	fprintf(stderr, "kubelet: %s\n", err->msg);
	exit(1);
}

static void say(json_t *line)
{
	json_dumpf(line, stdout, JSON_COMPACT);
	puts("");
	fflush(stdout);
	json_decref(line);
}

/* ---- messages as JSON: texts, bools, whole numbers and messages ---- */

static json_t *message_json(const ProtobufCMessage *message);

static json_t *value_json(const ProtobufCFieldDescriptor *field, const void *at)
{
	switch ((int)field->type) {
	case PROTOBUF_C_TYPE_STRING:
		return json_string(*(char *const *)at);
	case PROTOBUF_C_TYPE_BOOL:
		return json_boolean(*(const protobuf_c_boolean *)at);
	case PROTOBUF_C_TYPE_INT64:
		return json_integer(*(const int64_t *)at);
	case PROTOBUF_C_TYPE_MESSAGE:
		return *(ProtobufCMessage *const *)at
			       ? message_json(*(ProtobufCMessage *const *)at)
			       : json_null();
	default:
		return json_integer(*(const int32_t *)at);
	}
}

static size_t size_of(const ProtobufCFieldDescriptor *field)
{
	switch ((int)field->type) {
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_ENUM:
		return sizeof(int32_t);
	default:
		return sizeof(void *);
	}
}

static json_t *message_json(const ProtobufCMessage *message)
{
	const ProtobufCMessageDescriptor *type = message->descriptor;
	json_t *out = json_object();

	for (unsigned f = 0; f < type->n_fields; f++) {
		const ProtobufCFieldDescriptor *field = &type->fields[f];
		const char *at = (const char *)message + field->offset;
		json_t *value;

		if (field->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t n =
				*(const size_t *)(const void *)((const char *)message +
								field->quantifier_offset);

			value = json_array();
			for (size_t i = 0; i < n; i++)
				json_array_append_new(
					value,
					value_json(field, *(char *const *)(const void *)at +
								  i * size_of(field)));
		} else {
			value = value_json(field, at);
		}
		json_object_set_new(out, field->name, value);
	}
	return out;
}

/* ---- the plugin, as the kubelet sees it ---- */

static void on_list(const ProtobufCMessage *message, void *arg)
{
	json_t *line = message_json(message);

	(void)arg;
	json_object_set_new(line, "event", json_string("devices"));
	say(line);
}

static void on_list_end(const struct tr_rpc_end *end, void *arg)
{
	(void)end;
	(void)arg;
	listening = NULL;
}

static void hang_up(void)
{
	if (listening)
		tr_rpc_cancel(listening);
	listening = NULL;
	tr_rpc_channel_close(plugin);
	plugin = NULL;
}

static void dial(const char *endpoint)
{
	V1beta1__Empty empty = V1BETA1__EMPTY__INIT;
	const struct tr_rpc_question question = {
		.method = "/v1beta1.DevicePlugin/ListAndWatch",
		.request = &empty.base,
		.reply = &v1beta1__list_and_watch_response__descriptor,
		.on_message = on_list,
		.on_end = on_list_end,
	};
	char path[400];
	struct tr_err err = { 0 };

	if (listening)
		tr_rpc_cancel(listening); /* it registered again */
	snprintf(path, sizeof(path), "%s/%s", dir, endpoint);
	if (!plugin)
		must(tr_rpc_channel_open(rpc, path, &limits, &plugin, &err), &err);
	must(tr_rpc_ask(plugin, &question, &listening, &err), &err);
}

static void on_register(struct tr_rpc_call *call, const ProtobufCMessage *request,
			void *arg)
{
	V1beta1__Empty empty = V1BETA1__EMPTY__INIT;
	json_t *line = message_json(request);

	(void)arg;
	dial(json_string_value(json_object_get(line, "endpoint")));
	json_object_set_new(line, "event", json_string("registered"));
	say(line);
	(void)tr_rpc_reply(call, &empty.base);
}

/* ---- calls ---- */

struct asked {
	json_int_t id;
	uint64_t since_ns;
};

static void on_answer(const struct tr_rpc_end *end, void *arg)
{
	struct asked *asked = arg;

	say(json_pack("{s:I, s:I, s:i, s:s, s:o}", "id", asked->id, "us",
		      (json_int_t)((tr_clock_ns() - asked->since_ns) / 1000), "code",
		      (int)end->code, "says", end->sentence, "reply",
		      end->reply ? message_json(end->reply) : json_null()));
	free(asked);
}

static void call(const char *name, const ProtobufCMessage *request,
		 const ProtobufCMessageDescriptor *reply, json_int_t id)
{
	struct asked *asked = calloc(1, sizeof(*asked));
	char method[80];
	const struct tr_rpc_question question = { .method = method,
						  .request = request,
						  .reply = reply,
						  .deadline_ms = 30000,
						  .on_end = on_answer,
						  .arg = asked };
	struct tr_err err = { 0 };

	*asked = (struct asked){ id, tr_clock_ns() };
	snprintf(method, sizeof(method), "/v1beta1.DevicePlugin/%s", name);
	if (plugin) {
		must(tr_rpc_ask(plugin, &question, NULL, &err), &err);
		return;
	}
	say(json_pack("{s:I, s:i, s:s, s:n}", "id", id, "code", TR_RPC_UNAVAILABLE, "says",
		      "no plugin is registered", "reply"));
	free(asked);
}

static char **texts(const json_t *array, size_t *n)
{
	char **out = calloc(json_array_size(array) + 1, sizeof(*out));

	*n = json_array_size(array);
	for (size_t i = 0; i < *n; i++)
		out[i] = strdup(json_string_value(json_array_get(array, i)));
	return out;
}

static void free_texts(char **at, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(at[i]);
	free(at);
}

static void allocate(json_int_t id, char **ids, size_t n)
{
	V1beta1__ContainerAllocateRequest one = V1BETA1__CONTAINER_ALLOCATE_REQUEST__INIT;
	V1beta1__ContainerAllocateRequest *all[] = { &one };
	V1beta1__AllocateRequest request = V1BETA1__ALLOCATE_REQUEST__INIT;

	one.devices_ids = ids;
	one.n_devices_ids = n;
	request.container_requests = all;
	request.n_container_requests = 1;
	call("Allocate", &request.base, &v1beta1__allocate_response__descriptor, id);
}

static void prestart(json_int_t id, char **ids, size_t n)
{
	V1beta1__PreStartContainerRequest request =
		V1BETA1__PRE_START_CONTAINER_REQUEST__INIT;

	request.devices_ids = ids;
	request.n_devices_ids = n;
	call("PreStartContainer", &request.base,
	     &v1beta1__pre_start_container_response__descriptor, id);
}

/* One of IDS. */
static void prefer(json_int_t id, char **ids, size_t n)
{
	V1beta1__ContainerPreferredAllocationRequest one =
		V1BETA1__CONTAINER_PREFERRED_ALLOCATION_REQUEST__INIT;
	V1beta1__ContainerPreferredAllocationRequest *all[] = { &one };
	V1beta1__PreferredAllocationRequest request =
		V1BETA1__PREFERRED_ALLOCATION_REQUEST__INIT;

	one.available_deviceids = ids;
	one.n_available_deviceids = n;
	one.allocation_size = 1;
	request.container_requests = all;
	request.n_container_requests = 1;
	call("GetPreferredAllocation", &request.base,
	     &v1beta1__preferred_allocation_response__descriptor, id);
}

/* ---- PodResources ---- */

/* One row is a pod with one container, as far as a reader of rows can tell. */
static void reply_row(const json_t *row, V1__PodResources *pod)
{
	V1__ContainerResources *container = calloc(1, sizeof(*container));
	V1__ContainerDevices *devices = calloc(1, sizeof(*devices));

	v1__pod_resources__init(pod);
	v1__container_resources__init(container);
	v1__container_devices__init(devices);
	pod->namespace_ = strdup(json_string_value(json_object_get(row, "namespace")));
	pod->name = strdup(json_string_value(json_object_get(row, "pod")));
	pod->containers = calloc(1, sizeof(container));
	pod->containers[0] = container;
	pod->n_containers = 1;
	container->name = strdup(json_string_value(json_object_get(row, "container")));
	container->devices = calloc(1, sizeof(devices));
	container->devices[0] = devices;
	container->n_devices = 1;
	devices->resource_name = strdup(resource);
	devices->device_ids = texts(json_object_get(row, "ids"), &devices->n_device_ids);
}

static void on_pods(struct tr_rpc_call *rpc_call, const ProtobufCMessage *request,
		    void *arg)
{
	V1__ListPodResourcesResponse *reply = calloc(1, sizeof(*reply));

	(void)request;
	(void)arg;
	v1__list_pod_resources_response__init(reply);
	reply->n_pod_resources = json_array_size(rows);
	reply->pod_resources = calloc(reply->n_pod_resources + 1, sizeof(void *));
	for (size_t i = 0; i < reply->n_pod_resources; i++) {
		reply->pod_resources[i] = calloc(1, sizeof(V1__PodResources));
		reply_row(json_array_get(rows, i), reply->pod_resources[i]);
	}
	(void)tr_rpc_reply(rpc_call, &reply->base);
	v1__list_pod_resources_response__free_unpacked(reply, NULL);
}

/* ---- its servers ---- */

static const struct tr_rpc_method registration_methods[] = {
	{ "/v1beta1.Registration/Register", &v1beta1__register_request__descriptor,
	  on_register, false },
};
static const struct tr_rpc_method pods_methods[] = {
	{ "/v1.PodResourcesLister/List", &v1__list_pod_resources_request__descriptor,
	  on_pods, false },
};

static struct tr_rpc_server *serve(const char *path, const struct tr_rpc_method *methods)
{
	const struct tr_rpc_service service = { .path = path,
						.mode = 0600,
						.methods = methods,
						.count = 1,
						.limits = limits,
						.calls_max = 1000 };
	struct tr_rpc_server *server = NULL;
	struct tr_err err = { 0 };

	must(tr_rpc_server_open(rpc, &service, &server, &err), &err);
	return server;
}

static void start(void)
{
	static char path[400];
	DIR *all = opendir(dir);
	struct dirent *e;

	while (all && (e = readdir(all)))
		if (e->d_name[0] != '.' && strcmp(e->d_name, CHECKPOINT) != 0) {
			snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
			unlink(path);
		}
	if (all)
		closedir(all);
	snprintf(path, sizeof(path), "%s/kubelet.sock", dir);
	registration = serve(path, registration_methods);
	if (!pod_resources)
		pod_resources = serve(pods_path, pods_methods);
}

static void leave(bool with_pods)
{
	hang_up();
	tr_rpc_server_close(registration);
	registration = NULL;
	if (with_pods) {
		tr_rpc_server_close(pod_resources);
		pod_resources = NULL;
	}
}

/* ---- what it is told to do ---- */

static void obey(const json_t *line)
{
	const char *what = json_string_value(json_object_get(line, "do"));
	json_int_t id = json_integer_value(json_object_get(line, "id"));
	size_t n;
	char **ids = texts(json_object_get(line, "ids"), &n);

	if (!what)
		fprintf(stderr, "kubelet: what?\n");
	else if (strcmp(what, "Allocate") == 0)
		allocate(id, ids, n);
	else if (strcmp(what, "GetPreferredAllocation") == 0)
		prefer(id, ids, n);
	else if (strcmp(what, "PreStartContainer") == 0)
		prestart(id, ids, n);
	else if (strcmp(what, "rows") == 0) {
		json_decref(rows);
		rows = json_incref(json_object_get(line, "rows"));
	} else if (strcmp(what, "restart") == 0) {
		leave(false);
		start();
	} else if (strcmp(what, "leave") == 0) {
		leave(true);
	} else if (strcmp(what, "come") == 0) {
		start();
	}
	free_texts(ids, n);
}

static void on_input(struct bufferevent *stream, void *arg)
{
	struct evbuffer *in = bufferevent_get_input(stream);
	char *line;

	(void)arg;
	while ((line = evbuffer_readln(in, NULL, EVBUFFER_EOL_LF))) {
		json_t *json = json_loads(line, 0, NULL);

		obey(json);
		json_decref(json);
		free(line);
	}
}

static void on_input_end(struct bufferevent *stream, short what, void *arg)
{
	(void)stream;
	(void)what;
	(void)arg;
	event_base_loopbreak(base);
}

int main(int argc, char **argv)
{
	struct bufferevent *input;
	struct tr_err err = { 0 };

	if (argc != 4)
		return 2;
	dir = argv[1];
	resource = argv[3];
	signal(SIGPIPE, SIG_IGN);
	rows = json_array();
	base = event_base_new();
	must(tr_rpc_open(base, &rpc, &err), &err);
	pods_path = argv[2];
	start();
	input = bufferevent_socket_new(base, STDIN_FILENO, 0);
	bufferevent_setcb(input, on_input, NULL, on_input_end, NULL);
	bufferevent_enable(input, EV_READ);
	event_base_dispatch(base);
	bufferevent_free(input);
	hang_up();
	tr_rpc_server_close(registration);
	tr_rpc_server_close(pod_resources);
	tr_rpc_close(rpc);
	event_base_free(base);
	json_decref(rows);
	return 0;
}
