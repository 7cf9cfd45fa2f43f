/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static void *or_abort(void *p)
{
	if (!p)
		abort();
	return p;
}

void *tr_xmalloc(size_t bytes)
{
	return or_abort(malloc(bytes ? bytes : 1));
}

void *tr_xcalloc(size_t n, size_t bytes)
{
	return or_abort(calloc(n ? n : 1, bytes ? bytes : 1));
}

void *tr_xrealloc(void *old, size_t bytes)
{
	return or_abort(realloc(old, bytes ? bytes : 1));
}

char *tr_xstrdup(const char *text)
{
	return tr_xstrndup(text, strlen(text));
}

char *tr_xstrndup(const char *text, size_t n)
{
	char *copy = tr_xmalloc(n + 1);

	memcpy(copy, text, n);
	copy[n] = '\0';
	return copy;
}

char *tr_xprintf(const char *format, ...)
{
	char *out = NULL;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&out, format, args);
	va_end(args);
	if (n < 0)
		abort();
	return out;
}
