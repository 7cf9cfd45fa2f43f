/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/plugin.h"

#include <errno.h>
#include <stdlib.h>

#include "proto/deviceplugin.pb-c.h"

/* The kubelet has one, and for a moment two while it reconnects. */
#define STREAMS_MAX 8u
/* Three times what 200 pods that start at once can have. */
#define CALLS_MAX 1024
/* The kubelet gives PreStartContainer 30 s and the others less than a minute. */
#define UNARY_MS 120000
#define IDLE_MS  60000

static const struct tr_rpc_limits limits = { .receive_bytes = 4u << 20,
					     .send_bytes = 4u << 20,
					     .decoded_bytes = 32u << 20 };

struct stream {
	struct tr_plugin *plugin;
	struct tr_rpc_call *call;
	bool is_stale; /* the list changed since the last message */
	struct stream *next;
};

struct tr_plugin {
	struct tr_rpc_server *server;
	struct tr_plugin_actions actions;
	struct tr_device_set set;
	struct stream *streams;
	unsigned stream_count;
};

static void on_options(struct tr_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
	const struct tr_plugin *plugin = arg;
	V1beta1__DevicePluginOptions options;

	(void)request;
	v1beta1__device_plugin_options__init(&options);
	options.pre_start_required = plugin->actions.prestart != NULL;
	options.get_preferred_allocation_available = plugin->actions.prefer != NULL;
	(void)tr_rpc_reply(call, &options.base);
}

/* All that one message about the devices consists of. */
struct list {
	V1beta1__ListAndWatchResponse message;
	V1beta1__Device *devices, **device_list;
	V1beta1__TopologyInfo *topologies;
	V1beta1__NUMANode *nodes, **node_list;
};

static void free_list(struct list *list)
{
	free(list->devices);
	free(list->device_list);
	free(list->topologies);
	free(list->nodes);
	free(list->node_list);
}

static void fill_device(struct list *list, size_t i, const struct tr_plugin_device *from)
{
	static char healthy[] = "Healthy", unhealthy[] = "Unhealthy";
	V1beta1__Device *device = &list->devices[i];

	v1beta1__device__init(device);
	device->id = (char *)(uintptr_t)from->id;
	device->health = from->is_healthy ? healthy : unhealthy;
	list->device_list[i] = device;
	if (from->numa_node < 0)
		return;
	v1beta1__numanode__init(&list->nodes[i]);
	list->nodes[i].id = from->numa_node;
	list->node_list[i] = &list->nodes[i];
	v1beta1__topology_info__init(&list->topologies[i]);
	list->topologies[i].nodes = &list->node_list[i];
	list->topologies[i].n_nodes = 1;
	device->topology = &list->topologies[i];
}

static bool make_list(const struct tr_device_set *set, struct list *list)
{
	size_t n = set->count + 1;

	list->devices = calloc(n, sizeof(*list->devices));
	list->device_list = calloc(n, sizeof(void *));
	list->topologies = calloc(n, sizeof(*list->topologies));
	list->nodes = calloc(n, sizeof(*list->nodes));
	list->node_list = calloc(n, sizeof(void *));
	if (!list->devices || !list->device_list || !list->topologies || !list->nodes ||
	    !list->node_list)
		return false;
	for (size_t i = 0; i < set->count; i++)
		fill_device(list, i, &set->devices[i]);
	v1beta1__list_and_watch_response__init(&list->message);
	list->message.devices = list->device_list;
	list->message.n_devices = set->count;
	return true;
}

/* Stays stale when a message is on its way; on_room comes back. */
static void send_list(struct stream *stream)
{
	struct list list = { 0 };

	if (stream->is_stale && make_list(&stream->plugin->set, &list))
		stream->is_stale = tr_rpc_send(stream->call, &list.message.base) == -EAGAIN;
	free_list(&list);
}

static void on_room(void *arg)
{
	send_list(arg);
}

static void on_gone(void *arg)
{
	struct stream *stream = arg;
	struct stream **link = &stream->plugin->streams;

	while (*link != stream)
		link = &(*link)->next;
	*link = stream->next;
	stream->plugin->stream_count--;
	tr_rpc_finish(stream->call);
	free(stream);
}

static void on_watch(struct tr_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
	struct tr_plugin *plugin = arg;
	struct stream *stream;

	(void)request;
	if (plugin->stream_count >= STREAMS_MAX) {
		tr_rpc_refuse(call, TR_RPC_RESOURCE_EXHAUSTED, "too many streams");
		return;
	}
	stream = calloc(1, sizeof(*stream));
	if (!stream) {
		tr_rpc_refuse(call, TR_RPC_RESOURCE_EXHAUSTED, "no memory");
		return;
	}
	*stream = (struct stream){
		.plugin = plugin, .call = call, .is_stale = true, .next = plugin->streams
	};
	plugin->streams = stream;
	plugin->stream_count++;
	if (tr_rpc_watch(call, on_gone, on_room, stream) < 0)
		on_gone(stream);
	else
		send_list(stream);
}

/* protobuf-c's strings are never NULL; only const is missing. */
static struct tr_ids ids_of(char **ids, size_t count)
{
	return (struct tr_ids){ .ids = (const char *const *)ids, .count = count };
}

static int look_at(struct tr_plugin *plugin, const struct tr_ids *ids, struct tr_err *err)
{
	return tr_device_look_at(&plugin->set, ids->ids, ids->count, err);
}

static void refuse(const struct tr_plugin *plugin, struct tr_rpc_call *call,
		   const char *method, const struct tr_ids *ids, const struct tr_err *err)
{
	if (plugin->actions.refused)
		plugin->actions.refused(method, ids, err->msg, plugin->actions.arg);
	tr_rpc_refuse(call, TR_RPC_INVALID_ARGUMENT, err->msg);
}

static void on_allocate(struct tr_rpc_call *call, const ProtobufCMessage *request,
			void *arg)
{
	const V1beta1__AllocateRequest *asked = (const void *)request;
	size_t count = asked->n_container_requests, n = 0;
	struct tr_ids containers[TR_PLUGIN_CONTAINERS];
	struct tr_plugin *plugin = arg;
	struct tr_err err = { 0 };
	int r = 0;

	tr_device_look_begin(&plugin->set);
	while (r == 0 && n < count && n < TR_PLUGIN_CONTAINERS) {
		containers[n] = ids_of(asked->container_requests[n]->devices_ids,
				       asked->container_requests[n]->n_devices_ids);
		r = look_at(plugin, &containers[n++], &err);
	}
	if (r == 0 && n < count)
		r = tr_fail(&err, E2BIG, "too many containers in one request");
	if (r < 0)
		refuse(plugin, call, "Allocate", &containers[n - 1], &err);
	else
		plugin->actions.allocate(call, containers, count, plugin->actions.arg);
}

static int read_preference(struct tr_plugin *plugin,
			   const V1beta1__ContainerPreferredAllocationRequest *from,
			   struct tr_preference *to, struct tr_err *err)
{
	int r;

	to->available = ids_of(from->available_deviceids, from->n_available_deviceids);
	to->needed = ids_of(from->must_include_deviceids, from->n_must_include_deviceids);
	tr_device_look_begin(&plugin->set);
	r = look_at(plugin, &to->available, err);
	if (r < 0)
		return r;
	/* A second look: those of the first are to be met again. */
	tr_device_look_begin(&plugin->set);
	r = look_at(plugin, &to->needed, err);
	if (r < 0)
		return r;
	if (from->allocation_size < 0 || (size_t)from->allocation_size < to->needed.count ||
	    (size_t)from->allocation_size > to->available.count)
		return tr_fail(err, EINVAL, "%d devices of %zu, %zu of them given",
			       from->allocation_size, to->available.count,
			       to->needed.count);
	to->size = (size_t)from->allocation_size;
	return 0;
}

static void on_prefer(struct tr_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
	const V1beta1__PreferredAllocationRequest *asked = (const void *)request;
	struct tr_preference containers[TR_PLUGIN_CONTAINERS];
	size_t count = asked->n_container_requests, n = 0;
	struct tr_plugin *plugin = arg;
	struct tr_err err = { 0 };
	int r = 0;

	if (!plugin->actions.prefer) {
		tr_rpc_refuse(call, TR_RPC_UNIMPLEMENTED, "not offered");
		return;
	}
	for (; r == 0 && n < count && n < TR_PLUGIN_CONTAINERS; n++)
		r = read_preference(plugin, asked->container_requests[n], &containers[n],
				    &err);
	if (r == 0 && n < count)
		r = tr_fail(&err, E2BIG, "too many containers in one request");
	if (r < 0)
		refuse(plugin, call, "GetPreferredAllocation", &containers[n - 1].available,
		       &err);
	else
		plugin->actions.prefer(call, containers, count, plugin->actions.arg);
}

static void on_prestart(struct tr_rpc_call *call, const ProtobufCMessage *request,
			void *arg)
{
	const V1beta1__PreStartContainerRequest *asked = (const void *)request;
	struct tr_ids ids = ids_of(asked->devices_ids, asked->n_devices_ids);
	struct tr_plugin *plugin = arg;
	struct tr_err err = { 0 };

	tr_device_look_begin(&plugin->set);
	if (!plugin->actions.prestart)
		(void)tr_plugin_prestarted(call);
	else if (look_at(plugin, &ids, &err) < 0)
		refuse(plugin, call, "PreStartContainer", &ids, &err);
	else
		plugin->actions.prestart(call, &ids, plugin->actions.arg);
}

#define SERVICE "/v1beta1.DevicePlugin/"
static const struct tr_rpc_method methods[] = {
	{ SERVICE "GetDevicePluginOptions", &v1beta1__empty__descriptor, on_options,
	  false },
	{ SERVICE "ListAndWatch", &v1beta1__empty__descriptor, on_watch, true },
	{ SERVICE "GetPreferredAllocation",
	  &v1beta1__preferred_allocation_request__descriptor, on_prefer, false },
	{ SERVICE "Allocate", &v1beta1__allocate_request__descriptor, on_allocate, false },
	{ SERVICE "PreStartContainer", &v1beta1__pre_start_container_request__descriptor,
	  on_prestart, false },
};

static void on_answer(const char *method, enum tr_rpc_code code, uint64_t ns, void *arg)
{
	const struct tr_plugin *plugin = arg;

	if (plugin->actions.answered)
		plugin->actions.answered(method + sizeof(SERVICE) - 1, code, ns,
					 plugin->actions.arg);
}

int tr_plugin_open(struct tr_rpc *rpc, const char *path,
		   const struct tr_plugin_actions *actions, struct tr_plugin **out,
		   struct tr_err *err)
{
	struct tr_plugin *plugin = calloc(1, sizeof(*plugin));
	struct tr_rpc_service service = {
		.path = path,
		.mode = 0600,
		.methods = methods,
		.count = sizeof(methods) / sizeof(*methods),
		.arg = plugin,
		.on_answer = on_answer,
		.limits = limits,
		.calls_max = CALLS_MAX,
		.unary_ms = UNARY_MS,
		.idle_ms = IDLE_MS,
	};
	int r;

	if (!plugin)
		return tr_fail(err, ENOMEM, "no memory for a device plugin");
	plugin->actions = *actions;
	r = tr_rpc_server_open(rpc, &service, &plugin->server, err);
	if (r < 0) {
		free(plugin);
		return r;
	}
	*out = plugin;
	return 0;
}

void tr_plugin_close(struct tr_plugin *plugin)
{
	if (!plugin)
		return;
	tr_rpc_server_close(plugin->server);
	tr_device_set_free(&plugin->set);
	free(plugin);
}

int tr_plugin_offer(struct tr_plugin *plugin, const struct tr_plugin_device *devices,
		    size_t count, struct tr_err *err)
{
	int r = tr_device_set_fill(&plugin->set, devices, count, err);

	for (struct stream *s = plugin->streams; r > 0 && s; s = s->next) {
		s->is_stale = true;
		send_list(s);
	}
	return r < 0 ? r : 0;
}

unsigned tr_plugin_streams(const struct tr_plugin *plugin)
{
	return plugin->stream_count;
}

const struct tr_plugin_actions *tr_plugin_actions(const struct tr_plugin *plugin)
{
	return &plugin->actions;
}

bool tr_plugin_is_reachable(const struct tr_plugin *plugin)
{
	return tr_rpc_server_is_reachable(plugin->server);
}

int tr_plugin_listen(struct tr_plugin *plugin, struct tr_err *err)
{
	return tr_rpc_server_listen(plugin->server, err);
}
