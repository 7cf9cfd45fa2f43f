/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_POLICY_H
#define TR_POLICY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "tranche/limits.h"

/*
 * The policy page: what a slice may use. Written by the host side only (keeper, agent, `tranche
 * set`), mapped read-only by every process of the slice; changing a word resizes the slice while
 * its programs run.
 *
 * Shape:   header 512 B | 16 devices x 256 B | tag per slot | overhead [16][1024] |
 *          context floors that the overhead covers [16][1024]
 * Writers: one at a time, under an OFD write lock on byte 0 of the file; but gamma, leases, blocks
 *          and bypasses are written by the machine's one keeper alone, without it. Words that change are
 *          atomic; several that belong together change between two steps of `sequence`
 *          (odd while writing). Everything above `sequence` is fixed when the page is made.
 * Readers: take limits word by word (each is right by itself), and groups of words by `sequence`
 *          with a bounded number of tries. No bit pattern can crash or hang a reader.
 * Units:   memory in bytes, time in nanoseconds of CLOCK_MONOTONIC, shares in 2^-32.
 */
#define TR_POLICY_MAGIC 0x31505254u /* "TRP1", little endian */
#define TR_POLICY_ABI   1u          /* bumped when any offset below moves */

#define TR_POLICY_ARMED 1u /* the slice is counted and paced in time; fixed at creation */

#define TR_RATE_ALL    (UINT64_C(1) << 32)
#define TR_WINDOW_NS   UINT64_C(50000000)
#define TR_DEBT_MAX_NS UINT64_C(10000000000)
#define TR_AHEAD_NS \
	UINT64_C(20000000) /* work queued ahead while borrowing: it cannot be recalled */

enum tr_priority { /* HAMi: 0 is high, 1 is normal */
		   TR_PRIORITY_NORMAL,
		   TR_PRIORITY_HIGH,
		   TR_PRIORITY_LOW,
};

enum tr_bypass { /* what follows when work goes around the hook */
		 TR_BYPASS_TOLD,
		 TR_BYPASS_LOWERED, /* charged work counts for what was not, up to fourfold */
};

struct tr_policy_device {
	char uuid[48];                /* "GPU-8-4-4-4-12", padded with NUL; fixed */
	_Atomic uint64_t limit_bytes; /* TR_UNLIMITED: none; 0: nothing */
	_Atomic uint64_t
		context_floor_bytes;   /* counts per context until overhead is published */
	_Atomic uint64_t rate_q32;     /* guaranteed share of time; 2^32, 0: all of it */
	_Atomic uint64_t rate_max_q32; /* share while others are idle; 0: as rate_q32 */
	_Atomic uint64_t window_ns;    /* how far a launch may run ahead; 0: TR_WINDOW_NS */
	_Atomic uint64_t debt_max_ns;  /* what is owed at most; 0: TR_DEBT_MAX_NS */
	_Atomic uint64_t gamma_q16;    /* NVML truth / charged time; 0: 1.0 */
	_Atomic uint64_t lease_until_ns; /* till then rate_max holds: borrowing */
	_Atomic uint64_t
		block_until_ns; /* till then launches wait: a higher priority is active */
	_Atomic uint32_t mode;  /* enum tr_bypass */
	_Atomic uint32_t priority; /* enum tr_priority */
	uint64_t total_bytes; /* memory of the card, for percentages; 0: unknown; fixed */
	/* Times the GPU was seen working for the slice uncharged, three seconds each; the keeper's. */
	_Atomic uint64_t bypass_seen;
	/* What NVML saw the slice's processes use of the GPU's time, armed or not, and when it was
	 * last asked (0: it does not tell); the keeper's. */
	_Atomic uint64_t nvml_busy_ns, nvml_seen_ns;
	/* Processes that take turns on the device while others than the slice's work there, or 0: spans
	 * hold the turns of all; the keeper's. */
	_Atomic uint32_t sharers;
	/* Where they do: NVML saw more than was charged, so kernels vary; the keeper's. */
	_Atomic uint32_t is_varied;
	uint8_t reserved[88];
};

struct tr_policy {
	uint32_t magic, abi;
	uint64_t size;         /* of this file, bytes */
	uint64_t serial;       /* ties page and state file of one slice together; never 0 */
	uint32_t device_count; /* rows of `devices` in use */
	uint32_t flags;        /* TR_POLICY_ARMED */
	char name[64];         /* the slice's name, NUL terminated */
	char state_path[256];  /* where its processes find the state file */
	_Atomic uint64_t sequence;
	_Atomic uint64_t keeper_seen_ns; /* last sweep of a keeper; 0: never */
	_Atomic uint32_t keeper_pid;
	uint8_t reserved[140];
	struct tr_policy_device devices[TR_DEVICES_MAX];
	/* What NVML shows for the process in a slot beyond its ledger. Valid for device d while the
	 * slot's own tag (tranche/state.h) equals overhead_tag and the bytes are not 0; it stands for
	 * the context floors that were counted when it was measured (overhead_floor_bytes), and
	 * floors beyond those count on top. Until then the floors count alone. A new occupant's tag
	 * is written after the last one's bytes were zeroed; bytes before the floors they cover. */
	_Atomic uint64_t overhead_tag[TR_SLOTS_MAX];
	_Atomic uint64_t overhead_bytes[TR_DEVICES_MAX][TR_SLOTS_MAX];
	_Atomic uint64_t overhead_floor_bytes[TR_DEVICES_MAX][TR_SLOTS_MAX];
};

_Static_assert(sizeof(struct tr_policy_device) == 256, "policy ABI");
_Static_assert(offsetof(struct tr_policy, name) == 32, "policy ABI");
_Static_assert(offsetof(struct tr_policy, sequence) == 352, "policy ABI");
_Static_assert(offsetof(struct tr_policy, devices) == 512, "policy ABI");
_Static_assert(offsetof(struct tr_policy, overhead_tag) == 4608, "policy ABI");
_Static_assert(offsetof(struct tr_policy, overhead_bytes) == 12800, "policy ABI");
_Static_assert(sizeof(struct tr_policy) == 274944, "policy ABI");

#endif /* TR_POLICY_H */
