/* SPDX-License-Identifier: Apache-2.0 */
#include "keys.h"

#include <string.h>

#define COLLECTIVE    (UINT64_C(1) << 38)
#define SUSPECT       (UINT64_C(1) << 34) /* the last sample was far above the cost */
#define SAMPLES_SHIFT 35
#define SAMPLES_MAX   7u
#define ODD_NS        UINT64_C(5000)
#define LONG_NS       UINT64_C(5000000)   /* such samples are few */
#define RARE_NS       UINT64_C(150000000) /* and such fewer */
#define FIRST_ODD     4u /* times a later one: the first loaded something */

_Atomic uint64_t tr_keys[TR_KEYS];

static uint64_t make(uint64_t key, bool is_collective, unsigned samples, uint64_t cost_ns)
{
	uint64_t word = tr_key_tag(key) << 40 | (uint64_t)samples << SAMPLES_SHIFT;

	if (cost_ns > TR_KEY_COST_MAX)
		cost_ns = TR_KEY_COST_MAX;
	/* An empty place is 0, so every word of a key is not. */
	word |= cost_ns ? cost_ns : 1;
	if (is_collective)
		word |= COLLECTIVE;
	else if (samples >= TR_KEY_SETTLED)
		word |= TR_KEY_READY;
	return word;
}

static bool starts_with(const char *name, const char *with)
{
	return strncmp(name, with, strlen(with)) == 0;
}

/* Peers of a collective spin until all of them run: to hold one back burns the others'
 * quota, so these are charged and never wait. */
bool tr_is_collective(CUfunction function)
{
	const char *name = NULL;
	CUkernel kernel = (CUkernel)(void *)function;

	if (!function)
		return false;
	if ((!tr_real.cuFuncGetName ||
	     tr_real.cuFuncGetName(&name, function) != CUDA_SUCCESS) &&
	    (!tr_real.cuKernelGetName ||
	     tr_real.cuKernelGetName(&name, kernel) != CUDA_SUCCESS))
		return false;
	return name && (starts_with(name, "ncclDevKernel") ||
			starts_with(name, "ncclKernel") || starts_with(name, "nvshmem"));
}

static _Atomic uint64_t *place_of(uint64_t key, uint64_t *word)
{
	for (unsigned i = 0; i < 2; i++) {
		_Atomic uint64_t *place = &tr_keys[tr_key_place(key) ^ i];

		*word = atomic_load_explicit(place, memory_order_relaxed);
		if (*word && *word >> 40 == tr_key_tag(key))
			return place;
	}
	return 0;
}

static unsigned samples_of(uint64_t word)
{
	return word >> SAMPLES_SHIFT & SAMPLES_MAX;
}

struct tr_key tr_key_find(uint64_t key)
{
	struct tr_key out = { 0 };
	uint64_t word;

	if (!place_of(key, &word))
		return out;
	out.is_known = true;
	out.is_collective = word & COLLECTIVE;
	out.samples = samples_of(word);
	out.cost_ns = out.samples ? word & TR_KEY_COST_MAX : 0;
	return out;
}

void tr_key_meet(uint64_t key, bool is_collective)
{
	_Atomic uint64_t *first = &tr_keys[tr_key_place(key)],
			 *second = &tr_keys[tr_key_place(key) ^ 1];
	uint64_t word = make(key, is_collective, 0, 0), none = 0;

	if (!atomic_compare_exchange_strong(first, &none, word)) {
		none = 0;
		if (!atomic_compare_exchange_strong(second, &none, word))
			atomic_store(key >> 27 & 1 ? first : second, word);
	}
}

/* A sample counts as one of so many. One far below what a long kernel seems to cost tells the most: no
 * span is shorter than its kernel, and others' turns only lengthen it. */
static unsigned weight_of(enum tr_learn how, uint64_t cost_ns, uint64_t ns)
{
	if (how == TR_LEARN_SLOW)
		return cost_ns > RARE_NS && ns < cost_ns - cost_ns / 4 ? 2 : 64;
	if (how == TR_LEARN_FAST || cost_ns > RARE_NS)
		return 8;
	return cost_ns > LONG_NS ? 16 : 64;
}

void tr_key_learn(uint64_t key, uint64_t ns, enum tr_learn how)
{
	_Atomic uint64_t *place;
	uint64_t word, cost;
	unsigned samples, weight;

	place = place_of(key, &word);
	if (!place)
		return;
	samples = samples_of(word);
	cost = word & TR_KEY_COST_MAX;
	weight = weight_of(how, cost, ns);
	if (ns > TR_KEY_COST_MAX)
		ns = TR_KEY_COST_MAX;
	/* Others had the GPU meanwhile; or it takes longer now, and will do so again. */
	if (how != TR_LEARN_MEAN && samples >= TR_KEY_SETTLED &&
	    ns > cost + cost / 2 + ODD_NS) {
		if (!(word & SUSPECT)) {
			(void)atomic_compare_exchange_strong(place, &word, word | SUSPECT);
			return;
		}
		ns = cost + cost / 2 + ODD_NS;
	}
	if (!samples || (samples < TR_KEY_SETTLED && cost / FIRST_ODD > ns))
		cost = ns;
	else if (samples < SAMPLES_MAX) /* the plain mean, then one that forgets */
		cost = (cost * samples + ns) / (samples + 1);
	else
		cost = (cost * (weight - 1) + ns) / weight;
	if (samples < SAMPLES_MAX)
		samples++;
	/* Another thread's sample may have come between: then this one is not learned. */
	(void)atomic_compare_exchange_strong(place, &word,
					     make(key, word & COLLECTIVE, samples, cost));
}

void tr_key_doubt(uint64_t key)
{
	_Atomic uint64_t *place;
	uint64_t word;

	place = place_of(key, &word);
	if (place && samples_of(word) > 1)
		(void)atomic_compare_exchange_strong(
			place, &word,
			make(key, word & COLLECTIVE, 1, word & TR_KEY_COST_MAX));
}

void tr_key_forget(uint64_t key)
{
	_Atomic uint64_t *place;
	uint64_t word;

	place = place_of(key, &word);
	if (place)
		(void)atomic_compare_exchange_strong(place, &word, 0);
}

void tr_keys_forget(void)
{
	for (unsigned i = 0; i < TR_KEYS; i++)
		if (atomic_load_explicit(&tr_keys[i], memory_order_relaxed))
			atomic_store_explicit(&tr_keys[i], 0, memory_order_relaxed);
}
