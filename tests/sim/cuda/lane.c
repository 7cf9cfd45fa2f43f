/* SPDX-License-Identifier: Apache-2.0 */
#include "lane.h"

#include <errno.h>
#include <stdlib.h>

static __thread struct sim_lane *running;
static atomic_bool is_virtual; /* once time is open */
static atomic_bool is_lost;    /* the machine is gone */

/* Queries that find nothing, for each one that asks the machine for a sign of life. */
#define LOOKS 4096u

CUresult sim_lane_result(int r)
{
	switch (r) {
	case -EIO:
		atomic_store(&is_lost, true);
		return CUDA_ERROR_UNKNOWN;
	case -ENOTSUP:
		return CUDA_ERROR_SYSTEM_NOT_READY;
	default:
		return sim_result(r);
	}
}

CUresult sim_lane_not_ready(void)
{
	static __thread unsigned int looks;
	struct rm_memory memory;

	if (++looks % LOOKS == 0 && rm_memory(0, &memory) == -EIO)
		atomic_store(&is_lost, true);
	return atomic_load(&is_lost) ? CUDA_ERROR_UNKNOWN : CUDA_ERROR_NOT_READY;
}

void sim_spend(uint64_t ns)
{
	if (atomic_load_explicit(&is_virtual, memory_order_relaxed))
		rm_spend_ns(ns);
}

void sim_lane_init(struct sim_lane *lane, uint32_t machine, int priority)
{
	*lane = (struct sim_lane){ .machine = machine, .priority = priority };
	pthread_mutex_init(&lane->lock, NULL);
}

static bool is_open(const struct sim_lane *lane)
{
	return atomic_load_explicit(&lane->is_open, memory_order_acquire);
}

void sim_lane_close(struct sim_lane *lane)
{
	if (lane->helper) {
		sim_lane_close(lane->helper);
		free(lane->helper);
	}
	if (is_open(lane))
		rm_channel_close(lane->channel);
	pthread_mutex_destroy(&lane->lock);
}

static int open_lane(struct sim_lane *lane)
{
	int r = 0;

	if (is_open(lane))
		return 0;
	pthread_mutex_lock(&lane->lock);
	if (!is_open(lane)) {
		r = rm_time_open();
		if (r == 0) {
			atomic_store(&is_virtual, rm_time_is_virtual());
			r = rm_channel_open(lane->machine, lane->priority, &lane->channel);
		}
		if (r == 0)
			atomic_store_explicit(&lane->is_open, true, memory_order_release);
	}
	pthread_mutex_unlock(&lane->lock);
	return r;
}

CUresult sim_lane_submit(struct sim_lane *lane, const struct rm_work *work)
{
	uint64_t ticket;
	int r = atomic_load_explicit(&is_lost, memory_order_relaxed) ? -EIO
								     : open_lane(lane);

	if (r == 0)
		r = rm_submit(lane->channel, work, &ticket);
	if (r == 0 && work->kind == RM_WORK_STAMP) {
		atomic_store(&lane->stamp_ticket, 0);
		atomic_store(&lane->stamp, work->stamp);
		atomic_store(&lane->stamp_generation, work->generation);
		atomic_store(&lane->stamp_ticket, ticket);
	}
	return sim_lane_result(r);
}

/* Whether TICKET is a stamp that was seen. */
static bool is_stamped(const struct sim_lane *lane, uint64_t ticket)
{
	return atomic_load(&lane->stamp_ticket) == ticket &&
	       rm_stamp_read(atomic_load(&lane->stamp), NULL) >=
		       atomic_load(&lane->stamp_generation);
}

bool sim_lane_last(const struct sim_lane *lane, uint64_t *channel, uint64_t *ticket)
{
	if (!is_open(lane))
		return false;
	*channel = lane->channel;
	*ticket = rm_last_ticket(lane->channel);
	return *ticket != 0;
}

bool sim_lane_is_idle(const struct sim_lane *lane)
{
	uint64_t channel, ticket;

	return !sim_lane_last(lane, &channel, &ticket) || rm_is_done(channel, ticket) ||
	       is_stamped(lane, ticket);
}

CUresult sim_lane_wait(const struct sim_lane *lane)
{
	uint64_t channel, ticket;

	if (!sim_lane_last(lane, &channel, &ticket))
		return CUDA_SUCCESS;
	return sim_lane_result(rm_wait(channel, ticket));
}

/* Whether LANE already waits for that; notes that it will. */
static bool has_waited(struct sim_lane *lane, uint64_t channel, uint64_t ticket)
{
	bool has = false;
	size_t at = SIM_LANE_WAITS;

	pthread_mutex_lock(&lane->lock);
	for (size_t i = 0; i < SIM_LANE_WAITS; i++)
		if (lane->waited[i].channel == channel && lane->waited[i].ticket)
			at = i;
	if (at < SIM_LANE_WAITS)
		has = lane->waited[at].ticket >= ticket;
	else
		at = lane->next_waited++ % SIM_LANE_WAITS;
	if (!has) {
		lane->waited[at].channel = channel;
		lane->waited[at].ticket = ticket;
	}
	pthread_mutex_unlock(&lane->lock);
	return has;
}

CUresult sim_lane_after_ticket(struct sim_lane *lane, uint64_t channel, uint64_t ticket)
{
	const struct rm_work work = {
		.kind = RM_WORK_WAIT_CHANNEL,
		.channel = channel,
		.ticket = ticket,
	};

	if (rm_is_done(channel, ticket) || (is_open(lane) && lane->channel == channel) ||
	    has_waited(lane, channel, ticket))
		return CUDA_SUCCESS;
	return sim_lane_submit(lane, &work);
}

CUresult sim_lane_after(struct sim_lane *lane, const struct sim_lane *other)
{
	uint64_t channel, ticket;

	if (!sim_lane_last(other, &channel, &ticket))
		return CUDA_SUCCESS;
	return sim_lane_after_ticket(lane, channel, ticket);
}

/* ---- the running operation ----------------------------------------------------------- */

struct sim_lane *sim_lane_running(void)
{
	return running;
}

struct sim_lane *sim_lane_run_in(struct sim_lane *lane)
{
	struct sim_lane *before = running;

	running = lane;
	return before;
}

static struct sim_lane *helper_on(struct sim_lane *lane, uint32_t machine)
{
	struct sim_lane *found = lane;

	pthread_mutex_lock(&lane->lock);
	while (found && found->machine != machine)
		found = found->helper;
	if (!found) {
		found = malloc(sizeof(*found));
		if (found) {
			sim_lane_init(found, machine, lane->priority);
			found->helper = lane->helper;
			lane->helper = found;
		}
	}
	pthread_mutex_unlock(&lane->lock);
	return found;
}

/* Still in the order of the stream: either side waits for the other. */
CUresult sim_lane_do(uint32_t machine, const struct rm_work *work)
{
	struct sim_lane *lane = running, *helper;
	CUresult r;

	if (!lane)
		return CUDA_SUCCESS;
	if (machine == lane->machine)
		return sim_lane_submit(lane, work);
	helper = helper_on(lane, machine);
	if (!helper)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = sim_lane_after(helper, lane);
	if (r == CUDA_SUCCESS)
		r = sim_lane_submit(helper, work);
	return r == CUDA_SUCCESS ? sim_lane_after(lane, helper) : r;
}

CUresult sim_lane_reach(void)
{
	return running ? sim_lane_wait(running) : CUDA_SUCCESS;
}
