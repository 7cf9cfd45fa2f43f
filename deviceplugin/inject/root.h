/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_INJECT_ROOT_H
#define TR_INJECT_ROOT_H

#include <limits.h>

/*
 * Where PATH (absolute) leads for a process whose root directory is ROOT ("" is our own): every link followed
 * inside it, no dots left. OUT does not contain ROOT. 0, -ENOENT, -ELOOP, -ENAMETOOLONG, -errno.
 * The kernel's own openat2() for this is missing before Linux 5.6.
 */
int tr_root_resolve(const char *root, const char *path, char out[static PATH_MAX]);

#endif /* TR_INJECT_ROOT_H */
