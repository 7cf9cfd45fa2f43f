/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gRPC's threads wait by Abseil's condition variables, whose end before 2023 is a time of
 * CLOCK_REALTIME: when somebody sets that clock back by six hours, the thread of gRPC's timers sleeps for
 * six hours more, and until then no deadline, no retry of a connection and no time-out of a handshake comes.
 * Nothing in gRPC's interface wakes it. So the function through which Abseil asks the kernel to wait is
 * ours, and has such waits end by CLOCK_MONOTONIC. All other calls go on as they are.
 */
#include <dlfcn.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "rpc/engine.h"

#define SECOND_NS INT64_C(1000000000)

typedef long system_call(long number, ...);

/* Set before there are threads. */
static system_call *next;

__attribute__((constructor)) static void find_next(void)
{
	next = (system_call *)(uintptr_t)dlsym(RTLD_NEXT, "syscall");
}

void tr_rpc_wait_steadily(void)
{
	/* Nothing to do: who calls this has the function below linked in. */
}

/* What is none goes to the kernel as it is, which says so. */
static bool is_time(const struct timespec *wall)
{
	return wall && wall->tv_sec >= 0 && wall->tv_sec < INT32_MAX * INT64_C(1024) &&
	       wall->tv_nsec >= 0 && wall->tv_nsec < SECOND_NS;
}

/* The time of CLOCK_MONOTONIC at which it will be WALL if nobody sets that clock. */
static struct timespec steady(const struct timespec *wall)
{
	struct timespec now, steady_now, out;
	int64_t rest;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)clock_gettime(CLOCK_MONOTONIC, &steady_now);
	out.tv_sec = steady_now.tv_sec + (wall->tv_sec - now.tv_sec);
	rest = (int64_t)steady_now.tv_nsec + wall->tv_nsec - now.tv_nsec;
	out.tv_sec += rest / SECOND_NS;
	out.tv_nsec = rest % SECOND_NS;
	if (out.tv_nsec < 0) {
		out.tv_sec--;
		out.tv_nsec += SECOND_NS;
	}
	if (out.tv_sec < 0)
		out = (struct timespec){ 0 };
	return out;
}

/* As the C library's own it takes six words, of which a caller may have given fewer: what lies behind them is the
 * caller's stack, and the kernel does not look at it. */
__attribute__((visibility("default"), no_sanitize_address)) long syscall(long number, ...)
{
	struct timespec until;
	va_list list;
	long a[6];

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (!next)
		find_next();
	if (number == SYS_futex && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET &&
	    (a[1] & FUTEX_CLOCK_REALTIME) && is_time((const struct timespec *)a[3])) {
		until = steady((const struct timespec *)a[3]);
		a[1] &= ~(long)FUTEX_CLOCK_REALTIME;
		a[3] = (long)&until;
	}
	return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
