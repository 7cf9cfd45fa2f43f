/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BASE_BUF_H
#define TR_BASE_BUF_H

#include <stddef.h>

/* Bytes that grow at the end. Zeroed is empty. Always followed by a NUL once anything was added,
 * which N does not count. Not shared between threads. */
struct tr_buf {
	char *p;
	size_t n, room;
};

#define tr_auto_buf __attribute__((cleanup(tr_buf_free)))

void tr_buf_add(struct tr_buf *b, const void *bytes, size_t n);
void tr_buf_text(struct tr_buf *b, const char *text);
void tr_buf_print(struct tr_buf *b, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* TEXT, which is UTF-8, as a string of JSON: quotes around it. */
void tr_buf_quote(struct tr_buf *b, const char *text);
/* Empty, memory kept. */
void tr_buf_clear(struct tr_buf *b);
/* Empty, memory given back. */
void tr_buf_free(struct tr_buf *b);
/* The text, now the caller's to free(); B is empty. Never NULL. */
char *tr_buf_take(struct tr_buf *b);

#endif /* TR_BASE_BUF_H */
