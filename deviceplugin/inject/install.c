/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/inject/install.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/slurp.h"
#include "rt/file.h"
#include "rt/library.h"
#include "tranche/paths.h"

static const char preload_line[] = TR_SLICE_HOOK "\n";

static int place_preload(const char *path, struct tr_err *err)
{
	tr_autofree char *old = NULL;
	size_t n = 0;

	if (tr_slurp(path, sizeof(preload_line), &old, &n, NULL) == 0 &&
	    strcmp(old, preload_line) == 0)
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

	if (advice)
		return tr_wrap(err, r, "the library cannot be put into %s; %s", prefix,
			       advice);
	return tr_wrap(err, r, "the library cannot be put into %s", prefix);
}

int tr_install(const char *prefix, const char *library_source, struct tr_installed *out,
	       struct tr_err *err)
{
	char name[TR_LIBRARY_NAME];
	int r;

	memset(out, 0, sizeof(*out));
	r = tr_library_place(prefix, library_source, name, err);
	if (r < 0)
		return advise(r, prefix, err);
	(void)snprintf(out->hook, sizeof(out->hook), "%s/%s", prefix, name);
	(void)snprintf(out->preload, sizeof(out->preload), "%s/ld.so.preload", prefix);
	r = place_preload(out->preload, err);
	return r < 0 ? advise(r, prefix, err) : 0;
}
