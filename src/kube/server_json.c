/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/server_json.h"

#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

static const char nul[] = "\\u0000", replacement[] = "\\ufffd";
#define ESCAPE_BYTES (sizeof(nul) - 1)

/* An escape, and not what follows an escaped backslash. */
static bool is_escape(const char *bytes, const char *at)
{
	size_t before = 0;

	while (at > bytes && *--at == '\\')
		before++;
	return before % 2 == 0;
}

json_t *tr_server_json(const char *bytes, size_t n, size_t flags, json_error_t *problem)
{
	tr_autofree char *mended = NULL;
	char *at;

	if (!memmem(bytes, n, nul, ESCAPE_BYTES))
		return json_loadb(bytes, n, flags, problem);
	mended = tr_xmalloc(n);
	memcpy(mended, bytes, n);
	at = mended;
	while ((at = memmem(at, n - (size_t)(at - mended), nul, ESCAPE_BYTES))) {
		if (is_escape(mended, at))
			memcpy(at, replacement, ESCAPE_BYTES);
		at += ESCAPE_BYTES;
	}
	return json_loadb(mended, n, flags, problem);
}
