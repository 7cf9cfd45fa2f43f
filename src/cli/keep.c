/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "rt/file.h"

#define ANSWER_MS  20000
#define RESTART_NS UINT64_C(1000000000) /* between one restart and the next */

/* What goes through the pipes: fixed-size records, both ends are this same program. */
struct answer {
	int r;
	struct tr_err err;
	struct tr_gpus gpus;
};

static int write_all(int fd, const void *bytes, size_t n)
{
	while (n) {
		ssize_t done = write(fd, bytes, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return -EPIPE;
		bytes = (const char *)bytes + done;
		n -= (size_t)done;
	}
	return 0;
}

/* 0, -ETIMEDOUT, or -EPIPE when the other end has gone. TIMEOUT_MS for each piece; -1: for
 * ever. */
static int read_all(int fd, void *bytes, size_t n, int timeout_ms)
{
	while (n) {
		struct pollfd ready = { fd, POLLIN, 0 };
		int r = poll(&ready, 1, timeout_ms);
		ssize_t done;

		if (r < 0 && errno == EINTR)
			continue;
		if (r == 0)
			return -ETIMEDOUT;
		done = read(fd, bytes, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return -EPIPE;
		bytes = (char *)bytes + done;
		n -= (size_t)done;
	}
	return 0;
}

/* Ends this process when the starter's end of the pipe closes, wherever it waits. It may end at any
 * moment: what it was writing stands word by word, its leases lapse, another takes over. */
static void end_with_starter(void)
{
	struct pollfd closed = { STDIN_FILENO, POLLIN, 0 };

	(void)signal(SIGIO, SIG_DFL); /* that ends a process */
	(void)fcntl(STDIN_FILENO, F_SETOWN, getpid());
	(void)fcntl(STDIN_FILENO, F_SETFL, O_ASYNC);
	/* It may have closed before it was asked to say so. */
	if (poll(&closed, 1, 0) != 0)
		_exit(0);
}

/* NVML trouble is no reason to end: floors and plain rates stand in. */
static _Noreturn void keep_on(struct tr_keeper *keeper)
{
	uint64_t next_ns = tr_clock_ns();

	for (;;) {
		uint64_t now_ns, pause_ns = tr_keeper_turn(keeper);
		struct timespec next;

		next_ns += pause_ns;
		now_ns = tr_clock_ns();
		if (next_ns <= now_ns || next_ns - now_ns > pause_ns)
			next_ns = now_ns + pause_ns;
		next = (struct timespec){ (time_t)(next_ns / 1000000000u),
					  (long)(next_ns % 1000000000u) };
		(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
}

int tr_cli_keep(int argc, char **argv)
{
	static struct answer answer;
	static struct tr_keeper keeper;
	struct tr_slice_dir dir;
	int elected;

	(void)argc;
	(void)argv;
	(void)prctl(PR_SET_NAME, "tranche-keeper");
	answer.r = tr_gpu_open(&answer.gpus, &answer.err);
	if (write_all(STDOUT_FILENO, &answer, sizeof(answer)) < 0 || answer.r < 0)
		return 1;
	if (read_all(STDIN_FILENO, &dir, sizeof(dir), -1) < 0)
		return 0;
	end_with_starter();
	tr_keeper_nudge();
	if (tr_keeper_elect(&answer.gpus, &elected, NULL) < 0)
		return 1;
	tr_keeper_open(&keeper, &answer.gpus);
	keep_on(&keeper);
}

/* OUT < 0: nobody wants its answer. */
static _Noreturn void become_keeper(int in, int out)
{
	char self[] = "tranche", command[] = TR_KEEP_COMMAND;
	char *const words[] = { self, command, NULL };
	sigset_t none;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	/* Out of the terminal's reach: its ^C is for the program. */
	(void)setpgid(0, 0);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(in, STDIN_FILENO) >= 0 && dup2(out < 0 ? null : out, STDOUT_FILENO) >= 0 &&
	    dup2(null, STDERR_FILENO) >= 0)
		(void)execv("/proc/self/exe", words);
	_exit(1);
}

int tr_keep_start(struct tr_keep *out, struct tr_gpus *gpus, struct tr_err *err)
{
	static struct answer answer;
	int to[2], from[2];
	int r;

	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		return tr_fail_errno(err, "pipe");
	out->pid = fork();
	if (out->pid < 0)
		return tr_fail_errno(err, "fork");
	if (out->pid == 0)
		become_keeper(to[0], from[1]);
	(void)close(to[0]);
	(void)close(from[1]);
	out->next_ns = 0;
	out->to = to[1];
	out->from = from[0];
	r = read_all(out->from, &answer, sizeof(answer), ANSWER_MS);
	if (r == 0 && answer.r == 0) {
		*gpus = answer.gpus;
		return 0;
	}
	if (r == 0)
		r = tr_fail(err, -answer.r, "%s", answer.err.msg);
	else if (r == -ETIMEDOUT)
		r = tr_fail(err, ETIMEDOUT, "the NVIDIA driver does not answer within %d s",
			    ANSWER_MS / 1000);
	else
		r = tr_fail(err, EIO,
			    "the NVIDIA driver library crashed when it was asked for "
			    "the devices");
	tr_keep_stop(out);
	return r;
}

/* A broken pipe is told by the answer: the signal was for nobody. */
static void drop_pipe_signal(void)
{
	static const struct timespec now = { 0, 0 };
	sigset_t one;

	(void)sigemptyset(&one);
	(void)sigaddset(&one, SIGPIPE);
	(void)sigtimedwait(&one, NULL, &now);
}

void tr_keep_slice(struct tr_keep *keep, const struct tr_slice_dir *dir)
{
	keep->slice = (struct tr_slice_dir){ .alive_fd = -1 };
	memcpy(keep->slice.policy_path, dir->policy_path, sizeof(dir->policy_path));
	memcpy(keep->slice.state_path, dir->state_path, sizeof(dir->state_path));
	if (write_all(keep->to, &keep->slice, sizeof(keep->slice)) < 0)
		drop_pipe_signal(); /* tr_keep_tend() starts another */
}

static void close_pipes(struct tr_keep *keep)
{
	if (keep->to >= 0)
		(void)close(keep->to);
	if (keep->from >= 0)
		(void)close(keep->from);
	keep->to = keep->from = -1;
}

/* Nothing here waits for the new one: the slice waits for it in the pipe, and its answer was had
 * from the first. */
static void start_another(struct tr_keep *keep)
{
	int to[2];
	pid_t pid = -1;

	if (pipe2(to, O_CLOEXEC) < 0)
		return;
	if (write_all(to[1], &keep->slice, sizeof(keep->slice)) == 0)
		pid = fork();
	if (pid == 0)
		become_keeper(to[0], -1);
	(void)close(to[0]);
	if (pid < 0) {
		(void)close(to[1]);
		return;
	}
	keep->pid = pid;
	keep->to = to[1];
}

uint64_t tr_keep_tend(void *arg)
{
	struct tr_keep *keep = arg;
	uint64_t now_ns = tr_clock_ns();

	if (keep->pid && waitpid(keep->pid, NULL, WNOHANG) == keep->pid) {
		keep->pid = 0;
		close_pipes(keep);
	}
	if (keep->pid)
		return UINT64_MAX;
	if (now_ns < keep->next_ns)
		return keep->next_ns - now_ns;
	keep->next_ns = now_ns + RESTART_NS;
	start_another(keep);
	return keep->pid ? UINT64_MAX : RESTART_NS;
}

void tr_keep_stop(struct tr_keep *keep)
{
	close_pipes(keep);
	/* It may hang in the driver, where not even SIGKILL reaches it: nobody waits for
	 * that. */
	if (keep->pid)
		(void)kill(keep->pid, SIGKILL);
	for (unsigned i = 0; keep->pid && i < 20; i++) {
		if (waitpid(keep->pid, NULL, WNOHANG) != 0)
			break;
		tr_sleep_ns(1000000);
	}
	tr_keeper_clear();
}
