/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_KERNEL_TIMELINE_MEMORY_H
#define SIM_KERNEL_TIMELINE_MEMORY_H

#include "engine_memory.h"
#include "timeline.h"

/*
 * With a virtual clock all that time consists of lies in one file that every process of the machine maps at
 * the same address: the clock, the engine, and the clients' regions. Pointers in it are good everywhere,
 * so that a thread which blocks passes the token on by itself (timeline_pass.c).
 */
#define TIMELINE_BASE         ((char *)0x200000000000) /* far from all that systems use */
#define TIMELINE_BELL         4096u
#define TIMELINE_BOOKS        65536u
#define TIMELINE_HEAP         (1ull << 20)
#define TIMELINE_REGIONS      (1ull << 36)
#define TIMELINE_REGION_BYTES (32ull << 20)
#define TIMELINE_BYTES \
	(TIMELINE_REGIONS + (uint64_t)WIRE_CLOCK_CLIENTS * TIMELINE_REGION_BYTES)

struct timeline_books {
	struct timeline timeline;
	struct engine_memory heap;
};

_Static_assert(sizeof(struct wire_clock) <= TIMELINE_BELL, "the clock has its page");
_Static_assert(TIMELINE_BELL + sizeof(struct wire_bell) <= TIMELINE_BOOKS,
	       "so has the bell");
_Static_assert(TIMELINE_BOOKS + sizeof(struct timeline_books) <= TIMELINE_HEAP,
	       "before the heap");
_Static_assert(sizeof(struct wire_time) <= TIMELINE_REGION_BYTES, "a region has its place");

#endif /* SIM_KERNEL_TIMELINE_MEMORY_H */
