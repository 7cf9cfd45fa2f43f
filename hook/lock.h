/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_LOCK_H
#define TR_HOOK_LOCK_H

#include <sched.h>
#include <stdatomic.h>
#include <time.h>

/*
 * A lock for a few dozen instructions of table work: never held across a driver call, a
 * system call that can wait, or anything of the application's. A signal handler that
 * interrupts its holder steps aside in tr_enter() and so never waits for it.
 */
struct tr_lock {
	atomic_uint is_held;
};

#define TR_LOCK_SPINS  100u
#define TR_LOCK_YIELDS 1000u

static inline void tr_lock(struct tr_lock *lock)
{
	for (unsigned tries = 0;; tries++) {
		if (!atomic_load_explicit(&lock->is_held, memory_order_relaxed) &&
		    !atomic_exchange_explicit(&lock->is_held, 1, memory_order_acquire))
			return;
		if (tries < TR_LOCK_SPINS)
			continue;
		if (tries < TR_LOCK_YIELDS) {
			(void)sched_yield();
		} else { /* a real-time waiter must let a lesser holder run */
			const struct timespec pause = { .tv_nsec = 50000 };

			(void)nanosleep(&pause, NULL);
		}
	}
}

static inline void tr_unlock(struct tr_lock *lock)
{
	atomic_store_explicit(&lock->is_held, 0, memory_order_release);
}

#endif /* TR_HOOK_LOCK_H */
