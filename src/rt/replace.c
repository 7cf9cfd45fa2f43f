/* SPDX-License-Identifier: Apache-2.0 */
/* Apart from file.c for the sake of the hook, which has no room on strangers' stacks. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rt/cleanup.h"
#include "rt/file.h"

static int write_all(int fd, const char *bytes, size_t n, unsigned mode)
{
	while (n > 0) {
		ssize_t done = write(fd, bytes, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		bytes += done;
		n -= (size_t)done;
	}
	return fchmod(fd, (mode_t)mode) < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* The name itself on the disk. Some file systems cannot, and have nothing to lose. */
static void sync_folder(char *path)
{
	char *slash = strrchr(path, '/');
	tr_autoclose int fd = -1;

	if (!slash)
		return;
	slash[slash == path] = '\0';
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		(void)fsync(fd);
}

int tr_file_replace(const char *path, const void *bytes, size_t n, unsigned mode,
		    struct tr_err *err)
{
	char name[PATH_MAX];
	tr_autoclose int fd = -1;
	int r;

	if (snprintf(name, sizeof(name), "%s.XXXXXX.new", path) >= (int)sizeof(name))
		return tr_fail(err, ENAMETOOLONG, "create %.200s...: the name is too long",
			       path);
	fd = mkostemps(name, 4, O_CLOEXEC);
	if (fd < 0)
		return tr_fail_errno(err, "create %s", path);
	r = write_all(fd, bytes, n, mode);
	if (r == 0 && rename(name, path) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlink(name);
		return tr_fail(err, -r, "write %s: %s", path, strerror(-r));
	}
	sync_folder(name);
	return 0;
}

int tr_folder_make(const char *path, struct tr_err *err)
{
	char at[PATH_MAX];

	if (path[0] != '/' || snprintf(at, sizeof(at), "%s/", path) >= (int)sizeof(at))
		return tr_fail(err, EINVAL, "\"%s\" is no absolute path", path);
	for (char *slash = strchr(at + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		/* Looked at first: on a read-only file system even what is there cannot be made. */
		if (access(at, F_OK) < 0 && mkdir(at, 0755) < 0 && errno != EEXIST)
			return tr_fail_errno(err, "make the folder %s", at);
		*slash = '/';
	}
	return 0;
}
