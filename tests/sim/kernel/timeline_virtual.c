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
#define CALL_LOOKS   2000u          /* ... while it waits for an answer of this process */
#define SPIN_TICKS   200u           /* of its processor's time, until it is let go: 2 s */
#define COME_NS      500000u        /* how often those that shall come are looked at */
#define PAUSE_MIN_NS 1000000u /* between looks of those who wait, while the clock stands */
#define PAUSE_MAX_NS 50000000u

static struct {
	uint64_t holder_key; /* 0: the token is free */
	uint32_t holder_thread;
	unsigned asleep_looks, looks;
	uint64_t holder_ticks;  /* of its processor's time, at the first look */
	uint64_t came;          /* programs that nobody who takes part started */
	uint64_t came_real_ns;  /* the last of them */
	uint64_t pause_ns;      /* while the clock stands */
	uint64_t pause_real_ns; /* when it ends; 0: none has begun */
	bool looks_now;         /* ... it has ended: in this round all look */
	bool told_deadlock, told_hold;
} v = { .pause_ns = PAUSE_MIN_NS };

struct found {
	struct timeline_client *client; /* NULL: nobody is ready */
	uint32_t thread;
	uint64_t next_ns; /* when the first of the others becomes ready by itself */
	unsigned blocked, away, looking;
};

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
		timeline.clock->cpu = cpu;
		return;
	}
}

void timeline_virtual_run(void)
{
	struct sched_param param = { 0 };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(timeline.clock->cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	/* who wakes another is about to sleep: it shall not be interrupted for that */
	syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &param);
}

void timeline_virtual_start(void)
{
	choose_processor();
	engine_advance(timeline.engine, START_NS);
	atomic_store(&timeline.clock->now_ns, START_NS);
	v.came_real_ns = timeline_real_ns();
	/* always: who gives way while a round runs shall have rung when it ends */
	atomic_store(&timeline.clock->is_asleep, RM_BELL_FOR_WAITERS);
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
	pthread_mutex_lock(&timeline.lock);
	if (!timeline.is_virtual) {
		pthread_mutex_unlock(&timeline.lock);
		return -ENOTSUP;
	}
	atomic_fetch_add(&timeline.clock->ahead_ns, jump_ns);
	atomic_fetch_add(&timeline.clock->wall_ns, wall_ns);
	for (uint64_t k = 0; jump_ns && k < timeline.client_count; k++)
		if (timeline.clients[k])
			shorten_sleeps(timeline.clients[k], jump_ns);
	pthread_mutex_unlock(&timeline.lock);
	return 0;
}

void sim_time_expect(pid_t pid)
{
	pthread_mutex_lock(&timeline.lock);
	if (timeline.is_virtual)
		timeline_expect(pid, 0);
	pthread_mutex_unlock(&timeline.lock);
}

/* ---- threads --------------------------------------------------------------------------- */

static bool is_met(const struct wire_thread *t, uint64_t now)
{
	struct timeline_client *of;
	uint64_t channel = t->channel, generation = t->generation, ticket = t->ticket;
	uint32_t stamp = t->stamp;

	if (atomic_load(&t->until_ns) <= now)
		return true;
	of = timeline_client_of(t->client);
	if (!of)
		return t->client != 0; /* it will never come */
	if (ticket && channel < WIRE_CHANNELS &&
	    atomic_load(&of->region->channels[channel].done) >= ticket)
		return true;
	return generation && stamp < WIRE_STAMPS &&
	       atomic_load(&of->region->stamps[stamp].generation) >= generation;
}

/* Whether thread I of C goes before what was found. */
static bool is_before(const struct timeline_client *c, uint32_t i, const struct found *f)
{
	const struct wire_thread *a = &c->region->threads[i], *b;
	uint64_t mine, its;

	if (!f->client)
		return true;
	b = &f->client->region->threads[f->thread];
	mine = c->threads[i].ready_ns;
	its = f->client->threads[f->thread].ready_ns;
	if (mine != its)
		return mine < its;
	if (a->rank != b->rank)
		return a->rank < b->rank;
	if (c != f->client)
		return c->order < f->client->order;
	return a->sequence < b->sequence;
}

static void see_blocked(struct timeline_client *c, uint32_t i, uint64_t now,
			struct found *f)
{
	struct wire_thread *t = &c->region->threads[i];
	struct timeline_thread *own = &c->threads[i];
	uint64_t until = atomic_load(&t->until_ns), after = t->after_ns;

	f->blocked++;
	f->looking += t->look_ns != WIRE_NOBODY;
	if (!own->is_ready && (t->look_ns <= now || is_met(t, now))) {
		if (after <= now) {
			own->is_ready = true;
			own->ready_ns = now;
			v.pause_ns = PAUSE_MIN_NS;
		} else {
			until = after;
		}
	}
	if (!own->is_ready && v.looks_now && t->look_ns != WIRE_NOBODY) {
		own->is_ready = true;
		own->ready_ns = now;
	}
	if (own->is_ready) {
		if (is_before(c, i, f)) {
			f->client = c;
			f->thread = i;
		}
	} else if (until < f->next_ns) {
		f->next_ns = until;
	}
}

static void take_in(struct timeline_client *c)
{
	c->rank = c->region->threads[0].rank;
	if (timeline_is_started_outside(c)) {
		v.came++;
		v.came_real_ns = timeline_real_ns();
	}
	c->took_part = true;
}

static void look_at_threads(uint64_t now, struct found *f)
{
	*f = (struct found){ .next_ns = UINT64_MAX };
	v.pause_real_ns = v.looks_now ? 0 : v.pause_real_ns;
	for (uint64_t k = 0; k < timeline.client_count; k++) {
		struct timeline_client *c = timeline.clients[k];
		uint32_t high;

		if (!c)
			continue;
		high = atomic_load(&c->region->thread_high);
		if (high > 0 && !c->took_part)
			take_in(c);
		for (uint32_t i = 0; i < high && i < WIRE_THREADS; i++) {
			uint32_t state = atomic_load(&c->region->threads[i].state);

			if (state == WIRE_THREAD_BLOCKED)
				see_blocked(c, i, now, f);
			else
				c->threads[i].is_ready = false;
			f->away += state == WIRE_THREAD_AWAY;
		}
	}
	v.looks_now = false;
}

static void grant(const struct found *f)
{
	struct wire_thread *t = &f->client->region->threads[f->thread];

	v.holder_key = f->client->key;
	v.holder_thread = f->thread;
	v.asleep_looks = v.looks = 0;
	v.told_deadlock = false;
	f->client->threads[f->thread].is_ready = false;
	atomic_store(&t->state, WIRE_THREAD_RUNS);
	timeline_wake_word(&t->state);
}

/* The thread with the token, or NULL once it has given way. */
static struct wire_thread *holder(struct timeline_client **c)
{
	struct wire_thread *t;

	*c = timeline_client_of(v.holder_key);
	if (!*c)
		return NULL;
	t = &(*c)->region->threads[v.holder_thread];
	return atomic_load(&t->state) == WIRE_THREAD_RUNS ? t : NULL;
}

/* A holder that sleeps somewhere, or computes without an end, shall not stop all the others. */
static void look_at_holder(const struct timeline_client *c, struct wire_thread *t)
{
	uint32_t runs = WIRE_THREAD_RUNS;
	uint64_t ticks = 0;
	char state = t->tid ? timeline_state_of(c->host_pid, t->tid, &ticks, NULL) : 'S';
	unsigned most = atomic_load(&c->region->calls) ? CALL_LOOKS : ASLEEP_LOOKS;

	if (v.looks++ == 0)
		v.holder_ticks = ticks;
	v.asleep_looks = state == 'X' || timeline_is_asleep(state) ? v.asleep_looks + 1 : 0;
	if (v.asleep_looks < most && ticks - v.holder_ticks < SPIN_TICKS)
		return;
	atomic_compare_exchange_strong(&t->state, &runs, WIRE_THREAD_AWAY);
}

/* True while somebody holds the token. */
static bool await_holder(void)
{
	struct timeline_client *c;
	struct wire_thread *t = holder(&c);
	uint64_t end;

	if (!t) {
		v.holder_key = 0;
		return false;
	}
	end = timeline_real_ns() + LOOK_NS;
	timeline_sleep(RM_BELL_FOR_WAITERS, end);
	t = holder(&c);
	if (t && timeline_real_ns() >= end)
		look_at_holder(c, t);
	return true;
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
	if (v.came >= sim_kernel.settings.hold || v.told_hold)
		return false;
	if (timeline_real_ns() <
	    v.came_real_ns + sim_kernel.settings.hold_ms * UINT64_C(1000000))
		return true;
	tell(&v.told_hold, "hold: %llu of %u programs came, and none for %u ms\n",
	     (unsigned long long)v.came, (unsigned)sim_kernel.settings.hold,
	     (unsigned)sim_kernel.settings.hold_ms);
	return false;
}

static void move_to(uint64_t ns)
{
	timeline_advance(ns);
	atomic_store(&timeline.clock->now_ns, ns);
	v.pause_ns = PAUSE_MIN_NS;
	v.pause_real_ns = 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Nothing is to come, or nothing may: until somebody rings, or it is time to look. */
static void stand(const struct found *f, bool is_held_back)
{
	uint64_t now = timeline_real_ns();

	if (v.pause_real_ns == 0) {
		v.pause_real_ns = now + v.pause_ns;
		v.pause_ns = least(2 * v.pause_ns, PAUSE_MAX_NS);
	}
	if (!is_held_back && f->blocked > 0 && f->away == 0 && f->looking == 0)
		tell(&v.told_deadlock,
		     "deadlock at %llu ns: %u threads wait, and nothing is to come\n",
		     (unsigned long long)engine_now_ns(timeline.engine), f->blocked);
	timeline_sleep(RM_BELL_FOR_ALL,
		       f->looking > 0 || is_held_back ? v.pause_real_ns : UINT64_MAX);
	v.looks_now |= timeline_real_ns() >= v.pause_real_ns;
}

void timeline_virtual_round(void)
{
	uint64_t now = engine_now_ns(timeline.engine), next;
	struct found f;

	timeline_drain(now);
	if (await_holder())
		return;
	timeline_drain(now);
	if (timeline_is_expecting()) {
		timeline_sleep(RM_BELL_FOR_WAITERS, timeline_real_ns() + COME_NS);
		/* they come through the socket, and are seen here */
		look_at_threads(now, &f);
		return;
	}
	engine_advance(timeline.engine, now);
	look_at_threads(now, &f);
	if (is_held()) {
		stand(&f, true);
		return;
	}
	if (f.client) {
		grant(&f);
		return;
	}
	next = least(least(engine_next_ns(timeline.engine), f.next_ns),
		     timeline_written_ns());
	if (next == UINT64_MAX)
		stand(&f, false);
	else
		move_to(next > now ? next : now);
}

void timeline_virtual_drop(struct timeline_client *c, bool is_alive)
{
	if (!timeline.is_virtual || !c->took_part)
		return;
	if (is_alive)
		timeline_expect(c->host_pid, c->order);
	v.looks_now = true; /* for its end, or a lock it had, somebody may wait */
}
