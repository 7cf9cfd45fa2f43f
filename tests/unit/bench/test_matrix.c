/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/matrix.h"

static struct tr_matrix matrix;
static struct tr_err err;
static char notes[1024];

/* The cells of QUOTAS with NEIGHBOURS; what is told goes to `notes`. */
static int pair(const char *quotas, const char *neighbours)
{
	FILE *out = fmemopen(notes, sizeof(notes), "w");
	int r;

	memset(notes, 0, sizeof(notes));
	matrix = (struct tr_matrix){ 0 };
	assert_int_equal(tr_list_parse(&matrix.quotas, "quota", quotas, 1, 100, &err), 0);
	assert_int_equal(
		tr_list_parse(&matrix.neighbours, "neighbours", neighbours, 0, 3, &err), 0);
	r = tr_matrix_pair(&matrix, out, &err);
	(void)fclose(out);
	return r;
}

static void test_whole(void **state)
{
	(void)state;
	assert_int_equal(pair("5,97", "0,3"), 0);
	assert_int_equal(matrix.pair_count, 4);
	assert_int_equal(matrix.pairs[0].asked, 5);
	assert_int_equal(matrix.pairs[1].neighbours, 3);
	assert_int_equal(matrix.pairs[3].asked, 97);
	assert_string_equal(notes, "");
	assert_int_equal(pair("100", "0"), 0);
	assert_int_equal(matrix.pair_count, 1);
}

static void test_left_out(void **state)
{
	(void)state;
	assert_int_equal(pair("50,99,100", "0,1,3"), 0);
	assert_int_equal(matrix.pair_count, 6);
	assert_int_equal(matrix.pairs[4].asked, 99);
	assert_int_equal(matrix.pairs[4].neighbours, 1);
	assert_non_null(strstr(notes, "--quota 99 with --neighbours 3: 1 % is left"));
	assert_non_null(strstr(notes, "--quota 100 with --neighbours 1: 0 % is left"));
	assert_null(strstr(notes, "--quota 50"));
}

static void test_refused(void **state)
{
	(void)state;
	assert_int_equal(pair("99", "3"), -EINVAL);
	assert_non_null(strstr(err.msg, "--quota 99 with --neighbours 3"));
	assert_string_equal(notes, "");
	assert_int_equal(pair("98,100", "3"), -EINVAL);
}

static void test_once(void **state)
{
	(void)state;
	assert_int_equal(pair("50,5,50", "0,0"), 0);
	assert_int_equal(matrix.pair_count, 2);
	assert_int_equal(matrix.pairs[1].asked, 5);
	assert_int_equal(tr_workloads_parse(&matrix, "5ms,fixed:3ms,5ms,fixed:3ms", &err),
			 0);
	assert_int_equal(matrix.workload_count, 2);
	assert_int_equal(matrix.workloads[1]->kernel_ns, 3000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_left_out),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
