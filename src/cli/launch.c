/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

void tr_signals_hold(sigset_t *old)
{
	sigset_t all;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, old);
}

/* In the child: what went wrong before exec travels through REPORT, which exec closes. */
static _Noreturn void run_child(char **argv, const sigset_t *mask,
				int (*before)(void *, struct tr_err *), void *arg,
				int report)
{
	struct tr_err err = { 0 };

	if (!before || before(arg, &err) == 0) {
		(void)sigprocmask(SIG_SETMASK, mask, NULL);
		(void)execvp(argv[0], argv);
		(void)tr_fail_errno(&err, "run %s", argv[0]);
	}
	if (write(report, &err, sizeof(err)) < 0)
		_exit(125);
	_exit(126);
}

int tr_launch(pid_t *pid, char **argv, const sigset_t *mask,
	      int (*before)(void *arg, struct tr_err *err), void *arg, struct tr_err *err)
{
	struct tr_err report = { 0 };
	int pipes[2];
	ssize_t n;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return tr_fail_errno(err, "pipe");
	(void)fflush(NULL);
	*pid = fork();
	if (*pid < 0)
		return tr_fail_errno(err, "fork");
	if (*pid == 0) {
		(void)close(pipes[0]);
		run_child(argv, mask, before, arg, pipes[1]);
	}
	(void)close(pipes[1]);
	do
		n = read(pipes[0], &report, sizeof(report));
	while (n < 0 && errno == EINTR);
	(void)close(pipes[0]);
	if (n != sizeof(report))
		return 0; /* closed by exec */
	(void)waitpid(*pid, NULL, 0);
	return tr_fail(err, report.code ? report.code : EIO, "%s", report.msg);
}

/* A signal of the terminal went to the whole foreground group, the program included; one
 * that somebody sent to us alone is meant for the program. */
static void pass_on(pid_t pid, const siginfo_t *info)
{
	if (info->si_code == SI_KERNEL && info->si_signo != SIGHUP)
		return;
	(void)kill(pid, info->si_signo);
}

int tr_launch_wait(pid_t pid)
{
	sigset_t all;
	int status;

	(void)sigfillset(&all);
	for (;;) {
		siginfo_t info;
		pid_t seen = waitpid(pid, &status, WNOHANG | WUNTRACED);

		if (seen == pid && WIFSTOPPED(status))
			(void)raise(SIGSTOP); /* our shell sees the job stop */
		else if (seen == pid || (seen < 0 && errno == ECHILD))
			return status;
		if (sigwaitinfo(&all, &info) > 0 && info.si_signo != SIGCHLD)
			pass_on(pid, &info);
	}
}

int tr_launch_status(int status)
{
	struct rlimit none = { 0, 0 };
	sigset_t one;

	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	(void)setrlimit(RLIMIT_CORE, &none); /* the core, if any, is the program's */
	(void)signal(WTERMSIG(status), SIG_DFL);
	(void)sigemptyset(&one);
	(void)sigaddset(&one, WTERMSIG(status));
	(void)raise(WTERMSIG(status));
	(void)sigprocmask(SIG_UNBLOCK, &one, NULL);
	return 128 + WTERMSIG(status);
}

int tr_launch_failed(const struct tr_err *err, int r)
{
	return tr_cli_fail(err, r == -ENOENT                    ? 127
				: r == -EACCES || r == -ENOEXEC ? 126
								: 1);
}
