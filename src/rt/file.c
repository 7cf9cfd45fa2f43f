/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "rt/cleanup.h"

bool tr_read_at(int fd, void *out, size_t bytes, off_t offset)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pread(fd, (char *)out + done, bytes - done,
				  offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

int64_t tr_file_size(int fd)
{
	struct stat st;

	/* By number: fstat() is a symbol of glibc 2.33 when built on a newer one. */
	if (syscall(SYS_fstat, fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? st.st_size : -EBADMSG;
}

int tr_file_map(const char *path, size_t bytes, bool writable, void **addr, int *fd_out,
		struct tr_err *err)
{
	/* O_NONBLOCK: a fifo of that name must not stop us. */
	tr_autoclose int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC |
						 O_NOFOLLOW | O_NONBLOCK);
	int64_t size;
	void *map;

	if (fd < 0)
		return tr_fail_errno(err, "open %s", path);
	size = tr_file_size(fd);
	if (size < 0)
		return tr_fail(err, (int)-size, "%s is not a regular file", path);
	if ((uint64_t)size < bytes)
		return tr_fail(err, EBADMSG, "%s is too short: %lld bytes of %zu", path,
			       (long long)size, bytes);
	map = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
		   fd, 0);
	if (map == MAP_FAILED)
		return tr_fail_errno(err, "map %s", path);
	*addr = map;
	if (fd_out)
		*fd_out = tr_take_fd(&fd);
	return 0;
}

/* A name beside PATH that no other process or thread uses. */
static int open_beside(char *name, size_t room, const char *path, unsigned mode)
{
	for (unsigned n = 0; n < 100; n++) {
		int fd;

		if (snprintf(name, room, "%s.%ld.%llx.new", path, syscall(SYS_gettid),
			     (unsigned long long)tr_clock_ns()) >= (int)room)
			return -ENAMETOOLONG;
		fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
		if (fd >= 0 || errno != EEXIST)
			return fd >= 0 ? fd : -errno;
	}
	return -EEXIST;
}

static int fill_file(int fd, size_t bytes, unsigned mode, void (*fill)(void *, void *),
		     void *arg)
{
	void *map;

	/* The creator's umask does not decide who may join a slice; MODE does. */
	if (fchmod(fd, (mode_t)mode) < 0)
		return -errno;
	/* Allocated, not sparse: on a full disk the failure is here, not a SIGBUS later. */
	while (fallocate(fd, 0, 0, (off_t)bytes) < 0)
		if (errno != EINTR)
			return -errno;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	fill(map, arg);
	(void)munmap(map, bytes);
	return 0;
}

int tr_file_create(const char *path, size_t bytes, unsigned mode,
		   void (*fill)(void *addr, void *arg), void *arg, struct tr_err *err)
{
	char name[512];
	tr_autoclose int fd = open_beside(name, sizeof(name), path, mode);
	int r;

	if (fd < 0)
		return tr_fail(err, -fd, "create %s: %s", path, strerror(-fd));
	r = fill_file(fd, bytes, mode, fill, arg);
	/* link(), unlike rename(), never replaces what is there. */
	if (r == 0 && link(name, path) < 0)
		r = -errno;
	(void)unlink(name);
	if (r < 0)
		return tr_fail(err, -r, "create %s: %s", path, strerror(-r));
	return 0;
}

static int lock_byte(int fd, int command, short type, off_t byte, struct flock *lock)
{
	*lock = (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1
	};
	return fcntl(fd, command, lock) < 0 ? -errno : 0;
}

int tr_byte_lock(int fd, off_t byte)
{
	struct flock lock;
	int r = lock_byte(fd, F_OFD_SETLK, F_WRLCK, byte, &lock);

	return r == -EACCES ? -EAGAIN : r;
}

int tr_byte_unlock(int fd, off_t byte)
{
	struct flock lock;

	return lock_byte(fd, F_OFD_SETLK, F_UNLCK, byte, &lock);
}

int tr_byte_is_locked(int fd, off_t byte)
{
	struct flock lock;
	int r = lock_byte(fd, F_OFD_GETLK, F_WRLCK, byte, &lock);

	return r < 0 ? r : lock.l_type != F_UNLCK;
}

uint64_t tr_clock_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void tr_sleep_ns(uint64_t ns)
{
	struct timespec span = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
	int state;

	/* In the hook this is no place to cancel a thread: its frames cannot be unwound, and the
	 * driver's call is not known to be one. */
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	(void)nanosleep(&span, NULL);
	(void)pthread_setcancelstate(state, NULL);
}
