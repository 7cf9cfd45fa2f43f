/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers call their own exported functions, and those come back through us: inside
 * cuMemAlloc and cuCtxCreate another allocation, a free, a context. Nothing waits for
 * itself, the inner call is the driver's own, and what the outer one took is counted once.
 */
#include <pthread.h>
#include <unistd.h>

#include "driver.h"
#include "tr_test.h"

#define MIB (UINT64_C(1) << 20)

static unsigned entered;

static void allocate_again(void)
{
	CUdeviceptr p;

	if (entered++)
		return; /* the inner call's own */
	assert_int_equal(cuMemAlloc_v2(&p, 7 * MIB), CUDA_SUCCESS);
	assert_int_equal(cuMemFree_v2(p), CUDA_SUCCESS);
}

static void create_again(void)
{
	CUcontext ctx, was = NULL;
	CUdeviceptr p;

	if (entered++)
		return;
	assert_int_equal(tr_real.cuCtxGetCurrent(&was), CUDA_SUCCESS);
	assert_int_equal(cuCtxCreate_v2(&ctx, 0, 0), CUDA_SUCCESS);
	assert_int_equal(cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	assert_int_equal(cuCtxDestroy_v2(ctx), CUDA_SUCCESS);
	assert_int_equal(cuCtxSetCurrent(was), CUDA_SUCCESS);
}

static void test_driver_calls_back(void **state)
{
	CUcontext ctx;
	CUdeviceptr p;

	(void)state;
	entered = 0;
	driver.in_create = create_again;
	assert_int_equal(cuCtxCreate_v2(&ctx, 0, 0), CUDA_SUCCESS);
	driver.in_create = NULL;
	assert_int_equal(entered, 2);
	assert_int_equal(driver_floor_bytes(), DRIVER_FLOOR_BYTES);
	assert_int_equal(driver_used_bytes(), 0);
	entered = 0;
	driver.in_alloc = allocate_again;
	assert_int_equal(cuMemAlloc_v2(&p, 5 * MIB), CUDA_SUCCESS);
	driver.in_alloc = NULL;
	assert_int_equal(entered, 2);
	assert_int_equal(driver_used_bytes(), 5 * MIB);
	assert_int_equal(driver_used_bytes(), driver_live_bytes());
	/* The outermost call is ours again. */
	assert_int_equal(cuMemFree_v2(p), CUDA_SUCCESS);
	assert_int_equal(driver_used_bytes(), 0);
	assert_int_equal(cuCtxDestroy_v2(ctx), CUDA_SUCCESS);
	assert_int_equal(driver_floor_bytes(), 0);
}

static CUdeviceptr of_other;

static void *allocate_elsewhere(void *ctx)
{
	assert_int_equal(cuCtxSetCurrent(ctx), CUDA_SUCCESS);
	return cuMemAlloc_v2(&of_other, MIB) == CUDA_SUCCESS ? ctx : NULL;
}

/* A driver call that waits for another thread's: no lock of ours is held in between. */
static void wait_for_other(void)
{
	pthread_t thread;
	void *ok = NULL;
	CUcontext ctx;

	if (entered++)
		return;
	assert_int_equal(tr_real.cuCtxGetCurrent(&ctx), CUDA_SUCCESS);
	assert_int_equal(pthread_create(&thread, NULL, allocate_elsewhere, ctx), 0);
	assert_int_equal(pthread_join(thread, &ok), 0);
	assert_non_null(ok);
}

static void test_driver_waits_for_another_thread(void **state)
{
	CUcontext ctx;
	CUdeviceptr p;

	(void)state;
	assert_int_equal(cuCtxCreate_v2(&ctx, 0, 0), CUDA_SUCCESS);
	entered = 0;
	driver.in_alloc = wait_for_other;
	assert_int_equal(cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	driver.in_alloc = NULL;
	assert_int_equal(entered, 2);
	assert_int_equal(driver_used_bytes(), 2 * MIB);
	/* The same at the end of a context, which everybody else's end does not wait for. */
	entered = 0;
	driver.before_destroy = wait_for_other;
	assert_int_equal(cuCtxDestroy_v2(ctx), CUDA_SUCCESS);
	driver.before_destroy = NULL;
	assert_true(driver_used_bytes() >= driver_live_bytes());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_driver_calls_back),
		cmocka_unit_test(test_driver_waits_for_another_thread),
	};
	int failed;

	(void)alarm(30); /* who waits for himself does so for ever */
	driver_start(UINT64_C(64) << 30);
	failed = cmocka_run_group_tests_name("hook re-entry", tests, NULL, NULL);
	driver_end();
	return failed;
}
