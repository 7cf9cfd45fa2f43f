/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of ours. Three batches for each, unary or not: what we send, the messages one by one, the
 * status. A call is over when none of them is under way, and only then is its end told.
 */
#include <assert.h>
#include <errno.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/engine.h"
#include "rpc/message.h"

/* Reconnecting to a socket costs nothing: never wait long for a kubelet that came back. */
#define BACKOFF_FIRST_MS 50
#define BACKOFF_MOST_MS  300
#define CONNECT_MS       1000 /* "min reconnect backoff" is how long one attempt may take */
#define METADATA_MAX     8192
#define SENTENCE_MAX     504u /* as struct tr_err */

struct tr_rpc_channel {
	struct tr_rpc *rpc;
	grpc_channel *core;
	struct tr_rpc_limits limits;
	struct tr_rpc_ask *asks;
	unsigned live;
};

struct tr_rpc_ask {
	struct tr_rpc_channel *channel;
	grpc_call *core;
	const ProtobufCMessageDescriptor *type;
	void (*on_message)(const ProtobufCMessage *message, void *arg);
	void (*on_end)(const struct tr_rpc_end *end, void *arg);
	void *arg;

	struct tr_rpc_event sent, read, status;
	unsigned busy;     /* batches under way */
	bool is_cancelled; /* by its owner: nothing is told any more */
	grpc_byte_buffer *out, *in;
	grpc_metadata_array headers, trailers;
	grpc_status_code code;
	grpc_slice details;
	ProtobufCMessage *reply;   /* of a unary call */
	enum tr_rpc_code own_code; /* what is wrong with the answer; 0: nothing */
	char own_sentence[SENTENCE_MAX];

	struct tr_rpc_ask *next, **link;
};

static void free_ask(struct tr_rpc_ask *ask)
{
	*ask->link = ask->next;
	if (ask->next)
		ask->next->link = ask->link;
	ask->channel->live--;
	if (ask->out)
		grpc_byte_buffer_destroy(ask->out);
	if (ask->in)
		grpc_byte_buffer_destroy(ask->in);
	grpc_metadata_array_destroy(&ask->headers);
	grpc_metadata_array_destroy(&ask->trailers);
	grpc_slice_unref(ask->details);
	tr_message_free(ask->reply);
	grpc_call_unref(ask->core);
	free(ask);
}

static void tell_end(struct tr_rpc_ask *ask)
{
	struct tr_rpc_end end = { .code = (enum tr_rpc_code)ask->code, .sentence = "" };
	char sentence[SENTENCE_MAX];
	size_t n = GRPC_SLICE_LENGTH(ask->details);

	if (ask->own_code) {
		end.code = ask->own_code;
		end.sentence = ask->own_sentence;
	} else if (end.code != TR_RPC_OK) {
		n = n < sizeof(sentence) - 1 ? n : sizeof(sentence) - 1;
		memcpy(sentence, GRPC_SLICE_START_PTR(ask->details), n);
		sentence[n] = '\0';
		end.sentence = sentence;
	} else if (!ask->on_message && !ask->reply) {
		end.code = TR_RPC_INTERNAL;
		end.sentence = "the answer has no message";
	} else {
		end.reply = ask->reply;
	}
	ask->on_end(&end, ask->arg);
}

static void let_go(struct tr_rpc_ask *ask)
{
	if (ask->busy)
		return;
	if (!ask->is_cancelled) {
		/* From now on its pointer is nobody's. */
		ask->is_cancelled = true;
		tell_end(ask);
	}
	free_ask(ask);
}

static bool start(struct tr_rpc_ask *ask, const grpc_op *ops, size_t n,
		  struct tr_rpc_event *event)
{
	if (grpc_call_start_batch(ask->core, ops, n, event, NULL) != GRPC_CALL_OK)
		return false;
	ask->busy++;
	return true;
}

static void read_next(struct tr_rpc_ask *ask)
{
	grpc_op op;

	memset(&op, 0, sizeof(op));
	op.op = GRPC_OP_RECV_MESSAGE;
	op.data.recv_message.recv_message = &ask->in;
	(void)start(ask, &op, 1, &ask->read);
}

/* The answer is no good: the call ends with a status of our own. */
static void reject(struct tr_rpc_ask *ask, enum tr_rpc_code code, const char *sentence)
{
	ask->own_code = code;
	(void)snprintf(ask->own_sentence, sizeof(ask->own_sentence), "%s", sentence);
	(void)grpc_call_cancel(ask->core, NULL);
}

static void take_message(struct tr_rpc_ask *ask)
{
	ProtobufCMessage *message;
	struct tr_err err = { 0 };
	grpc_byte_buffer *in = ask->in;
	int r;

	ask->in = NULL;
	r = tr_rpc_unpack(in, ask->type, ask->channel->limits.decoded_bytes, &message,
			  &err);
	if (r < 0) {
		reject(ask, r == -EBADMSG ? TR_RPC_INTERNAL : TR_RPC_RESOURCE_EXHAUSTED,
		       err.msg);
	} else if (ask->on_message) {
		ask->on_message(message, ask->arg);
		tr_message_free(message);
	} else if (ask->reply) {
		tr_message_free(message);
		reject(ask, TR_RPC_INTERNAL, "the answer has two messages");
	} else {
		ask->reply = message;
	}
}

static void on_read(struct tr_rpc_event *event)
{
	struct tr_rpc_ask *ask = TR_RPC_OWNER(event, struct tr_rpc_ask, read);
	bool goes_on = event->ok && ask->in;

	if (goes_on && !ask->is_cancelled && !ask->own_code)
		take_message(ask);
	if (goes_on && !ask->is_cancelled && !ask->own_code)
		read_next(ask);
	ask->busy--;
	let_go(ask);
}

static void on_status(struct tr_rpc_event *event)
{
	struct tr_rpc_ask *ask = TR_RPC_OWNER(event, struct tr_rpc_ask, status);

	ask->busy--;
	let_go(ask);
}

static void on_sent(struct tr_rpc_event *event)
{
	struct tr_rpc_ask *ask = TR_RPC_OWNER(event, struct tr_rpc_ask, sent);

	ask->busy--;
	let_go(ask);
}

static void start_all(struct tr_rpc_ask *ask, bool waits)
{
	grpc_op ops[4], status;

	memset(&status, 0, sizeof(status));
	status.op = GRPC_OP_RECV_STATUS_ON_CLIENT;
	status.data.recv_status_on_client.trailing_metadata = &ask->trailers;
	status.data.recv_status_on_client.status = &ask->code;
	status.data.recv_status_on_client.status_details = &ask->details;
	(void)start(ask, &status, 1, &ask->status);
	memset(ops, 0, sizeof(ops));
	ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	if (waits)
		ops[0].flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY |
			       GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
	ops[1].op = GRPC_OP_SEND_MESSAGE;
	ops[1].data.send_message.send_message = ask->out;
	ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
	ops[3].data.recv_initial_metadata.recv_initial_metadata = &ask->headers;
	(void)start(ask, ops, 4, &ask->sent);
	read_next(ask);
}

static grpc_call *make_call(struct tr_rpc_channel *channel,
			    const struct tr_rpc_question *question)
{
	grpc_slice method = grpc_slice_from_copied_string(question->method);
	gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
	grpc_call *call;

	if (question->deadline_ms)
		deadline = gpr_time_add(
			gpr_now(GPR_CLOCK_MONOTONIC),
			gpr_time_from_millis(question->deadline_ms, GPR_TIMESPAN));
	call = grpc_channel_create_call(channel->core, NULL, GRPC_PROPAGATE_DEFAULTS,
					tr_rpc_queue(channel->rpc), method, NULL, deadline,
					NULL);
	grpc_slice_unref(method);
	return call;
}

int tr_rpc_ask(struct tr_rpc_channel *channel, const struct tr_rpc_question *question,
	       struct tr_rpc_ask **out, struct tr_err *err)
{
	struct tr_rpc_ask *ask = calloc(1, sizeof(*ask));

	if (!ask)
		return tr_fail(err, ENOMEM, "no memory for a call");
	ask->out = tr_rpc_pack(question->request, channel->limits.send_bytes);
	if (!ask->out) {
		free(ask);
		return tr_fail(err, EMSGSIZE, "%s: the request has more than %zu bytes",
			       question->method, channel->limits.send_bytes);
	}
	ask->channel = channel;
	ask->core = make_call(channel, question);
	ask->type = question->reply;
	ask->on_message = question->on_message;
	ask->on_end = question->on_end;
	ask->arg = question->arg;
	ask->sent.done = on_sent;
	ask->read.done = on_read;
	ask->status.done = on_status;
	ask->details = grpc_empty_slice();
	grpc_metadata_array_init(&ask->headers);
	grpc_metadata_array_init(&ask->trailers);
	ask->next = channel->asks;
	if (ask->next)
		ask->next->link = &ask->next;
	ask->link = &channel->asks;
	channel->asks = ask;
	channel->live++;
	start_all(ask, question->waits);
	if (out)
		*out = ask;
	return 0;
}

void tr_rpc_cancel(struct tr_rpc_ask *ask)
{
	ask->is_cancelled = true;
	(void)grpc_call_cancel(ask->core, NULL);
}

/* "unix:" and PATH, with what an URI would read otherwise as %XX. */
static int make_target(const char *path, char *out, size_t n)
{
	size_t at = (size_t)snprintf(out, n, "unix:");

	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c >= '0' && c <= '9') || strchr("/._-~", c);

		if (n - at < 4)
			return -ENAMETOOLONG;
		at += (size_t)snprintf(out + at, n - at, plain ? "%c" : "%%%02X", c);
	}
	return 0;
}

static grpc_arg number(const char *key, size_t value)
{
	return (grpc_arg){ .type = GRPC_ARG_INTEGER,
			   .key = (char *)(uintptr_t)key,
			   .value.integer = value > INT32_MAX ? INT32_MAX : (int)value };
}

static grpc_channel *make_core(const char *target, const struct tr_rpc_limits *limits)
{
	grpc_arg args[] = {
		number(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, limits->receive_bytes),
		number(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, limits->send_bytes),
		number(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
		number(GRPC_ARG_MAX_METADATA_SIZE, METADATA_MAX),
		number(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
		number(GRPC_ARG_ENABLE_RETRIES, 0),
		number(GRPC_ARG_ENABLE_CHANNELZ, 0),
		number(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
		number(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
		number(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, BACKOFF_FIRST_MS),
		number(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, BACKOFF_MOST_MS),
		number(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_MS),
	};
	grpc_channel_args all = { .num_args = sizeof(args) / sizeof(*args), .args = args };
	grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
	grpc_channel *channel = grpc_channel_create(target, credentials, &all);

	grpc_channel_credentials_release(credentials);
	return channel;
}

int tr_rpc_channel_open(struct tr_rpc *rpc, const char *path,
			const struct tr_rpc_limits *limits, struct tr_rpc_channel **out,
			struct tr_err *err)
{
	struct tr_rpc_channel *channel;
	char target[512];

	if (path[0] != '/')
		return tr_fail(err, EINVAL, "%s: a socket's path must be absolute", path);
	if (make_target(path, target, sizeof(target)) < 0)
		return tr_fail(err, ENAMETOOLONG, "%s is too long for a socket", path);
	channel = calloc(1, sizeof(*channel));
	if (!channel)
		return tr_fail(err, ENOMEM, "no memory for a channel");
	channel->rpc = rpc;
	channel->limits = *limits;
	channel->core = make_core(target, limits);
	*out = channel;
	return 0;
}

void tr_rpc_channel_close(struct tr_rpc_channel *channel)
{
	if (!channel)
		return;
	for (struct tr_rpc_ask *ask = channel->asks; ask; ask = ask->next)
		tr_rpc_cancel(ask);
	tr_rpc_pump(channel->rpc, &channel->live, 0);
	grpc_channel_destroy(channel->core);
	free(channel);
}
