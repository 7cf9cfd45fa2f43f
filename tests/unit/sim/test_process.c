/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"
#include "rm/inspect.h"
#include "rm/rm.h"

/* Processes come and go in every manner; their memory goes with them. */

#define MIB ((uint64_t)1 << 20)

struct pipe_pair {
	int r, w;
};

static struct pipe_pair make_pipe(void)
{
	int fds[2];

	MUST(pipe(fds) == 0);
	return (struct pipe_pair){ fds[0], fds[1] };
}

static void take_and_wait(void *arg)
{
	const struct pipe_pair *p = arg;
	struct rm_phys a;

	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, 64 * MIB, RM_CONTEXT) == 0);
	MUST(rm_object_add(RM_BLOCK, 0, 4096, 512) == 0);
	MUST(write(p->w, "x", 1) == 1);
	for (;;)
		pause();
}

static void await_byte(const struct pipe_pair *p)
{
	char c;

	MUST(read(p->r, &c, 1) == 1);
}

static void prove_kill(void)
{
	struct pipe_pair p = make_pipe();

	MUST(rm_open() == 0);
	for (int i = 0; i < 100; i++) {
		pid_t pid = start_child(take_and_wait, &p);

		await_byte(&p);
		MUST(used_on(0) == 64 * MIB);
		kill_and_reap(pid);
		MUST(used_on(0) == 0); /* at once: the parent knows, so the driver does */
	}
}

/* A child that inherits the connection without any handler having run. */
static pid_t clone_past_handlers(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		for (;;)
			pause();
	}
	return pid;
}

static void leave_copies_and_wait(void *arg)
{
	const struct pipe_pair *p = arg;
	struct rm_phys a;
	pid_t pid;

	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, 64 * MIB, RM_CONTEXT) == 0);
	pid = clone_past_handlers();
	MUST(pid > 0);
	MUST(write(p->w, &pid, sizeof(pid)) == sizeof(pid));
	for (;;)
		pause();
}

static void prove_copies_of_the_connection(void)
{
	struct pipe_pair p = make_pipe();
	pid_t pid, heir;
	uint64_t used;

	MUST(rm_open() == 0);
	pid = start_child(leave_copies_and_wait, &p);
	MUST(read(p.r, &heir, sizeof(heir)) == sizeof(heir));
	MUST(kill(heir, SIGSTOP) == 0); /* it keeps its copies while its parent dies */
	kill_and_reap(pid);
	used = used_on(0);
	kill(heir, SIGKILL); /* before a claim that may end us */
	MUST(used == 0);
}

#define EXEC_VARIABLE "SIM_UNIT_EXEC"

static void take_and_exec(void *arg)
{
	struct rm_phys a;
	char heir[16];
	pid_t pid;

	(void)arg;
	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, 64 * MIB, RM_CONTEXT) == 0);
	pid = clone_past_handlers();
	MUST(pid > 0);
	snprintf(heir, sizeof(heir), "%d", (int)pid);
	setenv(EXEC_VARIABLE, heir, 1);
	execl("/proc/self/exe", "test", (char *)NULL);
	MUST(false); /* exec did not work */
}

/* What the new image does: the same process, nothing of before. */
static int after_exec(const char *heir)
{
	uint64_t used;

	MUST(rm_open() == 0);
	used = used_on(0);
	kill(atoi(heir), SIGKILL);
	MUST(used == 0);
	return 0;
}

static void prove_exec(void)
{
	join_child(start_child(take_and_exec, NULL));
}

static void use_after_fork(void *arg)
{
	const uint64_t *id = arg;
	struct rm_phys a;
	struct rm_memory memory;

	MUST(!rm_is_open() && rm_machine() == NULL);
	MUST(rm_memory(0, &memory) == -ECHILD);
	MUST(rm_phys_alloc(&a, 0, MIB, RM_VMM) == -ECHILD);
	MUST(rm_object_add(RM_VMM, 0, 1, 1) == -ECHILD);
	rm_object_remove(RM_BLOCK, 4096); /* the parent's: must stay */
	MUST(rm_backing(0) == -ECHILD);
	MUST(rm_open() == 0);
	MUST(rm_phys_unref(*id) == -ENOENT); /* the parent's, not ours */
	MUST(rm_phys_alloc(&a, 0, MIB, RM_VMM) == 0);
	MUST(used_on(0) == 2 * MIB);
}

static void prove_fork(void)
{
	struct rm_phys a;

	MUST(rm_phys_alloc(&a, 0, MIB, RM_VMM) == -ENODEV);
	MUST(rm_open() == 0 && rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, MIB, RM_VMM) == 0);
	MUST(rm_object_add(RM_BLOCK, 0, 4096, 512) == 0);
	join_child(start_child(use_after_fork, &a.id));
	MUST(used_on(0) == MIB);
	MUST(rm_object_add(RM_BLOCK, 0, 4096, 512) == -EEXIST);
}

static void close_everything(void *arg)
{
	const struct pipe_pair *p = arg;
	struct rm_memory memory;
	struct rm_phys a;
	int fds[2], w = p->w;
	char c;

	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, MIB, RM_CONTEXT) == 0);
	MUST(dup2(w, 3) == 3);
	syscall(SYS_close_range, 4, ~0u, 0);
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
	while (dup(fds[0]) >= 0 &&
	       dup(fds[0]) < 1020) /* our numbers are the program's now */
		;
	MUST(rm_memory(0, &memory) == -EIO);
	MUST(rm_phys_unref(a.id) == -EIO);
	MUST(recv(fds[1], &c, 1, MSG_DONTWAIT) < 0); /* nothing was sent to its socket */
	MUST(write(3, "x", 1) == 1);
	for (;;)
		pause();
}

static void prove_closed_descriptors(void)
{
	struct pipe_pair p = make_pipe();
	pid_t pid;

	MUST(rm_open() == 0);
	pid = start_child(close_everything, &p);
	await_byte(&p);
	MUST(used_on(0) == 0); /* what it closed is gone, though it lives */
	kill_and_reap(pid);
}

struct ask {
	struct pipe_pair ready, go;
};

static void show_descriptor(void *arg)
{
	const struct ask *ask = arg;
	struct rm_phys a;
	char c;
	int fd;

	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, MIB, RM_VMM) == 0);
	MUST(rm_phys_export(a.id, &fd) == 0);
	MUST(rm_phys_unref(a.id) == 0);
	MUST(write(ask->ready.w, "x", 1) == 1);
	MUST(read(ask->go.r, &c, 1) == 1);
	(void)rm_phys_import(fd, &a); /* nobody answers */
}

static void wake_later(void *arg)
{
	usleep(50000);
	MUST(kill(*(pid_t *)arg, SIGCONT) == 0);
}

/* The machine finds them all at once: the end of a client, a message of it that holds the last copy
 * of a descriptor, and the question what is left. */
static void prove_descriptor_under_way(void)
{
	struct ask ask = { make_pipe(), make_pipe() };
	struct rm_client clients[2];
	size_t n = 2;
	pid_t machine, pid, waker;

	MUST(rm_open() == 0);
	machine = machine_pid();
	pid = start_child(show_descriptor, &ask);
	await_byte(&ask.ready);
	MUST(kill(machine, SIGSTOP) == 0);
	usleep(20000);
	MUST(write(ask.go.w, "x", 1) == 1);
	usleep(50000);
	kill_and_reap(pid);
	waker = start_child(wake_later, &machine);
	MUST(rm_clients(clients, &n) == 0 && n == 2);
	MUST(clients[0].serial == 0 && clients[0].bytes[0][RM_VMM] == 0);
	join_child(waker);
}

static void first_of_namespace(void *arg)
{
	MUST(getpid() == 1);
	take_and_wait(arg);
}

static void enter_namespaces(void *arg)
{
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) != 0)
		cannot("no right to make a pid namespace");
	waitpid(start_child(first_of_namespace, arg), NULL, 0); /* it will be killed */
}

static void prove_namespaces(void)
{
	struct pipe_pair p = make_pipe();
	struct rm_process row[2];
	size_t n = 2;
	pid_t outer;

	MUST(rm_open() == 0);
	outer = start_child(enter_namespaces, &p);
	close(p.w);
	p.w = -1;
	{
		char c;
		int status;

		if (read(p.r, &c, 1) != 1) {
			MUST(waitpid(outer, &status, 0) == outer);
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
		}
	}
	MUST(rm_processes(0, row, &n) == 0 && n == 1);
	MUST(row[0].own_pid == 1 && row[0].host_pid > 1 && row[0].pid == row[0].host_pid);
	MUST(kill(row[0].host_pid, SIGKILL) == 0);
	MUST(waitpid(outer, NULL, 0) == outer);
	MUST(used_on(0) == 0);
}

static void as_another_user(void *arg)
{
	struct rm_phys a;

	(void)arg;
	MUST(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
	MUST(rm_open() == 0);
	MUST(rm_phys_alloc(&a, 0, MIB, RM_CONTEXT) == 0);
	MUST(rm_stop() == -EPERM);
}

static void prove_other_user(void)
{
	if (getuid() != 0)
		cannot("only root can become another user");
	MUST(rm_open() == 0);
	MUST(chmod(getenv("TRANCHE_SIM"), 0755) == 0);
	join_child(start_child(as_another_user, NULL));
	MUST(used_on(0) == 0);
}

int main(void)
{
	static struct claim claims[] = {
		{ "kill: all of it returns, before the parent can ask", prove_kill },
		{ "kill: though a clone holds copies of the connection",
		  prove_copies_of_the_connection },
		{ "exec: ends what was before", prove_exec },
		{ "fork: the child starts anew", prove_fork },
		{ "close_range: the device is lost, no byte goes astray",
		  prove_closed_descriptors },
		{ "kill: what only its messages held returns as well",
		  prove_descriptor_under_way },
		{ "namespaces: seen from both sides", prove_namespaces },
		{ "users: the directory decides", prove_other_user },
	};
	struct CMUnitTest tests[TR_COUNT(claims)];
	const char *heir = getenv(EXEC_VARIABLE);

	if (heir)
		return after_exec(heir);
	for (size_t i = 0; i < TR_COUNT(claims); i++)
		tests[i] = (struct CMUnitTest){ .name = claims[i].name,
						.test_func = run_claim,
						.initial_state = &claims[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
