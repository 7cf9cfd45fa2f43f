/* SPDX-License-Identifier: Apache-2.0 */
#include "guard.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook.h"
#include "lock.h"
#include "rt/file.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

#define STEP_WAIT_NS   (2ull * 1000 * 1000 * 1000)
#define STEP_POLL_NS   (200ull * 1000)
#define STEP_TAKEN     (-1)
#define MAP_PAGE_BYTES 4096u

/* Until there is a page, everybody is at the words of nobody. */
static _Atomic uint32_t nobody[TR_ALIVE_COUNT];
static _Atomic(_Atomic uint32_t *) alive = nobody;

/* A frame's words: the caller's frame, and where the call returns to. */
#define FRAME_RETURN   1
#define KERNEL_SIGSETS 8u /* bytes of one */

static _Thread_local struct {
	const uintptr_t *frame; /* of the outermost call; NULL: none */
	uintptr_t returns_to;
	int saved_errno;
} here;

bool tr_is_alive(enum tr_alive what)
{
	_Atomic uint32_t *words = atomic_load_explicit(&alive, memory_order_acquire);

	return atomic_load_explicit(&words[what], memory_order_acquire) != 0;
}

TR_COLD int tr_set_alive(enum tr_alive what)
{
	_Atomic uint32_t *words = atomic_load_explicit(&alive, memory_order_acquire);
	_Atomic uint32_t *none = nobody;
	void *page;

	if (words == nobody) {
		page = mmap(NULL, MAP_PAGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED)
			return -errno;
		if (madvise(page, MAP_PAGE_BYTES, MADV_WIPEONFORK)) {
			int r = -errno;

			(void)munmap(page, MAP_PAGE_BYTES);
			return r;
		}
		words = page;
		if (!atomic_compare_exchange_strong(&alive, &none, words)) {
			(void)munmap(page, MAP_PAGE_BYTES);
			words = none; /* another thread's, who came first */
		}
	}
	atomic_store_explicit(&words[what], 1, memory_order_release);
	return 0;
}

static bool is_within(const void *at, const stack_t *stack)
{
	uintptr_t from = (uintptr_t)stack->ss_sp;

	return !(stack->ss_flags & SS_DISABLE) && (uintptr_t)at >= from &&
	       (uintptr_t)at - from < stack->ss_size;
}

/* The kernel looks at the set before it looks at what to do with it, which is nothing. */
static bool is_readable(const void *at)
{
	return syscall(SYS_rt_sigprocmask, ~0, at, NULL, KERNEL_SIGSETS) == -1 &&
	       errno == EINVAL;
}

/* A call of this thread was entered and not left. Its body waits for the driver, in which
 * we are now, or a signal handler runs on top of it: then we are deeper on its stack, and
 * where it will return to still stands there. Else a jump has ended it. What it had
 * reserved stays charged, because what the driver did is not known. */
TR_COLD static bool was_left(const void *frame)
{
	const uintptr_t *outer = here.frame;
	stack_t other = { .ss_flags = SS_DISABLE };

	if (sigaltstack(NULL, &other) == 0 &&
	    is_within(frame, &other) != is_within(outer, &other))
		return is_within(outer, &other); /* that handler's stack is left */
	if ((uintptr_t)frame >= (uintptr_t)outer)
		return true;
	return !is_readable(outer) || !is_readable(outer + FRAME_RETURN) ||
	       *(const volatile uintptr_t *)(outer + FRAME_RETURN) != here.returns_to;
}

TR_COLD static bool is_nested(const void *frame)
{
	int saved_errno = errno;
	bool left = was_left(frame);

	errno = saved_errno;
	if (left)
		tr_unlock_left();
	return !left;
}

bool tr_enter_at(const void *frame)
{
	if (!tr_is_alive(TR_ALIVE_SEATED) || (here.frame && is_nested(frame)))
		return false;
	/* Twice, because a handler's own call may come in between, and that has to be over
	 * when ours is known. */
	here.returns_to = ((const uintptr_t *)frame)[FRAME_RETURN];
	atomic_signal_fence(memory_order_seq_cst);
	here.frame = frame;
	atomic_signal_fence(memory_order_seq_cst);
	here.returns_to = ((const uintptr_t *)frame)[FRAME_RETURN];
	here.saved_errno = errno;
	return true;
}

void tr_leave(void)
{
	errno = here.saved_errno;
	here.frame = NULL;
}

/* ---- steps --------------------------------------------------------------------------- */

/* Not glibc's: nothing may stand between us and the kernel's answer in a raw clone's child.
 */
static int own_pid(void)
{
	return (int)syscall(SYS_getpid);
}

TR_COLD enum tr_turn tr_step_begin(struct tr_step *step, bool (*is_done)(void))
{
	uint64_t until = 0;
	int pid = 0;

	for (;;) {
		int seen = atomic_load_explicit(&step->holder, memory_order_acquire);

		if (seen == STEP_TAKEN && is_done())
			return TR_TURN_DONE;
		if (!pid)
			pid = own_pid();
		if (seen <= 0 || seen != pid) {
			if (atomic_compare_exchange_strong(&step->holder, &seen, pid))
				return TR_TURN_MINE;
			continue;
		}
		if (!until)
			until = tr_clock_ns() + STEP_WAIT_NS;
		else if (tr_clock_ns() >= until)
			return TR_TURN_TIMEOUT;
		tr_sleep_ns(STEP_POLL_NS);
	}
}

void tr_step_end(struct tr_step *step, bool is_taken)
{
	atomic_store_explicit(&step->holder, is_taken ? STEP_TAKEN : 0,
			      memory_order_release);
}
