/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_INJECT_LIBRARIES_H
#define TR_INJECT_LIBRARIES_H

#include <limits.h>
#include <stddef.h>
#include <sys/types.h>

#include "tranche/err.h"

/* The parts of tr_driver_find(). */

#define TR_DRIVER_VERSION 32

/* What a file of /proc says (their size is 0): at most ROOM - 1 bytes, a NUL behind. -EFBIG. */
ssize_t tr_proc_read(const char *path, char *out, size_t room);

/* "NVRM version: ... Kernel Module  580.95.05  ..." -> "580.95.05". -EBADMSG. Pure. */
int tr_driver_version_parse(const char *text, char version[static TR_DRIVER_VERSION]);

struct tr_library {
	char *name; /* as the loader asks for it, or the file's own */
	char *path; /* of the file, in the root */
};

struct tr_libraries {
	char version[TR_DRIVER_VERSION];
	struct tr_library *at; /* sorted by name, each once */
	size_t count;
};

/* The driver's libraries below ROOT ("" is ours), without those for drawing. VERSION: of the kernel module, "":
 * unknown, any. OUT is to be freed in any case. -ENOENT; -EBADMSG: another version. */
int tr_libraries_find(const char *root, const char *version, struct tr_libraries *out,
		      struct tr_err *err);
void tr_libraries_free(struct tr_libraries *libraries);

#endif /* TR_INJECT_LIBRARIES_H */
