/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/timeline_memory.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "simtime.h"

/*
 * A thread that blocks passes the token on: it moves the clock and the engine to when the next can run,
 * and wakes that one. To have the machine's process do it would take a change of processes there and one
 * back, for each step.
 */

static _Atomic bool is_mapped;

void sim_pass_open(void)
{
	const struct timeline_books *books = (const void *)(TIMELINE_BASE + TIMELINE_BOOKS);

	/* a forked child may be on another machine than its parent */
	if (atomic_exchange(&is_mapped, false))
		rm_time_memory_leave(TIMELINE_BASE, TIMELINE_BYTES);
	if (rm_time_memory(TIMELINE_BASE, TIMELINE_BYTES) != 0)
		return;
	timeline = (struct timeline *)(uintptr_t)&books->timeline;
	engine_memory_use((struct engine_memory *)(uintptr_t)&books->heap);
	atomic_store(&is_mapped, true);
}

/* The signals that may end a process wait until the books are whole again. */
static void hold_signals(uint64_t *old)
{
	const uint64_t all = ~UINT64_C(0);

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, old, sizeof(all));
}

static void let_signals(const uint64_t *old)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, old, NULL, sizeof(*old));
}

bool sim_pass_on(uint32_t slot)
{
	enum timeline_pass passed = TIMELINE_STANDS;
	struct timeline_found f;
	uint64_t old;

	if (!atomic_load_explicit(&is_mapped, memory_order_acquire))
		return false;
	hold_signals(&old);
	if (timeline_lock() && timeline->v.may_pass)
		passed = timeline_pass(&f);
	timeline_unlock();
	/* the one that runs need not be woken */
	if (passed == TIMELINE_GRANTED &&
	    (f.client->key != rm_timeline.key || f.thread != slot))
		timeline_wake_word(&f.granted->state);
	let_signals(&old);
	return passed == TIMELINE_GRANTED || passed == TIMELINE_RUNS;
}
