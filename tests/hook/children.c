/* SPDX-License-Identifier: Apache-2.0 */
/*
 * children fork|vfork|clone|exec|daemon|killed: a process with memory of the slice has a
 * child. Whatever becomes of the child, the parent's charge stays, the child's is its own,
 * and what a dead process held comes back.
 */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define LIMIT   (1024 * MIB)
#define HELD    (100 * MIB)
#define REAP_US 250000 /* dead processes are looked for ten times a second */

static void wait_for(pid_t pid)
{
	int status;

	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* In a child whose driver came along: its calls are the driver's business, and none may
 * crash or touch what the parent holds. */
static void poke_as_child(void)
{
	size_t free_bytes, total_bytes;
	CUdeviceptr pointer;

	(void)cuMemGetInfo(&free_bytes, &total_bytes);
	if (cuMemAlloc(&pointer, MIB) == CUDA_SUCCESS)
		(void)cuMemFree(pointer);
	if (cuInit(0) == CUDA_SUCCESS && cuMemAlloc(&pointer, MIB) == CUDA_SUCCESS)
		(void)cuMemFree(pointer);
}

static void run(const char *program, const char *how)
{
	(void)execl(program, program, how, (char *)NULL);
	_exit(99);
}

static pid_t have_child(const char *how)
{
	pid_t pid;

	if (strcmp(how, "vfork") == 0) {
		pid = vfork();
		if (pid == 0)
			run("/bin/true", NULL);
		return pid;
	}
	if (strcmp(how, "clone") == 0)
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	else
		pid = fork();
	if (pid)
		return pid;
	if (strcmp(how, "exec") == 0)
		run("/proc/self/exe", "second");
	if (strcmp(how, "daemon") == 0 && (fork() || setsid() < 0))
		_exit(0);
	poke_as_child();
	_exit(0);
}

/* Another program of the slice sees what the first one holds, and takes the rest. */
static int second(void)
{
	CUdeviceptr pointer;

	(void)check_context();
	CHECK(check_free() == LIMIT - HELD);
	OK(cuMemAlloc(&pointer, LIMIT - HELD));
	CHECK_RESULT(check_free(), 0);
	CHECK_RESULT(cuMemAlloc(&pointer, MIB), CUDA_ERROR_OUT_OF_MEMORY);
	return 0;
}

static int killed(size_t before)
{
	int ready[2], status;
	char byte;
	pid_t pid;

	CHECK(pipe(ready) == 0);
	pid = fork();
	if (pid == 0) {
		(void)dup2(ready[1], 1);
		run("/proc/self/exe", "hold");
	}
	CHECK(read(ready[0], &byte, 1) == 1);
	CHECK_RESULT(check_free(), before - HELD);
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
	usleep(REAP_US);
	CHECK_RESULT(check_free(), before);
	return 0;
}

int main(int argc, char **argv)
{
	CUdeviceptr held;
	size_t before;

	CHECK(argc == 2);
	if (strcmp(argv[1], "second") == 0)
		return second();
	(void)check_context();
	OK(cuMemAlloc(&held, HELD));
	if (strcmp(argv[1], "hold") == 0)
		return write(1, "x", 1) == 1 && pause();
	before = check_free();
	CHECK_RESULT(before, LIMIT - HELD);
	if (strcmp(argv[1], "killed") == 0)
		return killed(before);
	wait_for(have_child(argv[1]));
	usleep(REAP_US);
	CHECK_RESULT(check_free(), before);
	OK(cuMemFree(held));
	CHECK_RESULT(check_free(), before + HELD);
	return 0;
}
