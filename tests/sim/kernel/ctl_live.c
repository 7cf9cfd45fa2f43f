/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

/* phys and live: the same table of processes, devices and kinds, of what the driver took
 * for a process or of what the process asked for. */

#define ROWS (RM_DEVICES_MAX + 1) /* the last one is host memory */

struct sums {
	uint64_t objects[ROWS][RM_KINDS], bytes[ROWS][RM_KINDS];
};

struct showing {
	const struct ctl_look *look;
	struct sums sums;
	bool has_object; /* one was printed */
};

static uint64_t total(const uint64_t kinds[RM_KINDS])
{
	uint64_t sum = 0;

	for (int k = 0; k < RM_KINDS; k++)
		sum += kinds[k];
	return sum;
}

static int device_number(uint32_t row)
{
	return row == RM_DEVICES_MAX ? -1 : (int)row;
}

static void add_object(const struct rm_live *object, void *arg)
{
	struct showing *s = arg;
	uint32_t row = object->device == RM_HOST ? RM_DEVICES_MAX : object->device;

	if (row >= ROWS || (unsigned)object->kind >= RM_KINDS)
		return;
	s->sums.objects[row][object->kind]++;
	s->sums.bytes[row][object->kind] += object->bytes;
}

static void print_object(const struct rm_live *object, void *arg)
{
	struct showing *s = arg;
	int device = object->device == RM_HOST ? -1 : (int)object->device;

	if (s->look->as_json)
		printf("%s{\"kind\":\"%s\",\"device\":%d,\"handle\":%" PRIu64
		       ",\"bytes\":%" PRIu64 "}",
		       s->has_object ? "," : "", rm_kind_name(object->kind), device,
		       object->handle, object->bytes);
	else
		printf("    %-9s device %d  0x%" PRIx64 "  %" PRIu64 " bytes\n",
		       rm_kind_name(object->kind), device, object->handle, object->bytes);
	s->has_object = true;
}

static void print_device_json(const struct sums *sums, uint32_t row, bool counts,
			      bool first)
{
	bool has_kind = false;

	printf("%s{\"device\":%d,", first ? "" : ",", device_number(row));
	if (counts)
		printf("\"objects\":%" PRIu64 ",", total(sums->objects[row]));
	printf("\"bytes\":%" PRIu64 ",\"kinds\":{", total(sums->bytes[row]));
	for (int k = 0; k < RM_KINDS; k++) {
		if (!sums->bytes[row][k] && !sums->objects[row][k])
			continue;
		printf("%s\"%s\":", has_kind ? "," : "", rm_kind_name((enum rm_kind)k));
		has_kind = true;
		if (counts)
			printf("{\"objects\":%" PRIu64 ",\"bytes\":%" PRIu64 "}",
			       sums->objects[row][k], sums->bytes[row][k]);
		else
			printf("%" PRIu64, sums->bytes[row][k]);
	}
	fputs("}}", stdout);
}

static void print_device_text(const struct sums *sums, uint32_t row, bool counts)
{
	if (row == RM_DEVICES_MAX)
		fputs("  host memory:", stdout);
	else
		printf("  device %" PRIu32 ":", row);
	for (int k = 0; k < RM_KINDS; k++) {
		if (!sums->bytes[row][k] && !sums->objects[row][k])
			continue;
		printf(" %s %" PRIu64, rm_kind_name((enum rm_kind)k), sums->bytes[row][k]);
		if (counts)
			printf(" (%" PRIu64 " objects)", sums->objects[row][k]);
	}
	putchar('\n');
}

static void print_devices(const struct sums *sums, bool as_json, bool counts)
{
	bool first = true;

	for (uint32_t row = 0; row < ROWS; row++) {
		if (!total(sums->bytes[row]) && !total(sums->objects[row]))
			continue;
		if (as_json)
			print_device_json(sums, row, counts, first);
		else
			print_device_text(sums, row, counts);
		first = false;
	}
}

static void print_head(const struct rm_client *c, bool as_json, bool first)
{
	if (!as_json) {
		if (c->serial == 0)
			puts("held by descriptors only");
		else
			printf("pid %d (own %d) %s\n", c->host_pid, c->own_pid, c->name);
		return;
	}
	printf("%s{\"pid\":%d,\"own_pid\":%d,\"name\":", first ? "" : ",", c->host_pid,
	       c->own_pid);
	ctl_json_text(c->name);
}

static void add_phys(struct sums *sums, const struct rm_client *c)
{
	for (uint32_t row = 0; row < RM_DEVICES_MAX; row++) {
		for (int k = 0; k < RM_KINDS; k++)
			sums->bytes[row][k] += c->bytes[row][k];
	}
	sums->bytes[RM_DEVICES_MAX][RM_OTHER] += c->host_bytes;
}

/* A process has a connection per driver library: those of the same pid belong together. */
static bool is_same(const struct rm_client *a, const struct rm_client *b)
{
	return a->serial == b->serial || (a->host_pid > 0 && a->host_pid == b->host_pid);
}

static void each_of(const struct rm_client *clients, size_t n, size_t at,
		    void (*see)(const struct rm_live *object, void *arg), struct showing *s)
{
	for (size_t i = at; i < n; i++) {
		if (is_same(&clients[i], &clients[at]) && clients[i].has_objects)
			rm_live_each(clients[i].serial, see, s);
	}
}

static void print_process(const struct rm_client *clients, size_t n, size_t at, bool first,
			  struct showing *s, bool counts)
{
	memset(&s->sums, 0, sizeof(s->sums));
	s->has_object = false;
	if (counts) {
		each_of(clients, n, at, add_object, s);
	} else {
		for (size_t i = at; i < n; i++) {
			if (is_same(&clients[i], &clients[at]))
				add_phys(&s->sums, &clients[i]);
		}
	}
	print_head(&clients[at], s->look->as_json, first);
	if (s->look->as_json)
		fputs(",\"devices\":[", stdout);
	print_devices(&s->sums, s->look->as_json, counts);
	if (s->look->as_json)
		putchar(']');
	if (counts && s->look->each_object) {
		if (s->look->as_json)
			fputs(",\"objects\":[", stdout);
		each_of(clients, n, at, print_object, s);
		if (s->look->as_json)
			putchar(']');
	}
	if (s->look->as_json)
		putchar('}');
}

int ctl_clients(struct rm_client **clients, size_t *n)
{
	size_t room = 64;
	int r;

	*clients = NULL;
	do {
		free(*clients);
		*clients = calloc(room, sizeof(**clients));
		if (!*clients)
			abort();
		*n = room;
		r = rm_clients(*clients, n);
		room = *n + 64;
	} while (r == -ENOSPC);
	return r;
}

/* Once per process, not the tool itself, and the bytes of descriptors only when there are
 * any. */
bool ctl_is_shown(const struct rm_client *clients, size_t at, int pid)
{
	static const struct rm_client nobody;
	const struct rm_client *c = &clients[at];

	if (c->serial == 0)
		return pid == 0 && (memcmp(c->bytes, nobody.bytes, sizeof(c->bytes)) != 0 ||
				    c->host_bytes != 0);
	for (size_t i = 0; i < at; i++) {
		if (is_same(&clients[i], c))
			return false;
	}
	if (c->own_pid == getpid() && strcmp(c->name, program_invocation_name) == 0)
		return false;
	return pid == 0 || pid == c->host_pid || pid == c->own_pid;
}

static int show(const struct ctl_look *look, bool counts)
{
	struct showing s = { .look = look };
	struct rm_client *clients;
	bool first = true;
	size_t n;
	int r;

	r = ctl_clients(&clients, &n);
	if (r != 0) {
		free(clients);
		return ctl_fail(r);
	}
	if (look->as_json)
		fputs("{\"processes\":[", stdout);
	for (size_t i = 0; i < n; i++) {
		if (!ctl_is_shown(clients, i, look->pid))
			continue;
		print_process(clients, n, i, first, &s, counts);
		first = false;
	}
	if (look->as_json)
		puts("]}");
	free(clients);
	return 0;
}

int ctl_live(const struct ctl_look *look)
{
	return show(look, true);
}

int ctl_phys(const struct ctl_look *look)
{
	return show(look, false);
}
