/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* What JSON does not let stand as it is. */
#define JSON_SPECIAL                                                   \
	"\"\\\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d"     \
	"\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c" \
	"\x1d\x1e\x1f"

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

void tr_buf_quote(struct tr_buf *b, const char *text)
{
	tr_buf_add(b, "\"", 1);
	for (;;) {
		size_t plain = strcspn(text, JSON_SPECIAL);

		tr_buf_add(b, text, plain);
		text += plain;
		if (!*text)
			break;
		if (*text == '"' || *text == '\\')
			tr_buf_print(b, "\\%c", *text++);
		else
			tr_buf_print(b, "\\u%04x", (unsigned)*text++);
	}
	tr_buf_add(b, "\"", 1);
}

void tr_buf_print(struct tr_buf *b, const char *format, ...)
{
	va_list args;
	int n;

	/* Most texts fit in what is there, and are formatted once. */
	make_room(b, 0);
	va_start(args, format);
	n = vsnprintf(b->p + b->n, b->room - b->n, format, args);
	va_end(args);
	if (n < 0)
		abort();
	if ((size_t)n >= b->room - b->n) {
		make_room(b, (size_t)n);
		va_start(args, format);
		(void)vsnprintf(b->p + b->n, (size_t)n + 1, format, args);
		va_end(args);
	}
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
