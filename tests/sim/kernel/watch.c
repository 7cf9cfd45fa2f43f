/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim-watch [--every-us N] [--for-us N] [--looks]: who had the GPUs of the machine ($TRANCHE_SIM), one line of
 * JSON for each step, by the machine's own books:
 *   {"now_ns":N,"devices":[{"device":0,"busy_ns":N}],
 *    "processes":[{"device":0,"pid":P,"busy_ns":N,"kernels":N}]}
 * A program of its own, not a part of sim-ctl: that one is static, and on a virtual clock it
 * would see real time. Steps are the machine's time. On a virtual clock the machine writes the steps
 * down and this program fetches them now and then; with --looks it wakes up for each, and sees the
 * same.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rm/inspect.h"
#include "rm/rm.h"
#include "rm/time.h"

#define ROWS_MAX     4096
#define FETCH_NS     1000000000u /* of the clock, between two looks at what was written down */
#define BUFFER_BYTES (8u << 10)

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t at_ns)
{
	const struct timespec t = { .tv_sec = (time_t)(at_ns / 1000000000u),
				    .tv_nsec = (long)(at_ns % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static int fail(int r)
{
	fprintf(stderr, "sim-watch: %s\n", rm_reason()[0] ? rm_reason() : strerror(-r));
	return 1;
}

/* The rows of one instant, devices with pid 0. */
static void print_rows(const struct rm_busy_row *rows, size_t n, bool processes)
{
	const char *comma = "";

	for (size_t i = 0; i < n; i++) {
		if ((rows[i].pid != 0) != processes)
			continue;
		printf("%s{\"device\":%" PRIu32, comma, rows[i].device);
		if (processes)
			printf(",\"pid\":%d", rows[i].pid);
		printf(",\"busy_ns\":%" PRIu64, rows[i].busy_ns);
		if (processes)
			printf(",\"kernels\":%" PRIu64, rows[i].kernels);
		putchar('}');
		comma = ",";
	}
}

static int print_step(uint64_t at_ns, const struct rm_busy_row *rows, size_t n)
{
	printf("{\"now_ns\":%" PRIu64 ",\"devices\":[", at_ns);
	print_rows(rows, n, false);
	fputs("],\"processes\":[", stdout);
	print_rows(rows, n, true);
	puts("]}");
	/* on a virtual clock nobody can read a line at its time: many at once cost less */
	if (!rm_time_is_virtual())
		fflush(stdout);
	return ferror(stdout) ? -EPIPE : 0;
}

static int look(void)
{
	static struct rm_busy_row rows[ROWS_MAX];
	size_t n = ROWS_MAX;
	uint64_t at_ns;
	int r = rm_busy_all(rows, &n, &at_ns);

	return r != 0 ? r : print_step(at_ns, rows, n);
}

/* Prints what was written down until now. All rows of an instant are there, or none. */
static int fetch(void)
{
	static struct rm_busy_row rows[ROWS_MAX];
	static struct rm_record records[ROWS_MAX];
	uint64_t at_ns = 0;
	size_t n, held = 0;
	int r;

	do {
		n = ROWS_MAX;
		r = rm_recorded(records, &n);
		for (size_t i = 0; r == 0 && i < n; i++) {
			if (held > 0 && records[i].at_ns != at_ns) {
				r = print_step(at_ns, rows, held);
				held = 0;
			}
			at_ns = records[i].at_ns;
			if (held < ROWS_MAX)
				rows[held++] = records[i].row;
		}
	} while (r == 0 && n == ROWS_MAX);
	return r == 0 && held > 0 ? print_step(at_ns, rows, held) : r;
}

static int watch_by_looks(uint64_t start_ns, uint64_t every_ns, uint64_t for_ns)
{
	int r = 0;

	for (uint64_t at_ns = 0; r == 0 && at_ns <= for_ns; at_ns += every_ns) {
		sleep_until(start_ns + at_ns);
		r = look();
	}
	return r;
}

static int watch_recorded(uint64_t start_ns, uint64_t every_ns, uint64_t for_ns)
{
	uint64_t count = for_ns / every_ns, chunk = FETCH_NS / every_ns;
	int r = count > UINT32_MAX ? -EINVAL : look();

	chunk += chunk == 0;
	if (r == 0)
		r = rm_record(start_ns + every_ns, every_ns, (uint32_t)count);
	for (uint64_t i = 0; r == 0 && i < count;) {
		i = i + chunk < count ? i + chunk : count;
		sleep_until(start_ns + i * every_ns);
		r = fetch();
	}
	return r;
}

int main(int argc, char **argv)
{
	uint64_t every_ns = 10000000, for_ns = 10000000000u, start_ns;
	bool is_wrong = false, looks = false;
	int r;

	for (int i = 1; i < argc; i++) {
		uint64_t *to = strcmp(argv[i], "--every-us") == 0 ? &every_ns
			       : strcmp(argv[i], "--for-us") == 0 ? &for_ns
								  : NULL;

		if (to && i + 1 < argc)
			*to = strtoull(argv[++i], NULL, 10) * 1000;
		else if (strcmp(argv[i], "--looks") == 0)
			looks = true;
		else
			is_wrong = true;
	}
	if (is_wrong || every_ns == 0) {
		fputs("usage: sim-watch [--every-us N] [--for-us N] [--looks]\n", stderr);
		return 2;
	}
	r = rm_open();
	if (r == 0)
		r = rm_time_open();
	setvbuf(stdout, NULL, _IOFBF, BUFFER_BYTES);
	start_ns = now_ns();
	if (r == 0)
		r = looks || !rm_time_is_virtual()
			    ? watch_by_looks(start_ns, every_ns, for_ns)
			    : watch_recorded(start_ns, every_ns, for_ns);
	if (r == 0 && fflush(stdout) != 0)
		r = -errno;
	return r ? fail(r) : 0;
}
