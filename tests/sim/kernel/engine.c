/* SPDX-License-Identifier: Apache-2.0 */
#include "engine.h"

#include <errno.h>
#include <limits.h>

#include "engine_memory.h"
#include "engine_parts.h"

/* ---- the whole ----------------------------------------------------------------------- */

static void device_init(struct engine_device *d, uint32_t index, uint32_t sm_count)
{
	d->timer.is_device = true;
	d->timer_ns = UINT64_MAX;
	d->index = index;
	d->sm_count = sm_count ? sm_count : 1;
	engine_party_init(&d->all, 1);
	engine_link_init(&d->wanting);
	engine_link_init(&d->shares);
	for (size_t k = 0; k < ENGINE_COPIERS; k++)
		engine_link_init(&d->copiers[k].queue);
}

struct engine *engine_new(const struct engine_setup *setup,
			  const struct engine_hears *hears)
{
	struct engine *e;

	if (setup->device_count > RM_DEVICES_MAX)
		return NULL;
	e = engine_alloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->setup = *setup;
	if (e->setup.quantum_ns == 0)
		e->setup.quantum_ns = 1; /* a turn in which nothing can run never ends */
	e->hears = *hears;
	e->stepping_end = &e->stepping;
	engine_link_init(&e->by_order);
	for (uint32_t i = 0; i < setup->device_count; i++)
		device_init(&e->devices[i], i, setup->sm_count[i]);
	e->timer_count = setup->device_count;
	if (engine_heap_reserve(&e->timers, e->timer_count)) {
		engine_release(e);
		return NULL;
	}
	return e;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	while (!engine_list_is_empty(&e->by_order))
		engine_client_gone(
			e,
			engine_of(struct engine_client, by_engine, e->by_order.next)->id);
	for (uint32_t i = 0; i < e->setup.device_count; i++)
		engine_party_free(&e->devices[i].all);
	engine_heap_free(&e->timers);
	engine_map_free(&e->clients);
	engine_map_free(&e->channels);
	engine_map_free(&e->stamps);
	engine_release(e);
}

void engine_hear(struct engine *e, const struct engine_hears *hears)
{
	e->hears = *hears;
}

uint64_t engine_now_ns(const struct engine *e)
{
	return e->now_ns;
}

uint64_t engine_next_ns(const struct engine *e)
{
	if (e->stepping || e->unsettled)
		return e->now_ns;
	return e->timers.count ? e->timers.places[0].major : UINT64_MAX;
}

/* All that ends at one instant ends before anything new begins at it. */
static void timers_due(struct engine *e, uint64_t at_ns)
{
	e->now_ns = at_ns;
	while (e->timers.count && e->timers.places[0].major == at_ns) {
		struct engine_timer *t = engine_of(struct engine_timer, node,
						   e->timers.places[0].node);

		engine_heap_remove(&e->timers, &t->node);
		if (t->is_device) {
			struct engine_device *d = engine_of(struct engine_device, timer, t);

			d->timer_ns = UINT64_MAX;
			e->unsettled |= UINT64_C(1) << d->index;
		} else {
			engine_timer_due(e, engine_of(struct engine_channel, timer, t));
		}
	}
}

void engine_advance(struct engine *e, uint64_t to_ns)
{
	engine_settle(e);
	while (e->timers.count && e->timers.places[0].major <= to_ns) {
		timers_due(e, e->timers.places[0].major);
		engine_settle(e);
	}
	if (to_ns > e->now_ns)
		e->now_ns = to_ns;
}

/* ---- clients ------------------------------------------------------------------------- */

int engine_client_add(struct engine *e, uint64_t client)
{
	struct engine_client *c;
	int r;

	if (client == 0)
		return -EINVAL;
	if (engine_map_find(&e->clients, client, 0))
		return -EEXIST;
	c = engine_alloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	r = engine_map_add(&e->clients, client, 0, c);
	if (r) {
		engine_release(c);
		return r;
	}
	c->id = client;
	c->order = ++e->sequence;
	engine_link_init(&c->channels);
	engine_link_init(&c->stamps);
	engine_link_add(&e->by_order, &c->by_engine);
	return 0;
}

static struct engine_share *share_new(struct engine *e, struct engine_client *client,
				      struct engine_device *d)
{
	struct engine_share *s = engine_alloc(1, sizeof(*s));
	struct engine_link *before = &d->shares;

	if (!s)
		return NULL;
	s->client = client;
	engine_party_init(&s->own, client->order);
	s->party = e->setup.is_mps ? &d->all : &s->own;
	while (before->prev != &d->shares &&
	       engine_of(struct engine_share, by_device, before->prev)->client->order >
		       client->order)
		before = before->prev;
	engine_link_add(before, &s->by_device);
	client->shares[d->index] = s;
	return s;
}

static void channels_gone(struct engine *e, struct engine_client *client)
{
	struct engine_link *next;

	for (struct engine_link *l = client->channels.next; l != &client->channels;
	     l = l->next)
		engine_channel_stop(e, engine_of(struct engine_channel, by_client, l));
	for (struct engine_link *l = client->channels.next; l != &client->channels;
	     l = next) {
		struct engine_channel *c = engine_of(struct engine_channel, by_client, l);

		next = l->next;
		if (c->done != UINT64_MAX) {
			engine_map_remove(&e->channels, client->id, c->id);
			c->share->party->channels--;
			e->timer_count--;
		}
		engine_release(c->pieces);
		engine_release(c);
	}
}

static void stamps_gone(struct engine *e, struct engine_client *client)
{
	struct engine_link *next;

	for (struct engine_link *l = client->stamps.next; l != &client->stamps; l = next) {
		struct engine_stamp *s = engine_of(struct engine_stamp, by_client, l);

		next = l->next;
		engine_map_remove(&e->stamps, client->id, s->id);
		engine_release(s);
	}
}

void engine_client_gone(struct engine *e, uint64_t client)
{
	struct engine_client *c = engine_map_find(&e->clients, client, 0);

	if (!c)
		return;
	channels_gone(e, c);
	stamps_gone(e, c);
	for (uint32_t i = 0; i < e->setup.device_count; i++) {
		struct engine_share *s = c->shares[i];

		if (!s)
			continue;
		engine_party_gone(e, &e->devices[i], &s->own);
		engine_link_remove(&s->by_device);
		engine_party_free(&s->own);
		engine_release(s);
	}
	engine_map_remove(&e->clients, client, 0);
	engine_link_remove(&c->by_engine);
	engine_release(c);
}

/* ---- channels ------------------------------------------------------------------------ */

static int channel_new(struct engine *e, struct engine_client *client,
		       struct engine_share *s, uint64_t id, struct engine_channel **out)
{
	struct engine_channel *c;
	int r = engine_heap_reserve(&e->timers, e->timer_count + 1);

	if (!r)
		r = engine_heap_reserve(&s->party->ready, s->party->channels + 1);
	if (r)
		return r;
	c = engine_alloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	r = engine_map_add(&e->channels, client->id, id, c);
	if (r) {
		engine_release(c);
		return r;
	}
	e->timer_count++;
	s->party->channels++;
	*out = c;
	return 0;
}

int engine_channel_open(struct engine *e, uint64_t client, uint64_t channel,
			uint32_t device, int priority)
{
	struct engine_client *owner = engine_map_find(&e->clients, client, 0);
	struct engine_device *d = &e->devices[device % RM_DEVICES_MAX];
	struct engine_channel *c;
	struct engine_share *s;
	int r;

	if (!owner)
		return -ENOENT;
	if (device >= e->setup.device_count)
		return -EINVAL;
	if (engine_map_find(&e->channels, client, channel))
		return -EEXIST;
	s = owner->shares[device] ? owner->shares[device] : share_new(e, owner, d);
	if (!s)
		return -ENOMEM;
	r = channel_new(e, owner, s, channel, &c);
	if (r)
		return r;
	c->id = channel;
	c->priority = (uint64_t)((int64_t)priority - INT_MIN);
	c->client = owner;
	c->share = s;
	c->device = d;
	engine_link_init(&c->waiters);
	engine_link_init(&c->where);
	engine_link_add(&owner->channels, &c->by_client);
	if (s->channels++ == 0)
		s->since_ns = e->now_ns;
	return 0;
}

void engine_channel_close(struct engine *e, uint64_t client, uint64_t channel)
{
	struct engine_channel *c = engine_map_find(&e->channels, client, channel);

	if (!c || c->is_closed)
		return;
	c->is_closed = true;
	if (c->count == 0)
		engine_step_later(e, c);
}

static int make_room(struct engine_channel *c)
{
	size_t room = c->room ? 2 * c->room : 16;
	struct engine_piece *pieces;

	if (c->count < c->room)
		return 0;
	pieces = engine_alloc(room, sizeof(*pieces));
	if (!pieces)
		return -ENOMEM;
	for (size_t i = 0; i < c->count; i++)
		pieces[i] = c->pieces[(c->first + i) & (c->room - 1)];
	engine_release(c->pieces);
	c->pieces = pieces;
	c->first = 0;
	c->room = room;
	return 0;
}

static struct engine_stamp *stamp_of(struct engine *e, struct engine_client *client,
				     uint32_t id)
{
	struct engine_stamp *s = engine_map_find(&e->stamps, client->id, id);

	if (s)
		return s;
	s = engine_alloc(1, sizeof(*s));
	if (!s)
		return NULL;
	if (engine_map_add(&e->stamps, client->id, id, s)) {
		engine_release(s);
		return NULL;
	}
	s->id = id;
	engine_link_init(&s->waiters);
	engine_link_add(&client->stamps, &s->by_client);
	return s;
}

bool engine_stamp_close(struct engine *e, uint64_t client, uint32_t stamp)
{
	struct engine_stamp *s = engine_map_find(&e->stamps, client, stamp);

	if (!s)
		return true;
	if (s->refs)
		return false;
	engine_link_remove(&s->by_client);
	engine_map_remove(&e->stamps, client, stamp);
	engine_release(s);
	return true;
}

/* What WORK names is looked up once, here. */
static int translate(struct engine *e, const struct engine_channel *c,
		     const struct rm_work *work, struct engine_piece *out)
{
	struct engine_channel *other;

	*out = (struct engine_piece){ .kind = work->kind, .ns = work->ns };
	switch (work->kind) {
	case RM_WORK_KERNEL:
		out->sms = work->sms > c->device->sm_count ? c->device->sm_count
							   : work->sms;
		out->sms += out->sms == 0;
		return 0;
	case RM_WORK_COPY_IN:
	case RM_WORK_COPY_OUT:
	case RM_WORK_COPY_LOCAL:
		return 0;
	case RM_WORK_STAMP:
	case RM_WORK_WAIT_STAMP:
		out->until = work->generation;
		out->of.stamp = stamp_of(e, c->client, work->stamp);
		if (!out->of.stamp)
			return -ENOMEM;
		out->of.stamp->refs++;
		return 0;
	case RM_WORK_WAIT_CHANNEL:
		out->until = work->ticket;
		other = engine_map_find(&e->channels, c->client->id, work->channel);
		out->of.channel = other;
		if (other)
			other->refs++;
		return 0;
	}
	return -EINVAL;
}

int engine_submit(struct engine *e, uint64_t client, uint64_t channel,
		  const struct rm_work *work)
{
	struct engine_channel *c = engine_map_find(&e->channels, client, channel);
	struct engine_piece piece;
	int r;

	if (!c || c->is_closed)
		return -ENOENT;
	r = make_room(c);
	if (!r)
		r = translate(e, c, work, &piece);
	if (r)
		return r;
	c->pieces[(c->first + c->count++) & (c->room - 1)] = piece;
	if (c->count == 1)
		engine_step_later(e, c);
	return 0;
}

/* ---- what it was busy with ----------------------------------------------------------- */

static const struct engine_share *share_of(const struct engine *e, uint32_t device,
					   uint64_t client)
{
	const struct engine_client *c = engine_map_find(&e->clients, client, 0);

	return c && device < e->setup.device_count ? c->shares[device] : NULL;
}

uint64_t engine_busy_ns(const struct engine *e, uint32_t device, uint64_t client)
{
	const struct engine_share *s = share_of(e, device, client);

	if (device >= e->setup.device_count)
		return 0;
	if (client == 0)
		return engine_meter_total_ns(&e->devices[device].busy, e->now_ns);
	return s ? engine_meter_total_ns(&s->busy, e->now_ns) : 0;
}

uint64_t engine_kernels(const struct engine *e, uint32_t device, uint64_t client)
{
	const struct engine_share *s = share_of(e, device, client);

	if (device >= e->setup.device_count)
		return 0;
	if (client == 0)
		return e->devices[device].kernels;
	return s ? s->kernels : 0;
}

size_t engine_uses(const struct engine *e, uint32_t device, struct engine_use *out,
		   size_t room)
{
	const struct engine_device *d = &e->devices[device % RM_DEVICES_MAX];
	size_t n = 0;

	if (device >= e->setup.device_count)
		return 0;
	for (struct engine_link *l = d->shares.next; l != &d->shares && n < room;
	     l = l->next) {
		const struct engine_share *s = engine_of(struct engine_share, by_device, l);

		out[n] = (struct engine_use){ s->client->id,
					      engine_meter_total_ns(&s->busy, e->now_ns),
					      s->kernels };
		n += out[n].busy_ns || out[n].kernels;
	}
	return n;
}

static struct engine_sample sample_of(uint64_t sixth, uint64_t client,
				      const struct engine_meter *busy,
				      const struct engine_meter *copying)
{
	return (struct engine_sample){
		.end_ns = (sixth + 1) * ENGINE_SIXTH_NS,
		.client = client,
		.sm_percent = engine_meter_percent(busy, sixth),
		.mem_percent = engine_meter_percent(copying, sixth),
	};
}

static size_t client_samples(const struct engine_device *d, uint64_t sixth,
			     struct engine_sample *rows, size_t room)
{
	size_t n = 0;

	for (struct engine_link *l = d->shares.next; l != &d->shares && n < room;
	     l = l->next) {
		const struct engine_share *s = engine_of(struct engine_share, by_device, l);

		rows[n] = sample_of(sixth, s->client->id, &s->busy, &s->copying);
		if (rows[n].sm_percent || rows[n].mem_percent ||
		    (s->channels && s->since_ns < rows[n].end_ns))
			n++;
	}
	return n;
}

void engine_samples(const struct engine *e, uint32_t device, bool by_client,
		    uint64_t after_ns, struct engine_sample *rows, size_t *n)
{
	uint64_t ended = e->now_ns / ENGINE_SIXTH_NS, i = after_ns / ENGINE_SIXTH_NS;
	size_t room = *n;

	*n = 0;
	if (device >= e->setup.device_count)
		return;
	if (ended - i > ENGINE_SIXTHS && ended > i)
		i = ended - ENGINE_SIXTHS;
	for (; i < ended && *n < room; i++) {
		const struct engine_device *d = &e->devices[device];

		if (by_client)
			*n += client_samples(d, i, rows + *n, room - *n);
		else
			rows[(*n)++] = sample_of(i, 0, &d->busy, &d->copying);
	}
}
