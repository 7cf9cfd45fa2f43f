/* SPDX-License-Identifier: Apache-2.0 */
/* Where a run's first event lies: before the first submission after a wait, or behind it. */
#include "gpu.h"
#include "marks.h"
#include "pace.h"
#include "tr_test.h"

#define S UINT64_C(1000000000)

/* Launches on STREAM when nothing is queued; whether an event was recorded before the kernel went. */
static bool is_first_within(CUstream stream)
{
	unsigned records;

	gpu_wait();
	records = gpu.records;
	gpu_launch(100, stream);
	return gpu.records_before_launch > records;
}

static void learn_kernel(void)
{
	gpu_start(50);
	for (unsigned i = 0; i < 20; i++) {
		gpu_launch(100, GPU_STREAM(0));
		gpu_wait();
	}
}

static void test_one_stream(void **unused)
{
	(void)unused;
	learn_kernel();
	for (unsigned i = 0; i < 40; i++)
		assert_false(is_first_within(GPU_STREAM(0)));
	gpu_end();
}

/* What is submitted first shares the GPU with what follows on the other streams: outside of the run it
 * would be charged besides. */
static void test_several_streams(void **unused)
{
	(void)unused;
	learn_kernel();
	gpu_launch(100, GPU_STREAM(1));
	for (unsigned i = 0; i < 40; i++)
		assert_true(is_first_within(GPU_STREAM(i % 2)));
	/* a second without the other one: one stream again */
	gpu_host(2 * S);
	assert_false(is_first_within(GPU_STREAM(0)));
	assert_true(is_first_within(GPU_STREAM(1)));
	gpu_end();
}

/* An event that an idle GPU comes to would end this process' turn. */
static void test_several_streams_beside_others(void **unused)
{
	(void)unused;
	learn_kernel();
	gpu_share(2);
	gpu_launch(100, GPU_STREAM(1));
	for (unsigned i = 0; i < 40; i++)
		assert_false(is_first_within(GPU_STREAM(i % 2)));
	gpu_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_stream),
		cmocka_unit_test(test_several_streams),
		cmocka_unit_test(test_several_streams_beside_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
