/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_CLIENT_H
#define TR_KUBE_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "kube/access.h"
#include "kube/status.h"
#include "kube/wire.h"
#include "tranche/err.h"

/*
 * Requests to the API server. Each has one deadline for all of its tries. There is no throttle on our
 * side: the server says when it is too much (429, 503 with Retry-After), and is obeyed.
 *
 * Tried again, with a growing and random pause, until the deadline:
 *   - whatever the server did not take on: no connection, 429, any 5xx that says Retry-After;
 *   - other 5xx, time-outs and broken connections if repeating it changes nothing: all verbs but
 *     CREATE and PATCH_JSON, and those too where the caller says so (may_repeat);
 *   - 401 once, at once, when the credentials on disk have changed.
 * And libcurl sends any request once more when a kept connection turns out to be dead before a byte of
 * the answer came. So what a second try finds done may be its own first one's doing: a DELETE finds
 * nothing (-ENOENT), a CREATE its object (-EEXIST), a Binding its pod bound (-ESTALE). Look before you
 * take it for another's.
 *
 * One thread: the one that runs the event base. Done-functions are called from the base's loop, never
 * from within a call here. They may start and cancel requests, but not close the client.
 */
struct tr_kube;
struct tr_kube_call;

enum tr_kube_verb {
	TR_KUBE_GET,
	TR_KUBE_CREATE,
	TR_KUBE_REPLACE,
	TR_KUBE_PATCH_MERGE,     /* RFC 7386 */
	TR_KUBE_PATCH_STRATEGIC, /* the server's own, for built-in kinds: lists merge by key */
	TR_KUBE_PATCH_JSON,      /* RFC 6902 */
	TR_KUBE_DELETE,
};

struct tr_kube_ask {
	enum tr_kube_verb verb;
	const char *path;     /* tr_kube_path(), plus a query */
	const json_t *body;   /* printed at once, not kept; NULL: none */
	uint32_t deadline_ms; /* 0: TR_KUBE_DEADLINE_MS */
	uint32_t reply_max;   /* bytes; 0: TR_KUBE_REPLY_MAX */
	bool may_repeat;
};

#define TR_KUBE_DEADLINE_MS 15000u
#define TR_KUBE_REPLY_MAX   (8u << 20)

struct tr_kube_reply {
	struct tr_kube_status
		status;     /* of the last try; code 0: none of them was answered */
	const json_t *body; /* NULL when it was not JSON */
	const char *text;   /* as it came, NUL terminated */
	size_t bytes;
	unsigned tries;
};

/* R: 0 for a 2xx, else -errno: tr_kube_status_errno() of an answer; -ETIMEDOUT, -ECONNREFUSED,
 * -ECONNRESET, -EHOSTUNREACH, -EPROTO, -EMSGSIZE without one; -EBADMSG for a 2xx that is not JSON.
 * ERR then says verb, path, status, reason and message. All of it is gone after the function. */
typedef void tr_kube_done(void *arg, int r, const struct tr_kube_reply *reply,
			  const struct tr_err *err);

/* Takes over ACCESS. The process must ignore SIGPIPE. */
int tr_kube_open(struct tr_kube **out, struct event_base *base,
		 struct tr_kube_access *access, struct tr_err *err);
/* Calls under way end without a word; watches must have been closed. */
void tr_kube_close(struct tr_kube *k);

/* DONE may be NULL. Never fails at once. */
struct tr_kube_call *tr_kube_start(struct tr_kube *k, const struct tr_kube_ask *ask,
				   tr_kube_done *done, void *arg);
/* DONE is not called any more. What the server was sent, it may do. */
void tr_kube_cancel(struct tr_kube_call *call);

/* What a client has asked and got, since it was opened; for metrics. */
struct tr_kube_counts {
	uint64_t requests, retries, throttled, failed;
};
const struct tr_kube_counts *tr_kube_counts(const struct tr_kube *k);
struct tr_wire *tr_kube_wire(const struct tr_kube *k);

/* Kinds that are asked for. */
struct tr_kube_kind {
	const char *prefix; /* "/api/v1" */
	const char *plural; /* "pods" */
	bool is_namespaced;
};
extern const struct tr_kube_kind tr_kube_pods, tr_kube_nodes, tr_kube_events,
	tr_kube_leases, tr_kube_namespaces, tr_kube_quotas;

/* "/api/v1/namespaces/SPACE/pods/NAME/SUB"; SPACE NULL: of all namespaces, or a kind without; NAME
 * NULL: the collection; SUB NULL: the object. -EINVAL for what is no name of an object: it may come
 * from somebody's annotation. */
#define TR_KUBE_PATH 1024
int tr_kube_path(char out[static TR_KUBE_PATH], const struct tr_kube_kind *kind,
		 const char *space, const char *name, const char *sub, struct tr_err *err);

#endif /* TR_KUBE_CLIENT_H */
