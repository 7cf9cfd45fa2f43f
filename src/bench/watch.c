/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/watch.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/silence.h"
#include "rt/cleanup.h"
#include "rt/file.h"

#define LINE_BYTES    (1u << 20)
#define LOOK_MS       1000 /* of real time: how often a silent machine is looked at */
#define START_WAIT_NS UINT64_C(60000000000)

static int add_sample(struct tr_series *series, const struct tr_sample *sample,
		      struct tr_err *err)
{
	if ((series->count & (series->count + 1)) == 0) { /* full at 0, 1, 3, 7, ... */
		size_t room = 2 * (size_t)series->count + 1;
		void *grown = realloc(series->samples, room * sizeof(*series->samples));

		if (!grown)
			return tr_fail(err, ENOMEM, "no memory for %zu samples", room);
		series->samples = grown;
	}
	series->samples[series->count++] = *sample;
	return 0;
}

/* Books that cannot be: nobody gets less than he had, or more than all of the time since. */
static int check_books(const struct tr_scene *scene, const struct tr_series *series,
		       struct tr_err *err)
{
	for (unsigned i = 1; i < series->count; i++) {
		const struct tr_sample *a = &series->samples[i - 1], *b = a + 1;
		uint64_t gone_ns = b->at_ns - a->at_ns;

		for (unsigned p = 0; p < scene->party_count; p++)
			for (unsigned d = 0; d < scene->gpus; d++)
				if (b->busy_ns[p][d] < a->busy_ns[p][d] ||
				    b->busy_ns[p][d] - a->busy_ns[p][d] >
					    gone_ns + scene->step_ns)
					return tr_fail(
						err, EBADMSG,
						"tenant %u had %llu us of GPU %u in all, "
						"and "
						"%llu us %llu us later",
						p,
						(unsigned long long)a->busy_ns[p][d] / 1000,
						d,
						(unsigned long long)b->busy_ns[p][d] / 1000,
						(unsigned long long)gone_ns / 1000);
	}
	return 0;
}

/* The window begins warm_ns after the first sample. */
static int find_window(const struct tr_scene *scene, struct tr_series *series,
		       struct tr_err *err)
{
	while (series->first < series->count &&
	       series->samples[series->first].at_ns <
		       series->samples[0].at_ns + scene->warm_ns)
		series->first++;
	if (series->count < series->first + 2)
		return tr_fail(err, EIO, "the machine was watched %u times, too few",
			       series->count);
	return 0;
}

/* Whose worker PID is; -1: nobody's. */
static int party_of(const struct tr_scene *scene, const struct tr_series *series, int pid)
{
	for (unsigned i = 0; i < scene->party_count; i++)
		for (unsigned w = 0; w < scene->parties[i].processes; w++)
			if (atomic_load(&series->pages[i]->workers[w].pid) == pid)
				return (int)i;
	return -1;
}

/* The number behind NAME in TEXT, before END; false: there is none. */
static bool find_number(const char *text, const char *end, const char *name,
			unsigned long long *out)
{
	const char *at = strstr(text, name);

	if (!at || at >= end || at[strlen(name)] < '0' || at[strlen(name)] > '9')
		return false;
	*out = strtoull(at + strlen(name), NULL, 10);
	return true;
}

/* One row of `processes`. */
static bool take_row(const char *row, const char *end, const struct tr_scene *scene,
		     const struct tr_series *series, struct tr_sample *sample)
{
	unsigned long long device, pid, busy_ns;
	int party;

	if (!find_number(row, end, "\"device\":", &device) ||
	    !find_number(row, end, "\"pid\":", &pid) ||
	    !find_number(row, end, "\"busy_ns\":", &busy_ns))
		return false;
	party = party_of(scene, series, (int)pid);
	if (party >= 0 && device < TR_BENCH_DEVICES)
		sample->busy_ns[party][device] += busy_ns;
	return true;
}

/* Many lines come for each second of the simulated clock: they are looked through, not parsed. */
static int take_line(const char *line, const struct tr_scene *scene,
		     struct tr_series *series, struct tr_err *err)
{
	const char *end = line + strlen(line), *row = strstr(line, "\"processes\":[");
	struct tr_sample sample = { 0 };
	unsigned long long now_ns;
	bool is_good = row && end[-1] == '}' &&
		       find_number(line, row, "{\"now_ns\":", &now_ns);

	while (is_good && (row = strchr(row, '{'))) {
		const char *row_end = strchr(row, '}');

		is_good = row_end && take_row(row, row_end, scene, series, &sample);
		row = row_end;
	}
	if (!is_good)
		return tr_fail(err, EBADMSG, "sim-watch: no books in \"%.60s\"", line);
	sample.at_ns = now_ns;
	return add_sample(series, &sample, err);
}

/* Takes the whole lines of TEXT; returns how many bytes are left, moved to the front. */
static int take_lines(char *text, size_t *used, const struct tr_scene *scene,
		      struct tr_series *series, struct tr_err *err)
{
	char *line = text, *end;
	int r = 0;

	text[*used] = '\0';
	while (r == 0 && (end = strchr(line, '\n'))) {
		*end = '\0';
		r = take_line(line, scene, series, err);
		line = end + 1;
	}
	*used -= (size_t)(line - text);
	memmove(text, line, *used);
	return r;
}

static int tell_silence(const struct tr_silence *silence, const char *machine,
			const struct tr_series *series, struct tr_err *err)
{
	(void)fprintf(stderr, "tranche: bench: what is on %s:\n", machine);
	(void)tr_runnable_threads(machine, stderr);
	return tr_fail(err, ETIMEDOUT,
		       "the simulated machine stands still after %u samples: asleep for "
		       "%llu of %llu s",
		       series->count, (unsigned long long)silence->asleep_ms / 1000,
		       (unsigned long long)silence->all_ms / 1000);
}

/* Until FD has something. */
static int await_line(int fd, const char *machine, const struct tr_series *series,
		      struct tr_err *err)
{
	struct tr_silence silence = { 0 };
	struct pollfd ready = { fd, POLLIN, 0 };

	while (poll(&ready, 1, LOOK_MS) == 0)
		if (tr_silence_is_over(&silence, LOOK_MS,
				       tr_runnable_threads(machine, NULL) > 0))
			return tell_silence(&silence, machine, series, err);
	return 0;
}

int tr_watch_simulator(int fd, const char *machine, const struct tr_scene *scene,
		       struct tr_series *series, struct tr_err *err)
{
	static char text[LINE_BYTES + 1];
	size_t used = 0;
	int r = 0;

	while (r == 0) {
		ssize_t n;

		if (used == LINE_BYTES)
			return tr_fail(err, EBADMSG, "sim-watch: a line without end");
		r = await_line(fd, machine, series, err);
		if (r < 0)
			return r;
		n = read(fd, text + used, LINE_BYTES - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return tr_fail_errno(err, "sim-watch");
		if (n == 0)
			break;
		used += (size_t)n;
		r = take_lines(text, &used, scene, series, err);
	}
	if (r == 0)
		r = check_books(scene, series, err);
	return r < 0 ? r : find_window(scene, series, err);
}

/* ---- a real GPU -------------------------------------------------------------------------- */

static bool all_ready(const struct tr_scene *scene, const struct tr_series *series)
{
	for (unsigned i = 0; i < scene->party_count; i++)
		for (unsigned w = 0; w < scene->parties[i].processes; w++)
			if (atomic_load(&series->pages[i]->workers[w].state) !=
			    TR_BENCH_READY)
				return false;
	return true;
}

static bool any_failed(const struct tr_scene *scene, const struct tr_series *series)
{
	for (unsigned i = 0; i < scene->party_count; i++)
		for (unsigned w = 0; w < scene->parties[i].processes; w++)
			if (atomic_load(&series->pages[i]->workers[w].state) ==
			    TR_BENCH_FAILED)
				return true;
	return false;
}

static void read_party(struct tr_sample *out, unsigned party,
		       const struct tr_bench_page *page, unsigned processes)
{
	for (unsigned w = 0; w < processes; w++)
		for (unsigned d = 0; d < TR_BENCH_DEVICES; d++)
			for (unsigned lane = 0; lane < TR_BENCH_LANES; lane++)
				out->busy_ns[party][d] +=
					1000 * (uint64_t)atomic_load(
						       &page->workers[w].done_us[d][lane]);
}

int tr_watch_pages(const struct tr_scene *scene, struct tr_series *series,
		   struct tr_err *err)
{
	uint64_t start_ns = tr_clock_ns(), at_ns;
	int r = 0;

	while (!all_ready(scene, series) && !any_failed(scene, series) &&
	       tr_clock_ns() < start_ns + START_WAIT_NS)
		tr_sleep_ns(5000000);
	start_ns = at_ns = tr_clock_ns();
	while (r == 0 && !any_failed(scene, series) &&
	       at_ns < start_ns + scene->warm_ns + scene->window_ns) {
		struct tr_sample sample = { 0 };

		tr_sleep_ns(scene->step_ns);
		for (unsigned i = 0; i < scene->party_count; i++)
			read_party(&sample, i, series->pages[i],
				   scene->parties[i].processes);
		at_ns = sample.at_ns = tr_clock_ns();
		r = add_sample(series, &sample, err);
	}
	if (r == 0 && !any_failed(scene, series))
		r = find_window(scene, series, err);
	return r;
}
