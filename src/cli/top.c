/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/view.h"
#include "rt/bytes.h"
#include "rt/sat.h"

#define BAR_WIDTH 24

static volatile sig_atomic_t must_end;

static void note_end(int signal)
{
	(void)signal;
	must_end = 1;
}

static void print_bar(uint64_t used, uint64_t limit)
{
	unsigned filled = limit ? (unsigned)((unsigned __int128)used * BAR_WIDTH / limit)
				: 0;

	(void)putchar('[');
	for (unsigned i = 0; i < BAR_WIDTH; i++)
		(void)putchar(i < filled ? '#' : '.');
	(void)putchar(']');
}

static void print_device(const struct tr_view_device *device)
{
	uint64_t used = tr_sat_add(device->use.used_bytes, device->use.overhead_bytes);
	char limit[TR_BYTES_TEXT], text[TR_BYTES_TEXT], peak[TR_BYTES_TEXT];

	tr_bytes_print(limit, device->limit_bytes);
	tr_bytes_print(text, used);
	tr_bytes_print(peak, device->use.peak_bytes);
	(void)printf("  %.12s ", device->uuid);
	print_bar(used, device->limit_bytes);
	(void)printf(" %s of %s, peak %s, %llu refused\n", text, limit, peak,
		     (unsigned long long)device->use.refused);
}

static void print_picture(void)
{
	struct tr_view view;
	time_t now = time(NULL);
	struct tm local;
	char clock[32];

	if (tr_view_take(&view) < 0)
		return;
	(void)localtime_r(&now, &local);
	(void)strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	(void)printf("tranche top  %s  %zu slice%s\n\n", clock, view.count,
		     view.count == 1 ? "" : "s");
	for (size_t i = 0; i < view.count; i++) {
		const struct tr_view_slice *slice = &view.slices[i];

		(void)printf("%s%s\n", slice->name,
			     slice->is_alive ? "" : "  (its `run` is gone)");
		for (unsigned d = 0; d < slice->device_count; d++)
			print_device(&slice->devices[d]);
		for (unsigned p = 0; p < slice->process_count; p++) {
			char bytes[TR_BYTES_TEXT];

			tr_bytes_print(bytes, slice->processes[p].bytes);
			(void)printf("  %8d %-15s %12s\n", (int)slice->processes[p].pid,
				     slice->processes[p].comm, bytes);
		}
	}
	tr_view_free(&view);
	(void)fflush(stdout);
}

/* Waits for the next picture; true when the user pressed q. */
static bool wait_key(double seconds)
{
	struct pollfd key = { STDIN_FILENO, POLLIN, 0 };
	char c;

	if (poll(&key, 1, (int)(seconds * 1000)) <= 0)
		return false;
	if (read(STDIN_FILENO, &c, 1) != 1)
		return true;
	return c == 'q' || c == 'Q' || c == 3;
}

static void watch(double seconds)
{
	struct sigaction end = { .sa_handler = note_end };
	struct termios old, raw;

	(void)sigaction(SIGINT, &end, NULL);
	(void)sigaction(SIGTERM, &end, NULL);
	(void)sigaction(SIGHUP, &end, NULL);
	if (tcgetattr(STDIN_FILENO, &old) < 0)
		return;
	raw = old;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	(void)printf("\033[?1049h\033[?25l"); /* the other screen, no cursor */
	while (!must_end) {
		(void)printf("\033[H\033[2J");
		print_picture();
		if (wait_key(seconds))
			break;
	}
	(void)printf("\033[?25h\033[?1049l");
	(void)fflush(stdout);
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &old);
}

int tr_cli_top(int argc, char **argv)
{
	const char *interval = "1";
	bool is_once = false;
	struct tr_option options[] = { { "interval", &interval, NULL },
				       { "once", NULL, &is_once } };
	struct tr_args args;
	struct tr_err err = { 0 };
	double seconds = 0;
	char *end;
	int r = tr_args_parse(&args, argc, argv, options, TR_COUNT(options), true, &err);

	if (r == 0 && args.rest_count)
		r = tr_fail(&err, EINVAL, "top takes no \"%s\"", args.rest[0]);
	if (r == 0) {
		seconds = strtod(interval, &end);
		if (end == interval || *end || !(seconds >= 0.1 && seconds <= 3600))
			r = tr_fail(&err, EINVAL, "--interval \"%s\": 0.1 to 3600 seconds",
				    interval);
	}
	if (r < 0)
		return tr_cli_usage(&err, r);
	if (is_once || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		print_picture();
	else
		watch(seconds);
	return 0;
}
