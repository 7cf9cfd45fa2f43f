/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_QUEUE_H
#define SIM_CUDA_QUEUE_H

#include "lane.h"
#include "sim.h"

/*
 * The order of a stream. Work runs in the thread that submits it, as long as nothing is
 * pending: it takes effect and puts what the GPU would do into the queue's lane. What the host
 * must wait for (a host function, a wait for a value) goes to a list, and so does everything
 * behind it; a driver thread works each list that is not empty. No lock is held while work
 * runs. Pending is what is in the list; idle is a queue whose lane has nothing to do either.
 */
struct sim_queue {
	unsigned int references;
	uint64_t submitted, done; /* tickets */
	struct queue_item *head, *tail;
	bool working; /* a driver thread is on it */
	struct sim_ctx *ctx;
	struct sim_lane lane;
};

struct sim_queue *sim_queue_new(struct sim_ctx *ctx, int priority);
struct sim_queue *sim_queue_hold(struct sim_queue *q);
/* The queue goes when what is pending has run. */
void sim_queue_drop(struct sim_queue *q);
bool sim_queue_is_empty(struct sim_queue *q); /* nothing is pending */
bool sim_queue_is_idle(struct sim_queue *q);
/* Runs OP now or queues a copy behind what is pending; FORCE: always in the driver thread.
 */
CUresult sim_queue_submit(struct sim_queue *q, const struct sim_op *op, bool force);
/* Puts into Q a wait for what OTHER has to do now. */
CUresult sim_queue_join(struct sim_queue *q, struct sim_queue *other);
/* Waits until what is pending now was submitted; until Q is idle. */
void sim_queue_settle(struct sim_queue *q);
CUresult sim_queue_drain(struct sim_queue *q);
/* stream.c: every stream of the context. */
CUresult sim_queue_drain_context(uint64_t ctx_id);

/* For what queued work waits for: WAIT sleeps until READY(WHAT), which is looked at again
 * after each SIGNAL. READY runs under the queues' lock. */
void sim_queue_wait(bool (*ready)(const void *what), const void *what);
void sim_queue_lock(void);
void sim_queue_unlock_and_signal(void);

/* True in a host function: calls into the driver answer NOT_PERMITTED there. */
bool sim_queue_in_callback(void);
void sim_queue_set_in_callback(bool in);

#endif /* SIM_CUDA_QUEUE_H */
