/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_RPC_RPC_H
#define TR_RPC_RPC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tranche/err.h"

/*
 * gRPC over Unix sockets in a libevent loop.
 *
 * One thread of ours waits for gRPC's completion queue and hands what it finds to the loop;
 * every function here is called, and every callback runs, in the thread of the loop. No call
 * has a thread. Callbacks may call anything but tr_rpc_close(), tr_rpc_server_close() and
 * tr_rpc_channel_close().
 *
 * Errors: 0 or -errno, the sentence in ERR (may be NULL).
 */

struct event_base;
struct tr_rpc;

/* gRPC's own numbers, those that we say or act on. */
enum tr_rpc_code {
	TR_RPC_OK = 0,
	TR_RPC_CANCELLED = 1,
	TR_RPC_UNKNOWN = 2,
	TR_RPC_INVALID_ARGUMENT = 3,
	TR_RPC_DEADLINE_EXCEEDED = 4,
	TR_RPC_NOT_FOUND = 5,
	TR_RPC_PERMISSION_DENIED = 7,
	TR_RPC_RESOURCE_EXHAUSTED = 8,
	TR_RPC_FAILED_PRECONDITION = 9,
	TR_RPC_UNIMPLEMENTED = 12,
	TR_RPC_INTERNAL = 13,
	TR_RPC_UNAVAILABLE = 14,
};

/* BASE outlives it. Starts gRPC and the thread; signals are blocked in all of gRPC's threads. */
int tr_rpc_open(struct event_base *base, struct tr_rpc **out, struct tr_err *err);
/* After its servers and channels. Waits for the thread. NULL is fine. */
void tr_rpc_close(struct tr_rpc *rpc);

/* How much one message may be, on the wire and decoded. */
struct tr_rpc_limits {
	size_t receive_bytes, send_bytes;
	size_t decoded_bytes; /* as tr_message_check() estimates */
};

/* ---- server ---- */

struct tr_rpc_server;
struct tr_rpc_call; /* one call being served */

/* REQUEST is valid until it returns. CALL is to be ended exactly once, now or later, whatever
 * happens to the peer or the server: tr_rpc_reply(), tr_rpc_refuse() or tr_rpc_finish(). */
typedef void tr_rpc_handler(struct tr_rpc_call *call, const ProtobufCMessage *request,
			    void *arg);

struct tr_rpc_method {
	const char *name; /* "/package.Service/Method" */
	const ProtobufCMessageDescriptor *request;
	tr_rpc_handler *handler;
	bool streams; /* many messages, then tr_rpc_finish() */
};

struct tr_rpc_service {
	const char *path; /* of the socket, absolute */
	unsigned mode;    /* of the socket */
	const struct tr_rpc_method *methods;
	size_t count;
	void *arg; /* for the handlers */
	/* Each unary call of a known method, once, when it is answered by whomever: with CANCELLED
	 * instead of CODE when its peer is known to be gone, and how long after it came. Not after
	 * tr_rpc_server_close(). Optional. */
	void (*on_answer)(const char *method, enum tr_rpc_code code, uint64_t ns,
			  void *arg);
	struct tr_rpc_limits limits;
	unsigned calls_max; /* at once; more are refused as RESOURCE_EXHAUSTED */
	unsigned
		unary_ms; /* a unary call without an end is taken as gone after it; 0: never */
	unsigned idle_ms; /* a connection without calls is closed after it; 0: never */
};

/*
 * Serves from the return on. Peers of another user than root and our own are turned away.
 * -EADDRINUSE: somebody else answers at the path (what nobody answers at is replaced).
 * SERVICE's strings and methods outlive the server, *SERVICE itself need not.
 */
int tr_rpc_server_open(struct tr_rpc *rpc, const struct tr_rpc_service *service,
		       struct tr_rpc_server **out, struct tr_err *err);
/* Whether the socket's name still leads to us: one lstat(). */
bool tr_rpc_server_is_reachable(const struct tr_rpc_server *server);
/* Makes the socket anew under its name. Connections and calls go on. Errors as at open; the server
 * then listens as before. */
int tr_rpc_server_listen(struct tr_rpc_server *server, struct tr_err *err);
/* Cancels its calls (their on_gone is told) and removes the socket if it is ours. */
void tr_rpc_server_close(struct tr_rpc_server *server);

/* Each ends CALL; the pointer is dead after. To a peer that is gone nothing is sent. -EMSGSIZE: larger
 * than the limit; the peer is told INTERNAL instead. */
int tr_rpc_reply(struct tr_rpc_call *call, const ProtobufCMessage *reply);
void tr_rpc_refuse(struct tr_rpc_call *call, enum tr_rpc_code code, const char *sentence);
void tr_rpc_finish(struct tr_rpc_call *call); /* of a stream: OK, after what was sent */

/* One message of a stream. -EAGAIN: the one before is still on its way, on_room will tell;
 * -ECONNRESET: the peer is gone; -EMSGSIZE. */
int tr_rpc_send(struct tr_rpc_call *call, const ProtobufCMessage *message);

/* ON_GONE, once, when the peer went, cancelled or its deadline passed; CALL is still to be ended
 * (there or later). ON_ROOM after each message of a stream that left. Either may be NULL. Never called
 * from within this. -ECONNRESET: gone already, ON_GONE will not come. */
int tr_rpc_watch(struct tr_rpc_call *call, void (*on_gone)(void *arg),
		 void (*on_room)(void *arg), void *arg);

/* ---- client ---- */

struct tr_rpc_channel;
struct tr_rpc_ask; /* one call under way */

struct tr_rpc_end {
	enum tr_rpc_code code;         /* any of gRPC's numbers */
	const char *sentence;          /* of the peer or gRPC; "" when OK */
	const ProtobufCMessage *reply; /* unary and OK, else NULL */
};

struct tr_rpc_question {
	const char *method;
	const ProtobufCMessage *request; /* read before tr_rpc_ask() returns */
	const ProtobufCMessageDescriptor *reply;
	unsigned deadline_ms; /* 0: none */
	bool waits;           /* for a server to appear, instead of UNAVAILABLE at once */
	/* A stream's messages; NULL: unary. */
	void (*on_message)(const ProtobufCMessage *message, void *arg);
	/* Exactly once, never from within tr_rpc_ask(); what END points to is valid until it
	 * returns. Not after tr_rpc_cancel(). */
	void (*on_end)(const struct tr_rpc_end *end, void *arg);
	void *arg;
};

/* Never blocks; connects with the first call, and again after the peer restarted (within half a
 * second). PATH: absolute, of the socket. */
int tr_rpc_channel_open(struct tr_rpc *rpc, const char *path,
			const struct tr_rpc_limits *limits, struct tr_rpc_channel **out,
			struct tr_err *err);
/* Cancels its calls; no callback comes. NULL is fine. */
void tr_rpc_channel_close(struct tr_rpc_channel *channel);

/* *OUT (may be NULL) is valid until on_end is called. -EMSGSIZE: the request is too large. */
int tr_rpc_ask(struct tr_rpc_channel *channel, const struct tr_rpc_question *question,
	       struct tr_rpc_ask **out, struct tr_err *err);
void tr_rpc_cancel(struct tr_rpc_ask *ask);

#endif /* TR_RPC_RPC_H */
