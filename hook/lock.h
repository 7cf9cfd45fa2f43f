/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_LOCK_H
#define TR_HOOK_LOCK_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/*
 * A lock for a few dozen instructions of table work: never held across a driver call, a
 * system call that can wait, or anything of the application's. A signal handler that
 * interrupts its holder steps aside in tr_enter() and so never waits for it.
 *
 * A holder that a handler's jump or a cancellation has ended gives it back at its next call
 * (tr_unlock_left), and who waits longer than any table work can take takes it over.
 */
struct tr_lock {
	atomic_uint word; /* odd: held; another number each time */
};

/* The one that this thread holds (objects.c). */
extern _Thread_local struct tr_lock *tr_lock_held;

#define TR_LOCK_SPINS   100u
#define TR_LOCK_YIELDS  1000u
#define TR_LOCK_WAIT_NS UINT64_C(2000000000)

static inline uint64_t tr_lock_clock_ns(void)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* After many tries: true when WORD, that is held, has been the same for too long. */
static inline bool tr_lock_is_lost(unsigned word, unsigned *waited_for, uint64_t *since_ns)
{
	/* a real-time waiter must let a lesser holder run */
	const struct timespec pause = { .tv_nsec = 50000 };
	uint64_t now_ns = tr_lock_clock_ns();

	if (!*since_ns || *waited_for != word) {
		*waited_for = word;
		*since_ns = now_ns;
	}
	(void)nanosleep(&pause, NULL);
	return now_ns - *since_ns >= TR_LOCK_WAIT_NS;
}

static inline void tr_lock(struct tr_lock *lock)
{
	unsigned waited_for = 0;
	uint64_t since_ns = 0;

	for (unsigned tries = 0;; tries++) {
		unsigned word = atomic_load_explicit(&lock->word, memory_order_relaxed);

		if (!(word & 1) && atomic_compare_exchange_weak_explicit(
					   &lock->word, &word, word + 1,
					   memory_order_acquire, memory_order_relaxed))
			break;
		if (tries < TR_LOCK_SPINS)
			continue;
		if (tries < TR_LOCK_YIELDS)
			(void)sched_yield();
		else if (word & 1 && tr_lock_is_lost(word, &waited_for, &since_ns) &&
			 atomic_compare_exchange_strong(&lock->word, &word, word + 2))
			break;
	}
	tr_lock_held = lock;
}

/* Also of one that nobody holds, in a fork child. */
static inline void tr_unlock(struct tr_lock *lock)
{
	unsigned word = atomic_load_explicit(&lock->word, memory_order_relaxed);

	tr_lock_held = NULL;
	atomic_store_explicit(&lock->word, (word | 1) + 1, memory_order_release);
}

static inline void tr_unlock_left(void)
{
	if (tr_lock_held)
		tr_unlock(tr_lock_held);
}

#endif /* TR_HOOK_LOCK_H */
