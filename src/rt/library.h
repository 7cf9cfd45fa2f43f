/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_RT_LIBRARY_H
#define TR_RT_LIBRARY_H

#include "tranche/err.h"

#define TR_LIBRARY_NAME 64

/*
 * Copies the hook SOURCE into the folder DIR (absolute; made when missing) as NAME, which says its
 * version and content, and lets DIR/libvgpu.so lead there, if CHECK (NULL: nobody) agrees: it is shown the copy
 * before that has its name, and fails with -errno and a sentence about SOURCE. What it refuses leaves DIR as it
 * was. A name never changes its content and no
 * inode is written to after it has its name: programs that have another version mapped keep it. Any number of
 * processes at once.
 * -EINVAL: DIR; -EBADMSG: SOURCE is empty or too large to be the hook; what CHECK said; else what the file
 * system said.
 */
typedef int tr_library_check(const char *path, const char *source, struct tr_err *err);
int tr_library_place(const char *dir, const char *source, tr_library_check *check,
		     char name[static TR_LIBRARY_NAME], struct tr_err *err);

#endif /* TR_RT_LIBRARY_H */
