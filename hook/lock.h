/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_LOCK_H
#define TR_HOOK_LOCK_H

#include <stdatomic.h>
#include <stddef.h>

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

/* Small rather than fast, in files that are compiled for speed. */
#define TR_COLD __attribute__((cold, noinline))

/* Held at the first try, or after waiting (objects.c). */
void tr_lock_slowly(struct tr_lock *lock);

static inline void tr_lock(struct tr_lock *lock)
{
	unsigned word = atomic_load_explicit(&lock->word, memory_order_relaxed);

	if (word & 1 || !atomic_compare_exchange_strong_explicit(
				&lock->word, &word, word + 1, memory_order_acquire,
				memory_order_relaxed))
		tr_lock_slowly(lock);
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
