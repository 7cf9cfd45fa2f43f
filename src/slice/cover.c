/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/sat.h"
#include "slice/rate.h"

/*
 * A cell is some half a millisecond of a GPU: which parts of it are taken whole, and how much more
 * is taken without it being known where. It is filled by the sum of the two, at most to its length,
 * and what a report adds to that is what it is charged. One compare-and-swap a cell; a crash between
 * two cells leaves time that counts as charged and is not, at most the report's own.
 */
#define BIT_SHIFT    15
#define CELL_SHIFT   19
#define BITS         16u
#define CELL_NS      (UINT64_C(1) << CELL_SHIFT)
#define TAG_SHIFT    36
#define TAG_MASK     UINT64_C(0xfffffff)
#define AMOUNT_SHIFT 16
#define RING_NS      ((uint64_t)TR_COVER_CELLS << CELL_SHIFT)
#define LONG_NS      (RING_NS / 2)

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

struct tr_busy tr_busy_of(uint64_t begin_ns, uint64_t end_ns, uint64_t recorded_ns,
			  uint64_t predicted_ns)
{
	uint64_t sure_ns = tr_sat_sub(end_ns, most(begin_ns, recorded_ns));

	return (struct tr_busy){
		.begin_ns = begin_ns,
		.end_ns = end_ns,
		.sure_ns = sure_ns,
		.busy_ns = most(sure_ns, least(predicted_ns, tr_sat_sub(end_ns, begin_ns))),
	};
}

static uint64_t amount_of(uint64_t word)
{
	return least(word >> AMOUNT_SHIFT & 0xfffff, CELL_NS);
}

static uint64_t fill_of(uint64_t word)
{
	uint64_t whole = (uint64_t)__builtin_popcount((unsigned)(word & 0xffff))
			 << BIT_SHIFT;

	return least(CELL_NS, whole + amount_of(word));
}

/* Adds MASK and AMOUNT to the cell of INDEX: by how much that fills it. A cell that has gone on to
 * a newer time answers LATE; one that claims a time not come yet is garbage. */
static uint64_t fill_cell(_Atomic uint64_t *ring, uint64_t index, uint64_t now_ns,
			  uint64_t mask, uint64_t amount_ns, uint64_t late)
{
	_Atomic uint64_t *cell = &ring[index % TR_COVER_CELLS];
	uint64_t seen = atomic_load_explicit(cell, memory_order_relaxed), base, next;

	do {
		uint64_t newer = ((seen >> TAG_SHIFT) - index) & TAG_MASK;

		if (newer && newer <= (now_ns >> CELL_SHIFT) - index)
			return late;
		base = newer ? (index & TAG_MASK) << TAG_SHIFT : seen;
		next = (index & TAG_MASK) << TAG_SHIFT |
		       least(amount_of(base) + amount_ns, CELL_NS) << AMOUNT_SHIFT |
		       (base & 0xffff) | mask;
		if (next == seen)
			return 0;
	} while (!atomic_compare_exchange_weak(cell, &seen, next));
	return fill_of(next) - fill_of(base);
}

static uint64_t nearest_bit(uint64_t ns)
{
	return (ns >> BIT_SHIFT) + ((ns >> (BIT_SHIFT - 1)) & 1);
}

/* [BEGIN, END] is taken whole but for small gaps. Its ends go to the nearest bit, so neighbours
 * tile; the answer is BUSY in the measure in which the bits were free. */
static uint64_t cover_whole(_Atomic uint64_t *ring, uint64_t begin_ns, uint64_t end_ns,
			    uint64_t busy_ns, uint64_t now_ns)
{
	uint64_t at = nearest_bit(begin_ns), to = nearest_bit(end_ns), fresh_ns = 0;
	uint64_t all_ns = (to - at) << BIT_SHIFT;

	while (at < to) {
		uint64_t index = at / BITS, end = least(to, (index + 1) * BITS);
		uint64_t mask = (UINT64_C(1) << (end - at)) - 1;

		fresh_ns += fill_cell(ring, index, most(now_ns, end << BIT_SHIFT),
				      mask << (at % BITS), 0, 0);
		at = end;
	}
	return all_ns ? busy_ns * fresh_ns / all_ns : busy_ns;
}

/* BUSY somewhere in [BEGIN, END]: evenly, and what finds no room so wherever there is some, for
 * processes that take turns do not work at the same time. What comes too late for the ring is
 * believed. */
static uint64_t cover_some(_Atomic uint64_t *ring, uint64_t begin_ns, uint64_t end_ns,
			   uint64_t busy_ns, uint64_t now_ns)
{
	uint64_t all_ns = end_ns - begin_ns, at = begin_ns, given = 0, fresh_ns = 0,
		 left_ns;

	while (at < end_ns) {
		uint64_t end = least(end_ns, ((at >> CELL_SHIFT) + 1) << CELL_SHIFT);
		uint64_t part = busy_ns * (end - begin_ns) / all_ns - given;

		fresh_ns += fill_cell(ring, at >> CELL_SHIFT, now_ns, 0, part, part);
		given += part;
		at = end;
	}
	left_ns = tr_sat_sub(busy_ns, fresh_ns);
	for (at = begin_ns; at < end_ns && left_ns;
	     at = ((at >> CELL_SHIFT) + 1) << CELL_SHIFT)
		left_ns -= fill_cell(ring, at >> CELL_SHIFT, now_ns, 0,
				     least(left_ns, CELL_NS), 0);
	return busy_ns - left_ns;
}

/* What lies further back than the ring: beyond a mark that only rises. */
static uint64_t cover_long(_Atomic uint64_t *mark, uint64_t begin_ns, uint64_t from_ns,
			   uint64_t end_ns, uint64_t now_ns)
{
	uint64_t seen = atomic_load_explicit(mark, memory_order_relaxed), old;

	do {
		old = seen > now_ns ? 0 : seen;
	} while (!atomic_compare_exchange_weak(mark, &seen, most(old, end_ns)));
	return tr_sat_sub(from_ns, most(old, begin_ns));
}

uint64_t tr_rate_cover(struct tr_state *state, uint32_t dev, const struct tr_busy *busy,
		       uint64_t now_ns)
{
	uint64_t begin_ns = busy->begin_ns, end_ns = least(busy->end_ns, now_ns);
	uint64_t long_ns = 0, span_ns, ns;
	_Atomic uint64_t *ring;

	if (dev >= TR_DEVICES_MAX || begin_ns >= end_ns || end_ns > INT64_MAX)
		return 0;
	ring = state->covered[dev];
	ns = least(busy->busy_ns, end_ns - begin_ns);
	/* Not more than is sure: when is known. More: it is known how much, and not when, for what
	 * is sure may have waited for the turn of another of the slice. */
	if (busy->sure_ns >= ns)
		begin_ns = end_ns - ns;
	span_ns = end_ns - begin_ns;
	/* Nearly all of it: the gaps are the host's between two launches. */
	if (ns <= span_ns / 4 * 3) {
		long_ns = tr_sat_sub(ns, LONG_NS);
		return long_ns + cover_some(ring, begin_ns,
					    begin_ns + least(span_ns, LONG_NS),
					    ns - long_ns, now_ns);
	}
	if (span_ns > LONG_NS) {
		long_ns = cover_long(&state->pace[dev].covered_ns, begin_ns,
				     end_ns - LONG_NS, end_ns, now_ns);
		ns = least(ns, LONG_NS);
		begin_ns = end_ns - LONG_NS;
	}
	return tr_sat_add(long_ns, cover_whole(ring, begin_ns, end_ns, ns, now_ns));
}
