/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/timeclient.h"

#include <errno.h>

#include "rm/client.h"

/* Whoever waits for room in a channel wants it for so much work, or one piece: to wake for every
 * short kernel is dear. */
#define ROOM_NS     500000u
#define ROOM_PIECES 64u

static struct rm_places slots;

void rm_channels_reset(void)
{
	rm_places_reset(&slots);
}

static _Atomic uint32_t *low_word(_Atomic uint64_t *value)
{
	_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
		       "the low half comes first");
	return (_Atomic uint32_t *)value;
}

static bool is_drained(uint32_t slot)
{
	return atomic_load(&rm_timeline.region->channels[slot].done) ==
	       atomic_load(&rm_timeline.slots[slot].last);
}

static int push_or_wait(const struct wire_work *w)
{
	int r;

	while ((r = rm_timeline_push(w)) == -EAGAIN) {
		rm_timeline_unlock();
		r = rm_timeline_await_room();
		rm_timeline_lock();
		if (r != 0)
			return r;
	}
	return r;
}

int rm_channel_open(uint32_t device, int priority, uint64_t *channel)
{
	struct wire_work w = { .op = WIRE_CHANNEL_OPEN, .device = device };
	const struct rm_machine *machine = rm_machine();
	struct rm_slot *s;
	int64_t slot;
	uint64_t id;
	int r = rm_timeline_check();

	if (r != 0)
		return r;
	if (!machine || device >= machine->device_count)
		return -EINVAL;
	rm_timeline_lock();
	slot = rm_places_take(&slots, WIRE_CHANNELS, is_drained);
	if (slot < 0) {
		rm_timeline_unlock();
		return -ENOMEM;
	}
	s = &rm_timeline.slots[slot];
	id = atomic_load(&s->id);
	id = id ? id + WIRE_CHANNELS : (uint64_t)slot + WIRE_CHANNELS;
	s->base = atomic_load(&s->last);
	w.channel = id;
	w.sms = (uint32_t)priority;
	w.ns = s->base;
	w.at_ns = rm_now_ns();
	r = push_or_wait(&w);
	atomic_store(&s->id, id);
	rm_timeline_unlock();
	*channel = id;
	return r;
}

/* The slot of an open channel, or NULL. */
static struct rm_slot *find_slot(uint64_t channel)
{
	struct rm_slot *s = &rm_timeline.slots[channel % WIRE_CHANNELS];

	return channel && atomic_load_explicit(&s->id, memory_order_acquire) == channel
		       ? s
		       : NULL;
}

void rm_channel_close(uint64_t channel)
{
	struct wire_work w = { .op = WIRE_CHANNEL_CLOSE, .channel = channel };

	if (rm_timeline_check() != 0 || !find_slot(channel))
		return;
	w.at_ns = rm_now_ns();
	rm_timeline_lock();
	if (push_or_wait(&w) == 0)
		rm_places_give(&slots, channel % WIRE_CHANNELS);
	rm_timeline_unlock();
}

static int fill(struct wire_work *w, uint64_t channel, const struct rm_work *work)
{
	*w = (struct wire_work){ .op = work->kind,
				 .sms = work->sms,
				 .ns = work->ns,
				 .channel = channel,
				 .stamp = work->stamp };
	if (work->kind > RM_WORK_WAIT_CHANNEL || work->ns > WIRE_WORK_MAX_NS ||
	    work->stamp >= WIRE_STAMPS)
		return -EINVAL;
	if (work->kind == RM_WORK_WAIT_CHANNEL) {
		w->other = work->channel;
		w->generation = work->ticket;
	}
	w->at_ns = rm_now_ns();
	return 0;
}

/* Until the slot has done TICKET, as the slot counts. */
static int wait_slot(uint64_t channel, uint64_t ticket)
{
	uint32_t slot = channel % WIRE_CHANNELS;
	struct wire_channel *c = &rm_timeline.region->channels[slot];
	int r = 0;

	if (rm_timeline.is_virtual) {
		struct sim_clock_request q = { .until_ns = WIRE_NOBODY,
					       .client = rm_timeline.key,
					       .channel = slot,
					       .ticket = ticket };

		return sim_clock_wait(&q);
	}
	atomic_fetch_add(&rm_timeline.region->waiters, 1);
	while (r == 0) {
		uint64_t done = atomic_load(&c->done), want = atomic_load(&c->want);

		if (done >= ticket)
			break;
		if ((want == 0 || want > ticket) &&
		    !atomic_compare_exchange_strong(&c->want, &want, ticket))
			continue;
		rm_timeline_ring(RM_BELL_FOR_WAITERS);
		done = atomic_load(&c->done);
		if (done < ticket)
			r = rm_timeline_sleep(low_word(&c->done), (uint32_t)done);
	}
	atomic_fetch_sub(&rm_timeline.region->waiters, 1);
	return r;
}

/* Until there is room for WORK in the channel. LAST: the ticket submitted last. */
static int await_depth(uint64_t channel, const struct rm_work *work, uint64_t last)
{
	uint64_t pieces = ROOM_NS / (work->ns + 1);

	if (pieces > ROOM_PIECES)
		pieces = ROOM_PIECES;
	if (pieces < 1)
		pieces = 1;
	return wait_slot(channel, last - RM_CHANNEL_DEPTH + pieces);
}

int rm_submit(uint64_t channel, const struct rm_work *work, uint64_t *ticket)
{
	struct rm_slot *s;
	struct wire_work w;
	uint64_t last;
	int r = rm_timeline_check();

	if (r == 0)
		r = fill(&w, channel, work);
	if (r != 0)
		return r;
	s = find_slot(channel);
	if (!s)
		return -EINVAL;
	rm_timeline_lock();
	for (;;) {
		last = atomic_load_explicit(&s->last, memory_order_relaxed);
		if (last - atomic_load_explicit(
				   &rm_timeline.region->channels[channel % WIRE_CHANNELS]
					    .done,
				   memory_order_acquire) >=
		    RM_CHANNEL_DEPTH) {
			rm_timeline_unlock();
			r = await_depth(channel, work, last);
			if (r == 0)
				w.at_ns = rm_now_ns();
			rm_timeline_lock();
			if (r != 0)
				break;
			continue;
		}
		if (work->kind == RM_WORK_STAMP || work->kind == RM_WORK_WAIT_STAMP)
			w.generation = rm_stamp_use(work->stamp, work->generation,
						    work->kind == RM_WORK_STAMP);
		r = rm_timeline_push(&w);
		if (r == 0) {
			atomic_store_explicit(&s->last, last + 1, memory_order_release);
			break;
		}
		rm_timeline_unlock();
		r = rm_timeline_await_room();
		rm_timeline_lock();
		if (r != 0)
			break;
	}
	rm_timeline_unlock();
	if (r != 0)
		return r;
	atomic_thread_fence(memory_order_seq_cst);
	rm_timeline_ring(RM_BELL_FOR_ALL);
	if (ticket)
		*ticket = last + 1 - s->base;
	return 0;
}

bool rm_is_done(uint64_t channel, uint64_t ticket)
{
	struct rm_slot *s;

	if (rm_timeline_check() != 0)
		return true;
	s = find_slot(channel);
	if (!s)
		return true; /* its slot has gone on: it was drained */
	ticket += s->base;
	if (ticket > atomic_load(&s->last) ||
	    atomic_load_explicit(
		    &rm_timeline.region->channels[channel % WIRE_CHANNELS].done,
		    memory_order_acquire) >= ticket)
		return true;
	rm_timeline_looked();
	return false;
}

uint64_t rm_last_ticket(uint64_t channel)
{
	struct rm_slot *s;

	if (rm_timeline_check() != 0 || !(s = find_slot(channel)))
		return 0;
	return atomic_load_explicit(&s->last, memory_order_acquire) - s->base;
}

int rm_wait(uint64_t channel, uint64_t ticket)
{
	struct rm_slot *s;
	int r = rm_timeline_check();

	if (r != 0)
		return r;
	s = find_slot(channel);
	if (!s || ticket + s->base > atomic_load(&s->last))
		return 0;
	ticket += s->base;
	if (atomic_load_explicit(
		    &rm_timeline.region->channels[channel % WIRE_CHANNELS].done,
		    memory_order_acquire) >= ticket)
		return 0;
	return wait_slot(channel, ticket);
}
