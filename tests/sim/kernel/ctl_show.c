/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((double)(1 << 20))

void ctl_json_text(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void print_uuid(const uint8_t uuid[16])
{
	fputs("GPU-", stdout);
	for (int i = 0; i < 16; i++)
		printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

static int show_info(const struct ctl_look *look)
{
	static const char *const modes[] = { "host", "own", "none" };
	const struct rm_machine *m = rm_machine();

	if (look->as_json) {
		fputs("{\"dir\":", stdout);
		ctl_json_text(m->dir);
		printf(",\"driver_version\":%" PRIu32
		       ",\"driver_branch\":\"%s\",\"pids\":\"%s\","
		       "\"newer\":%s,\"split\":%s,\"devices\":[",
		       m->driver_version, m->driver_branch, modes[m->pid_mode],
		       m->newer_driver ? "true" : "false",
		       m->split_pointers ? "true" : "false");
	} else {
		printf("machine %s, driver %s (CUDA %" PRIu32 ".%" PRIu32
		       "), pids %s%s%s\n",
		       m->dir, m->driver_branch, m->driver_version / 1000,
		       m->driver_version % 1000 / 10, modes[m->pid_mode],
		       m->newer_driver ? ", newer" : "",
		       m->split_pointers ? ", split" : "");
	}
	for (uint32_t i = 0; i < m->device_count; i++) {
		const struct rm_device *d = &m->devices[i];

		if (!look->as_json) {
			printf("%" PRIu32 "  %s  ", i, d->name);
			print_uuid(d->uuid);
			printf("  bus %02" PRIx32 "  node %" PRId32 "  %.0f MiB\n",
			       d->pci_bus, d->numa_node, (double)d->total_bytes / MIB);
			continue;
		}
		printf("%s{\"index\":%" PRIu32
		       ",\"model\":\"%s\",\"name\":\"%s\",\"uuid\":\"",
		       i ? "," : "", i, d->model, d->name);
		print_uuid(d->uuid);
		printf("\",\"minor\":%" PRIu32 ",\"pci\":\"%04" PRIx32 ":%02" PRIx32
		       ":%02" PRIx32 ".0\",\"pci_bus\":%" PRIu32 ",\"numa_node\":%" PRId32
		       ",\"total_bytes\":%" PRIu64 ",\"reserved_bytes\":%" PRIu64
		       ",\"context_bytes\":%" PRIu64 "}",
		       d->minor, d->pci_domain, d->pci_bus, d->pci_device, d->pci_bus,
		       d->numa_node, d->total_bytes, d->reserved_bytes, d->context_bytes);
	}
	if (look->as_json)
		puts("]}");
	return 0;
}

static int show_devices(const struct ctl_look *look)
{
	const struct rm_machine *m = rm_machine();

	(void)look;
	for (uint32_t i = 0; i < m->device_count; i++) {
		printf("%" PRIu32 " ", i);
		print_uuid(m->devices[i].uuid);
		printf(" %s\n", m->devices[i].name);
	}
	return 0;
}

static int show_memory(const struct ctl_look *look)
{
	uint32_t n = rm_machine()->device_count;
	struct rm_memory memory;
	int r;

	if (look->as_json)
		fputs("{\"devices\":[", stdout);
	for (uint32_t i = 0; i < n; i++) {
		r = rm_memory(i, &memory);
		if (r != 0)
			return ctl_fail(r);
		if (look->as_json)
			printf("%s{\"device\":%" PRIu32 ",\"total\":%" PRIu64
			       ",\"reserved\":%" PRIu64 ",\"used\":%" PRIu64
			       ",\"free\":%" PRIu64 "}",
			       i ? "," : "", i, memory.total, memory.reserved, memory.used,
			       memory.free);
		else
			printf("device %" PRIu32 ": total %" PRIu64 ", reserved %" PRIu64
			       ", used %" PRIu64 ", free %" PRIu64 "\n",
			       i, memory.total, memory.reserved, memory.used, memory.free);
	}
	if (look->as_json)
		puts("]}");
	return 0;
}

/* All rows of DEVICE; the list may grow while it is read. */
static int read_processes(uint32_t device, struct rm_process **rows, size_t *n)
{
	size_t room = 64;
	int r;

	*rows = NULL;
	do {
		free(*rows);
		*rows = calloc(room, sizeof(**rows));
		if (!*rows)
			abort();
		*n = room;
		r = rm_processes(device, *rows, n);
		room = *n + 64;
	} while (r == -ENOSPC);
	return r;
}

static int show_processes(const struct ctl_look *look)
{
	const struct rm_machine *m = rm_machine();
	struct rm_process *rows;
	bool has_row = false;
	size_t n;
	int r;

	if (look->as_json)
		fputs("{\"processes\":[", stdout);
	for (uint32_t device = 0; device < m->device_count; device++) {
		r = read_processes(device, &rows, &n);
		if (r != 0) {
			free(rows);
			return ctl_fail(r);
		}
		for (size_t i = 0; i < n; i++) {
			if (!look->as_json) {
				printf("device %" PRIu32
				       ": pid %d (own %d, host %d), %" PRIu64
				       " bytes, %s\n",
				       device, rows[i].pid, rows[i].own_pid,
				       rows[i].host_pid, rows[i].bytes, rows[i].name);
				continue;
			}
			printf("%s{\"device\":%" PRIu32
			       ",\"pid\":%d,\"own_pid\":%d,\"host_pid\":%d,"
			       "\"bytes\":%" PRIu64 ",\"name\":",
			       has_row ? "," : "", device, rows[i].pid, rows[i].own_pid,
			       rows[i].host_pid, rows[i].bytes);
			ctl_json_text(rows[i].name);
			putchar('}');
			has_row = true;
		}
		free(rows);
	}
	if (look->as_json)
		puts("]}");
	return 0;
}

static const struct {
	const char *name;
	ctl_command run;
} commands[] = {
	{ "info", show_info },     { "devices", show_devices },
	{ "memory", show_memory }, { "processes", show_processes },
	{ "phys", ctl_phys },      { "live", ctl_live },
	{ "busy", ctl_busy },
};

ctl_command ctl_find(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return commands[i].run;
	}
	return NULL;
}
