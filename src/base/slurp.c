/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slurp.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "rt/cleanup.h"
#include "rt/file.h"

int tr_slurp(const char *path, size_t max, char **out, size_t *n, struct tr_err *err)
{
	/* O_NONBLOCK: a fifo of that name must not stop us. */
	tr_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	tr_autofree char *text = NULL;
	int64_t size;
	size_t have = 0;

	if (fd < 0)
		return tr_fail_errno(err, "open %s", path);
	size = tr_file_size(fd);
	if (size < 0)
		return tr_fail(err, (int)-size, "%s is not a regular file", path);
	if ((uint64_t)size > max)
		return tr_fail(err, EFBIG, "%s: %lld bytes, at most %zu are read", path,
			       (long long)size, max);
	text = tr_xmalloc((size_t)size + 1);
	while (have < (size_t)size) {
		ssize_t got = read(fd, text + have, (size_t)size - have);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return tr_fail_errno(err, "read %s", path);
		if (got == 0)
			break;
		have += (size_t)got;
	}
	text[have] = '\0';
	*n = have;
	*out = tr_take_ptr(text);
	return 0;
}
