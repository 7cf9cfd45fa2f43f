/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/timeclient.h"

#include <errno.h>

static struct rm_places stamps;

void rm_stamps_reset(void)
{
	rm_places_reset(&stamps);
}

/* GENERATION as the engine knows it, and when; a consistent pair. */
static uint64_t read_raw(uint32_t stamp, uint64_t *ns)
{
	struct wire_stamp *s = &rm_timeline.region->stamps[stamp];
	uint64_t generation;
	uint32_t seq;

	if (!ns)
		return atomic_load_explicit(&s->generation, memory_order_acquire);
	do {
		seq = atomic_load_explicit(&s->seq, memory_order_acquire);
		generation = atomic_load_explicit(&s->generation, memory_order_relaxed);
		*ns = atomic_load_explicit(&s->ns, memory_order_relaxed);
		atomic_thread_fence(memory_order_acquire);
	} while ((seq & 1) || seq != atomic_load_explicit(&s->seq, memory_order_relaxed));
	return generation;
}

static bool is_drained(uint32_t stamp)
{
	return read_raw(stamp, NULL) >= rm_timeline.stamps[stamp].last;
}

int rm_stamp_open(uint32_t *stamp)
{
	int64_t place;
	int r = rm_timeline_check();

	if (r != 0)
		return r;
	rm_timeline_lock();
	place = rm_places_take(&stamps, WIRE_STAMPS, is_drained);
	if (place < 0) {
		rm_timeline_unlock();
		return -ENOMEM;
	}
	*stamp = (uint32_t)place;
	/* Generations of a slot go on, so that whoever still waits for an old one has it. */
	rm_timeline.stamps[*stamp].base = rm_timeline.stamps[*stamp].last;
	rm_timeline_unlock();
	return 0;
}

void rm_stamp_close(uint32_t stamp)
{
	if (rm_timeline_check() != 0 || stamp >= WIRE_STAMPS)
		return;
	rm_timeline_lock();
	rm_places_give(&stamps, stamp);
	rm_timeline_unlock();
}

uint64_t rm_stamp_use(uint32_t stamp, uint64_t generation, bool is_written)
{
	struct rm_stamp_slot *s = &rm_timeline.stamps[stamp];
	uint64_t raw = s->base + generation;

	if (is_written && raw > s->last)
		s->last = raw;
	return raw;
}

uint64_t rm_stamp_read(uint32_t stamp, uint64_t *ns)
{
	uint64_t raw, base;

	if (rm_timeline_check() != 0 || stamp >= WIRE_STAMPS)
		return 0;
	raw = read_raw(stamp, ns);
	if (raw < rm_timeline.stamps[stamp].last)
		rm_timeline_looked();
	base = rm_timeline.stamps[stamp].base;
	return raw > base ? raw - base : 0;
}

int rm_stamp_wait(uint32_t stamp, uint64_t generation)
{
	struct wire_stamp *s;
	uint64_t raw;
	int r = rm_timeline_check();

	if (r != 0)
		return r;
	if (stamp >= WIRE_STAMPS)
		return -EINVAL;
	s = &rm_timeline.region->stamps[stamp];
	raw = rm_timeline.stamps[stamp].base + generation;
	if (atomic_load_explicit(&s->generation, memory_order_acquire) >= raw)
		return 0;
	if (rm_timeline.is_virtual) {
		struct sim_clock_request q = { .until_ns = WIRE_NOBODY,
					       .client = rm_timeline.key,
					       .stamp = stamp,
					       .generation = raw };

		return sim_clock_wait(&q);
	}
	atomic_fetch_add(&rm_timeline.region->waiters, 1);
	while (r == 0) {
		uint32_t seq = atomic_load(&s->seq);

		atomic_store(&s->waiters, 1);
		if (atomic_load(&s->generation) >= raw)
			break;
		rm_timeline_ring(RM_BELL_FOR_WAITERS);
		r = rm_timeline_sleep(&s->seq, seq);
	}
	atomic_fetch_sub(&rm_timeline.region->waiters, 1);
	return r;
}
