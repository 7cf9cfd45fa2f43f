/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_RPC_ENGINE_H
#define TR_RPC_ENGINE_H

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <stdbool.h>

#include "rpc/rpc.h"

/* Inside src/rpc: the completion queue and what travels through it. */

/* gRPC's tag. Its owner keeps it until DONE was called, which happens once for each time it is
 * handed to gRPC, in the loop's thread. */
struct tr_rpc_event {
	void (*done)(struct tr_rpc_event *event);
	bool ok;
	struct tr_rpc_event *next;
};

#define TR_RPC_OWNER(event, type, member) \
	((type *)(void *)((char *)(event)-offsetof(type, member)))

grpc_completion_queue *tr_rpc_queue(struct tr_rpc *rpc);
struct event_base *tr_rpc_base(struct tr_rpc *rpc);
/* Runs events (and nothing else of the loop) until *STOP is UNTIL. Not from a callback. */
void tr_rpc_pump(struct tr_rpc *rpc, const unsigned *stop, unsigned until);

/* gRPC's waits do not follow a clock that somebody sets (futex.c). */
void tr_rpc_wait_steadily(void);

/* Packs MESSAGE; NULL when it is larger than MOST_BYTES. */
grpc_byte_buffer *tr_rpc_pack(const ProtobufCMessage *message, size_t most_bytes);
/* Decodes BUFFER and destroys it. */
int tr_rpc_unpack(grpc_byte_buffer *buffer, const ProtobufCMessageDescriptor *type,
		  size_t most_bytes, ProtobufCMessage **out, struct tr_err *err);

#endif /* TR_RPC_ENGINE_H */
