/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim-watch --every-us N --for-us N: who had the GPUs of the machine ($TRANCHE_SIM), one line of
 * JSON for each step, by the machine's own books:
 *   {"now_ns":N,"devices":[{"device":0,"busy_ns":N}],
 *    "processes":[{"device":0,"pid":P,"busy_ns":N,"kernels":N}]}
 * A program of its own, not a part of sim-ctl: that one is static, and on a virtual clock it
 * would see real time. Steps are the machine's time.
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

static int print_step(void)
{
	static struct rm_busy_row rows[ROWS_MAX];
	size_t n = ROWS_MAX;
	uint64_t at_ns;
	int r = rm_busy_all(rows, &n, &at_ns);

	if (r != 0)
		return r;
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

int main(int argc, char **argv)
{
	uint64_t every_ns = 10000000, for_ns = 10000000000u, start_ns;
	int r;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--every-us") == 0)
			every_ns = strtoull(argv[i + 1], NULL, 10) * 1000;
		else if (strcmp(argv[i], "--for-us") == 0)
			for_ns = strtoull(argv[i + 1], NULL, 10) * 1000;
		else
			argc = 0;
	}
	if (argc % 2 == 0 || every_ns == 0) {
		fputs("usage: sim-watch [--every-us N] [--for-us N]\n", stderr);
		return 2;
	}
	r = rm_open();
	if (r == 0)
		r = rm_time_open();
	setvbuf(stdout, NULL, _IOFBF, BUFFER_BYTES);
	start_ns = now_ns();
	for (uint64_t at_ns = 0; r == 0 && at_ns <= for_ns; at_ns += every_ns) {
		sleep_until(start_ns + at_ns);
		r = print_step();
	}
	if (r == 0 && fflush(stdout) != 0)
		r = -errno;
	return r ? fail(r) : 0;
}
