/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/inject/install.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/slurp.h"
#include "rt/file.h"
#include "tranche/paths.h"

static const char preload_line[] = TR_SLICE_HOOK "\n";

/* Whole, and for everybody to read: a program whose loader cannot read it runs without the library. */
static bool is_preload(const char *path)
{
	tr_autofree char *text = NULL;
	struct stat st;
	size_t n = 0;

	return lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
	       (st.st_mode & 07777) == 0644 &&
	       tr_slurp(path, sizeof(preload_line), &text, &n, NULL) == 0 &&
	       strcmp(text, preload_line) == 0;
}

static int place_preload(const char *path, struct tr_err *err)
{
	if (is_preload(path))
		return 0;
	return tr_file_replace(path, preload_line, sizeof(preload_line) - 1, 0644, err);
}

/* What a person can do about it. */
static int advise(int r, const char *prefix, struct tr_err *err)
{
	const char *advice = r == -EROFS || r == -EACCES || r == -EPERM
				     ? "choose a folder that can be written to (lib_dir)"
			     : r == -ENOSPC || r == -EDQUOT
				     ? "make room there, or choose another folder (lib_dir)"
				     : NULL;

	if (r == -EBADMSG || r == -ETIMEDOUT)
		return r; /* wherever it is put */
	if (advice)
		return tr_wrap(err, r, "the library cannot be put into %s; %s", prefix,
			       advice);
	return tr_wrap(err, r, "the library cannot be put into %s", prefix);
}

static int take(const char *prefix, const char *name, struct tr_installed *out,
		struct tr_err *err)
{
	int r;

	(void)snprintf(out->hook, sizeof(out->hook), "%s/%s", prefix, name);
	(void)snprintf(out->preload, sizeof(out->preload), "%s/ld.so.preload", prefix);
	r = place_preload(out->preload, err);
	return r < 0 ? advise(r, prefix, err) : 0;
}

int tr_install(const char *prefix, const char *library_source, tr_library_check *check,
	       struct tr_installed *out, struct tr_err *err)
{
	char name[TR_LIBRARY_NAME];
	int r;

	memset(out, 0, sizeof(*out));
	r = tr_library_place(prefix, library_source, check, name, err);
	return r < 0 ? advise(r, prefix, err) : take(prefix, name, out, err);
}

int tr_installed_last(const char *prefix, tr_library_check *check, struct tr_installed *out,
		      struct tr_err *err)
{
	char path[PATH_MAX], name[TR_LIBRARY_NAME];
	ssize_t n;
	int r;

	memset(out, 0, sizeof(*out));
	(void)snprintf(path, sizeof(path), "%s/libvgpu.so", prefix);
	n = readlink(path, name, sizeof(name) - 1);
	if (n < 0)
		return tr_fail_errno(err, "read the link %s", path);
	name[n] = '\0';
	if (strncmp(name, "libvgpu.so.", 11) != 0 || strchr(name, '/'))
		return tr_fail(err, ENOENT, "%s leads to %s", path, name);
	(void)snprintf(path, sizeof(path), "%s/%s", prefix, name);
	r = check ? check(path, path, err) : 0;
	return r < 0 ? r : take(prefix, name, out, err);
}
