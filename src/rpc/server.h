/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_RPC_SERVER_H
#define TR_RPC_SERVER_H

#include "rpc/engine.h"
#include "rpc/listen.h"

/* Inside src/rpc: one call being served (call.c), for the server that it arrived at. */

/* Takes CORE, also when it fails (NULL). METHOD may be NULL: to be refused. SERVICE stays until the call is
 * in no list any more. */
struct tr_rpc_call *tr_rpc_call_new(grpc_call *core, const struct tr_rpc_method *method,
				    const struct tr_rpc_service *service);
/* Into the list at HEAD, counted in *COUNT as long as gRPC or the handler has it. */
void tr_rpc_call_link(struct tr_rpc_call *call, struct tr_rpc_call **head, unsigned *count);
/* Waits for its request; the handler follows. */
void tr_rpc_call_read(struct tr_rpc_call *call);
/* Cancels unary calls that came before OLDEST_NS (tr_clock_ns()). */
void tr_rpc_calls_expire(struct tr_rpc_call *calls, uint64_t oldest_ns);
/* The server shuts down: calls that only a handler holds are over for gRPC, and no request is looked at any more. */
void tr_rpc_calls_leave(struct tr_rpc_call *calls);
/* The list is no more: who still holds a call ends it into nothing. */
void tr_rpc_calls_orphan(struct tr_rpc_call **head);

#endif /* TR_RPC_SERVER_H */
