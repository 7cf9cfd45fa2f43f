/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/file.h"
#include "tr_test.h"

#define TEN_SECONDS UINT64_C(10000000000)

struct rig rig;
const struct tr_rpc_limits rig_limits = { .receive_bytes = 65536,
					  .send_bytes = 65536,
					  .decoded_bytes = 1u << 20 };

static void reply(struct tr_rpc_call *call, const char *name)
{
	V1beta1__CDIDevice device;

	v1beta1__cdidevice__init(&device);
	device.name = (char *)(uintptr_t)name;
	(void)tr_rpc_reply(call, &device.base);
}

static const char *name_of(const ProtobufCMessage *message)
{
	return ((const V1beta1__CDIDevice *)(const void *)message)->name;
}

static void on_echo(struct tr_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
	(void)arg;
	rig.handled++;
	reply(call, name_of(request));
}

static void on_large(struct tr_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
	size_t n = strtoul(name_of(request), NULL, 10);
	char *name = calloc(1, n + 1);

	(void)arg;
	rig.handled++;
	memset(name, 'x', n);
	reply(call, name);
	free(name);
}

struct later {
	struct tr_rpc_call *call;
	char name[256];
	struct event *timer;
};

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	struct later *later = arg;

	(void)fd;
	(void)what;
	reply(later->call, later->name);
	event_free(later->timer);
	free(later);
}

static void on_later(struct tr_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
	struct later *later = calloc(1, sizeof(*later));
	struct timeval wait = { .tv_usec = 5000 + rand() % 20000 };

	(void)arg;
	rig.handled++;
	later->call = call;
	snprintf(later->name, sizeof(later->name), "%s", name_of(request));
	later->timer = event_new(rig.base, -1, 0, on_time, later);
	event_add(later->timer, &wait);
}

static void on_gone(void *arg)
{
	struct tr_rpc_call *call = arg;

	rig.gone++;
	if (!rig.keeps_gone)
		tr_rpc_refuse(call, TR_RPC_CANCELLED, "gone");
	if (!rig.keeps_gone && rig.kept == call)
		rig.kept = NULL;
}

static void on_never(struct tr_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
	(void)request;
	(void)arg;
	rig.handled++;
	rig.kept = call;
	assert_int_equal(tr_rpc_watch(call, on_gone, NULL, call), 0);
}

static void on_hold(struct tr_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
	(void)request;
	(void)arg;
	rig.handled++;
	rig.kept = call;
}

struct flow {
	struct tr_rpc_call *call;
	unsigned sent, total;
};

static void flow_gone(void *arg)
{
	struct flow *flow = arg;

	rig.gone++;
	tr_rpc_refuse(flow->call, TR_RPC_CANCELLED, "gone");
	free(flow);
}

static void flow_room(void *arg)
{
	struct flow *flow = arg;
	V1beta1__CDIDevice device;
	char name[32];

	if (flow->sent == flow->total) {
		tr_rpc_finish(flow->call);
		free(flow);
		return;
	}
	snprintf(name, sizeof(name), "%u", flow->sent++);
	v1beta1__cdidevice__init(&device);
	device.name = name;
	assert_int_equal(tr_rpc_send(flow->call, &device.base), 0);
	rig.streamed++;
	assert_int_equal(tr_rpc_send(flow->call, &device.base), -EAGAIN);
}

static void on_stream(struct tr_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
	struct flow *flow;

	if (!name_of(request)[0]) {
		V1beta1__CDIDevice device;
		char first[] = "first";

		on_never(call, request, arg);
		v1beta1__cdidevice__init(&device);
		device.name = first;
		assert_int_equal(tr_rpc_send(call, &device.base), 0);
		return;
	}
	rig.handled++;
	flow = calloc(1, sizeof(*flow));
	flow->call = call;
	flow->total = (unsigned)strtoul(name_of(request), NULL, 10);
	assert_int_equal(tr_rpc_watch(call, flow_gone, flow_room, flow), 0);
	flow_room(flow);
}

#define METHOD(name, function, streams)                                          \
	{                                                                        \
		"/t.T/" name, &v1beta1__cdidevice__descriptor, function, streams \
	}
static const struct tr_rpc_method methods[] = {
	METHOD("Echo", on_echo, false),   METHOD("Later", on_later, false),
	METHOD("Hold", on_hold, false),   METHOD("Never", on_never, false),
	METHOD("Large", on_large, false), METHOD("Stream", on_stream, true),
};

static void on_answer(const char *method, enum tr_rpc_code code, uint64_t ns, void *arg)
{
	struct rig *r = arg;

	r->answered++;
	r->answered_method = method;
	r->answered_code = code;
	r->answered_ns = ns;
}

int rig_open(void **state)
{
	struct tr_rpc_service service = { .path = rig.path,
					  .mode = 0600,
					  .methods = methods,
					  .count = TR_COUNT(methods),
					  .arg = &rig,
					  .on_answer = on_answer,
					  .limits = rig_limits,
					  .calls_max = 256,
					  .unary_ms = 1500,
					  .idle_ms = 1000 };

	(void)state;
	rig = (struct rig){ .dir = "/tmp/rpc-XXXXXX" };
	assert_non_null(mkdtemp(rig.dir));
	snprintf(rig.path, sizeof(rig.path), "%s/s.sock", rig.dir);
	rig.base = event_base_new();
	assert_int_equal(tr_rpc_open(rig.base, &rig.rpc, NULL), 0);
	assert_int_equal(tr_rpc_server_open(rig.rpc, &service, &rig.server, NULL), 0);
	assert_int_equal(
		tr_rpc_channel_open(rig.rpc, rig.path, &rig_limits, &rig.channel, NULL), 0);
	return 0;
}

int rig_close(void **state)
{
	(void)state;
	tr_rpc_channel_close(rig.channel);
	tr_rpc_server_close(rig.server);
	tr_rpc_close(rig.rpc);
	event_base_free(rig.base);
	assert_int_equal(rmdir(rig.dir), 0); /* nothing is left behind */
	return 0;
}

bool rig_until(const unsigned *value, unsigned until)
{
	uint64_t end = tr_clock_ns() + TEN_SECONDS;

	while (*value != until && tr_clock_ns() < end) {
		event_base_loop(rig.base, EVLOOP_NONBLOCK);
		tr_sleep_ns(200000);
	}
	return *value == until;
}

void rig_run_ms(unsigned ms)
{
	uint64_t end = tr_clock_ns() + ms * UINT64_C(1000000);

	while (tr_clock_ns() < end) {
		event_base_loop(rig.base, EVLOOP_NONBLOCK);
		tr_sleep_ns(200000);
	}
}

static void on_message(const ProtobufCMessage *message, void *arg)
{
	struct answer *a = arg;

	a->messages++;
	a->name_bytes = strlen(name_of(message));
	snprintf(a->name, sizeof(a->name), "%s", name_of(message));
}

static void on_end(const struct tr_rpc_end *end, void *arg)
{
	struct answer *a = arg;

	if (end->reply)
		on_message(end->reply, a);
	a->ends++;
	a->code = end->code;
	snprintf(a->sentence, sizeof(a->sentence), "%s", end->sentence);
}

struct tr_rpc_ask *rig_ask(const char *method, const char *name, bool streams,
			   unsigned deadline_ms, struct answer *a)
{
	V1beta1__CDIDevice device;
	struct tr_rpc_ask *ask;
	struct tr_rpc_question question = {
		.method = method,
		.request = &device.base,
		.reply = &v1beta1__cdidevice__descriptor,
		.deadline_ms = deadline_ms,
		.on_message = streams ? on_message : NULL,
		.on_end = on_end,
		.arg = a,
	};

	v1beta1__cdidevice__init(&device);
	device.name = (char *)(uintptr_t)name;
	*a = (struct answer){ 0 };
	assert_int_equal(tr_rpc_ask(rig.channel, &question, &ask, NULL), 0);
	return ask;
}
