/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <stdlib.h>
#include <string.h>

#include "play.h"

static const struct engine_setup one = { PLAY_DEFAULTS };

static void test_halves(void **state)
{
	const uint64_t ns[] = { 0, 10 * PLAY_US, 700 * PLAY_US };
	struct play p;

	(void)state;
	play_begin(&p, &one, 2);
	play_saturate(&p, 3u << 1, ns, PLAY_S);
	/* 250 turns each of 2 ms, to the nanosecond: a kernel that does not end is paused. */
	assert_int_equal(engine_busy_ns(p.engine, 0, 1), PLAY_S / 2);
	assert_int_equal(engine_busy_ns(p.engine, 0, 2), PLAY_S / 2);
	assert_int_equal(engine_busy_ns(p.engine, 0, 0), PLAY_S);
	assert_int_equal(engine_kernels(p.engine, 0, 1), 50000);
	assert_int_equal(engine_kernels(p.engine, 0, 2), 714);
	play_end(&p);
}

static void test_thirds(void **state)
{
	const uint64_t ns[] = { 0, 10 * PLAY_US, 5 * PLAY_MS, 500 * PLAY_MS };
	struct play p;

	(void)state;
	play_begin(&p, &one, 3);
	play_saturate(&p, 7u << 1, ns, 6 * PLAY_S);
	for (uint64_t c = 1; c <= 3; c++)
		assert_int_equal(engine_busy_ns(p.engine, 0, c), 2 * PLAY_S);
	assert_int_equal(engine_kernels(p.engine, 0, 3), 4);
	play_end(&p);
}

static void test_rest(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 2);
	play_kernel(&p, 1, 1, 100, 5 * PLAY_MS);
	play_kernel(&p, 2, 1, 100, 3 * PLAY_MS);
	engine_advance(p.engine, PLAY_S);
	/* 1: 0-2, 4-6, 7-8; 2: 2-4, 6-7 */
	assert_int_equal(play_done_ns(&p, 2, 1, 1), 7 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), 8 * PLAY_MS);
	play_end(&p);
}

/* Alone there are no turns; who comes late has the device at once when a turn's length is over,
 * or when it is. */
static void test_late(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 2);
	play_kernel(&p, 1, 1, 100, 100 * PLAY_MS);
	engine_advance(p.engine, 50 * PLAY_MS);
	assert_int_equal(engine_next_ns(p.engine), 100 * PLAY_MS); /* no event of turns */
	play_kernel(&p, 2, 1, 100, PLAY_US);
	engine_advance(p.engine, 51 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 2, 1, 1), 50 * PLAY_MS + PLAY_US);
	/* 1 has a fresh turn since then. */
	play_kernel(&p, 2, 1, 100, PLAY_US);
	engine_advance(p.engine, PLAY_S);
	assert_int_equal(play_done_ns(&p, 2, 1, 2), 52 * PLAY_MS + 2 * PLAY_US);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), 100 * PLAY_MS + 2 * PLAY_US);
	play_end(&p);
}

/* Who runs dry gives the rest of the turn away; what only copies or waits wants none. */
static void test_dry(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 4);
	play_kernel(&p, 1, 1, 100, 10 * PLAY_US);
	play_copy(&p, 2, 1, RM_WORK_COPY_IN, PLAY_S);
	play_wait_stamp(&p, 3, 1, 1, 1);
	play_kernel(&p, 4, 1, 100, 10 * PLAY_US);
	engine_advance(p.engine, PLAY_MS);
	assert_int_equal(play_done_ns(&p, 4, 1, 1), 20 * PLAY_US);
	play_end(&p);
}

static void test_stamps(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 2);
	play_stamp(&p, 1, 1, 1, 1);
	play_kernel(&p, 1, 1, 100, 3 * PLAY_MS);
	play_stamp(&p, 1, 1, 2, 1);
	play_kernel(&p, 2, 1, 100, 50 * PLAY_MS);
	engine_advance(p.engine, PLAY_MS);
	/* A stamp of a process that is switched out waits for its turn. */
	play_stamp(&p, 2, 1, 1, 1);
	engine_advance(p.engine, PLAY_S);
	assert_int_equal(play_stamp_ns(&p, 1, 1, 1), 0);
	assert_int_equal(play_stamp_ns(&p, 1, 2, 1), 5 * PLAY_MS);
	assert_int_equal(engine_busy_ns(p.engine, 0, 1), 3 * PLAY_MS);
	play_end(&p);

	play_begin(&p, &one, 2);
	play_kernel(&p, 1, 1, 100, 50 * PLAY_MS);
	engine_advance(p.engine, PLAY_MS);
	play_stamp(&p, 2, 1, 1, 1);
	engine_advance(p.engine, PLAY_S);
	assert_int_equal(play_stamp_ns(&p, 2, 1, 1), 2 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), 50 * PLAY_MS); /* that took no time */
	/* The device is idle: at once. */
	play_stamp(&p, 2, 1, 1, 2);
	engine_advance(p.engine, PLAY_S);
	assert_int_equal(play_stamp_ns(&p, 2, 1, 2), PLAY_S);
	play_end(&p);
}

/* A stamp is not held up by a kernel of its process that has no room. */
static void test_stamp_room(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 1);
	play_open(&p, 1, 2, 0, 0);
	play_open(&p, 1, 3, 0, 0);
	play_kernel(&p, 1, 1, 100, PLAY_MS);
	play_kernel(&p, 1, 2, 100, PLAY_MS);
	play_stamp(&p, 1, 3, 1, 1);
	engine_advance(p.engine, 10);
	assert_int_equal(play_stamp_ns(&p, 1, 1, 1), 0);
	play_end(&p);
}

static void test_switch(void **state)
{
	const struct engine_setup costly = { PLAY_DEFAULTS, .switch_ns = 100 * PLAY_US };
	struct play p;

	(void)state;
	play_begin(&p, &costly, 2);
	play_kernel(&p, 1, 1, 100, 3 * PLAY_MS);
	play_kernel(&p, 2, 1, 100, PLAY_MS);
	engine_advance(p.engine, PLAY_S);
	assert_int_equal(play_done_ns(&p, 2, 1, 1), 3100 * PLAY_US);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), 4200 * PLAY_US);
	/* The one that had it last pays nothing, and one that goes while it is switched in is
	 * not waited for. */
	play_kernel(&p, 1, 1, 100, 10);
	engine_advance(p.engine, PLAY_S + 10);
	assert_int_equal(play_done_ns(&p, 1, 1, 2), PLAY_S + 10);
	play_kernel(&p, 2, 1, 100, 10);
	engine_advance(p.engine, PLAY_S + 20);
	play_kernel(&p, 1, 1, 100, 10);
	engine_client_gone(p.engine, 2);
	engine_advance(p.engine, 2 * PLAY_S);
	assert_int_equal(play_done_ns(&p, 1, 1, 3), PLAY_S + 100 * PLAY_US + 30);
	play_end(&p);
}

static void test_mps(void **state)
{
	const struct engine_setup mps = { PLAY_DEFAULTS, .is_mps = true };
	struct play p;

	(void)state;
	play_begin(&p, &mps, 3);
	play_kernel(&p, 1, 1, 50, 10 * PLAY_MS);
	play_kernel(&p, 2, 1, 50, 4 * PLAY_MS);
	play_kernel(&p, 3, 1, 50, 4 * PLAY_MS);
	play_stamp(&p, 3, 1, 1, 1);
	engine_advance(p.engine, 20 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), 10 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 2, 1, 1), 4 * PLAY_MS);
	assert_int_equal(play_stamp_ns(&p, 3, 1, 1), 8 * PLAY_MS);
	/* Each is busy while its kernel runs: together more than the device. */
	assert_int_equal(engine_busy_ns(p.engine, 0, 1), 10 * PLAY_MS);
	assert_int_equal(engine_busy_ns(p.engine, 0, 2), 4 * PLAY_MS);
	assert_int_equal(engine_busy_ns(p.engine, 0, 3), 4 * PLAY_MS);
	assert_int_equal(engine_busy_ns(p.engine, 0, 0), 10 * PLAY_MS);
	play_kernel(&p, 1, 1, 100, PLAY_S);
	engine_advance(p.engine, 21 * PLAY_MS);
	play_kernel(&p, 2, 1, 100, 10);
	engine_client_gone(p.engine, 1);
	engine_advance(p.engine, 22 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 2, 1, 2), 21 * PLAY_MS + 10);
	play_end(&p);
}

static void test_devices(void **state)
{
	const struct engine_setup two = { .device_count = 2,
					  .sm_count = { 100, 10 },
					  .quantum_ns = PLAY_MS };
	struct play p;

	(void)state;
	play_begin(&p, &two, 2);
	play_open(&p, 1, 2, 1, 0);
	play_kernel(&p, 1, 1, 100, 5 * PLAY_MS);
	play_kernel(&p, 1, 2, 100, 5 * PLAY_MS);
	play_kernel(&p, 2, 1, 100, 5 * PLAY_MS);
	engine_advance(p.engine, PLAY_S);
	assert_int_equal(play_done_ns(&p, 1, 2, 1), 5 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), 9 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 2, 1, 1), 10 * PLAY_MS);
	assert_int_equal(engine_busy_ns(p.engine, 1, 1), 5 * PLAY_MS);
	assert_int_equal(engine_busy_ns(p.engine, 1, 2), 0);
	assert_int_equal(engine_busy_ns(p.engine, 2, 0), 0);
	play_end(&p);
}

#define SIXTH 166666667ull

static void test_samples(void **state)
{
	struct engine_sample rows[500];
	struct play p;
	size_t n = 500;

	(void)state;
	play_begin(&p, &one, 2);
	play_kernel(&p, 1, 1, 100, SIXTH / 4);
	engine_advance(p.engine, SIXTH - 1);
	engine_samples(p.engine, 0, false, 0, rows, &n);
	assert_int_equal(n, 0); /* has not ended */
	engine_advance(p.engine, SIXTH);
	play_kernel(&p, 2, 1, 100, SIXTH + SIXTH / 2);
	play_copy(&p, 1, 1, RM_WORK_COPY_IN, SIXTH / 10);
	engine_advance(p.engine, 3 * SIXTH);
	n = 500;
	engine_samples(p.engine, 0, false, 0, rows, &n);
	assert_int_equal(n, 3);
	assert_int_equal(rows[0].end_ns, SIXTH);
	assert_int_equal(rows[0].sm_percent, 25);
	assert_int_equal(rows[1].sm_percent, 100);
	assert_int_equal(rows[1].mem_percent, 10);
	assert_int_equal(rows[2].sm_percent, 50);
	/* A run that goes on counts in what has ended of it. */
	n = 500;
	engine_samples(p.engine, 0, true, SIXTH, rows, &n);
	assert_int_equal(n, 4);
	assert_int_equal(rows[0].client, 1);
	assert_int_equal(rows[0].sm_percent, 0);
	assert_int_equal(rows[0].mem_percent, 10);
	assert_int_equal(rows[1].client, 2);
	assert_int_equal(rows[1].end_ns, 2 * SIXTH);
	assert_int_equal(rows[1].sm_percent, 100);
	assert_int_equal(rows[3].sm_percent, 50);
	/* Without a channel only sixths that were used. */
	engine_channel_close(p.engine, 1, 1);
	engine_channel_close(p.engine, 2, 1);
	engine_advance(p.engine, 4 * SIXTH);
	n = 500;
	engine_samples(p.engine, 0, true, 0, rows, &n);
	assert_int_equal(n, 4);
	n = 1;
	engine_samples(p.engine, 0, false, 0, rows, &n);
	assert_int_equal(n, 1);
	play_end(&p);
}

static void test_hours(void **state)
{
	const uint64_t hours = 100000 * 3600 * PLAY_S;
	struct engine_sample rows[500];
	struct play p;
	size_t n = 500;

	(void)state;
	play_begin(&p, &one, 2);
	play_kernel(&p, 1, 1, 100, hours);
	engine_advance(p.engine, hours + 10 * SIXTH);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), hours);
	engine_samples(p.engine, 0, false, 0, rows, &n);
	assert_int_equal(n, 120);
	assert_int_equal(rows[0].sm_percent, 100);
	assert_int_equal(rows[108].sm_percent, 100);
	assert_int_equal(rows[119].sm_percent, 0);
	assert_int_equal(rows[119].end_ns, (hours + 10 * SIXTH) / SIXTH * SIXTH);
	engine_advance(p.engine, 2 * hours);
	n = 500;
	engine_samples(p.engine, 0, false, 2 * hours - SIXTH, rows, &n);
	assert_int_equal(n, 1);
	assert_int_equal(rows[0].sm_percent, 0);
	play_end(&p);
}

/* ---- a random play ------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void submit_random(struct play *p, uint64_t *x, uint64_t client, uint64_t channel)
{
	uint64_t what = next_random(x) % 16, ns = next_random(x) % (3 * PLAY_MS);
	uint32_t stamp = (uint32_t)(next_random(x) % 4);

	if (what < 8)
		play_kernel(p, client, channel, (uint32_t)(ns % 120), what == 0 ? 0 : ns);
	else if (what < 11)
		play_copy(p, client, channel,
			  (enum rm_work_kind)(RM_WORK_COPY_IN + (what - 8)), ns);
	else if (what < 13)
		play_stamp(p, client, channel, stamp, next_random(x) % 50);
	else if (what < 14)
		play_wait_stamp(p, client, channel, stamp, next_random(x) % 4);
	else /* of a lower channel: no ring of waits */
		play_wait_channel(p, client, channel, next_random(x) % channel,
				  next_random(x) % 4);
}

/* What must hold whatever happens: nobody is busy for longer than time went on, and without MPS the
 * clients together are as busy as the device. */
static void check_sums(const struct play *p, bool is_mps)
{
	uint64_t sum = 0, most = 0, all = engine_busy_ns(p->engine, 0, 0);

	for (uint64_t c = 1; c <= 6; c++) {
		uint64_t busy = engine_busy_ns(p->engine, 0, c);

		sum += busy;
		most = busy > most ? busy : most;
	}
	assert_true(all <= engine_now_ns(p->engine) && most <= all);
	if (is_mps)
		assert_true(sum >= all);
	else
		assert_int_equal(sum, all);
}

static void play_random(struct play *p, uint64_t seed, bool is_mps, bool has_gone)
{
	const struct engine_setup setup = { PLAY_DEFAULTS, .is_mps = is_mps };
	uint64_t x = seed, now = 0;

	play_begin(p, &setup, 6);
	for (uint64_t client = 1; client <= 6; client++)
		for (uint64_t channel = 2; channel <= 4; channel++)
			play_open(p, client, channel, 0, (int)(next_random(&x) % 3));
	for (int i = 0; i < 5000; i++) {
		uint64_t client = 1 + next_random(&x) % 6,
			 channel = 1 + next_random(&x) % 4;

		submit_random(p, &x, client, channel);
		if (next_random(&x) % 4 == 0)
			now += next_random(&x) % (2 * PLAY_MS);
		engine_advance(p->engine, now);
		if (!has_gone)
			check_sums(p, is_mps);
		if (has_gone && next_random(&x) % 50 == 0) {
			engine_client_gone(p->engine, client);
			assert_int_equal(engine_client_add(p->engine, client), 0);
			for (channel = 1; channel <= 4; channel++)
				play_open(p, client, channel, 0, 0);
		}
	}
	engine_advance(p->engine, now + 10000 * PLAY_S);
	assert_int_equal(engine_next_ns(p->engine), UINT64_MAX);
}

static void test_random(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct play a, b;
		bool is_mps = seed % 2, has_gone = seed % 4 < 2;

		play_random(&a, seed, is_mps, has_gone);
		play_random(&b, seed, is_mps, has_gone);
		assert_true(a.count > 1000);
		assert_int_equal(a.count, b.count);
		for (size_t i = 0; i < a.count; i++) {
			const struct play_word *w = &a.words[i], *v = &b.words[i];

			assert_true(w->at_ns == v->at_ns && w->client == v->client &&
				    w->id == v->id && w->number == v->number &&
				    w->is_stamp == v->is_stamp);
		}
		play_end(&a);
		play_end(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "turns: two that saturate have half each", test_halves, NULL, NULL,
		  NULL },
		{ "turns: three have a third, whatever their kernels", test_thirds, NULL,
		  NULL, NULL },
		{ "turns: a paused kernel keeps its rest", test_rest, NULL, NULL, NULL },
		{ "turns: alone there are none", test_late, NULL, NULL, NULL },
		{ "turns: who runs dry passes on", test_dry, NULL, NULL, NULL },
		{ "turns: stamps span time in which others ran", test_stamps, NULL, NULL,
		  NULL },
		{ "turns: a stamp needs no room", test_stamp_room, NULL, NULL, NULL },
		{ "turns: a switch costs", test_switch, NULL, NULL, NULL },
		{ "turns: mps shares the space", test_mps, NULL, NULL, NULL },
		{ "turns: devices are apart", test_devices, NULL, NULL, NULL },
		{ "samples: percent of each sixth", test_samples, NULL, NULL, NULL },
		{ "samples: hours go by", test_hours, NULL, NULL, NULL },
		{ "random: sums hold, twice the same", test_random, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
