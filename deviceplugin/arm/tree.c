/* SPDX-License-Identifier: Apache-2.0 */
/* Removing a directory that a tenant could fill: by descriptors, so that no link leads elsewhere, and
 * bounded in depth and number, so that the agent goes on. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "deviceplugin/arm/slices.h"
#include "rt/cleanup.h"

#define ENTRIES_MAX 20000u
#define DEPTH_MAX   16u
#define ROUNDS_MAX  1000u

struct removal {
	int top;          /* what is too deep is moved here, for the next round */
	unsigned left;    /* entries that may still be removed */
	unsigned shallow; /* moved so far */
};

static int remove_at(struct removal *removal, int dir, const char *name, unsigned depth);

static int empty_dir(struct removal *removal, int fd, unsigned depth)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	DIR *entries = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;
	int r = entries ? 0 : -errno;

	if (!entries && copy >= 0)
		(void)close(copy);
	while (r == 0 && entries && (entry = readdir(entries)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = remove_at(removal, fd, entry->d_name, depth + 1);
	if (entries)
		(void)closedir(entries);
	return r;
}

static int move_up(struct removal *removal, int dir, const char *name)
{
	char other[40];

	(void)snprintf(other, sizeof(other), ".deep-%u", removal->shallow++);
	return renameat(dir, name, removal->top, other) < 0 ? -errno : 0;
}

static int remove_at(struct removal *removal, int dir, const char *name, unsigned depth)
{
	int fd, r;

	if (!removal->left)
		return -EAGAIN;
	removal->left--;
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (depth > DEPTH_MAX)
		return move_up(removal, dir, name);
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (removal->top < 0)
		removal->top = fd;
	r = empty_dir(removal, fd, depth);
	if (removal->top == fd)
		removal->top = -1;
	(void)close(fd);
	if (r == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

int tr_tree_remove(const char *root, const char *name)
{
	struct removal removal = { .top = -1, .left = ENTRIES_MAX };
	tr_autoclose int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	int r = fd < 0 ? -errno : remove_at(&removal, fd, name, 0);

	for (unsigned rounds = 0; r == -ENOTEMPTY && rounds < ROUNDS_MAX; rounds++)
		r = remove_at(&removal, fd, name, 0);
	return r == -ENOTEMPTY ? -EAGAIN : r;
}
