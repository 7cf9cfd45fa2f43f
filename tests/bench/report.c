/* SPDX-License-Identifier: Apache-2.0 */
/* The table and the JSON lines. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *json;
static bool is_markdown;
static unsigned missed, rows;

#define CACHES                                                                            \
	"more than on the stub: most likely lines that the driver's own work drives out " \
	"of the cache"
#define THREADS_NOISE "± is larger than what is missed; the bare driver varies by as much"
#define THREADS_SHARE                                                                    \
	"eight threads on two cores add to one word, their process' own; the slice has " \
	"no "                                                                            \
	"second word per process to spread them over"
#define ROUND_TRIP "the call asks another process; its noise is larger than the limit"

/* Why a number is missed, known from looking; shown only where it is. */
static const struct {
	const char *id, *driver, *why;
} reasons[] = {
	{ "pair.1M", "stub",
	  "the entry of a table of 32 MiB comes from memory, not from a cache" },
	{ "pair.1", "sim", CACHES },
	{ "pair.20k", "sim", CACHES },
	{ "pair.1M", "sim", CACHES },
	{ "pair.1.t8", "stub", THREADS_SHARE },
	{ "pair.20k.t8", "stub", THREADS_SHARE },
	{ "pair.1M.t8", "stub", THREADS_SHARE },
	{ "pair.1.t8", "sim", THREADS_NOISE },
	{ "pair.20k.t8", "sim", THREADS_NOISE },
	{ "pair.1M.t8", "sim", THREADS_NOISE },
	{ "told.cuda", "sim", ROUND_TRIP },
	{ "told.nvml", "sim", ROUND_TRIP },
	{ "told.nvml2", "sim", ROUND_TRIP },
	{ "storm", "stub",
	  "256 first cuInits share the cores: what one adds, 256 times over" },
	{ "resident.base", "stub",
	  "half of it are shared pages of the state file: a slot has words for 16 "
	  "devices" },
};

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), by_size);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

void bench_report_open(const char *json_path, bool markdown)
{
	is_markdown = markdown;
	json = json_path ? fopen(json_path, "we") : NULL;
	if (json_path && !json)
		perror(json_path);
	if (markdown) {
		printf("| What | Driver | Bare | With ours | Added | ± | At most | |\n"
		       "|---|---|---:|---:|---:|---:|---:|---|\n");
		return;
	}
	printf("%-50s %-6s %10s %10s %10s %10s %10s\n", "what", "driver", "bare",
	       "with ours", "added", "+-", "at most");
}

/* A number as people read it: 12.3 ns, 101 us, 1.05 x, 88.2 KiB. */
static const char *show(char out[24], double value, const char *unit)
{
	double size = value < 0 ? -value : value;

	if (strcmp(unit, "ns") == 0 && size >= 1e6)
		(void)snprintf(out, 24, "%.1f ms", value / 1e6);
	else if (strcmp(unit, "ns") == 0 && size >= 1e4)
		(void)snprintf(out, 24, "%.1f us", value / 1e3);
	else if (strcmp(unit, "B") == 0 && size >= 1024)
		(void)snprintf(out, 24, "%.1f KiB", value / 1024);
	else if (strcmp(unit, "x") == 0)
		(void)snprintf(out, 24, "%.2f x", value);
	else
		(void)snprintf(out, 24, "%.1f %s", value, unit);
	return out;
}

static const char *find_reason(const struct bench_result *r)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++)
		if (strcmp(reasons[i].id, r->id) == 0 &&
		    strcmp(reasons[i].driver, r->driver) == 0)
			return reasons[i].why;
	return "not looked into";
}

static void write_json(const struct bench_result *r, bool is_missed)
{
	static const char *const kinds[] = { "difference", "ratio", "size" };

	fprintf(json,
		"{\"row\":\"%s\",\"what\":\"%s\",\"driver\":\"%s\",\"kind\":\"%s\","
		"\"unit\":\"%s\","
		"\"repetitions\":%u,\"ours\":%.3f,\"added\":%.3f,\"at_most\":%.3f,"
		"\"spread\":%.3f,\"missed\":%s",
		r->id, r->what, r->driver, kinds[r->kind], r->unit, r->repetitions,
		r->of[BENCH_OURS], r->added[BENCH_OURS], r->at_most, r->spread,
		is_missed ? "true" : "false");
	if (r->kind != BENCH_SIZE)
		fprintf(json, ",\"bare\":%.3f", r->of[BENCH_BARE]);
	if (r->has_peer)
		fprintf(json, ",\"peer\":%.3f,\"peer_added\":%.3f", r->of[BENCH_PEER],
			r->added[BENCH_PEER]);
	if (is_missed)
		fprintf(json, ",\"reason\":\"%s\"", find_reason(r));
	fprintf(json, "}\n");
	fflush(json);
}

void bench_report(const struct bench_result *r)
{
	const char *added_unit = r->kind == BENCH_RATIO ? "x" : r->unit;
	bool is_missed = r->added[BENCH_OURS] > r->at_most;
	char bare[24] = "", ours[24], added[24], at_most[24], spread[24], peer[24];
	char note[320] = "";

	if (r->kind != BENCH_SIZE)
		show(bare, r->of[BENCH_BARE], r->unit);
	show(ours, r->of[BENCH_OURS], r->unit);
	show(added, r->added[BENCH_OURS], added_unit);
	show(at_most, r->at_most, added_unit);
	show(spread, r->spread, added_unit);
	if (is_missed)
		(void)snprintf(note, sizeof(note), "MISSED: %s", find_reason(r));
	if (r->has_peer) {
		size_t n = strlen(note);

		(void)snprintf(note + n, sizeof(note) - n, "%speer adds %s", n ? "; " : "",
			       show(peer, r->added[BENCH_PEER], added_unit));
	}
	if (is_markdown)
		printf("| %s | %s | %s | %s | %s | %s | %s | %s |\n", r->what, r->driver,
		       bare, ours, added, spread, at_most, note);
	else
		printf("%-50s %-6s %10s %10s %10s %10s %10s  %s\n", r->what, r->driver,
		       bare, ours, added, spread, at_most, note);
	fflush(stdout);
	rows++;
	missed += is_missed;
	if (json)
		write_json(r, is_missed);
}

unsigned bench_report_close(void)
{
	if (json)
		fclose(json);
	if (!is_markdown)
		printf("%u numbers, %u missed\n", rows, missed);
	return missed;
}
