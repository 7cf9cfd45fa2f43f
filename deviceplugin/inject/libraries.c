/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/inject/libraries.h"

#include <ctype.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/slurp.h"
#include "deviceplugin/inject/image.h"
#include "deviceplugin/inject/ldcache.h"
#include "deviceplugin/inject/root.h"
#include "rt/cleanup.h"
#include "rt/file.h"

#define FIRST     "libcuda.so.1"
#define CACHE_MAX (16u << 20)

/* Where there is no cache, or it does not know: distributions, driver containers, node images without a
 * package manager. */
static const char *const folders[] = {
	"/usr/lib64", "/usr/lib/" TR_MULTIARCH, "/usr/lib/" TR_MULTIARCH "/nvidia/current",
	"/lib64",     "/lib/" TR_MULTIARCH,     "/usr/lib",
	"/lib",       "/usr/local/lib",         "/usr/local/glibc/usr/lib",
};

/* Drawing on a screen and what belongs to it: no slice has a say there, so no container gets it. */
static const char *const drawing[] = {
	"libnvidia-egl*",     "libnvidia-gl*",   "libnvidia-rtcore*",  "libnvidia-tls*",
	"libnvidia-fbc*",     "libnvidia-gtk*",  "libnvidia-wayland*", "libnvidia-ngx*",
	"libnvidia-present*", "libnvidia-vksc*", "libnvidia-ifr*",     "libnvidia-api*",
	"libnvoptix*",
};

/* ---- what the kernel module says ---- */

ssize_t tr_proc_read(const char *path, char *out, size_t room)
{
	tr_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t have = 0;

	if (fd < 0)
		return -errno;
	while (have < room) {
		ssize_t n = read(fd, out + have, room - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	if (have == room)
		return -EFBIG;
	out[have] = '\0';
	return (ssize_t)have;
}

/* "580.95.05", "535.104": numbers with one or two dots between. */
static bool is_version(const char *text, size_t n)
{
	unsigned dots = 0;

	if (n == 0 || n >= TR_DRIVER_VERSION || !isdigit((unsigned char)text[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++) {
		bool is_dot = text[i] == '.' && i > 0 && text[i - 1] != '.';

		if (!is_dot && !isdigit((unsigned char)text[i]))
			return false;
		dots += is_dot;
	}
	return dots == 1 || dots == 2;
}

int tr_driver_version_parse(const char *text, char version[static TR_DRIVER_VERSION])
{
	static const char head[] = "NVRM version:";
	size_t line = strcspn(text, "\n");
	const char *end = text + line;

	if (line < sizeof(head) || memcmp(text, head, sizeof(head) - 1) != 0)
		return -EBADMSG;
	for (text += sizeof(head) - 1; text < end;) {
		size_t n;

		text += strspn(text, " \t");
		n = strcspn(text, " \t\n");
		if (is_version(text, n)) {
			memcpy(version, text, n);
			version[n] = '\0';
			return 0;
		}
		text += n;
	}
	return -EBADMSG;
}

/* ---- libcuda ---- */

struct search {
	const char *root;
	const char *want; /* version; "": any */
	struct tr_libraries *out;
	char folders[2][PATH_MAX];     /* of libcuda's file; of the name that led there */
	char other[TR_DRIVER_VERSION]; /* met, but not wanted */
	bool is_foreign;               /* met one for another processor */
	char *cache;                   /* the loader's, or NULL */
	size_t cache_n;
};

static const char *base_of(const char *path)
{
	return strrchr(path, '/') + 1;
}

static void folder_of(const char *path, char out[static PATH_MAX])
{
	size_t n = (size_t)(strrchr(path, '/') - path);

	memcpy(out, path, n);
	out[n] = '\0';
}

static bool is_for_us(const char *root, const char *path)
{
	tr_autofree char *full = tr_xprintf("%s%s", root, path);
	tr_autoclose int fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	unsigned char head[sizeof(Elf64_Ehdr)];

	return fd >= 0 && tr_file_size(fd) > 0 && tr_read_at(fd, head, sizeof(head), 0) &&
	       tr_image_is_ours(head, sizeof(head));
}

/* PATH is a name of libcuda: is it the one? */
static void try_first(struct search *s, const char *path)
{
	char real[PATH_MAX], link[PATH_MAX], folder[PATH_MAX];
	const char *version;

	if (s->out->version[0] || tr_root_resolve(s->root, path, real) < 0 ||
	    strncmp(base_of(real), "libcuda.so.", 11) != 0)
		return;
	version = base_of(real) + 11;
	if (!is_version(version, strlen(version)))
		return;
	if (s->want[0] && strcmp(version, s->want) != 0) {
		memcpy(s->other, version, strlen(version) + 1);
		return;
	}
	if (!is_for_us(s->root, real)) {
		s->is_foreign = true;
		return;
	}
	memcpy(s->out->version, version, strlen(version) + 1);
	folder_of(real, s->folders[0]);
	folder_of(path, folder);
	if (tr_root_resolve(s->root, folder, link) == 0)
		memcpy(s->folders[1], link, strlen(link) + 1);
}

static void on_first(const char *name, const char *path, void *arg)
{
	if (strcmp(name, FIRST) == 0)
		try_first(arg, path);
}

static void read_cache(struct search *s)
{
	char real[PATH_MAX];
	tr_autofree char *path = NULL;

	if (tr_root_resolve(s->root, "/etc/ld.so.cache", real) < 0)
		return;
	path = tr_xprintf("%s%s", s->root, real);
	if (tr_slurp(path, CACHE_MAX, &s->cache, &s->cache_n, NULL) < 0)
		s->cache = NULL;
}

static int find_first(struct search *s, struct tr_err *err)
{
	/* A cache that is not understood is as none: the folders are looked at. */
	if (s->cache)
		(void)tr_ldcache_each(s->cache, s->cache_n, on_first, s, NULL);
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		tr_autofree char *path = tr_xprintf("%s/%s", folders[i], FIRST);

		try_first(s, path);
	}
	if (s->out->version[0])
		return 0;
	if (s->other[0])
		return tr_fail(
			err, EBADMSG,
			"libcuda is of version %s, the kernel module of %s: load the "
			"module anew or restart the machine",
			s->other, s->want);
	if (s->is_foreign)
		return tr_fail(err, EBADMSG,
			       "%s below %s/ is not for this machine's processor", FIRST,
			       s->root);
	return tr_fail(err, ENOENT,
		       "no %s below %s/, neither in the loader's cache nor in %s, %s, ...",
		       FIRST, s->root, folders[0], folders[1]);
}

/* ---- the others ---- */

static bool is_drawing(const char *name)
{
	for (size_t i = 0; i < sizeof(drawing) / sizeof(*drawing); i++)
		if (fnmatch(drawing[i], name, 0) == 0)
			return true;
	return false;
}

static void add_name(struct tr_libraries *out, const char *name, const char *path)
{
	for (size_t i = 0; i < out->count; i++)
		if (strcmp(out->at[i].name, name) == 0)
			return;
	out->at = tr_xrealloc(out->at, (out->count + 1) * sizeof(*out->at));
	out->at[out->count++] = (struct tr_library){ tr_xstrdup(name), tr_xstrdup(path) };
}

static bool is_ours(const char *file, const char *version)
{
	size_t n = strlen(file), v = strlen(version);

	return n > v + 4 && strcmp(file + n - v, version) == 0 &&
	       memcmp(file + n - v - 4, ".so.", 4) == 0;
}

/* A name that may be the driver's, at PATH: it is when its file has the driver's version. */
static void on_library(const char *name, const char *path, void *arg)
{
	struct search *s = arg;
	char real[PATH_MAX];

	if ((strncmp(name, "libcuda", 7) != 0 && strncmp(name, "libnv", 5) != 0) ||
	    !strstr(name, ".so.") || is_drawing(name) ||
	    tr_root_resolve(s->root, path, real) < 0 ||
	    !is_ours(base_of(real), s->out->version))
		return;
	add_name(s->out, name, real);
	add_name(s->out, base_of(real), real);
}

static void scan_folder(struct search *s, const char *folder)
{
	tr_autofree char *full = tr_xprintf("%s%s", s->root, folder);
	DIR *open_folder = opendir(full);
	const struct dirent *entry;

	while (open_folder && (entry = readdir(open_folder))) {
		tr_autofree char *path = tr_xprintf("%s/%s", folder, entry->d_name);

		on_library(entry->d_name, path, s);
	}
	if (open_folder)
		(void)closedir(open_folder);
}

/* Programs that were not linked against the driver open this name. */
static void add_plain(struct tr_libraries *out, const char *name, const char *plain)
{
	for (size_t i = 0; i < out->count; i++)
		if (strcmp(out->at[i].name, name) == 0) {
			add_name(out, plain, out->at[i].path);
			return;
		}
}

static int by_name(const void *a, const void *b)
{
	const struct tr_library *left = a, *right = b;

	return strcmp(left->name, right->name);
}

int tr_libraries_find(const char *root, const char *version, struct tr_libraries *out,
		      struct tr_err *err)
{
	tr_autofree struct search *s = tr_xcalloc(1, sizeof(*s));
	int r;

	memset(out, 0, sizeof(*out));
	s->root = root;
	s->want = version;
	s->out = out;
	read_cache(s);
	r = find_first(s, err);
	/* Its own folders first: the cache can know the same version elsewhere too. */
	if (r == 0) {
		scan_folder(s, s->folders[0]);
		if (strcmp(s->folders[0], s->folders[1]) != 0)
			scan_folder(s, s->folders[1]);
		if (s->cache)
			(void)tr_ldcache_each(s->cache, s->cache_n, on_library, s, NULL);
		add_plain(out, FIRST, "libcuda.so");
		add_plain(out, "libnvidia-opticalflow.so.1", "libnvidia-opticalflow.so");
		qsort(out->at, out->count, sizeof(*out->at), by_name);
	}
	free(s->cache);
	return r;
}

void tr_libraries_free(struct tr_libraries *libraries)
{
	for (size_t i = 0; i < libraries->count; i++) {
		free(libraries->at[i].name);
		free(libraries->at[i].path);
	}
	free(libraries->at);
	libraries->at = NULL;
	libraries->count = 0;
}
