/* SPDX-License-Identifier: Apache-2.0 */
#include "timeline.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel.h"
#include "rm/timeclient.h"

/*
 * The virtual clock. One thread of all that take part holds the token and runs; when it
 * blocks, the next that is ready gets it, by (time, rank, process, order of blocking). Nobody
 * is ready: the clock moves to what happens next. So the outcome depends on no real clock.
 *
 * What may still happen outside delays the clock and is bounded by the real one: programs that
 * shall come are waited for (timeline_expect.c), a holder that sleeps where the clock does not see it
 * loses the token. Who waits for what the clock does not know looks for it, at times of the clock
 * while it moves, by the real one while it stands.
 */

#define START_NS     1000000000000u /* what the clock reads when the machine starts */
#define LOOK_NS      5000000u       /* how often a silent holder is looked at */
#define ASLEEP_LOOKS 6u             /* ... until its sleep is believed */
#define CALL_LOOKS   2000u   /* ... while it waits for an answer, or has yet to begin */
#define SPIN_TICKS   200u    /* of its processor's time, until it is let go: 2 s */
#define COME_NS      500000u /* how often those that shall come are looked at */
/* Between looks of those who wait, while the clock stands: from TIMELINE_PAUSE_MIN_NS on. */
#define PAUSE_MAX_NS 50000000u

/*
 * Only one thread runs at a time, so one processor does for all of them: to wake somebody on
 * another, idle one costs many times the switch. Machines spread by their pids.
 */
static void choose_processor(void)
{
	unsigned n, chosen;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return;
	n = (unsigned)CPU_COUNT(&set);
	chosen = n > 0 ? (unsigned)getpid() % n : 0;
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &set) || chosen-- > 0)
			continue;
		timeline->clock->cpu = cpu;
		return;
	}
}

void timeline_virtual_run(void)
{
	struct sched_param param = { 0 };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(timeline->clock->cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	/* who wakes another is about to sleep: it shall not be interrupted for that */
	syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &param);
}

void timeline_virtual_start(void)
{
	choose_processor();
	engine_advance(timeline->engine, START_NS);
	atomic_store(&timeline->clock->now_ns, START_NS);
	timeline->v.held_real_ns = timeline_real_ns();
	timeline->v.hold = sim_kernel.settings.hold;
	timeline->v.pause_ns = TIMELINE_PAUSE_MIN_NS;
	/* always: who gives way while a round runs shall have rung when it ends */
	atomic_store(&timeline->clock->is_asleep, RM_BELL_FOR_WAITERS);
}

/* ---- steps ------------------------------------------------------------------------------ */

/* Sleeps are till a time of the clock that has jumped. */
static void shorten_sleeps(const struct timeline_client *c, uint64_t by_ns)
{
	for (uint32_t i = 0; i < WIRE_THREADS; i++) {
		_Atomic uint64_t *until = &c->region->threads[i].until_ns;
		uint64_t seen = atomic_load(until);

		if (seen != WIRE_NOBODY)
			atomic_compare_exchange_strong(until, &seen,
						       seen > by_ns ? seen - by_ns : 0);
	}
}

int sim_time_step(uint64_t jump_ns, uint64_t wall_ns)
{
	timeline_lock();
	if (!timeline->is_virtual) {
		timeline_unlock();
		return -ENOTSUP;
	}
	atomic_fetch_add(&timeline->clock->ahead_ns, jump_ns);
	atomic_fetch_add(&timeline->clock->wall_ns, wall_ns);
	for (uint64_t k = 0; jump_ns && k < timeline->client_count; k++)
		if (timeline->clients[k])
			shorten_sleeps(timeline->clients[k], jump_ns);
	timeline_unlock();
	return 0;
}

void sim_time_expect(pid_t pid)
{
	timeline_lock();
	if (timeline->is_virtual)
		timeline_expect(pid, 0);
	timeline_unlock();
}

/* ---- threads --------------------------------------------------------------------------- */

static void take_in(struct timeline_client *c)
{
	c->rank = c->region->threads[0].rank;
	if (timeline_is_started_outside(c)) {
		timeline->v.came++;
		timeline->v.held = (struct rm_patience){ 0 };
	}
	c->took_part = true;
}

static void take_in_new(void)
{
	for (uint64_t k = 0; k < timeline->client_count; k++) {
		struct timeline_client *c = timeline->clients[k];

		if (c && !c->took_part && atomic_load(&c->region->thread_high) > 0)
			take_in(c);
	}
}

/* A holder that sleeps somewhere, or computes without an end, shall not stop all the others. */
static void look_at_holder(const struct timeline_client *c, struct wire_thread *t)
{
	uint32_t runs = WIRE_THREAD_RUNS;
	uint64_t ticks = 0;
	char state = t->tid ? rm_state_of(c->host_pid, t->tid, &ticks, NULL) : 'S';
	bool is_coming = !t->tid || atomic_load(&c->region->calls);
	unsigned most = is_coming ? CALL_LOOKS : ASLEEP_LOOKS;

	if (timeline->v.looks++ == 0)
		timeline->v.holder_ticks = ticks;
	timeline->v.asleep_looks = rm_is_asleep(state) ? timeline->v.asleep_looks + 1 : 0;
	/* who passed it on may have lost the processor before it could wake this one */
	if (timeline->v.asleep_looks > 0)
		timeline_wake_word(&t->state);
	if (timeline->v.asleep_looks < most &&
	    ticks - timeline->v.holder_ticks < SPIN_TICKS)
		return;
	atomic_compare_exchange_strong(&t->state, &runs, WIRE_THREAD_AWAY);
}

/* Sleeps while threads pass the token on by themselves, unless one keeps it for long. */
static void watch_holder(void)
{
	uint64_t grants = timeline->v.grants, end = timeline_real_ns() + LOOK_NS;
	struct timeline_client *c;
	struct wire_thread *t;

	timeline->v.may_pass = true;
	timeline_sleep(RM_BELL_FOR_WAITERS, end);
	timeline->v.may_pass = false;
	t = timeline_holder(&c);
	if (t && timeline->v.grants == grants && timeline_real_ns() >= end)
		look_at_holder(c, t);
}

/* Into the machine's directory; each only once. */
static __attribute__((format(printf, 2, 3))) void tell(bool *told, const char *format, ...)
{
	va_list args;
	int fd;

	if (*told)
		return;
	*told = true;
	fd = openat(sim_kernel.dir_fd, WIRE_CLOCK_ERROR,
		    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	va_start(args, format);
	vdprintf(fd, format, args);
	va_end(args);
	close(fd);
}

/* Nobody runs until so many programs have come: who was fast must not be ahead. But not for ever. */
static bool is_held(void)
{
	uint64_t now = timeline_real_ns();

	if (timeline->v.came >= sim_kernel.settings.hold || timeline->v.told_hold)
		return false;
	/* this process had nothing else to do; it may have had no processor, as those who shall come */
	rm_patience_look(&timeline->v.held, 'S', now - timeline->v.held_real_ns);
	timeline->v.held_real_ns = now;
	if (timeline->v.held.asleep_ns < sim_kernel.settings.hold_ms * UINT64_C(1000000))
		return true;
	tell(&timeline->v.told_hold, "hold: %llu of %u programs came, and none for %u ms\n",
	     (unsigned long long)timeline->v.came, (unsigned)sim_kernel.settings.hold,
	     (unsigned)sim_kernel.settings.hold_ms);
	return false;
}

/* Nothing is to come, or nothing may: until somebody rings, or it is time to look. */
static void stand(const struct timeline_found *f, bool is_held_back)
{
	uint64_t now = timeline_real_ns();

	if (timeline->v.pause_real_ns == 0) {
		timeline->v.pause_real_ns = now + timeline->v.pause_ns;
		timeline->v.pause_ns = 2 * timeline->v.pause_ns < PAUSE_MAX_NS
					       ? 2 * timeline->v.pause_ns
					       : PAUSE_MAX_NS;
	}
	if (!is_held_back && f->blocked > 0 && f->away == 0 && f->looking == 0)
		tell(&timeline->v.told_deadlock,
		     "deadlock at %llu ns: %u threads wait, and nothing is to come\n",
		     (unsigned long long)engine_now_ns(timeline->engine), f->blocked);
	timeline_sleep(RM_BELL_FOR_ALL, f->looking > 0 || is_held_back
						? timeline->v.pause_real_ns
						: UINT64_MAX);
	timeline->v.looks_now |= timeline_real_ns() >= timeline->v.pause_real_ns;
}

void timeline_virtual_round(void)
{
	struct timeline_found f;

	switch (timeline_pass(&f)) {
	case TIMELINE_GRANTED:
		timeline_wake_word(&f.granted->state);
		break;
	case TIMELINE_RUNS:
		watch_holder();
		break;
	case TIMELINE_EXPECTS:
		if (timeline_is_expecting())
			timeline_sleep(RM_BELL_FOR_WAITERS, timeline_real_ns() + COME_NS);
		/* they come through the socket, and are seen here */
		take_in_new();
		break;
	case TIMELINE_IS_NEW:
		take_in_new();
		break;
	case TIMELINE_HELD:
		if (is_held())
			stand(&f, true);
		break;
	case TIMELINE_STANDS:
		stand(&f, false);
		break;
	}
}

void timeline_virtual_drop(struct timeline_client *c, bool is_alive)
{
	if (!timeline->is_virtual || !c->took_part)
		return;
	if (is_alive)
		timeline_expect(c->host_pid, c->order);
	timeline->v.looks_now = true; /* for its end, or a lock it had, somebody may wait */
}
