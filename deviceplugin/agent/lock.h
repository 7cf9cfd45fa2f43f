/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_AGENT_LOCK_H
#define TR_AGENT_LOCK_H

#include <stdbool.h>

#include "tranche/err.h"

/* One agent of a directory. The lock is the kernel's and ends with the process, however it ends. */

/* Takes the file NAME in DIR and writes into it who has it. -EBUSY: ERR says who has. *FD is to be kept
 * open. */
int tr_agent_lock(const char *dir, const char *name, int *fd, struct tr_err *err);

/*
 * Makes DIR and what is above it, and sees that a file can be made in it. WHAT it is for goes into the
 * sentence. -EROFS, -EACCES, -ENOTDIR, ...
 */
int tr_agent_dir(const char *dir, unsigned mode, const char *what, struct tr_err *err);

/* 1: DIR is on a file system in memory; 0: it is not. -EINVAL: on one where the slices' locks do not hold
 * (overlayfs). */
int tr_agent_dir_is_memory(const char *dir, struct tr_err *err);

/* A device node that somebody makes in DIR works: its mount is not "nodev". */
bool tr_agent_dir_has_devices(const char *dir);

#endif /* TR_AGENT_LOCK_H */
