/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_RT_LIBRARY_H
#define TR_RT_LIBRARY_H

#include "tranche/err.h"

#define TR_LIBRARY_NAME 64

/*
 * Copies the hook SOURCE into the folder DIR (absolute; made when missing) as NAME, which says its
 * version and content, and lets DIR/libvgpu.so lead there. A name never changes its content and no
 * inode is written to after it has its name: programs that have another version mapped keep it. Any number of
 * processes at once.
 * -EINVAL: DIR; -EBADMSG: SOURCE is empty or too large to be the hook; else what the file system said.
 */
int tr_library_place(const char *dir, const char *source, char name[static TR_LIBRARY_NAME],
		     struct tr_err *err);

#endif /* TR_RT_LIBRARY_H */
