/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server: connections from the listener go to gRPC, calls come back through the completion
 * queue. ARRIVALS requests for a call are always open; each is opened again before the call it
 * brought is looked at.
 */
#include "rpc/server.h"

#include <errno.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/file.h"

#define ARRIVALS        256
#define STREAMS_MAX     1024 /* calls of one connection */
#define METADATA_MAX    8192
#define WATCH_PERIOD_US 250000

struct arrival {
	struct tr_rpc_event event;
	struct tr_rpc_server *server;
	grpc_call *core;
	grpc_call_details details;
	grpc_metadata_array metadata;
};

struct tr_rpc_server {
	struct tr_rpc *rpc;
	struct tr_rpc_service service;
	grpc_server *core;
	grpc_server_credentials *credentials;
	struct tr_listener listener;
	struct event *on_clock; /* looks for calls past unary_ms */
	struct tr_rpc_call *calls;
	unsigned live;
	bool is_closing;
	struct tr_rpc_event shut;
	unsigned waiting; /* arrivals that are with gRPC, and the shutdown */
	struct arrival arrivals[ARRIVALS];
};

static const struct tr_rpc_method *find_method(const struct tr_rpc_service *service,
					       grpc_slice name)
{
	for (size_t i = 0; i < service->count; i++)
		if (grpc_slice_str_cmp(name, service->methods[i].name) == 0)
			return &service->methods[i];
	return NULL;
}

static void take_call(struct tr_rpc_server *server, const struct arrival *arrival)
{
	const struct tr_rpc_method *method = find_method(&server->service,
							 arrival->details.method);
	struct tr_rpc_call *call = tr_rpc_call_new(arrival->core, method, &server->service);

	if (!call)
		return; /* its peer sees it cancelled */
	tr_rpc_call_link(call, &server->calls, &server->live);
	if (server->live > server->service.calls_max)
		tr_rpc_refuse(call, TR_RPC_RESOURCE_EXHAUSTED, "too many calls at once");
	else if (!method)
		tr_rpc_refuse(call, TR_RPC_UNIMPLEMENTED, "unknown method");
	else
		tr_rpc_call_read(call);
}

static void open_arrival(struct arrival *arrival)
{
	struct tr_rpc_server *server = arrival->server;
	grpc_completion_queue *queue = tr_rpc_queue(server->rpc);

	grpc_call_details_init(&arrival->details);
	grpc_metadata_array_init(&arrival->metadata);
	if (grpc_server_request_call(server->core, &arrival->core, &arrival->details,
				     &arrival->metadata, queue, queue,
				     &arrival->event) == GRPC_CALL_OK)
		server->waiting++;
}

static void on_arrival(struct tr_rpc_event *event)
{
	struct arrival *arrival = TR_RPC_OWNER(event, struct arrival, event);
	struct tr_rpc_server *server = arrival->server;
	struct arrival brought = *arrival;

	server->waiting--;
	if (event->ok && !server->is_closing) {
		open_arrival(arrival);
		take_call(server, &brought);
	} else if (event->ok) { /* came before the end, and is too late */
		grpc_call_unref(brought.core);
	}
	grpc_call_details_destroy(&brought.details);
	grpc_metadata_array_destroy(&brought.metadata);
}

static void on_connection(int fd, void *arg)
{
	struct tr_rpc_server *server = arg;

	grpc_server_add_channel_from_fd(server->core, fd, server->credentials);
}

static void on_clock(evutil_socket_t fd, short what, void *arg)
{
	struct tr_rpc_server *server = arg;
	uint64_t oldest = tr_clock_ns() - (uint64_t)server->service.unary_ms * 1000000u;

	(void)fd;
	(void)what;
	tr_rpc_calls_expire(server->calls, oldest);
}

static int start_clock(struct tr_rpc_server *server)
{
	struct timeval period = { .tv_usec = WATCH_PERIOD_US };

	if (!server->service.unary_ms)
		return 0;
	server->on_clock = event_new(tr_rpc_base(server->rpc), -1, EV_PERSIST, on_clock,
				     server);
	return server->on_clock && event_add(server->on_clock, &period) == 0 ? 0 : -ENOMEM;
}

static grpc_arg number(const char *key, long long value)
{
	int clamped = value > INT32_MAX ? INT32_MAX : (int)value;

	return (grpc_arg){ .type = GRPC_ARG_INTEGER,
			   .key = (char *)(uintptr_t)key,
			   .value.integer = clamped };
}

static grpc_server *make_core(const struct tr_rpc_service *service)
{
	grpc_arg args[] = {
		number(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
		       (long long)service->limits.receive_bytes),
		number(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH,
		       (long long)service->limits.send_bytes),
		number(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
		number(GRPC_ARG_MAX_CONCURRENT_STREAMS, STREAMS_MAX),
		number(GRPC_ARG_MAX_METADATA_SIZE, METADATA_MAX),
		number(GRPC_ARG_ENABLE_CHANNELZ, 0),
		number(GRPC_ARG_MAX_CONNECTION_IDLE_MS, service->idle_ms),
	};
	size_t n = sizeof(args) / sizeof(*args);
	/* The last one is left out without a limit. */
	grpc_channel_args all = { .num_args = service->idle_ms ? n : n - 1, .args = args };

	return grpc_server_create(&all, NULL);
}

static void start_core(struct tr_rpc_server *server)
{
	server->core = make_core(&server->service);
	server->credentials = grpc_insecure_server_credentials_create();
	grpc_server_register_completion_queue(server->core, tr_rpc_queue(server->rpc),
					      NULL);
	grpc_server_start(server->core);
	for (unsigned i = 0; i < ARRIVALS; i++) {
		server->arrivals[i].server = server;
		server->arrivals[i].event.done = on_arrival;
		open_arrival(&server->arrivals[i]);
	}
}

static void stop_listening(struct tr_rpc_server *server)
{
	tr_listener_close(&server->listener);
	if (server->on_clock)
		event_free(server->on_clock);
}

int tr_rpc_server_open(struct tr_rpc *rpc, const struct tr_rpc_service *service,
		       struct tr_rpc_server **out, struct tr_err *err)
{
	struct tr_rpc_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return tr_fail(err, ENOMEM, "no memory for a server");
	server->rpc = rpc;
	server->service = *service;
	r = tr_listener_init(&server->listener, tr_rpc_base(rpc), service->path,
			     service->mode, on_connection, server, err);
	if (r == 0)
		r = start_clock(server);
	if (r == 0)
		r = tr_listener_open(&server->listener, err);
	if (r < 0) {
		stop_listening(server);
		free(server);
		return r;
	}
	start_core(server);
	*out = server;
	return 0;
}

bool tr_rpc_server_is_reachable(const struct tr_rpc_server *server)
{
	return tr_listener_is_reachable(&server->listener);
}

int tr_rpc_server_listen(struct tr_rpc_server *server, struct tr_err *err)
{
	return tr_listener_open(&server->listener, err);
}

static void on_shut(struct tr_rpc_event *event)
{
	struct tr_rpc_server *server = TR_RPC_OWNER(event, struct tr_rpc_server, shut);

	server->waiting--;
}

void tr_rpc_server_close(struct tr_rpc_server *server)
{
	if (!server)
		return;
	server->is_closing = true;
	stop_listening(server);
	server->shut.done = on_shut;
	server->waiting++;
	grpc_server_shutdown_and_notify(server->core, tr_rpc_queue(server->rpc),
					&server->shut);
	grpc_server_cancel_all_calls(server->core);
	tr_rpc_calls_leave(server->calls);
	tr_rpc_pump(server->rpc, &server->waiting, 0);
	tr_rpc_calls_orphan(&server->calls);
	grpc_server_destroy(server->core);
	grpc_server_credentials_release(server->credentials);
	free(server);
}
