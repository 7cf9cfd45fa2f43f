/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/client.h"
#include "rm/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_LOOK_MS     100
#define START_ASLEEP_NS   20000000000u
#define START_CPU_TICKS   2000u /* of its processor's time: 20 s */
#define SPAWN_STACK_BYTES (64u << 10)

int rm_directory(char *dir, size_t n)
{
	const char *named = getenv("TRANCHE_SIM");
	int r;

	if (named && named[0])
		r = snprintf(dir, n, "%s", named);
	else if (access("/run/tranche-sim", F_OK) == 0)
		r = snprintf(dir, n, "/run/tranche-sim");
	else
		r = snprintf(dir, n, "/tmp/tranche-sim-%u", (unsigned)getuid());
	if (r < 0 || (size_t)r >= n) {
		rm_set_reason("TRANCHE_SIM names a directory of more than %zu characters",
			      n - 1);
		return -ENAMETOOLONG;
	}
	if (dir[0] != '/') {
		rm_set_reason("TRANCHE_SIM: \"%s\" is not an absolute path", dir);
		return -EINVAL;
	}
	return 0;
}

int rm_send(int fd, const void *bytes, size_t n, int fd_in)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	/* sendmsg() does not write, its type only cannot say so */
	struct iovec io = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = n };
	struct msghdr msg = { .msg_iov = &io, .msg_iovlen = 1 };
	ssize_t r;

	if (fd_in >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.room);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &fd_in, sizeof(int));
	}
	do
		r = sendmsg(fd, &msg, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int rm_receive(int fd, void *bytes, size_t n, int *fd_out)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec io = { .iov_base = bytes, .iov_len = n };
	struct msghdr msg = { .msg_iov = &io, .msg_iovlen = 1 };
	struct cmsghdr *c;
	int came = -1;
	ssize_t r;

	do {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.room);
		/* as such: on a virtual clock libc's is somebody else's */
		r = syscall(SYS_recvmsg, fd, &msg, MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(&came, CMSG_DATA(c), sizeof(int));
	if (fd_out)
		*fd_out = came;
	else if (came >= 0)
		close(came);
	return (int)r;
}

static int connect_once(const char *dir)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, dir_fd = -1, r;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", dir, WIRE_SOCKET);
	if (r >= (int)sizeof(address.sun_path)) {
		dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
			 dir_fd, WIRE_SOCKET);
	}
	do
		r = connect(fd, (struct sockaddr *)&address, sizeof(address));
	while (r < 0 && errno == EINTR);
	r = r < 0 ? -errno : fd;
	if (dir_fd >= 0)
		close(dir_fd);
	if (r < 0)
		close(fd);
	return r;
}

static void fill_hello(struct wire_hello *hello)
{
	const void *image = (const void *)getauxval(AT_RANDOM);

	hello->version = WIRE_VERSION;
	hello->own_pid = getpid();
	if (image)
		memcpy(hello->image, image, sizeof(hello->image));
	snprintf(hello->name, sizeof(hello->name), "%s", program_invocation_name);
}

/* -EAGAIN: nobody serves, or the one who did was just ending. */
static int connect_and_greet(const char *dir, struct wire_reply *reply, int *board_fd)
{
	struct wire_request req = { .op = WIRE_HELLO };
	int fd, r;

	fd = connect_once(dir);
	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return -EAGAIN;
	if (fd < 0)
		return fd;
	fill_hello(&req.hello);
	r = rm_send(fd, &req, sizeof(req), -1);
	if (r == 0)
		r = rm_receive(fd, reply, sizeof(*reply), board_fd);
	if (r < (int)WIRE_HEAD)
		r = -EAGAIN;
	else
		r = reply->r;
	if (r == 0 && *board_fd < 0)
		r = -EMFILE;
	if (r == 0)
		return fd;
	if (r == -EPROTO)
		rm_set_reason("the machine in %s was started by another build: stop it",
			      dir);
	close(fd);
	return r;
}

struct find_self {
	uintptr_t address;
	char path[PATH_MAX];
};

static int match_object(struct dl_phdr_info *object, size_t size, void *arg)
{
	struct find_self *self = arg;

	(void)size;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &object->dlpi_phdr[i];
		uintptr_t start = object->dlpi_addr + ph->p_vaddr;

		if (ph->p_type == PT_LOAD && self->address >= start &&
		    self->address < start + ph->p_memsz) {
			snprintf(self->path, sizeof(self->path), "%s", object->dlpi_name);
			return 1;
		}
	}
	return 0;
}

/* Beside the library or program that contains this code. dl_iterate_phdr() rather than
 * dladdr(): the latter lived in libdl before glibc 2.34. */
static int find_kernel(char *path, size_t n)
{
	struct find_self self = { .address = (uintptr_t)find_kernel };
	const char *named = getenv("TRANCHE_SIM_KERNEL");
	char real[PATH_MAX];
	char *slash;

	if (named && named[0]) {
		snprintf(path, n, "%s", named);
	} else {
		dl_iterate_phdr(match_object, &self);
		if (!realpath(self.path[0] ? self.path : "/proc/self/exe", real))
			return -errno;
		slash = strrchr(real, '/');
		*slash = '\0';
		if ((size_t)snprintf(path, n, "%s/sim-kernel", real) >= n)
			return -ENAMETOOLONG;
	}
	if (access(path, X_OK) != 0) {
		rm_set_reason("no simulated kernel driver at %.200s", path);
		return -ENODEV;
	}
	return 0;
}

struct spawn {
	const char *path;
	char *const *argv;
	char *const *envp;
	int ready_fd;
	pid_t pid;    /* of the kernel process, once it runs */
	char *stacks; /* of the child and of its child */
};

/* Runs in the address space of the stranger, on a stack of its own, until exec. */
static int exec_kernel(void *arg)
{
	const struct spawn *s = arg;
	int null_fd;

	setsid();
	/* dup2() onto itself would keep close-on-exec */
	if (s->ready_fd == WIRE_READY)
		fcntl(s->ready_fd, F_SETFD, 0);
	else
		dup2(s->ready_fd, WIRE_READY);
	syscall(SYS_close_range, WIRE_READY + 1, ~0u, 0);
	null_fd = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(null_fd, fd);
	if (null_fd > WIRE_READY)
		close(null_fd);
	if (chdir("/") != 0)
		_exit(127);
	execve(s->path, s->argv, s->envp);
	_exit(127);
}

static char *top_of_stack(struct spawn *s, int which)
{
	return s->stacks + (size_t)(which + 1) * SPAWN_STACK_BYTES;
}

/* Exits after its own child has called exec, which is then nobody's here. */
static int spawn_orphan(void *arg)
{
	struct spawn *s = arg;

	s->pid = clone(exec_kernel, top_of_stack(s, 1), CLONE_VM | CLONE_VFORK, s);
	_exit(s->pid < 0);
}

/*
 * clone() like posix_spawn() does: no handlers of the stranger run. With exit signal 0
 * there is no SIGCHLD and its wait() does not see the child; exec would bring the signal
 * back, so the child that the stranger has does not call it.
 */
static int spawn_kernel(struct spawn *s)
{
	sigset_t all, before;
	int pid, r, status;

	s->stacks = mmap(NULL, 2 * SPAWN_STACK_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (s->stacks == MAP_FAILED)
		return -ENOMEM;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = clone(spawn_orphan, top_of_stack(s, 0), CLONE_VM | CLONE_VFORK, s);
	r = pid < 0 ? -errno : 0;
	sigprocmask(SIG_SETMASK, &before, NULL);
	while (r == 0 && waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
		;
	munmap(s->stacks, 2 * SPAWN_STACK_BYTES);
	return r;
}

/* Only what concerns the simulator: the stranger's LD_PRELOAD is not for the kernel
 * process. */
static void pick_environment(char **envp, size_t room)
{
	size_t n = 0;

	for (char **e = environ; e && *e && n + 1 < room; e++) {
		if (strncmp(*e, "TRANCHE_SIM", 11) == 0)
			envp[n++] = *e;
	}
	envp[n] = NULL;
}

/* Until PID has written into FD, or died; not for ever where it does neither. */
static void await_start(pid_t pid, struct pollfd *fd)
{
	struct rm_patience patience = { 0 };
	uint64_t ticks = 0;
	int r;

	do {
		r = poll(fd, 1, START_LOOK_MS);
		if (r == 0)
			rm_patience_look(&patience, rm_state_of(pid, pid, &ticks, NULL),
					 START_LOOK_MS * UINT64_C(1000000));
	} while ((r < 0 && errno == EINTR) ||
		 (r == 0 && patience.asleep_ns < START_ASLEEP_NS &&
		  ticks < START_CPU_TICKS));
}

/* The kernel process writes "0" or "-errno sentence", or dies and the pipe ends. */
static int wait_ready(pid_t pid, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char text[256] = "";
	char *rest;
	ssize_t n;
	long r;

	await_start(pid, &p);
	n = (p.revents & POLLIN) ? read(fd, text, sizeof(text) - 1) : -1;
	if (n <= 0) {
		rm_set_reason("the simulated kernel driver did not start");
		return -ENODEV;
	}
	r = strtol(text, &rest, 10);
	if (r != 0)
		rm_set_reason("%s", rest[0] ? rest + 1 : "");
	return r < 0 && r > -4096 ? (int)r : 0;
}

int rm_start(const char *dir, const char *const *arguments)
{
	char path[PATH_MAX], *envp[32];
	const char *argv[48] = { "sim-kernel", "--daemon", "--dir", dir };
	struct spawn s = { .path = path, .envp = envp };
	size_t n = 4;
	int pipe_fds[2], r;

	r = find_kernel(path, sizeof(path));
	if (r != 0)
		return r;
	while (arguments && *arguments && n + 2 < sizeof(argv) / sizeof(argv[0]))
		argv[n++] = *arguments++;
	pick_environment(envp, sizeof(envp) / sizeof(envp[0]));
	if (pipe2(pipe_fds, O_CLOEXEC) != 0)
		return -errno;
	/* execve() takes no const, and changes nothing */
	memcpy(&s.argv, &(const char *const *){ argv }, sizeof(s.argv));
	s.ready_fd = pipe_fds[1];
	r = spawn_kernel(&s);
	close(pipe_fds[1]);
	if (r == 0)
		r = wait_ready(s.pid, pipe_fds[0]);
	close(pipe_fds[0]);
	return r;
}

int rm_lock_start(const char *dir)
{
	int fd, r;

	if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
		rm_set_reason("%.200s: %s", dir, strerror(errno));
		return -ENODEV;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		rm_set_reason("%.200s: %s", dir, strerror(errno));
		return -ENODEV;
	}
	do
		r = flock(fd, LOCK_EX);
	while (r != 0 && errno == EINTR);
	return fd;
}

int rm_connect(const char *dir, bool start, struct wire_reply *hello, int *board_fd)
{
	int fd, lock_fd;

	fd = connect_and_greet(dir, hello, board_fd);
	if (fd != -EAGAIN)
		return fd;
	if (!start) {
		rm_set_reason("no machine runs in %.200s", dir);
		return -ENODEV;
	}
	/* one at a time: whoever waited here finds the machine running */
	lock_fd = rm_lock_start(dir);
	if (lock_fd < 0)
		return lock_fd;
	for (int tries = 0; tries < 5; tries++) {
		fd = connect_and_greet(dir, hello, board_fd);
		if (fd != -EAGAIN)
			break;
		fd = rm_start(dir, NULL);
		if (fd < 0)
			break;
	}
	close(lock_fd);
	if (fd == 0)
		fd = -ENODEV;
	return fd == -EAGAIN ? -ENODEV : fd;
}
