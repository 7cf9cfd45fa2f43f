/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "deviceplugin/report/view.h"
#include "rt/cleanup.h"

/* A file of /proc, which has no size. */
static void read_text(const char *path, char *out, size_t room)
{
	tr_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, room - 1);

	out[n > 0 ? n : 0] = '\0';
}

static uint64_t kib_after(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

static uint64_t count_fds(void)
{
	DIR *entries = opendir("/proc/self/fd");
	const struct dirent *entry;
	uint64_t n = 0;

	while (entries && (entry = readdir(entries)))
		n += entry->d_name[0] != '.';
	if (entries)
		(void)closedir(entries);
	return n ? n - 1 : 0; /* without the one that looks */
}

static int64_t find_start(void)
{
	char text[1024];
	const char *at;
	unsigned long long ticks;
	struct timespec up, now;
	long hz = sysconf(_SC_CLK_TCK);

	read_text("/proc/self/stat", text, sizeof(text));
	/* The name may hold anything; after its last bracket the 20th word is when it started. */
	at = strrchr(text, ')');
	for (int i = 0; at && i < 20; i++)
		at = strchr(at + 1, ' ');
	ticks = at ? strtoull(at, NULL, 10) : 0;
	if (!ticks || hz <= 0 || clock_gettime(CLOCK_BOOTTIME, &up) < 0 ||
	    clock_gettime(CLOCK_REALTIME, &now) < 0)
		return 0;
	return (int64_t)now.tv_sec - (int64_t)up.tv_sec +
	       (int64_t)(ticks / (unsigned long)hz);
}

void tr_report_process_read(struct tr_report_process *out)
{
	static int64_t started; /* once: the clock may be set */
	struct rlimit files = { 0 };
	struct timespec cpu = { 0 };
	char text[4096];

	if (!started)
		started = find_start();
	read_text("/proc/self/status", text, sizeof(text));
	(void)getrlimit(RLIMIT_NOFILE, &files);
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	*out = (struct tr_report_process){
		.cpu_ns = (uint64_t)cpu.tv_sec * UINT64_C(1000000000) +
			  (uint64_t)cpu.tv_nsec,
		.resident_bytes = kib_after(text, "VmRSS:"),
		.anonymous_bytes = kib_after(text, "RssAnon:"),
		.virtual_bytes = kib_after(text, "VmSize:"),
		.open_fds = count_fds(),
		.max_fds = files.rlim_cur,
		.started_unix_s = started,
	};
}
