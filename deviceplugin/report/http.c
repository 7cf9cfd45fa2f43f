/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "deviceplugin/report/http_address.h"
#include "rt/cleanup.h"
#include "rt/file.h"

#define ROUTES_MAX    16
#define BACKLOG       64
#define SEND_BYTES    (64 << 10) /* of a socket's own; the kernel doubles it */
#define LINGER_MS     1000       /* for what a refused client still sends */
#define NO_SOCKETS_US 200000

enum state {
	READING,   /* the first request, or one that has begun */
	IDLE,      /* between two */
	WRITING,   /* nothing is read meanwhile */
	LINGERING, /* answered; what comes is thrown away until the client is through */
};

struct conn {
	struct tr_http *http;
	struct bufferevent *bev; /* NULL: this row is free */
	struct event *timer;
	enum state state;
	uint64_t until_ns;
	struct in6_addr peer;
	bool keep, is_large;
};

struct tr_http {
	struct event_base *base;
	struct evconnlistener *listener;
	struct event *again; /* when there was no socket for a newcomer */
	const struct tr_http_route *routes;
	size_t route_count;
	uint16_t port;
	struct tr_http_times times;
	struct conn conns[TR_HTTP_CONNECTIONS];
	struct tr_http_counts counts;
};

/* ---- bodies ----------------------------------------------------------------------------- */

struct tr_http_body {
	unsigned refs;
	size_t n;
	char *bytes;
};

struct tr_http_body *tr_http_body_take(struct tr_buf *text)
{
	struct tr_http_body *body = tr_xmalloc(sizeof(*body));

	*body = (struct tr_http_body){ .refs = 1, .n = text->n };
	/* Without the room it had to grow: it may be held for long. */
	body->bytes = tr_xrealloc(tr_buf_take(text), body->n + 1);
	return body;
}

struct tr_http_body *tr_http_body_ref(struct tr_http_body *body)
{
	body->refs++;
	return body;
}

void tr_http_body_drop(struct tr_http_body *body)
{
	if (!body || --body->refs)
		return;
	free(body->bytes);
	free(body);
}

static void drop_sent(const void *bytes, size_t n, void *body)
{
	(void)bytes;
	(void)n;
	tr_http_body_drop(body);
}

/* ---- connections ------------------------------------------------------------------------ */

static void close_conn(struct conn *conn)
{
	bufferevent_free(conn->bev);
	event_free(conn->timer);
	conn->bev = NULL;
	conn->timer = NULL;
	conn->is_large = false;
	conn->http->counts.connections--;
}

static void enter(struct conn *conn, enum state state)
{
	const struct tr_http_times *times = &conn->http->times;
	unsigned ms = state == READING   ? times->read_ms
		      : state == IDLE    ? times->idle_ms
		      : state == WRITING ? times->write_ms
					 : LINGER_MS;
	struct timeval wait = { ms / 1000, (suseconds_t)(ms % 1000) * 1000 };

	conn->state = state;
	conn->until_ns = tr_clock_ns() + ms * UINT64_C(1000000);
	(void)evtimer_add(conn->timer, &wait);
}

static unsigned count_of(const struct tr_http *http, const struct in6_addr *peer,
			 bool large_only)
{
	unsigned n = 0;

	for (unsigned i = 0; i < TR_HTTP_CONNECTIONS; i++) {
		const struct conn *conn = &http->conns[i];

		n += conn->bev && (conn->is_large || !large_only) &&
		     memcmp(&conn->peer, peer, sizeof(*peer)) == 0;
	}
	return n;
}

/* Of the address that has most, the one whose time is up first. */
static void put_one_out(struct tr_http *http, bool large_only)
{
	struct conn *worst = NULL;
	unsigned most = 0;

	for (unsigned i = 0; i < TR_HTTP_CONNECTIONS; i++) {
		struct conn *conn = &http->conns[i];
		unsigned n;

		if (!conn->bev || (large_only && !conn->is_large))
			continue;
		n = count_of(http, &conn->peer, large_only);
		if (!worst || n > most || (n == most && conn->until_ns < worst->until_ns)) {
			worst = conn;
			most = n;
		}
	}
	if (worst) {
		http->counts.put_out++;
		close_conn(worst);
	}
}

/* ---- answers ---------------------------------------------------------------------------- */

static const char *name_status(int status)
{
	static const struct {
		int status;
		const char *name;
	} names[] = {
		{ 200, "OK" },
		{ 400, "Bad Request" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 413, "Content Too Large" },
		{ 414, "URI Too Long" },
		{ 431, "Request Header Fields Too Large" },
		{ 503, "Service Unavailable" },
		{ 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (names[i].status == status)
			return names[i].name;
	return "Other";
}

static void add_head(const struct conn *conn, struct evbuffer *out,
		     const struct tr_http_reply *reply)
{
	char date[64] = "";
	time_t now = time(NULL);
	struct tm utc;

	if (gmtime_r(&now, &utc))
		(void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &utc);
	(void)evbuffer_add_printf(out,
				  "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\n"
				  "Content-Length: %zu\r\nCache-Control: no-store\r\n"
				  "X-Content-Type-Options: nosniff\r\n%s%s\r\n",
				  reply->status, name_status(reply->status), date,
				  reply->type, reply->body->n,
				  reply->status == 405 ? "Allow: GET, HEAD\r\n" : "",
				  conn->keep ? "" : "Connection: close\r\n");
}

/* Takes REPLY's body over. */
static void answer(struct conn *conn, struct tr_http_reply *reply, bool is_head)
{
	struct evbuffer *out = bufferevent_get_output(conn->bev);
	unsigned large = 0;

	(void)bufferevent_disable(conn->bev, EV_READ);
	conn->http->counts.answers[reply->status / 100 % 6]++;
	add_head(conn, out, reply);
	if (reply->body->n && !is_head) {
		for (unsigned i = 0; i < TR_HTTP_CONNECTIONS; i++)
			large += conn->http->conns[i].is_large;
		if (reply->body->n > TR_HTTP_LARGE_BYTES && large >= TR_HTTP_LARGE)
			put_one_out(conn->http, true);
		conn->is_large = reply->body->n > TR_HTTP_LARGE_BYTES;
		(void)evbuffer_add_reference(out, reply->body->bytes, reply->body->n,
					     drop_sent, tr_http_body_ref(reply->body));
	}
	tr_http_body_drop(reply->body);
	enter(conn, WRITING);
}

static struct tr_http_body *say_status(int status)
{
	struct tr_buf text = { 0 };

	tr_buf_print(&text, "%d %s\n", status, name_status(status));
	return tr_http_body_take(&text);
}

static void serve(struct conn *conn, const struct tr_http_request *request)
{
	const struct tr_http *http = conn->http;
	struct tr_http_reply reply = { 404, "text/plain; charset=utf-8", NULL };

	for (size_t i = 0; i < http->route_count; i++)
		if (strcmp(http->routes[i].path, request->path) == 0) {
			reply.status = 200;
			http->routes[i].handler(request, &reply, http->routes[i].arg);
			break;
		}
	if (!reply.body)
		reply.body = say_status(reply.status);
	conn->keep = request->keep;
	answer(conn, &reply, request->is_head);
}

/* A request, if a whole one has come. */
static void read_request(struct conn *conn)
{
	struct evbuffer *in = bufferevent_get_input(conn->bev);
	size_t n = evbuffer_get_length(in);
	struct tr_http_request request;
	const char *bytes;
	int r;

	if (n == 0)
		return;
	if (conn->state == IDLE)
		enter(conn, READING);
	bytes = (const char *)evbuffer_pullup(in, (ssize_t)n);
	r = bytes ? tr_http_parse(bytes, n, &request) : -400;
	if (r > 0) {
		(void)evbuffer_drain(in, (size_t)r);
		serve(conn, &request);
	} else if (r < 0) {
		struct tr_http_reply reply = { -r, "text/plain; charset=utf-8",
					       say_status(-r) };

		conn->keep = false;
		answer(conn, &reply, false);
	}
}

static void throw_away(struct conn *conn)
{
	struct evbuffer *in = bufferevent_get_input(conn->bev);

	(void)evbuffer_drain(in, evbuffer_get_length(in));
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct conn *conn = arg;

	(void)bev;
	if (conn->state == LINGERING)
		throw_away(conn);
	else if (conn->state != WRITING)
		read_request(conn);
}

/* All of the answer is with the kernel. */
static void on_written(struct bufferevent *bev, void *arg)
{
	struct conn *conn = arg;

	if (conn->state != WRITING)
		return;
	conn->is_large = false;
	(void)bufferevent_enable(bev, EV_READ);
	if (conn->keep) {
		enter(conn, IDLE);
		read_request(conn); /* one may have come with the last */
		return;
	}
	/* Closed with bytes unread, the kernel would take the answer back. */
	(void)shutdown(bufferevent_getfd(bev), SHUT_WR);
	throw_away(conn);
	enter(conn, LINGERING);
}

static void on_end(struct bufferevent *bev, short what, void *arg)
{
	struct conn *conn = arg;

	(void)bev;
	(void)what;
	close_conn(conn);
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd;
	(void)what;
	conn->http->counts.timed_out += conn->state == READING || conn->state == WRITING;
	close_conn(conn);
}

/* ---- newcomers -------------------------------------------------------------------------- */

static struct in6_addr peer_of(const struct sockaddr *from)
{
	struct in6_addr peer = IN6ADDR_ANY_INIT;
	const struct sockaddr_in *v4 = (const void *)from;
	const struct sockaddr_in6 *v6 = (const void *)from;

	if (from->sa_family == AF_INET6)
		return v6->sin6_addr;
	peer.s6_addr[10] = peer.s6_addr[11] = 0xff;
	if (from->sa_family == AF_INET)
		memcpy(&peer.s6_addr[12], &v4->sin_addr, 4);
	return peer;
}

static struct conn *free_row(struct tr_http *http)
{
	for (unsigned i = 0; i < TR_HTTP_CONNECTIONS; i++)
		if (!http->conns[i].bev)
			return &http->conns[i];
	return NULL;
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
		      struct sockaddr *from, int from_n, void *arg)
{
	struct tr_http *http = arg;
	struct conn *conn = free_row(http);
	int send_bytes = SEND_BYTES;

	(void)listener;
	(void)from_n;
	if (!conn) {
		put_one_out(http, false);
		conn = free_row(http);
	}
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes));
	*conn = (struct conn){ .http = http, .peer = peer_of(from) };
	conn->timer = evtimer_new(http->base, on_time, conn);
	conn->bev = bufferevent_socket_new(http->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!conn->timer || !conn->bev)
		abort();
	http->counts.accepted++;
	http->counts.connections++;
	bufferevent_setcb(conn->bev, on_read, on_written, on_end, conn);
	bufferevent_setwatermark(conn->bev, EV_READ, 0, TR_HTTP_REQUEST);
	(void)bufferevent_set_max_single_read(conn->bev, TR_HTTP_REQUEST);
	(void)bufferevent_enable(conn->bev, EV_READ | EV_WRITE);
	enter(conn, READING);
}

/* No descriptor left, say: asking again at once would be a busy loop. */
static void on_trouble(struct evconnlistener *listener, void *arg)
{
	struct tr_http *http = arg;
	struct timeval wait = { .tv_usec = NO_SOCKETS_US };

	(void)evconnlistener_disable(listener);
	(void)evtimer_add(http->again, &wait);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	struct tr_http *http = arg;

	(void)fd;
	(void)what;
	(void)evconnlistener_enable(http->listener);
}

/* ---- opening ---------------------------------------------------------------------------- */

static int listen_at(const struct sockaddr *address, socklen_t n, bool is_any)
{
	tr_autoclose int fd = socket(address->sa_family,
				     SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, off = 0;

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* What is accepted inherits it: an answer's last piece does not wait for the client. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (address->sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, is_any ? &off : &on,
				 sizeof(on));
	if (bind(fd, address, n) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return tr_take_fd(&fd);
}

static int open_socket(const char *text, struct tr_err *err)
{
	struct tr_http_address at;
	int fd, r = tr_http_address_parse(text, &at, err);

	if (r < 0)
		return r;
	if (at.is_v6)
		fd = listen_at((const struct sockaddr *)&at.v6, sizeof(at.v6), at.is_any);
	else
		fd = listen_at((const struct sockaddr *)&at.v4, sizeof(at.v4), false);
	if (at.is_any && fd == -EAFNOSUPPORT) { /* a machine without IPv6 */
		at.v4.sin_family = AF_INET;
		fd = listen_at((const struct sockaddr *)&at.v4, sizeof(at.v4), false);
	}
	return fd < 0 ? tr_fail(err, -fd, "listen at %s: %s", text, strerror(-fd)) : fd;
}

int tr_http_open(struct event_base *base, const char *address,
		 const struct tr_http_route *routes, size_t count, struct tr_http **out,
		 struct tr_err *err)
{
	struct sockaddr_in6 bound = { 0 };
	socklen_t n = sizeof(bound);
	struct tr_http *http;
	int fd;

	if (count > ROUTES_MAX)
		return tr_fail(err, EINVAL, "%zu routes: %d at most", count, ROUTES_MAX);
	fd = open_socket(address, err);
	if (fd < 0)
		return fd;
	http = tr_xcalloc(1, sizeof(*http));
	*http = (struct tr_http){ .base = base, .routes = routes, .route_count = count };
	http->times = (struct tr_http_times){ TR_HTTP_READ_MS, TR_HTTP_WRITE_MS,
					      TR_HTTP_IDLE_MS };
	if (getsockname(fd, (struct sockaddr *)&bound, &n) == 0)
		http->port = ntohs(bound.sin6_port); /* v4 has it at the same place */
	http->again = evtimer_new(base, on_again, http);
	http->listener = evconnlistener_new(base, on_accept, http,
					    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
					    0, fd);
	if (!http->again || !http->listener)
		abort();
	evconnlistener_set_error_cb(http->listener, on_trouble);
	*out = http;
	return 0;
}

void tr_http_close(struct tr_http *http)
{
	if (!http)
		return;
	for (unsigned i = 0; i < TR_HTTP_CONNECTIONS; i++)
		if (http->conns[i].bev)
			close_conn(&http->conns[i]);
	evconnlistener_free(http->listener);
	event_free(http->again);
	free(http);
}

void tr_http_set_times(struct tr_http *http, const struct tr_http_times *times)
{
	http->times = *times;
}

uint16_t tr_http_port(const struct tr_http *http)
{
	return http->port;
}

const struct tr_http_counts *tr_http_counts(const struct tr_http *http)
{
	return &http->counts;
}
