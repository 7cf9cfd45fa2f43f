/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_INJECT_INSTALL_H
#define TR_INJECT_INSTALL_H

#include <limits.h>

#include "rt/library.h"
#include "tranche/err.h"

/* The hook on the host, for mounting into containers. */

struct tr_installed {
	char hook[PATH_MAX];    /* PREFIX/libvgpu.so.VERSION-HASH; mount at TR_SLICE_HOOK */
	char preload[PATH_MAX]; /* PREFIX/ld.so.preload: one line, TR_SLICE_HOOK; mount at
				   TR_PRELOAD_FILE */
};

/*
 * Copies LIBRARY_SOURCE to PREFIX (absolute; made when missing) under a name that says its content,
 * writes the preload file, and lets PREFIX/libvgpu.so lead to it. CHECK (NULL: nobody) is asked before; what
 * it says is returned, and PREFIX is as it was. No file that is there is
 * written to: a name appears whole, by rename, and other versions stay for the containers that have them.
 * -EINVAL: PREFIX, or a source that is no library; else what the file system said, with a sentence that says
 * what to do about it. Any thread, any number of processes at once.
 */
int tr_install(const char *prefix, const char *library_source, tr_library_check *check,
	       struct tr_installed *out, struct tr_err *err);
/* The one that was installed last, where another cannot be: if CHECK still agrees. -ENOENT: none. */
int tr_installed_last(const char *prefix, tr_library_check *check, struct tr_installed *out,
		      struct tr_err *err);

#endif /* TR_INJECT_INSTALL_H */
