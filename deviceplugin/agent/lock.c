/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/agent/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rfc3339.h"
#include "rt/cleanup.h"
#include "rt/file.h"

#define WHO_MAX 200

/* What the owner wrote, in one line of printable bytes. */
static void read_who(int fd, char who[static WHO_MAX])
{
	ssize_t n = pread(fd, who, WHO_MAX - 1, 0);

	who[n > 0 ? n : 0] = '\0';
	for (char *at = who; *at; at++)
		if (*at < ' ' || *at > '~')
			*at = '\0';
}

static int write_who(int fd)
{
	char who[WHO_MAX], host[65] = "", since[TR_RFC3339_TEXT];

	(void)gethostname(host, sizeof(host) - 1);
	tr_rfc3339_print(since, (int64_t)time(NULL));
	(void)snprintf(who, sizeof(who), "pid %d of %s, since %s", (int)getpid(), host,
		       since);
	if (ftruncate(fd, 0) < 0 || pwrite(fd, who, strlen(who), 0) < 0)
		return -errno;
	return 0;
}

int tr_agent_lock(const char *dir, const char *name, int *fd, struct tr_err *err)
{
	tr_autofree char *path = tr_xprintf("%s/%s", dir, name);
	tr_autoclose int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	char who[WHO_MAX];
	int r;

	if (lock < 0)
		return tr_fail_errno(err, "%s", path);
	r = tr_byte_lock(lock, 0);
	if (r == -EAGAIN) {
		read_who(lock, who);
		return tr_fail(err, EBUSY, "another agent has %s: %s", dir,
			       *who ? who : "it has not said who it is");
	}
	if (r < 0)
		return tr_fail(err, -r, "%s: %s", path, strerror(-r));
	(void)write_who(lock); /* a full disk: the lock holds all the same */
	*fd = tr_take_fd(&lock);
	return 0;
}

static int make_dirs(char *path, unsigned mode)
{
	for (char *at = path + 1; *at; at++)
		if (*at == '/') {
			*at = '\0';
			if (mkdir(path, 0755) < 0 && errno != EEXIST)
				return -errno;
			*at = '/';
		}
	return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

int tr_agent_dir(const char *dir, unsigned mode, const char *what, struct tr_err *err)
{
	tr_autofree char *copy = tr_xstrdup(dir);
	tr_autofree char *probe = tr_xprintf("%s/.try-%d", dir, (int)getpid());
	int fd, r = make_dirs(copy, mode);

	if (r < 0) {
		errno = -r;
		return tr_fail_errno(err, "%s (%s) cannot be made", dir, what);
	}
	fd = open(probe, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return tr_fail_errno(err, "%s (%s) cannot be written to", dir, what);
	(void)close(fd);
	(void)unlink(probe);
	return 0;
}

int tr_agent_dir_is_memory(const char *dir, struct tr_err *err)
{
	struct statfs fs;

	if (statfs(dir, &fs) < 0)
		return tr_fail_errno(err, "%s", dir);
	if ((unsigned long)fs.f_type == OVERLAYFS_SUPER_MAGIC)
		return tr_fail(err, EINVAL,
			       "%s is on overlayfs, where locks do not outlive the "
			       "descriptor: mount a tmpfs or a directory of the host there",
			       dir);
	return (unsigned long)fs.f_type == TMPFS_MAGIC ||
	       (unsigned long)fs.f_type == RAMFS_MAGIC;
}

bool tr_agent_dir_has_devices(const char *dir)
{
	struct statvfs fs;

	return statvfs(dir, &fs) == 0 && !(fs.f_flag & ST_NODEV);
}
