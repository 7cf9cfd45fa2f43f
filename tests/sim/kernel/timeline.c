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
#include "timeline_memory.h"

/* Completions for which nobody waits may be told so late: it spares a wake-up for each. */
#define NAP_NS      200000u
#define STACK_BYTES (256u << 10)

uint64_t timeline_real_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void timeline_sleep(uint32_t level, uint64_t until_ns)
{
	const uint32_t awake = timeline->is_virtual ? RM_BELL_FOR_WAITERS : 0;
	struct timespec t, *timeout = NULL;

	atomic_store(&timeline->clock->is_asleep, level);
	atomic_thread_fence(memory_order_seq_cst);
	/* what a thread wrote ahead of a virtual clock waits for it */
	if (level >= RM_BELL_FOR_ALL &&
	    timeline_is_written(timeline->is_virtual ? engine_now_ns(timeline->engine)
						     : UINT64_MAX - 1)) {
		atomic_store(&timeline->clock->is_asleep, awake);
		return;
	}
	if (until_ns != UINT64_MAX) {
		t.tv_sec = (time_t)(until_ns / 1000000000u);
		t.tv_nsec = (long)(until_ns % 1000000000u);
		timeout = &t;
	}
	timeline_unlock();
	/* FUTEX_WAIT_BITSET takes the end by CLOCK_MONOTONIC, not a duration */
	syscall(SYS_futex, &timeline->bell->rings, FUTEX_WAIT_BITSET, timeline->rings,
		timeout, NULL, FUTEX_BITSET_MATCH_ANY);
	timeline_lock();
	atomic_store(&timeline->clock->is_asleep, awake);
}

/* Somebody waits for a completion, or looks for one again and again. */
static bool is_anybody_eager(void)
{
	bool is_eager = false;

	for (uint64_t i = 0; i < timeline->client_count; i++) {
		struct timeline_client *c = timeline->clients[i];

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

	timeline->drained_any = false;
	timeline_drain(now);
	if (now > engine_now_ns(timeline->engine))
		engine_advance(timeline->engine, now);
	/* who registers from here on rings, once is_asleep says so */
	atomic_store(&timeline->clock->is_asleep, RM_BELL_FOR_WAITERS);
	is_eager = is_anybody_eager();
	next = engine_next_ns(timeline->engine);
	late = now + NAP_NS;
	if (!is_eager && next < late)
		next = late;
	/* after work came more is likely, and need not ring */
	if (timeline->drained_any && next > late)
		next = late;
	timeline_sleep(next <= late ? RM_BELL_FOR_WAITERS : RM_BELL_FOR_ALL, next);
}

static void *run(void *arg)
{
	(void)arg;
	prctl(PR_SET_NAME, "engine");
	prctl(PR_SET_TIMERSLACK, 1ul);
	if (timeline->is_virtual)
		timeline_virtual_run();
	timeline_lock();
	for (;;) {
		timeline->rings = atomic_load(&timeline->bell->rings);
		if (timeline->is_virtual)
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

/* A process died in the middle of the machine's books: there is nothing to go on with. */
static void end_torn(void)
{
	int fd = openat(sim_kernel.dir_fd, WIRE_CLOCK_ERROR,
			O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (fd >= 0)
		dprintf(fd, "a process was killed while it moved the clock\n");
	sim_kernel_end();
}

/* All of time in one file (timeline_memory.h). */
static int share_memory(void)
{
	pthread_mutexattr_t attr;
	struct timeline_books *books;
	char *base;
	int fd = sim_memfd("sim-time", TIMELINE_BYTES), r;

	if (fd < 0)
		return fd;
	base = mmap(TIMELINE_BASE, TIMELINE_BYTES, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	if (base == MAP_FAILED)
		base = mmap(NULL, TIMELINE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			    0);
	if (base == MAP_FAILED) {
		r = -errno;
		close(fd);
		return r;
	}
	madvise(base, TIMELINE_BYTES, MADV_DONTDUMP);
	books = (struct timeline_books *)(void *)(base + TIMELINE_BOOKS);
	engine_memory_init(&books->heap, base + TIMELINE_HEAP, base + TIMELINE_REGIONS);
	engine_memory_use(&books->heap);
	books->timeline.record_ns = UINT64_MAX;
	books->timeline.memory_fd = fd;
	books->timeline.is_in_place = base == TIMELINE_BASE;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&books->timeline.lock, &attr);
	/* nobody else is here yet: the old one is not looked at again */
	timeline = &books->timeline;
	timeline_torn = end_torn;
	timeline_lock();
	timeline->clock = (struct wire_clock *)(void *)base;
	timeline->bell = (struct wire_bell *)(void *)(base + TIMELINE_BELL);
	timeline->bell_fd = fd;
	timeline->clock_fd = reopen_to_read(dup(fd));
	return timeline->clock_fd < 0 ? timeline->clock_fd : 0;
}

static int make_clock(void)
{
	void *clock, *bell;
	int r = map_shared("sim-clock", sizeof(struct wire_clock), &timeline->clock_fd,
			   &clock);

	if (r != 0)
		return r;
	timeline->clock = clock;
	timeline->clock_fd = reopen_to_read(timeline->clock_fd);
	r = map_shared("sim-bell", sizeof(struct wire_bell), &timeline->bell_fd, &bell);
	timeline->bell = bell;
	timeline->memory_fd = -1;
	return r;
}

static int make_engine(void)
{
	const struct sim_settings *s = &sim_kernel.settings;
	struct engine_setup setup = { .device_count = s->machine.device_count,
				      .quantum_ns = s->quantum_ns,
				      .switch_ns = s->switch_ns,
				      .is_mps = s->machine.is_mps };

	for (uint32_t i = 0; i < setup.device_count; i++)
		setup.sm_count[i] = s->machine.devices[i].sm_count;
	timeline->device_count = setup.device_count;
	timeline->engine = engine_new(&setup, &timeline_hears);
	return timeline->engine ? 0 : -ENOMEM;
}

static int start(void)
{
	bool is_virtual = sim_kernel.settings.machine.is_virtual;
	pthread_attr_t attr;
	pthread_t thread;
	int r = is_virtual ? share_memory() : make_clock();

	/* a limit on addresses, perhaps: then this process takes every step */
	if (r != 0 && is_virtual && !timeline->clock)
		r = make_clock();
	if (r == 0)
		r = make_engine();
	if (r != 0)
		return r;
	timeline->is_virtual = is_virtual;
	if (is_virtual) {
		timeline_virtual_start();
		timeline_virtual_run(); /* this thread answers those who run there */
	} else {
		engine_advance(timeline->engine, timeline_real_ns());
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	r = -pthread_create(&thread, &attr, run, NULL);
	pthread_attr_destroy(&attr);
	timeline->runs = r == 0;
	return r;
}

/* Where client KEY's region lies in the machine's memory. */
static uint64_t region_offset(uint64_t key)
{
	return TIMELINE_REGIONS + (key - 1) * TIMELINE_REGION_BYTES;
}

static int make_region(struct timeline_client *c)
{
	void *region;
	int r;

	if (timeline->is_virtual && c->key > WIRE_CLOCK_CLIENTS)
		return -ENOMEM;
	if (timeline->memory_fd < 0) {
		r = map_shared("sim-time", sizeof(struct wire_time), &c->region_fd,
			       &region);
		c->region = region;
		return r;
	}
	c->region_fd = timeline->memory_fd;
	c->region = (struct wire_time *)(void *)((char *)timeline->clock +
						 region_offset(c->key));
	return 0;
}

/* A process that goes on may still look there. */
static void drop_region(struct timeline_client *c, bool is_alive)
{
	if (timeline->memory_fd >= 0) {
		if (!is_alive)
			madvise(c->region, TIMELINE_REGION_BYTES, MADV_REMOVE);
		return;
	}
	munmap(c->region, sizeof(*c->region));
	close(c->region_fd);
}

static void free_client(struct timeline_client *c)
{
	engine_release(c->bases);
	engine_release(c->threads);
	engine_release(c);
}

static int make_room(void)
{
	struct timeline_client ***lists[] = { &timeline->clients, &timeline->live,
					      &timeline->pending };
	uint64_t room = timeline->client_room * 2 + 64;

	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
		void *grown = engine_regrow(*lists[i], room, sizeof(**lists[i]));

		if (!grown)
			return -ENOMEM;
		*lists[i] = grown;
	}
	timeline->client_room = room;
	return 0;
}

static void leave_live(const struct timeline_client *c)
{
	uint64_t kept = 0;

	for (uint64_t i = 0; i < timeline->live_count; i++)
		if (timeline->live[i] != c)
			timeline->live[kept++] = timeline->live[i];
	timeline->live_count = kept;
}

static int add_client(struct sim_client *client)
{
	struct timeline_client *c;
	int r;

	if (timeline->client_count == timeline->client_room && make_room() != 0)
		return -ENOMEM;
	c = engine_alloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->key = timeline->client_count + 1;
	c->bases = engine_alloc(WIRE_CHANNELS, sizeof(*c->bases));
	r = c->bases ? make_region(c) : -ENOMEM;
	if (r != 0) {
		free_client(c);
		return r;
	}
	c->host_pid = client->host_pid;
	c->own_pid = client->own_pid;
	c->order = timeline_order_of(c->host_pid);
	r = engine_client_add(timeline->engine, c->key);
	timeline->clients[timeline->client_count++] = c;
	timeline->live[timeline->live_count++] = c;
	client->time = c;
	return r;
}

int sim_time_part(struct sim_client *client, uint32_t part, int *fd,
		  struct wire_place *place)
{
	int r = 0;

	timeline_lock();
	if (!timeline->runs)
		r = start();
	if (r == 0 && part == WIRE_TIME_REGION && !client->time)
		r = add_client(client);
	timeline_unlock();
	if (r != 0)
		return r;
	*place = (struct wire_place){ client->time ? client->time->key : 0, 0 };
	switch ((enum wire_time_part)part) {
	case WIRE_TIME_CLOCK:
		*fd = timeline->clock_fd;
		return 0;
	case WIRE_TIME_BELL:
		*fd = timeline->bell_fd;
		place->offset = timeline->memory_fd >= 0 ? TIMELINE_BELL : 0;
		return 0;
	case WIRE_TIME_REGION:
		*fd = client->time->region_fd;
		place->offset = timeline->memory_fd >= 0 ? region_offset(place->key) : 0;
		return 0;
	case WIRE_TIME_MEMORY:
		*fd = timeline->memory_fd;
		return timeline->memory_fd >= 0 && timeline->is_in_place ? 0 : -ENOTSUP;
	}
	return -EINVAL;
}

static void ring(void)
{
	atomic_fetch_add(&timeline->bell->rings, 1);
	timeline_wake_word(&timeline->bell->rings);
}

/* On a real clock: everything that has happened until now. */
void timeline_catch_up(void)
{
	uint64_t now = timeline->is_virtual ? engine_now_ns(timeline->engine)
					    : timeline_real_ns();

	timeline_drain(now);
	if (now > engine_now_ns(timeline->engine))
		engine_advance(timeline->engine, now);
}

void sim_time_drop_client(struct sim_client *client, bool is_alive)
{
	struct timeline_client *c = client->time;

	if (!c)
		return;
	timeline_lock();
	timeline_catch_up();
	engine_client_gone(timeline->engine, c->key);
	timeline->clients[c->key - 1] = NULL;
	leave_live(c);
	if (timeline->is_virtual)
		wire_bit_clear(timeline->bell->takes_part, c->key);
	timeline_virtual_drop(c, is_alive);
	timeline_record_drop(c);
	drop_region(c, is_alive);
	free_client(c);
	timeline_unlock();
	client->time = NULL;
	ring();
}
