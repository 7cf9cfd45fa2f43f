/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RM_TIMECLIENT_H
#define SIM_RM_TIMECLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "rm/timewire.h"

/* Inside the client library: the half of time. */

/* What this process knows of a channel's slot. Tickets here count on over the slot's life. */
struct rm_slot {
	_Atomic uint64_t id; /* 0: never used */
	_Atomic uint64_t last;
	uint64_t base; /* of its present channel */
};

/* A stamp's generations likewise. */
struct rm_stamp_slot {
	uint64_t base;
	uint64_t last; /* submitted */
};

struct rm_timeline {
	_Atomic pid_t pid; /* the process that opened it; 0: none */
	bool is_virtual;
	uint64_t key; /* of the region */
	const struct wire_clock *clock;
	struct wire_bell *bell;
	struct wire_time *region;
	struct rm_slot *slots;
	struct rm_stamp_slot *stamps;
};
extern struct rm_timeline rm_timeline;

/* Between two looks at a word that another processor is about to change. */
static inline void rm_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" ::: "memory");
#endif
}

/* 0, or why the functions of time do not work now. */
int rm_timeline_check(void);
/* Wakes the engine's thread if it sleeps at LEVEL or deeper. After a full fence. */
#define RM_BELL_FOR_WAITERS 1u
#define RM_BELL_FOR_ALL     2u
void rm_timeline_ring(uint32_t level);
/* The lock around ring and slots. Nothing blocks under it. */
void rm_timeline_lock(void);
void rm_timeline_unlock(void);
/* Places W in the ring, under the lock; -EAGAIN when it is full. */
int rm_timeline_push(const struct wire_work *w);
/* Until there is room, not under the lock. */
int rm_timeline_await_room(void);
/* Sleeps on a word of the region while it is SEEN, for a while at most. -EIO when the machine is
 * gone. */
int rm_timeline_sleep(_Atomic uint32_t *word, uint32_t seen);
/* The machine's memory of time, mapped AT; -ENOTSUP: it has none. */
int rm_time_memory(void *at, size_t bytes);
void rm_time_memory_leave(void *at, size_t bytes);
/* Somebody polls for a completion that has not come. */
void rm_timeline_looked(void);

/* Places of the region of one kind, channels or stamps: those that were closed are taken again once
 * their work is done. Under the lock. */
struct rm_places {
	uint32_t next;    /* never used */
	uint32_t *closed; /* they may have pending work */
	uint32_t n, room;
};
void rm_places_reset(struct rm_places *p);
/* One that is free, or -1 when all LIMIT are in use. */
int64_t rm_places_take(struct rm_places *p, uint32_t limit,
		       bool (*is_drained)(uint32_t place));
/* Closed. Without memory to remember it, it is used up. */
void rm_places_give(struct rm_places *p, uint32_t place);

void rm_channels_reset(void);
void rm_stamps_reset(void);
/* The generation as the region knows it; remembers it as submitted. Under the lock. */
uint64_t rm_stamp_use(uint32_t stamp, uint64_t generation, bool is_written);

/* client.c */
pid_t rm_own_pid(void);
/* The connection has ended; costs a system call. */
bool rm_is_lost(void);

/* ---- what a preloaded libsimtime.so defines ------------------------------------------- */

struct sim_clock_request {
	uint64_t until_ns; /* WIRE_NOBODY: none */
	uint64_t client, channel, ticket;
	uint64_t generation;
	uint32_t stamp;
};

/* True when this process takes part in the virtual clock of the machine in DIR. */
bool sim_clock_is_active(const char *dir) __attribute__((weak, visibility("default")));
uint64_t sim_clock_now(void) __attribute__((weak, visibility("default")));
void sim_clock_spend(uint64_t ns) __attribute__((weak, visibility("default")));
/* Blocks the calling thread until the request is met; -EIO when the machine is gone. */
int sim_clock_wait(const struct sim_clock_request *request)
	__attribute__((weak, visibility("default")));

#endif /* SIM_RM_TIMECLIENT_H */
