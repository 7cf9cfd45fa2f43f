/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RIG_H
#define RIG_H

#include <event2/event.h>
#include <stdbool.h>

#include "proto/deviceplugin.pb-c.h"
#include "rpc/rpc.h"

/*
 * A loop, gRPC and a server of its own in a temporary directory:
 *   /t.T/Echo    answers with what it got
 *   /t.T/Later   the same, some milliseconds later
 *   /t.T/Hold    keeps the call, and does not watch it; rig.kept
 *   /t.T/Never   keeps the call; rig.kept is the last one
 *   /t.T/Large   answers with as many bytes as the name says
 *   /t.T/Stream  a stream: as many messages as the name says, then the end; "" keeps it open
 * Requests and answers are V1beta1__CDIDevice, a message with one string.
 */
struct rig {
	struct event_base *base;
	struct tr_rpc *rpc;
	struct tr_rpc_server *server;
	struct tr_rpc_channel *channel;
	char dir[64], path[80];
	unsigned handled;         /* calls that reached a handler */
	unsigned gone;            /* on_gone of Never and Stream */
	unsigned streamed;        /* messages of Stream */
	struct tr_rpc_call *kept; /* of Never, Stream */
	bool keeps_gone;          /* Never: leave the call to the test */
	unsigned answered;        /* calls that on_answer told of; the last one: */
	const char *answered_method;
	enum tr_rpc_code answered_code;
	uint64_t answered_ns;
};

extern struct rig rig;
extern const struct tr_rpc_limits rig_limits;

int rig_open(void **state); /* cmocka's setup and teardown */
int rig_close(void **state);
/* The loop runs until *VALUE is UNTIL, at most 10 s; false: it did not happen. */
bool rig_until(const unsigned *value, unsigned until);
void rig_run_ms(unsigned ms);

struct answer {
	unsigned ends, messages;
	enum tr_rpc_code code;
	char sentence[256];
	char name[256]; /* of the last message, cut */
	size_t name_bytes;
};

/* Asks for METHOD with NAME; *A is filled as it comes. */
struct tr_rpc_ask *rig_ask(const char *method, const char *name, bool streams,
			   unsigned deadline_ms, struct answer *a);

#endif /* RIG_H */
