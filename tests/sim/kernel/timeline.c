/* SPDX-License-Identifier: Apache-2.0 */
#include "timeline.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"
#include "rm/timeclient.h"

/* Completions for which nobody waits may be told so late: it spares a wake-up for each. */
#define NAP_NS      200000u
#define AHEAD_NS    1000000u
#define STACK_BYTES (256u << 10)

struct timeline timeline = { .lock = PTHREAD_MUTEX_INITIALIZER, .record_ns = UINT64_MAX };

uint64_t timeline_real_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void timeline_wake_word(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

static _Atomic uint32_t *low_word(_Atomic uint64_t *value)
{
	return (_Atomic uint32_t *)value;
}

/* ---- what the engine tells ------------------------------------------------------------ */

static void hear_done(void *arg, uint64_t key, uint64_t channel, uint64_t ticket,
		      uint64_t at_ns)
{
	struct timeline_client *c = timeline_client_of(key);
	uint32_t slot = channel % WIRE_CHANNELS;
	struct wire_channel *out;
	uint64_t want;

	(void)arg;
	(void)at_ns;
	if (!c)
		return;
	out = &c->region->channels[slot];
	ticket += c->bases[slot];
	atomic_store(&out->done, ticket);
	want = atomic_load(&out->want);
	if (want && want <= ticket) {
		atomic_store(&out->want, 0);
		timeline_wake_word(low_word(&out->done));
	}
}

static void hear_stamped(void *arg, uint64_t key, uint32_t stamp, uint64_t generation,
			 uint64_t at_ns)
{
	struct timeline_client *c = timeline_client_of(key);
	struct wire_stamp *out;
	uint32_t seq;

	(void)arg;
	if (!c || stamp >= WIRE_STAMPS)
		return;
	out = &c->region->stamps[stamp];
	seq = atomic_load_explicit(&out->seq, memory_order_relaxed) | 1u;
	atomic_store_explicit(&out->seq, seq, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&out->generation, generation, memory_order_relaxed);
	atomic_store_explicit(&out->ns, at_ns, memory_order_relaxed);
	atomic_store(&out->seq, seq + 1);
	if (atomic_load(&out->waiters)) {
		atomic_store(&out->waiters, 0);
		timeline_wake_word(&out->seq);
	}
}

/* ---- what clients wrote --------------------------------------------------------------- */

static void break_client(struct timeline_client *c)
{
	c->is_broken = true;
	atomic_store(&c->region->is_broken, 1);
}

static int apply(struct timeline_client *c, const struct wire_work *w)
{
	struct rm_work work = { .kind = (enum rm_work_kind)w->op,
				.sms = w->sms,
				.ns = w->ns,
				.stamp = w->stamp,
				.generation = w->generation,
				.channel = w->other,
				.ticket = w->generation };

	if (w->op == WIRE_CHANNEL_OPEN) {
		if (w->device >= sim_kernel.settings.machine.device_count ||
		    w->channel == 0)
			return -EINVAL;
		c->bases[w->channel % WIRE_CHANNELS] = w->ns;
		return engine_channel_open(timeline.engine, c->key, w->channel, w->device,
					   (int)w->sms);
	}
	if (w->op == WIRE_CHANNEL_CLOSE) {
		engine_channel_close(timeline.engine, c->key, w->channel);
		return 0;
	}
	if (w->op > RM_WORK_WAIT_CHANNEL || w->ns > WIRE_WORK_MAX_NS ||
	    w->stamp >= WIRE_STAMPS)
		return -EINVAL;
	return engine_submit(timeline.engine, c->key, w->channel, &work);
}

/* The client's next entry, copied out, or false. */
static bool peek(struct timeline_client *c, struct wire_work *w)
{
	uint32_t tail = atomic_load_explicit(&c->region->tail, memory_order_acquire);

	if (c->is_broken || tail == c->head)
		return false;
	if (tail - c->head > WIRE_RING) {
		break_client(c);
		return false;
	}
	*w = c->region->ring[c->head % WIRE_RING];
	return true;
}

static void consume(struct timeline_client *c)
{
	atomic_store(&c->region->head, ++c->head);
	if (atomic_load_explicit(&c->region->wants_room, memory_order_relaxed) &&
	    atomic_load(&c->region->tail) - c->head < WIRE_RING / 2) {
		atomic_store(&c->region->wants_room, 0);
		timeline_wake_word(&c->region->head);
	}
}

void timeline_drain(uint64_t now_ns)
{
	for (;;) {
		struct timeline_client *next = NULL;
		struct wire_work w, next_work = { 0 };

		for (uint64_t i = 0; i < timeline.client_count; i++) {
			struct timeline_client *c = timeline.clients[i];

			if (!c || !peek(c, &w))
				continue;
			if (!next || w.at_ns < next_work.at_ns ||
			    (w.at_ns == next_work.at_ns && timeline_is_earlier(c, next))) {
				next = c;
				next_work = w;
			}
		}
		if (!next)
			return;
		timeline.drained_any = true;
		/* a thread may be ahead of the virtual clock by what it has spent */
		if (next_work.at_ns > now_ns) {
			if (timeline.is_virtual && next_work.at_ns < now_ns + AHEAD_NS)
				return;
			next_work.at_ns = now_ns;
		}
		if (next_work.at_ns > engine_now_ns(timeline.engine))
			engine_advance(timeline.engine, next_work.at_ns);
		if (apply(next, &next_work) != 0)
			break_client(next);
		consume(next);
	}
}

uint64_t timeline_written_ns(void)
{
	uint64_t first = UINT64_MAX;
	struct wire_work w;

	for (uint64_t i = 0; i < timeline.client_count; i++) {
		struct timeline_client *c = timeline.clients[i];

		if (c && peek(c, &w) && w.at_ns < first)
			first = w.at_ns;
	}
	return first;
}

/* Something that could be taken over now: what a thread wrote ahead of a virtual clock waits for it. */
static bool is_written(void)
{
	uint64_t until = timeline.is_virtual ? engine_now_ns(timeline.engine) : UINT64_MAX;
	uint64_t first = timeline_written_ns();

	return first != UINT64_MAX && first <= until;
}

void timeline_sleep(uint32_t level, uint64_t until_ns)
{
	const uint32_t awake = timeline.is_virtual ? RM_BELL_FOR_WAITERS : 0;
	struct timespec t, *timeout = NULL;

	atomic_store(&timeline.clock->is_asleep, level);
	atomic_thread_fence(memory_order_seq_cst);
	if (level >= RM_BELL_FOR_ALL && is_written()) {
		atomic_store(&timeline.clock->is_asleep, awake);
		return;
	}
	if (until_ns != UINT64_MAX) {
		t.tv_sec = (time_t)(until_ns / 1000000000u);
		t.tv_nsec = (long)(until_ns % 1000000000u);
		timeout = &t;
	}
	pthread_mutex_unlock(&timeline.lock);
	/* FUTEX_WAIT_BITSET takes the end by CLOCK_MONOTONIC, not a duration */
	syscall(SYS_futex, &timeline.bell->rings, FUTEX_WAIT_BITSET, timeline.rings,
		timeout, NULL, FUTEX_BITSET_MATCH_ANY);
	pthread_mutex_lock(&timeline.lock);
	atomic_store(&timeline.clock->is_asleep, awake);
}

/* Somebody waits for a completion, or looks for one again and again. */
static bool is_anybody_eager(void)
{
	bool is_eager = false;

	for (uint64_t i = 0; i < timeline.client_count; i++) {
		struct timeline_client *c = timeline.clients[i];

		if (!c)
			continue;
		is_eager |= atomic_load(&c->region->waiters) > 0;
		is_eager |= atomic_exchange(&c->region->is_looked_at, 0) != 0;
	}
	return is_eager;
}

static void real_round(void)
{
	uint64_t now = timeline_real_ns(), next, late;
	bool is_eager;

	timeline.drained_any = false;
	timeline_drain(now);
	if (now > engine_now_ns(timeline.engine))
		engine_advance(timeline.engine, now);
	/* who registers from here on rings, once is_asleep says so */
	atomic_store(&timeline.clock->is_asleep, RM_BELL_FOR_WAITERS);
	is_eager = is_anybody_eager();
	next = engine_next_ns(timeline.engine);
	late = now + NAP_NS;
	if (!is_eager && next < late)
		next = late;
	/* after work came more is likely, and need not ring */
	if (timeline.drained_any && next > late)
		next = late;
	timeline_sleep(next <= late ? RM_BELL_FOR_WAITERS : RM_BELL_FOR_ALL, next);
}

static void *run(void *arg)
{
	(void)arg;
	prctl(PR_SET_NAME, "engine");
	prctl(PR_SET_TIMERSLACK, 1ul);
	if (timeline.is_virtual)
		timeline_virtual_run();
	pthread_mutex_lock(&timeline.lock);
	for (;;) {
		timeline.rings = atomic_load(&timeline.bell->rings);
		if (timeline.is_virtual)
			timeline_virtual_round();
		else
			real_round();
	}
	return NULL;
}

/* ---- what the other thread asks (serve.c, clients.c) ---------------------------------- */

static int map_shared(const char *name, size_t bytes, int *fd, void **out)
{
	*fd = sim_memfd(name, bytes);
	if (*fd < 0)
		return *fd;
	*out = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	return *out == MAP_FAILED ? -errno : 0;
}

/* The same file, for those who shall only read it. */
static int reopen_to_read(int fd)
{
	char path[40];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	if (again < 0)
		return -errno;
	close(fd);
	return again;
}

static int start(void)
{
	const struct sim_settings *s = &sim_kernel.settings;
	struct engine_setup setup = { .device_count = s->machine.device_count,
				      .quantum_ns = s->quantum_ns,
				      .switch_ns = s->switch_ns,
				      .is_mps = s->machine.is_mps };
	struct engine_hears hears = { .done = hear_done, .stamped = hear_stamped };
	pthread_attr_t attr;
	pthread_t thread;
	void *clock, *bell;
	int r;

	for (uint32_t i = 0; i < setup.device_count; i++)
		setup.sm_count[i] = s->machine.devices[i].sm_count;
	timeline.engine = engine_new(&setup, &hears);
	if (!timeline.engine)
		return -ENOMEM;
	r = map_shared("sim-clock", sizeof(struct wire_clock), &timeline.clock_fd, &clock);
	if (r != 0)
		return r;
	timeline.clock = clock;
	timeline.clock_fd = reopen_to_read(timeline.clock_fd);
	r = map_shared("sim-bell", sizeof(struct wire_bell), &timeline.bell_fd, &bell);
	if (r != 0)
		return r;
	timeline.bell = bell;
	timeline.is_virtual = s->machine.is_virtual;
	if (timeline.is_virtual) {
		timeline_virtual_start();
		timeline_virtual_run(); /* this thread answers those who run there */
	} else {
		engine_advance(timeline.engine, timeline_real_ns());
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	r = -pthread_create(&thread, &attr, run, NULL);
	pthread_attr_destroy(&attr);
	timeline.runs = r == 0;
	return r;
}

static int add_client(struct sim_client *client)
{
	struct timeline_client *c;
	void *region;
	int r;

	if (timeline.client_count == timeline.client_room) {
		uint64_t room = timeline.client_room * 2 + 64;
		void *grown = realloc(timeline.clients, room * sizeof(*timeline.clients));

		if (!grown)
			return -ENOMEM;
		timeline.clients = grown;
		timeline.client_room = room;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->bases = calloc(WIRE_CHANNELS, sizeof(*c->bases));
	c->threads = calloc(WIRE_THREADS, sizeof(*c->threads));
	r = c->bases && c->threads ? map_shared("sim-time", sizeof(struct wire_time),
						&c->region_fd, &region)
				   : -ENOMEM;
	if (r != 0) {
		free(c->bases);
		free(c->threads);
		free(c);
		return r;
	}
	c->region = region;
	c->host_pid = client->host_pid;
	c->own_pid = client->own_pid;
	c->key = timeline.client_count + 1;
	c->order = timeline_order_of(c->host_pid);
	r = engine_client_add(timeline.engine, c->key);
	timeline.clients[timeline.client_count++] = c;
	client->time = c;
	return r;
}

int sim_time_part(struct sim_client *client, uint32_t part, int *fd, uint64_t *serial)
{
	int r = 0;

	pthread_mutex_lock(&timeline.lock);
	if (!timeline.runs)
		r = start();
	if (r == 0 && part == WIRE_TIME_REGION && !client->time)
		r = add_client(client);
	pthread_mutex_unlock(&timeline.lock);
	if (r != 0)
		return r;
	*serial = client->time ? client->time->key : 0;
	switch ((enum wire_time_part)part) {
	case WIRE_TIME_CLOCK:
		*fd = timeline.clock_fd;
		return 0;
	case WIRE_TIME_BELL:
		*fd = timeline.bell_fd;
		return 0;
	case WIRE_TIME_REGION:
		*fd = client->time->region_fd;
		return 0;
	}
	return -EINVAL;
}

static void ring(void)
{
	atomic_fetch_add(&timeline.bell->rings, 1);
	timeline_wake_word(&timeline.bell->rings);
}

/* On a real clock: everything that has happened until now. */
void timeline_catch_up(void)
{
	uint64_t now = timeline.is_virtual ? engine_now_ns(timeline.engine)
					   : timeline_real_ns();

	timeline_drain(now);
	if (now > engine_now_ns(timeline.engine))
		engine_advance(timeline.engine, now);
}

void sim_time_drop_client(struct sim_client *client, bool is_alive)
{
	struct timeline_client *c = client->time;

	if (!c)
		return;
	pthread_mutex_lock(&timeline.lock);
	timeline_catch_up();
	engine_client_gone(timeline.engine, c->key);
	timeline.clients[c->key - 1] = NULL;
	timeline_virtual_drop(c, is_alive);
	timeline_record_drop(c);
	pthread_mutex_unlock(&timeline.lock);
	munmap(c->region, sizeof(*c->region));
	close(c->region_fd);
	free(c->bases);
	free(c->threads);
	free(c);
	client->time = NULL;
	ring();
}
