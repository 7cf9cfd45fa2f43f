/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KEEPER_SLICES_H
#define TR_KEEPER_SLICES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "slice/page.h"
#include "tranche/err.h"
#include "tranche/state.h"

/*
 * Slices as directories: ROOT/NAME/ with
 *   ro/policy   the policy page      rw/state   the state file      alive   locked by the
 * host side ROOT lies on tmpfs: root's where /run is one, else a directory of the user's
 * own in /dev/shm.
 */

struct tr_slice_dir {
	char path[200];        /* ROOT/NAME */
	char policy_path[220]; /* ... /ro/policy */
	char state_path[220];  /* ... /rw/state */
	int alive_fd;          /* holds the lock on `alive`; -1 when not ours */
};

/* The root for slices that this user makes; made if absent (0755 for root, 0700 otherwise).
 * Fails when it belongs to someone else or is no tmpfs. */
int tr_slices_root(char *out, size_t room, struct tr_err *err);
/* The same for a root of the caller's choice: an absolute path. */
int tr_slices_root_make(const char *root, struct tr_err *err);

/* 0, or -EINVAL with what a slice may be called: letters, digits, '.', '_', '-'; at
 * most 63. */
int tr_slice_name_check(const char *name, struct tr_err *err);

/* Makes ROOT/NAME with its page and state file. -EEXIST: a living slice has the name. What
 * a dead host side left under that name is removed first, unless processes still sit in it.
 * On failure nothing stays. SPEC's state_path is filled in from SEEN_STATE_PATH, the path
 * as the slice's processes see it (NULL: as here). */
int tr_slice_make(struct tr_slice_dir *out, const char *name, struct tr_page_spec *spec,
		  const char *seen_state_path, struct tr_err *err);
/* Another page in place of its page, in one step. Programs that run in it keep the old one: for slices that
 * nobody is in. SPEC's name and state_path are filled in; its serial must be the state file's. */
int tr_slice_repage(const struct tr_slice_dir *dir, struct tr_page_spec *spec,
		    const char *seen_state_path, struct tr_err *err);
/* Where ROOT/NAME has its files; alive_fd is -1. 0 or -ENAMETOOLONG. */
int tr_slice_at(struct tr_slice_dir *out, const char *root, const char *name);
/* Processes sit in it: one of its slots is locked. */
bool tr_slice_is_held(const struct tr_slice_dir *dir);
/* Removes the directory and lets go of the lock. */
void tr_slice_remove(struct tr_slice_dir *dir);

/* The same when nobody sits in it; else the files stay for those who do, and tr_slices_sweep()
 * takes them later. True when it was removed. */
bool tr_slice_end(struct tr_slice_dir *dir);

/* The slice NAME of this user, else the only one of that name among the roots this user may read. -ENOENT. alive_fd is -1. */
int tr_slice_find(struct tr_slice_dir *out, const char *name, struct tr_err *err);

/* Calls VISIT for each slice of each root readable by this user; stops when it returns
 * non-zero. */
int tr_slices_each(int (*visit)(const struct tr_slice_dir *dir, void *arg), void *arg);
/* Removes what host sides of this user that were killed left behind, once no process sits in it. */
void tr_slices_sweep(void);
/* Is its host side running? */
bool tr_slice_is_alive(const struct tr_slice_dir *dir);

/* A private copy of a state file, read with pread(): a tenant that truncates the file
 * cannot harm the reader. -EBADMSG when it is no state file, -EPROTONOSUPPORT when it is one of
 * another layout. Words are plain numbers here. Of the arrays by slot only what slots below high_water
 * may hold is read; refusals are not.
 */
int tr_state_read(const char *path, struct tr_state *copy, struct tr_err *err);

struct tr_slice_use {
	uint64_t used_bytes, overhead_bytes, peak_bytes, refused;
	unsigned processes; /* slots with something on this device */
};
/* What a copied state says of device D, with the page's published overhead. */
void tr_slice_use(const struct tr_policy *page, const struct tr_state *copy, unsigned d,
		  struct tr_slice_use *out);

#endif /* TR_KEEPER_SLICES_H */
