/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../slice/draw.h"
#include "deviceplugin/report/http.h"
#include "rt/file.h"

/* The server over real sockets; the loop runs it whenever a client here waits. */

#define MS     UINT64_C(1000000)
#define LARGE  ((size_t)4 << 20)
#define GET(p) "GET " p " HTTP/1.1\r\nHost: h\r\n\r\n"

static struct event_base *base;
static struct tr_http *http;
static unsigned asked;

/* ---- the server ------------------------------------------------------------------------- */

static void say_small(const struct tr_http_request *request, struct tr_http_reply *reply,
		      void *arg)
{
	struct tr_buf text = { 0 };

	(void)arg;
	asked++;
	tr_buf_print(&text, "%s?%s", request->path, request->query);
	reply->body = tr_http_body_take(&text);
}

/* The same bytes for everybody. */
static void say_large(const struct tr_http_request *request, struct tr_http_reply *reply,
		      void *arg)
{
	struct tr_http_body **body = arg;

	(void)request;
	reply->body = tr_http_body_ref(*body);
}

static void say_not_ready(const struct tr_http_request *request,
			  struct tr_http_reply *reply, void *arg)
{
	(void)request;
	(void)arg;
	reply->status = 503;
}

static struct tr_http_body *large;
static const struct tr_http_route routes[] = {
	{ "/small", say_small, NULL },
	{ "/large", say_large, &large },
	{ "/readyz", say_not_ready, NULL },
};

static int open_server(void **state)
{
	struct tr_buf text = { 0 };
	char *bytes = calloc(1, LARGE);
	struct tr_err err;

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	memset(bytes, 'x', LARGE);
	tr_buf_add(&text, bytes, LARGE);
	free(bytes);
	large = tr_http_body_take(&text);
	asked = 0;
	base = event_base_new();
	return tr_http_open(base, "127.0.0.1:0", routes, TR_COUNT(routes), &http, &err);
}

static int close_server(void **state)
{
	(void)state;
	tr_http_close(http);
	tr_http_body_drop(large);
	event_base_free(base);
	return 0;
}

/* ---- clients ---------------------------------------------------------------------------- */

struct client {
	int fd;
	char *got;
	size_t n;
	bool is_closed, was_reset; /* by the server */
};

static void open_from(struct client *c, const char *address)
{
	struct sockaddr_in from = { .sin_family = AF_INET }, to = from;

	*c = (struct client){ .got = calloc(1, LARGE + 4096) };
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(c->fd >= 0 && c->got);
	(void)inet_pton(AF_INET, address, &from.sin_addr);
	assert_int_equal(bind(c->fd, (struct sockaddr *)&from, sizeof(from)), 0);
	(void)inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
	to.sin_port = htons(tr_http_port(http));
	assert_int_equal(connect(c->fd, (struct sockaddr *)&to, sizeof(to)), 0);
	(void)fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

static void open_client(struct client *c)
{
	open_from(c, "127.0.0.1");
}

static void close_client(struct client *c)
{
	(void)close(c->fd);
	free(c->got);
}

static void turn(void)
{
	(void)event_base_loop(base, EVLOOP_NONBLOCK);
}

static void take(struct client *c)
{
	ssize_t r;

	while ((r = recv(c->fd, c->got + c->n, LARGE + 4095 - c->n, 0)) > 0)
		c->n += (size_t)r;
	c->was_reset |= r < 0 && errno == ECONNRESET;
	c->is_closed |= r == 0 || c->was_reset;
	c->got[c->n] = '\0';
}

/* Turns the loop until the client has N bytes, or was closed, for MS_MAX at most. */
static void wait_bytes(struct client *c, size_t n, unsigned ms_max)
{
	uint64_t end = tr_clock_ns() + ms_max * MS;

	do {
		struct pollfd in = { c->fd, POLLIN, 0 };

		turn();
		(void)poll(&in, 1, 1);
		take(c);
	} while (c->n < n && !c->is_closed && tr_clock_ns() < end);
}

static void send_text(struct client *c, const char *text)
{
	assert_int_equal(send(c->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Until a whole answer with a body is there; its status. */
static int wait_answer(struct client *c)
{
	uint64_t end = tr_clock_ns() + 5000 * MS;
	const char *head, *length;
	int status;

	do {
		wait_bytes(c, c->n + 1, 100);
		head = strstr(c->got, "\r\n\r\n");
		length = strstr(c->got, "Content-Length: ");
		if (head && length &&
		    c->n >= (size_t)(head + 4 - c->got) + strtoul(length + 16, NULL, 10))
			break;
	} while (!c->is_closed && tr_clock_ns() < end);
	if (sscanf(c->got, "HTTP/1.1 %d ", &status) != 1)
		return 0;
	return status;
}

/* What was said so far is forgotten. */
static void forget(struct client *c)
{
	c->n = 0;
	c->got[0] = '\0';
}

static int ask(struct client *c, const char *request)
{
	forget(c);
	send_text(c, request);
	return wait_answer(c);
}

static void set_times(unsigned read_ms, unsigned write_ms, unsigned idle_ms)
{
	tr_http_set_times(http, &(struct tr_http_times){ read_ms, write_ms, idle_ms });
}

/* ---- what it does ----------------------------------------------------------------------- */

static void test_answers(void **state)
{
	struct client c;

	(void)state;
	open_client(&c);
	assert_int_equal(ask(&c, GET("/small?a=b")), 200);
	assert_non_null(strstr(c.got, "\r\n\r\n/small?a=b"));
	assert_non_null(strstr(c.got, "Content-Length: 10\r\n"));
	assert_non_null(strstr(c.got, " GMT\r\n"));
	assert_null(strstr(c.got, "Connection: close"));
	assert_int_equal(ask(&c, GET("/large")), 200);
	assert_true(c.n > LARGE);
	assert_int_equal(ask(&c, GET("/nothing")), 404);
	assert_int_equal(ask(&c, GET("/small/")), 404);
	assert_int_equal(ask(&c, GET("/readyz")), 503);
	forget(&c);
	send_text(&c, "HEAD /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	wait_bytes(&c, LARGE, 2000);
	assert_true(c.is_closed && c.n < 500);
	assert_non_null(strstr(c.got, "Content-Length: 4194304\r\n"));
	close_client(&c);
	assert_int_equal(tr_http_counts(http)->answers[2], 3);
	assert_int_equal(tr_http_counts(http)->answers[4], 2);
	assert_int_equal(tr_http_counts(http)->answers[5], 1);
}

/* Two requests in one segment, and one in pieces: each has its answer, in their order. */
static void test_pipeline(void **state)
{
	struct client c;

	(void)state;
	open_client(&c);
	send_text(&c, GET("/small?1") GET("/small?2") "GET /small?3 HTT");
	wait_bytes(&c, LARGE, 200);
	assert_int_equal(asked, 2);
	assert_non_null(strstr(strstr(c.got, "/small?1"), "/small?2"));
	send_text(&c, "P/1.1\r\nHost: h\r\n\r\n");
	wait_bytes(&c, c.n + 1, 1000);
	assert_int_equal(asked, 3);
	close_client(&c);
}

/* An answer's end does not wait until the client has confirmed its beginning. */
static void test_delay(void **state)
{
	struct client c;
	uint64_t begin;

	(void)state;
	open_client(&c);
	begin = tr_clock_ns();
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(ask(&c, GET("/small")), 200);
	assert_true(tr_clock_ns() - begin < 20 * 30 * MS);
	close_client(&c);
}

/* The answer arrives although the client is still sending. */
static void test_refused(void **state)
{
	static const struct {
		const char *request;
		int want;
	} cases[] = {
		{ "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n",
		  405 },
		{ "GET /small HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n", 413 },
		{ "GET /small HTTP/1.1\r\nHost: h\r\nX: ", 431 },
		{ "GET /", 414 },
		{ "\x16\x03\x01", 400 },
	};
	static char more[100000];

	(void)state;
	memset(more, 'y', sizeof(more));
	for (size_t i = 0; i < TR_COUNT(cases); i++) {
		struct client c;

		open_client(&c);
		send_text(&c, cases[i].request);
		for (unsigned k = 0; k < 20; k++) {
			c.was_reset |= send(c.fd, more, sizeof(more) / 20, MSG_NOSIGNAL) <
					       0 &&
				       errno != EAGAIN;
			turn();
		}
		assert_int_equal(wait_answer(&c), cases[i].want);
		assert_non_null(strstr(c.got, "Connection: close\r\n"));
		/* an end, not a reset, which could take the answer away again */
		wait_bytes(&c, LARGE, 500);
		assert_true(c.is_closed && !c.was_reset);
		close_client(&c);
	}
	assert_int_equal(asked, 0);
}

/* ---- who is slow ------------------------------------------------------------------------ */

/* A byte now and then does not give it more time. */
static void test_slow_request(void **state)
{
	static const char request[] = GET("/small");
	uint64_t begin = tr_clock_ns();
	struct client c;

	(void)state;
	set_times(300, 300, 300);
	open_client(&c);
	for (size_t i = 0; i < sizeof(request) - 1 && !c.is_closed; i++) {
		(void)send(c.fd, &request[i], 1, MSG_NOSIGNAL);
		wait_bytes(&c, 1, 40);
	}
	assert_true(c.is_closed);
	assert_int_equal(asked, 0);
	assert_true(tr_clock_ns() - begin < 2000 * MS);
	assert_int_equal(tr_http_counts(http)->timed_out, 1);
	close_client(&c);
}

/* It takes a few bytes now and then, and never all. */
static void test_slow_reader(void **state)
{
	struct client c, other;
	uint64_t begin;

	(void)state;
	set_times(300, 500, 300);
	open_client(&c);
	send_text(&c, GET("/large"));
	begin = tr_clock_ns();
	while (tr_http_counts(http)->timed_out == 0 && tr_clock_ns() - begin < 5000 * MS) {
		char few[64];

		turn();
		(void)recv(c.fd, few, sizeof(few), 0);
		tr_sleep_ns(10 * MS);
		if (tr_clock_ns() - begin < 200 * MS) { /* meanwhile others are served */
			open_client(&other);
			assert_int_equal(ask(&other, GET("/small")), 200);
			close_client(&other);
		}
	}
	assert_int_equal(tr_http_counts(http)->timed_out, 1);
	close_client(&c);
}

static void test_idle(void **state)
{
	struct client c, silent;

	(void)state;
	set_times(200, 200, 400);
	open_client(&c);
	open_client(&silent);
	assert_int_equal(ask(&c, GET("/small")), 200);
	wait_bytes(&silent, 1, 1000);
	assert_true(silent.is_closed);
	take(&c);
	assert_false(c.is_closed);
	wait_bytes(&c, LARGE, 2000);
	assert_true(c.is_closed);
	close_client(&c);
	close_client(&silent);
}

/* ---- who is many ------------------------------------------------------------------------ */

static void test_many(void **state)
{
	struct client kept, half, many[100], one;

	(void)state;
	open_client(&kept);
	assert_int_equal(ask(&kept, GET("/small")), 200);
	open_client(&half); /* its time is up before that of all who come now */
	send_text(&half, "GET /sma");
	for (unsigned i = 0; i < TR_COUNT(many); i++) {
		open_from(&many[i], "127.0.0.2");
		turn();
		assert_true(tr_http_counts(http)->connections <= TR_HTTP_CONNECTIONS);
	}
	/* who was there first, and from elsewhere, still is; and one who comes now is served */
	assert_int_equal(ask(&kept, GET("/small")), 200);
	assert_int_equal(ask(&half, "ll HTTP/1.1\r\nHost: h\r\n\r\n"), 200);
	close_client(&half);
	open_client(&one);
	assert_int_equal(ask(&one, GET("/small")), 200);
	close_client(&one);
	/* so is one of those who are many */
	open_from(&one, "127.0.0.2");
	assert_int_equal(ask(&one, GET("/small")), 200);
	close_client(&one);
	for (unsigned i = 0; i < TR_COUNT(many); i++)
		close_client(&many[i]);
	close_client(&kept);
	for (unsigned i = 0; i < 20; i++) {
		turn();
		tr_sleep_ns(MS);
	}
	assert_int_equal(tr_http_counts(http)->connections, 0);
}

/* Many that want much and read nothing: few are kept, and nobody else waits for them. */
static void test_many_large(void **state)
{
	struct client many[20], one;
	unsigned open = 0;

	(void)state;
	for (unsigned i = 0; i < TR_COUNT(many); i++) {
		open_from(&many[i], "127.0.0.2");
		send_text(&many[i], GET("/large"));
		turn();
		turn();
	}
	assert_int_equal(tr_http_counts(http)->put_out, TR_COUNT(many) - TR_HTTP_LARGE);
	open_client(&one);
	assert_int_equal(ask(&one, GET("/large")), 200);
	assert_true(one.n > LARGE);
	for (unsigned i = 0; i < TR_COUNT(many); i++) {
		wait_bytes(&many[i], LARGE + 1, 5000);
		open += many[i].n > LARGE;
		close_client(&many[i]);
	}
	assert_true(open >= TR_HTTP_LARGE - 1 && open <= TR_HTTP_LARGE);
	close_client(&one);
}

/* ---- who is mad ------------------------------------------------------------------------- */

static void test_garbage(void **state)
{
	static const char *const words[] = { "GET ",
					     "/small",
					     " HTTP/1.1",
					     "\r\n",
					     "Host: h",
					     "\r\n\r\n",
					     "HEAD ",
					     ":",
					     "/large",
					     "Connection: ",
					     "close",
					     "\n",
					     "Content-Length: 5" };
	struct client c;

	(void)state;
	draw_from(0x5eed);
	for (unsigned i = 0; i < 1500; i++) {
		unsigned pieces = (unsigned)draw(12);

		open_client(&c);
		for (unsigned k = 0; k < pieces; k++) {
			const char *word = words[draw(TR_COUNT(words))];
			char byte = (char)draw(256);

			if (draw(8) == 0)
				(void)send(c.fd, &byte, 1, MSG_NOSIGNAL);
			else
				(void)send(c.fd, word, strlen(word), MSG_NOSIGNAL);
			if (draw(3) == 0)
				turn();
		}
		if (draw(2))
			(void)shutdown(c.fd, SHUT_WR);
		turn();
		close_client(&c);
		assert_true(tr_http_counts(http)->connections <= TR_HTTP_CONNECTIONS);
	}
	open_client(&c);
	assert_int_equal(ask(&c, GET("/small")), 200);
	close_client(&c);
}

/* ---- addresses -------------------------------------------------------------------------- */

static bool can_connect(int family, const char *address, uint16_t port)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	(void)inet_pton(family, address,
			family == AF_INET ? (void *)&v4.sin_addr : (void *)&v6.sin6_addr);
	r = family == AF_INET ? connect(fd, (struct sockaddr *)&v4, sizeof(v4))
			      : connect(fd, (struct sockaddr *)&v6, sizeof(v6));
	(void)close(fd);
	return r == 0;
}

static bool has_v6(void)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has = fd >= 0 && bind(fd, (struct sockaddr *)&v6, sizeof(v6)) == 0;

	if (fd >= 0)
		(void)close(fd);
	return has;
}

static void test_addresses(void **state)
{
	struct tr_http *other = NULL;
	struct tr_err err = { 0 };
	char address[32];

	(void)state;
	(void)snprintf(address, sizeof(address), "127.0.0.1:%u", tr_http_port(http));
	assert_int_equal(tr_http_open(base, address, routes, 1, &other, &err), -EADDRINUSE);
	assert_non_null(strstr(err.msg, address));
	assert_int_equal(tr_http_open(base, "here", routes, 1, &other, &err), -EINVAL);
	assert_int_equal(tr_http_open(base, ":0", routes, 1, &other, &err), 0);
	assert_true(can_connect(AF_INET, "127.0.0.1", tr_http_port(other)));
	if (has_v6())
		assert_true(can_connect(AF_INET6, "::1", tr_http_port(other)));
	tr_http_close(other);
}

/* Closed in the middle of everything. */
static void test_close(void **state)
{
	struct client c[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		open_client(&c[i]);
	send_text(&c[1], GET("/large"));
	send_text(&c[2], "GET /");
	turn();
	turn();
	tr_http_close(http);
	http = NULL;
	turn();
	for (unsigned i = 0; i < 3; i++) {
		wait_bytes(&c[i], LARGE + 1000, 500);
		assert_true(c[i].is_closed);
		close_client(&c[i]);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_server, close_server)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_answers), TEST(test_pipeline),     TEST(test_delay),
		TEST(test_refused), TEST(test_slow_request), TEST(test_slow_reader),
		TEST(test_idle),    TEST(test_many),         TEST(test_many_large),
		TEST(test_garbage), TEST(test_addresses),    TEST(test_close),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
