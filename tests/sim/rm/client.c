/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/client.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rm/fault.h"
#include "rm/inspect.h"
#include "rm/timeclient.h"

#define REPLY_LOOKS 40

static struct {
	_Atomic pid_t pid; /* the process that is connected; 0: none */
	int fd;
	uint64_t cookie; /* of fd, to notice that the program closed it and reused its
			    number */
	bool lost;
	struct rm_machine machine;
	int backing_fds[RM_DEVICES_MAX + 1];
	uint64_t backing_inodes[RM_DEVICES_MAX + 1];
} conn = { .fd = -1 };

static char reason[256];

void rm_set_reason(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
}

const char *rm_reason(void)
{
	return reason;
}

/*
 * Asked several times in every call of the driver, where a system call would be most of the
 * time: a page that the kernel empties in a forked child keeps the answer.
 */
pid_t rm_own_pid(void)
{
	static _Atomic(_Atomic pid_t *) page;
	_Atomic pid_t *kept = atomic_load_explicit(&page, memory_order_acquire),
		      *none = NULL;
	pid_t pid;

	if (kept == NULL) {
		void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			return getpid();
		if (madvise(p, 4096, MADV_WIPEONFORK) != 0 ||
		    !atomic_compare_exchange_strong(&page, &none, (_Atomic pid_t *)p)) {
			munmap(p, 4096);
			return getpid();
		}
		kept = p;
	}
	pid = atomic_load_explicit(kept, memory_order_relaxed);
	if (pid == 0) {
		pid = getpid();
		atomic_store_explicit(kept, pid, memory_order_relaxed);
	}
	return pid;
}

/*
 * The lock's word is 0, or the holder's pid and a bit for waiters: a child that was forked
 * while another thread held it sees a foreign pid and takes it over, where a mutex would be
 * held for ever.
 */
static _Atomic uint32_t lock_word;

static void wait_on(uint32_t word)
{
	syscall(SYS_futex, &lock_word, FUTEX_WAIT_PRIVATE, word, NULL, NULL, 0);
}

void rm_lock(void)
{
	uint32_t mine = (uint32_t)rm_own_pid() << 1, word = 0;

	if (atomic_compare_exchange_strong(&lock_word, &word, mine))
		return;
	for (;;) {
		word = atomic_load(&lock_word);
		if (word >> 1 != mine >> 1) {
			if (atomic_compare_exchange_strong(&lock_word, &word, mine | 1))
				return;
			continue;
		}
		if (!(word & 1) &&
		    !atomic_compare_exchange_strong(&lock_word, &word, word | 1))
			continue;
		wait_on(mine | 1);
	}
}

void rm_unlock(void)
{
	if (atomic_exchange(&lock_word, 0) & 1)
		syscall(SYS_futex, &lock_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

bool rm_is_mine(void)
{
	return atomic_load_explicit(&conn.pid, memory_order_acquire) == rm_own_pid();
}

int rm_check_mine(void)
{
	pid_t pid = atomic_load_explicit(&conn.pid, memory_order_acquire);

	if (pid == 0)
		return -ENODEV;
	return pid == rm_own_pid() ? 0 : -ECHILD;
}

uint64_t rm_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n) != 0)
		return 0;
	return cookie;
}

int rm_move_high(int fd)
{
	struct rlimit limit;
	int low = 3, high;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		low = limit.rlim_cur > 1024 ? 960 : (int)limit.rlim_cur - 64;
	high = fcntl(fd, F_DUPFD_CLOEXEC, low > 3 ? low : 3);
	if (high < 0)
		return fd;
	close(fd);
	return high;
}

/* Descriptors of a parent's connection, or of one that is lost: ours only if they still are
 * what they were, the program may have closed them and reused the numbers. */
static void forget_connection(void)
{
	if (conn.fd >= 0 && rm_cookie(conn.fd) == conn.cookie)
		close(conn.fd);
	conn.fd = -1;
	for (uint32_t i = 0; i <= RM_DEVICES_MAX; i++)
		conn.backing_inodes[i] = 0;
	rm_objects_reset();
}

/* A forked child drops its copy at once; the parent's death is then seen as a hang-up. (A
 * child that was cloned past this handler is covered by the kernel process watching the
 * parent's pid.) */
static void drop_in_child(void)
{
	if (conn.fd >= 0 && rm_cookie(conn.fd) == conn.cookie)
		close(conn.fd);
	conn.fd = -1;
}

static int open_locked(void)
{
	static bool registered;
	static struct wire_reply
		hello; /* under the lock; too large for a stranger's stack */
	char dir[sizeof(conn.machine.dir)];
	int fd, r, board_fd = -1;
	void *board;

	r = rm_faults_check_environment();
	if (r != 0)
		return r;
	r = rm_directory(dir, sizeof(dir));
	if (r != 0)
		return r;
	forget_connection();
	fd = rm_connect(dir, true, &hello, &board_fd);
	if (fd < 0)
		return fd;
	board = mmap(NULL, WIRE_BOARD_BYTES, PROT_READ, MAP_SHARED, board_fd, 0);
	close(board_fd);
	if (board == MAP_FAILED) {
		close(fd);
		return -ENOMEM;
	}
	rm_faults_board(board);
	rm_state_board(board);
	if (!registered && pthread_atfork(NULL, NULL, drop_in_child) == 0)
		registered = true;
	conn.machine = hello.machine;
	snprintf(conn.machine.dir, sizeof(conn.machine.dir), "%s", dir);
	conn.fd = rm_move_high(fd);
	conn.cookie = rm_cookie(conn.fd);
	conn.lost = false;
	atomic_store_explicit(&conn.pid, rm_own_pid(), memory_order_release);
	return 0;
}

int rm_open(void)
{
	int r = 0;

	if (rm_is_mine())
		return 0;
	rm_lock();
	if (!rm_is_mine())
		r = open_locked();
	rm_unlock();
	return r;
}

bool rm_is_open(void)
{
	return rm_is_mine();
}

const struct rm_machine *rm_machine(void)
{
	return rm_is_mine() ? &conn.machine : NULL;
}

/* System calls as such: with a virtual clock libc's are somebody else's. */
static long poll_now(struct pollfd *p)
{
	struct timespec now = { 0, 0 };

	return syscall(SYS_ppoll, p, 1, &now, NULL, (size_t)0);
}

bool rm_is_lost(void)
{
	struct pollfd p = { .fd = conn.fd };

	if (!rm_is_mine() || conn.lost || rm_cookie(conn.fd) != conn.cookie)
		return true;
	return poll_now(&p) > 0 && (p.revents & (POLLHUP | POLLERR));
}

/*
 * The answer comes within microseconds; to sleep and be woken, on a virtual machine with
 * idle processors, costs ten times that. So look for it a little, and let others run
 * meanwhile. On a virtual clock both share a processor, and to sleep is how the other one runs.
 */
static int await_reply(struct wire_reply *reply, int *fd_out)
{
	struct pollfd p = { .fd = conn.fd, .events = POLLIN };

	for (int looks = 0; !conn.machine.is_virtual && looks < REPLY_LOOKS; looks++) {
		if (poll_now(&p) > 0)
			break;
		syscall(SYS_sched_yield);
	}
	return rm_receive(conn.fd, reply, sizeof(*reply), fd_out);
}

static int call_locked(struct wire_request *req, size_t n, int fd_in,
		       struct wire_reply *reply, int *fd_out)
{
	int r;

	if (conn.lost || rm_cookie(conn.fd) != conn.cookie) {
		conn.lost = true;
		return -EIO;
	}
	r = rm_send(conn.fd, req, n, fd_in);
	if (r == 0)
		r = await_reply(reply, fd_out);
	if (r < (int)WIRE_HEAD) {
		conn.lost = r != -EBADF || fd_in < 0;
		return conn.lost ? -EIO : -EBADF;
	}
	return reply->r;
}

int rm_call(struct wire_request *req, size_t n, int fd_in, struct wire_reply *reply,
	    int *fd_out)
{
	struct wire_time *region;
	int r;

	if (fd_out)
		*fd_out = -1;
	r = rm_check_mine();
	if (r != 0)
		return r;
	region = rm_timeline_check() == 0 ? rm_timeline.region : NULL;
	/* the virtual clock must not think that this thread sleeps for something else */
	if (region)
		atomic_fetch_add(&region->calls, 1);
	rm_lock();
	r = call_locked(req, n, fd_in, reply, fd_out);
	rm_unlock();
	if (region)
		atomic_fetch_sub(&region->calls, 1);
	return r;
}

static uint64_t inode_of(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO, &st) != 0)
		return 0;
	return st.stx_ino;
}

int rm_backing(uint32_t device)
{
	struct wire_request req = { .op = WIRE_BACKING, .device = device };
	uint32_t i = device == RM_HOST ? RM_DEVICES_MAX : device;
	struct wire_reply reply;
	int r, fd;

	if (i > RM_DEVICES_MAX)
		return -EINVAL;
	r = rm_check_mine();
	if (r != 0)
		return r;
	rm_lock();
	if (conn.backing_inodes[i] != 0 &&
	    inode_of(conn.backing_fds[i]) == conn.backing_inodes[i]) {
		r = conn.backing_fds[i];
	} else {
		r = call_locked(&req, sizeof(req), -1, &reply, &fd);
		if (r == 0 && fd < 0)
			r = -EMFILE;
		if (r == 0) {
			r = conn.backing_fds[i] = rm_move_high(fd);
			conn.backing_inodes[i] = inode_of(r);
		}
	}
	rm_unlock();
	return r;
}
