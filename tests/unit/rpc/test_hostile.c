/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that say anything, stop in the middle or never read: the server goes on for others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "raw.h"
#include "rig.h"
#include "rt/file.h"
#include "tr_test.h"

#define ID "\x0a\x05GPU-0" /* a good request */

static struct raw raw;

/* A real client is still served, and nothing was handled but its call. */
static void assert_serves(unsigned handled_before)
{
	struct answer a;

	rig_ask("/t.T/Echo", "still", false, 5000, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_OK);
	assert_int_equal(rig.handled, handled_before + 1);
}

static bool until_ended(struct raw *r, unsigned streams)
{
	uint64_t end = tr_clock_ns() + UINT64_C(5000000000);

	while (raw_ended(r) < streams && !r->is_closed && tr_clock_ns() < end) {
		raw_send(r);
		rig_run_ms(2);
		raw_read(r);
	}
	return raw_ended(r) >= streams;
}

static bool until_closed(struct raw *r)
{
	uint64_t end = tr_clock_ns() + UINT64_C(5000000000);

	while (!r->is_closed && tr_clock_ns() < end) {
		raw_send(r);
		rig_run_ms(2);
		raw_read(r);
	}
	return r->is_closed;
}

/* One stream with the method PATH and one data frame. */
static const struct stream_case {
	const char *name, *path, *encoding;
	uint8_t compressed;
	uint32_t length;
	const char *bytes;
	size_t n;
	const char *says; /* the server, in the trailers */
	unsigned
		handled; /* gRPC takes a flag without an encoding that it knows for nothing */
} streams[] = {
#define M(text) 0, sizeof(text) - 1, text, sizeof(text) - 1
	{ "unknown method", "/t.T/None", NULL, M(ID), "unknown method" },
	{ "unknown service", "/x.Y/Echo", NULL, M(ID), "unknown method" },
	{ "no slash", "Echo", NULL, M(ID), NULL },
	{ "a prefix of a method", "/t.T/Ech", NULL, M(ID), "unknown method" },
	{ "more than a method", "/t.T/Echo/", NULL, M(ID), "unknown method" },
	{ "protobuf cut off", "/t.T/Echo", NULL, M("\x0a\x05GPU"),
	  "CDIDevice.name is cut off" },
	{ "protobuf of noise", "/t.T/Echo", NULL, M("\xff\xff\xff\xff\xff\xff"),
	  "CDIDevice" },
	{ "NUL in a string", "/t.T/Echo", NULL, M("\x0a\x03g\0x"), "not text" },
	{ "message shorter than said", "/t.T/Echo", NULL, 0, 100, ID, 7, NULL },
	{ "1 GiB announced", "/t.T/Echo", NULL, 0, 1u << 30, ID, 7, NULL },
	{ "4 GiB announced", "/t.T/Echo", NULL, 0, UINT32_MAX, ID, 7, NULL },
	{ "flag of compression alone", "/t.T/Echo", NULL, 1, 7, ID, 7, NULL, 1 },
	{ "gzip that is none", "/t.T/Echo", "gzip", 1, 7, ID, 7, NULL },
	{ "gzip of an empty message", "/t.T/Echo", "gzip", 1, 20,
	  "\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0", 20, NULL },
	{ "unknown encoding", "/t.T/Echo", "zigzag", 1, 7, ID, 7, NULL, 1 },
	{ "a flag of 0xff", "/t.T/Echo", NULL, 0xff, 7, ID, 7, NULL, 1 },
};

static void one_stream(void **state)
{
	const struct stream_case *c = *state;

	rig_open(NULL);
	raw_open(&raw, rig.path);
	raw_preface(&raw);
	raw_call(&raw, 1, c->path, c->encoding, false);
	raw_message(&raw, 1, c->compressed, c->length, c->bytes, c->n);
	assert_true(until_ended(&raw, 1) || raw.is_closed);
	if (c->says)
		assert_true(raw_says(&raw, c->says));
	assert_serves(c->handled);
	raw_close(&raw);
	rig_close(NULL);
}

static void good_bytes(void **state)
{
	(void)state;
	raw_open(&raw, rig.path);
	raw_preface(&raw);
	raw_call(&raw, 1, "/t.T/Echo", NULL, false);
	raw_message(&raw, 1, 0, 7, ID, 7);
	assert_true(until_ended(&raw, 1));
	assert_true(raw_says(&raw, ID));
	assert_serves(1);
	raw_close(&raw);
}

static void no_message(void **state)
{
	(void)state;
	raw_open(&raw, rig.path);
	raw_preface(&raw);
	raw_call(&raw, 1, "/t.T/Echo", NULL, true);
	assert_true(until_ended(&raw, 1));
	assert_true(raw_says(&raw, "no request"));
	assert_serves(0);
	raw_close(&raw);
}

/* Headers and no end: taken as gone after unary_ms. */
static void request_never_comes(void **state)
{
	(void)state;
	raw_open(&raw, rig.path);
	raw_preface(&raw);
	for (uint32_t i = 0; i < 200; i++)
		raw_call(&raw, 2 * i + 1, "/t.T/Echo", NULL, false);
	assert_true(until_ended(&raw, 200));
	assert_serves(0);
	raw_close(&raw);
}

static void not_http2(void **state)
{
	static const char *const greetings[] = {
		"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello, this is TLS, is it "
		"not? yes",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\xff\xff\xff\xff\xff and "
		"then noise",
		"\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n",
	};

	(void)state;
	for (size_t i = 0; i < TR_COUNT(greetings); i++) {
		raw_open(&raw, rig.path);
		raw_bytes(&raw, greetings[i], strlen(greetings[i]));
		assert_true(until_closed(&raw));
		raw_close(&raw);
	}
	assert_serves(0);
}

/* Says nothing, or half a preface: closed after idle_ms. */
static void silence(void **state)
{
	static struct raw other;

	(void)state;
	raw_open(&raw, rig.path);
	raw_open(&other, rig.path);
	raw_bytes(&other, "PRI * HT", 8);
	raw_send(&other);
	assert_true(until_closed(&raw));
	assert_true(until_closed(&other));
	raw_close(&raw);
	raw_close(&other);
	assert_serves(0);
}

static void large_metadata(void **state)
{
	char path[16000];

	(void)state;
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	raw_open(&raw, rig.path);
	raw_preface(&raw);
	raw_call(&raw, 1, path, NULL, true);
	assert_true(until_ended(&raw, 1) || raw.is_closed);
	assert_serves(0);
	raw_close(&raw);
}

static void reset_by_peer(void **state)
{
	(void)state;
	raw_open(&raw, rig.path);
	raw_preface(&raw);
	raw_call(&raw, 1, "/t.T/Never", NULL, false);
	raw_message(&raw, 1, 0, 7, ID, 7);
	raw_send(&raw);
	assert_true(rig_until(&rig.handled, 1));
	raw_frame(&raw, RAW_RST, 0, 1, "\0\0\0\x08", 4);
	raw_send(&raw);
	assert_true(rig_until(&rig.gone, 1));
	assert_serves(1);
	raw_close(&raw);
}

/* The connection goes in the middle: of a stream, a call, a request, a frame. */
static void vanishes(void **state)
{
	(void)state;
	raw_open(&raw, rig.path);
	raw_preface(&raw);
	raw_call(&raw, 1, "/t.T/Stream", NULL, false);
	raw_message(&raw, 1, 0, 2, "\x0a\0", 2);
	raw_call(&raw, 3, "/t.T/Never", NULL, false);
	raw_message(&raw, 3, 0, 7, ID, 7);
	raw_call(&raw, 5, "/t.T/Echo", NULL, false);
	raw_frame(&raw, RAW_DATA, 0, 5, "\0\0\0\0\x07\x0a", 6);
	raw_bytes(&raw, "\0\0\x30\x01", 4);
	raw_send(&raw);
	assert_true(rig_until(&rig.handled, 2));
	raw_close(&raw);
	assert_true(rig_until(&rig.gone, 2));
	assert_serves(2);
}

/* A reader that does not read: the stream stops at what the connection holds. */
static void never_reads(void **state)
{
	unsigned sent_before;

	(void)state;
	raw_open(&raw, rig.path);
	raw_preface(&raw);
	raw_call(&raw, 1, "/t.T/Stream", NULL, false);
	raw_message(&raw, 1, 0, 12,
		    "\x0a\x0a"
		    "4000000000",
		    12);
	raw_send(&raw);
	assert_true(rig_until(&rig.handled, 1));
	do {
		sent_before = rig.streamed;
		rig_run_ms(300);
	} while (rig.streamed != sent_before);
	/* 65535 bytes of window, some 9 for each message, and what gRPC buffers ahead */
	assert_in_range(rig.streamed, 100, 40000);
	assert_serves(1);
	raw_close(&raw);
	assert_true(rig_until(&rig.gone, 1));
}

static void many_connections(void **state)
{
	static struct raw peers[300];

	(void)state;
	for (size_t i = 0; i < TR_COUNT(peers); i++) {
		raw_open(&peers[i], rig.path);
		raw_preface(&peers[i]);
		raw_call(&peers[i], 1, "/t.T/Later", NULL, false);
		raw_message(&peers[i], 1, 0, 7, ID, 7);
		raw_send(&peers[i]);
		if (i % 100 == 99)
			rig_run_ms(20); /* the listener's backlog */
	}
	for (size_t i = 0; i < TR_COUNT(peers); i++)
		assert_true(until_ended(&peers[i], 1));
	for (size_t i = 0; i < TR_COUNT(peers); i++)
		raw_close(&peers[i]);
	assert_serves(rig.handled);
}

static void put_session(struct raw *r)
{
	raw_preface(r);
	raw_call(r, 1, "/t.T/Echo", NULL, false);
	raw_message(r, 1, 0, 7, ID, 7);
	raw_call(r, 3, "/t.T/Stream", NULL, false);
	raw_message(r, 3, 0, 3, "\x0a\x01\x33", 3);
	raw_frame(r, RAW_PING, 0, 0, "12345678", 8);
	raw_call(r, 5, "/t.T/Later", NULL, false);
	raw_message(r, 5, 0, 7, ID, 7);
}

/* Good sessions with some bytes changed, sent in pieces, cut off anywhere. */
static void broken_sessions(void **state)
{
	unsigned rounds = getenv("RPC_ROUNDS") ? (unsigned)atoi(getenv("RPC_ROUNDS"))
					       : 1000;

	(void)state;
	srand(7);
	for (unsigned i = 0; i < rounds; i++) {
		size_t from = rand() % 4 ? 24
					 : 0; /* the preface is checked by one compare */

		raw_open(&raw, rig.path);
		put_session(&raw);
		for (int changes = rand() % 6; changes >= 0; changes--)
			raw.out[from + (size_t)rand() % (raw.n - from)] = (uint8_t)rand();
		if (rand() % 2)
			raw.n = 1 + (size_t)rand() % raw.n;
		raw_send(&raw);
		rig_run_ms(1);
		raw_close(&raw);
		if (i % 200 == 0)
			rig_run_ms(50);
	}
	rig_run_ms(200);
	struct answer a;
	rig_ask("/t.T/Echo", "still", false, 5000, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_open, rig_close)

int main(void)
{
	struct CMUnitTest tests[TR_COUNT(streams) + 11] = {
		TEST(good_bytes),       TEST(no_message),      TEST(request_never_comes),
		TEST(not_http2),        TEST(silence),         TEST(large_metadata),
		TEST(reset_by_peer),    TEST(vanishes),        TEST(never_reads),
		TEST(many_connections), TEST(broken_sessions),
	};

	for (size_t i = 0; i < TR_COUNT(streams); i++)
		tests[i + 11] = (struct CMUnitTest){
			.name = streams[i].name,
			.test_func = one_stream,
			.initial_state = (void *)(uintptr_t)&streams[i],
		};
	return cmocka_run_group_tests_name("rpc hostile", tests, NULL, NULL);
}
