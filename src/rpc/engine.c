/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that waits for gRPC, and the hand-over to the loop: finished events go onto a list,
 * and the first one of an empty list rings an eventfd.
 */
#include "rpc/engine.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/support/log.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "rpc/message.h"

struct tr_rpc {
	struct event_base *base;
	grpc_completion_queue *queue;
	pthread_t thread;
	int bell; /* eventfd */
	struct event *on_bell;
	bool is_dispatching;

	pthread_mutex_t lock;
	struct tr_rpc_event *first, **last; /* under lock */
};

static void ring(struct tr_rpc *rpc)
{
	uint64_t one = 1;

	(void)!write(rpc->bell, &one, sizeof(one));
}

static void *wait_for_queue(void *arg)
{
	struct tr_rpc *rpc = arg;

	for (;;) {
		grpc_event found = grpc_completion_queue_next(
			rpc->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
		struct tr_rpc_event *event = found.tag;
		bool was_empty;

		if (found.type == GRPC_QUEUE_SHUTDOWN)
			return NULL;
		if (found.type != GRPC_OP_COMPLETE)
			continue;
		event->ok = found.success != 0;
		event->next = NULL;
		(void)pthread_mutex_lock(&rpc->lock);
		was_empty = rpc->first == NULL;
		*rpc->last = event;
		rpc->last = &event->next;
		(void)pthread_mutex_unlock(&rpc->lock);
		if (was_empty)
			ring(rpc);
	}
}

/* Runs what was on the list when it began; false: nothing. */
static bool dispatch(struct tr_rpc *rpc)
{
	struct tr_rpc_event *event, *next;

	(void)pthread_mutex_lock(&rpc->lock);
	event = rpc->first;
	rpc->first = NULL;
	rpc->last = &rpc->first;
	(void)pthread_mutex_unlock(&rpc->lock);
	if (!event)
		return false;
	rpc->is_dispatching = true;
	for (; event; event = next) {
		next = event->next; /* done() may free it */
		event->done(event);
	}
	rpc->is_dispatching = false;
	return true;
}

static void on_bell(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;

	(void)what;
	(void)!read(fd, &count, sizeof(count));
	(void)dispatch(arg);
}

void tr_rpc_pump(struct tr_rpc *rpc, const unsigned *stop, unsigned until)
{
	struct pollfd bell = { .fd = rpc->bell, .events = POLLIN };

	assert(!rpc->is_dispatching);
	while (*stop != until) {
		if (dispatch(rpc))
			continue;
		(void)poll(&bell, 1, -1);
		on_bell(rpc->bell, 0, rpc);
	}
	ring(rpc); /* a ring for what is left may have been taken here */
}

/* A library does not write to stderr: what matters comes back as a status. */
static void drop_log(gpr_log_func_args *args)
{
	(void)args;
}

static int start(struct tr_rpc *rpc, struct tr_err *err)
{
	sigset_t all, before;
	int r;

	/* Threads inherit the mask: a signal is the loop's. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	if (!getenv("GRPC_VERBOSITY"))
		gpr_set_log_function(drop_log);
	tr_rpc_wait_steadily();
	grpc_init();
	rpc->queue = grpc_completion_queue_create_for_next(NULL);
	r = pthread_create(&rpc->thread, NULL, wait_for_queue, rpc);
	if (r) {
		grpc_completion_queue_shutdown(rpc->queue);
		grpc_completion_queue_destroy(rpc->queue);
		grpc_shutdown_blocking();
	}
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r ? tr_fail(err, r, "no thread for gRPC") : 0;
}

static void free_rpc(struct tr_rpc *rpc)
{
	if (rpc->on_bell)
		event_free(rpc->on_bell);
	if (rpc->bell >= 0)
		(void)close(rpc->bell);
	(void)pthread_mutex_destroy(&rpc->lock);
	free(rpc);
}

int tr_rpc_open(struct event_base *base, struct tr_rpc **out, struct tr_err *err)
{
	struct tr_rpc *rpc = calloc(1, sizeof(*rpc));
	int r = 0;

	if (!rpc)
		return tr_fail(err, ENOMEM, "no memory for gRPC");
	rpc->base = base;
	rpc->last = &rpc->first;
	(void)pthread_mutex_init(&rpc->lock, NULL);
	rpc->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (rpc->bell < 0)
		r = tr_fail_errno(err, "eventfd");
	if (r == 0) {
		rpc->on_bell = event_new(base, rpc->bell, EV_READ | EV_PERSIST, on_bell,
					 rpc);
		if (!rpc->on_bell || event_add(rpc->on_bell, NULL) < 0)
			r = tr_fail(err, ENOMEM, "no event for gRPC");
	}
	if (r == 0)
		r = start(rpc, err);
	if (r < 0) {
		free_rpc(rpc);
		return r;
	}
	*out = rpc;
	return 0;
}

void tr_rpc_close(struct tr_rpc *rpc)
{
	if (!rpc)
		return;
	assert(!rpc->is_dispatching);
	grpc_completion_queue_shutdown(rpc->queue);
	(void)pthread_join(rpc->thread, NULL);
	while (dispatch(rpc)) {
	}
	grpc_completion_queue_destroy(rpc->queue);
	grpc_shutdown_blocking();
	free_rpc(rpc);
}

grpc_completion_queue *tr_rpc_queue(struct tr_rpc *rpc)
{
	return rpc->queue;
}

struct event_base *tr_rpc_base(struct tr_rpc *rpc)
{
	return rpc->base;
}

grpc_byte_buffer *tr_rpc_pack(const ProtobufCMessage *message, size_t most_bytes)
{
	size_t n = protobuf_c_message_get_packed_size(message);
	grpc_byte_buffer *buffer;
	grpc_slice slice;

	if (n > most_bytes)
		return NULL;
	slice = grpc_slice_malloc(n);
	(void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
	buffer = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	return buffer;
}

int tr_rpc_unpack(grpc_byte_buffer *buffer, const ProtobufCMessageDescriptor *type,
		  size_t most_bytes, ProtobufCMessage **out, struct tr_err *err)
{
	grpc_byte_buffer_reader reader;
	grpc_slice all;
	int r;

	*out = NULL;
	/* We asked gRPC not to decompress: 4 MiB could become 4 GiB. */
	if (buffer->data.raw.compression != GRPC_COMPRESS_NONE ||
	    !grpc_byte_buffer_reader_init(&reader, buffer)) {
		grpc_byte_buffer_destroy(buffer);
		return tr_fail(err, EBADMSG, "%s is compressed, which is not understood",
			       type->short_name);
	}
	all = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	grpc_byte_buffer_destroy(buffer);
	r = tr_message_read(type, GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all),
			    most_bytes, out, err);
	grpc_slice_unref(all);
	return r;
}
