/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_HOOK_KEYS_H
#define TR_HOOK_KEYS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "hook.h"

/*
 * What a submission costs, by kernel and size of its grid (log2 of the blocks), or by
 * executable graph: one word each, so that a reader needs no lock and never sees half of
 * one.
 *
 *   tag 24 | is ready 1 | is collective 1 | samples 3 | is suspect 1 | cost in ns 34
 *
 * Two places for each key; of three that want the same two, one is forgotten and measured
 * again.
 */
#define TR_KEYS         4096u
#define TR_KEY_COST_MAX ((UINT64_C(1) << 34) - 1)
#define TR_KEY_READY    (UINT64_C(1) << 39)
#define TR_KEY_SETTLED  3u /* samples, until then measured at every occasion */

extern _Atomic uint64_t tr_keys[TR_KEYS];

static inline uint64_t tr_key_of(const void *what, uint64_t blocks)
{
	uint64_t log2 = 63u - (unsigned)__builtin_clzll(blocks | 1);

	return ((uint64_t)(uintptr_t)what ^ log2 << 57) * UINT64_C(0x9e3779b97f4a7c15);
}

static inline unsigned tr_key_place(uint64_t key)
{
	return (unsigned)(key >> 52);
}

static inline uint64_t tr_key_tag(uint64_t key)
{
	return key >> 28 & 0xffffff;
}

/* The cost of a key that needs no further look; 0: take the slow way. */
static inline uint64_t tr_key_ready_ns(uint64_t key)
{
	uint64_t want = tr_key_tag(key) << 1 | 1;
	uint64_t word = atomic_load_explicit(&tr_keys[tr_key_place(key)],
					     memory_order_relaxed);

	if (__builtin_expect(word >> 39 != want, 0)) {
		word = atomic_load_explicit(&tr_keys[tr_key_place(key) ^ 1],
					    memory_order_relaxed);
		if (word >> 39 != want)
			return 0;
	}
	return word & TR_KEY_COST_MAX;
}

struct tr_key {
	bool is_known; /* has a word; else it is met for the first time */
	bool is_collective;
	unsigned samples; /* 0: not measured yet */
	uint64_t cost_ns;
};
struct tr_key tr_key_find(uint64_t key);
/* Met for the first time: what its name says. */
void tr_key_meet(uint64_t key, bool is_collective);
bool tr_is_collective(CUfunction function); /* NULL: of a graph, which is none */
enum tr_learn {
	TR_LEARN_FAST,
	TR_LEARN_SLOW, /* others' turns are in the samples: of those without, and of many */
	TR_LEARN_MEAN, /* and the key's own lengths vary: of all */
};
/* One submission of it took NS. The first may have loaded code: it is not believed when it
 * is far from the second. */
void tr_key_learn(uint64_t key, uint64_t ns, enum tr_learn how);
/* What is behind the key was changed: its cost is a guess, until it was measured again. */
void tr_key_doubt(uint64_t key);
/* What was behind the key is gone. */
void tr_key_forget(uint64_t key);
void tr_keys_forget(void);

#endif /* TR_HOOK_KEYS_H */
