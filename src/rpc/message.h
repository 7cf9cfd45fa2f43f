/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_RPC_MESSAGE_H
#define TR_RPC_MESSAGE_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "tranche/err.h"

/*
 * Protobuf messages of strangers, checked before protobuf-c sees them. It takes strings that are
 * no UTF-8 or hold a NUL (and cuts them there), and makes dozens of bytes of each byte of
 * the wire. Pure; any thread.
 */

/*
 * Whether the N bytes at BYTES are a message of TYPE: well formed at every depth, strings UTF-8
 * without NUL. Unknown fields pass. *ROOM_BYTES, when not NULL: an upper bound of the memory that
 * decoding needs. -EBADMSG with a sentence that names the field.
 */
int tr_message_check(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n,
		     size_t *room_bytes, struct tr_err *err);

/* Checks and decodes. -EBADMSG; -EMSGSIZE when decoding would need more than MOST_BYTES;
 * -ENOMEM. *OUT is NULL then; else the caller's, to be freed by tr_message_free(). */
int tr_message_read(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n,
		    size_t most_bytes, ProtobufCMessage **out, struct tr_err *err);
void tr_message_free(ProtobufCMessage *message); /* NULL is fine */

#endif /* TR_RPC_MESSAGE_H */
