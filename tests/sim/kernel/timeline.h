/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_KERNEL_TIMELINE_H
#define SIM_KERNEL_TIMELINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine.h"
#include "rm/process.h"
#include "rm/timewire.h"

/*
 * The thread that owns the engine, between the clients' memory (rm/timewire.h) and the engine.
 * Everything here is under timeline->lock; the thread lets go of it only to sleep.
 */

/* What the kernel process knows of a thread that takes part (timeline_virtual.c). */
struct timeline_thread {
	bool is_ready;     /* its request is met, it waits for its turn */
	uint64_t ready_ns; /* since when */
};

/* What a client has the machine write down (timeline_record.c). */
struct timeline_recording {
	uint64_t next_ns, every_ns;
	uint32_t left; /* 0: none, or no more */
	bool is_full;
	struct rm_record *rows;
	size_t first, count, room; /* rows[first] is the oldest */
};

struct timeline_client {
	uint64_t key; /* the engine's name for it; index into timeline->clients, plus 1 */
	pid_t host_pid, own_pid;
	int region_fd;
	struct wire_time *region;
	uint32_t head;
	bool is_broken;
	uint64_t *bases; /* of the channel in each slot */
	struct timeline_thread *threads;
	uint32_t thread_room;
	struct timeline_recording recording;
	bool took_part; /* in the virtual clock */
	/* Who goes first of those that do something at the same time: neither depends on how
	 * fast processes started. */
	uint32_t rank;
	uint64_t order;
};

/* The virtual clock's: who holds the token, and what it waits for in real time. */
struct timeline_virtual {
	uint64_t holder_key; /* 0: the token is free */
	uint32_t holder_thread;
	unsigned asleep_looks, looks;
	uint64_t grants;
	uint64_t holder_ticks;   /* of its processor's time, at the first look */
	uint64_t hold, came;     /* programs that nobody who takes part started */
	struct rm_patience held; /* since the last of them */
	uint64_t held_real_ns;   /* when that was looked at */
	uint64_t pause_ns;       /* while the clock stands */
	uint64_t pause_real_ns;  /* when it ends; 0: none has begun */
	bool looks_now;          /* ... it has ended: in this round all look */
	bool told_deadlock, told_hold;
	bool may_pass; /* the machine's process only watches the holder: who blocks passes on */
	unsigned expected; /* processes that shall come */
};

struct timeline {
	pthread_mutex_t lock;
	bool runs, is_virtual;
	bool is_torn; /* timeline_lock() */
	int clock_fd, bell_fd;
	int memory_fd;    /* of timeline_memory.h; -1: there is none */
	bool is_in_place; /* ... and it is where everybody looks for it */
	struct wire_clock *clock;
	struct wire_bell *bell;
	struct engine *engine;
	struct timeline_client **clients; /* by key; NULL: gone */
	uint64_t client_count, client_room;
	struct timeline_client **live,
		**pending; /* those that are there; room for as many */
	uint64_t live_count;
	bool drained_any; /* in this round */
	uint32_t rings;   /* of the bell, when the round began */
	uint32_t device_count;
	struct timeline_virtual v;
	uint64_t record_ns; /* the first of all recordings; UINT64_MAX: there is none */
};
extern struct timeline *timeline;

static inline struct timeline_client *timeline_client_of(uint64_t key)
{
	return key && key <= timeline->client_count ? timeline->clients[key - 1] : NULL;
}

/* What the engine tells goes to the clients. */
extern const struct engine_hears timeline_hears;
/* False: a process died while it held the lock, and what it guards may be in pieces. Then, in the
 * machine's process, timeline_torn() ends the machine. */
bool timeline_lock(void);
extern void (*timeline_torn)(void);
void timeline_unlock(void);

/* On a real clock: everything that has happened until now. */
void timeline_catch_up(void);
/* Takes over what clients wrote until NOW, in order of time. Returns when the first of the rest takes
 * effect; UINT64_MAX: there is none. */
uint64_t timeline_drain(uint64_t now_ns);
/* Something was written that takes effect until then. */
bool timeline_is_written(uint64_t until_ns);
/* Sleeps, without the lock, until the bell or UNTIL by the real clock (UINT64_MAX: no time),
 * unless it rang since the round began. LEVEL: rm/timeclient.h. */
void timeline_sleep(uint32_t level, uint64_t until_ns);
uint64_t timeline_real_ns(void);
void timeline_wake_word(_Atomic uint32_t *word);

/* Whether A comes before B at the same time. */
static inline bool timeline_is_earlier(const struct timeline_client *a,
				       const struct timeline_client *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->order < b->order;
}

/* timeline_record.c */
/* The engine's time goes on to TO; what shall be written down on the way is. */
void timeline_advance(uint64_t to_ns);
void timeline_record_drop(struct timeline_client *c);

/* timeline_expect.c */
/* PID will take part, as ORDER; 0: as the next one. */
void timeline_expect(pid_t pid, uint64_t order);
/* Somebody is still waited for. */
bool timeline_is_expecting(void);
/* Of a process that comes. */
uint64_t timeline_order_of(pid_t pid);
/* Nobody who takes part started it. */
bool timeline_is_started_outside(const struct timeline_client *c);

/* timeline_pass.c */
#define TIMELINE_PAUSE_MIN_NS 1000000u
enum timeline_pass {
	TIMELINE_GRANTED,
	TIMELINE_RUNS,    /* somebody has the token */
	TIMELINE_EXPECTS, /* processes shall come */
	TIMELINE_IS_NEW,  /* one has come, and is not known yet */
	TIMELINE_HELD,    /* too few have come */
	TIMELINE_STANDS,  /* nothing is to come */
};
struct timeline_found {
	struct timeline_client *client; /* NULL: nobody is ready */
	uint32_t thread;
	uint64_t next_ns; /* when the first of the others becomes ready by itself */
	uint64_t look_ns; /* when the first looks, if the clock comes by there */
	unsigned blocked, away, looking, waiting; /* WAITING: for what devices do */
	struct wire_thread *granted;              /* to be woken, when the lock is open */
};
/* The token goes to the next, and the clock to when that is. */
enum timeline_pass timeline_pass(struct timeline_found *f);
/* The thread with the token, or NULL once it has given way. */
struct wire_thread *timeline_holder(struct timeline_client **c);

/* timeline_virtual.c */
void timeline_virtual_round(void);
void timeline_virtual_start(void);
void timeline_virtual_run(void); /* the calling thread is one of those that run on it */
/* C, unlisted already, ends; its process goes on (IS_ALIVE), into another image perhaps. */
void timeline_virtual_drop(struct timeline_client *c, bool is_alive);
#endif /* SIM_KERNEL_TIMELINE_H */
