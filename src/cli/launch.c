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

#define WAKE_US 20000

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

/* The third field of /proc/PID/stat, behind a name that may hold anything. */
static bool is_stopped(pid_t pid)
{
	char path[32], text[512];
	const char *state;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	state = strrchr(text, ')');
	return state && (state[2] == 'T' || state[2] == 't');
}

/* Wakes the process that started it whenever the program is not stopped; until it is ended. */
static _Noreturn void run_waker(pid_t self, pid_t program)
{
	/* The terminal and the shell shall not stop it too. */
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() == self) {
		if (!is_stopped(program))
			(void)kill(self, SIGCONT);
		(void)usleep(WAKE_US);
	}
	_exit(0);
}

/* Stops this process, so that its shell sees the job stop. A stopped process sees nothing, and the
 * program may be continued or killed alone: another one looks, and wakes us. */
static void stop_with(pid_t pid)
{
	static const struct timespec now = { 0, 0 };
	pid_t self = getpid(), waker = fork();
	siginfo_t info;
	sigset_t one;

	if (waker == 0)
		run_waker(self, pid);
	if (waker < 0) /* nobody would wake us: rather a job that looks as if it ran */
		return;
	(void)raise(SIGSTOP);
	(void)kill(waker, SIGKILL);
	(void)waitpid(waker, NULL, 0);
	(void)sigemptyset(&one);
	(void)sigaddset(&one, SIGCONT);
	/* Somebody who woke us alone means the program. */
	if (sigtimedwait(&one, &info, &now) == SIGCONT && info.si_pid != waker)
		pass_on(pid, &info);
}

static bool is_job_control(int signo)
{
	return signo == SIGTSTP || signo == SIGTTIN || signo == SIGTTOU;
}

/* What is known of the program's stops. */
struct stops {
	bool is_stopped; /* it is, and we are not */
	bool is_by_job;  /* the stop is one of job control */
};

/* The shell takes the terminal back only when we stop too. A SIGSTOP that somebody sent to the
 * program alone is between them. */
static void follow(struct stops *stops, pid_t pid)
{
	if (!stops->is_stopped || !stops->is_by_job)
		return;
	*stops = (struct stops){ 0 };
	stop_with(pid);
}

/* Takes what there is to say of the program. True: it has ended, with STATUS. */
static bool has_ended(struct stops *stops, pid_t pid, int *status)
{
	pid_t seen;

	while ((seen = waitpid(pid, status, WNOHANG | WUNTRACED | WCONTINUED)) == pid) {
		if (!WIFSTOPPED(*status) && !WIFCONTINUED(*status))
			return true;
		stops->is_stopped = WIFSTOPPED(*status);
		stops->is_by_job = stops->is_stopped && is_job_control(WSTOPSIG(*status));
	}
	return seen < 0 && errno == ECHILD;
}

int tr_launch_wait(pid_t pid, uint64_t (*tend)(void *arg), void *arg)
{
	struct stops stops = { 0 };
	sigset_t all;
	int status = 0;

	(void)sigfillset(&all);
	for (;;) {
		uint64_t pause_ns = tend ? tend(arg) : UINT64_MAX;
		struct timespec pause = { (time_t)(pause_ns / 1000000000u),
					  (long)(pause_ns % 1000000000u) };
		siginfo_t info;

		if (has_ended(&stops, pid, &status))
			return status;
		follow(&stops, pid);
		if (sigtimedwait(&all, &info, pause_ns == UINT64_MAX ? NULL : &pause) <=
			    0 ||
		    info.si_signo == SIGCHLD)
			continue;
		pass_on(pid, &info);
		/* ^Z when the program has stopped already: the terminal is wanted back. */
		if (is_job_control(info.si_signo))
			stops.is_by_job = stops.is_stopped;
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
