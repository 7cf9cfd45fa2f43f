/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_HTTP_H
#define TR_REPORT_HTTP_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "tranche/err.h"

/*
 * A small HTTP/1.1 server for pages that are made on demand: GET and HEAD, exact paths, no request
 * bodies. All in the loop's thread.
 *
 * What a client can take is bounded, whatever it sends or does not read: 32 connections; 8 KiB of
 * request, which has 5 s to arrive whole; an answer has 15 s to be taken whole; 75 s between two
 * requests; four answers at a time that are larger than what a socket holds. Where there is no room a
 * newcomer puts out a connection of the address that has most of them, the one whose time would be up
 * first. Bodies are shared between connections, not copied.
 * (evhttp of libevent 2.1 can bound neither connections nor the time of a whole request: each byte
 * gives the client its time anew.)
 */
#define TR_HTTP_CONNECTIONS 32u
#define TR_HTTP_LARGE       4u
#define TR_HTTP_LARGE_BYTES ((size_t)64 << 10)
#define TR_HTTP_REQUEST     8192u
#define TR_HTTP_READ_MS     5000
#define TR_HTTP_WRITE_MS    15000
#define TR_HTTP_IDLE_MS     75000

/* ---- requests: pure --------------------------------------------------------------------- */

struct tr_http_request {
	bool is_head;
	bool keep;        /* the client would ask again on this connection */
	char path[128];   /* as sent, without the query */
	char query[256];  /* without its '?' */
	char accept[768]; /* all Accept fields, joined by ", "; "" when they do not fit */
};

/* Reads a request at the start of BYTES. Its length when it is complete, 0 when more bytes are needed,
 * else minus the status to answer with before the connection is closed: 400, 405, 413, 414, 431, 505. */
int tr_http_parse(const char *bytes, size_t n, struct tr_http_request *out);

/* ---- answers ---------------------------------------------------------------------------- */

/* Bytes that several answers share. */
struct tr_http_body;
struct tr_http_body *tr_http_body_take(struct tr_buf *text); /* TEXT is empty after it */
struct tr_http_body *tr_http_body_ref(struct tr_http_body *body);
void tr_http_body_drop(struct tr_http_body *body); /* NULL is fine */

struct tr_http_reply {
	int status; /* 200 unless changed */
	const char *
		type; /* Content-Type; lives for ever. "text/plain; charset=utf-8" unless changed */
	struct tr_http_body *body; /* a reference, which the server takes; NULL: empty */
};

typedef void tr_http_handler(const struct tr_http_request *request,
			     struct tr_http_reply *reply, void *arg);

struct tr_http_route {
	const char *path;
	tr_http_handler *handler;
	void *arg;
};

/* ---- the server ------------------------------------------------------------------------- */

struct tr_http;

struct tr_http_counts {
	uint64_t answers[6]; /* by the first digit of their status: [2], [4], [5] */
	uint64_t accepted, put_out, timed_out;
	unsigned connections;
};

/* Listens at ADDRESS: "127.0.0.1:9394", "[::1]:9394", ":9394" (every address of the machine, of both
 * families where it has both); port 0: any. Numbers only, no names. ROUTES (no more than 16) must
 * live as long as the server. The process must ignore SIGPIPE. 0, -EINVAL (not such an address), -EADDRINUSE and what bind() says. */
int tr_http_open(struct event_base *base, const char *address,
		 const struct tr_http_route *routes, size_t count, struct tr_http **out,
		 struct tr_err *err);
void tr_http_close(struct tr_http *http); /* NULL is fine; not from a handler */
uint16_t tr_http_port(const struct tr_http *http);
const struct tr_http_counts *tr_http_counts(const struct tr_http *http);

/* Other times than those above, from the next time on; for who has not got so long. */
struct tr_http_times {
	unsigned read_ms, write_ms, idle_ms;
};
void tr_http_set_times(struct tr_http *http, const struct tr_http_times *times);

/* 0 or -EINVAL: what tr_http_open() takes for an address; for who checks a configuration. */
int tr_http_address_check(const char *address, struct tr_err *err);

#endif /* TR_REPORT_HTTP_H */
