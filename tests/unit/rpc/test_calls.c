/* SPDX-License-Identifier: Apache-2.0 */
/* Server and client of src/rpc against each other, over a Unix socket. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "rig.h"
#include "rt/file.h"
#include "tr_test.h"

static void unary(void **state)
{
	struct answer a;

	(void)state;
	rig_ask("/t.T/Echo", "GPU-0", false, 0, &a);
	assert_int_equal(a.ends, 0); /* never from within */
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_OK);
	assert_int_equal(a.messages, 1);
	assert_string_equal(a.name, "GPU-0");
	assert_string_equal(a.sentence, "");
}

static void unknown_method(void **state)
{
	struct answer a;

	(void)state;
	rig_ask("/t.T/Nothing", "", false, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_UNIMPLEMENTED);
	assert_int_equal(rig.handled, 0);
}

static void expect_answer(unsigned n, const char *method, enum tr_rpc_code code)
{
	assert_int_equal(rig.answered, n);
	assert_string_equal(rig.answered_method, method);
	assert_int_equal(rig.answered_code, code);
}

/* Whoever answers, and however late: once, with the whole time. */
static void answers_are_told(void **state)
{
	struct answer a;

	(void)state;
	rig_ask("/t.T/Later", "GPU-0", false, 0, &a);
	assert_true(rig_until(&rig.handled, 1));
	assert_int_equal(rig.answered, 0);
	assert_true(rig_until(&a.ends, 1));
	expect_answer(1, "/t.T/Later", TR_RPC_OK);
	assert_true(rig.answered_ns >= 4000000); /* it waits for 5 ms at least */
	rig_ask("/t.T/Large", "100000000", false, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	expect_answer(2, "/t.T/Large", TR_RPC_INTERNAL);
	rig_ask("/t.T/Echo", "\xff", false, 0, &a); /* no handler sees it */
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(rig.handled, 2);
	expect_answer(3, "/t.T/Echo", TR_RPC_INVALID_ARGUMENT);
	rig_ask("/t.T/Never", "", false, 20, &a);
	assert_true(rig_until(&rig.gone, 1));
	expect_answer(4, "/t.T/Never", TR_RPC_CANCELLED);
	rig_ask("/t.T/Stream", "3", true, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	rig_ask("/t.T/Nothing", "", false, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(rig.answered, 4);
}

static unsigned count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned n = 0;

	while (dir && readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static void two_hundred_at_once(void **state)
{
	static struct answer answers[200];
	unsigned threads;
	char name[16];

	(void)state;
	rig_ask("/t.T/Echo", "warm", false, 0, &answers[0]);
	assert_true(rig_until(&answers[0].ends, 1));
	threads = count_threads();
	for (unsigned i = 0; i < TR_COUNT(answers); i++) {
		snprintf(name, sizeof(name), "%u", i);
		rig_ask("/t.T/Later", name, false, 8000, &answers[i]);
	}
	for (unsigned i = 0; i < TR_COUNT(answers); i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_true(rig_until(&answers[i].ends, 1));
		assert_int_equal(answers[i].code, TR_RPC_OK);
		assert_string_equal(answers[i].name, name);
	}
	/* gRPC has a few threads for itself, and adds one at most; none for each call. */
	assert_in_range(count_threads(), 1, threads + 2);
}

static void too_many_calls(void **state)
{
	static struct answer answers[300];
	unsigned refused = 0;

	(void)state;
	for (unsigned i = 0; i < TR_COUNT(answers); i++)
		rig_ask("/t.T/Never", "", false, 500, &answers[i]);
	for (unsigned i = 0; i < TR_COUNT(answers); i++) {
		assert_true(rig_until(&answers[i].ends, 1));
		refused += answers[i].code == TR_RPC_RESOURCE_EXHAUSTED;
		assert_true(answers[i].code == TR_RPC_RESOURCE_EXHAUSTED ||
			    answers[i].code == TR_RPC_DEADLINE_EXCEEDED);
	}
	assert_int_equal(refused, 300 - 256);
	assert_true(rig_until(&rig.gone, 256));
	/* and room again */
	rig_ask("/t.T/Echo", "after", false, 0, &answers[0]);
	assert_true(rig_until(&answers[0].ends, 1));
	assert_int_equal(answers[0].code, TR_RPC_OK);
}

static void deadline(void **state)
{
	uint64_t start = tr_clock_ns();
	struct answer a;

	(void)state;
	rig_ask("/t.T/Never", "", false, 100, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_DEADLINE_EXCEEDED);
	assert_in_range(tr_clock_ns() - start, 90000000u, 1000000000u);
	assert_true(rig_until(&rig.gone, 1)); /* the server knows too */
}

static void cancelled_by_the_client(void **state)
{
	struct tr_rpc_ask *ask;
	struct answer a;

	(void)state;
	ask = rig_ask("/t.T/Never", "", false, 0, &a);
	assert_true(rig_until(&rig.handled, 1));
	tr_rpc_cancel(ask);
	assert_true(rig_until(&rig.gone, 1));
	rig_run_ms(50);
	assert_int_equal(a.ends, 0); /* nobody is told who does not want to be */
}

/* A handler that answers somebody who is gone. */
static void late_reply(void **state)
{
	V1beta1__CDIDevice device;
	struct answer a;

	(void)state;
	v1beta1__cdidevice__init(&device);
	rig.keeps_gone = true;
	rig_ask("/t.T/Never", "", false, 50, &a);
	assert_true(rig_until(&rig.gone, 1));
	assert_int_equal(tr_rpc_watch(rig.kept, NULL, NULL, NULL), -ECONNRESET);
	assert_int_equal(tr_rpc_reply(rig.kept, &device.base), 0);
}

/* A handler that never asked whether the peer is there: answers somebody who is, and somebody who is gone. */
static void unwatched(void **state)
{
	V1beta1__CDIDevice device;
	struct answer a;

	(void)state;
	v1beta1__cdidevice__init(&device);
	rig_ask("/t.T/Hold", "", false, 0, &a);
	assert_true(rig_until(&rig.handled, 1));
	assert_int_equal(tr_rpc_reply(rig.kept, &device.base), 0);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_OK);
	rig_ask("/t.T/Hold", "", false, 50, &a);
	assert_true(rig_until(&rig.handled, 2));
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_DEADLINE_EXCEEDED);
	assert_int_equal(tr_rpc_reply(rig.kept, &device.base), 0);
	/* Each let go of its place. */
	rig_ask("/t.T/Echo", "after", false, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_OK);
}

static void unary_without_an_end(void **state)
{
	struct answer a;

	(void)state;
	rig_ask("/t.T/Never", "", false, 0, &a);
	assert_true(rig_until(&rig.gone, 1)); /* after unary_ms */
	assert_true(rig_until(&a.ends, 1));
	assert_int_not_equal(a.code, TR_RPC_OK);
}

static void stream(void **state)
{
	struct answer a;

	(void)state;
	rig_ask("/t.T/Stream", "1000", true, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_OK);
	assert_int_equal(a.messages, 1000);
	assert_string_equal(a.name, "999");
	assert_int_equal(rig.gone, 0);
}

static void stream_cancelled(void **state)
{
	struct tr_rpc_ask *ask;
	struct answer a;

	(void)state;
	ask = rig_ask("/t.T/Stream", "4000000000", true, 0, &a);
	while (a.messages < 10)
		rig_run_ms(1);
	tr_rpc_cancel(ask);
	assert_true(rig_until(&rig.gone, 1));
	ask = rig_ask("/t.T/Stream", "", true, 0, &a);
	assert_true(rig_until(&a.messages, 1));
	rig_run_ms(1700);
	assert_int_equal(a.ends, 0); /* neither idle nor too long */
	tr_rpc_cancel(ask);
	assert_true(rig_until(&rig.gone, 2));
}

static void limits(void **state)
{
	V1beta1__CDIDevice device;
	struct tr_rpc_question question = { .method = "/t.T/Echo",
					    .request = &device.base,
					    .reply = &v1beta1__cdidevice__descriptor };
	struct tr_err err = { 0 };
	struct answer a;
	char *name = calloc(1, 70000);

	(void)state;
	v1beta1__cdidevice__init(&device);
	memset(name, 'x', 69999);
	device.name = name;
	assert_int_equal(tr_rpc_ask(rig.channel, &question, NULL, &err), -EMSGSIZE);
	assert_non_null(strstr(err.msg, "65536"));
	rig_ask("/t.T/Large", "65000", false, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_OK);
	assert_int_equal(a.name_bytes, 65000);
	rig_ask("/t.T/Large", "66000", false, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_INTERNAL);
	assert_string_equal(a.sentence, "the reply is too large");
	free(name);
}

/* What a channel with a wider limit may send, and what one with a narrower takes. */
static void limits_of_the_other(void **state)
{
	struct tr_rpc_limits wide = { 1u << 20, 1u << 20, 1u << 20 };
	struct tr_rpc_limits narrow = { 1000, 1000, 1u << 20 };
	struct tr_rpc_channel *other, *ours = rig.channel;
	struct answer a;
	char *name = calloc(1, 70000);

	(void)state;
	memset(name, 'x', 69999);
	assert_int_equal(tr_rpc_channel_open(rig.rpc, rig.path, &wide, &other, NULL), 0);
	rig.channel = other;
	rig_ask("/t.T/Echo", name, false, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_RESOURCE_EXHAUSTED);
	assert_int_equal(rig.handled, 0);
	tr_rpc_channel_close(other);

	assert_int_equal(tr_rpc_channel_open(rig.rpc, rig.path, &narrow, &other, NULL), 0);
	rig.channel = other;
	rig_ask("/t.T/Large", "2000", false, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_RESOURCE_EXHAUSTED);
	assert_int_equal(a.messages, 0);
	tr_rpc_channel_close(other);
	rig.channel = ours;
	free(name);
}

static void nobody_serves(void **state)
{
	struct answer a;

	(void)state;
	tr_rpc_server_close(rig.server);
	rig.server = NULL;
	rig_ask("/t.T/Echo", "", false, 2000, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_UNAVAILABLE);
}

/* Closing with calls open: the handlers hear of it, the client too, nothing leaks. */
static void closed_with_calls(void **state)
{
	static struct answer a[20];

	(void)state;
	for (unsigned i = 0; i < TR_COUNT(a); i++)
		rig_ask(i % 2 ? "/t.T/Never" : "/t.T/Stream", "", i % 2 == 0, 0, &a[i]);
	assert_true(rig_until(&rig.handled, TR_COUNT(a)));
	tr_rpc_server_close(rig.server);
	rig.server = NULL;
	assert_int_equal(rig.gone, TR_COUNT(a));
	for (unsigned i = 0; i < TR_COUNT(a); i++) {
		assert_true(rig_until(&a[i].ends, 1));
		assert_int_not_equal(a[i].code, TR_RPC_OK);
	}
}

/* A handler that ends its call after the server is gone. */
static void ended_after_close(void **state)
{
	struct answer a;

	(void)state;
	rig.keeps_gone = true;
	rig_ask("/t.T/Never", "", false, 0, &a);
	assert_true(rig_until(&rig.handled, 1));
	tr_rpc_server_close(rig.server);
	rig.server = NULL;
	assert_int_equal(rig.gone, 1);
	tr_rpc_refuse(rig.kept, TR_RPC_INTERNAL, "nobody hears it");
}

/* A handler that never asked whether the peer is there, and ends its call when neither server nor gRPC is left. */
static void unwatched_after_close(void **state)
{
	V1beta1__CDIDevice device;
	struct tr_rpc_call *first;
	struct answer a, b;

	v1beta1__cdidevice__init(&device);
	rig_ask("/t.T/Hold", "", false, 0, &a);
	assert_true(rig_until(&rig.handled, 1));
	first = rig.kept;
	rig_ask("/t.T/Hold", "", false, 0, &b);
	assert_true(rig_until(&rig.handled, 2));
	tr_rpc_server_close(rig.server); /* does not wait for the handler */
	rig.server = NULL;
	tr_rpc_refuse(first, TR_RPC_INTERNAL, "nobody hears it");
	rig_close(state);
	assert_int_equal(tr_rpc_reply(rig.kept, &device.base), 0);
	rig_open(state);
}

static void channel_closed_with_calls(void **state)
{
	struct answer a, b;

	(void)state;
	rig_ask("/t.T/Never", "", false, 0, &a);
	rig_ask("/t.T/Stream", "", true, 0, &b);
	assert_true(rig_until(&rig.handled, 2));
	tr_rpc_channel_close(rig.channel);
	rig.channel = NULL;
	assert_true(rig_until(&rig.gone, 2));
	assert_int_equal(a.ends + b.ends, 0);
}

static void removed_socket(void **state)
{
	struct answer stream, a;
	struct stat made;

	(void)state;
	assert_true(tr_rpc_server_is_reachable(rig.server));
	assert_int_equal(lstat(rig.path, &made), 0);
	assert_int_equal(made.st_mode & 0777, 0600);
	rig_ask("/t.T/Stream", "", true, 0, &stream);
	assert_true(rig_until(&stream.messages, 1));
	assert_int_equal(unlink(rig.path), 0);
	assert_false(tr_rpc_server_is_reachable(rig.server));
	assert_int_equal(tr_rpc_server_listen(rig.server, NULL), 0);
	assert_true(tr_rpc_server_is_reachable(rig.server));
	/* a new connection */
	struct tr_rpc_channel *ours = rig.channel;
	assert_int_equal(
		tr_rpc_channel_open(rig.rpc, rig.path, &rig_limits, &rig.channel, NULL), 0);
	rig_ask("/t.T/Echo", "new", false, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_OK);
	tr_rpc_channel_close(rig.channel);
	rig.channel = ours;
	assert_int_equal(stream.ends, 0); /* the old one goes on */
	assert_non_null(rig.kept);
}

/* What lies there and nobody answers at is replaced; who answers is left alone. */
static void taken_socket(void **state)
{
	struct tr_rpc_service service = {
		.path = rig.path, .mode = 0600, .limits = rig_limits, .calls_max = 1
	};
	struct tr_rpc_server *second = NULL;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct tr_err err = { 0 };
	struct answer a;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	assert_int_equal(tr_rpc_server_open(rig.rpc, &service, &second, &err), -EADDRINUSE);
	assert_null(second);
	assert_true(tr_rpc_server_is_reachable(rig.server));
	rig_ask("/t.T/Echo", "", false, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_OK);
	tr_rpc_server_close(rig.server);
	rig.server = NULL;
	strcpy(address.sun_path, rig.path);
	assert_int_equal(bind(fd, (void *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(tr_rpc_server_open(rig.rpc, &service, &rig.server, &err), 0);
	assert_true(tr_rpc_server_is_reachable(rig.server));
}

static void long_path(void **state)
{
	struct tr_rpc_service service = { .mode = 0600, .limits = rig_limits };
	struct tr_rpc_server *second;
	struct tr_err err = { 0 };
	char path[200];

	(void)state;
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[107] = '\0'; /* a socket could have it, but not its first name */
	service.path = path;
	assert_int_equal(tr_rpc_server_open(rig.rpc, &service, &second, &err),
			 -ENAMETOOLONG);
	service.path = "/proc/none/s.sock";
	assert_int_equal(tr_rpc_server_open(rig.rpc, &service, &second, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/proc/none/s.sock"));
}

/* A server that comes back is found again by the same channel within a second. */
static void server_restarts(void **state)
{
	struct answer a;
	uint64_t start;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		rig_ask("/t.T/Echo", "", false, 0, &a);
		assert_true(rig_until(&a.ends, 1));
		assert_int_equal(a.code, TR_RPC_OK);
		rig_close(NULL);
		rig_open(NULL);
	}
	struct tr_rpc_channel *ours = rig.channel;
	struct tr_rpc_service service = {
		.path = rig.path, .mode = 0600, .limits = rig_limits, .calls_max = 1
	};
	tr_rpc_server_close(rig.server);
	rig_ask("/t.T/Echo", "", false, 0, &a);
	assert_true(rig_until(&a.ends, 1));
	assert_int_equal(a.code, TR_RPC_UNAVAILABLE);
	rig_run_ms(700); /* let it give up for a while */
	assert_int_equal(tr_rpc_server_open(rig.rpc, &service, &rig.server, NULL), 0);
	start = tr_clock_ns();
	do {
		rig_ask("/t.T/Echo", "", false, 0, &a);
		assert_true(rig_until(&a.ends, 1));
	} while (a.code == TR_RPC_UNAVAILABLE);
	assert_int_equal(a.code, TR_RPC_UNIMPLEMENTED); /* it has no methods */
	assert_in_range(tr_clock_ns() - start, 0, 1000000000u);
	assert_ptr_equal(ours, rig.channel);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_open, rig_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(unary),
		TEST(unknown_method),
		TEST(answers_are_told),
		TEST(two_hundred_at_once),
		TEST(too_many_calls),
		TEST(deadline),
		TEST(cancelled_by_the_client),
		TEST(late_reply),
		TEST(unwatched),
		TEST(unary_without_an_end),
		TEST(stream),
		TEST(stream_cancelled),
		TEST(limits),
		TEST(limits_of_the_other),
		TEST(nobody_serves),
		TEST(closed_with_calls),
		TEST(ended_after_close),
		TEST(unwatched_after_close),
		TEST(channel_closed_with_calls),
		TEST(removed_socket),
		TEST(taken_socket),
		TEST(long_path),
		TEST(server_restarts),
	};

	return cmocka_run_group_tests_name("rpc calls", tests, NULL, NULL);
}
