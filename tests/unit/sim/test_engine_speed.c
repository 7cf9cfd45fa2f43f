/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <stdio.h>
#include <time.h>

#include "play.h"

static const struct engine_setup one = { PLAY_DEFAULTS };

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The bound is loose (this runs beside others and under sanitisers); the figure is printed. */
static void test_million(void **state)
{
	const uint64_t ns[] = { 0, 10 * PLAY_US, 10 * PLAY_US };
	double begin = cpu_s(), took;
	struct play p;

	(void)state;
	play_begin(&p, &one, 2);
	p.keeps_words = 0;
	play_saturate(&p, 3u << 1, ns, 10 * PLAY_S);
	took = cpu_s() - begin;
	assert_int_equal(p.done, 1000000);
	printf("a million kernels of two processes: %.2f s\n", took);
	assert_true(took < 5);
	play_end(&p);
}

/* What grows with the number of channels that wait shows here: 1,000 do. */
static void test_crowd(void **state)
{
	double begin = cpu_s(), took;
	struct play p;

	(void)state;
	play_begin(&p, &one, 8);
	p.keeps_words = 0;
	for (uint64_t client = 1; client <= 8; client++) {
		for (uint64_t channel = 2; channel <= 125; channel++)
			play_open(&p, client, channel, 0, 0);
		for (uint64_t i = 0; i < 125 * 400; i++)
			play_kernel(&p, client, 1 + i % 125, 100, PLAY_US);
	}
	engine_advance(p.engine, PLAY_S);
	took = cpu_s() - begin;
	assert_int_equal(p.done, 400000);
	printf("400,000 kernels of 1,000 channels: %.2f s\n", took);
	assert_true(took < 5);
	play_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "speed: a million kernels", test_million, NULL, NULL, NULL },
		{ "speed: a thousand channels", test_crowd, NULL, NULL, NULL },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
