/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of the memory rows over a driver that only counts: charged is what is held,
 * whatever fails and in whichever order things end. */
#include "fake.h"
#include "objects.h"
#include "reserves.h"
#include "tr_test.h"

#define MIB (UINT64_C(1) << 20)

static int start(void **state)
{
	(void)state;
	fake_start();
	return 0;
}

static int end(void **state)
{
	(void)state;
	fake_end();
	return 0;
}

static void check_equal(void)
{
	assert_int_equal(fake_used_bytes(), fake_live_bytes());
}

static const CUmemAllocationProp on_device = {
	.type = CU_MEM_ALLOCATION_TYPE_PINNED,
	.location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0 },
};

static void test_pointers(void **state)
{
	CUdeviceptr a, b, c;
	size_t pitch;

	(void)state;
	assert_int_equal(cuMemAlloc_v2(&a, 1000), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 1024);
	assert_int_equal(cuMemAllocPitch_v2(&b, &pitch, 100, 10, 4), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 1024 + 40960);
	assert_int_equal(cuMemAllocManaged(&c, 3 * MIB, CU_MEM_ATTACH_GLOBAL),
			 CUDA_SUCCESS);
	check_equal();
	assert_int_equal(cuMemFree_v2(b), CUDA_SUCCESS);
	assert_int_equal(cuMemFree_v2(a), CUDA_SUCCESS);
	check_equal();
	assert_int_equal(cuMemFree_v2(c), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
}

/* F08: out of memory is that error, and nothing is written. */
static void test_refused(void **state)
{
	CUmemGenericAllocationHandle handle = 77;
	CUdeviceptr p = 77, kept;
	size_t pitch = 77;
	const struct tr_state *ledger = tr_self.ledger.state;

	(void)state;
	fake.limit_bytes = 4 * MIB;
	assert_int_equal(cuMemAlloc_v2(&kept, 3 * MIB), CUDA_SUCCESS);
	assert_int_equal(cuMemAlloc_v2(&p, 2 * MIB), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(cuMemAlloc_v2(&p, SIZE_MAX), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(cuMemAllocManaged(&p, 2 * MIB, CU_MEM_ATTACH_GLOBAL),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(cuMemAllocAsync(&p, 2 * MIB, NULL), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(cuMemCreate(&handle, 2 * MIB, &on_device, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);
	/* 4 KiB rows: what was asked fits, what the driver takes does not */
	assert_int_equal(cuMemAllocPitch_v2(&p, &pitch, 1024, 1000, 4),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(p, 77);
	assert_int_equal(pitch, 77);
	assert_int_equal(handle, 77);
	assert_int_equal(atomic_load(&ledger->devices[0].refused), 6);
	check_equal();
	assert_int_equal(cuMemAlloc_v2(&p, 1 * MIB), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 4 * MIB);
}

/* F07: what is not ours or not there any more changes nothing. */
static void test_unknown(void **state)
{
	CUdeviceptr p;

	(void)state;
	assert_int_equal(cuMemFree_v2(0x1234), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(fake_used_bytes(), 0);
	assert_int_equal(cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	assert_int_equal(cuMemFree_v2(p), CUDA_SUCCESS);
	assert_int_equal(cuMemFree_v2(p), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemRelease(12345), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemUnmap(0x5000, 4096), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
}

/* A free that the driver refuses leaves the charge where it is. */
static void test_failed_free(void **state)
{
	CUmemGenericAllocationHandle handle;
	CUdeviceptr p;

	(void)state;
	assert_int_equal(cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	assert_int_equal(cuMemCreate(&handle, 2 * MIB, &on_device, 0), CUDA_SUCCESS);
	fake.fail_at = fake.calls + 1;
	assert_int_equal(cuMemFree_v2(p), CUDA_ERROR_UNKNOWN);
	check_equal();
	fake.fail_at = fake.calls + 1;
	assert_int_equal(cuMemRelease(handle), CUDA_ERROR_UNKNOWN);
	check_equal();
	assert_int_equal(cuMemFree_v2(p), CUDA_SUCCESS);
	assert_int_equal(cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
}

static CUdeviceptr taken_early;

static void take_early(void)
{
	fake.after_free = NULL;
	assert_int_equal(cuMemAlloc_v2(&taken_early, 5 * MIB), CUDA_SUCCESS);
}

/* Between the driver's free and our own bookkeeping another thread gets the same address.
 */
static void test_address_reused_at_once(void **state)
{
	CUdeviceptr p;

	(void)state;
	assert_int_equal(cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	fake.after_free = take_early;
	assert_int_equal(cuMemFree_v2(p), CUDA_SUCCESS);
	assert_int_equal(taken_early, p);
	assert_int_equal(fake_used_bytes(), 5 * MIB);
	assert_int_equal(cuMemFree_v2(taken_early), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
}

/* F05 */
static void test_created_elsewhere(void **state)
{
	CUmemAllocationProp prop = on_device;
	CUmemGenericAllocationHandle handle = 77;

	(void)state;
	prop.location.type = CU_MEM_LOCATION_TYPE_HOST;
	assert_int_equal(cuMemCreate(&handle, 2 * MIB, &prop, 0), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
	assert_int_equal(cuMemRelease(handle), CUDA_SUCCESS);
	prop.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
	assert_int_equal(cuMemCreate(&handle, 2 * MIB, &prop, 0), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
	prop = on_device;
	prop.location.id = 850725928;
	assert_int_equal(cuMemCreate(&handle, 2 * MIB, &prop, 0),
			 CUDA_ERROR_INVALID_DEVICE);
	assert_int_equal(cuMemCreate(&handle, 2 * MIB, NULL, 0), CUDA_ERROR_INVALID_DEVICE);
	fake.device_errors = CUDA_ERROR_NOT_PERMITTED;
	assert_int_equal(cuMemCreate(&handle, 2 * MIB, &on_device, 0),
			 CUDA_ERROR_NOT_PERMITTED);
	assert_int_equal(fake_used_bytes(), 0);
}

#define VA UINT64_C(0x100000000)

static void test_objects_outlive_handles(void **state)
{
	CUmemGenericAllocationHandle h[3], again;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(cuMemCreate(&h[i], 2 * MIB, &on_device, 0), CUDA_SUCCESS);
		assert_int_equal(cuMemMap(VA + i * 2 * MIB, 2 * MIB, 0, h[i], 0),
				 CUDA_SUCCESS);
		assert_int_equal(cuMemRelease(h[i]), CUDA_SUCCESS);
		check_equal();
	}
	assert_int_equal(fake_used_bytes(), 6 * MIB);
	/* one more handle of the second, by its address */
	assert_int_equal(
		cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)(VA + 3 * MIB)),
		CUDA_SUCCESS);
	/* two mappings in one call */
	assert_int_equal(cuMemUnmap(VA + 2 * MIB, 4 * MIB), CUDA_SUCCESS);
	check_equal();
	assert_int_equal(fake_used_bytes(), 4 * MIB);
	assert_int_equal(cuMemRelease(again), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 2 * MIB);
	assert_int_equal(cuMemUnmap(VA, 2 * MIB), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
}

/* One object in many places; each must end. */
static void test_object_mapped_twice(void **state)
{
	CUmemGenericAllocationHandle h;

	(void)state;
	assert_int_equal(cuMemCreate(&h, 2 * MIB, &on_device, 0), CUDA_SUCCESS);
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(cuMemMap(VA + i * 2 * MIB, 2 * MIB, 0, h, 0),
				 CUDA_SUCCESS);
	assert_int_equal(cuMemRelease(h), CUDA_SUCCESS);
	assert_int_equal(cuMemUnmap(VA + 100 * MIB, 900 * MIB), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 2 * MIB);
	assert_int_equal(cuMemUnmap(VA, 100 * MIB), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
}

static void test_pool(void **state)
{
	CUdeviceptr p[40];

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(cuMemAllocAsync(&p[i], MIB + i, NULL), CUDA_SUCCESS);
		check_equal();
	}
	assert_int_equal(fake_used_bytes(), 64 * MIB);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(cuMemFreeAsync(p[i], NULL), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 64 * MIB); /* the reserve is what counts */
	/* Nobody else may have less because of a reserve that nobody uses. */
	fake.limit_bytes = 65 * MIB;
	assert_int_equal(cuMemAlloc_v2(&p[0], 65 * MIB), CUDA_SUCCESS);
	check_equal();
	assert_int_equal(cuMemFree_v2(p[0]), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
}

/* 11.2 does not tell what is in reserve. */
static void test_pool_that_tells_nothing(void **state)
{
	CUdeviceptr p;

	(void)state;
	fake.tells_pools = false;
	assert_int_equal(cuMemAllocAsync(&p, MIB, NULL), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), MIB);
	assert_int_equal(cuMemFreeAsync(p, NULL), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
}

static void test_arrays(void **state)
{
	const CUDA_ARRAY3D_DESCRIPTOR plain = { .Width = 300,
						.Height = 100,
						.Format = CU_AD_FORMAT_UNSIGNED_INT8,
						.NumChannels = 1 };
	CUDA_ARRAY3D_DESCRIPTOR late = plain;
	CUarray array, other;

	(void)state;
	assert_int_equal(cuArray3DCreate_v2(&array, &plain), CUDA_SUCCESS);
	check_equal();
	assert_int_equal(fake_used_bytes(), 65536);
	late.Flags = CUDA_ARRAY3D_DEFERRED_MAPPING;
	assert_int_equal(cuArray3DCreate_v2(&other, &late), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 65536);
	assert_int_equal(cuArrayDestroy(array), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
	/* A driver that cannot be asked: rows of tiles, never less than the texels. */
	fake.asks_arrays = false;
	assert_int_equal(cuArray3DCreate_v2(&array, &plain), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 65536);
	assert_int_equal(cuArrayDestroy(array), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
}

static void test_context_gone(void **state)
{
	CUmemGenericAllocationHandle handle;
	const tr_dev dev = { 0 };
	struct tr_leaving leaving;
	CUdeviceptr p;

	(void)state;
	assert_int_equal(cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	assert_int_equal(cuMemAllocAsync(&p, MIB, NULL), CUDA_SUCCESS);
	assert_int_equal(cuMemCreate(&handle, 2 * MIB, &on_device, 0), CUDA_SUCCESS);
	tr_leaving_begin(&leaving, NULL, &dev);
	fake_drop_context();
	tr_objects_context_gone(&leaving);
	tr_reserves_context_gone(&dev);
	check_equal();
	assert_int_equal(fake_used_bytes(), 2 * MIB);
}

/* Everything once; whatever fails on the way, charged is what is held. */
static void do_everything(void)
{
	const CUDA_ARRAY3D_DESCRIPTOR desc = { .Width = 1000,
					       .Format = CU_AD_FORMAT_FLOAT,
					       .NumChannels = 4 };
	CUmemGenericAllocationHandle handle = 0, again = 0;
	CUdeviceptr p[4] = { 0 };
	CUarray array = NULL;
	size_t pitch;

	(void)cuMemAlloc_v2(&p[0], 12345);
	(void)cuMemAllocPitch_v2(&p[1], &pitch, 100, 100, 4);
	(void)cuMemAllocManaged(&p[2], MIB, CU_MEM_ATTACH_GLOBAL);
	(void)cuMemAllocAsync(&p[3], MIB, NULL);
	check_equal();
	(void)cuArray3DCreate_v2(&array, &desc);
	check_equal();
	if (cuMemCreate(&handle, 2 * MIB, &on_device, 0) == CUDA_SUCCESS) {
		bool is_mapped = cuMemMap(VA, 2 * MIB, 0, handle, 0) == CUDA_SUCCESS;
		bool is_kept = is_mapped &&
			       cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)VA) ==
				       CUDA_SUCCESS;

		while (cuMemRelease(handle) == CUDA_ERROR_UNKNOWN)
			check_equal();
		check_equal();
		while (is_kept && cuMemRelease(again) == CUDA_ERROR_UNKNOWN)
			check_equal();
		while (is_mapped && cuMemUnmap(VA, 2 * MIB) == CUDA_ERROR_UNKNOWN)
			check_equal();
		check_equal();
	}
	for (unsigned i = 0; i < 4; i++)
		while (p[i] && (i == 3 ? cuMemFreeAsync(p[i], NULL) : cuMemFree_v2(p[i])) ==
				       CUDA_ERROR_UNKNOWN)
			check_equal();
	while (array && cuArrayDestroy(array) == CUDA_ERROR_UNKNOWN)
		;
	check_equal();
}

static void test_every_fault(void **state)
{
	unsigned calls;

	(void)state;
	do_everything();
	calls = fake.calls;
	assert_in_range(calls, 15, 100);
	for (unsigned i = 1; i <= calls + 1; i++) {
		fake.fail_at = fake.calls + i;
		do_everything();
	}
	assert_int_equal(fake_used_bytes(), 32 * MIB); /* the pool's reserve */
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* F07: usage is the sum of what lives, at every quiet point of a random sequence. */
static void test_random(void **state)
{
	CUdeviceptr live[200] = { 0 };
	uint64_t random = 4101842887655102017;

	(void)state;
	fake.limit_bytes = 100 * MIB;
	for (unsigned i = 0; i < 20000; i++) {
		unsigned at = (unsigned)(next_random(&random) % 200);

		if (next_random(&random) % 20 == 0)
			fake.fail_at = fake.calls + 1;
		if (live[at]) {
			CUresult res = next_random(&random) % 2
					       ? cuMemFree_v2(live[at])
					       : cuMemFree_v2(live[at] + 1);

			if (res == CUDA_SUCCESS)
				live[at] = 0;
		} else {
			(void)cuMemAlloc_v2(&live[at], next_random(&random) % (2 * MIB));
		}
		check_equal();
		assert_in_range(fake_used_bytes(), 0, 100 * MIB);
	}
	for (unsigned i = 0; i < 200; i++)
		if (live[i])
			assert_int_equal(cuMemFree_v2(live[i]), CUDA_SUCCESS);
	assert_int_equal(fake_used_bytes(), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, start, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_pointers),
		CASE(test_refused),
		CASE(test_unknown),
		CASE(test_failed_free),
		CASE(test_address_reused_at_once),
		CASE(test_created_elsewhere),
		CASE(test_objects_outlive_handles),
		CASE(test_object_mapped_twice),
		CASE(test_pool),
		CASE(test_pool_that_tells_nothing),
		CASE(test_arrays),
		CASE(test_context_gone),
		CASE(test_every_fault),
		CASE(test_random),
	};

	return cmocka_run_group_tests_name("hook charges", tests, NULL, NULL);
}
