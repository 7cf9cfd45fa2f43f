/* SPDX-License-Identifier: Apache-2.0 */
/* The environments in which the same programs run: bare, in a slice of ours, beside a peer.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "slice/page.h"
#include "slice/seat.h"

#define SERIAL 4711
#define LIMIT_BYTES \
	((uint64_t)8 << 30) /* more than a row needs, less than a device has \
					 */
#define EXTRA_MAX 8
#define HALF      (TR_RATE_ALL / 2)

static const char *const slice_names[BENCH_SLICES] = { "unarmed", "armed", "limited" };

/* Of the caller's environment stays what does not speak to a library that limits memory. */
static bool is_ours_to_set(const char *variable)
{
	static const char *const names[] = {
		"LD_PRELOAD=",         "LD_LIBRARY_PATH=",      "TRANCHE_POLICY=",
		"TRANCHE_TRACE=",      "TRANCHE_STUB_INIT_MS=", "CUDA_DEVICE_",
		"CUDA_TASK_PRIORITY=", "CUDA_DISABLE_CONTROL=", "GPU_CORE_UTILIZATION"
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strncmp(variable, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

static char **make_environment(char *const extra[], unsigned extra_count)
{
	size_t n = 0, kept = 0;
	char **all;

	while (environ[n])
		n++;
	all = calloc(n + extra_count + 1, sizeof(*all));
	if (!all)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (!is_ours_to_set(environ[i]))
			all[kept++] = environ[i];
	for (unsigned i = 0; i < extra_count; i++)
		all[kept++] = extra[i];
	return all;
}

static int add(char *extra[], unsigned *count, const char *name, const char *value)
{
	if (asprintf(&extra[*count], "%s=%s", name, value) < 0)
		return -1;
	(*count)++;
	return 0;
}

static void name_file(const struct bench *bench, const struct bench_driver *driver,
		      enum bench_slice slice, const char *ending, char path[static 160])
{
	(void)snprintf(path, 160, "%s/%s.%s.%s", bench->dir, driver->name,
		       slice_names[slice], ending);
}

static int open_slice(const struct bench *bench, struct bench_driver *driver,
		      enum bench_slice slice)
{
	char *extra[EXTRA_MAX], path[160];
	unsigned count = 0;
	int r = 0;

	if (driver->libraries[0])
		r |= add(extra, &count, "LD_LIBRARY_PATH", driver->libraries);
	name_file(bench, driver, slice, "policy", path);
	r |= add(extra, &count, "LD_PRELOAD", bench->ours);
	r |= add(extra, &count, "TRANCHE_POLICY", path);
	driver->slices[slice] = r ? NULL : make_environment(extra, count);
	return driver->slices[slice] ? 0 : -1;
}

/* Who has no slice of ours. */
static int open_side(const struct bench *bench, struct bench_driver *driver,
		     enum bench_side side)
{
	char *extra[EXTRA_MAX], path[160];
	unsigned count = 0;
	int r = 0;

	if (driver->libraries[0])
		r |= add(extra, &count, "LD_LIBRARY_PATH", driver->libraries);
	if (side == BENCH_PEER) {
		(void)snprintf(path, sizeof(path), "%s/%s.cache", bench->dir, driver->name);
		r |= add(extra, &count, "LD_PRELOAD", bench->peer);
		r |= add(extra, &count, "CUDA_DEVICE_MEMORY_LIMIT", "8g");
		r |= add(extra, &count, "CUDA_DEVICE_MEMORY_SHARED_CACHE", path);
		r |= add(extra, &count, "LIBCUDA_LOG_LEVEL", "0");
	}
	driver->environment[side] = r ? NULL : make_environment(extra, count);
	return driver->environment[side] ? 0 : -1;
}

static int make_slice(const struct bench *bench, const struct bench_driver *driver,
		      enum bench_slice slice, const char *uuid)
{
	struct tr_page_device device = { .uuid = uuid,
					 .limit_bytes = LIMIT_BYTES,
					 .rate_q32 = slice == LIMITED ? HALF : 0 };
	char policy[160], state[160];
	struct tr_page_spec spec = { .name = slice_names[slice],
				     .serial = SERIAL,
				     .armed = slice != UNARMED,
				     .device_count = 1,
				     .devices = &device,
				     .state_path = state };
	struct tr_err err = { 0 };

	name_file(bench, driver, slice, "policy", policy);
	name_file(bench, driver, slice, "state", state);
	if (tr_state_create(state, SERIAL, 0600, &err) < 0 ||
	    tr_page_create(policy, &spec, &err) < 0) {
		fprintf(stderr, "bench: %s\n", err.msg);
		return -1;
	}
	return 0;
}

static int open_driver(const struct bench *bench, struct bench_driver *driver)
{
	const char *const ask[] = { "uuid", NULL };
	char uuid[64];

	if (open_side(bench, driver, BENCH_BARE) < 0 ||
	    open_side(bench, driver, BENCH_PEER) < 0 ||
	    bench_spawn(bench, driver->environment[BENCH_BARE], ask, NULL, uuid,
			sizeof(uuid)) < 0)
		return -1;
	for (enum bench_slice slice = 0; slice < BENCH_SLICES; slice++)
		if (open_slice(bench, driver, slice) < 0 ||
		    make_slice(bench, driver, slice, uuid) < 0)
			return -1;
	driver->environment[BENCH_OURS] = driver->slices[UNARMED];
	return 0;
}

int bench_open(struct bench *bench)
{
	strcpy(bench->dir, "/dev/shm/tranche-bench.XXXXXX");
	if (!mkdtemp(bench->dir)) {
		perror("bench: /dev/shm");
		bench->dir[0] = '\0';
		return -1;
	}
	for (unsigned i = 0; i < bench->driver_count; i++)
		if (open_driver(bench, &bench->drivers[i]) < 0)
			return -1;
	return 0;
}

static void remove_files(const struct bench *bench, const struct bench_driver *driver)
{
	char path[160];

	for (enum bench_slice slice = 0; slice < BENCH_SLICES; slice++) {
		name_file(bench, driver, slice, "policy", path);
		unlink(path);
		name_file(bench, driver, slice, "state", path);
		unlink(path);
	}
	(void)snprintf(path, sizeof(path), "%s/%s.cache", bench->dir, driver->name);
	unlink(path);
}

void bench_close(struct bench *bench)
{
	if (!bench->dir[0])
		return;
	for (unsigned i = 0; i < bench->driver_count; i++)
		remove_files(bench, &bench->drivers[i]);
	rmdir(bench->dir);
}
