/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call being served. Two owners: gRPC, as long as batches are under way (busy), and the
 * handler, until it ended the call (is_ended). Who lets go last frees it; gRPC's own part goes
 * as soon as no batch is left, so that a server can shut down while a handler still thinks.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/message.h"
#include "rpc/server.h"
#include "rt/file.h"
#include "rt/sat.h"

struct tr_rpc_call {
	grpc_call *core; /* NULL: over for gRPC */
	const struct tr_rpc_method *method;
	const struct tr_rpc_service *service; /* NULL: it is no more */
	struct tr_rpc_limits limits;
	uint64_t came_ns;

	struct tr_rpc_event read, sent, closed;
	unsigned busy;     /* batches under way */
	int cancelled;     /* gRPC writes it */
	bool is_watched;   /* CLOSED tells that the peer goes; else that is part of SENT */
	bool is_gone;      /* the peer, or whatever made it so */
	bool is_ended;     /* by the handler */
	bool is_sending;   /* SENT is under way */
	bool is_answering; /* the status is in that batch */
	bool has_headers;  /* were sent */
	enum tr_rpc_code code;
	grpc_slice sentence; /* of the status that waits for its turn */
	grpc_byte_buffer *in, *out;

	void (*on_gone)(void *arg), (*on_room)(void *arg);
	void *watch_arg;

	struct tr_rpc_call *next, **link;
	unsigned *count;
};

static void unlink_call(struct tr_rpc_call *call)
{
	if (!call->link)
		return;
	*call->link = call->next;
	if (call->next)
		call->next->link = call->link;
	call->link = NULL;
	if (call->count)
		--*call->count;
}

static void drop_out(struct tr_rpc_call *call)
{
	if (call->out)
		grpc_byte_buffer_destroy(call->out);
	call->out = NULL;
}

static void let_go(struct tr_rpc_call *call)
{
	if (call->busy || !(call->is_ended || call->is_gone))
		return;
	if (call->core)
		grpc_call_unref(call->core);
	call->core = NULL;
	if (!call->is_ended)
		return;
	unlink_call(call);
	drop_out(call);
	grpc_slice_unref(call->sentence);
	free(call);
}

static bool start(struct tr_rpc_call *call, const grpc_op *ops, size_t n,
		  struct tr_rpc_event *event)
{
	if (!call->core ||
	    grpc_call_start_batch(call->core, ops, n, event, NULL) != GRPC_CALL_OK)
		return false;
	call->busy++;
	return true;
}

/* Headers, OUT when there is one, the status when the handler ended the call. */
static void send_next(struct tr_rpc_call *call)
{
	grpc_op ops[4];
	size_t n = 0;

	memset(ops, 0, sizeof(ops));
	if (!call->has_headers)
		ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	if (call->out) {
		ops[n].op = GRPC_OP_SEND_MESSAGE;
		ops[n++].data.send_message.send_message = call->out;
	}
	if (call->is_ended) {
		ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
		ops[n].data.send_status_from_server.status = (grpc_status_code)call->code;
		ops[n++].data.send_status_from_server.status_details = &call->sentence;
		if (!call->is_watched) {
			ops[n].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
			ops[n++].data.recv_close_on_server.cancelled = &call->cancelled;
		}
	}
	call->has_headers = true;
	call->is_answering = call->is_ended;
	call->is_sending = start(call, ops, n, &call->sent);
	/* gRPC has its own reference of what it took. */
	if (!call->is_sending && call->core)
		(void)grpc_call_cancel(call->core, NULL);
}

static void on_sent(struct tr_rpc_event *event)
{
	struct tr_rpc_call *call = TR_RPC_OWNER(event, struct tr_rpc_call, sent);

	call->busy--;
	call->is_sending = false;
	drop_out(call);
	if (call->is_ended && !call->is_answering && !call->is_gone)
		send_next(call);
	else if (!call->is_ended && !call->is_gone && event->ok && call->on_room)
		call->on_room(call->watch_arg); /* may end the call, but not free it: */
	let_go(call);                           /* CLOSED is still under way, or was seen */
}

static void on_closed(struct tr_rpc_event *event)
{
	struct tr_rpc_call *call = TR_RPC_OWNER(event, struct tr_rpc_call, closed);

	call->is_gone = true;
	if (!call->is_ended && call->on_gone)
		call->on_gone(call->watch_arg);
	call->busy--;
	let_go(call);
}

static void tell_answer(const struct tr_rpc_call *call, enum tr_rpc_code code)
{
	const struct tr_rpc_service *service = call->service;

	if (service && service->on_answer && call->method && !call->method->streams)
		service->on_answer(call->method->name,
				   call->is_gone ? TR_RPC_CANCELLED : code,
				   tr_sat_sub(tr_clock_ns(), call->came_ns), service->arg);
}

/* The call is over for its handler: what is to be sent is OUT, CODE and SENTENCE. */
static void settle(struct tr_rpc_call *call, enum tr_rpc_code code, const char *sentence)
{
	call->is_ended = true;
	call->code = code;
	call->on_gone = NULL;
	call->on_room = NULL;
	call->sentence = grpc_slice_from_copied_string(sentence);
	if (!call->is_gone && !call->is_sending)
		send_next(call);
	tell_answer(call, code);
}

static void call_handler(struct tr_rpc_call *call, grpc_byte_buffer *in)
{
	ProtobufCMessage *request;
	struct tr_err err = { 0 };
	int r;

	r = tr_rpc_unpack(in, call->method->request, call->limits.decoded_bytes, &request,
			  &err);
	if (r < 0) {
		settle(call,
		       r == -EBADMSG ? TR_RPC_INVALID_ARGUMENT : TR_RPC_RESOURCE_EXHAUSTED,
		       err.msg);
		return;
	}
	call->method->handler(call, request, call->service->arg);
	tr_message_free(request);
}

static void on_read(struct tr_rpc_event *event)
{
	struct tr_rpc_call *call = TR_RPC_OWNER(event, struct tr_rpc_call, read);

	grpc_byte_buffer *in = call->in;

	call->in = NULL;
	/* BUSY until after it: the call may end in the handler. */
	if (in && !call->is_gone) {
		call_handler(call, in);
	} else {
		settle(call, TR_RPC_INVALID_ARGUMENT, "no request");
		if (in)
			grpc_byte_buffer_destroy(in);
	}
	call->busy--;
	let_go(call);
}

static bool watch(struct tr_rpc_call *call)
{
	grpc_op op;

	memset(&op, 0, sizeof(op));
	op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
	op.data.recv_close_on_server.cancelled = &call->cancelled;
	return start(call, &op, 1, &call->closed);
}

struct tr_rpc_call *tr_rpc_call_new(grpc_call *core, const struct tr_rpc_method *method,
				    const struct tr_rpc_service *service)
{
	struct tr_rpc_call *call = calloc(1, sizeof(*call));

	if (!call) {
		grpc_call_unref(core);
		return NULL;
	}
	call->core = core;
	call->method = method;
	call->service = service;
	call->limits = service->limits;
	call->came_ns = tr_clock_ns();
	call->sentence = grpc_empty_slice();
	call->read.done = on_read;
	call->sent.done = on_sent;
	call->closed.done = on_closed;
	/* Of the others most are answered at once: the peer's end comes with the answer, one event less. */
	if (method && method->streams) {
		call->is_watched = watch(call);
		if (!call->is_watched) {
			call->is_ended = true;
			let_go(call);
			return NULL;
		}
	}
	return call;
}

void tr_rpc_call_link(struct tr_rpc_call *call, struct tr_rpc_call **head, unsigned *count)
{
	call->next = *head;
	if (call->next)
		call->next->link = &call->next;
	call->link = head;
	call->count = count;
	*head = call;
	++*count;
}

void tr_rpc_call_read(struct tr_rpc_call *call)
{
	grpc_op op;

	memset(&op, 0, sizeof(op));
	op.op = GRPC_OP_RECV_MESSAGE;
	op.data.recv_message.recv_message = &call->in;
	if (!start(call, &op, 1, &call->read))
		tr_rpc_refuse(call, TR_RPC_INTERNAL, "the request cannot be read");
}

void tr_rpc_calls_expire(struct tr_rpc_call *calls, uint64_t oldest_ns)
{
	for (; calls; calls = calls->next)
		if (calls->core && calls->method && !calls->method->streams &&
		    calls->came_ns < oldest_ns)
			(void)grpc_call_cancel_with_status(calls->core, GRPC_STATUS_ABORTED,
							   "took too long", NULL);
}

void tr_rpc_calls_leave(struct tr_rpc_call *calls)
{
	for (struct tr_rpc_call *call = calls, *next; call; call = next) {
		next = call->next;
		if (!call->is_watched) {
			call->is_gone = true;
			let_go(call);
		}
	}
}

void tr_rpc_calls_orphan(struct tr_rpc_call **head)
{
	while (*head) {
		struct tr_rpc_call *call = *head;

		unlink_call(call);
		call->count = NULL;
		call->service = NULL;
	}
}

/* The handler lets go. */
static void end(struct tr_rpc_call *call, enum tr_rpc_code code, const char *sentence)
{
	settle(call, code, sentence);
	let_go(call);
}

int tr_rpc_reply(struct tr_rpc_call *call, const ProtobufCMessage *reply)
{
	assert(!call->method->streams);
	if (call->is_gone) {
		end(call, TR_RPC_CANCELLED, "");
		return 0;
	}
	call->out = tr_rpc_pack(reply, call->limits.send_bytes);
	if (!call->out) {
		end(call, TR_RPC_INTERNAL, "the reply is too large");
		return -EMSGSIZE;
	}
	end(call, TR_RPC_OK, "");
	return 0;
}

void tr_rpc_refuse(struct tr_rpc_call *call, enum tr_rpc_code code, const char *sentence)
{
	end(call, code, sentence);
}

void tr_rpc_finish(struct tr_rpc_call *call)
{
	end(call, TR_RPC_OK, "");
}

int tr_rpc_send(struct tr_rpc_call *call, const ProtobufCMessage *message)
{
	if (call->is_gone)
		return -ECONNRESET;
	if (call->is_sending)
		return -EAGAIN;
	call->out = tr_rpc_pack(message, call->limits.send_bytes);
	if (!call->out)
		return -EMSGSIZE;
	send_next(call);
	return 0;
}

int tr_rpc_watch(struct tr_rpc_call *call, void (*on_gone)(void *arg),
		 void (*on_room)(void *arg), void *arg)
{
	if (!call->is_gone && !call->is_watched)
		call->is_watched = watch(call);
	if (call->is_gone || !call->is_watched)
		return -ECONNRESET;
	call->on_gone = on_gone;
	call->on_room = on_room;
	call->watch_arg = arg;
	return 0;
}
