/* SPDX-License-Identifier: Apache-2.0 */
#include "judge.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "rm/inspect.h"
#include "tranche/state.h"

#define ROUND_BYTES 512u
#define CLIENTS_MAX 64u

static void give_up(const char *what)
{
	perror(what);
	exit(1);
}

static void read_state(uint64_t offset, void *out, size_t bytes)
{
	char path[256];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/state", getenv("TEST_DIR"));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, out, bytes, (off_t)offset) != (ssize_t)bytes)
		give_up(path);
	(void)close(fd);
}

uint64_t judge_ledger_bytes(void)
{
	static struct tr_state_mem row[TR_SLOTS_MAX];
	uint64_t sum = 0;

	read_state(offsetof(struct tr_state, mem), row, sizeof(row));
	for (unsigned s = 0; s < TR_SLOTS_MAX; s++)
		sum += row[s].used_bytes;
	return sum;
}

uint64_t judge_refused(void)
{
	struct tr_state_device device;

	read_state(offsetof(struct tr_state, devices), &device, sizeof(device));
	return device.refused;
}

uint64_t judge_pinned_bytes(void)
{
	static struct tr_state_slot slots[TR_SLOTS_MAX];
	uint64_t sum = 0;

	read_state(offsetof(struct tr_state, slots), slots, sizeof(slots));
	for (unsigned s = 0; s < TR_SLOTS_MAX; s++)
		sum += slots[s].pinned_bytes;
	return sum;
}

/* What the driver takes for itself is not the ledger's (it is overhead). */
static void add_object(const struct rm_live *object, void *arg)
{
	uint64_t *sum = arg;

	if (object->device != 0 || object->kind == RM_CONTEXT || object->kind == RM_CODE ||
	    object->kind == RM_LIMITS || object->kind == RM_MULTICAST)
		return;
	*sum += (object->bytes + ROUND_BYTES - 1) / ROUND_BYTES * ROUND_BYTES;
}

uint64_t judge_driver_bytes(void)
{
	static struct rm_client clients[CLIENTS_MAX];
	size_t n = CLIENTS_MAX;
	uint64_t sum = 0;

	if (rm_open() != 0 || rm_clients(clients, &n) != 0)
		give_up("simulated machine");
	for (size_t i = 0; i < n; i++)
		if (clients[i].has_objects &&
		    rm_live_each(clients[i].serial, add_object, &sum) != 0)
			give_up("live objects");
	return sum;
}
