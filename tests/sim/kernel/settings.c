/* SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX 8192
#define MIB            ((uint64_t)1 << 20)

static const struct driver {
	const char *text;
	uint32_t version;
	const char *branch;
} drivers[] = {
#define SIM_DRIVER(text, version, branch) { text, version, branch },
#include "drivers.def"
#undef SIM_DRIVER
};

#define REFUSE(s, ...) refuse((s)->why, sizeof((s)->why), __VA_ARGS__)
__attribute__((format(printf, 3, 4))) static int refuse(char *why, size_t n,
							const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, n, format, args);
	va_end(args);
	return -EINVAL;
}

static int parse_number(const char *text, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;

	if (!text[0])
		return -EINVAL;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		if (v > (max - (uint64_t)(*text - '0')) / 10)
			return -ERANGE;
		v = v * 10 + (uint64_t)(*text - '0');
	}
	*out = v;
	return 0;
}

/* "2xh100,a100-40" */
static int set_gpus(struct sim_settings *s, const char *source, const char *value)
{
	const char *p = value;
	uint32_t n = 0;
	char names[128];

	sim_model_list(names, sizeof(names));
	do {
		size_t length = strcspn(p, ",");
		unsigned long count = 1;
		int model;

		if (isdigit((unsigned char)*p)) {
			char *rest;

			count = strtoul(p, &rest, 10);
			if (*rest == 'x') {
				length -= (size_t)(rest + 1 - p);
				p = rest + 1;
			} else {
				count = 0;
			}
		}
		model = sim_model_find(p, length);
		if (model < 0 || count == 0 || count > RM_DEVICES_MAX)
			return REFUSE(s,
				      "%s: \"%.60s\" is not a list of devices like "
				      "\"2xh100,l4\"; models: %s",
				      source, value, names);
		if (n + count > RM_DEVICES_MAX)
			return REFUSE(s, "%s: \"%.60s\" has more than %d devices", source,
				      value, RM_DEVICES_MAX);
		while (count--)
			s->model_of[n++] = (uint32_t)model;
		p += length;
	} while (*p++ == ',');
	s->machine.device_count = n;
	return 0;
}

static int set_driver(struct sim_settings *s, const char *source, const char *value)
{
	size_t n = sizeof(drivers) / sizeof(drivers[0]);

	for (size_t i = 0; i < n; i++) {
		if (strcmp(drivers[i].text, value) == 0) {
			s->machine.driver_version = drivers[i].version;
			snprintf(s->machine.driver_branch, sizeof(s->machine.driver_branch),
				 "%s", drivers[i].branch);
			return 0;
		}
	}
	return REFUSE(s, "%s: \"%.60s\" is not a driver's CUDA version from %s to %s",
		      source, value, drivers[0].text, drivers[n - 1].text);
}

static int set_pids(struct sim_settings *s, const char *source, const char *value)
{
	static const char *const modes[] = {
		[RM_PIDS_HOST] = "host", [RM_PIDS_OWN] = "own", [RM_PIDS_NONE] = "none"
	};

	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(modes[i], value) == 0) {
			s->machine.pid_mode = (enum rm_pid_mode)i;
			return 0;
		}
	}
	return REFUSE(s, "%s: \"%.60s\" is none of host, own, none", source, value);
}

static int set_bool(struct sim_settings *s, bool *out, const char *source,
		    const char *value)
{
	if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
		return REFUSE(s, "%s: \"%.60s\" is neither 0 nor 1", source, value);
	*out = value[0] == '1';
	return 0;
}

static int set_newer(struct sim_settings *s, const char *source, const char *value)
{
	return set_bool(s, &s->machine.newer_driver, source, value);
}

static int set_split(struct sim_settings *s, const char *source, const char *value)
{
	return set_bool(s, &s->machine.split_pointers, source, value);
}

static int set_nodes(struct sim_settings *s, const char *source, const char *value)
{
	return set_bool(s, &s->machine.needs_nodes, source, value);
}

static int set_seed(struct sim_settings *s, const char *source, const char *value)
{
	if (parse_number(value, UINT64_MAX, &s->seed) != 0)
		return REFUSE(s, "%s: \"%.60s\" is not a whole number below 2^64", source,
			      value);
	return 0;
}

static int set_noise_seed(struct sim_settings *s, const char *source, const char *value)
{
	if (parse_number(value, UINT64_MAX, &s->machine.seed) != 0)
		return REFUSE(s, "%s: \"%.60s\" is not a whole number below 2^64", source,
			      value);
	s->has_noise_seed = true;
	return 0;
}

static int set_ms(struct sim_settings *s, const char *source, const char *value,
		  uint32_t *out)
{
	uint64_t v;

	if (parse_number(value, 86400000, &v) != 0)
		return REFUSE(
			s, "%s: \"%.60s\" is not a number of milliseconds up to 86400000",
			source, value);
	*out = (uint32_t)v;
	return 0;
}

static int set_linger(struct sim_settings *s, const char *source, const char *value)
{
	return set_ms(s, source, value, &s->linger_ms);
}

static int set_numa(struct sim_settings *s, const char *source, const char *value)
{
	uint64_t v;

	if (parse_number(value, RM_DEVICES_MAX, &v) != 0)
		return REFUSE(s, "%s: \"%.60s\" is not a number of nodes from 0 to %d",
			      source, value, RM_DEVICES_MAX);
	s->numa_nodes = (uint32_t)v;
	return 0;
}

static int set_memory(struct sim_settings *s, const char *source, const char *value)
{
	uint64_t v;

	if (parse_number(value, 1 << 24, &v) != 0 || (v != 0 && v < 1024))
		return REFUSE(s,
			      "%s: \"%.60s\" is not a number of MiB from 1024 to 16777216, "
			      "or 0 for the model's own",
			      source, value);
	s->device_bytes = v * MIB;
	return 0;
}

static int set_clock(struct sim_settings *s, const char *source, const char *value)
{
	if (strcmp(value, "real") != 0 && strcmp(value, "virtual") != 0)
		return REFUSE(s, "%s: \"%.60s\" is neither real nor virtual", source,
			      value);
	s->machine.is_virtual = value[0] == 'v';
	return 0;
}

static int set_mps(struct sim_settings *s, const char *source, const char *value)
{
	return set_bool(s, &s->machine.is_mps, source, value);
}

/* A whole number from MIN to MAX of WHAT. */
static int set_count(struct sim_settings *s, const char *source, const char *value,
		     const uint64_t range[2], const char *what, uint64_t *out)
{
	if (parse_number(value, range[1], out) != 0 || *out < range[0])
		return REFUSE(s, "%s: \"%.60s\" is not a number of %s from %llu to %llu",
			      source, value, what, (unsigned long long)range[0],
			      (unsigned long long)range[1]);
	return 0;
}

static int set_quantum(struct sim_settings *s, const char *source, const char *value)
{
	uint64_t us;
	int r = set_count(s, source, value, (uint64_t[2]){ 10, 10000000 }, "microseconds",
			  &us);

	if (r == 0)
		s->quantum_ns = us * 1000;
	return r;
}

static int set_switch(struct sim_settings *s, const char *source, const char *value)
{
	uint64_t us;
	int r = set_count(s, source, value, (uint64_t[2]){ 0, 100000 }, "microseconds",
			  &us);

	if (r == 0)
		s->switch_ns = us * 1000;
	return r;
}

static int set_noise(struct sim_settings *s, const char *source, const char *value)
{
	uint64_t v;
	int r = set_count(s, source, value, (uint64_t[2]){ 0, 90 }, "percent", &v);

	if (r == 0)
		s->machine.noise_percent = (uint32_t)v;
	return r;
}

static int set_hold(struct sim_settings *s, const char *source, const char *value)
{
	uint64_t v;
	int r = set_count(s, source, value, (uint64_t[2]){ 0, 4096 }, "programs", &v);

	if (r == 0)
		s->hold = (uint32_t)v;
	return r;
}

static int set_hold_ms(struct sim_settings *s, const char *source, const char *value)
{
	return set_ms(s, source, value, &s->hold_ms);
}

static const struct key {
	const char *name, *variable;
	int (*set)(struct sim_settings *s, const char *source, const char *value);
} keys[] = {
	{ "gpus", "TRANCHE_SIM_GPUS", set_gpus },
	{ "driver", "TRANCHE_SIM_DRIVER", set_driver },
	{ "pids", "TRANCHE_SIM_PIDS", set_pids },
	{ "newer", "TRANCHE_SIM_NEWER", set_newer },
	{ "split", "TRANCHE_SIM_SPLIT", set_split },
	{ "nodes", "TRANCHE_SIM_NODES", set_nodes },
	{ "seed", "TRANCHE_SIM_SEED", set_seed },
	{ "noise_seed", "TRANCHE_SIM_NOISE_SEED", set_noise_seed },
	{ "linger_ms", "TRANCHE_SIM_LINGER_MS", set_linger },
	{ "numa", "TRANCHE_SIM_NUMA", set_numa },
	{ "memory_mib", "TRANCHE_SIM_MEMORY_MIB", set_memory },
	{ "clock", "TRANCHE_SIM_CLOCK", set_clock },
	{ "quantum_us", "TRANCHE_SIM_QUANTUM_US", set_quantum },
	{ "switch_us", "TRANCHE_SIM_SWITCH_US", set_switch },
	{ "mps", "TRANCHE_SIM_MPS", set_mps },
	{ "noise_pct", "TRANCHE_SIM_NOISE_PCT", set_noise },
	{ "hold", "TRANCHE_SIM_HOLD", set_hold },
	{ "hold_ms", "TRANCHE_SIM_HOLD_MS", set_hold_ms },
};
#define KEY_COUNT (sizeof(keys) / sizeof(keys[0]))

static char *trim(char *text)
{
	char *end = text + strlen(text);

	while (isspace((unsigned char)*text))
		text++;
	while (end > text && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return text;
}

/* "key = value"; SOURCE says where it stands. */
static int set_line(struct sim_settings *s, const char *source, char *line)
{
	char *equals = strchr(line, '='), *name, *value, where[80];

	if (!equals)
		return REFUSE(s, "%s: \"%.60s\" is not key = value", source, line);
	*equals = '\0';
	name = trim(line);
	value = trim(equals + 1);
	for (size_t i = 0; i < KEY_COUNT; i++) {
		if (strcmp(keys[i].name, name) == 0) {
			snprintf(where, sizeof(where), "%s: %s", source, name);
			return keys[i].set(s, where, value);
		}
	}
	return REFUSE(s,
		      "%s: unknown setting \"%.40s\"; there are gpus, driver, pids, newer, "
		      "split, nodes, "
		      "seed, noise_seed, linger_ms, numa, memory_mib, clock, quantum_us, "
		      "switch_us, "
		      "mps, noise_pct, hold, hold_ms",
		      source, name);
}

static int read_settings_file(struct sim_settings *s, int dir_fd)
{
	char text[FILE_BYTES_MAX + 1], *next = text, *line, source[40];
	unsigned number = 0;
	ssize_t n;
	int fd, r = 0;

	fd = openat(dir_fd, "settings", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT
			       ? 0
			       : REFUSE(s, "settings: cannot be read: %s", strerror(errno));
	n = read(fd, text, sizeof(text));
	close(fd);
	if (n < 0)
		return REFUSE(s, "settings: cannot be read: %s", strerror(errno));
	if (n > FILE_BYTES_MAX || memchr(text, 0, (size_t)n))
		return REFUSE(s, "settings: not a text of at most %d bytes",
			      FILE_BYTES_MAX);
	text[n] = '\0';
	while (r == 0 && (line = strsep(&next, "\n")) != NULL) {
		snprintf(source, sizeof(source), "settings:%u", ++number);
		line[strcspn(line, "#")] = '\0';
		if (trim(line)[0])
			r = set_line(s, source, line);
	}
	return r;
}

static uint64_t hash_text(const char *text)
{
	uint64_t h = 0xcbf29ce484222325u;

	while (*text)
		h = (h ^ (uint8_t)*text++) * 0x100000001b3u;
	return h;
}

int sim_settings_read(struct sim_settings *s, const char *dir, int dir_fd,
		      const char *const *arguments)
{
	char line[512];
	int r;

	memset(s, 0, sizeof(*s));
	s->seed = hash_text(dir);
	s->linger_ms = 3000;
	s->numa_nodes = UINT32_MAX;
	s->quantum_ns = 2000000;
	s->hold = 1;
	s->hold_ms = 30000;
	r = set_gpus(s, "default", "h100");
	if (r == 0)
		r = set_driver(s, "default",
			       drivers[sizeof(drivers) / sizeof(drivers[0]) - 1].text);
	if (r == 0)
		r = read_settings_file(s, dir_fd);
	for (size_t i = 0; r == 0 && i < KEY_COUNT; i++) {
		const char *value = getenv(keys[i].variable);

		if (value)
			r = keys[i].set(s, keys[i].variable, value);
	}
	for (; r == 0 && arguments && *arguments; arguments++) {
		snprintf(line, sizeof(line), "%s", *arguments);
		r = set_line(s, "command line", line);
	}
	if (r != 0)
		return r;
	if (s->numa_nodes == UINT32_MAX)
		s->numa_nodes = s->machine.device_count > 1 ? 2 : 1;
	snprintf(s->machine.dir, sizeof(s->machine.dir), "%s", dir);
	if (!s->has_noise_seed)
		s->machine.seed = s->seed;
	sim_models_fill(s);
	return 0;
}
