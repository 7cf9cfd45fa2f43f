/* SPDX-License-Identifier: Apache-2.0 */
#include "simtime.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

/*
 * Threads, and what they wait for each other with. A thread that found a mutex held blocks in
 * the clock: the holder needs the token to go on. Who waits for a word in memory shared with
 * another process looks again after a while, since its waker may not be ours.
 */

#define LOOK_AGAIN_NS 20000u

struct start {
	void *(*body)(void *);
	void *arg;
	int slot;
};

static pthread_t ids[WIRE_THREADS]; /* of the threads made here, by slot */
static _Atomic bool is_known[WIRE_THREADS];

static void *run(void *arg)
{
	struct start s = *(struct start *)arg;

	free(arg);
	sim_thread_begin(s.slot);
	return s.body(s.arg);
}

SIM_EXPORT int pthread_create(pthread_t *restrict id, const pthread_attr_t *restrict attr,
			      void *(*body)(void *), void *restrict arg)
{
	struct start *s;
	int slot = -1, r;

	s = sim_takes_part() ? malloc(sizeof(*s)) : NULL;
	if (s)
		slot = sim_thread_new();
	if (slot < 0) {
		free(s);
		return SIM_REAL(pthread_create)(id, attr, body, arg);
	}
	*s = (struct start){ body, arg, slot };
	r = SIM_REAL(pthread_create)(id, attr, run, s);
	if (r != 0) {
		sim_thread_forget(slot);
		free(s);
		return r;
	}
	ids[slot] = *id;
	atomic_store(&is_known[slot], true);
	return 0;
}

SIM_EXPORT int pthread_join(pthread_t id, void **value)
{
	if (!sim_takes_part())
		return SIM_REAL(pthread_join)(id, value);
	for (int i = 0; i < (int)WIRE_THREADS; i++) {
		if (!atomic_load(&is_known[i]) || !pthread_equal(ids[i], id))
			continue;
		while (sim_thread_is_live(i))
			sim_wait_on(sim_thread_word(i), SIM_NEVER);
		atomic_store(&is_known[i], false);
		break;
	}
	return SIM_REAL(pthread_join)(id, value);
}

/* ---- mutexes --------------------------------------------------------------------------- */

static uint64_t soon(void)
{
	return sim_clock_now() + LOOK_AGAIN_NS;
}

SIM_EXPORT int pthread_mutex_lock(pthread_mutex_t *m)
{
	int r;

	if (!sim_takes_part())
		return SIM_REAL(pthread_mutex_lock)(m);
	while ((r = SIM_REAL(pthread_mutex_trylock)(m)) == EBUSY)
		sim_wait_on(m, soon());
	return r;
}

SIM_EXPORT int pthread_mutex_unlock(pthread_mutex_t *m)
{
	int r = SIM_REAL(pthread_mutex_unlock)(m);

	if (r == 0 && sim_takes_part())
		sim_wake(m, false);
	return r;
}

SIM_EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
	int r;

	if (!sim_takes_part())
		return SIM_REAL(pthread_rwlock_rdlock)(l);
	while ((r = SIM_REAL(pthread_rwlock_tryrdlock)(l)) == EBUSY)
		sim_wait_on(l, soon());
	return r;
}

SIM_EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
	int r;

	if (!sim_takes_part())
		return SIM_REAL(pthread_rwlock_wrlock)(l);
	while ((r = SIM_REAL(pthread_rwlock_trywrlock)(l)) == EBUSY)
		sim_wait_on(l, soon());
	return r;
}

/* ---- conditions ------------------------------------------------------------------------ */

/* 0: nobody of another process is waited for. glibc keeps both facts in one word. */
#define COND_SHARED    1u
#define COND_MONOTONIC 2u

static bool is_own(const pthread_cond_t *c)
{
	return !(c->__data.__wrefs & COND_SHARED);
}

static int wait_cond(pthread_cond_t *c, pthread_mutex_t *m, uint64_t until_ns)
{
	bool is_woken;
	int r = pthread_mutex_unlock(m);

	if (r != 0)
		return r;
	is_woken = sim_wait_on(c, until_ns);
	r = pthread_mutex_lock(m);
	if (r != 0)
		return r;
	return is_woken || until_ns == SIM_NEVER ? 0 : ETIMEDOUT;
}

SIM_EXPORT int pthread_cond_wait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m)
{
	int r;

	if (!sim_takes_part())
		return SIM_REAL_COND(pthread_cond_wait)(c, m);
	if (is_own(c))
		return wait_cond(c, m, SIM_NEVER);
	sim_leave();
	r = SIM_REAL_COND(pthread_cond_wait)(c, m);
	sim_join();
	return r;
}

SIM_EXPORT int pthread_cond_timedwait(pthread_cond_t *restrict c,
				      pthread_mutex_t *restrict m,
				      const struct timespec *restrict until)
{
	uint64_t ns;
	int r;

	if (!sim_takes_part())
		return SIM_REAL_COND(pthread_cond_timedwait)(c, m, until);
	ns = sim_when(!(c->__data.__wrefs & COND_MONOTONIC), sim_ns(until));
	if (is_own(c) || ns <= soon())
		return wait_cond(c, m, ns);
	/* to wake early is allowed, and its waker may not be ours */
	r = wait_cond(c, m, soon());
	return r == ETIMEDOUT ? 0 : r;
}

SIM_EXPORT int pthread_cond_clockwait(pthread_cond_t *restrict c,
				      pthread_mutex_t *restrict m, clockid_t clock,
				      const struct timespec *restrict until)
{
	if (!sim_takes_part())
		return SIM_REAL(pthread_cond_clockwait)(c, m, clock, until);
	return wait_cond(c, m, sim_when(clock == CLOCK_REALTIME, sim_ns(until)));
}

SIM_EXPORT int pthread_cond_signal(pthread_cond_t *c)
{
	int r = SIM_REAL_COND(pthread_cond_signal)(c);

	if (sim_takes_part())
		sim_wake(c, false);
	return r;
}

SIM_EXPORT int pthread_cond_broadcast(pthread_cond_t *c)
{
	int r = SIM_REAL_COND(pthread_cond_broadcast)(c);

	if (sim_takes_part())
		sim_wake(c, true);
	return r;
}

/* ---- semaphores ------------------------------------------------------------------------ */

static int wait_semaphore(sem_t *s, uint64_t until_ns)
{
	while (SIM_REAL(sem_trywait)(s) != 0) {
		if (errno != EAGAIN && errno != EINTR)
			return -1;
		if (sim_clock_now() >= until_ns) {
			errno = ETIMEDOUT;
			return -1;
		}
		sim_wait_on(s, soon() < until_ns ? soon() : until_ns);
	}
	return 0;
}

SIM_EXPORT int sem_wait(sem_t *s)
{
	return sim_takes_part() ? wait_semaphore(s, SIM_NEVER) : SIM_REAL(sem_wait)(s);
}

SIM_EXPORT int sem_timedwait(sem_t *restrict s, const struct timespec *restrict until)
{
	if (!sim_takes_part())
		return SIM_REAL(sem_timedwait)(s, until);
	return wait_semaphore(s, sim_when(true, sim_ns(until)));
}

SIM_EXPORT int sem_post(sem_t *s)
{
	int r = SIM_REAL(sem_post)(s);

	if (sim_takes_part())
		sim_wake(s, false);
	return r;
}
