/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded: a program's CLOCK_REALTIME is off by as many nanoseconds as the file $WALL_CLOCK_OFFSET
 * says (an int64_t), at any moment. Other clocks are as they are, as when somebody sets the time. Waits
 * that end at a time of that clock end by it: they look again every 20 ms, and wake for nothing then, which
 * their callers must bear anyway.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS INT64_C(1000000000)
#define SLICE_NS  INT64_C(20000000)
/* No machine is up for so long: a cond's time above it is one of CLOCK_REALTIME. */
#define EPOCH_S 1000000000

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const _Atomic int64_t *offset;

__attribute__((constructor)) static void map_offset(void)
{
	const char *path = getenv("WALL_CLOCK_OFFSET");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *p;

	if (fd < 0)
		return;
	p = mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0);
	(void)close(fd);
	if (p != MAP_FAILED)
		offset = p;
}

static int64_t offset_ns(void)
{
	return offset ? atomic_load(offset) : 0;
}

static bool is_wall(clockid_t clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ||
	       clock == CLOCK_TAI;
}

static int64_t ns_of(const struct timespec *t)
{
	return (int64_t)t->tv_sec * SECOND_NS + t->tv_nsec;
}

static struct timespec time_of(int64_t ns)
{
	struct timespec t = { ns / SECOND_NS, ns % SECOND_NS };

	if (t.tv_nsec < 0) {
		t.tv_sec--;
		t.tv_nsec += SECOND_NS;
	}
	return t;
}

static long kernel(long number, const long a[static 6])
{
	static __typeof__(&syscall) real;

	if (!real)
		real = REAL(syscall);
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static int64_t real_now(clockid_t clock)
{
	struct timespec t = { 0 };

	(void)kernel(SYS_clock_gettime, (long[6]){ clock, (long)&t });
	return ns_of(&t);
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
	static __typeof__(&clock_gettime) real;
	int r;

	if (!real)
		real = REAL(clock_gettime);
	r = real(clock, out);
	if (r == 0 && is_wall(clock))
		*out = time_of(ns_of(out) + offset_ns());
	return r;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	int64_t us = (real_now(CLOCK_REALTIME) + offset_ns()) / 1000;

	(void)zone;
	*out = (struct timeval){ us / 1000000, us % 1000000 };
	return 0;
}

time_t time(time_t *out)
{
	time_t now = (time_t)((real_now(CLOCK_REALTIME) + offset_ns()) / SECOND_NS);

	if (out)
		*out = now;
	return now;
}

/* The end of the next part of a wait until WALL, by the true clock; *IS_LAST: WALL is reached then. */
static struct timespec part_of(const struct timespec *wall, bool *is_last)
{
	int64_t end = ns_of(wall) - offset_ns(), soon = real_now(CLOCK_REALTIME) + SLICE_NS;

	*is_last = end <= soon;
	return time_of(*is_last ? end : soon);
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
			   const struct timespec *restrict until)
{
	static __typeof__(&pthread_cond_timedwait) real;
	struct timespec part;
	bool is_last;
	int r;

	if (!real)
		real = REAL(pthread_cond_timedwait);
	if (until->tv_sec < EPOCH_S)
		return real(cond, mutex, until);
	part = part_of(until, &is_last);
	r = real(cond, mutex, &part);
	return r == ETIMEDOUT && !is_last ? 0 : r;
}

/* gRPC reads clocks, and sleeps on futexes by this clock, without the functions above. */
long syscall(long number, ...)
{
	struct timespec part, *told;
	bool is_last = true;
	va_list list;
	long a[6], r;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME) && a[3]) {
		part = part_of((const struct timespec *)a[3], &is_last);
		a[3] = (long)&part;
	}
	r = kernel(number, a);
	if (number == SYS_clock_gettime && r == 0 && is_wall((clockid_t)a[0])) {
		told = (struct timespec *)a[1];
		*told = time_of(ns_of(told) + offset_ns());
	}
	return r < 0 && errno == ETIMEDOUT && !is_last ? 0 : r;
}
