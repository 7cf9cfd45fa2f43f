/* SPDX-License-Identifier: Apache-2.0 */
#include "simtime.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * Waits for descriptors: look, and wait in growing slices between looks. With a time-out the slices
 * are times of the clock like sleeps. Without one, what is waited for may come from outside of
 * the clock: their ends do not move it, but while it stands they look by the real one.
 */

#define SLICE_MIN_NS      50000u
#define SLICE_MAX_NS      10000000u
#define SLICE_MAX_IDLE_NS 250000000u /* of a wait without a time-out */
#define LOOK_NS           1000u

struct sim_slices sim_slices_begin(uint64_t timeout_ns)
{
	uint64_t now = sim_clock_now();

	if (timeout_ns == SIM_NEVER)
		return (struct sim_slices){ SIM_NEVER, SLICE_MIN_NS };
	return (struct sim_slices){ timeout_ns > SIM_NEVER - now - 1 ? SIM_NEVER - 1
								     : now + timeout_ns,
				    SLICE_MIN_NS };
}

int sim_slices_next(struct sim_slices *s)
{
	uint64_t now = sim_clock_now(), until = now + s->slice_ns;
	bool has_end = s->end_ns != SIM_NEVER;
	int r;

	if (now >= s->end_ns)
		return -ETIMEDOUT;
	if (has_end && until > s->end_ns)
		until = s->end_ns;
	r = sim_look_until(has_end ? until : SIM_NEVER, until);
	/* looks while the clock stood do not count: how many there were is chance */
	if (sim_clock_now() >= until &&
	    s->slice_ns < (has_end ? SLICE_MAX_NS : SLICE_MAX_IDLE_NS))
		s->slice_ns *= 2;
	return r == -EINTR ? r : 0;
}

/* Which signal it was is not known: a program that has a handler which ends calls is prepared. */
static bool ends_calls(void)
{
	struct sigaction a;

	for (int number = 1; number < NSIG; number++)
		if (sigaction(number, NULL, &a) == 0 && a.sa_handler != SIG_DFL &&
		    a.sa_handler != SIG_IGN && !(a.sa_flags & SA_RESTART))
			return true;
	return false;
}

bool sim_slices_go_on(struct sim_slices *s)
{
	if (sim_slices_next(s) != -EINTR || !ends_calls())
		return true;
	errno = EINTR;
	return false;
}

static struct sim_slices begin_ms(int timeout_ms)
{
	return sim_slices_begin(timeout_ms < 0 ? SIM_NEVER
					       : (uint64_t)timeout_ms * 1000000u);
}

/* False when the time is over; *R: -1 and EINTR when a signal came. */
static bool next_slice(struct sim_slices *s, int *r)
{
	int end = sim_slices_next(s);

	if (end == -EINTR) {
		errno = EINTR;
		*r = -1;
	}
	return end == 0;
}

SIM_EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct sim_slices s;
	int r;

	if (!sim_takes_part())
		return SIM_REAL(poll)(fds, n, timeout_ms);
	sim_clock_spend(LOOK_NS);
	r = SIM_REAL(poll)(fds, n, 0);
	if (r != 0 || timeout_ms == 0)
		return r;
	s = begin_ms(timeout_ms);
	while (r == 0 && next_slice(&s, &r))
		r = SIM_REAL(poll)(fds, n, 0);
	return r;
}

SIM_EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		     const sigset_t *mask)
{
	static const struct timespec zero;
	struct sim_slices s;
	int r;

	if (!sim_takes_part())
		return SIM_REAL(ppoll)(fds, n, timeout, mask);
	sim_clock_spend(LOOK_NS);
	r = SIM_REAL(ppoll)(fds, n, &zero, mask);
	if (r != 0 || (timeout && sim_ns(timeout) == 0))
		return r;
	s = sim_slices_begin(timeout ? sim_ns(timeout) : SIM_NEVER);
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
	struct sim_slices s;
	struct sets k;
	int r;

	if (!sim_takes_part())
		return SIM_REAL(pselect)(n, reads, writes, others, timeout, mask);
	sim_clock_spend(LOOK_NS);
	keep(&k, reads, writes, others);
	r = look(n, &k, mask);
	s = sim_slices_begin(timeout ? sim_ns(timeout) : SIM_NEVER);
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
	struct sim_slices s;
	int r;

	if (!sim_takes_part())
		return SIM_REAL(epoll_pwait)(fd, events, max, timeout_ms, mask);
	sim_clock_spend(LOOK_NS);
	r = SIM_REAL(epoll_pwait)(fd, events, max, 0, mask);
	if (r != 0 || timeout_ms == 0)
		return r;
	s = begin_ms(timeout_ms);
	while (r == 0 && next_slice(&s, &r))
		r = SIM_REAL(epoll_pwait)(fd, events, max, 0, mask);
	return r;
}

SIM_EXPORT int epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
	return epoll_pwait(fd, events, max, timeout_ms, NULL);
}

/* ---- reading ----------------------------------------------------------------------------- */

/* Until FD has something, if it is one that would block. False: a signal came. */
static bool await_input(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct sim_slices s;
	int saved = errno;

	if (sim_takes_part() && SIM_REAL(poll)(&p, 1, 0) == 0 &&
	    !(fcntl(fd, F_GETFL) & O_NONBLOCK)) {
		s = sim_slices_begin(SIM_NEVER);
		do {
			if (!sim_slices_go_on(&s))
				return false;
		} while (sim_takes_part() && SIM_REAL(poll)(&p, 1, 0) == 0);
	}
	errno = saved;
	return true;
}

SIM_EXPORT ssize_t read(int fd, void *bytes, size_t n)
{
	if (!await_input(fd))
		return -1;
	return SIM_REAL(read)(fd, bytes, n);
}

SIM_EXPORT ssize_t recv(int fd, void *bytes, size_t n, int flags)
{
	if (!(flags & MSG_DONTWAIT) && !await_input(fd))
		return -1;
	return SIM_REAL(recv)(fd, bytes, n, flags);
}

SIM_EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	if (!(flags & MSG_DONTWAIT) && !await_input(fd))
		return -1;
	return SIM_REAL(recvmsg)(fd, message, flags);
}

SIM_EXPORT int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict n,
		       int flags)
{
	if (!await_input(fd))
		return -1;
	return SIM_REAL(accept4)(fd, address, n, flags);
}

SIM_EXPORT int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict n)
{
	if (!await_input(fd))
		return -1;
	return SIM_REAL(accept)(fd, address, n);
}

/* ---- signals ----------------------------------------------------------------------------- */

/* Signals that are waited for are blocked, so another one may still end the wait. */
SIM_EXPORT int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info,
			    const struct timespec *restrict timeout)
{
	static const struct timespec zero;
	struct sim_slices s;
	int r;

	if (!sim_takes_part())
		return SIM_REAL(sigtimedwait)(set, info, timeout);
	s = sim_slices_begin(timeout ? sim_ns(timeout) : SIM_NEVER);
	r = SIM_REAL(sigtimedwait)(set, info, &zero);
	while (r < 0 && errno == EAGAIN) {
		int end = sim_slices_next(&s);

		if (end != 0) {
			errno = end == -EINTR ? EINTR : EAGAIN;
			return -1;
		}
		r = SIM_REAL(sigtimedwait)(set, info, &zero);
	}
	return r;
}

SIM_EXPORT int sigwaitinfo(const sigset_t *restrict set, siginfo_t *restrict info)
{
	return sigtimedwait(set, info, NULL);
}
