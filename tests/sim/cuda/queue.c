/* SPDX-License-Identifier: Apache-2.0 */
#include "queue.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct queue_item {
	struct queue_item *next;
	struct sim_op op; /* params point behind this struct */
};

/* One lock for all queues: pending work is rare, and waits look at several queues. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static __thread bool in_callback;

bool sim_queue_in_callback(void)
{
	return in_callback;
}

void sim_queue_set_in_callback(bool in)
{
	in_callback = in;
}

void sim_queue_lock(void)
{
	pthread_mutex_lock(&lock);
}

void sim_queue_unlock_and_signal(void)
{
	pthread_cond_broadcast(&moved);
	pthread_mutex_unlock(&lock);
}

void sim_queue_wait(bool (*ready)(const void *what), const void *what)
{
	pthread_mutex_lock(&lock);
	while (!ready(what))
		pthread_cond_wait(&moved, &lock);
	pthread_mutex_unlock(&lock);
}

struct sim_queue *sim_queue_new(struct sim_ctx *ctx, int priority)
{
	struct sim_queue *q = calloc(1, sizeof(*q));

	if (q) {
		q->references = 1;
		q->ctx = ctx;
		sim_lane_init(&q->lane, ctx->machine, priority);
	}
	return q;
}

struct sim_queue *sim_queue_hold(struct sim_queue *q)
{
	pthread_mutex_lock(&lock);
	q->references++;
	pthread_mutex_unlock(&lock);
	return q;
}

void sim_queue_drop(struct sim_queue *q)
{
	bool last;

	pthread_mutex_lock(&lock);
	last = --q->references == 0;
	pthread_mutex_unlock(&lock);
	if (!last)
		return;
	sim_lane_close(&q->lane);
	free(q);
}

bool sim_queue_is_empty(struct sim_queue *q)
{
	bool empty;

	pthread_mutex_lock(&lock);
	empty = q->done == q->submitted;
	pthread_mutex_unlock(&lock);
	return empty;
}

bool sim_queue_is_idle(struct sim_queue *q)
{
	return sim_queue_is_empty(q) && sim_lane_is_idle(&q->lane);
}

/* Takes what OP's params point to. */
static CUresult run(struct sim_queue *q, const struct sim_op *op)
{
	struct sim_lane *before = sim_lane_run_in(&q->lane);
	CUresult r = op->run(op->params, q->ctx);

	sim_lane_run_in(before);
	if (op->drop)
		op->drop(op->params);
	return r;
}

static void *work(void *argument)
{
	struct sim_queue *q = argument;
	struct queue_item *item;

	pthread_mutex_lock(&lock);
	while (q->head) {
		item = q->head;
		pthread_mutex_unlock(&lock);
		run(q, &item->op);
		pthread_mutex_lock(&lock);
		q->head = item->next;
		if (!q->head)
			q->tail = NULL;
		q->done++;
		pthread_cond_broadcast(&moved);
		free(item);
	}
	q->working = false;
	pthread_mutex_unlock(&lock);
	sim_queue_drop(q);
	return NULL;
}

/* Signals belong to the program's own threads. Under the lock. */
static bool start_worker(struct sim_queue *q)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int r;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, &attributes, work, q);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (r != 0)
		return false;
	q->working = true;
	q->references++;
	return true;
}

/* Queues a copy of OP; on failure OP is dropped. */
static CUresult append(struct sim_queue *q, const struct sim_op *op)
{
	struct queue_item *item = malloc(sizeof(*item) + op->params_bytes);
	bool started = true;

	if (!item) {
		if (op->drop)
			op->drop(op->params);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*item = (struct queue_item){ .op = *op };
	item->op.params = item + 1;
	if (op->params_bytes)
		memcpy(item->op.params, op->params, op->params_bytes);
	pthread_mutex_lock(&lock);
	if (q->tail)
		q->tail->next = item;
	else
		q->head = item;
	q->tail = item;
	q->submitted++;
	if (!q->working)
		started = start_worker(q);
	if (!started) {
		/* Not working means that this item is the only one. */
		q->head = q->tail = NULL;
		q->submitted--;
	}
	pthread_mutex_unlock(&lock);
	if (!started && item->op.drop)
		item->op.drop(item->op.params);
	if (!started)
		free(item);
	return started ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}

CUresult sim_queue_submit(struct sim_queue *q, const struct sim_op *op, bool force)
{
	if (op->reaches && !sim_lane_is_idle(&q->lane))
		force = true;
	return force || !sim_queue_is_empty(q) ? append(q, op) : run(q, op);
}

/* ---- one queue waits for another ----------------------------------------------------- */

struct join {
	struct sim_queue *queue;
	uint64_t ticket;
};

static bool has_reached(const void *what)
{
	const struct join *join = what;

	return join->queue->done >= join->ticket;
}

static CUresult run_join(void *params, struct sim_ctx *ctx)
{
	const struct join *join = params;

	(void)ctx;
	sim_queue_wait(has_reached, params);
	return sim_lane_after(sim_lane_running(), &join->queue->lane);
}

static void drop_join(void *params)
{
	sim_queue_drop(((struct join *)params)->queue);
}

CUresult sim_queue_join(struct sim_queue *q, struct sim_queue *other)
{
	struct join join = { .queue = other };
	const struct sim_op op = {
		.run = run_join,
		.drop = drop_join,
		.params = &join,
		.params_bytes = sizeof(join),
	};
	bool pending;

	if (q == other)
		return CUDA_SUCCESS;
	pthread_mutex_lock(&lock);
	join.ticket = other->submitted;
	pending = other->done != other->submitted;
	if (pending || !sim_lane_is_idle(&other->lane))
		other->references++;
	else
		join.queue = NULL;
	pthread_mutex_unlock(&lock);
	return join.queue ? sim_queue_submit(q, &op, pending) : CUDA_SUCCESS;
}

void sim_queue_settle(struct sim_queue *q)
{
	struct join join = { .queue = q };

	pthread_mutex_lock(&lock);
	join.ticket = q->submitted;
	pthread_mutex_unlock(&lock);
	sim_queue_wait(has_reached, &join);
}

CUresult sim_queue_drain(struct sim_queue *q)
{
	sim_queue_settle(q);
	return sim_lane_wait(&q->lane);
}
