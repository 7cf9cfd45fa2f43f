/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>

/* A process has a connection for each driver library it uses; its pid holds them together.
 * One whose pid this namespace cannot see stands alone. */
static uint64_t key_of(const struct sim_client *client)
{
	return client->host_pid > 0 ? (uint64_t)client->host_pid
				    : (uint64_t)1 << 32 | client->serial;
}

struct found {
	uint64_t key;
	const struct sim_client *client;
};

static int by_key(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

static uint64_t bytes_on(const struct sim_client *client, uint32_t device)
{
	uint64_t sum = 0;

	for (uint32_t kind = 0; kind < RM_KINDS; kind++)
		sum += client->bytes[device][kind];
	return sum;
}

static void fill_row(struct rm_process *row, const struct sim_client *client)
{
	bool is_own = sim_kernel.settings.machine.pid_mode == RM_PIDS_OWN;

	memset(row, 0, sizeof(*row));
	row->own_pid = client->own_pid;
	row->host_pid = client->host_pid;
	row->pid = is_own || client->host_pid == 0 ? client->own_pid : client->host_pid;
	memcpy(row->name, client->name, sizeof(row->name));
}

/* All connections of the process at FOUND[i]; returns how many. */
static uint32_t add_process(const struct found *found, uint32_t n, uint32_t device,
			    struct rm_process *row)
{
	bool has_context = false;
	uint32_t i;

	fill_row(row, found[0].client);
	for (i = 0; i < n && found[i].key == found[0].key; i++) {
		row->bytes += bytes_on(found[i].client, device);
		has_context |= found[i].client->bytes[device][RM_CONTEXT] > 0;
	}
	if (!has_context)
		row->pid = -1;
	return i;
}

void sim_list_processes(uint32_t device, uint64_t after, struct wire_reply *reply)
{
	uint32_t n = 0, room = sim_clients_count();
	struct found *found;

	reply->n = 0;
	if (sim_kernel.settings.machine.pid_mode == RM_PIDS_NONE || room == 0)
		return;
	found = calloc(room, sizeof(*found));
	if (!found)
		abort();
	for (const struct sim_client *c = sim_clients_first(); c; c = c->next) {
		if (c->is_greeted && key_of(c) > after)
			found[n++] = (struct found){ key_of(c), c };
	}
	qsort(found, n, sizeof(*found), by_key);
	for (uint32_t i = 0; i < n;) {
		struct wire_process row = { .key = found[i].key };

		i += add_process(&found[i], n - i, device, &row.row);
		if (row.row.pid < 0)
			continue;
		if (reply->n == WIRE_ROWS) {
			reply->more = 1;
			break;
		}
		reply->processes[reply->n++] = row;
	}
	free(found);
}

static void fill_client(struct wire_client *row, const struct sim_client *client)
{
	memset(row, 0, sizeof(*row));
	row->serial = client->serial;
	row->host_pid = client->host_pid;
	row->own_pid = client->own_pid;
	row->uid = client->uid;
	row->has_table = client->table_fd >= 0;
	memcpy(row->name, client->name, sizeof(row->name));
	memcpy(row->bytes, client->bytes, sizeof(row->bytes));
	row->host_bytes = client->host_bytes;
}

void sim_list_clients(uint64_t from, struct wire_reply *reply)
{
	reply->n = 0;
	if (from == 0)
		sim_memory_orphans(&reply->clients[reply->n++]);
	for (const struct sim_client *c = sim_clients_first(); c; c = c->next) {
		if (!c->is_greeted || c->serial < from)
			continue;
		if (reply->n == WIRE_CLIENT_ROWS) {
			reply->more = 1;
			return;
		}
		fill_client(&reply->clients[reply->n++], c);
	}
}
