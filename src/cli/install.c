/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "rt/cleanup.h"
#include "rt/file.h"

#ifndef TR_VERSION
#define TR_VERSION "unknown"
#endif

struct bytes {
	const unsigned char *at;
	size_t n;
};

static int read_library(const char *path, struct bytes *out, struct tr_err *err)
{
	tr_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	int64_t size = fd < 0 ? -errno : tr_file_size(fd);
	void *map;

	if (size <= 0)
		return tr_fail(err, size < 0 ? (int)-size : EBADMSG, "read %s: %s", path,
			       strerror(size < 0 ? (int)-size : EBADMSG));
	map = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return tr_fail_errno(err, "read %s", path);
	*out = (struct bytes){ map, (size_t)size };
	return 0;
}

/* Two builds of one version are two files: a name never changes its content. */
static uint32_t hash_of(const struct bytes *b)
{
	uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */

	for (size_t i = 0; i < b->n; i++)
		hash = (hash ^ b->at[i]) * 0x100000001b3u;
	return (uint32_t)(hash ^ hash >> 32);
}

static int make_parents(const char *path, struct tr_err *err)
{
	char at[PATH_MAX];

	(void)snprintf(at, sizeof(at), "%s/", path);
	for (char *slash = strchr(at + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(at, 0755) < 0 && errno != EEXIST)
			return tr_fail_errno(err, "make %s", at);
		*slash = '/';
	}
	return 0;
}

static int write_new(const char *path, const struct bytes *b, struct tr_err *err)
{
	tr_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	size_t done = 0;

	if (fd < 0)
		return tr_fail_errno(err, "write %s", path);
	while (done < b->n) {
		ssize_t n = write(fd, b->at + done, b->n - done);

		if (n < 0)
			return tr_fail_errno(err, "write %s", path);
		done += (size_t)n;
	}
	if (fchmod(fd, 0755) < 0 || fsync(fd) < 0)
		return tr_fail_errno(err, "write %s", path);
	return 0;
}

/* The file under a temporary name, then renamed: a program that has the old one mapped
 * keeps it. */
static int install_file(const char *dir, const char *name, const struct bytes *b,
			struct tr_err *err)
{
	char path[PATH_MAX + 256], fresh[PATH_MAX + 300];
	int r;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	(void)snprintf(fresh, sizeof(fresh), "%s.%d.new", path, (int)getpid());
	r = write_new(fresh, b, err);
	if (r == 0 && rename(fresh, path) < 0)
		r = tr_fail_errno(err, "rename %s to %s", fresh, path);
	if (r < 0)
		(void)unlink(fresh);
	return r;
}

static int move_link(const char *dir, const char *name, struct tr_err *err)
{
	char link[PATH_MAX], fresh[PATH_MAX + 32];

	(void)snprintf(link, sizeof(link), "%s/libvgpu.so", dir);
	(void)snprintf(fresh, sizeof(fresh), "%s.%d.new", link, (int)getpid());
	if (symlink(name, fresh) < 0 || rename(fresh, link) < 0) {
		(void)tr_fail_errno(err, "link %s to %s", link, name);
		(void)unlink(fresh);
		return -EIO;
	}
	return 0;
}

int tr_cli_install(int argc, char **argv)
{
	const char *prefix = "/usr/local";
	struct tr_option options[] = { { "prefix", &prefix, NULL } };
	char library[PATH_MAX], dir[PATH_MAX / 2], name[64];
	struct bytes bytes = { 0 };
	struct tr_args args;
	struct tr_err err = { 0 };
	int r = tr_args_parse(&args, argc, argv, options, TR_COUNT(options), true, &err);

	if (r == 0 && args.rest_count)
		r = tr_fail(&err, EINVAL, "install takes no \"%s\"", args.rest[0]);
	if (r == 0 && (prefix[0] != '/' || strlen(prefix) > sizeof(dir) - 32))
		r = tr_fail(&err, EINVAL, "--prefix \"%s\": an absolute path", prefix);
	if (r < 0)
		return tr_cli_usage(&err, r);
	(void)snprintf(dir, sizeof(dir), "%s/lib/tranche",
		       strcmp(prefix, "/") == 0 ? "" : prefix);
	r = tr_find_part("libvgpu.so", library, sizeof(library), &err);
	if (r == 0)
		r = read_library(library, &bytes, &err);
	if (r == 0)
		r = make_parents(dir, &err);
	if (r < 0)
		return tr_cli_fail(&err, 1);
	(void)snprintf(name, sizeof(name), "libvgpu.so.%s-%08x", TR_VERSION,
		       hash_of(&bytes));
	r = install_file(dir, name, &bytes, &err);
	if (r == 0)
		r = move_link(dir, name, &err);
	if (r < 0)
		return tr_cli_fail(&err, 1);
	(void)printf("%s/libvgpu.so -> %s\n", dir, name);
	return 0;
}
