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
 * Shape:   header 4 KiB with 16 device lines | mem[16][1024] | vtime[16][1024] | 1024 slots | refusals
 * Locks:   kernel-owned OFD write locks on bytes of the file, beyond any content meaning:
 *            byte s          slot s belongs to the process whose mapping's description holds it
 *            byte 1024 + d   slow path of device d
 *          The lock on a slot lives with the mapping (the descriptor is closed at once), so it ends
 *          with munmap, exec, exit or SIGKILL, and nothing else.
 * Writers: mem, vtime and the slot by the owner of the slot's lock only (its threads, atomically);
 *          a slot whose lock is free may be zeroed by whoever takes that lock. Device lines and
 *          refusals by all.
 * Trust:   a process of the slice may scribble over all of it; it harms its own slice only. No bit
 *          pattern crashes or hangs a reader; sums saturate.
 */
#define TR_STATE_MAGIC 0x31535254u /* "TRS1", little endian */
#define TR_STATE_ABI   1u

#define TR_REFUSALS 64u

struct tr_state_device {
	/* Of the UUID (tr_uuid_key); 0: row unused. Set once, before the first reservation there. */
	_Atomic uint64_t key;
	_Atomic uint64_t tat_ns, charged_ns, gate_waits; /* pacing */
	_Atomic uint64_t peak_bytes; /* highest sum any reservation saw; a metric */
	_Atomic uint64_t refused;    /* reservations refused; a metric */
	uint8_t reserved[16];
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
	uint8_t reserved[16];
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
	uint8_t reserved2[2944];
	struct tr_state_mem mem[TR_DEVICES_MAX][TR_SLOTS_MAX];
	_Atomic uint64_t vtime_ns[TR_DEVICES_MAX][TR_SLOTS_MAX]; /* pacing */
	struct tr_state_slot slots[TR_SLOTS_MAX];
	struct tr_state_refusal
		refusals[TR_REFUSALS]; /* a ring; the host makes events of it */
};

_Static_assert(sizeof(struct tr_state_device) == 64, "state ABI");
_Static_assert(sizeof(struct tr_state_slot) == 64, "state ABI");
_Static_assert(offsetof(struct tr_state, devices) == 128, "state ABI");
_Static_assert(offsetof(struct tr_state, mem) == 4096, "state ABI");
_Static_assert(offsetof(struct tr_state, vtime_ns) == 266240, "state ABI");
_Static_assert(offsetof(struct tr_state, slots) == 397312, "state ABI");
_Static_assert(offsetof(struct tr_state, refusals) == 462848, "state ABI");
_Static_assert(sizeof(struct tr_state) == 464896, "state ABI");

#endif /* TR_STATE_H */
