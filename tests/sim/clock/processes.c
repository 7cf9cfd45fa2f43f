/* SPDX-License-Identifier: Apache-2.0 */
#include "simtime.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Processes that come, and waits for others: their end, their locks. */

SIM_EXPORT pid_t fork(void)
{
	bool is_in = sim_takes_part();
	pid_t pid = SIM_REAL(fork)();

	if (pid == 0)
		sim_takes_part(); /* waits for its turn */
	else if (pid > 0 && is_in)
		sim_expect(pid);
	return pid;
}

SIM_EXPORT int posix_spawn(pid_t *restrict pid, const char *restrict path,
			   const posix_spawn_file_actions_t *restrict actions,
			   const posix_spawnattr_t *restrict attributes,
			   char *const argv[restrict], char *const envp[restrict])
{
	bool is_in = sim_takes_part();
	pid_t child = 0;
	int r = SIM_REAL(posix_spawn)(&child, path, actions, attributes, argv, envp);

	if (r == 0 && pid)
		*pid = child;
	if (r == 0 && is_in)
		sim_expect(child);
	return r;
}

SIM_EXPORT int posix_spawnp(pid_t *restrict pid, const char *restrict file,
			    const posix_spawn_file_actions_t *restrict actions,
			    const posix_spawnattr_t *restrict attributes,
			    char *const argv[restrict], char *const envp[restrict])
{
	bool is_in = sim_takes_part();
	pid_t child = 0;
	int r = SIM_REAL(posix_spawnp)(&child, file, actions, attributes, argv, envp);

	if (r == 0 && pid)
		*pid = child;
	if (r == 0 && is_in)
		sim_expect(child);
	return r;
}

/* Waits look, and look again: so a participant that ends, or lets a lock go, is seen at a time of
 * the clock. */
SIM_EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
	struct sim_slices s;
	pid_t r;

	if (!sim_takes_part())
		return SIM_REAL(wait4)(pid, status, options, usage);
	r = SIM_REAL(wait4)(pid, status, options | WNOHANG, usage);
	if (options & WNOHANG)
		return r;
	s = sim_slices_begin(SIM_NEVER);
	while (r == 0) {
		if (!sim_slices_go_on(&s))
			return -1;
		r = SIM_REAL(wait4)(pid, status, options | WNOHANG, usage);
	}
	return r;
}

SIM_EXPORT pid_t waitpid(pid_t pid, int *status, int options)
{
	return wait4(pid, status, options, NULL);
}

SIM_EXPORT pid_t wait(int *status)
{
	return wait4(-1, status, 0, NULL);
}

SIM_EXPORT int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	siginfo_t none = { 0 }, *seen = info ? info : &none;
	struct sim_slices s;
	int r;

	if (!sim_takes_part() || (options & WNOHANG))
		return SIM_REAL(waitid)(type, id, info, options);
	s = sim_slices_begin(SIM_NEVER);
	for (;;) {
		seen->si_pid = 0;
		r = SIM_REAL(waitid)(type, id, seen, options | WNOHANG);
		if (r != 0 || seen->si_pid != 0)
			return r;
		if (!sim_slices_go_on(&s))
			return -1;
	}
}

SIM_EXPORT int flock(int fd, int operation)
{
	struct sim_slices s;
	int r;

	if (!sim_takes_part() || (operation & (LOCK_NB | LOCK_UN)))
		return SIM_REAL(flock)(fd, operation);
	s = sim_slices_begin(SIM_NEVER);
	while ((r = SIM_REAL(flock)(fd, operation | LOCK_NB)) != 0 && errno == EWOULDBLOCK)
		if (!sim_slices_go_on(&s))
			return -1;
	return r;
}

static int lock_file(int (*real)(int, int, ...), int fd, int command, void *arg)
{
	struct sim_slices s = sim_slices_begin(SIM_NEVER);
	int r;

	command = command == F_OFD_SETLKW ? F_OFD_SETLK : F_SETLK;
	while ((r = real(fd, command, arg)) != 0 && (errno == EAGAIN || errno == EACCES))
		if (!sim_slices_go_on(&s))
			return -1;
	return r;
}

SIM_EXPORT int fcntl(int fd, int command, ...)
{
	va_list args;
	void *arg;

	va_start(args, command);
	arg = va_arg(args, void *);
	va_end(args);
	if ((command == F_SETLKW || command == F_OFD_SETLKW) && sim_takes_part())
		return lock_file(SIM_REAL(fcntl), fd, command, arg);
	return SIM_REAL(fcntl)(fd, command, arg);
}

SIM_EXPORT int fcntl64(int fd, int command, ...) __attribute__((alias("fcntl")));
