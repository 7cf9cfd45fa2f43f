/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#include "tr_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rm/inspect.h"
#include "rm/rm.h"

#define CANNOT_STATUS 77

void must(bool holds, int line, const char *text)
{
	if (holds)
		return;
	fprintf(stderr, "line %d: not so: %s (errno %d, reason \"%s\")\n", line, text,
		errno, rm_reason());
	_exit(1);
}

void cannot(const char *why)
{
	fprintf(stderr, "skipped: %s\n", why);
	_exit(CANNOT_STATUS);
}

pid_t start_child(void (*body)(void *arg), void *arg)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG,
		      SIGKILL); /* a claim that fails leaves nothing running */
		body(arg);
		_exit(0);
	}
	MUST(pid > 0);
	return pid;
}

void join_child(pid_t pid)
{
	int status = 0;

	MUST(waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_STATUS)
		_exit(CANNOT_STATUS);
	MUST(status == 0);
}

void kill_and_reap(pid_t pid)
{
	MUST(kill(pid, SIGKILL) == 0);
	MUST(waitpid(pid, NULL, 0) == pid);
}

uint64_t used_on(uint32_t device)
{
	struct rm_memory memory;

	MUST(rm_memory(device, &memory) == 0);
	return memory.used;
}

pid_t machine_pid(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct ucred peer = { 0 };
	socklen_t n = sizeof(peer);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket",
		 getenv("TRANCHE_SIM"));
	MUST(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	MUST(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0);
	close(fd);
	return peer.pid;
}

void write_machine_file(const char *file, const char *text)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", getenv("TRANCHE_SIM"), file);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void stop_machine(void *arg)
{
	(void)arg;
	if (rm_open() == 0)
		rm_stop();
}

static void remove_directory(const char *dir)
{
	char path[PATH_MAX + 256];
	struct dirent *e;
	DIR *d = opendir(dir);

	while (d && (e = readdir(d)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		unlink(path);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

void run_claim(void **state)
{
	const struct claim *claim = *state;
	char dir[] = "/tmp/sim-unit.XXXXXX";
	int status = 0;
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	setenv("TRANCHE_SIM", dir, 1);
	setenv("TRANCHE_SIM_GPUS", claim->gpus ? claim->gpus : "h100", 1);
	pid = fork();
	if (pid == 0) {
		claim->prove();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	setenv("TRANCHE_SIM_GPUS", "h100",
	       1); /* the claim may have been about a wrong one */
	pid = start_child(stop_machine, NULL);
	waitpid(pid, NULL, 0);
	remove_directory(dir);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_STATUS)
		skip();
	assert_int_equal(status, 0);
}
