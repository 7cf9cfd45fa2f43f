/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: what the hook costs, against the bare driver in the same run.
 *   --worker PATH --ours LIBRARY [--stripped LIBRARY] --driver NAME=DIRECTORY...
 *   [--peer LIBRARY] [--json FILE] [--markdown] [--scale PERCENT] [--only ID]
 * Exit status: 0 when everything was measured (missed numbers included), 1 otherwise, 2 for
 * a wrong request.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

static struct bench bench = { .scale = 100 };

static int add_driver(const char *text)
{
	const char *equals = strchr(text, '=');
	struct bench_driver *driver = &bench.drivers[bench.driver_count];

	if (!equals || bench.driver_count == BENCH_DRIVERS_MAX ||
	    (size_t)(equals - text) >= sizeof(driver->name) ||
	    strlen(equals + 1) >= sizeof(driver->libraries))
		return -1;
	memcpy(driver->name, text, (size_t)(equals - text));
	strcpy(driver->libraries, equals + 1);
	bench.driver_count++;
	return 0;
}

static int set_path(char room[static 512], const char *path)
{
	if (access(path, R_OK) < 0 || strlen(path) >= 512) {
		perror(path);
		return -1;
	}
	strcpy(room, path);
	return 0;
}

static int set_scale(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || n < 1 || n > 100)
		return -1;
	bench.scale = (unsigned)n;
	return 0;
}

static int usage(void)
{
	fprintf(stderr, "bench --worker PATH --ours LIBRARY [--stripped LIBRARY] "
			"--driver NAME=DIRECTORY...\n"
			"      [--peer LIBRARY] [--json FILE] [--markdown] [--scale "
			"1..100] [--only ID]\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "worker", 1, NULL, 'w' },   { "ours", 1, NULL, 'o' },
		{ "stripped", 1, NULL, 's' }, { "driver", 1, NULL, 'd' },
		{ "peer", 1, NULL, 'p' },     { "json", 1, NULL, 'j' },
		{ "markdown", 0, NULL, 'm' }, { "scale", 1, NULL, 'c' },
		{ "only", 1, NULL, 'y' },     { 0 }
	};
	const char *json = NULL;
	bool markdown = false;
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'w')
			r = set_path(bench.worker, optarg);
		else if (c == 'o')
			r = set_path(bench.ours, optarg);
		else if (c == 's')
			r = set_path(bench.stripped, optarg);
		else if (c == 'd')
			r = add_driver(optarg);
		else if (c == 'p')
			r = set_path(bench.peer, optarg);
		else if (c == 'j')
			json = optarg;
		else if (c == 'y')
			bench.only = optarg;
		else if (c == 'm')
			markdown = true;
		else if (c == 'c')
			r = set_scale(optarg);
		else
			r = -1;
	}
	if (r < 0 || optind != argc || !bench.worker[0] || !bench.ours[0] ||
	    !bench.driver_count)
		return usage();
	if (!bench.stripped[0])
		strcpy(bench.stripped, bench.ours);
	r = bench_open(&bench);
	if (r == 0) {
		bench_report_open(json, markdown);
		r = bench_rows(&bench);
		bench_report_close();
	}
	bench_close(&bench);
	return r ? 1 : 0;
}
