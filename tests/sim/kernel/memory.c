/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES    4096u
#define HASH_BUCKETS  (1u << 16)
#define BACKING_BYTES ((uint64_t)1 << 62)
#define PUNCH_ROOM    64

static struct {
	const struct rm_machine *machine;
	struct {
		int fd;
		uint64_t used_bytes;
		/* Never goes back: a range that some process still maps is not given out
		 * again, and 2^62 bytes are 73 000 times all of an H200 for every second of
		 * a year. */
		uint64_t next_offset;
	} devices[RM_DEVICES_MAX + 1];
	uint64_t next_id;
	uint64_t orphan_bytes[RM_DEVICES_MAX][RM_KINDS], orphan_host_bytes;
	struct sim_phys *hash[HASH_BUCKETS];
	struct {
		int fd;
		uint64_t offset, bytes;
	} punch[PUNCH_ROOM];
	uint32_t punch_count;
} books = { .next_id = 1 };

static uint32_t place_of(uint32_t device)
{
	return device == RM_HOST ? RM_DEVICES_MAX : device;
}

static bool exists(uint32_t device)
{
	return device == RM_HOST || device < books.machine->device_count;
}

int sim_memory_open(const struct rm_machine *machine)
{
	books.machine = machine;
	for (uint32_t i = 0; i <= RM_DEVICES_MAX; i++) {
		books.devices[i].fd = -1;
		if (i < machine->device_count || i == RM_DEVICES_MAX)
			books.devices[i].fd = sim_memfd("sim-device", BACKING_BYTES);
		if (i < machine->device_count && books.devices[i].fd < 0)
			return books.devices[i].fd;
	}
	return 0;
}

int sim_memory_backing(uint32_t device)
{
	return exists(device) ? books.devices[place_of(device)].fd : -EINVAL;
}

void sim_memory_punch(void)
{
	for (uint32_t i = 0; i < books.punch_count; i++)
		fallocate(books.punch[i].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)books.punch[i].offset, (off_t)books.punch[i].bytes);
	books.punch_count = 0;
}

/* Moves BYTES of PHYS to (or, with a negative sign, from) the account of CLIENT. */
static void account(const struct sim_phys *phys, struct sim_client *client, bool add)
{
	uint64_t *sum;

	if (phys->device == RM_HOST)
		sum = client ? &client->host_bytes : &books.orphan_host_bytes;
	else if (client)
		sum = &client->bytes[phys->device][phys->kind];
	else
		sum = &books.orphan_bytes[phys->device][phys->kind];
	if (add)
		*sum += phys->bytes;
	else
		*sum -= phys->bytes;
}

static void free_phys(struct sim_phys *phys)
{
	struct sim_phys **at = &books.hash[phys->id % HASH_BUCKETS];
	uint32_t place = place_of(phys->device);

	while (*at != phys)
		at = &(*at)->hash_next;
	*at = phys->hash_next;
	account(phys, phys->owner, false);
	books.devices[place].used_bytes -= phys->bytes;
	if (books.punch_count == PUNCH_ROOM)
		sim_memory_punch();
	books.punch[books.punch_count].fd = books.devices[place].fd;
	books.punch[books.punch_count].offset = phys->offset;
	books.punch[books.punch_count].bytes = phys->bytes;
	books.punch_count++;
	free(phys);
}

/* After a reference went: the account moves to another holder, or all of it returns. */
static void settle(struct sim_phys *phys, const struct sim_client *left)
{
	if (!phys->refs && phys->exports == 0) {
		free_phys(phys);
		return;
	}
	if (phys->owner == left) {
		account(phys, phys->owner, false);
		phys->owner = phys->refs ? phys->refs->client : NULL;
		account(phys, phys->owner, true);
	}
}

int sim_memory_alloc(struct sim_client *client, uint32_t device, uint64_t bytes,
		     uint32_t kind, struct rm_phys *out)
{
	const struct rm_device *facts;
	struct sim_phys *phys;
	uint32_t place;

	if (!exists(device) || kind >= RM_KINDS || bytes == 0)
		return -EINVAL;
	if (bytes > BACKING_BYTES / 2)
		return -ENOMEM;
	bytes = (bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
	place = place_of(device);
	if (device != RM_HOST) {
		facts = &books.machine->devices[device];
		if (bytes > facts->total_bytes - facts->reserved_bytes -
				    books.devices[place].used_bytes)
			return -ENOMEM;
	}
	if (bytes > BACKING_BYTES - books.devices[place].next_offset)
		return -ENOMEM;
	phys = calloc(1, sizeof(*phys));
	if (!phys)
		abort();
	phys->id = books.next_id++;
	phys->bytes = bytes;
	phys->offset = books.devices[place].next_offset;
	phys->device = device;
	phys->kind = kind;
	phys->owner = client;
	phys->hash_next = books.hash[phys->id % HASH_BUCKETS];
	books.hash[phys->id % HASH_BUCKETS] = phys;
	/* whole blocks, so that large pages of the host can back them */
	books.devices[place].next_offset += (bytes + RM_BLOCK_BYTES - 1) &
					    ~(uint64_t)(RM_BLOCK_BYTES - 1);
	books.devices[place].used_bytes += bytes;
	account(phys, client, true);
	sim_memory_ref(client, phys);
	sim_memory_show(phys, out);
	return 0;
}

static struct sim_phys *find_phys(uint64_t id)
{
	struct sim_phys *phys = books.hash[id % HASH_BUCKETS];

	while (phys && phys->id != id)
		phys = phys->hash_next;
	return phys;
}

static struct sim_ref *ref_of(struct sim_phys *phys, const struct sim_client *client)
{
	struct sim_ref *ref = phys ? phys->refs : NULL;

	while (ref && ref->client != client)
		ref = ref->phys_next;
	return ref;
}

struct sim_ref *sim_memory_find_ref(struct sim_client *client, uint64_t id)
{
	return ref_of(find_phys(id), client);
}

void sim_memory_ref(struct sim_client *client, struct sim_phys *phys)
{
	struct sim_ref *ref = ref_of(phys, client);

	if (ref) {
		ref->count++;
		return;
	}
	ref = calloc(1, sizeof(*ref));
	if (!ref)
		abort();
	ref->client = client;
	ref->phys = phys;
	ref->count = 1;
	ref->client_next = client->refs;
	if (client->refs)
		client->refs->client_prev = ref;
	client->refs = ref;
	ref->phys_next = phys->refs;
	if (phys->refs)
		phys->refs->phys_prev = ref;
	phys->refs = ref;
	if (!phys->owner) {
		account(phys, NULL, false);
		phys->owner = client;
		account(phys, client, true);
	}
}

static void remove_ref(struct sim_ref *ref)
{
	struct sim_client *client = ref->client;
	struct sim_phys *phys = ref->phys;

	sim_name_drop_all(&ref->names);
	if (ref->client_prev)
		ref->client_prev->client_next = ref->client_next;
	else
		client->refs = ref->client_next;
	if (ref->client_next)
		ref->client_next->client_prev = ref->client_prev;
	if (ref->phys_prev)
		ref->phys_prev->phys_next = ref->phys_next;
	else
		phys->refs = ref->phys_next;
	if (ref->phys_next)
		ref->phys_next->phys_prev = ref->phys_prev;
	free(ref);
	settle(phys, client);
}

void sim_memory_unref(struct sim_ref *ref)
{
	if (--ref->count == 0)
		remove_ref(ref);
}

void sim_memory_drop_client(struct sim_client *client)
{
	while (client->refs)
		remove_ref(client->refs);
	sim_name_drop_all(&client->names);
}

void sim_memory_export(struct sim_phys *phys)
{
	phys->exports++;
}

void sim_memory_unexport(struct sim_phys *phys)
{
	phys->exports--;
	if (!phys->refs && phys->exports == 0)
		free_phys(phys);
}

void sim_memory_show(const struct sim_phys *phys, struct rm_phys *out)
{
	out->id = phys->id;
	out->bytes = phys->bytes;
	out->offset = phys->offset;
	out->device = phys->device;
}

int sim_memory_read(uint32_t device, struct rm_memory *out)
{
	const struct rm_device *facts;

	if (device == RM_HOST || !exists(device))
		return -EINVAL;
	facts = &books.machine->devices[device];
	out->total = facts->total_bytes;
	out->reserved = facts->reserved_bytes;
	out->used = books.devices[device].used_bytes;
	out->free = out->total - out->reserved - out->used;
	return 0;
}

void sim_memory_orphans(struct wire_client *row)
{
	memset(row, 0, sizeof(*row));
	memcpy(row->bytes, books.orphan_bytes, sizeof(row->bytes));
	row->host_bytes = books.orphan_host_bytes;
}
