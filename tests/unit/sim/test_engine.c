/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>

#include "play.h"

static const struct engine_setup one = { PLAY_DEFAULTS };

static void test_in_order(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 1);
	play_kernel(&p, 1, 1, 1, 5 * PLAY_US);
	play_copy(&p, 1, 1, RM_WORK_COPY_IN, 7 * PLAY_US);
	play_kernel(&p, 1, 1, 1, 11 * PLAY_US);
	play_stamp(&p, 1, 1, 3, 1);
	assert_int_equal(engine_next_ns(p.engine),
			 0);          /* what was submitted begins at once */
	assert_int_equal(p.count, 0); /* and is not heard of before */
	engine_advance(p.engine, 4 * PLAY_US);
	assert_int_equal(engine_next_ns(p.engine), 5 * PLAY_US);
	engine_advance(p.engine, PLAY_MS);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), 5 * PLAY_US);
	assert_int_equal(play_done_ns(&p, 1, 1, 2), 12 * PLAY_US);
	assert_int_equal(play_done_ns(&p, 1, 1, 3), 23 * PLAY_US);
	assert_int_equal(play_stamp_ns(&p, 1, 3, 1), 23 * PLAY_US);
	assert_int_equal(play_done_ns(&p, 1, 1, 4), 23 * PLAY_US);
	assert_int_equal(engine_next_ns(p.engine), UINT64_MAX);
	assert_int_equal(engine_kernels(p.engine, 0, 1), 2);
	assert_int_equal(engine_busy_ns(p.engine, 0, 1), 16 * PLAY_US);
	assert_int_equal(engine_busy_ns(p.engine, 0, 0), 16 * PLAY_US);
	play_end(&p);
}

static void test_room(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 1);
	play_open(&p, 1, 2, 0, 0);
	play_open(&p, 1, 3, 0, 0);
	play_open(&p, 1, 4, 0, 0);
	play_kernel(&p, 1, 1, 60, 10);
	play_kernel(&p, 1, 2, 60, 10);   /* has no room beside the first */
	play_kernel(&p, 1, 3, 20, 10);   /* and does not let a later one overtake it */
	play_kernel(&p, 1, 4, 9999, 10); /* the whole device */
	engine_advance(p.engine, 100);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), 10);
	assert_int_equal(play_done_ns(&p, 1, 2, 1), 20);
	assert_int_equal(play_done_ns(&p, 1, 3, 1), 20);
	assert_int_equal(play_done_ns(&p, 1, 4, 1), 30);
	assert_int_equal(engine_busy_ns(p.engine, 0, 1), 30);
	play_end(&p);
}

static void test_priority(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 1);
	play_open(&p, 1, 2, 0, 5);
	play_open(&p, 1, 3, 0, -5);
	for (uint64_t channel = 1; channel <= 3; channel++)
		play_kernel(&p, 1, channel, 100, 10);
	play_kernel(&p, 1, 3, 100, 10);
	engine_advance(p.engine, 100);
	assert_int_equal(play_done_ns(&p, 1, 3, 1), 10);
	assert_int_equal(play_done_ns(&p, 1, 3, 2), 20);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), 30);
	assert_int_equal(play_done_ns(&p, 1, 2, 1), 40);
	play_end(&p);
}

static void test_copies(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 2);
	play_open(&p, 1, 2, 0, 0);
	play_open(&p, 1, 3, 0, 0);
	play_open(&p, 2, 2, 0, 0);
	play_kernel(&p, 1, 1, 100, 10 * PLAY_MS);
	play_copy(&p, 1, 2, RM_WORK_COPY_IN, PLAY_MS);
	play_copy(&p, 1, 3, RM_WORK_COPY_OUT, PLAY_MS); /* another engine */
	play_copy(&p, 2, 1, RM_WORK_COPY_IN, PLAY_MS);  /* behind the first */
	play_copy(&p, 2, 2, RM_WORK_COPY_IN, 0);        /* behind that */
	play_copy(&p, 2, 2, RM_WORK_COPY_LOCAL, 0);
	engine_advance(p.engine, 10 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 1, 2, 1), PLAY_MS);
	assert_int_equal(play_done_ns(&p, 1, 3, 1), PLAY_MS);
	assert_int_equal(play_done_ns(&p, 2, 1, 1), 2 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 2, 2, 1), 2 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 2, 2, 2), 2 * PLAY_MS);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), 10 * PLAY_MS);
	assert_int_equal(engine_busy_ns(p.engine, 0, 2), 0);
	play_end(&p);
}

static void test_waits(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 1);
	play_open(&p, 1, 2, 0, 0);
	play_open(&p, 1, 3, 0, 0);
	play_wait_stamp(&p, 1, 2, 7, 2);
	play_kernel(&p, 1, 2, 1, 5);
	play_wait_channel(&p, 1, 3, 2, 2);
	play_kernel(&p, 1, 3, 1, 5);
	play_kernel(&p, 1, 1, 1, 10);
	play_stamp(&p, 1, 1, 7, 1); /* too early a generation */
	play_kernel(&p, 1, 1, 1, 10);
	play_stamp(&p, 1, 1, 7, 2);
	engine_advance(p.engine, 1000);
	assert_int_equal(play_done_ns(&p, 1, 2, 1), 20);
	assert_int_equal(play_done_ns(&p, 1, 2, 2), 25);
	assert_int_equal(play_done_ns(&p, 1, 3, 2), 30);
	/* What is reached already does not wait; nor does generation 0 of any stamp. */
	play_wait_stamp(&p, 1, 2, 7, 1);
	play_wait_stamp(&p, 1, 2, 9, 0);
	play_wait_channel(&p, 1, 2, 3, 2);
	play_wait_channel(&p, 1, 2, 99, 12345);
	engine_advance(p.engine, 1000);
	assert_int_equal(play_done_ns(&p, 1, 2, 6), 1000);
	play_end(&p);
}

static void test_closed(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 1);
	play_open(&p, 1, 2, 0, 0);
	play_kernel(&p, 1, 1, 1, 10);
	play_wait_channel(&p, 1, 2, 1, 5); /* a ticket that never comes */
	play_wait_channel(&p, 1, 2, 1, 6);
	engine_advance(p.engine, 5);
	engine_channel_close(p.engine, 1, 1);
	assert_int_equal(
		engine_submit(p.engine, 1, 1, &(struct rm_work){ .kind = RM_WORK_KERNEL }),
		-ENOENT);
	engine_advance(p.engine, 100);
	assert_int_equal(play_done_ns(&p, 1, 1, 1), 10); /* what was submitted still runs */
	assert_int_equal(play_done_ns(&p, 1, 2, 1), 10);
	assert_int_equal(play_done_ns(&p, 1, 2, 2), 10);
	assert_int_equal(engine_next_ns(p.engine), UINT64_MAX);
	play_end(&p);
}

static void test_stamp_anew(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 1);
	play_kernel(&p, 1, 1, 1, 10);
	play_stamp(&p, 1, 1, 4, 8);
	engine_advance(p.engine, 5);
	assert_false(engine_stamp_close(p.engine, 1, 4));
	engine_advance(p.engine, 10);
	assert_true(engine_stamp_close(p.engine, 1, 4));
	play_open(&p, 1, 2, 0, 0);
	play_wait_stamp(&p, 1, 2, 4, 1);
	engine_advance(p.engine, 50);
	assert_int_equal(play_done_ns(&p, 1, 2, 1), PLAY_NEVER);
	play_stamp(&p, 1, 1, 4, 1);
	engine_advance(p.engine, 50);
	assert_int_equal(play_done_ns(&p, 1, 2, 1), 50);
	play_end(&p);
}

/* A kernel runs, one waits for room, one channel copies, one waits: all of it ends at once. */
static void test_gone(void **state)
{
	struct play p;

	(void)state;
	play_begin(&p, &one, 2);
	for (uint64_t channel = 2; channel <= 6; channel++)
		play_open(&p, 1, channel, 0, 0);
	play_kernel(&p, 1, 1, 100, PLAY_S);
	play_kernel(&p, 1, 2, 100, PLAY_S);
	play_copy(&p, 1, 3, RM_WORK_COPY_IN, PLAY_S);
	play_copy(&p, 1, 4, RM_WORK_COPY_IN, 0);
	play_wait_stamp(&p, 1, 5, 1, 1);
	play_wait_channel(&p, 1, 6, 1, 1);
	engine_advance(p.engine, PLAY_MS);
	play_kernel(&p, 2, 1, 100, 10);
	play_copy(&p, 2, 1, RM_WORK_COPY_IN, 10);
	engine_client_gone(p.engine, 1);
	engine_advance(p.engine, PLAY_MS + 20);
	assert_int_equal(play_done_ns(&p, 2, 1, 1), PLAY_MS + 10);
	assert_int_equal(play_done_ns(&p, 2, 1, 2), PLAY_MS + 20);
	assert_int_equal(p.count, 2);
	assert_int_equal(engine_next_ns(p.engine), UINT64_MAX);
	assert_int_equal(engine_busy_ns(p.engine, 0, 0), PLAY_MS + 10);
	assert_int_equal(engine_busy_ns(p.engine, 0, 1), 0);
	assert_int_equal(engine_client_add(p.engine, 1), 0); /* the key may come again */
	play_end(&p);
}

static void test_refused(void **state)
{
	const struct rm_work kernel = { .kind = RM_WORK_KERNEL };
	struct play p;

	(void)state;
	play_begin(&p, &one, 1);
	assert_int_equal(engine_client_add(p.engine, 0), -EINVAL);
	assert_int_equal(engine_client_add(p.engine, 1), -EEXIST);
	assert_int_equal(engine_channel_open(p.engine, 2, 1, 0, 0), -ENOENT);
	assert_int_equal(engine_channel_open(p.engine, 1, 1, 0, 0), -EEXIST);
	assert_int_equal(engine_channel_open(p.engine, 1, 2, 1, 0), -EINVAL);
	assert_int_equal(engine_submit(p.engine, 1, 2, &kernel), -ENOENT);
	assert_int_equal(engine_submit(p.engine, 2, 1, &kernel), -ENOENT);
	assert_int_equal(engine_submit(p.engine, 1, 1,
				       &(struct rm_work){ .kind = (enum rm_work_kind)77 }),
			 -EINVAL);
	engine_client_gone(p.engine, 5);
	engine_channel_close(p.engine, 1, 5);
	assert_int_equal(engine_next_ns(p.engine), UINT64_MAX);
	play_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "engine: a channel is in order", test_in_order, NULL, NULL, NULL },
		{ "engine: kernels run together while there is room", test_room, NULL, NULL,
		  NULL },
		{ "engine: priority goes before arrival", test_priority, NULL, NULL, NULL },
		{ "engine: copies run beside kernels", test_copies, NULL, NULL, NULL },
		{ "engine: waits across channels", test_waits, NULL, NULL, NULL },
		{ "engine: a closed channel drains and is done", test_closed, NULL, NULL,
		  NULL },
		{ "engine: a stamp begins anew", test_stamp_anew, NULL, NULL, NULL },
		{ "engine: a client that is gone frees the device", test_gone, NULL, NULL,
		  NULL },
		{ "engine: what makes no sense is refused", test_refused, NULL, NULL,
		  NULL },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
