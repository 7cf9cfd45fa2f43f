/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_STATE_H
#define TR_STATE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "tranche/limits.h"

/*
 * The state file: what a slice uses. One per slice, mapped read-write by its processes, read with
 * pread() by the host. No totals are stored: the sum of a device's row is the truth, so there is
 * nothing a crash could unbalance. Limits are not here (tranche/policy.h).
 *
 * Shape:   header 4 KiB with 16 device lines and 16 pacing lines | mem[16][1024] | 1536 usage rows |
 *          1024 slots | refusals | covered GPU time [16][768]
 * Locks:   kernel-owned OFD write locks on bytes of the file, beyond any content meaning:
 *            byte s          slot s belongs to the process whose mapping's description holds it
 *            byte 1024 + d   slow path of device d
 *          The lock on a slot lives with the mapping (the descriptor is closed at once), so it ends
 *          with munmap, exec, exit or SIGKILL, and nothing else.
 * Writers: mem, the slot and its usage rows by the owner of the slot's lock only (its threads,
 *          atomically); a slot whose lock is free may be zeroed by whoever takes that lock. Device
 *          lines, pacing lines, refusals and covered time by all.
 * Trust:   a process of the slice may scribble over all of it; it harms its own slice only. No bit
 *          pattern crashes or hangs a reader; sums saturate.
 */
#define TR_STATE_MAGIC 0x31535254u /* "TRS1", little endian */
#define TR_STATE_ABI   4u

#define TR_REFUSALS 64u

/* GPU time that has been charged: a ring of cells of 2^19 ns, 0.4 s in all
 * (slice/cover.c): time >> 19 in 28 bits | 20 bits of ns somewhere in it | 16 bits, each for
 * 2^15 ns that are taken whole. */
#define TR_COVER_CELLS 768u

#define TR_USAGE_ROWS   1536u
#define TR_USAGE_WINDOW 64u
static inline uint32_t tr_usage_first(uint32_t slot)
{
	return slot * 3u / 2u % TR_USAGE_ROWS;
}

/* How many rows, from the first, the slots below HIGH_WATER (any bits) can hold. */
static inline uint32_t tr_usage_rows(uint32_t high_water)
{
	uint32_t rows = TR_USAGE_WINDOW;

	if (!high_water)
		return 0;
	if (high_water > TR_SLOTS_MAX)
		high_water = TR_SLOTS_MAX;
	rows += tr_usage_first(high_water - 1);
	return rows < TR_USAGE_ROWS ? rows : TR_USAGE_ROWS;
}

struct tr_state_device {
	/* Of the UUID (tr_uuid_key); 0: row unused. Set once, before the first reservation there. */
	_Atomic uint64_t key;
	_Atomic uint64_t peak_bytes; /* highest sum any reservation saw; a metric */
	_Atomic uint64_t refused;    /* reservations refused; a metric */
	uint8_t reserved[40];
};

/* The pacer's words of one device (slice/rate.h); times are CLOCK_MONOTONIC. Two cache lines:
 * the first is written by every flush, the second by every reconcile. */
struct tr_state_pace {
	_Atomic uint64_t
		tat_ns; /* the slice is on its guaranteed rate when it waits till then */
	_Atomic uint64_t
		tat_max_ns; /* the same for rate_max: about when its queued work ends */
	_Atomic uint64_t longest_ns; /* longest submission measured; bounds the debt */
	_Atomic uint64_t
		lost_ns; /* of processes that are gone: who launches next is charged */
	uint8_t reserved[32];
	_Atomic uint64_t
		covered_ns; /* the same as `covered` for what is longer than it: up to here */
	_Atomic uint64_t charged_ns; /* measured GPU time, before gamma */
	_Atomic uint64_t gate_waits; /* launches that had to wait; a metric */
	/* since the slice began, also of processes that are gone; metrics */
	_Atomic uint64_t gpu_ns, launches, throttled_ns;
	_Atomic uint64_t
		parts_ns; /* the sum of all usage rows' gpu_ns, also of those gone */
	_Atomic uint64_t
		spanned_ns; /* from begin to end of what was measured: it cannot have used more */
};

/*
 * What one process used of one device. A process has a row per device it launches on, in the window
 * of TR_USAGE_WINDOW rows that begins at tr_usage_first(slot); it claims a free one by a
 * compare-and-swap of OWNER. Single writer: the owner's process.
 */
struct tr_state_usage {
	_Atomic uint64_t owner;    /* 0: free; else (slot + 1) << 8 | device */
	_Atomic uint64_t gpu_ns;   /* GPU time, gamma applied: its part (slice/parts.h) */
	_Atomic uint64_t told;     /* what it reported, two halves (slice/parts.c) */
	_Atomic uint64_t launches; /* submissions: kernels and graphs */
	_Atomic uint64_t throttled_ns; /* time its threads spent in the gate */
	_Atomic uint64_t vtime_ns;     /* fairness among the processes of the slice */
	_Atomic uint64_t seen_ns;      /* last submission or wait: who is active */
};

struct tr_state_mem {
	_Atomic uint64_t used_bytes;  /* live reservations of the slot's process */
	_Atomic uint64_t floor_bytes; /* its contexts, until overhead is published */
};

struct tr_state_slot {
	_Atomic uint64_t tag; /* new for each occupant; 0: none yet */
	_Atomic uint64_t
		start_ticks; /* field 22 of /proc/self/stat: names the process with pid */
	_Atomic int32_t pid; /* a label, as the process itself knows it: never identity */
	_Atomic uint32_t contexts;     /* live contexts, all devices; a metric */
	_Atomic uint64_t pinned_bytes; /* host memory pinned; a metric */
	char comm[16];
	/* When a submission went that nobody has measured yet, its device in the last 4 bits; 0: none is
	 * under way. */
	_Atomic uint64_t unmeasured;
	uint8_t reserved[8];
};

struct tr_state_refusal {
	_Atomic uint64_t at_ns, asked_bytes, sum_bytes;
	_Atomic uint32_t slot, device;
};

struct tr_state {
	uint32_t magic, abi;
	uint64_t size;   /* of this file, bytes */
	uint64_t serial; /* the policy page's; 0: the environment alone sets limits */
	_Atomic uint32_t
		high_water; /* slots ever taken; only grows. Sums scan up to here */
	_Atomic uint32_t refusal_next;
	_Atomic uint64_t reaped_ns; /* when a dead slot that held memory was last zeroed */
	uint8_t reserved[88];
	struct tr_state_device devices[TR_DEVICES_MAX]; /* row d of the page, or by key */
	struct tr_state_pace pace[TR_DEVICES_MAX];
	uint8_t reserved2[896];
	struct tr_state_mem mem[TR_DEVICES_MAX][TR_SLOTS_MAX];
	struct tr_state_usage usage[TR_USAGE_ROWS];
	struct tr_state_slot slots[TR_SLOTS_MAX];
	struct tr_state_refusal
		refusals[TR_REFUSALS]; /* a ring; the host makes events of it */
	_Atomic uint64_t covered[TR_DEVICES_MAX][TR_COVER_CELLS];
};

_Static_assert(sizeof(struct tr_state_device) == 64, "state ABI");
_Static_assert(sizeof(struct tr_state_pace) == 128, "state ABI");
_Static_assert(sizeof(struct tr_state_usage) == 56, "state ABI");
_Static_assert(sizeof(struct tr_state_slot) == 64, "state ABI");
_Static_assert(TR_DEVICES_MAX == 16, "4 bits of `unmeasured`");
_Static_assert(offsetof(struct tr_state, devices) == 128, "state ABI");
_Static_assert(offsetof(struct tr_state, pace) == 1152, "state ABI");
_Static_assert(offsetof(struct tr_state, mem) == 4096, "state ABI");
_Static_assert(offsetof(struct tr_state, usage) == 266240, "state ABI");
_Static_assert(offsetof(struct tr_state, slots) == 352256, "state ABI");
_Static_assert(offsetof(struct tr_state, refusals) == 417792, "state ABI");
_Static_assert(offsetof(struct tr_state, covered) == 419840, "state ABI");
_Static_assert(sizeof(struct tr_state) == 518144, "state ABI");
_Static_assert(sizeof(struct tr_state) <= (size_t)512 * 1024,
	       "what a slice may take of tmpfs");

#endif /* TR_STATE_H */
