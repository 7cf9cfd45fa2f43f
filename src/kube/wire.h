/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_WIRE_H
#define TR_KUBE_WIRE_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#include "kube/access.h"
#include "tranche/err.h"

/*
 * One HTTP exchange with the API server at a time, many at once: libcurl's multi interface on a
 * libevent base. No retries, no meaning of replies: that is client.c and watch.c.
 *
 * Everything belongs to the thread that runs the base. A job's functions are called from the base's
 * loop, never from within a call of ours, and may call anything here but tr_wire_close().
 */
struct tr_wire;
struct tr_wire_job;

struct tr_wire_ask {
	const char *method; /* "GET" */
	const char *path;   /* with its query, from the first slash on */
	const char *content_type;
	const void *body; /* copied */
	size_t body_bytes;
	uint32_t timeout_ms; /* for all of it */
	uint32_t head_ms;    /* until the reply begins; 0: timeout_ms */
	size_t reply_max;    /* more bytes than this end it with -EMSGSIZE; 0: no end */
};

struct tr_wire_end {
	/* 0: a whole reply came, whatever its status. -ETIMEDOUT, -ECONNREFUSED (no connection was
	 * made), -ECONNRESET (it ended early), -EHOSTUNREACH (no such host), -EPROTO (TLS, HTTP),
	 * -EMSGSIZE, or what `bytes` returned. */
	int r;
	int status;             /* 0: no reply began */
	uint32_t retry_after_s; /* 0: not given */
	bool was_sent;          /* the server may have seen the request */
	const char *why;        /* a sentence when r < 0 */
};

struct tr_wire_events {
	/* The reply's status is known. Optional. */
	void (*head)(void *arg, int status);
	/* More of its body. Not 0 ends the job with that -errno. */
	int (*bytes)(void *arg, const char *bytes, size_t n);
	/* Once, and the last: the job is gone when it returns. */
	void (*end)(void *arg, const struct tr_wire_end *end);
};

/* Takes over ACCESS. The process must ignore SIGPIPE. */
int tr_wire_open(struct tr_wire **out, struct event_base *base,
		 struct tr_kube_access *access, struct tr_err *err);
/* All jobs have ended or were cancelled. */
void tr_wire_close(struct tr_wire *w);

struct tr_wire_job *tr_wire_start(struct tr_wire *w, const struct tr_wire_ask *ask,
				  const struct tr_wire_events *events, void *arg);
/* None of the job's functions is called any more. */
void tr_wire_cancel(struct tr_wire_job *job);

/* Credentials are looked at again before a request, at most every few seconds; this does so at once.
 * True when they are new. */
bool tr_wire_refresh(struct tr_wire *w);
const struct tr_kube_access *tr_wire_access(const struct tr_wire *w);
struct event_base *tr_wire_base(const struct tr_wire *w);

static inline struct timeval tr_wire_ms(uint64_t ms)
{
	return (struct timeval){ (time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000) };
}

#endif /* TR_KUBE_WIRE_H */
