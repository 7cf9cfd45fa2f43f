/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_RT_FILE_H
#define TR_RT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tranche/err.h"

/* Files that two processes share: made in full before anyone can see them, locked by the
 * kernel. Only calls that glibc 2.17 has under the same version. */

/* Size of the regular file behind FD, or -errno (-EBADMSG when it is not a regular file).
 */
int64_t tr_file_size(int fd);

/* PATH opened with FLAGS (O_RDONLY, O_RDWR, O_NOATIME) when it is a regular file; for a file of somebody who
 * may put anything in its place, since opening alone has effects: it starts a watchdog, waits for a tape.
 * The descriptor, -EBADMSG (not a regular file: left unopened), -errno. Needs /proc. */
int tr_regular_open(const char *path, int flags);

/* Opens PATH and maps its first BYTES; the descriptor goes to *FD when FD is not NULL, else
 * it is closed. -EBADMSG when the file is no regular file or shorter (touching it would be
 * a SIGBUS). */
int tr_file_map(const char *path, size_t bytes, bool writable, void **addr, int *fd,
		struct tr_err *err);

/* Makes a file of BYTES zero bytes, every block allocated; lets FILL write its content
 * through a mapping; then gives it the name PATH in one step. -EEXIST: PATH exists and is
 * left alone. */
int tr_file_create(const char *path, size_t bytes, unsigned mode,
		   void (*fill)(void *addr, void *arg), void *arg, struct tr_err *err);

/* Gives PATH this content and MODE in one step, whether it is there or not: who has the old file keeps
 * it. On the disk when this returns. A failure leaves PATH as it was. */
int tr_file_replace(const char *path, const void *bytes, size_t n, unsigned mode,
		    struct tr_err *err);
/* The folder PATH (absolute) and those above it, mode 0755 where they are missing. */
int tr_folder_make(const char *path, struct tr_err *err);

/* OFD write lock on one byte of FD, without waiting. 0, -EAGAIN (another has it), -errno.
 */
int tr_byte_lock(int fd, off_t byte);
int tr_byte_unlock(int fd, off_t byte);
/* 1 when another open file description holds the byte, 0 when none does, -errno. */
int tr_byte_is_locked(int fd, off_t byte);

/* All BYTES from OFFSET on, or false. */
bool tr_read_at(int fd, void *out, size_t bytes, off_t offset);

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t tr_clock_ns(void);
void tr_sleep_ns(uint64_t ns); /* bounded; a signal may end it early */

#endif /* TR_RT_FILE_H */
