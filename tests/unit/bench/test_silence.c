/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "bench/silence.h"
#include "rt/file.h"

/* A shell that does WHAT, with NAME in its environment. */
static pid_t start(const char *what, const char *name)
{
	pid_t pid = fork();

	if (pid == 0) {
		char folder[96];

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)snprintf(folder, sizeof(folder), "FOLDER=%s", name);
		(void)execle("/bin/sh", "sh", "-c", what, (char *)NULL,
			     (char *[]){ folder, NULL });
		_exit(127);
	}
	return pid;
}

static void end(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Within some seconds, since it has to start. */
static void becomes(unsigned want, const char *name)
{
	unsigned got = want + 1;

	for (unsigned tries = 0; got != want && tries < 400; tries++) {
		got = tr_runnable_threads(name, NULL);
		tr_sleep_ns(10000000);
	}
	assert_int_equal(got, want);
}

static void test_threads(void **state)
{
	char name[64], line[256] = "";
	FILE *told = tmpfile();
	pid_t busy, idle;

	(void)state;
	assert_non_null(told);
	(void)snprintf(name, sizeof(name), "/nowhere/silence-%d", (int)getpid());
	assert_int_equal(tr_runnable_threads(name, NULL), 0);
	busy = start("while :; do :; done", name);
	becomes(1, name);
	end(busy);
	becomes(0, name);
	idle = start("exec sleep 60", name);
	for (unsigned tries = 0; !strstr(line, "(sleep) S ") && tries < 400; tries++) {
		tr_sleep_ns(10000000);
		rewind(told);
		(void)tr_runnable_threads(name, told);
		rewind(told);
		(void)fgets(line, sizeof(line), told);
	}
	assert_non_null(strstr(line, "(sleep) S "));
	becomes(0, name);
	end(idle);
	assert_int_equal(fclose(told), 0);
}

/* A minute and more without a processor is not the machine's doing; two minutes asleep are. */
static void test_silence(void **state)
{
	struct tr_silence silence = { 0 };

	(void)state;
	for (unsigned s = 0; s < 300; s++)
		assert_false(tr_silence_is_over(&silence, 1000, true));
	for (unsigned s = 0; s < 119; s++)
		assert_false(tr_silence_is_over(&silence, 1000, false));
	assert_true(tr_silence_is_over(&silence, 1000, false));
	silence = (struct tr_silence){ 0 };
	for (unsigned s = 0; s < 599; s++)
		assert_false(tr_silence_is_over(&silence, 1000, true));
	assert_true(tr_silence_is_over(&silence, 1000, true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_silence),
	};

	return cmocka_run_group_tests_name("silence", tests, NULL, NULL);
}
