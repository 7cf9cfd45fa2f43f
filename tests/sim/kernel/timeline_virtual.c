/* SPDX-License-Identifier: Apache-2.0 */
#include "timeline.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel.h"
#include "rm/timeclient.h"

/*
 * The virtual clock. One thread of all that take part holds the token and runs; when it
 * blocks, the next that is ready gets it, by (time, rank, process, order of blocking). Nobody
 * is ready: the clock moves to what happens next. So the outcome depends on no real clock.
 *
 * What may still happen outside delays the clock and is bounded by the real one: a process
 * that was forked or calls exec is waited for, a holder that sleeps where the clock does not see
 * it loses the token.
 */

#define START_NS       1000000000000u /* what the clock reads when the machine starts */
#define LOOK_NS        5000000u       /* how often a silent holder is looked at */
#define ASLEEP_LOOKS   6u             /* ... until its sleep is believed */
#define SPIN_LOOKS_MAX 400u           /* ... until one that only computes is let go */
#define EXPECT_NS      1000000000u
#define EXPECT_MAX     64

static struct {
	uint64_t holder_key; /* 0: the token is free */
	uint32_t holder_thread;
	unsigned asleep_looks, looks;
	struct {
		pid_t pid;
		uint64_t until_real_ns;
	} expected[EXPECT_MAX];
	unsigned expected_count;
	uint64_t came; /* processes that ever took part */
	bool told_deadlock;
} v;

struct found {
	struct timeline_client *client; /* NULL: nobody is ready */
	uint32_t thread;
	uint64_t next_ns; /* when the first of the others becomes ready by itself */
	unsigned blocked, away;
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
}

static struct timeline_client *client_of(uint64_t key)
{
	return key && key <= timeline.client_count ? timeline.clients[key - 1] : NULL;
}

/* ---- processes that are to come -------------------------------------------------------- */

static void expect(pid_t pid)
{
	if (v.expected_count == EXPECT_MAX || pid <= 0)
		return;
	v.expected[v.expected_count].pid = pid;
	v.expected[v.expected_count++].until_real_ns = timeline_real_ns() + EXPECT_NS;
}

void sim_time_expect(pid_t pid)
{
	pthread_mutex_lock(&timeline.lock);
	if (timeline.is_virtual)
		expect(pid);
	pthread_mutex_unlock(&timeline.lock);
}

/* The letter of a thread's state in /proc, 'X' when there is none. */
static char state_of(pid_t pid, int tid)
{
	char path[64], text[256], *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 'X';
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 'X';
	text[n] = '\0';
	end = strrchr(text, ')');
	return end && end[1] == ' ' ? end[2] : 'X';
}

static bool has_come(pid_t pid)
{
	for (uint64_t i = 0; i < timeline.client_count; i++) {
		struct timeline_client *c = timeline.clients[i];

		if (c && c->took_part && c->host_pid == pid)
			return true;
	}
	return false;
}

static bool is_expecting(void)
{
	uint64_t now = v.expected_count > 0 ? timeline_real_ns() : 0;
	unsigned kept = 0;

	for (unsigned i = 0; i < v.expected_count; i++) {
		pid_t pid = v.expected[i].pid;
		char state;

		if (has_come(pid) || now >= v.expected[i].until_real_ns)
			continue;
		state = state_of(pid, pid);
		if (state == 'X' || state == 'Z')
			continue;
		v.expected[kept++] = v.expected[i];
	}
	v.expected_count = kept;
	return kept > 0;
}

/* ---- threads --------------------------------------------------------------------------- */

static bool is_met(const struct wire_thread *t, uint64_t now)
{
	struct timeline_client *of;
	uint64_t channel = t->channel, generation = t->generation, ticket = t->ticket;
	uint32_t stamp = t->stamp;

	if (atomic_load(&t->until_ns) <= now)
		return true;
	of = client_of(t->client);
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
		return c->key < f->client->key;
	return a->sequence < b->sequence;
}

static void see_blocked(struct timeline_client *c, uint32_t i, uint64_t now,
			struct found *f)
{
	struct wire_thread *t = &c->region->threads[i];
	struct timeline_thread *own = &c->threads[i];
	uint64_t until = atomic_load(&t->until_ns), after = t->after_ns;

	f->blocked++;
	if (!own->is_ready && is_met(t, now)) {
		if (after <= now) {
			own->is_ready = true;
			own->ready_ns = now;
		} else {
			until = after;
		}
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

static void look_at_threads(uint64_t now, struct found *f)
{
	*f = (struct found){ .next_ns = UINT64_MAX };
	for (uint64_t k = 0; k < timeline.client_count; k++) {
		struct timeline_client *c = timeline.clients[k];
		uint32_t high;

		if (!c)
			continue;
		high = atomic_load(&c->region->thread_high);
		if (high > 0 && !c->took_part) {
			c->took_part = true;
			v.came++;
		}
		for (uint32_t i = 0; i < high && i < WIRE_THREADS; i++) {
			uint32_t state = atomic_load(&c->region->threads[i].state);

			if (state == WIRE_THREAD_BLOCKED)
				see_blocked(c, i, now, f);
			else
				c->threads[i].is_ready = false;
			f->away += state == WIRE_THREAD_AWAY;
		}
	}
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

	*c = client_of(v.holder_key);
	if (!*c)
		return NULL;
	t = &(*c)->region->threads[v.holder_thread];
	return atomic_load(&t->state) == WIRE_THREAD_RUNS ? t : NULL;
}

/* A holder that sleeps somewhere, or computes without an end, shall not stop all the others. */
static void look_at_holder(const struct timeline_client *c, struct wire_thread *t)
{
	uint32_t runs = WIRE_THREAD_RUNS;
	char state = t->tid ? state_of(c->host_pid, t->tid) : 'S';

	v.looks++;
	v.asleep_looks = state == 'S' || state == 'T' || state == 't' || state == 'X'
				 ? v.asleep_looks + 1
				 : 0;
	if (v.asleep_looks < ASLEEP_LOOKS && v.looks < SPIN_LOOKS_MAX)
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

static void tell_deadlock(unsigned blocked)
{
	int fd;

	if (v.told_deadlock)
		return;
	v.told_deadlock = true;
	fd = openat(sim_kernel.dir_fd, WIRE_CLOCK_ERROR,
		    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	dprintf(fd, "deadlock at %llu ns: %u threads wait, and nothing is to come\n",
		(unsigned long long)engine_now_ns(timeline.engine), blocked);
	close(fd);
}

static void move_to(uint64_t ns)
{
	engine_advance(timeline.engine, ns);
	atomic_store(&timeline.clock->now_ns, ns);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void timeline_virtual_round(void)
{
	uint64_t now = engine_now_ns(timeline.engine), next;
	struct found f;

	timeline_drain(now);
	if (await_holder())
		return;
	timeline_drain(now);
	if (is_expecting()) {
		timeline_sleep(RM_BELL_FOR_WAITERS, timeline_real_ns() + LOOK_NS / 10);
		/* they come through the socket, and are seen here */
		look_at_threads(now, &f);
		return;
	}
	engine_advance(timeline.engine, now);
	look_at_threads(now, &f);
	if (f.client) {
		grant(&f);
		return;
	}
	next = least(least(engine_next_ns(timeline.engine), f.next_ns),
		     timeline_written_ns());
	if (v.came < sim_kernel.settings.hold || next == UINT64_MAX) {
		if (v.came >= sim_kernel.settings.hold && f.blocked > 0 && f.away == 0)
			tell_deadlock(f.blocked);
		timeline_sleep(RM_BELL_FOR_ALL, UINT64_MAX);
		return;
	}
	move_to(next > now ? next : now);
}

void timeline_virtual_drop(struct timeline_client *c, bool is_alive)
{
	if (timeline.is_virtual && c->took_part && is_alive)
		expect(c->host_pid);
}
