/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RM_CLIENT_H
#define SIM_RM_CLIENT_H

#include <stdint.h>

#include "rm/wire.h"

/* Inside the client library. */

/* One request and its reply. *FD_IN: a descriptor to send, or -1. *FD_OUT: receives the one
 * that came back, or -1; may be NULL when none is expected. Returns the reply's r, -ECHILD
 * in a forked child, -ENODEV before rm_open(), -EIO once the connection is gone (the device
 * is lost). */
int rm_call(struct wire_request *req, size_t n, int fd_in, struct wire_reply *reply,
	    int *fd_out);

/* The lock around the connection and the object table: survives fork (a holder in the
 * parent does not block the child). */
void rm_lock(void);
void rm_unlock(void);

/* True when this process, not its parent, is connected. */
bool rm_is_mine(void);
/* 0 when it is, -ECHILD when only the parent was, -ENODEV when nobody was. */
int rm_check_mine(void);

/* Connects to the machine in DIR, starting it when nobody answers. Returns the descriptor
 * after a successful hello, or -errno; a sentence about the failure is in rm_reason(). */
int rm_connect(const char *dir, bool start, struct wire_reply *hello, int *board_fd);
/* The machine's directory by the environment: -ENAMETOOLONG, -EACCES, ... */
int rm_directory(char *dir, size_t n);
/* Starts `sim-kernel` for DIR with further arguments (NULL-ended) and waits until it
 * serves. */
int rm_start(const char *dir, const char *const *arguments);
/* The right to start a machine in DIR (made if absent): a lock on the directory itself, so
 * that no file is left behind and nobody needs to write there. A descriptor to close, or
 * -errno. */
int rm_lock_start(const char *dir);
/* Sends and receives one message with at most one descriptor; -errno. */
int rm_send(int fd, const void *bytes, size_t n, int fd_in);
int rm_receive(int fd, void *bytes, size_t n, int *fd_out);
/* Moves FD to a high number, out of the way of programs that close or count the low ones.
 */
int rm_move_high(int fd);
/* Identity of a socket; 0 when FD is none. */
uint64_t rm_cookie(int fd);
void rm_set_reason(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* After a connection was made or found to belong to a parent process. */
void rm_objects_reset(void);
void rm_faults_board(const struct wire_board *board);
void rm_state_board(const struct wire_board *board);

#endif /* SIM_RM_CLIENT_H */
