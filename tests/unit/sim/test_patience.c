/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "rm/process.h"

#define MS UINT64_C(1000000)

/* What counts is its sleep, and no more of that than somebody who looks often can have seen. */
static void test_patience(void **state)
{
	struct rm_patience p = { 0 };

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		rm_patience_look(&p, 'S', 5 * MS);
	assert_int_equal(p.asleep_ns, 500 * MS);
	assert_int_equal(p.row_ns, 500 * MS);
	for (unsigned i = 0; i < 1000; i++)
		rm_patience_look(&p, i % 2 ? 'R' : 'D', 100 * MS);
	assert_int_equal(p.asleep_ns, 500 * MS);
	assert_int_equal(p.row_ns, 0);
	/* a minute between two looks: nobody knows what it did */
	rm_patience_look(&p, 'S', 60000 * MS);
	assert_int_equal(p.asleep_ns, 600 * MS);
	assert_int_equal(p.row_ns, 100 * MS);
	rm_patience_look(&p, 'X', 50 * MS);
	assert_int_equal(p.row_ns, 150 * MS);
}

static void test_states(void **state)
{
	uint64_t ticks = 0;
	pid_t parent = 0, pid = fork();
	char seen = 'S';

	(void)state;
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)prctl(PR_SET_NAME, "odd) T 1 2 (");
		for (;;)
			__asm__ volatile("" ::: "memory");
	}
	while (ticks == 0)
		seen = rm_state_of(pid, pid, &ticks, &parent);
	assert_int_equal(seen, 'R');
	assert_int_equal(parent, getpid());
	assert_false(rm_is_asleep(seen));
	assert_int_equal(kill(pid, SIGSTOP), 0);
	while (!rm_is_asleep(rm_state_of(pid, pid, NULL, NULL)))
		(void)sched_yield();
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(rm_state_of(pid, pid, NULL, NULL), 'X');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_patience),
		cmocka_unit_test(test_states),
	};

	return cmocka_run_group_tests_name("patience", tests, NULL, NULL);
}
