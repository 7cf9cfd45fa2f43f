/* SPDX-License-Identifier: Apache-2.0 */
#include "guard.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hook.h"
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

static _Thread_local struct {
	unsigned depth;
	int saved_errno;
} here;

bool tr_is_alive(enum tr_alive what)
{
	_Atomic uint32_t *words = atomic_load_explicit(&alive, memory_order_acquire);

	return atomic_load_explicit(&words[what], memory_order_acquire) != 0;
}

int tr_set_alive(enum tr_alive what)
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

bool tr_enter(void)
{
	if (here.depth || !tr_is_alive(TR_ALIVE_SEATED))
		return false;
	here.depth = 1;
	here.saved_errno = errno;
	return true;
}

void tr_leave(void)
{
	errno = here.saved_errno;
	here.depth = 0;
}

/* ---- steps --------------------------------------------------------------------------- */

/* Not glibc's: nothing may stand between us and the kernel's answer in a raw clone's child.
 */
static int own_pid(void)
{
	return (int)syscall(SYS_getpid);
}

enum tr_turn tr_step_begin(struct tr_step *step, bool (*is_done)(void))
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
