/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/scene.h"
#include "rt/cleanup.h"
#include "rt/file.h"

/* What the loader cannot preload it leaves out with a message, and the program runs unlimited: so a
 * limiter of somebody else's is tried before it is blamed. */

#define PROBE_MS    20000u
#define LOADER_SAYS "ERROR: ld.so: "
#define CANNOT      "cannot be preloaded"
#define LOADER_GOES ": ignored."
#define PROBE_SAYS  4096

struct probe {
	char said[PROBE_SAYS]; /* the beginning of its standard error */
	int status;
	bool is_late;
};

static int check_file(const char *path, struct tr_err *err)
{
	tr_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return tr_fail(err, EINVAL, "--peer %s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return tr_fail(err, EINVAL, "--peer %s is a directory, not a library",
			       path);
	if (!S_ISREG(st.st_mode))
		return tr_fail(err, EINVAL, "--peer %s is not a file", path);
	if (strpbrk(path, " \t\n:"))
		return tr_fail(err, EINVAL,
			       "--peer %s: the loader preloads no path with a blank or a "
			       "colon",
			       path);
	return 0;
}

/* This program itself, as the tenants are; it only tells its version. */
static _Noreturn void become_probe(const struct tr_stage *stage, int out)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)setenv("LD_PRELOAD", stage->peer, 1);
	/* What the loader tells of its work may have the same words. */
	(void)unsetenv("LD_DEBUG");
	if (stage->sim)
		tr_env_prepend("LD_LIBRARY_PATH", stage->sim);
	if (dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
	    dup2(out, STDERR_FILENO) >= 0)
		(void)execl(stage->tranche, stage->tranche, "--version", (char *)NULL);
	_exit(126);
}

/* Until it closes its standard error; all is read, as a full pipe would hold it. */
static void listen_to(struct probe *p, int fd, uint64_t end_ns)
{
	size_t used = 0;
	char more[512];

	for (;;) {
		uint64_t now_ns = tr_clock_ns();
		struct pollfd ready = { fd, POLLIN, 0 };
		ssize_t n;

		if (now_ns >= end_ns || poll(&ready, 1, 100) < 0)
			return;
		if (!ready.revents)
			continue;
		n = read(fd, more, sizeof(more));
		if (n <= 0)
			return;
		for (ssize_t i = 0; i < n && used + 1 < sizeof(p->said); i++)
			p->said[used++] = more[i] ? more[i] : ' ';
	}
}

static int run_probe(const struct tr_stage *stage, struct probe *p, struct tr_err *err)
{
	uint64_t end_ns = tr_clock_ns() + PROBE_MS * UINT64_C(1000000);
	int fds[2];
	pid_t pid;

	*p = (struct probe){ 0 };
	if (pipe2(fds, O_CLOEXEC) < 0)
		return tr_fail_errno(err, "pipe");
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0)
		become_probe(stage, fds[1]);
	(void)close(fds[1]);
	if (pid > 0)
		listen_to(p, fds[0], end_ns);
	(void)close(fds[0]);
	if (pid < 0)
		return tr_fail_errno(err, "fork");
	while (waitpid(pid, &p->status, WNOHANG) == 0) {
		if (!p->is_late && tr_clock_ns() >= end_ns) {
			p->is_late = true;
			(void)kill(-pid, SIGKILL);
		}
		tr_sleep_ns(1000000);
	}
	return 0;
}

/* The line of SAID around AT, without the words that the loader puts around its sentence. */
static char *cut_line(char *said, char *at)
{
	char *start = at, *end = at + strcspn(at, "\n"), *goes;

	while (start > said && start[-1] != '\n')
		start--;
	*end = '\0';
	if (strncmp(start, LOADER_SAYS, strlen(LOADER_SAYS)) == 0)
		start += strlen(LOADER_SAYS);
	goes = strstr(start, LOADER_GOES);
	if (goes)
		*goes = '\0';
	return start;
}

int tr_peer_check(const struct tr_stage *stage, struct tr_err *err)
{
	static struct probe p;
	char *cannot;
	int r = check_file(stage->peer, err);

	if (r == 0)
		r = run_probe(stage, &p, err);
	if (r < 0)
		return r;
	cannot = strstr(p.said, CANNOT);
	if (cannot)
		return tr_fail(err, EINVAL, "--peer %s: the loader says: %.300s",
			       stage->peer, cut_line(p.said, cannot));
	if (p.is_late)
		return tr_fail(err, EINVAL,
			       "--peer %s: a program with it does not end within %u s",
			       stage->peer, PROBE_MS / 1000);
	if (WIFSIGNALED(p.status))
		return tr_fail(err, EINVAL,
			       "--peer %s: a program with it dies of %s: %.300s",
			       stage->peer, strsignal(WTERMSIG(p.status)),
			       cut_line(p.said, p.said));
	if (p.status != 0)
		return tr_fail(err, EINVAL,
			       "--peer %s: a program with it ends with status %d: %.300s",
			       stage->peer, WEXITSTATUS(p.status),
			       cut_line(p.said, p.said));
	return 0;
}
