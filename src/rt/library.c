/* SPDX-License-Identifier: Apache-2.0 */
#include "rt/library.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rt/cleanup.h"
#include "rt/file.h"

#define LIBRARY_MAX (16 << 20)

static int map_library(const char *path, struct tr_mapping *out, struct tr_err *err)
{
	tr_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int64_t size = fd < 0 ? -errno : tr_file_size(fd);
	void *map;

	if (size < 0)
		return tr_fail(err, (int)-size, "read %s: %s", path, strerror((int)-size));
	if (size == 0 || size > LIBRARY_MAX)
		return tr_fail(err, EBADMSG, "%s has %lld bytes: not the library", path,
			       (long long)size);
	map = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return tr_fail_errno(err, "read %s", path);
	*out = (struct tr_mapping){ map, (size_t)size };
	return 0;
}

/* Two builds of one version are two files. */
static uint32_t hash_of(const struct tr_mapping *m)
{
	const unsigned char *bytes = m->addr;
	uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */

	for (size_t i = 0; i < m->bytes; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3u;
	return (uint32_t)(hash ^ hash >> 32);
}

/* PATH is that library, whole and for everybody to read. */
static bool is_there(const char *path, const struct tr_mapping *want)
{
	struct tr_mapping have tr_cleanup(tr_unmap_at) = { 0 };
	struct stat st;

	return lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
	       (st.st_mode & 07777) == 0755 && map_library(path, &have, NULL) == 0 &&
	       have.addr && have.bytes == want->bytes &&
	       memcmp(have.addr, want->addr, have.bytes) == 0;
}

static int move_link(const char *dir, const char *name, struct tr_err *err)
{
	char link[PATH_MAX], fresh[PATH_MAX + 64], now[TR_LIBRARY_NAME + 1];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "%s/libvgpu.so", dir);
	n = readlink(link, now, sizeof(now) - 1);
	if (n == (ssize_t)strlen(name) && memcmp(now, name, (size_t)n) == 0)
		return 0;
	(void)snprintf(fresh, sizeof(fresh), "%s.%d.%llx.new", link, (int)getpid(),
		       (unsigned long long)tr_clock_ns());
	if (symlink(name, fresh) < 0 || rename(fresh, link) < 0) {
		int r = tr_fail_errno(err, "link %s to %s", link, name);

		(void)unlink(fresh);
		return r;
	}
	return 0;
}

static int put(const char *path, const char *source, const struct tr_mapping *library,
	       tr_library_check *check, struct tr_err *err)
{
	char fresh[PATH_MAX + 64];
	int r;

	if (is_there(path, library))
		return check ? check(path, source, err) : 0;
	(void)snprintf(fresh, sizeof(fresh), "%s.%d.%llx.new", path, (int)getpid(),
		       (unsigned long long)tr_clock_ns());
	/* 0755: programs of any user map it. */
	r = tr_file_replace(fresh, library->addr, library->bytes, 0755, NULL);
	if (r < 0) /* in words that are the same each time */
		return tr_fail(err, -r, "write %s: %s", path, strerror(-r));
	if (check)
		r = check(fresh, source, err);
	if (r == 0 && rename(fresh, path) < 0)
		r = tr_fail_errno(err, "write %s", path);
	if (r < 0)
		(void)unlink(fresh);
	return r;
}

int tr_library_place(const char *dir, const char *source, tr_library_check *check,
		     char name[static TR_LIBRARY_NAME], struct tr_err *err)
{
	struct tr_mapping library tr_cleanup(tr_unmap_at) = { 0 };
	char path[PATH_MAX];
	int r = map_library(source, &library, err);

	if (r < 0)
		return r;
	if (strlen(dir) > sizeof(path) - 2 * sizeof(char[TR_LIBRARY_NAME]))
		return tr_fail(err, EINVAL, "%.200s...: the name is too long", dir);
	r = tr_folder_make(dir, err);
	if (r < 0)
		return r;
	(void)snprintf(name, TR_LIBRARY_NAME, "libvgpu.so.%s-%08x", TR_VERSION,
		       hash_of(&library));
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	r = put(path, source, &library, check, err);
	return r < 0 ? r : move_link(dir, name, err);
}
