/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static void make_room(struct tr_buf *b, size_t more)
{
	size_t need = b->n + more + 1;

	if (need < more)
		abort();
	if (need <= b->room)
		return;
	b->room = need < 256 ? 256 : need + need / 2;
	b->p = tr_xrealloc(b->p, b->room);
}

void tr_buf_add(struct tr_buf *b, const void *bytes, size_t n)
{
	make_room(b, n);
	if (n)
		memcpy(b->p + b->n, bytes, n);
	b->n += n;
	b->p[b->n] = '\0';
}

void tr_buf_text(struct tr_buf *b, const char *text)
{
	tr_buf_add(b, text, strlen(text));
}

void tr_buf_print(struct tr_buf *b, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n < 0)
		abort();
	make_room(b, (size_t)n);
	va_start(args, format);
	(void)vsnprintf(b->p + b->n, (size_t)n + 1, format, args);
	va_end(args);
	b->n += (size_t)n;
}

void tr_buf_clear(struct tr_buf *b)
{
	b->n = 0;
	if (b->p)
		b->p[0] = '\0';
}

void tr_buf_free(struct tr_buf *b)
{
	free(b->p);
	*b = (struct tr_buf){ 0 };
}

char *tr_buf_take(struct tr_buf *b)
{
	char *text = b->p ? b->p : tr_xstrdup("");

	*b = (struct tr_buf){ 0 };
	return text;
}
