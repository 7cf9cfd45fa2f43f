/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rt/file.h"
#include "slice/ledger.h"

/* Seats and the ledger on a real state file, with real processes. */

static char dir[64], path[96];

static int make_state(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/dev/shm/tr-ledger-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/state", dir);
	return tr_state_create(path, 7, 0600, NULL);
}

/* The same with rows 0 and 1 in use, as a process claims them before it reserves. */
static int make_rows(void **state)
{
	struct tr_seat seat;

	if (make_state(state) < 0 || tr_seat_watch(&seat, path, 7, NULL) < 0)
		return -1;
	tr_state_claim_row(seat.state, (tr_dev){ 0 }, 100);
	tr_state_claim_row(seat.state, (tr_dev){ 1 }, 101);
	tr_seat_leave(&seat);
	return 0;
}

static int drop_state(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(dir);
}

static const tr_dev dev0 = { 0 };

static struct tr_ledger ledger_of(const struct tr_seat *seat)
{
	return (struct tr_ledger){ seat->state, NULL, seat->slot };
}

static void test_reserve_to_the_limit(void **state)
{
	struct tr_seat seat;
	struct tr_ledger ledger;

	(void)state;
	assert_int_equal(tr_seat_take(&seat, path, 7, NULL), 0);
	ledger = ledger_of(&seat);
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_USED, 600, 1000), 0);
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_FLOOR, 400, 1000), 0);
	assert_int_equal(tr_ledger_sum(&ledger, dev0), 1000);
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_USED, 1, 1000), -ENOMEM);
	assert_int_equal(tr_ledger_sum(&ledger, dev0), 1000); /* withdrawn */
	assert_int_equal(tr_ledger_reserve_slowly(&ledger, path, dev0, TR_USED, 1, 1000),
			 -ENOMEM);
	assert_int_equal(tr_ledger_sum(&ledger, dev0), 1000);
	tr_ledger_refund(&ledger, dev0, TR_USED, 600);
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_USED, 600, 1000), 0);
	assert_int_equal(seat.state->devices[0].peak_bytes, 1000);
	/* another device is another row */
	assert_int_equal(tr_ledger_reserve(&ledger, (tr_dev){ 1 }, TR_USED, 900, 1000), 0);
	tr_seat_leave(&seat);
}

static void test_edges(void **state)
{
	struct tr_seat seat;
	struct tr_ledger ledger;

	(void)state;
	assert_int_equal(tr_seat_take(&seat, path, 7, NULL), 0);
	ledger = ledger_of(&seat);
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_USED, 1, 0), -ENOMEM);
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_USED, 0, 0), 0);
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_USED, UINT64_MAX, 1000),
			 -ENOMEM);
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_USED, 10, TR_UNLIMITED), 0);
	tr_ledger_refund(&ledger, dev0, TR_USED, 11); /* more than there is: ends at 0 */
	assert_int_equal(tr_ledger_sum(&ledger, dev0), 0);
	/* scribbled words saturate, they do not wrap */
	atomic_store(&seat.state->mem[0][3].used_bytes, UINT64_MAX);
	atomic_store(&seat.state->mem[0][4].used_bytes, 5);
	atomic_store(&seat.state->high_water, 0xffffffff);
	assert_int_equal(tr_ledger_sum(&ledger, dev0), UINT64_MAX);
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_USED, 1, 1000), -ENOMEM);
	tr_seat_leave(&seat);
}

static void test_overhead_replaces_floor(void **state)
{
	struct tr_policy *policy = calloc(1, sizeof(*policy));
	struct tr_seat seat;
	struct tr_ledger ledger;
	unsigned s;

	(void)state;
	assert_non_null(policy);
	assert_int_equal(tr_seat_take(&seat, path, 7, NULL), 0);
	ledger = ledger_of(&seat);
	ledger.policy = policy;
	s = seat.slot.at;
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_FLOOR, 100, 1000), 0);
	atomic_store(&policy->overhead_bytes[0][s], 300);
	assert_int_equal(tr_ledger_sum(&ledger, dev0), 100); /* of another occupant */
	atomic_store(&policy->overhead_tag[s], seat.state->slots[s].tag);
	assert_int_equal(tr_ledger_sum(&ledger, dev0),
			 400); /* measured before the context */
	atomic_store(&policy->overhead_floor_bytes[0][s], 100);
	assert_int_equal(tr_ledger_sum(&ledger, dev0), 300);
	/* a context since the measurement counts at once */
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_FLOOR, 50, 1000), 0);
	assert_int_equal(tr_ledger_sum(&ledger, dev0), 350);
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_FLOOR, 651, 1000), -ENOMEM);
	tr_ledger_refund(&ledger, dev0, TR_FLOOR, 50);
	atomic_store(&policy->overhead_bytes[0][s], 0); /* not measured on this device */
	assert_int_equal(tr_ledger_sum(&ledger, dev0), 100);
	tr_seat_leave(&seat);
	free(policy);
}

static void test_refusals_are_told(void **state)
{
	struct tr_seat seat;
	struct tr_ledger ledger;

	(void)state;
	assert_int_equal(tr_seat_take(&seat, path, 7, NULL), 0);
	ledger = ledger_of(&seat);
	for (unsigned i = 0; i < TR_REFUSALS + 3; i++)
		tr_ledger_refused(&ledger, dev0, 1000 + i);
	assert_int_equal(seat.state->devices[0].refused, TR_REFUSALS + 3);
	assert_int_equal(seat.state->refusals[2].asked_bytes, 1000 + TR_REFUSALS + 2);
	tr_seat_leave(&seat);
}

/* A child that takes a seat, reserves BYTES, tells so and waits to be killed. */
static pid_t start_tenant(uint64_t bytes)
{
	int ready[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		struct tr_seat seat;
		struct tr_ledger ledger;

		if (tr_seat_take(&seat, path, 7, NULL) < 0)
			_exit(1);
		ledger = ledger_of(&seat);
		if (tr_ledger_reserve(&ledger, dev0, TR_USED, bytes, 1000) < 0)
			_exit(2);
		if (write(ready[1], "x", 1) != 1)
			_exit(3);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(close(ready[0]) | close(ready[1]), 0);
	return pid;
}

static void end_tenant(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_the_dead_are_reaped(void **state)
{
	pid_t dead = start_tenant(700), alive = start_tenant(200);
	struct tr_seat seat;
	struct tr_ledger ledger;

	(void)state;
	assert_int_equal(tr_seat_take(&seat, path, 7, NULL), 0);
	ledger = ledger_of(&seat);
	end_tenant(dead);
	assert_int_equal(tr_ledger_reserve(&ledger, dev0, TR_USED, 800, 1000), -ENOMEM);
	assert_int_equal(tr_ledger_reserve_slowly(&ledger, path, dev0, TR_USED, 800, 1000),
			 0);
	assert_int_equal(tr_ledger_sum(&ledger, dev0),
			 1000); /* the living one's 200 stayed */
	end_tenant(alive);
	tr_seat_leave(&seat);
}

static void test_a_dead_slot_is_taken_over(void **state)
{
	pid_t dead = start_tenant(700);
	struct tr_seat seat;
	struct tr_ledger ledger;

	(void)state;
	end_tenant(dead);
	assert_int_equal(tr_seat_take(&seat, path, 7, NULL), 0);
	assert_int_equal(seat.slot.at, 0);
	ledger = ledger_of(&seat);
	assert_int_equal(tr_ledger_sum(&ledger, dev0), 0);
	assert_int_equal(seat.state->high_water, 1);
	tr_seat_leave(&seat);
}

static void test_fork_does_not_keep_the_slot(void **state)
{
	int ready[2];
	char c;
	pid_t parent, child = 0;
	struct tr_seat seat;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	parent = fork();
	if (parent == 0) {
		if (tr_seat_take(&seat, path, 7, NULL) < 0)
			_exit(1);
		child = fork();
		if (child == 0) {
			pause();
			_exit(0);
		}
		if (write(ready[1], &child, sizeof(child)) != sizeof(child))
			_exit(2);
		pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &child, sizeof(child)), sizeof(child));
	end_tenant(parent); /* its child lives on */
	assert_int_equal(tr_seat_take(&seat, path, 7, NULL), 0);
	assert_int_equal(seat.slot.at, 0);
	tr_seat_leave(&seat);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(close(ready[0]) | close(ready[1]), 0);
	(void)c;
}

static void test_lock_outlives_every_descriptor(void **state)
{
	struct tr_seat seat;
	int fd;

	(void)state;
	assert_int_equal(tr_seat_take(&seat, path, 7, NULL), 0);
	/* classic POSIX locks would go here: any close of the same file by this process */
	fd = open(path, O_RDWR);
	assert_int_equal(close(fd), 0);
	fd = open(path, O_RDWR);
	assert_int_equal(tr_byte_is_locked(fd, seat.slot.at), 1);
	assert_int_equal(tr_byte_lock(fd, seat.slot.at), -EAGAIN);
	tr_seat_leave(&seat);
	assert_int_equal(tr_byte_is_locked(fd, 0), 0);
	assert_int_equal(close(fd), 0);
}

/* Eight processes take 1 KiB pieces until refused: the sum is the limit, to the byte. */
static void test_race_for_the_last_byte(void **state)
{
	enum { RACERS = 8, LIMIT = 1 << 20 };
	struct tr_seat seat;
	struct tr_ledger ledger;
	_Atomic int *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(done != MAP_FAILED);
	assert_int_equal(tr_seat_take(&seat, path, 7, NULL), 0);
	ledger = ledger_of(&seat);
	for (unsigned i = 0; i < RACERS; i++)
		if (fork() == 0) {
			struct tr_seat mine;
			struct tr_ledger own;

			if (tr_seat_take(&mine, path, 7, NULL) < 0)
				_exit(1);
			own = ledger_of(&mine);
			while (tr_ledger_reserve(&own, dev0, TR_USED, 1024, LIMIT) == 0 ||
			       tr_ledger_reserve_slowly(&own, path, dev0, TR_USED, 1024,
							LIMIT) == 0)
				;
			atomic_fetch_add(done, 1);
			while (atomic_load(done) < RACERS + 1)
				tr_sleep_ns(1000000);
			_exit(0);
		}
	while (atomic_load(done) < RACERS)
		tr_sleep_ns(1000000);
	assert_int_equal(tr_ledger_sum(&ledger, dev0), LIMIT);
	atomic_fetch_add(done, 1);
	for (unsigned i = 0; i < RACERS; i++) {
		int status;

		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	tr_seat_leave(&seat);
	assert_int_equal(munmap(done, 4096), 0);
}

static const struct bad_state {
	const char *name;
	off_t at;
	uint32_t word;
	off_t size;
	uint64_t serial;
	int want;
	const char *says;
} bad_states[] = {
	{ "take: bad magic", 0, 0x11111111, 0, 7, -EBADMSG, "magic 0x11111111" },
	{ "take: newer layout", 4, 9, 0, 7, -EPROTONOSUPPORT, "layout 9, need 4" },
	{ "take: too short", 0, TR_STATE_MAGIC, 4096, 7, -EBADMSG, "too short" },
	{ "take: of another slice", 0, TR_STATE_MAGIC, 0, 8, -EBADMSG, "another slice" },
};

static void test_bad_state(void **state)
{
	const struct bad_state *c = *state;
	struct tr_seat seat;
	struct tr_err err = { 0 };
	int fd = open(path, O_RDWR), next = tr_free_fd();

	assert_int_equal(pwrite(fd, &c->word, sizeof(c->word), c->at), sizeof(c->word));
	if (c->size)
		assert_int_equal(ftruncate(fd, c->size), 0);
	assert_int_equal(tr_seat_take(&seat, path, c->serial, &err), c->want);
	assert_non_null(strstr(err.msg, c->says));
	assert_non_null(strstr(err.msg, path));
	assert_int_equal(tr_byte_is_locked(fd, 0), 0); /* nothing kept */
	assert_int_equal(tr_free_fd(), next);
	assert_int_equal(close(fd), 0);
}

static void test_all_slots_taken(void **state)
{
	struct tr_seat seat;
	struct tr_err err = { 0 };
	int fd = open(path, O_RDWR), next = tr_free_fd();

	(void)state;
	for (unsigned s = 0; s < TR_SLOTS_MAX; s++)
		assert_int_equal(tr_byte_lock(fd, (off_t)s), 0);
	assert_int_equal(tr_seat_take(&seat, path, 7, &err), -EUSERS);
	assert_non_null(strstr(err.msg, "1024"));
	assert_int_equal(tr_free_fd(), next);
	assert_int_equal(tr_byte_unlock(fd, 1023), 0);
	assert_int_equal(tr_seat_take(&seat, path, 7, &err), 0);
	assert_int_equal(seat.slot.at, 1023);
	assert_int_equal(seat.state->high_water, 1024);
	tr_seat_leave(&seat);
	assert_int_equal(close(fd), 0);
}

static void test_rows_by_key(void **state)
{
	struct tr_seat seat;
	tr_dev a, b;

	(void)state;
	assert_int_equal(tr_seat_watch(&seat, path, 7, NULL), 0);
	assert_int_equal(tr_state_row(seat.state, 111, &a), 0);
	assert_int_equal(tr_state_row(seat.state, 222, &b), 0);
	assert_int_not_equal(a.at, b.at);
	assert_int_equal(tr_state_row(seat.state, 111, &b), 0);
	assert_int_equal(a.at, b.at);
	for (uint64_t key = 300; key < 312; key++)
		assert_int_equal(tr_state_row(seat.state, key, &b), 0);
	assert_int_equal(tr_state_row(seat.state, 999, &b), -ENOSPC);
	tr_seat_leave(&seat);
}

static void test_slow_lock_is_bounded(void **state)
{
	struct tr_seat seat;
	struct tr_ledger ledger;
	int fd = open(path, O_RDWR);
	uint64_t start_ns;

	(void)state;
	assert_int_equal(tr_seat_take(&seat, path, 7, NULL), 0);
	ledger = ledger_of(&seat);
	assert_int_equal(tr_byte_lock(fd, TR_SLOTS_MAX + 0),
			 0); /* somebody never lets go */
	start_ns = tr_clock_ns();
	assert_int_equal(tr_ledger_reserve_slowly(&ledger, path, dev0, TR_USED, 1, 1000),
			 -ENOMEM);
	assert_in_range(tr_clock_ns() - start_ns, 0, UINT64_C(5000000000));
	assert_int_equal(tr_ledger_sum(&ledger, dev0), 0);
	tr_seat_leave(&seat);
	assert_int_equal(close(fd), 0);
}

#define FRESH(name, test, arg)                         \
	{                                              \
		name, test, make_rows, drop_state, arg \
	}

int main(void)
{
	struct CMUnitTest tests[12 + TR_COUNT(bad_states)] = {
		FRESH("ledger: up to the limit and not a byte more",
		      test_reserve_to_the_limit, NULL),
		FRESH("ledger: F07 counters end at their ends", test_edges, NULL),
		FRESH("ledger: published overhead replaces the floor",
		      test_overhead_replaces_floor, NULL),
		FRESH("ledger: refusals are told", test_refusals_are_told, NULL),
		FRESH("ledger: F09 the dead are reaped", test_the_dead_are_reaped, NULL),
		FRESH("seat: F11 a dead slot is taken over", test_a_dead_slot_is_taken_over,
		      NULL),
		FRESH("seat: F11 a forked child does not keep it",
		      test_fork_does_not_keep_the_slot, NULL),
		FRESH("seat: the lock outlives every descriptor",
		      test_lock_outlives_every_descriptor, NULL),
		FRESH("ledger: race for the last byte", test_race_for_the_last_byte, NULL),
		FRESH("seat: all slots taken", test_all_slots_taken, NULL),
		FRESH("state: rows by key", test_rows_by_key, NULL),
		FRESH("ledger: F09 the slow path is bounded", test_slow_lock_is_bounded,
		      NULL),
	};
	size_t n = 12;

	for (size_t i = 0; i < TR_COUNT(bad_states); i++)
		tests[n++] = (struct CMUnitTest)FRESH(bad_states[i].name, test_bad_state,
						      (void *)(uintptr_t)&bad_states[i]);
	return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
