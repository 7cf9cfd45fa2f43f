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
#include "rt/file.h"
#include "rt/sat.h"

#define BAR_WIDTH 24

static volatile sig_atomic_t must_end;

static void note_end(int signal)
{
	(void)signal;
	must_end = 1;
}

/* What happened on one device between two pictures, in parts of that time. */
struct rates {
	double gpu, waited;
};

static double part(uint64_t now, uint64_t before, uint64_t ns)
{
	/* Counters are the tenants': they may go backwards. */
	return ns ? (double)tr_sat_sub(now, before) / (double)ns : 0;
}

/* Of one device nobody has more than all of it; but charges come in when submissions end, so that an
 * interval can get more of them than it is long. */
static double share(double part)
{
	return part < 1 ? part : 1;
}

static struct rates rates_between(const struct tr_view_slice *old,
				  const struct tr_view_slice *new, unsigned d)
{
	const struct tr_view_time *now = &new->devices[d].time;
	const struct tr_view_time *before = &old->devices[d].time;
	uint64_t ns = tr_sat_sub(new->at_ns, old->at_ns);

	return (struct rates){ share(part(now->gpu_ns, before->gpu_ns, ns)),
			       part(now->throttled_ns, before->throttled_ns, ns) };
}

/* The whole width is the whole device. # guaranteed, + borrowed, | where the guarantee ends. */
static void print_share_bar(double gpu, double rate)
{
	for (unsigned i = 0; i < BAR_WIDTH; i++) {
		double at = (i + 0.5) / BAR_WIDTH;
		bool is_end = rate < 1 && (unsigned)(rate * BAR_WIDTH) == i;

		(void)putchar(at < gpu ? is_end      ? '|'
					 : at < rate ? '#'
						     : '+'
			      : is_end ? '|'
				       : '.');
	}
}

static void print_time(const struct tr_view_device *device, const struct rates *rates)
{
	double rate = tr_cores_tenths(device->share.rate_q32) / 1000.0;
	char cores[TR_CORES_TEXT];

	tr_cores_print(cores, device->share.rate_q32, device->share.rate_max_q32);
	(void)printf("  %-12s [", "GPU time");
	print_share_bar(rates ? rates->gpu : 0, rate);
	if (rates)
		(void)printf("] %5.1f%% of %s%%", rates->gpu * 100, cores);
	else
		(void)printf("]     -  of %s%%", cores);
	if (rates && rates->gpu - rate >= 0.0005 && /* shown as 0.1% */
	    device->share.rate_max_q32 > device->share.rate_q32)
		(void)printf(", %.1f%% borrowed", (rates->gpu - rate) * 100);
	if (rates)
		(void)printf(", waited %.1f%%", rates->waited * 100);
	(void)printf(", %.1f GPU-s", (double)device->time.gpu_ns / 1e9);
	if (device->share.priority)
		(void)printf(", %s priority", tr_priority_name(device->share.priority));
	if (device->share.is_blocked)
		(void)printf(", held back");
	if (device->share.bypass_seen)
		(void)printf(", uncounted work seen %llu time%s%s",
			     (unsigned long long)device->share.bypass_seen,
			     device->share.bypass_seen == 1 ? "" : "s",
			     device->share.on_bypass == TR_BYPASS_LOWERED ? ": lowered"
									  : "");
	(void)putchar('\n');
}

/* Nobody counts: what NVML saw, from look to look of the keeper. */
static void print_seen(const struct tr_view_device *device,
		       const struct tr_view_device *old)
{
	uint64_t ns = old && old->nvml_seen_ns
			      ? tr_sat_sub(device->nvml_seen_ns, old->nvml_seen_ns)
			      : 0;
	double gpu = share(part(device->nvml_busy_ns, old ? old->nvml_busy_ns : 0, ns));

	if (!device->nvml_seen_ns)
		return;
	(void)printf("  %-12s [", "GPU by NVML");
	print_share_bar(gpu, 1);
	if (ns)
		(void)printf("] %5.1f%%, ", gpu * 100);
	else
		(void)printf("]     - , ");
	(void)printf("%.1f GPU-s\n", (double)device->nvml_busy_ns / 1e9);
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

static void print_process(const struct tr_view_slice *slice,
			  const struct tr_view_process *process)
{
	struct tr_view_time sum = { 0 };
	char bytes[TR_BYTES_TEXT];

	tr_bytes_print(bytes, process->bytes);
	(void)printf("  %8d %-15s %12s", (int)process->pid, process->comm, bytes);
	for (unsigned d = 0; d < slice->device_count; d++)
		tr_view_add_time(&sum, &process->time[d]);
	if (slice->is_armed)
		(void)printf(" %10.1f GPU-s %8.1f s waited", (double)sum.gpu_ns / 1e9,
			     (double)sum.throttled_ns / 1e9);
	(void)putchar('\n');
}

static void print_slice(const struct tr_view_slice *slice, const struct tr_view_slice *old)
{
	(void)printf("%s%s\n", slice->name, slice->is_alive ? "" : "  (its `run` is gone)");
	for (unsigned d = 0; d < slice->device_count; d++) {
		struct rates rates;

		print_device(&slice->devices[d]);
		if (old)
			rates = rates_between(old, slice, d);
		if (slice->is_armed)
			print_time(&slice->devices[d], old ? &rates : NULL);
		else
			print_seen(&slice->devices[d], old ? &old->devices[d] : NULL);
	}
	for (unsigned p = 0; p < slice->process_count; p++)
		print_process(slice, &slice->processes[p]);
}

/* VIEW, with what changed since OLD. */
static void print_picture(const struct tr_view *view, const struct tr_view *old)
{
	time_t now = time(NULL);
	struct tm local;
	char clock[32];

	(void)localtime_r(&now, &local);
	(void)strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	(void)printf("tranche top  %s  %zu slice%s\n\n", clock, view->count,
		     view->count == 1 ? "" : "s");
	for (size_t i = 0; i < view->count; i++)
		print_slice(&view->slices[i], tr_view_find(old, &view->slices[i]));
	(void)fflush(stdout);
}

static bool has_armed(const struct tr_view *view)
{
	for (size_t i = 0; i < view->count; i++)
		if (view->slices[i].is_armed)
			return true;
	return false;
}

/* One picture; shares of time need an interval to be of. */
static void print_once(double seconds)
{
	struct tr_view view, old = { 0 };

	if (tr_view_take(&view, true) < 0)
		return;
	if (has_armed(&view)) {
		old = view;
		tr_sleep_ns((uint64_t)(seconds * 1e9));
		if (tr_view_take(&view, false) < 0) /* it was said */
			view = (struct tr_view){ 0 };
	}
	print_picture(&view, &old);
	tr_view_free(&view);
	tr_view_free(&old);
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
	struct tr_view last = { 0 }, view;
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
		if (tr_view_take(&view, true) == 0) {
			print_picture(&view, &last);
			tr_view_free(&last);
			last = view;
		}
		if (wait_key(seconds))
			break;
	}
	tr_view_free(&last);
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
		if (end == interval || (*end && strcmp(end, "s") != 0) ||
		    !(seconds >= 0.1 && seconds <= 3600))
			r = tr_fail(&err, EINVAL, "--interval \"%s\": 0.1 to 3600 seconds",
				    interval);
	}
	if (r < 0)
		return tr_cli_usage(&err, r);
	if (is_once || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		print_once(seconds);
	else
		watch(seconds);
	return 0;
}
