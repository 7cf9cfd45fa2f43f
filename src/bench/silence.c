/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/silence.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt/cleanup.h"

#define ASLEEP_MS 120000
#define ALL_MS    600000

bool tr_silence_is_over(struct tr_silence *s, unsigned ms, bool is_runnable)
{
	s->all_ms += ms;
	s->asleep_ms += is_runnable ? 0 : ms;
	return s->asleep_ms >= ASLEEP_MS || s->all_ms >= ALL_MS;
}

/* As much as there is room for, and a zero behind it; 0: none. */
static size_t read_some(const char *path, char *out, size_t room)
{
	tr_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n;

	while (fd >= 0 && used + 1 < room &&
	       (n = read(fd, out + used, room - used - 1)) > 0)
		used += (size_t)n;
	out[used] = '\0';
	return used;
}

static bool has_name(const char *pid, const char *file, const char *name)
{
	static char text[65536];
	char path[64];
	size_t n;

	(void)snprintf(path, sizeof(path), "/proc/%.16s/%s", pid, file);
	n = read_some(path, text, sizeof(text));
	return memmem(text, n, name, strlen(name)) != NULL;
}

/* The letter of its state; 'X': it is gone. */
static char state_of(const char *pid, const char *tid, FILE *out)
{
	char path[80], stat[512], wait[64] = "";
	const char *end;

	(void)snprintf(path, sizeof(path), "/proc/%.16s/task/%.16s/stat", pid, tid);
	(void)read_some(path, stat, sizeof(stat));
	end = strrchr(stat, ')'); /* its name may hold anything */
	if (!end || end[1] != ' ')
		return 'X';
	(void)snprintf(path, sizeof(path), "/proc/%.16s/task/%.16s/wchan", pid, tid);
	(void)read_some(path, wait, sizeof(wait));
	if (out)
		(void)fprintf(out, "  %s: %.*s %s\n", pid, (int)(end - stat) + 3, stat,
			      wait);
	return end[2];
}

static unsigned count_threads(const char *pid, FILE *out)
{
	const struct dirent *entry;
	unsigned runnable = 0;
	char path[64];
	DIR *tasks;

	(void)snprintf(path, sizeof(path), "/proc/%.16s/task", pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		char state = isdigit((unsigned char)entry->d_name[0])
				     ? state_of(pid, entry->d_name, out)
				     : 'X';

		runnable += state == 'R' || state == 'D';
	}
	if (tasks)
		(void)closedir(tasks);
	return runnable;
}

unsigned tr_runnable_threads(const char *name, FILE *out)
{
	DIR *processes = opendir("/proc");
	const struct dirent *entry;
	unsigned runnable = 0;

	while (processes && (entry = readdir(processes))) {
		const char *pid = entry->d_name;

		if (isdigit((unsigned char)pid[0]) && atoi(pid) != getpid() &&
		    (has_name(pid, "environ", name) || has_name(pid, "cmdline", name)))
			runnable += count_threads(pid, out);
	}
	if (processes)
		(void)closedir(processes);
	return runnable;
}
