/* SPDX-License-Identifier: Apache-2.0 */
#include "simtime.h"

#include <errno.h>
#include <sched.h>
#include <sys/time.h>
#include <unistd.h>

/* Clocks and sleeps. */

#define SLEEP_MIN_NS \
	1000u /* nobody sleeps for nothing: a loop of such sleeps would not end */
#define YIELD_NS 1000u
#define READ_NS  25u

static bool is_wall_clock(clockid_t clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ||
	       clock == CLOCK_TAI;
}

static bool is_ours(clockid_t clock)
{
	return is_wall_clock(clock) || clock == CLOCK_MONOTONIC ||
	       clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_MONOTONIC_COARSE ||
	       clock == CLOCK_BOOTTIME;
}

SIM_EXPORT int clock_gettime(clockid_t clock, struct timespec *t)
{
	if (!is_ours(clock) || !sim_takes_part())
		return SIM_REAL(clock_gettime)(clock, t);
	*t = sim_timespec(sim_read_clock(is_wall_clock(clock)));
	return 0;
}

SIM_EXPORT int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
	struct timespec now;

	if (!sim_takes_part())
		return SIM_REAL(gettimeofday)(t, zone);
	now = sim_timespec(sim_read_clock(true));
	t->tv_sec = now.tv_sec;
	t->tv_usec = now.tv_nsec / 1000;
	return 0;
}

SIM_EXPORT time_t time(time_t *out)
{
	time_t now;

	if (!sim_takes_part())
		return SIM_REAL(time)(out);
	now = (time_t)(sim_read_clock(true) / SIM_SECOND);
	if (out)
		*out = now;
	return now;
}

/* 0 or -EINTR; *LEFT: what a signal left of it. */
static int sleep_for(uint64_t ns, uint64_t *left)
{
	uint64_t until, now;
	int r;

	until = sim_clock_now() + (ns < SLEEP_MIN_NS ? SLEEP_MIN_NS : ns);
	r = sim_sleep_until(until);
	now = sim_clock_now();
	*left = until > now ? until - now : 0;
	return r == -EINTR ? r : 0;
}

SIM_EXPORT int nanosleep(const struct timespec *want, struct timespec *rest)
{
	uint64_t left;

	if (!sim_takes_part() || want->tv_nsec < 0 || want->tv_nsec > 999999999 ||
	    want->tv_sec < 0)
		return SIM_REAL(nanosleep)(want, rest);
	if (sleep_for(sim_ns(want), &left) == 0)
		return 0;
	if (rest)
		*rest = sim_timespec(left);
	errno = EINTR;
	return -1;
}

SIM_EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *want,
			       struct timespec *rest)
{
	uint64_t ns, left;

	if (!is_ours(clock) || !sim_takes_part() || want->tv_nsec < 0 ||
	    want->tv_nsec > 999999999 || want->tv_sec < 0)
		return SIM_REAL(clock_nanosleep)(clock, flags, want, rest);
	ns = sim_ns(want);
	if (flags & TIMER_ABSTIME) {
		sim_clock_spend(READ_NS);
		ns = sim_when(is_wall_clock(clock), ns);
		if (ns <= sim_clock_now())
			return 0;
		return sim_sleep_until(ns) == -EINTR ? EINTR : 0;
	}
	if (sleep_for(ns, &left) == 0)
		return 0;
	if (rest)
		*rest = sim_timespec(left);
	return EINTR;
}

SIM_EXPORT int usleep(useconds_t us)
{
	uint64_t left;

	if (!sim_takes_part())
		return SIM_REAL(usleep)(us);
	if (sleep_for((uint64_t)us * 1000, &left) == 0)
		return 0;
	errno = EINTR;
	return -1;
}

SIM_EXPORT unsigned int sleep(unsigned int seconds)
{
	uint64_t left;

	if (!sim_takes_part())
		return SIM_REAL(sleep)(seconds);
	sleep_for((uint64_t)seconds * SIM_SECOND, &left);
	return (unsigned)((left + SIM_SECOND - 1) / SIM_SECOND);
}

SIM_EXPORT int sched_yield(void)
{
	if (sim_takes_part())
		sim_clock_spend(YIELD_NS);
	else
		return SIM_REAL(sched_yield)();
	return 0;
}
