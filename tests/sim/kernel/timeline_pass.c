/* SPDX-License-Identifier: Apache-2.0 */
#include "timeline.h"

#include "engine_memory.h"

/*
 * The virtual clock's step from one thread to the next. The one that blocks takes it itself where it can
 * (tests/sim/clock/pass_on.c), for what there is to know lies in memory that all processes of the
 * machine share: so there is one change of processes for a step, or none when it is the next itself. What
 * takes a look at the computer (who is new, who sleeps, what stands still) is left to the machine's process.
 */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static bool is_met(const struct wire_thread *t, uint64_t now)
{
	struct timeline_client *of;
	uint64_t channel = t->channel, generation = t->generation, ticket = t->ticket;
	uint32_t stamp = t->stamp;

	if (atomic_load(&t->until_ns) <= now)
		return true;
	of = timeline_client_of(t->client);
	if (!of)
		return t->client != 0; /* it will never come */
	if (ticket && channel < WIRE_CHANNELS &&
	    atomic_load(&of->region->channels[channel].done) >= ticket)
		return true;
	return generation && stamp < WIRE_STAMPS &&
	       atomic_load(&of->region->stamps[stamp].generation) >= generation;
}

/* Whether thread I of C goes before what was found. */
static bool is_before(const struct timeline_client *c, uint32_t i,
		      const struct timeline_found *f)
{
	const struct wire_thread *a = &c->region->threads[i], *b;
	uint64_t mine, its;

	if (!f->client)
		return true;
	b = &f->client->region->threads[f->thread];
	mine = c->threads[i].ready_ns;
	its = f->client->threads[f->thread].ready_ns;
	if (mine != its)
		return mine < its;
	if (a->rank != b->rank)
		return a->rank < b->rank;
	if (c != f->client)
		return c->order < f->client->order;
	return a->sequence < b->sequence;
}

static void see_blocked(struct timeline_client *c, uint32_t i, uint64_t now,
			struct timeline_found *f)
{
	struct wire_thread *t = &c->region->threads[i];
	struct timeline_thread *own = &c->threads[i];
	uint64_t until = atomic_load(&t->until_ns), after = t->after_ns;

	f->blocked++;
	f->looking += t->look_ns != WIRE_NOBODY;
	f->waiting += t->client != 0;
	f->look_ns = least(f->look_ns, t->look_ns);
	if (!own->is_ready && (t->look_ns <= now || is_met(t, now))) {
		if (after <= now) {
			own->is_ready = true;
			own->ready_ns = now;
			timeline->v.pause_ns = TIMELINE_PAUSE_MIN_NS;
		} else {
			until = after;
		}
	}
	if (!own->is_ready && timeline->v.looks_now && t->look_ns != WIRE_NOBODY) {
		own->is_ready = true;
		own->ready_ns = now;
	}
	if (own->is_ready) {
		if (is_before(c, i, f)) {
			f->client = c;
			f->thread = i;
		}
	} else if (until < f->next_ns) {
		f->next_ns = until;
	}
}

static bool make_room(struct timeline_client *c, uint32_t high)
{
	struct timeline_thread *grown;

	if (high <= c->thread_room)
		return true;
	grown = engine_regrow(c->threads, WIRE_THREADS / (high > 16 ? 1 : 32),
			      sizeof(*grown));
	if (!grown)
		return false;
	c->threads = grown;
	c->thread_room = WIRE_THREADS / (high > 16 ? 1 : 32);
	return true;
}

static void look_at_client(struct timeline_client *c, uint64_t now,
			   struct timeline_found *f)
{
	uint32_t high = atomic_load(&c->region->thread_high);

	if (high > WIRE_THREADS)
		high = WIRE_THREADS;
	if (!make_room(c, high))
		high = c->thread_room;
	for (uint32_t i = 0; i < high; i++) {
		uint32_t state = atomic_load(&c->region->threads[i].state);

		if (state == WIRE_THREAD_BLOCKED)
			see_blocked(c, i, now, f);
		else
			c->threads[i].is_ready = false;
		f->away += state == WIRE_THREAD_AWAY;
	}
}

/* False: somebody is new, and must be taken in first. */
static bool look_at_threads(uint64_t now, struct timeline_found *f)
{
	const _Atomic uint64_t *words = timeline->bell->takes_part;

	*f = (struct timeline_found){ .next_ns = UINT64_MAX, .look_ns = UINT64_MAX };
	timeline->v.pause_real_ns = timeline->v.looks_now ? 0 : timeline->v.pause_real_ns;
	for (uint64_t first = 1; first <= timeline->client_count; first += 64, words++) {
		for (uint64_t bits = atomic_load(words); bits; bits &= bits - 1) {
			struct timeline_client *c =
				timeline_client_of(first + (uint64_t)__builtin_ctzll(bits));

			if (c && !c->took_part && atomic_load(&c->region->thread_high) > 0)
				return false;
			if (c)
				look_at_client(c, now, f);
		}
	}
	timeline->v.looks_now = false;
	return true;
}

static void grant(struct timeline_found *f)
{
	struct wire_thread *t = &f->client->region->threads[f->thread];

	timeline->v.holder_key = f->client->key;
	timeline->v.holder_thread = f->thread;
	timeline->v.asleep_looks = timeline->v.looks = 0;
	timeline->v.grants++;
	timeline->v.told_deadlock = false;
	f->client->threads[f->thread].is_ready = false;
	atomic_store(&t->state, WIRE_THREAD_RUNS);
	f->granted = t;
}

/* The thread with the token, or NULL once it has given way. */
struct wire_thread *timeline_holder(struct timeline_client **c)
{
	struct wire_thread *t;

	*c = timeline_client_of(timeline->v.holder_key);
	if (!*c)
		return NULL;
	t = &(*c)->region->threads[timeline->v.holder_thread];
	return atomic_load(&t->state) == WIRE_THREAD_RUNS ? t : NULL;
}

static void move_to(uint64_t ns)
{
	timeline_advance(ns);
	atomic_store(&timeline->clock->now_ns, ns);
	timeline->v.pause_ns = TIMELINE_PAUSE_MIN_NS;
	timeline->v.pause_real_ns = 0;
}

/* What happens on the devices before END makes nobody ready: nobody waits for it. */
static void skip_to(uint64_t end_ns)
{
	uint64_t next;

	while ((next = engine_next_ns(timeline->engine)) < end_ns)
		timeline_advance(next);
}

enum timeline_pass timeline_pass(struct timeline_found *f)
{
	for (;;) {
		uint64_t now = engine_now_ns(timeline->engine), next;
		uint64_t written = timeline_drain(now);
		struct timeline_client *c;

		if (timeline_holder(&c))
			return TIMELINE_RUNS;
		timeline->v.holder_key = 0;
		if (timeline->v.expected > 0)
			return TIMELINE_EXPECTS;
		engine_advance(timeline->engine, now);
		if (!look_at_threads(now, f))
			return TIMELINE_IS_NEW;
		if (timeline->v.came < timeline->v.hold && !timeline->v.told_hold)
			return TIMELINE_HELD;
		if (f->client) {
			grant(f);
			return TIMELINE_GRANTED;
		}
		written = least(written, f->next_ns);
		if (f->waiting == 0 && written != UINT64_MAX)
			skip_to(least(written, f->look_ns));
		next = least(engine_next_ns(timeline->engine), written);
		if (next == UINT64_MAX)
			return TIMELINE_STANDS;
		move_to(next > now ? next : now);
	}
}
