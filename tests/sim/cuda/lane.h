/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CUDA_LANE_H
#define SIM_CUDA_LANE_H

#include <pthread.h>
#include <stdatomic.h>

#include "rm/time.h"
#include "sim.h"

/*
 * What takes time: the channel of a queue, opened by its first timed work, so that a process
 * that never launches has none. Effects on memory happen when work is submitted; a lane knows
 * when the GPU would have done it.
 */
#define SIM_LANE_WAITS 8

struct sim_lane {
	uint32_t machine;
	int priority;
	atomic_bool is_open;
	uint64_t channel; /* once open */
	pthread_mutex_t lock;
	struct sim_lane *helper; /* of another device: nodes of a graph that belong there */
	/* Its last stamp and the ticket of that: whoever has seen the stamp knows that the lane was
	 * idle, however late the ticket is told. */
	_Atomic uint64_t stamp_ticket, stamp_generation;
	_Atomic uint32_t stamp;
	/* What it waited for last, so that no wait is submitted twice. */
	struct {
		uint64_t channel, ticket;
	} waited[SIM_LANE_WAITS];
	unsigned int next_waited;
};

void sim_lane_init(struct sim_lane *lane, uint32_t machine, int priority);
/* What was submitted still runs. */
void sim_lane_close(struct sim_lane *lane);

CUresult sim_lane_submit(struct sim_lane *lane, const struct rm_work *work);
/* All that was submitted so far. */
bool sim_lane_is_idle(const struct sim_lane *lane);
CUresult sim_lane_wait(const struct sim_lane *lane);
/* What LANE does next waits for all that OTHER has to do now. */
CUresult sim_lane_after(struct sim_lane *lane, const struct sim_lane *other);
CUresult sim_lane_after_ticket(struct sim_lane *lane, uint64_t channel, uint64_t ticket);
/* What LANE was given last; false: nothing yet. */
bool sim_lane_last(const struct sim_lane *lane, uint64_t *channel, uint64_t *ticket);

/* For what an operation does while it runs (sim_op.run): the lane of the stream that it runs
 * in, for work on device MACHINE. Outside of an operation nothing is timed. */
CUresult sim_lane_do(uint32_t machine, const struct rm_work *work);
/* Waits until the lane of the running operation is done: what the host does next comes after
 * it. */
CUresult sim_lane_reach(void);
struct sim_lane *sim_lane_running(void);
/* Returns what ran before. */
struct sim_lane *sim_lane_run_in(struct sim_lane *lane);

/* -errno of rm/time.h; a machine that is gone answers as a lost device does, from then on. */
CUresult sim_lane_result(int r);
/* What a query answers that found nothing done: NOT_READY, unless the machine is gone, for which
 * it looks now and then. */
CUresult sim_lane_not_ready(void);

/* The calling thread was busy for so long, on a virtual clock. */
void sim_spend(uint64_t ns);
/* Host costs of calls, in full. */
enum {
	SIM_SPEND_CALL_NS = 200,
	SIM_SPEND_QUERY_NS = 600,
	SIM_SPEND_RECORD_NS = 1200,
	SIM_SPEND_LAUNCH_NS = 2500,
	SIM_SPEND_COPY_NS = 3000,
	SIM_SPEND_GRAPH_NS = 6000,
};

#endif /* SIM_CUDA_LANE_H */
