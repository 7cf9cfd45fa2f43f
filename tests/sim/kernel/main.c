/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX   4096
#define BUSY_LOOKS   60
#define LOCK_WAIT_MS 5000
#define FIRST_CLIENT_MS \
	10000 /* a machine that was started waits this long for its first client */

struct sim_kernel sim_kernel = {
	.dir_fd = -1, .lock_fd = -1, .epoll_fd = -1, .listen_fd = -1
};

struct options {
	const char *dir;
	bool is_daemon, only_checks, owns_dir;
	pid_t lifetime_pid;
	const char *settings[32];
};

/* To whoever started us: on stderr, and for a client on its pipe. */
static int report(bool is_daemon, int r, const char *sentence)
{
	if (r != 0)
		fprintf(stderr, "sim-kernel: %s\n", sentence);
	if (is_daemon) {
		dprintf(WIRE_READY, "%d %s", r, r ? sentence : "");
		close(WIRE_READY);
	}
	return r == 0 ? 0 : 1;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int sim_watch_fd(int fd, void *source, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = source };

	return epoll_ctl(sim_kernel.epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0 ? 0 : -errno;
}

static int read_options(struct options *o, int argc, char **argv)
{
	size_t n = 0;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--daemon") == 0) {
			o->is_daemon = true;
		} else if (strcmp(argv[i], "--check") == 0) {
			o->only_checks = true;
		} else if (strcmp(argv[i], "--stay") == 0) {
			sim_kernel.has_lifetime = true;
		} else if (strcmp(argv[i], "--own-dir") == 0) {
			o->owns_dir = true;
		} else if (!value) {
			return -EINVAL;
		} else if (strcmp(argv[i], "--dir") == 0) {
			o->dir = value;
			i++;
		} else if (strcmp(argv[i], "--lifetime-pid") == 0) {
			o->lifetime_pid = (pid_t)strtol(value, NULL, 10);
			i++;
		} else if (strcmp(argv[i], "--set") == 0 && n + 1 < 32) {
			o->settings[n++] = value;
			i++;
		} else {
			return -EINVAL;
		}
	}
	return o->dir && o->dir[0] == '/' ? 0 : -EINVAL;
}

/* A machine is one process: the lock says so. -EALREADY: another one serves. */
static int take_lock(void)
{
	struct timespec t = { 0, 2000000 };

	sim_kernel.lock_fd = openat(sim_kernel.dir_fd, WIRE_LOCK,
				    O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (sim_kernel.lock_fd < 0)
		return -errno;
	/* the one before us may be just ending: it has no socket any more */
	for (int waited_ms = 0; waited_ms < LOCK_WAIT_MS; waited_ms += 2) {
		if (flock(sim_kernel.lock_fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK)
			return -errno;
		if (faccessat(sim_kernel.dir_fd, WIRE_SOCKET, F_OK, 0) == 0)
			return -EALREADY;
		nanosleep(&t, NULL);
	}
	return -EALREADY;
}

/* Bound under another name first: at its place, the socket always answers. */
static int open_socket(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlinkat(sim_kernel.dir_fd, WIRE_SOCKET ".new", 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s.new",
		 sim_kernel.dir_fd, WIRE_SOCKET);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(fd, 4096) != 0 ||
	    fchmodat(sim_kernel.dir_fd, WIRE_SOCKET ".new", 0666, 0) != 0 ||
	    renameat(sim_kernel.dir_fd, WIRE_SOCKET ".new", sim_kernel.dir_fd,
		     WIRE_SOCKET) != 0)
		return -errno;
	sim_kernel.listen_fd = fd;
	return 0;
}

static int watch_lifetime(pid_t pid)
{
	static struct sim_source source = { SOURCE_LIFETIME };
	int fd;

	if (pid <= 0)
		return 0;
	sim_kernel.has_lifetime = true;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return -errno;
	/* once: a process that has ended stays readable */
	return sim_watch_fd(fd, &source, EPOLLIN | EPOLLONESHOT);
}

static int open_machine(const struct options *o, char *why, size_t n)
{
	static struct sim_source listening = { SOURCE_LISTEN }, notify = { SOURCE_NOTIFY };
	int r;

	why[0] = '\0';
	r = take_lock();
	if (r != 0)
		return r;
	sim_kernel.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (sim_kernel.epoll_fd < 0)
		return -errno;
	r = sim_memory_open(&sim_kernel.settings.machine);
	if (r == 0)
		r = sim_board_open(why, n);
	if (r == 0)
		r = watch_lifetime(o->lifetime_pid);
	if (r == 0 && sim_board_notify_fd() >= 0)
		r = sim_watch_fd(sim_board_notify_fd(), &notify, EPOLLIN);
	if (r == 0)
		r = open_socket();
	if (r == 0)
		r = sim_watch_fd(sim_kernel.listen_fd, &listening, EPOLLIN);
	return r;
}

/*
 * Deaths, closed descriptors and edited files first, requests second: what happened before
 * a request was sent is in the books when it is answered. (The kernel proper queues a
 * hang-up before the parent of the dead can know of it.)
 */
static void see_end(const struct epoll_event *e)
{
	struct sim_source *source = e->data.ptr;

	switch ((enum source_kind)source->source) {
	case SOURCE_CLIENT:
		if (e->events & (EPOLLHUP | EPOLLERR))
			sim_client_drop(e->data.ptr);
		break;
	case SOURCE_WATCH:
		sim_watch_ended(e->data.ptr);
		break;
	case SOURCE_EXPORT:
		sim_export_hung_up(e->data.ptr);
		break;
	case SOURCE_NOTIFY:
		sim_board_notified(sim_board_notify_fd());
		break;
	case SOURCE_LIFETIME:
		sim_kernel.is_outlived = true;
		sim_kernel.has_lifetime = false;
		break;
	case SOURCE_LISTEN:
		break;
	}
}

static void run_batch(struct epoll_event *events, int n)
{
	uint32_t clients = sim_clients_count();

	/* an export's entry is freed as it is seen, so nothing may look at it twice */
	for (int i = 0; i < n; i++) {
		int kind = ((struct sim_source *)events[i].data.ptr)->source;

		see_end(&events[i]);
		if (kind != SOURCE_CLIENT && kind != SOURCE_LISTEN)
			events[i].data.ptr = NULL;
	}
	sim_memory_punch();
	/* What lay in the messages of the dead was closed with them: those ends are in the next
	 * batch, and so is, once more, whatever was asked in this one. */
	if (sim_clients_count() < clients && sim_export_count() > 0) {
		sim_clients_bury();
		return;
	}
	for (int i = 0; i < n; i++) {
		struct sim_source *source = events[i].data.ptr;

		if (!source)
			continue;
		if (source->source == SOURCE_LISTEN)
			sim_clients_accept(sim_kernel.listen_fd);
		else if (!((struct sim_client *)events[i].data.ptr)->is_gone)
			sim_serve(events[i].data.ptr);
	}
	sim_clients_bury();
}

/* Milliseconds until the machine ends if nothing happens; -1: never. */
static int time_left_ms(void)
{
	uint64_t now = now_ms(), end;

	if (sim_clients_count() > 0 || sim_export_count() > 0) {
		sim_kernel.idle_since_ms = 0;
		return -1;
	}
	if (sim_kernel.is_outlived || sim_kernel.is_unfindable)
		return 0;
	if (sim_kernel.has_lifetime)
		return -1;
	if (sim_kernel.idle_since_ms == 0)
		sim_kernel.idle_since_ms = now;
	end = sim_kernel.idle_since_ms + sim_kernel.settings.linger_ms;
	return end > now ? (int)(end - now) : 0;
}

/* As in the client: after a request the next one is likely near, and waking up is dear. Not on a
 * virtual clock, where this thread and all who may ask share a processor. */
static int wait_for_events(struct epoll_event *events, int left_ms, bool was_busy)
{
	sigset_t none; /* the signals that stop us come in only while we wait */
	int n;

	was_busy &= !sim_kernel.settings.machine.is_virtual;
	for (int looks = 0; was_busy && looks < BUSY_LOOKS; looks++) {
		n = epoll_wait(sim_kernel.epoll_fd, events, EVENTS_MAX, 0);
		if (n != 0)
			return n;
		sched_yield();
	}
	sigemptyset(&none);
	return epoll_pwait(sim_kernel.epoll_fd, events, EVENTS_MAX, left_ms, &none);
}

static void serve_until_end(void)
{
	static struct epoll_event events[EVENTS_MAX];
	int n = 0;

	while (!sim_kernel.is_stopping) {
		int left_ms = time_left_ms();

		n = wait_for_events(events, left_ms, n > 0);
		if (n > 0)
			run_batch(events, n);
		else if (n == 0 && left_ms >= 0 && time_left_ms() == 0)
			break;
	}
	/* who is in the backlog now sees its connection end and starts the next machine */
	if (!sim_kernel.is_unfindable)
		unlinkat(sim_kernel.dir_fd, WIRE_SOCKET, 0);
}

/* The directory was made for this machine alone: it goes with it, and what may be in it. */
static void remove_directory(const char *dir)
{
	static const char *const names[] = { WIRE_SOCKET,      WIRE_LOCK,
					     WIRE_FAULTS,      WIRE_FAULTS_ERROR,
					     WIRE_CLOCK_ERROR, "settings",
					     "libcuda.so.1" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		unlinkat(sim_kernel.dir_fd, names[i], 0);
	rmdir(dir);
}

static const char *own_dir; /* that goes with the machine; or NULL */

void sim_kernel_end(void)
{
	if (!sim_kernel.is_unfindable)
		unlinkat(sim_kernel.dir_fd, WIRE_SOCKET, 0);
	if (own_dir)
		remove_directory(own_dir);
	_exit(1);
}

static void stop_on_signal(int number)
{
	(void)number;
	sim_kernel.is_stopping = true;
}

static void settle_process(void)
{
	struct sigaction stop = { .sa_handler = stop_on_signal };
	struct rlimit limit;
	sigset_t stopping;

	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	sigemptyset(&stopping);
	sigaddset(&stopping, SIGTERM);
	sigaddset(&stopping, SIGINT);
	sigprocmask(SIG_SETMASK, &stopping, NULL);
	umask(0);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_FSIZE, &limit);
	}
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	char why[256];
	int r;

	if (read_options(&o, argc, argv) != 0)
		return report(false, -EINVAL,
			      "usage: sim-kernel --dir /DIR [--check] [--daemon] "
			      "[--lifetime-pid PID | --stay] [--own-dir] "
			      "[--set key=value]...");
	settle_process();
	own_dir = o.owns_dir ? o.dir : NULL;
	sim_kernel.dir_fd = open(o.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (sim_kernel.dir_fd < 0) {
		snprintf(why, sizeof(why), "%.180s: %s", o.dir, strerror(errno));
		return report(o.is_daemon, -ENODEV, why);
	}
	r = sim_settings_read(&sim_kernel.settings, o.dir, sim_kernel.dir_fd, o.settings);
	if (r != 0 || o.only_checks)
		return report(o.is_daemon, r, sim_kernel.settings.why);
	r = open_machine(&o, why, sizeof(why));
	if (r == -EALREADY)
		return report(o.is_daemon, o.is_daemon ? 0 : -EALREADY,
			      "another one serves here");
	if (r != 0) {
		if (!why[0])
			snprintf(why, sizeof(why), "%.180s: %s", o.dir, strerror(-r));
		return report(o.is_daemon, r == -EINVAL ? r : -ENODEV, why);
	}
	sim_kernel.idle_since_ms = now_ms() + FIRST_CLIENT_MS;
	report(o.is_daemon, 0, "");
	serve_until_end();
	if (own_dir)
		remove_directory(own_dir);
	return 0;
}
