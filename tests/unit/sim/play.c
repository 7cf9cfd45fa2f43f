/* SPDX-License-Identifier: Apache-2.0 */
#include "play.h"

#include "tr_test.h"

#include <stdlib.h>

static void keep(struct play *p, const struct play_word *w)
{
	if (!p->keeps_words)
		return;
	if (p->count == p->room) {
		p->room = p->room ? 2 * p->room : 1024;
		p->words = reallocarray(p->words, p->room, sizeof(*p->words));
		assert_non_null(p->words);
	}
	/* Never back in time. */
	if (p->count)
		assert_true(p->words[p->count - 1].at_ns <= w->at_ns);
	p->words[p->count++] = *w;
}

static void hear_done(void *arg, uint64_t client, uint64_t channel, uint64_t ticket,
		      uint64_t at_ns)
{
	struct play *p = arg;

	p->done++;
	keep(p,
	     &(struct play_word){
		     .client = client, .id = channel, .number = ticket, .at_ns = at_ns });
}

static void hear_stamped(void *arg, uint64_t client, uint32_t stamp, uint64_t generation,
			 uint64_t at_ns)
{
	keep(arg, &(struct play_word){ .client = client,
				       .id = stamp,
				       .number = generation,
				       .at_ns = at_ns,
				       .is_stamp = 1 });
}

void play_begin(struct play *p, const struct engine_setup *setup, uint64_t clients)
{
	const struct engine_hears hears = { .done = hear_done,
					    .stamped = hear_stamped,
					    .arg = p };

	*p = (struct play){ .keeps_words = 1 };
	p->engine = engine_new(setup, &hears);
	assert_non_null(p->engine);
	for (uint64_t i = 1; i <= clients; i++) {
		assert_int_equal(engine_client_add(p->engine, i), 0);
		play_open(p, i, 1, 0, 0);
	}
}

void play_end(struct play *p)
{
	engine_free(p->engine);
	free(p->words);
}

void play_open(struct play *p, uint64_t client, uint64_t channel, uint32_t device,
	       int priority)
{
	assert_int_equal(engine_channel_open(p->engine, client, channel, device, priority),
			 0);
}

static void submit(struct play *p, uint64_t client, uint64_t channel,
		   const struct rm_work *work)
{
	assert_int_equal(engine_submit(p->engine, client, channel, work), 0);
}

void play_kernel(struct play *p, uint64_t client, uint64_t channel, uint32_t sms,
		 uint64_t ns)
{
	submit(p, client, channel,
	       &(struct rm_work){ .kind = RM_WORK_KERNEL, .sms = sms, .ns = ns });
}

void play_copy(struct play *p, uint64_t client, uint64_t channel, enum rm_work_kind kind,
	       uint64_t ns)
{
	submit(p, client, channel, &(struct rm_work){ .kind = kind, .ns = ns });
}

void play_stamp(struct play *p, uint64_t client, uint64_t channel, uint32_t stamp,
		uint64_t generation)
{
	submit(p, client, channel,
	       &(struct rm_work){
		       .kind = RM_WORK_STAMP, .stamp = stamp, .generation = generation });
}

void play_wait_stamp(struct play *p, uint64_t client, uint64_t channel, uint32_t stamp,
		     uint64_t generation)
{
	submit(p, client, channel,
	       &(struct rm_work){ .kind = RM_WORK_WAIT_STAMP,
				  .stamp = stamp,
				  .generation = generation });
}

void play_wait_channel(struct play *p, uint64_t client, uint64_t channel, uint64_t other,
		       uint64_t ticket)
{
	submit(p, client, channel,
	       &(struct rm_work){
		       .kind = RM_WORK_WAIT_CHANNEL, .channel = other, .ticket = ticket });
}

static uint64_t find(const struct play *p, const struct play_word *want)
{
	for (size_t i = 0; i < p->count; i++) {
		const struct play_word *w = &p->words[i];

		if (w->client == want->client && w->id == want->id &&
		    w->number == want->number && w->is_stamp == want->is_stamp)
			return w->at_ns;
	}
	return PLAY_NEVER;
}

uint64_t play_done_ns(const struct play *p, uint64_t client, uint64_t channel,
		      uint64_t ticket)
{
	return find(p, &(struct play_word){
			       .client = client, .id = channel, .number = ticket });
}

uint64_t play_stamp_ns(const struct play *p, uint64_t client, uint32_t stamp,
		       uint64_t generation)
{
	return find(p, &(struct play_word){ .client = client,
					    .id = stamp,
					    .number = generation,
					    .is_stamp = 1 });
}

void play_saturate(struct play *p, uint64_t clients, const uint64_t *ns, uint64_t to_ns)
{
	uint64_t sent[64] = { 0 }, base[64] = { 0 };

	for (uint64_t c = 1; c < 64; c++)
		base[c] = engine_kernels(p->engine, 0, c);
	while (engine_now_ns(p->engine) < to_ns) {
		uint64_t next;

		for (uint64_t c = 1; c < 64; c++) {
			if (!(clients >> c & 1))
				continue;
			while (sent[c] < engine_kernels(p->engine, 0, c) - base[c] + 2) {
				play_kernel(p, c, 1, 100, ns[c]);
				sent[c]++;
			}
		}
		next = engine_next_ns(p->engine);
		engine_advance(p->engine, next < to_ns ? next : to_ns);
	}
}
