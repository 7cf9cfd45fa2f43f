/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/timeclient.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "rm/client.h"

/* The machine may die at any time, and a process that was killed wakes nobody. */
#define SLEEP_NS   100000000
#define LOCK_SPINS 100

struct rm_timeline rm_timeline;

static void *map_part(uint32_t part, size_t bytes, int protection, uint64_t *key)
{
	struct wire_request req = { .op = WIRE_TIME, .device = part };
	struct wire_reply reply;
	void *p;
	int fd, r;

	r = rm_call(&req, sizeof(req), -1, &reply, &fd);
	if (r == 0 && fd < 0)
		r = -EMFILE;
	if (r != 0) {
		errno = -r;
		return MAP_FAILED;
	}
	if (key)
		*key = reply.place.key;
	p = mmap(NULL, bytes, protection, MAP_SHARED, fd, (off_t)reply.place.offset);
	close(fd);
	return p;
}

/* By the system call: sanitizers would have their say about such a range, and none of their code touches
 * it. */
int rm_time_memory(void *at, size_t bytes)
{
	struct wire_request req = { .op = WIRE_TIME, .device = WIRE_TIME_MEMORY };
	struct wire_reply reply;
	void *p;
	int fd, r;

	r = rm_call(&req, sizeof(req), -1, &reply, &fd);
	if (r != 0 || fd < 0)
		return r ? r : -EMFILE;
	p = (void *)syscall(SYS_mmap, at, bytes, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0L);
	r = p == MAP_FAILED ? -errno : 0;
	close(fd);
	if (r == 0 && p != at) { /* a kernel before 4.17 takes it for a hint */
		rm_time_memory_leave(p, bytes);
		return -EEXIST;
	}
	/* it is large, and mostly nothing */
	if (r == 0)
		syscall(SYS_madvise, p, bytes, MADV_DONTDUMP);
	return r;
}

void rm_time_memory_leave(void *at, size_t bytes)
{
	syscall(SYS_munmap, at, bytes);
}

static void *map_zeroes(size_t bytes)
{
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/* Of the parent, in a forked child: nobody there uses them. */
static void unmap_old(void)
{
	struct rm_timeline *t = &rm_timeline;

	if (t->clock)
		munmap((void *)(uintptr_t)t->clock, sizeof(*t->clock));
	if (t->bell)
		munmap(t->bell, sizeof(*t->bell));
	if (t->region)
		munmap(t->region, sizeof(*t->region));
	if (t->slots)
		munmap(t->slots, WIRE_CHANNELS * sizeof(*t->slots));
	if (t->stamps)
		munmap(t->stamps, WIRE_STAMPS * sizeof(*t->stamps));
	memset(t, 0, sizeof(*t));
}

static int map_all(void)
{
	struct rm_timeline *t = &rm_timeline;
	struct {
		void *clock, *bell, *region, *slots, *stamps;
	} m;
	uint64_t key = 0;

	m.clock = map_part(WIRE_TIME_CLOCK, sizeof(*t->clock), PROT_READ, NULL);
	if (m.clock == MAP_FAILED)
		return -errno;
	t->clock = m.clock;
	m.bell = map_part(WIRE_TIME_BELL, sizeof(*t->bell), PROT_READ | PROT_WRITE, NULL);
	if (m.bell == MAP_FAILED)
		return -errno;
	t->bell = m.bell;
	m.region = map_part(WIRE_TIME_REGION, sizeof(*t->region), PROT_READ | PROT_WRITE,
			    &key);
	if (m.region == MAP_FAILED)
		return -errno;
	t->region = m.region;
	t->key = key;
	m.slots = map_zeroes(WIRE_CHANNELS * sizeof(*t->slots));
	if (m.slots == MAP_FAILED)
		return -errno;
	t->slots = m.slots;
	m.stamps = map_zeroes(WIRE_STAMPS * sizeof(*t->stamps));
	if (m.stamps == MAP_FAILED)
		return -errno;
	t->stamps = m.stamps;
	return 0;
}

/* A lock of this file alone: rm_call() takes the connection's. Like that one, its word is the
 * holder's pid, so that a child does not wait for a thread of its parent. */
static void lock_word(_Atomic pid_t *word)
{
	pid_t mine = rm_own_pid(), seen = 0;

	for (unsigned spins = 0; !atomic_compare_exchange_weak_explicit(
		     word, &seen, mine, memory_order_acquire, memory_order_relaxed);
	     spins++) {
		if (seen == mine)
			seen = 0;
		if (spins > LOCK_SPINS)
			syscall(SYS_sched_yield);
	}
}

static _Atomic pid_t ring_lock, open_lock;

void rm_timeline_lock(void)
{
	lock_word(&ring_lock);
}

void rm_timeline_unlock(void)
{
	atomic_store_explicit(&ring_lock, 0, memory_order_release);
}

int rm_timeline_check(void)
{
	pid_t pid = atomic_load_explicit(&rm_timeline.pid, memory_order_acquire);

	if (pid == rm_own_pid())
		return 0;
	return pid == 0 ? -ENODEV : -ECHILD;
}

int rm_time_open(void)
{
	const struct rm_machine *machine = rm_machine();
	int r;

	if (!machine)
		return rm_check_mine();
	if (rm_timeline_check() == 0)
		return 0;
	if (machine->is_virtual &&
	    (!sim_clock_is_active || !sim_clock_is_active(machine->dir))) {
		rm_set_reason("the machine's clock is virtual and libsimtime.so is not "
			      "preloaded into this process");
		return -ENOTSUP;
	}
	lock_word(&open_lock);
	r = rm_timeline_check();
	if (r != 0) {
		unmap_old();
		r = map_all();
		rm_timeline.is_virtual = machine->is_virtual;
		rm_channels_reset();
		rm_stamps_reset();
		if (r == 0)
			atomic_store_explicit(&rm_timeline.pid, rm_own_pid(),
					      memory_order_release);
		else
			unmap_old();
	}
	atomic_store_explicit(&open_lock, 0, memory_order_release);
	return r;
}

bool rm_time_is_virtual(void)
{
	const struct rm_machine *machine = rm_machine();

	return machine && machine->is_virtual;
}

uint64_t rm_now_ns(void)
{
	struct timespec t;

	if (rm_timeline.is_virtual)
		return sim_clock_now();
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void rm_spend_ns(uint64_t ns)
{
	if (rm_timeline.is_virtual)
		sim_clock_spend(ns);
}

void rm_timeline_ring(uint32_t level)
{
	struct wire_bell *bell = rm_timeline.bell;

	if (atomic_load_explicit(&rm_timeline.clock->is_asleep, memory_order_relaxed) <
	    level)
		return;
	atomic_fetch_add(&bell->rings, 1);
	syscall(SYS_futex, &bell->rings, FUTEX_WAKE, 1, NULL, NULL, 0);
}

int rm_timeline_sleep(_Atomic uint32_t *word, uint32_t seen)
{
	struct timespec t = { 0, SLEEP_NS };

	if (atomic_load(&rm_timeline.region->is_broken))
		return -EIO;
	if (syscall(SYS_futex, word, FUTEX_WAIT, seen, &t, NULL, 0) != 0 &&
	    errno == ETIMEDOUT && rm_is_lost())
		return -EIO;
	return 0;
}

int rm_timeline_push(const struct wire_work *w)
{
	struct wire_time *region = rm_timeline.region;
	uint32_t tail = atomic_load_explicit(&region->tail, memory_order_relaxed);
	uint32_t head = atomic_load_explicit(&region->head, memory_order_acquire);

	if (tail - head >= WIRE_RING)
		return -EAGAIN;
	region->ring[tail % WIRE_RING] = *w;
	atomic_store_explicit(&region->tail, tail + 1, memory_order_release);
	if (rm_timeline.is_virtual) {
		/* who takes the bit away looks at the tail after */
		atomic_thread_fence(memory_order_seq_cst);
		wire_bit_set(rm_timeline.bell->written, rm_timeline.key);
	}
	return 0;
}

int rm_timeline_await_room(void)
{
	struct wire_time *region = rm_timeline.region;
	uint32_t tail = atomic_load(&region->tail), head;

	atomic_store(&region->wants_room, 1);
	atomic_thread_fence(memory_order_seq_cst);
	head = atomic_load(&region->head);
	if (tail - head < WIRE_RING)
		return 0;
	/* on a virtual clock the engine reads when this thread gives way: make it read now */
	rm_timeline_ring(RM_BELL_FOR_WAITERS);
	return rm_timeline_sleep(&region->head, head);
}

void rm_timeline_looked(void)
{
	struct wire_time *region = rm_timeline.region;

	if (rm_timeline.is_virtual ||
	    atomic_load_explicit(&region->is_looked_at, memory_order_relaxed))
		return;
	atomic_store(&region->is_looked_at, 1);
	rm_timeline_ring(RM_BELL_FOR_WAITERS);
}

int rm_clock_step(uint64_t jump_ns, int64_t wall_ns)
{
	struct wire_request req = { .op = WIRE_STEP,
				    .id = jump_ns,
				    .bytes = (uint64_t)wall_ns };
	struct wire_reply reply;

	return rm_call(&req, sizeof(req), -1, &reply, NULL);
}

int rm_busy(uint32_t device, int pid, struct rm_busy *out)
{
	struct wire_request req = { .op = WIRE_BUSY,
				    .device = device,
				    .id = (uint64_t)(uint32_t)pid };
	struct wire_reply reply;
	int r = rm_call(&req, sizeof(req), -1, &reply, NULL);

	if (r == 0)
		*out = reply.busy;
	return r;
}

int rm_busy_all(struct rm_busy_row *rows, size_t *n, uint64_t *now_ns)
{
	struct wire_request req = { .op = WIRE_BUSY_ALL };
	struct wire_reply reply;
	size_t room = *n;
	int r;

	*n = 0;
	do {
		r = rm_call(&req, sizeof(req), -1, &reply, NULL);
		for (uint32_t i = 0; r == 0 && i < reply.n && *n < room; i++)
			rows[(*n)++] = reply.busy_rows.rows[i];
		if (r == 0)
			*now_ns = reply.busy_rows.now_ns;
		req.id = reply.busy_rows.next;
	} while (r == 0 && reply.more && *n < room);
	return r;
}

int rm_record(uint64_t first_ns, uint64_t every_ns, uint32_t count)
{
	struct wire_request req = {
		.op = WIRE_RECORD, .id = first_ns, .bytes = every_ns, .kind = count
	};
	struct wire_reply reply;

	return rm_call(&req, sizeof(req), -1, &reply, NULL);
}

int rm_recorded(struct rm_record *rows, size_t *n)
{
	struct wire_request req = { .op = WIRE_RECORDED };
	struct wire_reply reply;
	size_t room = *n;
	int r;

	*n = 0;
	do {
		req.n = (uint32_t)(room - *n < WIRE_RECORD_ROWS ? room - *n
								: WIRE_RECORD_ROWS);
		r = rm_call(&req, sizeof(req), -1, &reply, NULL);
		for (uint32_t i = 0; r == 0 && i < reply.n && *n < room; i++)
			rows[(*n)++] = reply.records[i];
	} while (r == 0 && reply.more && *n < room);
	return r;
}

int rm_samples(uint32_t device, bool processes, uint64_t after_ns, struct rm_sample *rows,
	       size_t *n)
{
	struct wire_request req = {
		.op = WIRE_SAMPLES, .device = device, .id = after_ns, .kind = processes
	};
	struct wire_reply reply;
	size_t room = *n;
	int r;

	*n = 0;
	do {
		r = rm_call(&req, sizeof(req), -1, &reply, NULL);
		for (uint32_t i = 0; r == 0 && i < reply.n && *n < room; i++)
			rows[(*n)++] = reply.samples[i];
		req.bytes += reply.n;
	} while (r == 0 && reply.more && *n < room);
	return r;
}
