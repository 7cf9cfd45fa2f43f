/* SPDX-License-Identifier: Apache-2.0 */
#include "slice/ledger.h"

#include <errno.h>
#include <fcntl.h>

#include "rt/cleanup.h"
#include "rt/file.h"
#include "rt/sat.h"

#define SLOW_LOCK_MS  50
#define SLOW_TRIES    16
#define SLOW_PAUSE_NS 500000u

static _Atomic uint64_t *word_of(const struct tr_ledger *ledger, tr_dev dev,
				 enum tr_word word)
{
	struct tr_state_mem *mem = &ledger->state->mem[dev.at][ledger->slot.at];

	return word == TR_USED ? &mem->used_bytes : &mem->floor_bytes;
}

uint64_t tr_overhead(const struct tr_policy *policy, const struct tr_state *state,
		     unsigned d, unsigned s)
{
	uint64_t floor_bytes = atomic_load(&state->mem[d][s].floor_bytes);
	uint64_t tag, covered, bytes;

	if (!policy)
		return floor_bytes;
	tag = atomic_load(&policy->overhead_tag[s]);
	if (!tag || tag != atomic_load(&state->slots[s].tag))
		return floor_bytes;
	/* In this order: who sees what is covered sees the bytes that cover it. */
	covered = atomic_load(&policy->overhead_floor_bytes[d][s]);
	bytes = atomic_load(&policy->overhead_bytes[d][s]);
	return bytes ? tr_sat_add(bytes, tr_sat_sub(floor_bytes, covered)) : floor_bytes;
}

uint64_t tr_ledger_sum(const struct tr_ledger *ledger, tr_dev dev)
{
	const struct tr_state_mem *row = ledger->state->mem[dev.at];
	uint32_t slots = atomic_load(&ledger->state->high_water);
	uint64_t sum = 0;

	if (slots > TR_SLOTS_MAX)
		slots = TR_SLOTS_MAX;
	for (unsigned s = 0; s < slots; s++) {
		sum = tr_sat_add(sum, atomic_load(&row[s].used_bytes));
		sum = tr_sat_add(sum,
				 tr_overhead(ledger->policy, ledger->state, dev.at, s));
	}
	return sum;
}

static void raise_peak(struct tr_state *state, tr_dev dev, uint64_t sum)
{
	_Atomic uint64_t *peak = &state->devices[dev.at].peak_bytes;
	uint64_t seen = atomic_load_explicit(peak, memory_order_relaxed);

	while (seen < sum && !atomic_compare_exchange_weak(peak, &seen, sum))
		;
}

int tr_ledger_reserve(const struct tr_ledger *ledger, tr_dev dev, enum tr_word word,
		      uint64_t bytes, uint64_t limit)
{
	_Atomic uint64_t *mine = word_of(ledger, dev, word);
	uint64_t sum;

	if (bytes > limit) /* can never fit; also keeps the add from wrapping */
		return -ENOMEM;
	/* Reserve first, look second. Of two racers for the last byte at most one can see a
	 * sum that leaves the other out, so both never pass. */
	atomic_fetch_add(mine, bytes);
	sum = tr_ledger_sum(ledger, dev);
	if (sum <= limit) {
		raise_peak(ledger->state, dev, sum);
		return 0;
	}
	/* Dying before this line over-counts until the slot's lock is seen free. */
	tr_ledger_refund(ledger, dev, word, bytes);
	return -ENOMEM;
}

void tr_ledger_add(const struct tr_ledger *ledger, tr_dev dev, enum tr_word word,
		   uint64_t bytes)
{
	atomic_fetch_add(word_of(ledger, dev, word), bytes);
	raise_peak(ledger->state, dev, tr_ledger_sum(ledger, dev));
}

void tr_ledger_refund(const struct tr_ledger *ledger, tr_dev dev, enum tr_word word,
		      uint64_t bytes)
{
	_Atomic uint64_t *mine = word_of(ledger, dev, word);
	uint64_t seen = atomic_load_explicit(mine, memory_order_relaxed);

	/* Not fetch_sub: a word somebody scribbled on must end at 0, never wrap. */
	while (!atomic_compare_exchange_weak(mine, &seen, tr_sat_sub(seen, bytes)))
		;
}

/* The device's slow-path lock, within SLOW_LOCK_MS. */
static int take_slow_lock(int fd, tr_dev dev)
{
	uint64_t give_up_ns = tr_clock_ns() + SLOW_LOCK_MS * UINT64_C(1000000);
	uint64_t pause_ns = 50000;
	int r;

	while ((r = tr_byte_lock(fd, (off_t)(TR_SLOTS_MAX + dev.at))) == -EAGAIN) {
		if (tr_clock_ns() >= give_up_ns)
			return -EAGAIN;
		tr_sleep_ns(pause_ns);
		if (pause_ns < 2000000)
			pause_ns *= 2;
	}
	return r;
}

int tr_ledger_reserve_slowly(const struct tr_ledger *ledger, const char *state_path,
			     tr_dev dev, enum tr_word word, uint64_t bytes, uint64_t limit)
{
	tr_autoclose int fd = open(state_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	uint64_t others;

	if (bytes > limit || fd < 0)
		return -ENOMEM;
	if (take_slow_lock(fd, dev) < 0)
		return -ENOMEM;
	(void)tr_state_reap(ledger->state, fd);
	/* Losers of a race on the fast path withdraw within microseconds and then queue for
	 * this lock, so what still stands after some looks is really held. */
	for (unsigned tries = 0; tries < SLOW_TRIES; tries++) {
		if (tr_ledger_reserve(ledger, dev, word, bytes, limit) == 0)
			return 0;
		others = tr_ledger_sum(ledger, dev);
		if (tr_sat_add(others, bytes) > limit && tries >= SLOW_TRIES / 4)
			return -ENOMEM;
		tr_sleep_ns(SLOW_PAUSE_NS);
	}
	return -ENOMEM;
}

void tr_ledger_refused(const struct tr_ledger *ledger, tr_dev dev, uint64_t asked_bytes)
{
	struct tr_state *state = ledger->state;
	uint32_t at = atomic_fetch_add(&state->refusal_next, 1) % TR_REFUSALS;
	struct tr_state_refusal *refusal = &state->refusals[at];

	atomic_fetch_add(&state->devices[dev.at].refused, 1);
	atomic_store(&refusal->asked_bytes, asked_bytes);
	atomic_store(&refusal->sum_bytes, tr_ledger_sum(ledger, dev));
	atomic_store(&refusal->slot, ledger->slot.at);
	atomic_store(&refusal->device, dev.at);
	atomic_store(&refusal->at_ns, tr_clock_ns());
}
