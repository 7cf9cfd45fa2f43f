/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/cleanup.h"

static ssize_t read_text(pid_t pid, const char *what, char *text, size_t room)
{
	char path[64];
	tr_autoclose int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -ESRCH;
	n = read(fd, text, room - 1);
	if (n <= 0)
		return -ESRCH;
	text[n] = '\0';
	return n;
}

int tr_process_name(pid_t pid, struct tr_process_name *out)
{
	char text[4096];
	const char *at;

	if (read_text(pid, "stat", text, sizeof(text)) < 0)
		return -ESRCH;
	/* Field 2, the command name, may hold anything: count from the last ')'. */
	at = strrchr(text, ')');
	for (unsigned field = 2; at && field < 22; field++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	if (!at)
		return -EBADMSG;
	out->start_ticks = strtoull(at, NULL, 10);
	out->inner_pid = pid;
	if (read_text(pid, "status", text, sizeof(text)) > 0 &&
	    (at = strstr(text, "\nNSpid:"))) {
		const char *end = strchr(at + 1, '\n');

		for (at += strlen("\nNSpid:"); at && at < end; at = strchr(at + 1, '\t'))
			out->inner_pid = (pid_t)strtol(at, NULL, 10);
	}
	return 0;
}
