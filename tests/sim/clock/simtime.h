/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CLOCK_SIMTIME_H
#define SIM_CLOCK_SIMTIME_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "rm/timeclient.h"

/*
 * libsimtime.so: preloaded, it stands before libc's functions of clocks, sleeps and waits. In
 * a process of a machine with a virtual clock they mean that clock; in any other they are
 * libc's.
 */

#define SIM_EXPORT   __attribute__((visibility("default")))
#define SIM_NEVER    WIRE_NOBODY
#define SIM_EPOCH_NS 1700000000000000000u /* CLOCK_REALTIME at 0 of the virtual clock */
#define SIM_SECOND   1000000000u

/* The function of that name behind ours. */
#define SIM_REAL(name) SIM_REAL_BY(name, sim_real(#name))
#define SIM_REAL_BY(name, look_up)                                                      \
	({                                                                              \
		static _Atomic(void *) sim_found;                                       \
		void *sim_p = atomic_load_explicit(&sim_found, memory_order_relaxed);   \
		if (!sim_p) {                                                           \
			sim_p = look_up;                                                \
			atomic_store_explicit(&sim_found, sim_p, memory_order_relaxed); \
		}                                                                       \
		(__typeof__(&name))(uintptr_t)sim_p;                                    \
	})
void *sim_real(const char *name);
/* Conditions have an ABI from before 2.3.2 on x86-64, which nobody means. */
#if defined(__x86_64__)
#define SIM_COND_VERSION "GLIBC_2.3.2"
#else
#define SIM_COND_VERSION "GLIBC_2.17"
#endif
#define SIM_REAL_COND(name) SIM_REAL_BY(name, dlvsym(RTLD_NEXT, #name, SIM_COND_VERSION))

/* True when the calling thread takes part: it holds the token then (and waited for it, if this
 * is the first it is heard of). */
bool sim_takes_part(void);

/* Blocks until UNTIL (absolute; SIM_NEVER: until woken). 0, -EINTR: a signal came, -EIO. */
int sim_sleep_until(uint64_t until_ns);
/* The same for who waits for something that the clock does not know: besides, returns at LOOK_NS
 * if the clock comes by there, and now and then while it stands. */
int sim_look_until(uint64_t until_ns, uint64_t look_ns);
/* What the calling thread's clocks read, and a little more each time. */
uint64_t sim_read_clock(bool is_wall);
/* When a clock reads NS, by the machine's time. */
uint64_t sim_when(bool is_wall, uint64_t ns);

/* A wait that looks again and again: polls.c. END_NS: SIM_NEVER where it has no end. */
struct sim_slices {
	uint64_t end_ns, slice_ns;
};
struct sim_slices sim_slices_begin(uint64_t timeout_ns);
/* Waits for the next look. 0; -ETIMEDOUT: the end has come; -EINTR: a signal. */
int sim_slices_next(struct sim_slices *s);
/* ... of a call that signals end only where they are asked to. False: errno is EINTR. */
bool sim_slices_go_on(struct sim_slices *s);

/* The thread blocks outside of the clock between these two; errno is kept. */
void sim_leave(void);
void sim_join(void);

/* pass_on.c. Once it is known which machine the process is on. */
void sim_pass_open(void);
/* The calling thread, in SLOT, has blocked: gives the token to whose turn it is, itself perhaps. False: the
 * machine's process must do it. */
bool sim_pass_on(uint32_t slot);

/* A wait that others of this process end, by the address of what they wait for. True when woken,
 * false when UNTIL came. */
bool sim_wait_on(const void *what, uint64_t until_ns);
void sim_wake(const void *what, bool all);

/* A new thread's slot, ready to run; -1: it does not take part. Then in the thread itself. */
int sim_thread_new(void);
void sim_thread_begin(int slot);
void sim_thread_end(void *slot_plus_1);
void sim_thread_forget(int slot);
bool sim_thread_is_live(int slot);
/* What sim_wake() names when the thread in SLOT has ended. */
const void *sim_thread_word(int slot);

/* After fork, in the child: it is another process. */
void sim_forked(void);
/* PID will take part, if it is a process that can: the clock waits for it. */
void sim_expect(int pid);

static inline uint64_t sim_ns(const struct timespec *t)
{
	if (t->tv_sec > (time_t)(INT64_MAX / 1000000000))
		return INT64_MAX;
	return t->tv_sec < 0 ? 0 : (uint64_t)t->tv_sec * SIM_SECOND + (uint64_t)t->tv_nsec;
}

static inline struct timespec sim_timespec(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / SIM_SECOND),
				  .tv_nsec = (long)(ns % SIM_SECOND) };
}

#endif /* SIM_CLOCK_SIMTIME_H */
