/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/scene.h"
#include "tranche/paths.h"

void tr_env_prepend(const char *variable, const char *value)
{
	const char *old = getenv(variable);
	char joined[8192];

	(void)snprintf(joined, sizeof(joined), "%s%s%s", value, old && *old ? ":" : "",
		       old ? old : "");
	(void)setenv(variable, joined, 1);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_tree(const char *path)
{
	(void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* In a session of its own, so that what ends the others does not end it: waits until nobody holds the
 * other end of FD any more. */
static _Noreturn void sweep_after(int fd, const char *dir)
{
	char byte;

	(void)setsid();
	for (int s = 1; s < NSIG; s++)
		if (s != SIGKILL && s != SIGSTOP)
			(void)signal(s, SIG_IGN);
	for (int out = STDIN_FILENO; out <= STDERR_FILENO; out++)
		if (out != fd)
			(void)close(out);
	while (read(fd, &byte, 1) > 0)
		;
	/* A machine that has lost its last process goes by itself, and writes until then. */
	for (int tries = 0; tries < 100 && access(dir, F_OK) == 0; tries++) {
		remove_tree(dir);
		(void)usleep(10000);
	}
	_exit(0);
}

int tr_stage_folder(struct tr_stage *stage, struct tr_err *err)
{
	int ends[2];
	pid_t pid;

	(void)snprintf(stage->dir, sizeof(stage->dir), "/dev/shm/tranche-bench.XXXXXX");
	if (!mkdtemp(stage->dir))
		return tr_fail_errno(err, "make %s", stage->dir);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return tr_fail_errno(err, "pipe");
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		(void)close(ends[1]);
		sweep_after(ends[0], stage->dir);
	}
	(void)close(ends[0]); /* the other one stays open until the process is gone */
	return pid < 0 ? tr_fail_errno(err, "fork") : 0;
}

static int run_tool(const struct tr_machine *m, const char *const *argv, struct tr_err *err)
{
	char path[PATH_MAX];
	int status = 1;
	pid_t pid;

	(void)snprintf(path, sizeof(path), "%s/%s", m->stage->sim, argv[0]);
	pid = fork();
	if (pid == 0) {
		/* execv() does not write, its type only cannot say so */
		(void)execv(path, (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		return tr_fail(err, EIO, "%s %s failed", path, argv[1]);
	return 0;
}

int tr_machine_start(struct tr_machine *m, const struct tr_stage *stage,
		     const struct tr_scene *scene, unsigned hold, struct tr_err *err)
{
	char gpus[32], seed[40], noise[32], held[32], pid[16];

	*m = (struct tr_machine){ .stage = stage };
	(void)snprintf(m->dir, sizeof(m->dir), "%s/XXXXXX", stage->dir);
	if (!mkdtemp(m->dir))
		return tr_fail_errno(err, "make %s", m->dir);
	(void)snprintf(m->path, sizeof(m->path), "%s/machine", m->dir);
	if (!stage->sim)
		return 0;
	(void)snprintf(gpus, sizeof(gpus), "gpus=%uxh100", scene->gpus);
	/* Not the seed itself: each machine has UUIDs of its own, as real ones have. */
	(void)snprintf(seed, sizeof(seed), "noise_seed=%llu",
		       (unsigned long long)scene->seed);
	(void)snprintf(noise, sizeof(noise), "noise_pct=%u", stage->noise_percent);
	(void)snprintf(held, sizeof(held), "hold=%u", hold);
	(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
	return run_tool(
		m,
		(const char *[]){ "sim-ctl", "start", m->path, "--lifetime-pid", pid, gpus,
				  seed, noise,
				  stage->is_real_time ? "clock=real" : "clock=virtual",
				  stage->is_real_time ? NULL : held, NULL },
		err);
}

void tr_machine_stop(struct tr_machine *m)
{
	if (m->stage->sim && m->path[0])
		(void)run_tool(m, (const char *[]){ "sim-ctl", "stop", m->path, NULL },
			       NULL);
	if (m->dir[0])
		remove_tree(m->dir);
	m->dir[0] = '\0';
}

/* In the child. The clock's library comes first, so that a limiter takes its time from it. */
static void enter(struct tr_machine *m, const struct tr_start *start)
{
	const struct tr_stage *stage = m->stage;
	char value[PATH_MAX];

	if (start->preload)
		tr_env_prepend("LD_PRELOAD", start->preload);
	if (stage->sim) {
		/* Of another machine, by another clock: not among the user's own. */
		(void)snprintf(value, sizeof(value), "%s/slices", m->dir);
		(void)setenv(TR_ENV_SLICES, value, 1);
		(void)setenv("TRANCHE_SIM", m->path, 1);
		tr_env_prepend("LD_LIBRARY_PATH", stage->sim);
	}
	if (stage->sim && !stage->is_real_time) {
		(void)snprintf(value, sizeof(value), "%s/libsimtime.so", stage->sim);
		tr_env_prepend("LD_PRELOAD", value);
		(void)snprintf(value, sizeof(value), "%u", m->joined);
		(void)setenv("TRANCHE_SIM_RANK", value, 1);
	}
	if (start->limit_percent) {
		(void)snprintf(value, sizeof(value), "%u", start->limit_percent);
		(void)setenv(TR_ENV_SM_LIMIT, value, 1);
		(void)setenv(TR_ENV_MEM_LIMIT, "8g", 1);
		(void)setenv(TR_ENV_STATE, start->cache, 1);
	}
}

int tr_machine_spawn(struct tr_machine *m, const struct tr_start *start, struct tr_err *err)
{
	pid_t parent = getpid(), pid;
	sigset_t none;

	m->joined++;
	pid = fork();
	if (pid < 0)
		return tr_fail_errno(err, "fork");
	if (pid > 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	(void)setpgid(0, 0);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (start->out_fd >= 0 && dup2(start->out_fd, STDOUT_FILENO) < 0)
		_exit(126);
	enter(m, start);
	(void)execv(start->argv[0], (char *const *)(uintptr_t)start->argv);
	_exit(127);
}
