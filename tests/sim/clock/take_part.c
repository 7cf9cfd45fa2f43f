/* SPDX-License-Identifier: Apache-2.0 */
#include "simtime.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rm/client.h"

#define DEBT_MAX_NS  20000u
#define READ_NS      25u
#define RANK_DEFAULT 1000000u
#define NO_SLOT      (-1)
#define WAIT_NS      100000000

enum process_state { PROCESS_UNKNOWN, PROCESS_OPENING, PROCESS_OUT, PROCESS_IN };

static _Atomic int process_state;
/* A place whose thread has ended is nobody's until that thread has left it. */
enum place { PLACE_FREE, PLACE_TAKEN, PLACE_ENDED };
static _Atomic int places[WIRE_THREADS];
static const void *waits_on[WIRE_THREADS];  /* of blocked threads; under waits_lock */
static _Atomic bool is_woken[WIRE_THREADS]; /* ... since it was to block there */
static _Atomic int waits_lock;
static _Atomic unsigned waiters; /* in waits_on */
static _Atomic uint64_t sequence;
static uint32_t rank;
static pthread_key_t ends; /* a thread's slot, plus 1 */
static char machine_dir[sizeof(((struct rm_machine *)NULL)->dir)];

/* initial-exec: an access must not allocate */
#define TLS static __thread __attribute__((tls_model("initial-exec")))
TLS int my_slot_plus_1; /* 0: none yet */
TLS uint64_t debt_ns;
TLS int inside; /* our own code runs: calls of it mean libc */

void *sim_real(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);

	if (!p)
		abort(); /* libc has them all */
	return p;
}

/* ---- the process ----------------------------------------------------------------------- */

/* Whether a machine with a virtual clock is named, and runs or shall be started so. */
static bool find_machine(void)
{
	const char *named = getenv("TRANCHE_SIM"), *clock = getenv("TRANCHE_SIM_CLOCK");
	static struct wire_reply hello; /* large */
	char dir[sizeof(machine_dir)];
	int fd, board_fd = -1;

	if (!named || !named[0] || rm_directory(dir, sizeof(dir)) != 0)
		return false;
	fd = rm_connect(dir, clock && strcmp(clock, "virtual") == 0, &hello, &board_fd);
	if (board_fd >= 0)
		close(board_fd);
	if (fd < 0)
		return false;
	close(fd);
	memcpy(machine_dir, dir, sizeof(dir));
	return hello.machine.is_virtual;
}

static void read_rank(void)
{
	const char *text = getenv("TRANCHE_SIM_RANK");

	rank = text && text[0] ? (uint32_t)strtoul(text, NULL, 10) : RANK_DEFAULT;
}

static void open_process(void)
{
	static bool registered;
	int unknown = PROCESS_UNKNOWN;
	int saved = errno;

	if (!atomic_compare_exchange_strong(&process_state, &unknown, PROCESS_OPENING))
		return;
	inside++;
	if (!registered) {
		registered = true;
		pthread_key_create(&ends, sim_thread_end);
		pthread_atfork(NULL, NULL, sim_forked);
	}
	read_rank();
	if (find_machine() && rm_open() == 0 && rm_time_open() == 0) {
		sim_pass_open();
		atomic_store(&process_state, PROCESS_IN);
	} else {
		atomic_store(&process_state, PROCESS_OUT);
	}
	inside--;
	errno = saved;
}

void sim_forked(void)
{
	if (atomic_load(&process_state) == PROCESS_OUT)
		return;
	for (unsigned i = 0; i < WIRE_THREADS; i++) {
		atomic_store(&places[i], PLACE_FREE);
		waits_on[i] = NULL;
		atomic_store(&is_woken[i], false);
	}
	atomic_store(&waits_lock, 0);
	atomic_store(&waiters, 0);
	my_slot_plus_1 = 0;
	debt_ns = 0;
	atomic_store(&process_state, PROCESS_UNKNOWN);
}

void sim_expect(int pid)
{
	struct wire_request req = { .op = WIRE_EXPECT, .id = (uint64_t)(uint32_t)pid };
	struct wire_reply reply;

	inside++;
	rm_call(&req, sizeof(req), -1, &reply, NULL);
	inside--;
}

/* ---- threads --------------------------------------------------------------------------- */

static struct wire_thread *thread_at(int slot)
{
	return &rm_timeline.region->threads[slot];
}

static void give_notice(void)
{
	atomic_thread_fence(memory_order_seq_cst);
	rm_timeline_ring(RM_BELL_FOR_WAITERS);
}

int sim_thread_new(void)
{
	struct wire_time *region = rm_timeline.region;

	for (int i = 0; i < (int)WIRE_THREADS; i++) {
		struct wire_thread *t = thread_at(i);
		int is_free = PLACE_FREE;
		uint32_t high;

		if (!atomic_compare_exchange_strong(&places[i], &is_free, PLACE_TAKEN))
			continue;
		memset(t, 0, sizeof(*t));
		t->rank = rank;
		t->look_ns = WIRE_NOBODY;
		t->sequence = atomic_fetch_add(&sequence, 1);
		atomic_store(&t->state, WIRE_THREAD_BLOCKED);
		high = atomic_load(&region->thread_high);
		while (high <= (uint32_t)i &&
		       !atomic_compare_exchange_weak(&region->thread_high, &high,
						     (uint32_t)i + 1))
			;
		wire_bit_set(rm_timeline.bell->takes_part, rm_timeline.key);
		return i;
	}
	return NO_SLOT;
}

void sim_thread_forget(int slot)
{
	atomic_store(&thread_at(slot)->state, WIRE_THREAD_FREE);
	atomic_store(&places[slot], PLACE_FREE);
	give_notice();
}

bool sim_thread_is_live(int slot)
{
	return atomic_load(&places[slot]) == PLACE_TAKEN;
}

const void *sim_thread_word(int slot)
{
	return &places[slot];
}

/* Until the engine has given the token. -EINTR: a signal came first (the token came after it),
 * -EIO: there is no engine any more. */
static int await_token(struct wire_thread *t)
{
	struct timespec wait = { 0, WAIT_NS };
	int r = 0;

	while (atomic_load(&t->state) == WIRE_THREAD_BLOCKED) {
		long f = syscall(SYS_futex, &t->state, FUTEX_WAIT, WIRE_THREAD_BLOCKED,
				 &wait, NULL, 0);

		if (f != 0 && errno == EINTR && r == 0) {
			r = -EINTR;
			atomic_store(&t->until_ns, 0);
			give_notice();
		} else if (f != 0 && errno == ETIMEDOUT && rm_is_lost()) {
			/* real time goes on without the machine */
			atomic_store(&process_state, PROCESS_OUT);
			return -EIO;
		}
	}
	return r;
}

static int block(const struct sim_clock_request *q, uint64_t look_ns)
{
	struct wire_thread *t = thread_at(my_slot_plus_1 - 1);
	int saved = errno, r;
	uint64_t now;

	t->client = q->client;
	t->channel = q->channel;
	t->ticket = q->ticket;
	t->stamp = q->stamp;
	t->generation = q->generation;
	t->after_ns = atomic_load(&rm_timeline.clock->now_ns) + debt_ns;
	t->sequence = atomic_fetch_add(&sequence, 1);
	t->look_ns = look_ns;
	debt_ns = 0;
	atomic_store(&t->until_ns, q->until_ns);
	/* a thread that is away may wake this one while it is still on its way here */
	if (atomic_load(&is_woken[my_slot_plus_1 - 1]))
		atomic_store(&t->until_ns, 0);
	atomic_store(&t->state, WIRE_THREAD_BLOCKED);
	if (!sim_pass_on((uint32_t)(my_slot_plus_1 - 1)))
		give_notice();
	r = await_token(t);
	/* woken to look while the clock stood: its own does not go back */
	now = atomic_load(&rm_timeline.clock->now_ns);
	if (now < t->after_ns)
		debt_ns = t->after_ns - now;
	errno = saved;
	return r;
}

/* Only one thread of all runs at a time; on one processor they change fastest. */
static void move_to_processor(void)
{
	struct sched_param param = { 0 };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(rm_timeline.clock->cpu, &set);
	syscall(SYS_sched_setaffinity, 0, sizeof(set), &set);
	/* who wakes another is about to sleep: it shall not be interrupted for that */
	syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &param);
}

void sim_thread_begin(int slot)
{
	struct wire_thread *t = thread_at(slot);

	my_slot_plus_1 = slot + 1;
	debt_ns = 0;
	t->tid = (int32_t)syscall(SYS_gettid);
	move_to_processor();
	inside++;
	pthread_setspecific(ends, (void *)(uintptr_t)my_slot_plus_1);
	await_token(t);
	inside--;
}

void sim_thread_end(void *slot_plus_1)
{
	int slot = (int)(uintptr_t)slot_plus_1 - 1;

	if (my_slot_plus_1 != slot + 1 || atomic_load(&process_state) != PROCESS_IN)
		return;
	my_slot_plus_1 = 0;
	inside++; /* for good: what the thread still does is not seen */
	atomic_store(&places[slot], PLACE_ENDED);
	sim_wake(sim_thread_word(slot), true);
	atomic_store(&thread_at(slot)->state, WIRE_THREAD_FREE);
	atomic_store(&places[slot], PLACE_FREE);
	give_notice();
}

bool sim_takes_part(void)
{
	int slot;

	if (inside)
		return false;
	if (atomic_load_explicit(&process_state, memory_order_acquire) == PROCESS_UNKNOWN)
		open_process();
	if (atomic_load_explicit(&process_state, memory_order_acquire) != PROCESS_IN)
		return false;
	if (my_slot_plus_1 == 0) {
		slot = sim_thread_new();
		if (slot == NO_SLOT)
			return false;
		give_notice();
		sim_thread_begin(slot);
	}
	switch (atomic_load(&thread_at(my_slot_plus_1 - 1)->state)) {
	case WIRE_THREAD_RUNS:
		return true;
	case WIRE_THREAD_AWAY: /* it slept where the clock did not see it */
		sim_join();
		return atomic_load(&process_state) == PROCESS_IN;
	default: /* a signal handler while the thread waits */
		return false;
	}
}

__attribute__((constructor)) static void begin(void)
{
	sim_takes_part();
}

void sim_leave(void)
{
	atomic_store(&thread_at(my_slot_plus_1 - 1)->state, WIRE_THREAD_AWAY);
	give_notice();
}

void sim_join(void)
{
	struct sim_clock_request q = { .until_ns = 0 };

	inside++;
	block(&q, WIRE_NOBODY);
	inside--;
}

int sim_sleep_until(uint64_t until_ns)
{
	struct sim_clock_request q = { .until_ns = until_ns };
	int r;

	inside++;
	r = block(&q, WIRE_NOBODY);
	inside--;
	return r;
}

int sim_look_until(uint64_t until_ns, uint64_t look_ns)
{
	struct sim_clock_request q = { .until_ns = until_ns };
	int r;

	inside++;
	r = block(&q, look_ns);
	inside--;
	return r;
}

/* What a clock reads beyond the machine's time. */
static uint64_t lead_ns(bool is_wall)
{
	const struct wire_clock *clock = rm_timeline.clock;
	uint64_t ahead_ns = atomic_load(&clock->ahead_ns);

	return is_wall ? ahead_ns + SIM_EPOCH_NS + atomic_load(&clock->wall_ns) : ahead_ns;
}

uint64_t sim_read_clock(bool is_wall)
{
	sim_clock_spend(READ_NS);
	return atomic_load(&rm_timeline.clock->now_ns) + debt_ns + lead_ns(is_wall);
}

uint64_t sim_when(bool is_wall, uint64_t ns)
{
	uint64_t lead = lead_ns(is_wall);

	return ns > lead ? ns - lead : 0;
}

/* ---- waits that others of the process end ---------------------------------------------- */

static void lock_waits(void)
{
	while (atomic_exchange(&waits_lock, 1))
		rm_relax();
}

static void unlock_waits(void)
{
	atomic_store(&waits_lock, 0);
}

bool sim_wait_on(const void *what, uint64_t until_ns)
{
	int slot = my_slot_plus_1 - 1;
	bool was_woken;

	lock_waits();
	waits_on[slot] = what;
	atomic_fetch_add(&waiters, 1);
	unlock_waits();
	sim_sleep_until(until_ns);
	lock_waits();
	was_woken = atomic_exchange(&is_woken[slot], false);
	waits_on[slot] = NULL;
	atomic_fetch_sub(&waiters, 1);
	unlock_waits();
	return was_woken;
}

/* The one that waits longest for WHAT, or -1. */
static int first_waiting(const void *what)
{
	uint32_t high = atomic_load(&rm_timeline.region->thread_high);
	int first = -1;

	for (int i = 0; i < (int)high && i < (int)WIRE_THREADS; i++) {
		if (waits_on[i] == what &&
		    (first < 0 || thread_at(i)->sequence < thread_at(first)->sequence))
			first = i;
	}
	return first;
}

void sim_wake(const void *what, bool all)
{
	int i;

	if (atomic_load(&waiters) == 0)
		return;
	lock_waits();
	do {
		i = first_waiting(what);
		if (i < 0)
			break;
		waits_on[i] = NULL;
		atomic_store(&is_woken[i], true);
		atomic_store(&thread_at(i)->until_ns, 0);
	} while (all);
	unlock_waits();
}

/* ---- for the simulated driver (rm/timeclient.h) ---------------------------------------- */

SIM_EXPORT bool sim_clock_is_active(const char *dir)
{
	if (!inside)
		sim_takes_part();
	return (atomic_load(&process_state) == PROCESS_IN || inside) &&
	       strcmp(dir, machine_dir) == 0;
}

SIM_EXPORT uint64_t sim_clock_now(void)
{
	return atomic_load(&rm_timeline.clock->now_ns) + debt_ns;
}

SIM_EXPORT void sim_clock_spend(uint64_t ns)
{
	if (!sim_takes_part())
		return;
	debt_ns += ns;
	if (debt_ns > DEBT_MAX_NS)
		sim_sleep_until(atomic_load(&rm_timeline.clock->now_ns) + debt_ns);
}

SIM_EXPORT int sim_clock_wait(const struct sim_clock_request *request)
{
	int r;

	if (!sim_takes_part())
		return -EIO;
	do {
		inside++;
		r = block(request, WIRE_NOBODY);
		inside--;
	} while (r == -EINTR);
	return r;
}
