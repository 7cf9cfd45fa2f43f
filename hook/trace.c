/* SPDX-License-Identifier: Apache-2.0 */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rt/cleanup.h"
#include "tranche/paths.h"

#define LINE_BYTES 256

/* Opened for each line: the program may close descriptors that it does not know, and fork.
 */
static void put(const char *path, const char *line, int n)
{
	tr_autoclose int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0 && write(fd, line, (size_t)n) < 0)
		return; /* a debug log that is full is nobody's problem */
}

void tr_trace(const char *format, ...)
{
	const char *path = getenv(TR_ENV_TRACE);
	int saved_errno = errno;
	char line[LINE_BYTES];
	va_list args;
	int n, m;

	if (!path || !*path)
		return;
	n = snprintf(line, sizeof(line), "%d: ", (int)syscall(SYS_getpid));
	va_start(args, format);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
	va_end(args);
	n = m < 0 ? n : n + m;
	if (n > LINE_BYTES - 1)
		n = LINE_BYTES - 1;
	line[n] = '\n';
	put(path, line, n + 1);
	errno = saved_errno;
}
