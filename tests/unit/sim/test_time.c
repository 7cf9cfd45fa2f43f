/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"
#include "rm/inspect.h"
#include "rm/rm.h"
#include "rm/time.h"
#include "rm/timewire.h"

/* Work takes its time on the real clock, and nobody waits for ever. */

#define MS ((uint64_t)1000000)

static uint64_t open_channel(void)
{
	uint64_t channel = 0;

	MUST(rm_open() == 0);
	MUST(rm_time_open() == 0);
	MUST(rm_channel_open(0, 0, &channel) == 0);
	return channel;
}

static uint64_t submit_kernel(uint64_t channel, uint64_t ns)
{
	struct rm_work kernel = { .kind = RM_WORK_KERNEL, .sms = 1, .ns = ns };
	uint64_t ticket = 0;

	MUST(rm_submit(channel, &kernel, &ticket) == 0);
	return ticket;
}

static void submit_stamp(uint64_t channel, uint32_t stamp, uint64_t generation)
{
	struct rm_work w = { .kind = RM_WORK_STAMP,
			     .stamp = stamp,
			     .generation = generation };

	MUST(rm_submit(channel, &w, NULL) == 0);
}

static void prove_wait(void)
{
	uint64_t channel = open_channel(), before = rm_now_ns(), took, ticket;

	ticket = submit_kernel(channel, 30 * MS);
	MUST(ticket == 1);
	MUST(!rm_is_done(channel, ticket));
	MUST(rm_wait(channel, ticket) == 0);
	took = rm_now_ns() - before;
	MUST(rm_is_done(channel, ticket));
	MUST(took >= 30 * MS);
	MUST(took < 130 * MS);
	/* never had */
	MUST(rm_is_done(channel, ticket + 1));
	MUST(rm_wait(channel, ticket + 1) == 0);
}

/* Between two stamps lies exactly what ran between them, however late anybody was told. */
static void prove_stamps(void)
{
	uint64_t channel = open_channel(), first_ns, second_ns;
	uint32_t first, second;

	MUST(rm_stamp_open(&first) == 0);
	MUST(rm_stamp_open(&second) == 0);
	MUST(rm_stamp_read(first, NULL) == 0);
	submit_kernel(channel, 30 * MS); /* all is there before the first stamp is due */
	submit_stamp(channel, first, 1);
	submit_kernel(channel, 7 * MS);
	submit_stamp(channel, second, 5);
	MUST(rm_stamp_read(second, NULL) == 0);
	MUST(rm_stamp_wait(second, 5) == 0);
	MUST(rm_stamp_read(first, &first_ns) == 1);
	MUST(rm_stamp_read(second, &second_ns) == 5);
	MUST(second_ns - first_ns == 7 * MS);
	MUST(second_ns <= rm_now_ns());
}

/* Ids are new, memory is not: slots of channels and stamps are used again. */
static void prove_recycling(void)
{
	uint64_t channel = open_channel(), before = 0;
	uint32_t stamp;

	for (unsigned i = 0; i < 3 * WIRE_CHANNELS; i++) {
		uint64_t next;

		MUST(rm_channel_open(0, 0, &next) == 0);
		MUST(next != before);
		before = next;
		if (i % 1000 == 0) {
			MUST(submit_kernel(next, 1000) == 1);
			MUST(rm_last_ticket(next) == 1);
			MUST(rm_wait(next, 1) == 0);
		}
		rm_channel_close(next);
	}
	for (uint64_t i = 0; i < 100; i++) {
		MUST(rm_stamp_open(&stamp) == 0);
		MUST(stamp < 2);
		MUST(rm_stamp_read(stamp, NULL) == 0);
		submit_stamp(channel, stamp, 1);
		MUST(rm_stamp_wait(stamp, 1) == 0);
		rm_stamp_close(stamp);
	}
}

/* A thousand pieces in a channel; the next one waits for room. */
static void prove_depth(void)
{
	uint64_t channel = open_channel(), before = rm_now_ns(), ticket = 0;

	for (unsigned i = 0; i < RM_CHANNEL_DEPTH; i++)
		ticket = submit_kernel(channel, 20000);
	MUST(rm_now_ns() - before < 20 * MS);
	for (unsigned i = 0; i < RM_CHANNEL_DEPTH; i++)
		ticket = submit_kernel(channel, 20000);
	MUST(rm_now_ns() - before >= 19 * MS);
	MUST(ticket == 2 * RM_CHANNEL_DEPTH);
	MUST(rm_wait(channel, ticket) == 0);
	MUST(rm_now_ns() - before >= 40 * MS);
}

static void *submit_many(void *arg)
{
	for (unsigned i = 0; i < 20000; i++)
		submit_kernel(*(uint64_t *)arg, 0);
	return NULL;
}

static void prove_threads(void)
{
	uint64_t channel = open_channel();
	pthread_t threads[4];
	struct rm_busy busy;

	for (unsigned i = 0; i < 4; i++)
		MUST(pthread_create(&threads[i], NULL, submit_many, &channel) == 0);
	for (unsigned i = 0; i < 4; i++)
		MUST(pthread_join(threads[i], NULL) == 0);
	MUST(rm_last_ticket(channel) == 80000);
	MUST(rm_wait(channel, 80000) == 0);
	MUST(rm_busy(0, getpid(), &busy) == 0);
	MUST(busy.kernels == 80000);
}

static void prove_busy(void)
{
	uint64_t channel = open_channel();
	struct rm_busy before, after;

	MUST(rm_busy(0, getpid(), &before) == 0);
	MUST(rm_wait(channel, submit_kernel(channel, 20 * MS)) == 0);
	MUST(rm_busy(0, getpid(), &after) == 0);
	MUST(after.process_ns - before.process_ns == 20 * MS);
	MUST(after.device_ns - before.device_ns == 20 * MS);
	MUST(after.kernels - before.kernels == 1);
	MUST(rm_busy(0, 1, &after) == 0);
	MUST(after.process_ns == 0);
}

static void submit_and_die(void *arg)
{
	uint64_t channel = open_channel();

	(void)arg;
	submit_kernel(channel, 60000 * MS);
	raise(SIGKILL);
}

static void prove_death(void)
{
	uint64_t channel = open_channel(), before = rm_now_ns();
	pid_t pid = start_child(submit_and_die, NULL);

	kill_and_reap(pid);
	/* its minute of work has gone with it */
	MUST(rm_wait(channel, submit_kernel(channel, MS)) == 0);
	MUST(rm_now_ns() - before < 5000 * MS);
}

static void in_child(void *arg)
{
	uint64_t channel = *(uint64_t *)arg, own;

	MUST(rm_time_open() == -ECHILD);
	MUST(rm_wait(channel, 1) == -ECHILD);
	MUST(rm_stamp_wait(0, 1) == -ECHILD);
	own = open_channel();
	MUST(rm_wait(own, submit_kernel(own, MS)) == 0);
}

static void prove_fork(void)
{
	uint64_t channel = open_channel();

	submit_kernel(channel, 50 * MS);
	join_child(start_child(in_child, &channel));
	MUST(rm_wait(channel, 1) == 0);
}

/* A machine that is killed tells nobody. */
static void *kill_machine(void *arg)
{
	struct timespec t = { 0, 50000000 };

	nanosleep(&t, NULL);
	kill(*(pid_t *)arg, SIGKILL);
	return NULL;
}

static void prove_lost(void)
{
	uint64_t channel = open_channel(), before = rm_now_ns();
	pid_t pid = machine_pid();
	pthread_t killer;

	MUST(pid > 0);
	submit_kernel(channel, 60000 * MS);
	MUST(pthread_create(&killer, NULL, kill_machine, &pid) == 0);
	MUST(rm_wait(channel, 1) == -EIO);
	MUST(rm_now_ns() - before < 5000 * MS);
	pthread_join(killer, NULL);
	MUST(rm_stamp_wait(0, 1) == -EIO);
}

int main(void)
{
	static struct claim claims[] = {
		{ "wait: as long as the work takes", prove_wait },
		{ "stamps: exact, however late they are read", prove_stamps },
		{ "slots: used again, ids never", prove_recycling },
		{ "depth: a full channel blocks", prove_depth },
		{ "threads: none of their work is lost", prove_threads },
		{ "busy: the engine's own truth", prove_busy },
		{ "death: the work of a killed process goes", prove_death },
		{ "fork: a child has time of its own", prove_fork },
		{ "lost: waiters hear of a killed machine", prove_lost },
	};
	struct CMUnitTest tests[TR_COUNT(claims)];

	for (size_t i = 0; i < TR_COUNT(claims); i++)
		tests[i] = (struct CMUnitTest){ .name = claims[i].name,
						.test_func = run_claim,
						.initial_state = &claims[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
