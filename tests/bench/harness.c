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

static int open_side(const struct bench *bench, struct bench_driver *driver,
		     enum bench_side side)
{
	char *extra[EXTRA_MAX], path[160];
	unsigned count = 0;
	int r = 0;

	if (driver->libraries[0])
		r |= add(extra, &count, "LD_LIBRARY_PATH", driver->libraries);
	if (side == BENCH_OURS) {
		(void)snprintf(path, sizeof(path), "%s/%s.policy", bench->dir,
			       driver->name);
		r |= add(extra, &count, "LD_PRELOAD", bench->ours);
		r |= add(extra, &count, "TRANCHE_POLICY", path);
	} else if (side == BENCH_PEER) {
		(void)snprintf(path, sizeof(path), "%s/%s.cache", bench->dir, driver->name);
		r |= add(extra, &count, "LD_PRELOAD", bench->peer);
		r |= add(extra, &count, "CUDA_DEVICE_MEMORY_LIMIT", "8g");
		r |= add(extra, &count, "CUDA_DEVICE_MEMORY_SHARED_CACHE", path);
		r |= add(extra, &count, "LIBCUDA_LOG_LEVEL", "0");
	}
	driver->environment[side] = r ? NULL : make_environment(extra, count);
	return driver->environment[side] ? 0 : -1;
}

static int make_slice(const struct bench *bench, const struct bench_driver *driver)
{
	const char *const ask[] = { "uuid", NULL };
	struct tr_page_device device = { .limit_bytes = LIMIT_BYTES };
	struct tr_page_spec spec = {
		.name = "bench", .serial = SERIAL, .device_count = 1, .devices = &device
	};
	char policy[160], state[160], uuid[64];
	struct tr_err err = { 0 };

	if (bench_spawn(bench, driver->environment[BENCH_BARE], ask, NULL, uuid,
			sizeof(uuid)) < 0)
		return -1;
	(void)snprintf(policy, sizeof(policy), "%s/%s.policy", bench->dir, driver->name);
	(void)snprintf(state, sizeof(state), "%s/%s.state", bench->dir, driver->name);
	device.uuid = uuid;
	spec.state_path = state;
	if (tr_state_create(state, SERIAL, 0600, &err) < 0 ||
	    tr_page_create(policy, &spec, &err) < 0) {
		fprintf(stderr, "bench: %s\n", err.msg);
		return -1;
	}
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
	for (unsigned i = 0; i < bench->driver_count; i++) {
		struct bench_driver *driver = &bench->drivers[i];

		for (enum bench_side side = 0; side < BENCH_SIDES; side++)
			if (open_side(bench, driver, side) < 0)
				return -1;
		if (make_slice(bench, driver) < 0)
			return -1;
	}
	return 0;
}

void bench_close(struct bench *bench)
{
	static const char *const endings[] = { "policy", "state", "cache" };
	char path[160];

	if (!bench->dir[0])
		return;
	for (unsigned i = 0; i < bench->driver_count; i++)
		for (size_t e = 0; e < sizeof(endings) / sizeof(*endings); e++) {
			(void)snprintf(path, sizeof(path), "%s/%s.%s", bench->dir,
				       bench->drivers[i].name, endings[e]);
			unlink(path);
		}
	rmdir(bench->dir);
}
