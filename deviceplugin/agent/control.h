/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_AGENT_CONTROL_H
#define TR_AGENT_CONTROL_H

#include <event2/event.h>
#include <jansson.h>

#include "tranche/err.h"

/*
 * The agent's own socket, for `tranche node`: a Unix socket for root (and the user that the agent runs
 * as), one request a connection: a line of JSON, {"do": WORD, ...}; and a line back, {"ok": true, ...}
 * or {"ok": false, "error": SENTENCE}. Whatever a client sends or does not read: no more than 8 of them,
 * 64 KiB of request, 5 s for it, 15 s to take the answer. Thread of the loop.
 */
#define TR_CONTROL_CLIENTS 8u
#define TR_CONTROL_REQUEST ((size_t)64 << 10)
#define TR_CONTROL_READ_S  5
#define TR_CONTROL_WRITE_S 15

/* Fills REPLY, an empty object; -errno with the sentence. */
typedef int tr_control_answer(const char *what, const json_t *request, json_t *reply,
			      void *arg, struct tr_err *err);

struct tr_control;

/* A socket that is there is replaced: who calls this holds the lock of its directory. */
int tr_control_open(struct event_base *base, const char *path, tr_control_answer *answer,
		    void *arg, struct tr_control **out, struct tr_err *err);
void tr_control_close(struct tr_control *control); /* not from an answer; NULL is fine */

/* The reply to N bytes of a request. The caller's. Pure but for ANSWER. */
json_t *tr_control_reply(const char *line, size_t n, tr_control_answer *answer, void *arg);

#endif /* TR_AGENT_CONTROL_H */
