/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_TRY_LOCK_H
#define TR_HOOK_TRY_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * A lock that is only ever tried, and that outlives a holder who was ended by a jump out of the
 * driver (longjmp). One that was stopped together with everybody (SIGSTOP, a suspended machine) is
 * still at it, so time alone does not tell: the same holder has to be met again and again.
 */
#define TR_TRY_LOCK_NS    UINT64_C(10000000000) /* nobody holds it that long and lives */
#define TR_TRY_LOCK_LOOKS 50u

struct tr_try_lock {
	_Atomic uint64_t held_ns;           /* since when somebody has it; 0: nobody */
	_Atomic uint64_t met_ns, looked_ns; /* who was met: since, and when last */
	_Atomic uint32_t looks;
};

static inline bool tr_try_lock_is_stuck(struct tr_try_lock *l, uint64_t since_ns,
					uint64_t now_ns)
{
	uint64_t looked_ns = atomic_load(&l->looked_ns);

	if (atomic_exchange(&l->met_ns, since_ns) != since_ns)
		atomic_store(&l->looks, 0);
	return now_ns > looked_ns &&
	       now_ns - looked_ns >= TR_TRY_LOCK_NS / TR_TRY_LOCK_LOOKS &&
	       atomic_compare_exchange_strong(&l->looked_ns, &looked_ns, now_ns) &&
	       atomic_fetch_add(&l->looks, 1) >= TR_TRY_LOCK_LOOKS;
}

static inline bool tr_try_hold(struct tr_try_lock *l, uint64_t now_ns)
{
	uint64_t since_ns = 0;

	if (atomic_compare_exchange_strong_explicit(&l->held_ns, &since_ns, now_ns | 1,
						    memory_order_acquire,
						    memory_order_relaxed))
		return true;
	return tr_try_lock_is_stuck(l, since_ns, now_ns) &&
	       atomic_compare_exchange_strong(&l->held_ns, &since_ns, now_ns | 1);
}

static inline void tr_let_go(struct tr_try_lock *l)
{
	atomic_store_explicit(&l->held_ns, 0, memory_order_release);
}

#endif /* TR_HOOK_TRY_LOCK_H */
