/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_memory.h"
#include "engine_parts.h"

static struct engine_piece *first_piece(const struct engine_channel *c)
{
	return &c->pieces[c->first];
}

/* What a channel does next is decided in engine_settle(), never from within another channel's
 * end: a chain of a million waits must not become a million frames of stack. */
void engine_step_later(struct engine *e, struct engine_channel *c)
{
	c->state = ENGINE_IDLE;
	if (c->is_stepping)
		return;
	c->is_stepping = true;
	c->next_step = NULL;
	*e->stepping_end = c;
	e->stepping_end = &c->next_step;
}

static void wake(struct engine *e, struct engine_link *waiters, uint64_t reached)
{
	struct engine_link *next;

	for (struct engine_link *l = waiters->next; l != waiters; l = next) {
		struct engine_channel *c = engine_of(struct engine_channel, where, l);

		next = l->next;
		if (first_piece(c)->until > reached)
			continue;
		engine_link_remove(l);
		engine_step_later(e, c);
	}
}

static void free_channel(struct engine_channel *c)
{
	engine_link_remove(&c->by_client);
	engine_release(c->pieces);
	engine_release(c);
}

static void free_stamp(struct engine *e, struct engine_client *client,
		       struct engine_stamp *s)
{
	engine_link_remove(&s->by_client);
	engine_map_remove(&e->stamps, client->id, s->id);
	engine_release(s);
}

/* The work no longer names what it named. A stamp that was never written is as good as none. */
static void let_go(struct engine *e, struct engine_client *client,
		   const struct engine_piece *p)
{
	struct engine_channel *c = p->of.channel;
	struct engine_stamp *s = p->of.stamp;

	if (p->kind == RM_WORK_WAIT_CHANNEL && c) {
		if (--c->refs == 0 && c->done == UINT64_MAX)
			free_channel(c);
	} else if (p->kind == RM_WORK_STAMP || p->kind == RM_WORK_WAIT_STAMP) {
		if (--s->refs == 0 && s->generation == 0)
			free_stamp(e, client, s);
	}
}

void engine_channel_drained(struct engine *e, struct engine_channel *c)
{
	struct engine_share *s = c->share;

	c->done = UINT64_MAX;
	engine_map_remove(&e->channels, c->client->id, c->id);
	s->channels--;
	s->party->channels--;
	e->timer_count--;
	wake(e, &c->waiters, UINT64_MAX);
	if (c->refs == 0)
		free_channel(c);
}

void engine_piece_done(struct engine *e, struct engine_channel *c)
{
	struct engine_piece p = *first_piece(c);
	struct engine_client *client = c->client;

	c->first = (c->first + 1) & (c->room - 1);
	c->count--;
	c->done++;
	if (p.kind == RM_WORK_STAMP && p.until > p.of.stamp->generation) {
		p.of.stamp->generation = p.until;
		wake(e, &p.of.stamp->waiters, p.until);
		e->hears.stamped(e->hears.arg, client->id, (uint32_t)p.of.stamp->id,
				 p.until, e->now_ns);
	}
	let_go(e, client, &p);
	wake(e, &c->waiters, c->done);
	e->hears.done(e->hears.arg, client->id, c->id, c->done, e->now_ns);
	engine_step_later(e, c);
}

/* ---- copies -------------------------------------------------------------------------- */

static struct engine_copier *copier_of(const struct engine_channel *c)
{
	return &c->device->copiers[first_piece(c)->kind - RM_WORK_COPY_IN];
}

static void copy_next(struct engine *e, struct engine_copier *k)
{
	while (!k->active && !engine_list_is_empty(&k->queue)) {
		struct engine_channel *c = engine_of(struct engine_channel, where,
						     k->queue.next);
		uint64_t ns = first_piece(c)->ns;

		engine_link_remove(&c->where);
		if (ns == 0) {
			engine_piece_done(e, c);
			continue;
		}
		c->state = ENGINE_COPYING;
		c->end_ns = ns < UINT64_MAX - e->now_ns ? e->now_ns + ns : UINT64_MAX;
		engine_heap_push(&e->timers, &c->timer.node, c->end_ns, e->sequence++);
		engine_meter_start(&c->device->copying, e->now_ns);
		engine_meter_start(&c->share->copying, e->now_ns);
		k->active = c;
	}
}

static void leave_copier(struct engine *e, struct engine_channel *c)
{
	copier_of(c)->active = NULL;
	engine_meter_stop(&c->device->copying, e->now_ns);
	engine_meter_stop(&c->share->copying, e->now_ns);
}

static void copy_end(struct engine *e, struct engine_channel *c)
{
	struct engine_copier *k = copier_of(c);

	leave_copier(e, c);
	engine_piece_done(e, c);
	copy_next(e, k);
}

/* ---- steps --------------------------------------------------------------------------- */

static void wait_for(struct engine *e, struct engine_channel *c, uint64_t reached,
		     struct engine_link *waiters)
{
	if (first_piece(c)->until <= reached) {
		engine_piece_done(e, c);
		return;
	}
	c->state = ENGINE_WAITING;
	engine_link_add(waiters, &c->where);
}

static void step(struct engine *e, struct engine_channel *c)
{
	struct engine_piece *p = first_piece(c);

	if (c->count == 0) {
		if (c->is_closed && c->done != UINT64_MAX)
			engine_channel_drained(e, c);
		return;
	}
	switch (p->kind) {
	case RM_WORK_KERNEL:
	case RM_WORK_STAMP:
		engine_party_want(e, c);
		break;
	case RM_WORK_COPY_IN:
	case RM_WORK_COPY_OUT:
	case RM_WORK_COPY_LOCAL:
		c->state = ENGINE_QUEUED;
		engine_link_add(&copier_of(c)->queue, &c->where);
		copy_next(e, copier_of(c));
		break;
	case RM_WORK_WAIT_STAMP:
		wait_for(e, c, p->of.stamp->generation, &p->of.stamp->waiters);
		break;
	case RM_WORK_WAIT_CHANNEL:
		if (p->of.channel)
			wait_for(e, c, p->of.channel->done, &p->of.channel->waiters);
		else
			engine_piece_done(e, c);
		break;
	}
}

/* Until nothing more happens at this instant. */
void engine_settle(struct engine *e)
{
	struct engine_channel *c;

	while (e->stepping || e->unsettled) {
		while ((c = e->stepping)) {
			e->stepping = c->next_step;
			if (!e->stepping)
				e->stepping_end = &e->stepping;
			c->is_stepping = false;
			step(e, c);
		}
		for (uint64_t left = e->unsettled; left; left &= left - 1) {
			uint32_t i = (uint32_t)__builtin_ctzll(left);

			e->unsettled &= ~(UINT64_C(1) << i);
			engine_device_settle(e, &e->devices[i]);
			for (size_t k = 0; k < ENGINE_COPIERS; k++)
				copy_next(e, &e->devices[i].copiers[k]);
		}
	}
}

void engine_timer_due(struct engine *e, struct engine_channel *c)
{
	if (c->state == ENGINE_RUNNING)
		engine_party_end(e, c);
	else
		copy_end(e, c);
}

/* ---- taking work back ---------------------------------------------------------------- */

static void leave_steps(struct engine *e, struct engine_channel *c)
{
	struct engine_channel **at = &e->stepping;

	if (!c->is_stepping)
		return;
	while (*at != c)
		at = &(*at)->next_step;
	*at = c->next_step;
	if (!*at)
		e->stepping_end = at;
	c->is_stepping = false;
}

void engine_channel_stop(struct engine *e, struct engine_channel *c)
{
	leave_steps(e, c);
	switch (c->state) {
	case ENGINE_IDLE:
		break;
	case ENGINE_WAITING:
	case ENGINE_QUEUED:
		engine_link_remove(&c->where);
		break;
	case ENGINE_READY:
	case ENGINE_RUNNING:
		engine_party_drop(e, c);
		break;
	case ENGINE_COPYING:
		engine_heap_remove(&e->timers, &c->timer.node);
		leave_copier(e, c);
		e->unsettled |= 1u << c->device->index;
		break;
	}
	c->state = ENGINE_IDLE;
}
