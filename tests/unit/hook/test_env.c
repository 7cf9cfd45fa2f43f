/* SPDX-License-Identifier: Apache-2.0 */
/* HAMi's variables: every value has one meaning, or refuses. */
#include "env.h"

#include <stdio.h>
#include <stdlib.h>

#include "tr_test.h"

#define KIB UINT64_C(1024)
#define MIB (KIB << 10)
#define GIB (KIB << 20)
#define BAD UINT64_C(1) /* no amount of a row below: cannot be read */

/* Reads an environment of these entries and nothing else. */
static struct tr_env read_only(char *first, char *second, char *third)
{
	char *entries[] = { first, second, third, NULL };
	char **saved = environ;
	struct tr_env env;

	environ = entries;
	tr_env_read(&env);
	environ = saved;
	return env;
}

static const struct {
	const char *text;
	uint64_t bytes;
} amounts[] = {
	{ "4096", 4096 },
	{ "010m", 10 * MIB }, /* decimal: no octal */
	{ "10Gi", 10 * GIB },
	{ "1GiB", GIB },
	{ "1gb", GIB },
	{ "1.5g", GIB + GIB / 2 },
	{ "0.5GiB", GIB / 2 },
	{ "8000m", 8000 * MIB },
	{ " 3 k ", 3 * KIB },
	{ "2T", 2048 * GIB },
	{ "0", TR_UNLIMITED }, /* as in HAMi */
	{ "0m", TR_UNLIMITED },
	{ "0.000k", TR_UNLIMITED },
	{ "0.0001k", BAD }, /* less than a byte is not everything */
	{ "0.9", BAD },
	{ "-1", BAD },
	{ "+1g", BAD },
	{ "", BAD },
	{ " ", BAD },
	{ "g", BAD },
	{ "0x10m", BAD },
	{ "1e9", BAD },
	{ "1.g", BAD },
	{ ".5g", BAD },
	{ "1.5.5g", BAD },
	{ "1gg", BAD },
	{ "1ib", BAD },
	{ "4Gi extra", BAD },
	{ "unlimited", BAD },
	{ "18446744073709551616", BAD },
	{ "17179869184g", BAD },
	{ "99999999999999999999999999999999999999999t", BAD },
};

static void test_amounts(void **state)
{
	char line[128];

	(void)state;
	for (unsigned i = 0; i < TR_COUNT(amounts); i++) {
		struct tr_env env;

		(void)snprintf(line, sizeof(line), "CUDA_DEVICE_MEMORY_LIMIT=%s",
			       amounts[i].text);
		env = read_only(line, NULL, NULL);
		if (!env.has_limit || env.is_bad != (amounts[i].bytes == BAD))
			fail_msg("\"%s\" was taken wrongly", amounts[i].text);
		/* What cannot be read is nothing, never everything. */
		assert_int_equal(tr_env_limit(&env, 0), env.is_bad ? 0 : amounts[i].bytes);
	}
}

static void test_indices(void **state)
{
	char all[] = "CUDA_DEVICE_MEMORY_LIMIT=8g",
	     three[] = "CUDA_DEVICE_MEMORY_LIMIT_3=2g",
	     last[] = "CUDA_DEVICE_MEMORY_LIMIT_63=1g";
	struct tr_env env = read_only(all, three, last);

	(void)state;
	assert_false(env.is_bad);
	assert_int_equal(tr_env_limit(&env, 0), 8 * GIB);
	assert_int_equal(tr_env_limit(&env, 3), 2 * GIB);
	assert_int_equal(tr_env_limit(&env, 16), 8 * GIB);
	assert_int_equal(tr_env_limit(&env, 63), GIB);
	/* Who knows which it is: the lowest. */
	assert_int_equal(tr_env_limit(&env, -1), GIB);
	assert_int_equal(tr_env_limit(&env, 64), GIB);
	env = read_only(three, NULL, NULL);
	assert_true(env.has_limit);
	assert_int_equal(tr_env_limit(&env, 0), TR_UNLIMITED);
	assert_int_equal(tr_env_limit(&env, -1), 2 * GIB);
	/* Its own value wins, also where that is more or none. */
	{
		char none[] = "CUDA_DEVICE_MEMORY_LIMIT_3=0";

		env = read_only(all, none, NULL);
		assert_int_equal(tr_env_limit(&env, 3), TR_UNLIMITED);
		assert_int_equal(tr_env_limit(&env, 2), 8 * GIB);
	}
}

static void test_bad_indices(void **state)
{
	static const char *const names[] = { "_64", "_-1",  "_",
					     "_1x", "_0x1", "_99999999999" };
	char line[128];

	(void)state;
	for (unsigned i = 0; i < TR_COUNT(names); i++) {
		(void)snprintf(line, sizeof(line), "CUDA_DEVICE_MEMORY_LIMIT%s=1g",
			       names[i]);
		if (!read_only(line, NULL, NULL).is_bad)
			fail_msg("index \"%s\" was taken", names[i]);
	}
	/* Other variables that begin alike are none of ours. */
	(void)snprintf(line, sizeof(line), "CUDA_DEVICE_MEMORY_LIMITS=1g");
	assert_false(read_only(line, NULL, NULL).is_bad);
	assert_false(read_only(line, NULL, NULL).has_limit);
	(void)snprintf(line, sizeof(line), "CUDA_DEVICE_ORDER=PCI_BUS_ID");
	assert_false(read_only(line, NULL, NULL).is_bad);
}

static void test_cores(void **state)
{
	static const struct {
		const char *text;
		int percent; /* -1: refuses */
	} rows[] = { { "30", 30 },   { "0", 0 },           { "100", 0 }, { "250", 0 },
		     { "99", 99 },   { "-1", -1 },         { "", -1 },   { "1.5", -1 },
		     { "half", -1 }, { "99999999999", -1 } };
	char line[64], seven[] = "CUDA_DEVICE_SM_LIMIT_7=20";

	(void)state;
	for (unsigned i = 0; i < TR_COUNT(rows); i++) {
		struct tr_env env;

		(void)snprintf(line, sizeof(line), "CUDA_DEVICE_SM_LIMIT=%s", rows[i].text);
		env = read_only(line, seven, NULL);
		assert_int_equal(env.is_bad, rows[i].percent < 0);
		assert_int_equal(env.sm_percent, rows[i].percent < 0 ? 0 : rows[i].percent);
		assert_int_equal(env.sm_percent_of[7], 20);
		assert_false(env.has_limit);
	}
}

/* As with memory: its own value wins, also where that is more or none. */
static void test_cores_of_devices(void **state)
{
	char all[] = "CUDA_DEVICE_SM_LIMIT=60", three[] = "CUDA_DEVICE_SM_LIMIT_3=20",
	     none[] = "CUDA_DEVICE_SM_LIMIT_3=0", whole[] = "CUDA_DEVICE_SM_LIMIT=100",
	     off[] = "GPU_CORE_UTILIZATION_POLICY=disable",
	     force[] = "GPU_CORE_UTILIZATION_POLICY=force",
	     nobody[] = "CUDA_DEVICE_SM_LIMIT_64=20";
	struct tr_env env = read_only(all, three, NULL);

	(void)state;
	assert_true(env.has_cores);
	assert_int_equal(tr_env_cores(&env, 0), 60);
	assert_int_equal(tr_env_cores(&env, 3), 20);
	assert_int_equal(tr_env_cores(&env, 64), 20);
	assert_int_equal(tr_env_cores(&env, -1), 20);
	env = read_only(all, none, force);
	assert_int_equal(tr_env_cores(&env, 3), 0);
	assert_int_equal(tr_env_cores(&env, 2), 60);
	assert_int_equal(tr_env_cores(&env, -1), 60);
	env = read_only(three, NULL, NULL);
	assert_int_equal(tr_env_cores(&env, 0), 0);
	assert_int_equal(tr_env_cores(&env, -1), 20);
	/* No limit arms nothing. */
	assert_false(read_only(whole, none, NULL).has_cores);
	env = read_only(all, three, off);
	assert_false(env.has_cores);
	assert_int_equal(tr_env_cores(&env, 3), 0);
	assert_true(read_only(nobody, off, NULL).is_bad);
}

static void test_others(void **state)
{
	char disable[] = "CUDA_DISABLE_CONTROL=true", one[] = "CUDA_DISABLE_CONTROL=1",
	     force[] = "GPU_CORE_UTILIZATION_POLICY=FORCE",
	     wrong[] = "GPU_CORE_UTILIZATION_POLICY=forced",
	     priority[] = "CUDA_TASK_PRIORITY=0", high[] = "CUDA_TASK_PRIORITY=300";

	(void)state;
	assert_true(read_only(disable, NULL, NULL).is_disabled);
	assert_false(read_only(one, NULL, NULL).is_disabled);
	assert_int_equal(read_only(force, NULL, NULL).core, TR_CORE_FORCE);
	assert_int_equal(read_only(wrong, NULL, NULL).core, TR_CORE_DEFAULT);
	assert_int_equal(read_only(priority, NULL, NULL).priority, 0);
	assert_int_equal(read_only(high, NULL, NULL).priority, 1);
	assert_false(read_only(NULL, NULL, NULL).has_limit);
}

/* Ordinals of the process are places in the list; numbers of the container are its limits'. */
static void test_visible(void **state)
{
	static const struct {
		const char *text;
		int first, second; /* -1: cannot be known */
	} rows[] = {
		{ NULL, 0, 1 },
		{ "0,1", 0, 1 },
		{ "3,1", 3, 1 },
		{ " 2 , 0 ", 2, 0 },
		{ "5", 5, -1 },
		{ "", -1, -1 },
		{ "-1", -1, -1 },
		{ "1,-1", -1, -1 },
		{ "64", -1, -1 },
		{ "1,,2", -1, -1 },
		{ "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", -1, -1 },
		{ "GPU-8932f937", -1, -1 },
		{ "MIG-GPU-8932f937/1/2", -1, -1 },
		{ "0,GPU-8932f937", -1, -1 },
	};

	(void)state;
	for (unsigned i = 0; i < TR_COUNT(rows); i++) {
		struct tr_visible visible;

		tr_visible_read(&visible, rows[i].text);
		assert_int_equal(tr_visible_index(&visible, 0), rows[i].first);
		assert_int_equal(tr_visible_index(&visible, 1), rows[i].second);
		assert_int_equal(tr_visible_index(&visible, -1), -1);
		assert_int_equal(tr_visible_index(&visible, 1000), -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_amounts),          cmocka_unit_test(test_indices),
		cmocka_unit_test(test_bad_indices),      cmocka_unit_test(test_cores),
		cmocka_unit_test(test_cores_of_devices), cmocka_unit_test(test_others),
		cmocka_unit_test(test_visible),
	};

	return cmocka_run_group_tests_name("hook environment", tests, NULL, NULL);
}
