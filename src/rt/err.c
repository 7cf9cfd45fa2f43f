/* SPDX-License-Identifier: Apache-2.0 */
#include "tranche/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int tr_fail(struct tr_err *err, int code, const char *format, ...)
{
	va_list args;

	if (err) {
		err->code = code;
		va_start(args, format);
		(void)vsnprintf(err->msg, sizeof(err->msg), format, args);
		va_end(args);
	}
	return -code;
}

int tr_fail_errno(struct tr_err *err, const char *format, ...)
{
	int code = errno ? errno : EIO;
	size_t n;
	va_list args;

	if (err) {
		err->code = code;
		va_start(args, format);
		(void)vsnprintf(err->msg, sizeof(err->msg), format, args);
		va_end(args);
		n = strlen(err->msg);
		(void)snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", strerror(code));
	}
	return -code;
}

int tr_wrap(struct tr_err *err, int r, const char *format, ...)
{
	char inner[sizeof(err->msg)];
	size_t n;
	va_list args;

	if (!err)
		return r;
	memcpy(inner, err->msg, sizeof(inner));
	va_start(args, format);
	(void)vsnprintf(err->msg, sizeof(err->msg), format, args);
	va_end(args);
	n = strlen(err->msg);
	(void)snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", inner);
	return r;
}
