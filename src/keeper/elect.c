/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keeper/keeper.h"
#include "rt/cleanup.h"
#include "rt/file.h"

#define KEEPER_FILE ".keeper-"

static int by_uuid(const void *a, const void *b)
{
	const struct tr_gpu *left = a, *right = b;

	return strcmp(left->uuid, right->uuid);
}

/* The machine is what its devices are: a simulated one beside a real one is another. */
static uint64_t machine_key(const struct tr_gpus *gpus)
{
	struct tr_gpu sorted[TR_GPUS_MAX];
	uint64_t key = 0;

	memcpy(sorted, gpus->gpus, gpus->count * sizeof(*sorted));
	qsort(sorted, gpus->count, sizeof(*sorted), by_uuid);
	for (unsigned g = 0; g < gpus->count; g++)
		key = (key ^ tr_uuid_key(sorted[g].uuid)) * 0x100000001b3u;
	return key;
}

/* FD is what PATH names: nobody cleared it away meanwhile. */
static bool is_at(int fd, const char *path)
{
	struct stat there, here;

	return lstat(path, &there) == 0 && fstat(fd, &here) == 0 &&
	       there.st_ino == here.st_ino && there.st_dev == here.st_dev;
}

static int lock_file(const char *path, struct tr_err *err)
{
	for (;;) {
		struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
		tr_autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
					   0600);

		if (fd < 0)
			return tr_fail_errno(err, "open %s", path);
		while (fcntl(fd, F_OFD_SETLKW, &lock) < 0)
			if (errno != EINTR)
				return tr_fail_errno(err, "lock %s", path);
		if (is_at(fd, path))
			return tr_take_fd(&fd);
	}
}

int tr_keeper_elect(const struct tr_gpus *gpus, int *fd, struct tr_err *err)
{
	char root[160], path[200];
	int r = tr_slices_root(root, sizeof(root), err);

	if (r < 0)
		return r;
	/* No slice can have this name. */
	(void)snprintf(path, sizeof(path), "%s/" KEEPER_FILE "%016llx", root,
		       (unsigned long long)machine_key(gpus));
	r = lock_file(path, err);
	if (r < 0)
		return r;
	*fd = r;
	return 0;
}

static void clear_file(const char *path)
{
	tr_autoclose int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0 && tr_byte_lock(fd, 0) == 0 && is_at(fd, path))
		(void)unlink(path);
}

void tr_keeper_clear(void)
{
	char root[160], path[512];
	struct dirent *entry;
	DIR *entries = tr_slices_root(root, sizeof(root), NULL) == 0 ? opendir(root) : NULL;

	while (entries && (entry = readdir(entries)))
		if (strncmp(entry->d_name, KEEPER_FILE, strlen(KEEPER_FILE)) == 0) {
			(void)snprintf(path, sizeof(path), "%s/%s", root, entry->d_name);
			clear_file(path);
		}
	if (entries)
		(void)closedir(entries);
}

void tr_keeper_nudge(void)
{
	char root[160];

	if (tr_slices_root(root, sizeof(root), NULL) == 0)
		(void)utimensat(AT_FDCWD, root, NULL, 0);
}
