/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RM_TIMEWIRE_H
#define SIM_RM_TIMEWIRE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "rm/time.h"

/*
 * The memory in which a client and the machine's engine meet, by WIRE_TIME (`device` says what of
 * it). The engine believes nothing it reads there: a client that scribbles harms itself. With a virtual
 * clock all of it is one file (kernel/timeline_memory.h), which a preloaded libsimtime.so maps as a whole.
 */
enum wire_time_part {
	WIRE_TIME_CLOCK,  /* struct wire_clock, read only for clients */
	WIRE_TIME_BELL,   /* struct wire_bell, written by everybody */
	WIRE_TIME_REGION, /* struct wire_time, this client's own */
	WIRE_TIME_MEMORY, /* -ENOTSUP: there is none, or not at its address */
};

struct wire_clock {
	/* The engine would not look by itself for a while: ring after writing. */
	_Atomic uint32_t is_asleep;
	uint32_t cpu;            /* where all threads of a virtual clock run */
	_Atomic uint64_t now_ns; /* virtual clock */
	/* What clocks read beyond that: all of them, and that of the wall (wraps around). */
	_Atomic uint64_t ahead_ns, wall_ns;
};

#define WIRE_CLOCK_CLIENTS 65536u /* with a virtual clock */

/* RINGS is the word that the engine's thread waits on. With a virtual clock the bits, one for each
 * client by its key, spare a look into the regions of all: who wrote into its ring since, and who
 * has threads that take part. Whoever scribbles here harms the clock. */
struct wire_bell {
	_Atomic uint32_t rings;
	_Atomic uint64_t written[WIRE_CLOCK_CLIENTS / 64],
		takes_part[WIRE_CLOCK_CLIENTS / 64];
};

static inline void wire_bit_set(_Atomic uint64_t *bits, uint64_t key)
{
	const uint64_t bit = UINT64_C(1) << ((key - 1) % 64);

	bits += (key - 1) % WIRE_CLOCK_CLIENTS / 64;
	if (!(atomic_load(bits) & bit))
		atomic_fetch_or(bits, bit);
}

static inline void wire_bit_clear(_Atomic uint64_t *bits, uint64_t key)
{
	atomic_fetch_and(bits + (key - 1) % WIRE_CLOCK_CLIENTS / 64,
			 ~(UINT64_C(1) << ((key - 1) % 64)));
}

/* Operations in the ring beside enum rm_work_kind. */
enum wire_time_op {
	WIRE_CHANNEL_OPEN = 64, /* device, sms: priority, ns: tickets of the slot so far */
	WIRE_CHANNEL_CLOSE,
};

#define WIRE_RING        4096u  /* entries */
#define WIRE_CHANNELS    65536u /* the low bits of a channel's id are its slot */
#define WIRE_STAMPS      (1u << 20)
#define WIRE_THREADS     512u
#define WIRE_WORK_MAX_NS RM_WORK_MAX_NS
#define WIRE_NOBODY      UINT64_MAX

struct wire_work {
	uint32_t op, sms;
	uint64_t at_ns; /* when it was submitted; the engine may come later */
	uint64_t ns;
	uint64_t channel;
	uint64_t other;      /* RM_WORK_WAIT_CHANNEL */
	uint64_t generation; /* of the stamp, or ticket of the other channel */
	uint32_t stamp, device;
	uint64_t reserved;
};

/* Tickets go on when a slot gets its next channel. WANT: the lowest that somebody waits for. */
struct wire_channel {
	_Atomic uint64_t done;
	_Atomic uint64_t want;
};

/* SEQ is odd while the engine writes; it is what waiters sleep on. */
struct wire_stamp {
	_Atomic uint32_t seq;
	_Atomic uint32_t waiters;
	_Atomic uint64_t generation;
	_Atomic uint64_t ns;
};

/* A thread that takes part in the virtual clock. */
enum wire_thread_state {
	WIRE_THREAD_FREE,
	WIRE_THREAD_RUNS,    /* holds the token */
	WIRE_THREAD_BLOCKED, /* until its request is met */
	WIRE_THREAD_AWAY,    /* blocked outside of the clock, which does not wait for it */
};

/*
 * The request of a blocked thread: until a time, a ticket or a generation, whichever comes first,
 * and not before AFTER_NS. Setting until_ns to 0 wakes it.
 */
struct wire_thread {
	_Atomic uint32_t state;
	uint32_t rank; /* lower runs first */
	int32_t tid;   /* 0: not known yet */
	uint32_t stamp;
	_Atomic uint64_t until_ns; /* WIRE_NOBODY: no time */
	uint64_t after_ns;
	uint64_t client; /* key of the region with that channel or stamp; 0: none */
	uint64_t channel, ticket; /* as in the slot; ticket 0: none */
	uint64_t generation;      /* of stamp; 0: none */
	uint64_t sequence;        /* the order in which the process' threads blocked */
	/* It waits for something that the clock does not know, and looks for it: then, but the
	 * clock does not move for that. While it stands, it looks every few real milliseconds.
	 * WIRE_NOBODY: it does not. */
	uint64_t look_ns;
};

struct wire_time {
	_Atomic uint32_t tail; /* written by the client; counts on over the ring's end */
	_Atomic uint32_t is_looked_at; /* somebody polls for a completion */
	_Atomic uint32_t waiters;      /* threads asleep until one */
	_Atomic uint32_t thread_high;  /* threads[] ever used */
	_Atomic uint32_t calls;        /* threads that wait for an answer of the machine */
	uint32_t reserved0[11];
	_Atomic uint32_t head;       /* written by the engine */
	_Atomic uint32_t wants_room; /* somebody waits for the head to move */
	_Atomic uint32_t is_broken;  /* the engine found nonsense: the device is lost */
	uint32_t reserved1[13];
	struct wire_thread
		threads[WIRE_THREADS]; /* in the first page: every step looks at them */
	struct wire_work ring[WIRE_RING];
	struct wire_channel channels[WIRE_CHANNELS];
	struct wire_stamp stamps[WIRE_STAMPS];
};

#endif /* SIM_RM_TIMEWIRE_H */
