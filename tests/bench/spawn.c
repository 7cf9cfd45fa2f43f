/* SPDX-License-Identifier: Apache-2.0 */
/* Starting what is measured, and reading what it says. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARGUMENTS_MAX 12
#define GROUP_MAX     64
#define STORM_MAX     1024

uint64_t bench_clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The C library's types want writable strings and write to none. */
static char *as_argument(const char *text)
{
	union {
		const char *in;
		char *out;
	} u = { text };

	return u.out;
}

static int start(const char *program, char **environment, const char *const *arguments,
		 int output, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	char *argv[ARGUMENTS_MAX + 2] = { as_argument(program) };
	int r, n = 0;

	for (; arguments[n] && n < ARGUMENTS_MAX; n++)
		argv[n + 1] = as_argument(arguments[n]);
	posix_spawn_file_actions_init(&actions);
	if (output >= 0)
		posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	r = posix_spawn(pid, program, &actions, NULL, argv, environment);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		fprintf(stderr, "bench: %s: %s\n", program, strerror(r));
	return r ? -1 : 0;
}

/* Until the process has ended: -1 unless with status 0. */
static int wait_for(pid_t pid, const char *what)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	fprintf(stderr, "bench: %s ended with status 0x%x\n", what, (unsigned)status);
	return -1;
}

static void read_all(int fd, char *text, size_t room)
{
	size_t have = 0;
	ssize_t n;

	while (have + 1 < room && (n = read(fd, text + have, room - have - 1)) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		have += n > 0 ? (size_t)n : 0;
	}
	text[have] = '\0';
}

int bench_spawn(const struct bench *bench, char **environment, const char *const *arguments,
		double *out, char *text, size_t room)
{
	char said[256];
	int ends[2], r;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	r = start(bench->worker, environment, arguments, ends[1], &pid);
	close(ends[1]);
	if (r == 0) {
		read_all(ends[0], said, sizeof(said));
		r = wait_for(pid, arguments[0]);
	}
	close(ends[0]);
	if (r == 0 && text)
		(void)snprintf(text, room, "%.*s", (int)strcspn(said, "\n"), said);
	if (r == 0 && out && sscanf(said, "%lf", out) != 1)
		r = -1;
	return r;
}

/* A gate: members say on `ready` that they are there and wait for the end of `go`. */
struct gate {
	int ready[2], go[2];
};

static int open_gate(struct gate *gate)
{
	if (pipe(gate->ready) < 0)
		return -1;
	if (pipe(gate->go) < 0)
		return -1;
	fcntl(gate->ready[0], F_SETFD, FD_CLOEXEC);
	fcntl(gate->go[1], F_SETFD, FD_CLOEXEC);
	return 0;
}

static int wait_members(struct gate *gate, unsigned count)
{
	char byte;

	close(gate->ready[1]); /* so that members who die are noticed */
	while (count > 0 && read(gate->ready[0], &byte, 1) == 1)
		count--;
	return count ? -1 : 0;
}

static void close_gate(struct gate *gate)
{
	close(gate->ready[0]);
	close(gate->go[0]);
}

int bench_spawn_group(const struct bench *bench, char **environment,
		      const char *const *arguments, unsigned count, double *value)
{
	const char *all[ARGUMENTS_MAX + 1] = { 0 };
	char ready[16], go[16], said[64];
	double sum = 0, one;
	int outputs[GROUP_MAX], ends[2], r = 0, n = 0;
	pid_t pids[GROUP_MAX];
	struct gate gate;
	unsigned started = 0;

	if (count > GROUP_MAX || open_gate(&gate) < 0)
		return -1;
	for (; arguments[n] && n < ARGUMENTS_MAX - 2; n++)
		all[n] = arguments[n];
	(void)snprintf(ready, sizeof(ready), "%d", gate.ready[1]);
	(void)snprintf(go, sizeof(go), "%d", gate.go[0]);
	all[n] = ready;
	all[n + 1] = go;
	while (started < count && r == 0) {
		r = pipe2(ends, O_CLOEXEC);
		if (r == 0) {
			r = start(bench->worker, environment, all, ends[1], &pids[started]);
			close(ends[1]);
			outputs[started] = ends[0];
			started += r == 0;
		}
	}
	if (wait_members(&gate, started) < 0)
		r = -1;
	close(gate.go[1]);
	for (unsigned i = 0; i < started; i++) {
		read_all(outputs[i], said, sizeof(said));
		if (sscanf(said, "%lf", &one) == 1)
			sum += one;
		else
			r = -1;
		close(outputs[i]);
		if (wait_for(pids[i], arguments[0]) < 0)
			r = -1;
	}
	close_gate(&gate);
	*value = sum / count;
	return r;
}

/* The member of a storm: it is there, and becomes the worker when the gate opens. */
static _Noreturn void storm_member(const struct bench *bench, char **environment,
				   struct gate *gate)
{
	char name[] = "init", live[] = "0", one[] = "1";
	char *argv[] = { as_argument(bench->worker), name, live, one, one, one, NULL };
	int null = open("/dev/null", O_WRONLY);
	char byte = 0;

	close(gate->go[1]);
	dup2(null, STDOUT_FILENO);
	if (write(gate->ready[1], &byte, 1) != 1)
		_exit(1);
	close(gate->ready[1]);
	while (read(gate->go[0], &byte, 1) > 0)
		;
	execve(bench->worker, argv, environment);
	_exit(127);
}

int bench_spawn_storm(const struct bench *bench, char **environment, unsigned count,
		      double *elapsed_ns)
{
	static pid_t pids[STORM_MAX];
	struct gate gate;
	unsigned started = 0;
	uint64_t began_ns;
	int r = 0;

	if (count > STORM_MAX || open_gate(&gate) < 0)
		return -1;
	while (started < count) {
		pids[started] = fork();
		if (pids[started] == 0)
			storm_member(bench, environment, &gate);
		if (pids[started] < 0)
			break;
		started++;
	}
	if (wait_members(&gate, started) < 0 || started < count)
		r = -1;
	began_ns = bench_clock_ns();
	close(gate.go[1]);
	for (unsigned i = 0; i < started; i++)
		if (wait_for(pids[i], "a process of the storm") < 0)
			r = -1;
	*elapsed_ns = (double)(bench_clock_ns() - began_ns);
	close_gate(&gate);
	return r;
}

int bench_spawn_once(const char *program, char **environment, double *elapsed_ns)
{
	const char *const none[] = { NULL };
	uint64_t began_ns = bench_clock_ns();
	pid_t pid;

	if (start(program, environment, none, -1, &pid) < 0 || wait_for(pid, program) < 0)
		return -1;
	*elapsed_ns = (double)(bench_clock_ns() - began_ns);
	return 0;
}
