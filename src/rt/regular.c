/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "rt/cleanup.h"
#include "rt/file.h"

int tr_regular_open(const char *path, int flags)
{
	/* O_PATH calls no driver: it names what is there, and that stays the same thing however often
	 * the name is given to another meanwhile. */
	tr_autoclose int named = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char again[40];
	int64_t size;
	int fd;

	if (named < 0)
		return -errno;
	size = tr_file_size(named);
	if (size < 0)
		return (int)size;
	(void)snprintf(again, sizeof(again), "/proc/self/fd/%d", named);
	fd = open(again, flags | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}
