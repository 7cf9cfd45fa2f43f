/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GONE_MAX_NS 100000000u /* longer ago: who looks had no processor */

char rm_state_of(pid_t pid, int tid, uint64_t *cpu_ticks, pid_t *parent)
{
	char path[64], text[512], state = 'X', *end;
	unsigned long user = 0, system = 0;
	int ppid = 0, fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 'X';
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 'X';
	text[n] = '\0';
	/* the name may hold anything: what follows its last bracket is numbers */
	end = strrchr(text, ')');
	if (!end || sscanf(end, ") %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
			   &state, &ppid, &user, &system) < 4)
		return 'X';
	if (cpu_ticks)
		*cpu_ticks = user + system;
	if (parent)
		*parent = ppid;
	return state;
}

bool rm_is_asleep(char state)
{
	return state == 'S' || state == 'T' || state == 't' || state == 'X';
}

void rm_patience_look(struct rm_patience *p, char state, uint64_t gone_ns)
{
	if (!rm_is_asleep(state)) {
		p->row_ns = 0;
		return;
	}
	gone_ns = gone_ns < GONE_MAX_NS ? gone_ns : GONE_MAX_NS;
	p->asleep_ns += gone_ns;
	p->row_ns += gone_ns;
}
