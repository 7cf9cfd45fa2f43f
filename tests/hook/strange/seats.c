/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seats: 1 024 processes in one slice. The next one is refused at cuInit, with an error and
 * not otherwise, and a seat is free again as soon as somebody has died.
 */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../check.h"

#define SEATS 1024

static pid_t seated[SEATS];
static int answers[2]; /* what cuInit said, an int each */

/* A process that starts the driver, says how that went, and stays when it may. */
static pid_t start_one(void)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		int r = (int)cuInit(0);

		CHECK(write(answers[1], &r, sizeof(r)) == sizeof(r));
		if (r == 0)
			pause();
		_exit(0);
	}
	return pid;
}

static int next_answer(void)
{
	int r = -1;

	CHECK(read(answers[0], &r, sizeof(r)) == sizeof(r));
	return r;
}

static void end_one(pid_t pid)
{
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

int main(void)
{
	struct rlimit limit;
	int status = 0, refused;
	pid_t late;

	if (getrlimit(RLIMIT_NPROC, &limit) == 0 && limit.rlim_cur < 2 * SEATS)
		SKIP("this user may not have 1 024 processes");
	OK(pipe(answers));
	for (int i = 0; i < SEATS; i++)
		seated[i] = start_one();
	for (int i = 0; i < SEATS; i++)
		OK(next_answer());
	late = start_one();
	refused = next_answer();
	CHECK(waitpid(late, &status, 0) == late && WIFEXITED(status) &&
	      WEXITSTATUS(status) == 0);
	CHECK_RESULT(refused, CUDA_ERROR_NOT_PERMITTED);
	end_one(seated[SEATS / 2]);
	seated[SEATS / 2] = start_one();
	OK(next_answer());
	for (int i = 0; i < SEATS; i++)
		end_one(seated[i]);
	return 0;
}
