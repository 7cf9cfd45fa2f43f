/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_parts.h"

void engine_party_init(struct engine_party *p, uint64_t order)
{
	p->order = order;
	engine_link_init(&p->stamps);
	engine_link_init(&p->running);
	engine_link_init(&p->wanting);
}

void engine_party_free(struct engine_party *p)
{
	engine_heap_free(&p->ready);
}

static struct engine_piece *first_piece(const struct engine_channel *c)
{
	return &c->pieces[c->first];
}

static void unsettle(struct engine *e, const struct engine_device *d)
{
	e->unsettled |= UINT64_C(1) << d->index;
}

static void enter_wanting(struct engine_device *d, struct engine_party *p)
{
	struct engine_link *before = &d->wanting;

	if (!engine_list_is_empty(&p->wanting))
		return;
	while (before->prev != &d->wanting &&
	       engine_of(struct engine_party, wanting, before->prev)->order > p->order)
		before = before->prev;
	engine_link_add(before, &p->wanting);
}

void engine_party_want(struct engine *e, struct engine_channel *c)
{
	struct engine_party *p = c->share->party;

	c->state = ENGINE_READY;
	if (first_piece(c)->kind == RM_WORK_STAMP)
		engine_link_add(&p->stamps, &c->where);
	else
		engine_heap_push(&p->ready, &c->timer.node, c->priority, e->sequence++);
	p->works++;
	enter_wanting(c->device, p);
	unsettle(e, c->device);
}

static void meter_start(struct engine *e, struct engine_channel *c)
{
	if (first_piece(c)->kind != RM_WORK_KERNEL)
		return;
	engine_meter_start(&c->device->busy, e->now_ns);
	engine_meter_start(&c->share->busy, e->now_ns);
}

static void meter_stop(struct engine *e, struct engine_channel *c)
{
	if (first_piece(c)->kind != RM_WORK_KERNEL)
		return;
	engine_meter_stop(&c->device->busy, e->now_ns);
	engine_meter_stop(&c->share->busy, e->now_ns);
}

/* Runs for so long, unless paused. */
static void run(struct engine *e, struct engine_channel *c, uint64_t ns)
{
	c->end_ns = ns < UINT64_MAX - e->now_ns ? e->now_ns + ns : UINT64_MAX;
	engine_heap_push(&e->timers, &c->timer.node, c->end_ns, e->sequence++);
	meter_start(e, c);
}

static void pause(struct engine *e, struct engine_party *p)
{
	for (struct engine_link *l = p->running.next; l != &p->running; l = l->next) {
		struct engine_channel *c = engine_of(struct engine_channel, where, l);

		c->rest_ns = c->end_ns - e->now_ns;
		engine_heap_remove(&e->timers, &c->timer.node);
		meter_stop(e, c);
	}
	p->has_paused = !engine_list_is_empty(&p->running);
}

static void go_on(struct engine *e, struct engine_party *p)
{
	if (!p->has_paused)
		return;
	p->has_paused = false;
	for (struct engine_link *l = p->running.next; l != &p->running; l = l->next) {
		struct engine_channel *c = engine_of(struct engine_channel, where, l);

		run(e, c, c->rest_ns);
	}
}

static void count_kernel(struct engine_channel *c)
{
	if (first_piece(c)->kind != RM_WORK_KERNEL)
		return;
	c->device->kernels++;
	c->share->kernels++;
}

static void start(struct engine *e, struct engine_channel *c)
{
	struct engine_party *p = c->share->party;
	const struct engine_piece *piece = first_piece(c);

	if (piece->ns == 0) {
		p->works--;
		count_kernel(c);
		unsettle(e, c->device);
		engine_piece_done(e, c);
		return;
	}
	c->state = ENGINE_RUNNING;
	p->sms_used += piece->sms;
	engine_link_add(&p->running, &c->where);
	run(e, c, piece->ns);
}

/* Stamps need no room; a kernel that has none keeps those behind it waiting, or it would never
 * have any. */
static void start_ready(struct engine *e, const struct engine_device *d,
			struct engine_party *p)
{
	while (!engine_list_is_empty(&p->stamps)) {
		struct engine_channel *c = engine_of(struct engine_channel, where,
						     p->stamps.next);

		engine_link_remove(&c->where);
		start(e, c);
	}
	while (p->ready.count > 0) {
		struct engine_channel *c = engine_of(struct engine_channel, timer.node,
						     p->ready.places[0].node);

		if (first_piece(c)->sms > d->sm_count - p->sms_used)
			break;
		engine_heap_remove(&p->ready, &c->timer.node);
		start(e, c);
	}
}

static void leave_running(struct engine *e, struct engine_channel *c)
{
	struct engine_party *p = c->share->party;

	engine_link_remove(&c->where);
	p->sms_used -= first_piece(c)->sms;
	p->works--;
	unsettle(e, c->device);
}

void engine_party_end(struct engine *e, struct engine_channel *c)
{
	leave_running(e, c);
	meter_stop(e, c);
	count_kernel(c);
	engine_piece_done(e, c);
}

void engine_party_drop(struct engine *e, struct engine_channel *c)
{
	struct engine_party *p = c->share->party;

	if (c->state == ENGINE_RUNNING) {
		if (!p->has_paused) {
			engine_heap_remove(&e->timers, &c->timer.node);
			meter_stop(e, c);
		}
		leave_running(e, c);
		return;
	}
	engine_link_remove(&c->where);
	engine_heap_remove(&p->ready, &c->timer.node);
	p->works--;
	unsettle(e, c->device);
}

void engine_party_gone(struct engine *e, struct engine_device *d, struct engine_party *p)
{
	engine_link_remove(&p->wanting);
	if (d->turn == p)
		d->turn = NULL;
	unsettle(e, d);
}

/* Round the clients in the order they came, beginning behind who had the turn last. */
static struct engine_party *next_party(const struct engine_device *d)
{
	for (struct engine_link *l = d->wanting.next; l != &d->wanting; l = l->next) {
		struct engine_party *p = engine_of(struct engine_party, wanting, l);

		if (p->order > d->last_order)
			return p;
	}
	if (engine_list_is_empty(&d->wanting))
		return NULL;
	return engine_of(struct engine_party, wanting, d->wanting.next);
}

static bool is_wanted_by_others(const struct engine_device *d)
{
	return !engine_list_is_empty(&d->wanting) &&
	       (d->wanting.next != &d->turn->wanting ||
		d->wanting.prev != &d->turn->wanting);
}

static void set_timer(struct engine *e, struct engine_device *d, uint64_t at_ns)
{
	if (d->timer_ns == at_ns)
		return;
	engine_heap_remove(&e->timers, &d->timer.node);
	d->timer_ns = at_ns;
	if (at_ns != UINT64_MAX)
		engine_heap_push(&e->timers, &d->timer.node, at_ns, e->sequence++);
}

/* Whose turn it is from now on. Taking up where one left off costs no switch. */
static void pass_turn(struct engine *e, struct engine_device *d)
{
	uint64_t switch_ns = e->setup.switch_ns;

	d->turn = next_party(d);
	if (!d->turn)
		return;
	if (d->last_order == d->turn->order || d->last_order == 0)
		switch_ns = 0;
	d->last_order = d->turn->order;
	d->turn_from_ns = e->now_ns + switch_ns;
	d->turn_to_ns = d->turn_from_ns + e->setup.quantum_ns;
}

void engine_device_settle(struct engine *e, struct engine_device *d)
{
	if (d->turn && d->turn->works == 0) {
		engine_link_remove(&d->turn->wanting);
		d->turn = NULL;
	}
	if (d->turn && e->now_ns >= d->turn_to_ns && is_wanted_by_others(d)) {
		pause(e, d->turn);
		d->turn = NULL;
	}
	if (!d->turn)
		pass_turn(e, d);
	if (!d->turn) {
		set_timer(e, d, UINT64_MAX);
		return;
	}
	if (e->now_ns < d->turn_from_ns) {
		set_timer(e, d, d->turn_from_ns);
		return;
	}
	go_on(e, d->turn);
	start_ready(e, d, d->turn);
	set_timer(e, d, is_wanted_by_others(d) ? d->turn_to_ns : UINT64_MAX);
}
