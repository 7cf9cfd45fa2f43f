/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four threads at every kind of memory at once, children in between; and the same calls
 * woven by hand where chance would need a year. For ThreadSanitizer above all.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"
#include "reserves.h"
#include "tr_test.h"

#define MIB     (UINT64_C(1) << 20)
#define THREADS 4u
#define ROUNDS  1500u

/* Checks of other threads: cmocka's jump belongs to one. */
#define SURE(condition)           \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static const CUmemAllocationProp on_device = {
	.type = CU_MEM_ALLOCATION_TYPE_PINNED,
	.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 },
};

static void check_equal(void)
{
	assert_int_equal(driver_used_bytes(), driver_live_bytes());
	assert_int_equal(driver_floor_bytes(), driver_contexts() * DRIVER_FLOOR_BYTES);
}

/* ---- woven by hand ------------------------------------------------------------------- */

static void *in_other_thread(void *arg)
{
	CUcontext ctx;
	CUdeviceptr p;

	(void)arg;
	SURE(cuCtxCreate_v2(&ctx, 0, 0) == CUDA_SUCCESS);
	SURE(cuMemAlloc_v2(&p, 3 * MIB) == CUDA_SUCCESS);
	return ctx;
}

static CUcontext other_ctx;

static void meet_other_thread(void)
{
	pthread_t thread;
	void *ctx;

	driver.in_destroy = NULL;
	assert_int_equal(pthread_create(&thread, NULL, in_other_thread, NULL), 0);
	assert_int_equal(pthread_join(thread, &ctx), 0);
	other_ctx = ctx;
}

/* The driver gives the handle away before the call that freed it is back. */
static void test_handle_reused_at_once(void **state)
{
	CUcontext ctx;
	CUdeviceptr p;

	(void)state;
	assert_int_equal(cuCtxCreate_v2(&ctx, 0, 0), CUDA_SUCCESS);
	assert_int_equal(cuMemAlloc_v2(&p, 5 * MIB), CUDA_SUCCESS);
	driver.in_destroy = meet_other_thread;
	assert_int_equal(cuCtxDestroy_v2(ctx), CUDA_SUCCESS);
	assert_ptr_equal(other_ctx, ctx);
	assert_int_equal(driver_used_bytes(), 3 * MIB);
	check_equal();
	assert_int_equal(cuCtxDestroy_v2(other_ctx), CUDA_SUCCESS);
	check_equal();
}

static void *retain_elsewhere(void *arg)
{
	CUcontext ctx;
	CUdeviceptr p;

	(void)arg;
	SURE(cuDevicePrimaryCtxRetain(&ctx, 0) == CUDA_SUCCESS);
	SURE(cuCtxSetCurrent(ctx) == CUDA_SUCCESS);
	SURE(cuMemAlloc_v2(&p, 3 * MIB) == CUDA_SUCCESS);
	return NULL;
}

static void retain_in_between(void)
{
	pthread_t thread;

	driver.in_destroy = driver.before_destroy = NULL;
	assert_int_equal(pthread_create(&thread, NULL, retain_elsewhere, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/* The last release, and a thread that brings the context to life again before the call is
 * back: what it allocated stays charged. What was there before may, until the next end. */
static void release_against_retain(bool is_before)
{
	CUcontext ctx;
	CUdeviceptr p;

	assert_int_equal(cuDevicePrimaryCtxRetain(&ctx, 0), CUDA_SUCCESS);
	assert_int_equal(cuCtxSetCurrent(ctx), CUDA_SUCCESS);
	assert_int_equal(cuMemAlloc_v2(&p, 5 * MIB), CUDA_SUCCESS);
	if (is_before)
		driver.before_destroy = retain_in_between;
	else
		driver.in_destroy = retain_in_between;
	assert_int_equal(cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
	assert_true(driver_used_bytes() >= driver_live_bytes());
	assert_int_equal(driver_floor_bytes(), DRIVER_FLOOR_BYTES);
	if (is_before)
		assert_int_equal(driver_used_bytes(), 8 * MIB);
	assert_int_equal(cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
	check_equal();
	assert_int_equal(driver_used_bytes(), 0);
}

static void test_release_against_retain(void **state)
{
	(void)state;
	release_against_retain(true);
	release_against_retain(false);
}

/* A reset, and another thread at work in the new context before the call is back. */
static void test_reset_against_retain(void **state)
{
	CUcontext ctx;
	CUdeviceptr p;

	(void)state;
	assert_int_equal(cuDevicePrimaryCtxRetain(&ctx, 0), CUDA_SUCCESS);
	assert_int_equal(cuCtxSetCurrent(ctx), CUDA_SUCCESS);
	assert_int_equal(cuMemAlloc_v2(&p, 5 * MIB), CUDA_SUCCESS);
	driver.in_destroy = retain_in_between;
	assert_int_equal(cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
	assert_int_equal(driver_used_bytes(), 3 * MIB);
	check_equal();
	assert_int_equal(cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
	check_equal();
	assert_int_equal(driver_used_bytes(), 0);
}

static void *attach_elsewhere(void *ctx)
{
	SURE(cuCtxSetCurrent(ctx) == CUDA_SUCCESS);
	SURE(cuCtxAttach((CUcontext *)&ctx, 0) == CUDA_SUCCESS);
	return NULL;
}

/* Each detach but the last leaves everything as it is. */
static void test_attach_and_detach(void **state)
{
	pthread_t thread;
	CUcontext ctx;
	CUdeviceptr p;

	(void)state;
	assert_int_equal(cuCtxCreate_v2(&ctx, 0, 0), CUDA_SUCCESS);
	assert_int_equal(cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	assert_int_equal(pthread_create(&thread, NULL, attach_elsewhere, ctx), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(cuCtxDetach(ctx), CUDA_SUCCESS);
	assert_int_equal(driver_used_bytes(), MIB);
	check_equal();
	assert_int_equal(cuCtxDetach(ctx), CUDA_SUCCESS);
	assert_int_equal(driver_used_bytes(), 0);
	check_equal();
}

/* ---- by chance ----------------------------------------------------------------------- */

static void use_pointers(CUcontext ctx, unsigned seed)
{
	CUdeviceptr p[8];

	SURE(cuCtxSetCurrent(ctx) == CUDA_SUCCESS);
	for (unsigned i = 0; i < 8; i++)
		SURE(cuMemAlloc_v2(&p[i], 512 * (1 + seed % 7 + i)) == CUDA_SUCCESS);
	for (unsigned i = 0; i < 8; i++)
		SURE(cuMemFree_v2(p[i]) == CUDA_SUCCESS);
}

static void use_pool(void)
{
	CUdeviceptr p, q;

	SURE(cuMemAllocAsync(&p, MIB, NULL) == CUDA_SUCCESS);
	SURE(cuMemAllocAsync(&q, 3 * MIB, NULL) == CUDA_SUCCESS);
	SURE(cuMemFreeAsync(p, NULL) == CUDA_SUCCESS);
	SURE(cuMemFreeAsync(q, NULL) == CUDA_SUCCESS);
	SURE(cuCtxSynchronize() == CUDA_SUCCESS);
}

static void use_object(uint64_t at)
{
	CUmemGenericAllocationHandle handle;

	SURE(cuMemCreate(&handle, 2 * MIB, &on_device, 0) == CUDA_SUCCESS);
	SURE(cuMemMap(at, 2 * MIB, 0, handle, 0) == CUDA_SUCCESS);
	SURE(cuMemRelease(handle) == CUDA_SUCCESS);
	SURE(cuMemUnmap(at, 2 * MIB) == CUDA_SUCCESS);
}

static void use_context(void)
{
	CUcontext ctx;
	CUdeviceptr p;

	SURE(cuCtxCreate_v2(&ctx, 0, 0) == CUDA_SUCCESS);
	SURE(cuMemAlloc_v2(&p, 4096) == CUDA_SUCCESS); /* it goes with the context */
	SURE(cuCtxDestroy_v2(ctx) == CUDA_SUCCESS);
}

static void *run(void *arg)
{
	unsigned number = (unsigned)(uintptr_t)arg;
	uint64_t at = UINT64_C(0x600000000000) + number * (UINT64_C(1) << 32);
	CUcontext ctx;

	for (unsigned i = 0; i < ROUNDS; i++) {
		SURE(cuDevicePrimaryCtxRetain(&ctx, 0) == CUDA_SUCCESS);
		use_pointers(ctx, i);
		if (i % 4 == number)
			use_context();
		SURE(cuCtxSetCurrent(ctx) == CUDA_SUCCESS);
		use_pool();
		use_object(at);
		SURE(cuDevicePrimaryCtxRelease_v2(0) == CUDA_SUCCESS);
	}
	return NULL;
}

/* A child of a process with threads: nothing of the parent's is its own, and it starts
 * anew. What the driver's library holds for it is the parent's copy: only counted. */
static void have_child(void)
{
	uint64_t before;
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(20);
		if (tr_enter()) /* not attached here */
			_exit(1);
		if (cuInit(0) != CUDA_SUCCESS || !tr_enter())
			_exit(2);
		tr_leave();
		before = driver_used_bytes();
		_exit(before == 0 ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_crowd(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run, (void *)i), 0);
	for (unsigned i = 0; i < 8; i++)
		have_child();
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(driver_contexts(), 0);
	assert_int_equal(driver_floor_bytes(), 0);
	tr_reserves_refresh((tr_dev){ 0 }, true);
	assert_int_equal(driver_live_bytes(), 0);
	assert_int_equal(driver_used_bytes(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handle_reused_at_once),
		cmocka_unit_test(test_release_against_retain),
		cmocka_unit_test(test_reset_against_retain),
		cmocka_unit_test(test_attach_and_detach),
		cmocka_unit_test(test_crowd),
	};
	int failed;

	driver_start(UINT64_C(64) << 30);
	failed = cmocka_run_group_tests_name("hook crowd", tests, NULL, NULL);
	driver_end();
	return failed;
}
