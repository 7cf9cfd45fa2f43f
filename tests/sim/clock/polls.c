/* SPDX-License-Identifier: Apache-2.0 */
#include "simtime.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>

/*
 * Waits for descriptors. With a time-out: looks, and sleeps in growing slices between them. Without:
 * the thread leaves the clock, since only something outside of it may come.
 */

#define SLICE_MIN_NS 50000u
#define SLICE_MAX_NS 10000000u
#define LOOK_NS      1000u

struct slices {
	uint64_t end_ns, slice_ns;
};

static struct slices begin(uint64_t timeout_ns)
{
	uint64_t now = sim_clock_now();

	return (struct slices){ .end_ns = timeout_ns > SIM_NEVER - now ? SIM_NEVER - 1
								       : now + timeout_ns,
				.slice_ns = SLICE_MIN_NS };
}

/* False when the time is over; *R: -1 and EINTR when a signal came. */
static bool next_slice(struct slices *s, int *r)
{
	uint64_t now = sim_clock_now(), until = now + s->slice_ns;

	if (now >= s->end_ns)
		return false;
	if (s->slice_ns < SLICE_MAX_NS)
		s->slice_ns *= 2;
	if (sim_sleep_until(until < s->end_ns ? until : s->end_ns) == -EINTR) {
		errno = EINTR;
		*r = -1;
		return false;
	}
	return true;
}

SIM_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct slices s;
	int r;

	if (!sim_takes_part())
		return SIM_REAL(poll)(fds, n, timeout_ms);
	sim_clock_spend(LOOK_NS);
	r = SIM_REAL(poll)(fds, n, 0);
	if (r != 0 || timeout_ms == 0)
		return r;
	if (timeout_ms < 0) {
		sim_leave();
		r = SIM_REAL(poll)(fds, n, timeout_ms);
		sim_join();
		return r;
	}
	s = begin((uint64_t)timeout_ms * 1000000u);
	while (r == 0 && next_slice(&s, &r))
		r = SIM_REAL(poll)(fds, n, 0);
	return r;
}

SIM_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		     const sigset_t *mask)
{
	static const struct timespec zero;
	struct slices s;
	int r;

	if (!sim_takes_part())
		return SIM_REAL(ppoll)(fds, n, timeout, mask);
	sim_clock_spend(LOOK_NS);
	r = SIM_REAL(ppoll)(fds, n, &zero, mask);
	if (r != 0 || (timeout && sim_ns(timeout) == 0))
		return r;
	if (!timeout) {
		sim_leave();
		r = SIM_REAL(ppoll)(fds, n, NULL, mask);
		sim_join();
		return r;
	}
	s = begin(sim_ns(timeout));
	while (r == 0 && next_slice(&s, &r))
		r = SIM_REAL(ppoll)(fds, n, &zero, mask);
	return r;
}

/* select() forgets what it was asked when nothing is ready. */
struct sets {
	fd_set *sets[3];
	fd_set asked[3];
};

static void keep(struct sets *k, fd_set *reads, fd_set *writes, fd_set *others)
{
	fd_set *sets[3] = { reads, writes, others };

	for (int i = 0; i < 3; i++) {
		k->sets[i] = sets[i];
		if (sets[i])
			k->asked[i] = *sets[i];
	}
}

static int look(int n, struct sets *k, const sigset_t *mask)
{
	static const struct timespec zero;

	for (int i = 0; i < 3; i++) {
		if (k->sets[i])
			*k->sets[i] = k->asked[i];
	}
	return SIM_REAL(pselect)(n, k->sets[0], k->sets[1], k->sets[2], &zero, mask);
}

SIM_EXPORT int pselect(int n, fd_set *restrict reads, fd_set *restrict writes,
		       fd_set *restrict others, const struct timespec *restrict timeout,
		       const sigset_t *restrict mask)
{
	struct slices s;
	struct sets k;
	int r;

	if (!sim_takes_part())
		return SIM_REAL(pselect)(n, reads, writes, others, timeout, mask);
	if (!timeout) {
		sim_leave();
		r = SIM_REAL(pselect)(n, reads, writes, others, timeout, mask);
		sim_join();
		return r;
	}
	sim_clock_spend(LOOK_NS);
	keep(&k, reads, writes, others);
	r = look(n, &k, mask);
	s = begin(sim_ns(timeout));
	while (r == 0 && next_slice(&s, &r))
		r = look(n, &k, mask);
	return r;
}

SIM_EXPORT int select(int n, fd_set *restrict reads, fd_set *restrict writes,
		      fd_set *restrict others, struct timeval *restrict timeout)
{
	struct timespec t;

	if (!sim_takes_part())
		return SIM_REAL(select)(n, reads, writes, others, timeout);
	if (timeout) {
		t.tv_sec = timeout->tv_sec;
		t.tv_nsec = timeout->tv_usec * 1000;
	}
	return pselect(n, reads, writes, others, timeout ? &t : NULL, NULL);
}

SIM_EXPORT int epoll_pwait(int fd, struct epoll_event *events, int max, int timeout_ms,
			   const sigset_t *mask)
{
	struct slices s;
	int r;

	if (!sim_takes_part())
		return SIM_REAL(epoll_pwait)(fd, events, max, timeout_ms, mask);
	sim_clock_spend(LOOK_NS);
	r = SIM_REAL(epoll_pwait)(fd, events, max, 0, mask);
	if (r != 0 || timeout_ms == 0)
		return r;
	if (timeout_ms < 0) {
		sim_leave();
		r = SIM_REAL(epoll_pwait)(fd, events, max, timeout_ms, mask);
		sim_join();
		return r;
	}
	s = begin((uint64_t)timeout_ms * 1000000u);
	while (r == 0 && next_slice(&s, &r))
		r = SIM_REAL(epoll_pwait)(fd, events, max, 0, mask);
	return r;
}

SIM_EXPORT int epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
	return epoll_pwait(fd, events, max, timeout_ms, NULL);
}
