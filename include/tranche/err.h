/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_ERR_H
#define TR_ERR_H

#include <stddef.h>

/*
 * Errors that people read. Functions return 0 (or a count) or -errno; the sentence travels
 * in a struct on the stack of whoever can act on it. NULL is accepted everywhere. Nothing
 * allocates.
 *
 * House meanings of errno values: EINVAL the user's value is wrong, EBADMSG malformed
 * bytes, EPROTONOSUPPORT another version of the layout, ENOMEM the slice is exhausted,
 * EAGAIN try later.
 */
struct tr_err {
	int code;      /* positive errno; 0 = unset */
	char msg[504]; /* outermost context first, no newline */
};

/* Sets ERR (if not NULL) to CODE and the formatted sentence. Returns -CODE. */
int tr_fail(struct tr_err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same for a system call that set errno: "<sentence>: <strerror>". Returns -errno. */
int tr_fail_errno(struct tr_err *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Puts "<sentence>: " before what ERR says. Returns R. */
int tr_wrap(struct tr_err *err, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif /* TR_ERR_H */
