/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers call their own exported functions, and those come back through us: inside
 * cuMemAlloc and cuCtxCreate another allocation, a free, a context. Nothing waits for
 * itself, the inner call is the driver's own, and what the outer one took is counted once.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include "driver.h"
#include "lock.h"
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

static sigjmp_buf back;

static void jump(void)
{
	siglongjmp(back, 1);
}

/* A call from further down the stack than the one that was left, over whatever that one
 * left behind. */
static __attribute__((noinline)) CUresult allocate_deeper(CUdeviceptr *p)
{
	volatile char room[512];

	for (size_t i = 0; i < sizeof(room); i++)
		room[i] = 0x5a;
	return room[7] == 0x5a ? cuMemAlloc_v2(p, 2 * MIB) : CUDA_ERROR_UNKNOWN;
}

/* A jump out of the driver, as a signal handler or an exception makes it. The thread is
 * counted afterwards as before; what the call was for stays charged. */
static void test_jump_out_of_a_call(void **state)
{
	uint64_t before;
	CUcontext ctx;
	CUdeviceptr p;

	(void)state;
	assert_int_equal(cuCtxCreate_v2(&ctx, 0, 0), CUDA_SUCCESS);
	for (int deeper = 0; deeper < 2; deeper++) {
		before = driver_used_bytes();
		driver.in_alloc = jump;
		if (sigsetjmp(back, 1) == 0)
			(void)cuMemAlloc_v2(&p, MIB);
		driver.in_alloc = NULL;
		assert_int_equal(driver_used_bytes(), before + MIB);
		assert_int_equal(deeper ? allocate_deeper(&p) : cuMemAlloc_v2(&p, 2 * MIB),
				 CUDA_SUCCESS);
		assert_int_equal(driver_used_bytes(), before + 3 * MIB);
		assert_int_equal(cuMemFree_v2(p), CUDA_SUCCESS);
		assert_int_equal(driver_used_bytes(), before + MIB);
	}
	assert_int_equal(cuCtxDestroy_v2(ctx), CUDA_SUCCESS);
}

static volatile sig_atomic_t handled;
static volatile bool leaves_handler;

static void on_signal(int number)
{
	CUdeviceptr p;

	(void)number;
	if (cuMemAlloc_v2(&p, 16 * MIB) == CUDA_SUCCESS)
		handled = 1;
	if (leaves_handler)
		siglongjmp(back, 1);
}

static void interrupt(void)
{
	driver.in_alloc = NULL;
	(void)raise(SIGUSR1);
}

/* On a stack of its own a handler is neither above nor below: its calls step aside while
 * the one it stands on lives, and are forgotten when it jumps away. */
static void test_handler_on_another_stack(void **state)
{
	static char room[1 << 16];
	const stack_t stack = { .ss_sp = room, .ss_size = sizeof(room) };
	const struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
	const stack_t none = { .ss_flags = SS_DISABLE };
	uint64_t before;
	CUcontext ctx;
	CUdeviceptr p;

	(void)state;
	assert_int_equal(sigaltstack(&stack, NULL), 0);
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	assert_int_equal(cuCtxCreate_v2(&ctx, 0, 0), CUDA_SUCCESS);
	before = driver_used_bytes();
	driver.in_alloc = interrupt;
	assert_int_equal(cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	assert_int_equal(handled, 1);
	assert_int_equal(driver_used_bytes(), before + MIB);
	/* Out of a call that the handler itself makes, in which the driver jumps. */
	leaves_handler = true;
	if (sigsetjmp(back, 1) == 0) {
		driver.in_alloc = jump;
		(void)raise(SIGUSR1);
	}
	driver.in_alloc = NULL;
	assert_int_equal(driver_used_bytes(), before + 17 * MIB);
	assert_int_equal(cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	assert_int_equal(driver_used_bytes(), before + 18 * MIB);
	assert_int_equal(sigaltstack(&none, NULL), 0);
	assert_int_equal(cuCtxDestroy_v2(ctx), CUDA_SUCCESS);
}

static struct tr_lock left;

static void *leave_locked(void *arg)
{
	tr_lock(&left);
	return arg;
}

/* Whoever left with a lock stops the others for a bounded time, himself not at all. */
static void test_lock_that_was_left(void **state)
{
	pthread_t thread;

	(void)state;
	tr_lock(&left);
	tr_unlock_left();
	tr_lock(&left);
	tr_unlock(&left);
	assert_int_equal(pthread_create(&thread, NULL, leave_locked, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	tr_lock(&left);
	tr_unlock(&left);
	assert_int_equal(atomic_load(&left.word) & 1, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_driver_calls_back),
		cmocka_unit_test(test_driver_waits_for_another_thread),
		cmocka_unit_test(test_jump_out_of_a_call),
		cmocka_unit_test(test_handler_on_another_stack),
		cmocka_unit_test(test_lock_that_was_left),
	};
	int failed;

	(void)alarm(30); /* who waits for himself does so for ever */
	driver_start(UINT64_C(64) << 30);
	failed = cmocka_run_group_tests_name("hook re-entry", tests, NULL, NULL);
	driver_end();
	return failed;
}
