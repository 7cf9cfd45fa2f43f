/* SPDX-License-Identifier: Apache-2.0 */
/* The pointer table against a model that is too simple to be wrong. */
#include "objects.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tr_test.h"

#define KEYS 4096u

static struct tr_object model[KEYS]; /* kind NONE: not there */

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t key_of(unsigned i)
{
	return UINT64_C(0x7f0000000000) + (uint64_t)i * 512;
}

static void check_same(const struct tr_object *a, const struct tr_object *b)
{
	assert_int_equal(a->bytes, b->bytes);
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->dev.at, b->dev.at);
	assert_int_equal(a->owner, b->owner);
}

static struct tr_object random_object(uint64_t *random)
{
	return (struct tr_object){
		.bytes = next_random(random) % (TR_BYTES_MAX / TR_UNIT_BYTES) *
			 TR_UNIT_BYTES,
		.kind = next_random(random) % 2 ? TR_KIND_MEMORY : TR_KIND_POOLED,
		.dev = { (uint8_t)(next_random(random) % TR_DEVICES_MAX) },
		.owner = (uint16_t)next_random(random),
	};
}

static void step(uint64_t *random)
{
	unsigned i = (unsigned)(next_random(random) % KEYS);
	struct tr_object got, object = random_object(random);
	bool is_there = model[i].kind != TR_KIND_NONE;

	switch (next_random(random) % 4) {
	case 0:
	case 1:
		assert_int_equal(tr_objects_put(key_of(i), &object, &got), is_there);
		if (is_there)
			check_same(&got, &model[i]);
		model[i] = object;
		break;
	case 2:
		assert_int_equal(tr_objects_take(key_of(i), TR_KIND_MEMORY, &got),
				 is_there);
		if (!is_there)
			break;
		check_same(&got, &model[i]);
		assert_false(tr_objects_find(key_of(i), TR_KIND_MEMORY, &got));
		if (next_random(random) % 2) {
			tr_objects_put_back(key_of(i), &model[i]);
		} else {
			tr_objects_drop(key_of(i), model[i].kind);
			model[i].kind = TR_KIND_NONE;
		}
		break;
	default:
		assert_int_equal(tr_objects_find(key_of(i), TR_KIND_MEMORY, &got),
				 is_there);
		if (is_there)
			check_same(&got, &model[i]);
		break;
	}
}

static void test_model(void **state)
{
	uint64_t random = 88172645463325252;

	(void)state;
	tr_table_forget();
	for (unsigned i = 0; i < 1000000; i++)
		step(&random);
	for (unsigned i = 0; i < KEYS; i++) {
		struct tr_object got;

		assert_int_equal(tr_objects_find(key_of(i), TR_KIND_MEMORY, &got),
				 model[i].kind != TR_KIND_NONE);
	}
}

/* Name spaces: a handle that is the same number as a pointer is another thing. */
static void test_name_spaces(void **state)
{
	struct tr_object old, got,
		memory = { .bytes = 512, .kind = TR_KIND_MEMORY },
		array = { .bytes = 1024, .kind = TR_KIND_ARRAY },
		handle = { .bytes = 3, .kind = TR_KIND_HANDLE, .owner = 2 };

	(void)state;
	tr_table_forget();
	assert_int_equal(tr_objects_put(1, &memory, &old), 0);
	assert_int_equal(tr_objects_put(1, &array, &old), 0);
	assert_int_equal(tr_objects_put(1, &handle, &old), 0);
	assert_true(tr_objects_take(1, TR_KIND_ARRAY, &got));
	check_same(&got, &array);
	tr_objects_drop(1, TR_KIND_ARRAY);
	assert_true(tr_objects_find(1, TR_KIND_HANDLE, &got));
	check_same(&got, &handle);
	assert_true(tr_objects_find(1, TR_KIND_POOLED, &got));
	check_same(&got, &memory);
}

static void test_too_large(void **state)
{
	struct tr_object old, object = { .bytes = TR_BYTES_MAX, .kind = TR_KIND_MEMORY };

	(void)state;
	tr_table_forget();
	assert_int_equal(tr_objects_put(1, &object, &old), -ENOMEM);
	assert_false(tr_objects_find(1, TR_KIND_MEMORY, &old));
}

static bool is_odd(uint64_t key, const struct tr_object *object, void *arg)
{
	unsigned *seen = arg;

	(void)object;
	*seen += key / 512 % 2;
	return key / 512 % 2;
}

static void test_sweep(void **state)
{
	struct tr_object got, object = { .bytes = 512, .kind = TR_KIND_MEMORY };
	unsigned seen = 0;

	(void)state;
	tr_table_forget();
	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(tr_objects_put(key_of(i), &object, &got), 0);
	tr_objects_sweep(is_odd, &seen);
	assert_int_equal(seen, 50000);
	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(tr_objects_find(key_of(i), TR_KIND_MEMORY, &got),
				 !(key_of(i) / 512 % 2));
}

/* Resident pages of this process, in bytes. */
static uint64_t resident_bytes(void)
{
	unsigned long total = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &total, &resident), 2);
	assert_int_equal(fclose(f), 0);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* A sanitiser's shadow of the table is not the table's. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHADOWED 1
#else
#define SHADOWED 0
#endif

/* The promise: 48 bytes per live allocation beyond a fixed part. */
static void test_memory(void **state)
{
	struct tr_object old, object = { .bytes = 512, .kind = TR_KIND_MEMORY };
	static const unsigned counts[] = { 20000, 100000, 786432, 800000, 1000000 };
	uint64_t before;

	(void)state;
	tr_table_forget();
	before = resident_bytes();
	for (unsigned c = 0, i = 0; c < TR_COUNT(counts); c++) {
		for (; i < counts[c]; i++)
			assert_int_equal(tr_objects_put(key_of(i), &object, &old), 0);
		if (!SHADOWED)
			assert_in_range(resident_bytes() - before, 0,
					256 * 1024 + UINT64_C(48) * counts[c]);
	}
	for (unsigned i = 0; i < 1000000; i++) {
		assert_true(tr_objects_take(key_of(i), TR_KIND_MEMORY, &old));
		tr_objects_drop(key_of(i), TR_KIND_MEMORY);
	}
	if (!SHADOWED)
		assert_in_range(resident_bytes(), 0, before + 512 * 1024);
}

#define THREADS 8u
#define ROUNDS  50000u

static void *churn(void *arg)
{
	uint64_t base = (uint64_t)(uintptr_t)arg << 40;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		struct tr_object got,
			object = { .bytes = (i + 1) * 512, .kind = TR_KIND_MEMORY };

		if (tr_objects_put(base + i * 512, &object, &got) != 0)
			return arg;
		if (i >= 100) {
			if (!tr_objects_take(base + (i - 100) * 512, TR_KIND_MEMORY,
					     &got) ||
			    got.bytes != (i - 99) * 512)
				return arg;
			tr_objects_drop(base + (i - 100) * 512, TR_KIND_MEMORY);
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	tr_table_forget();
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)),
				 0);
	for (unsigned i = 0; i < THREADS; i++) {
		void *failed = NULL;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
}

static uint64_t hold(uint64_t key, uint16_t owner)
{
	const struct tr_object object = { .bytes = 512,
					  .kind = TR_KIND_MEMORY,
					  .owner = owner };
	struct tr_object old;

	assert_int_equal(tr_objects_put(key << 20, &object, &old), 0);
	return key << 20;
}

static uint16_t owner_of(uint64_t key)
{
	struct tr_object object;

	assert_true(tr_objects_find(key, TR_KIND_MEMORY, &object));
	return object.owner;
}

/* A number is not given to another context before nothing bears it any more, and what is
 * made under a retired handle has a number of its own. */
static void test_contexts(void **state)
{
	const tr_dev dev = { 3 };
	struct tr_leaving leaving;
	uint64_t before, after;
	char a, b;
	CUcontext own = (CUcontext)(void *)&a, other = (CUcontext)(void *)&b;

	(void)state;
	tr_table_forget();
	assert_int_equal(tr_context_number(NULL, dev, true), 0);
	assert_int_equal(tr_context_number(own, dev, true), 1);
	assert_int_equal(tr_context_number(other, dev, true), 2);
	assert_int_equal(tr_context_number(own, dev, true), 1);
	before = hold(1, 1);
	tr_leaving_begin(&leaving, own, NULL);
	assert_int_equal(tr_context_find(own), 0);
	assert_int_equal(tr_context_number(own, dev, true), 3);
	after = hold(2, 3);
	/* The driver did not end it: one number again. */
	tr_leaving_stays(&leaving);
	assert_int_equal(tr_context_find(own), 3);
	assert_int_equal(owner_of(before), 3);
	assert_int_equal(owner_of(after), 3);
	tr_leaving_begin(&leaving, own, NULL);
	assert_int_equal(leaving.count, 1);
	tr_leaving_gone(&leaving);
	assert_int_equal(tr_context_find(own), 0);
	assert_int_equal(tr_context_number((CUcontext)(void *)&leaving, dev, true), 1);
}

/* What was allocated in a green context stays with the device's primary one. */
static void test_green_contexts(void **state)
{
	const tr_dev dev = { 3 }, elsewhere = { 4 };
	char a, b, c;
	CUcontext primary = (CUcontext)(void *)&a, green = (CUcontext)(void *)&b,
		  own = (CUcontext)(void *)&c;
	struct tr_leaving leaving;
	uint64_t p;

	(void)state;
	tr_table_forget();
	assert_int_equal(tr_context_number(green, dev, false), 1);
	assert_int_equal(tr_context_number(own, dev, true), 2);
	p = hold(1, 1);
	tr_leaving_begin(&leaving, green, NULL);
	tr_leaving_orphans(&leaving);
	/* The handle may be another context's now; the memory is not. */
	assert_int_equal(tr_context_number(green, dev, true), 3);
	assert_int_equal(tr_context_number(primary, dev, false), 4);
	tr_leaving_begin(&leaving, NULL, &elsewhere);
	assert_int_equal(leaving.count, 0);
	tr_leaving_begin(&leaving, NULL, &dev);
	assert_int_equal(leaving.count, 2);
	tr_leaving_stays(&leaving);
	assert_int_equal(owner_of(p), 1);
	/* A second one leaves no second number behind. */
	assert_int_equal(tr_context_number((CUcontext)(void *)&p, dev, false), 5);
	(void)hold(2, 5);
	tr_leaving_begin(&leaving, (CUcontext)(void *)&p, NULL);
	tr_leaving_orphans(&leaving);
	assert_int_equal(owner_of(UINT64_C(2) << 20), 1);
	tr_table_forget();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory), /* first: the heap of others is still quiet
						*/
		cmocka_unit_test(test_model),          cmocka_unit_test(test_name_spaces),
		cmocka_unit_test(test_too_large),      cmocka_unit_test(test_sweep),
		cmocka_unit_test(test_threads),        cmocka_unit_test(test_contexts),
		cmocka_unit_test(test_green_contexts),
	};

	return cmocka_run_group_tests_name("hook objects", tests, NULL, NULL);
}
