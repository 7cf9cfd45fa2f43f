/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUCKETS 4096u

struct sim_name {
	uint8_t name[64]; /* serial, then random bytes */
	uint64_t serial;
	struct sim_client *exporter;
	struct sim_phys *phys;
	uint32_t n;
	uint8_t text[WIRE_TEXT_MAX];
	struct sim_name *list_next, *hash_next;
};

static struct sim_name *hash[BUCKETS];
static uint64_t next_serial = 1;

int sim_name_make(struct sim_name **list, struct sim_client *client, struct sim_phys *phys,
		  const uint8_t *text, uint32_t n, uint8_t name_out[64])
{
	struct sim_name *name;

	/* the same question gets the same answer: asking again and again costs nothing */
	for (name = *list; name; name = name->list_next) {
		if (name->n == n && memcmp(name->text, text, n) == 0) {
			memcpy(name_out, name->name, sizeof(name->name));
			return 0;
		}
	}
	name = calloc(1, sizeof(*name));
	if (!name)
		abort();
	if (getrandom(name->name, sizeof(name->name), 0) != sizeof(name->name)) {
		free(name);
		return -EAGAIN;
	}
	name->serial = next_serial++;
	memcpy(name->name, &name->serial, sizeof(name->serial));
	name->exporter = client;
	name->phys = phys;
	name->n = n;
	memcpy(name->text, text, n);
	name->list_next = *list;
	*list = name;
	name->hash_next = hash[name->serial % BUCKETS];
	hash[name->serial % BUCKETS] = name;
	memcpy(name_out, name->name, sizeof(name->name));
	return 0;
}

int sim_name_find(const uint8_t wanted[64], struct sim_phys **phys,
		  struct sim_client **exporter, uint8_t *text, uint32_t *n)
{
	struct sim_name *name;
	uint64_t serial;

	memcpy(&serial, wanted, sizeof(serial));
	for (name = hash[serial % BUCKETS]; name; name = name->hash_next) {
		if (memcmp(name->name, wanted, sizeof(name->name)) != 0)
			continue;
		*phys = name->phys;
		*exporter = name->exporter;
		memcpy(text, name->text, name->n);
		*n = name->n;
		return 0;
	}
	return -ENOENT;
}

void sim_name_drop_all(struct sim_name **list)
{
	while (*list) {
		struct sim_name *name = *list, **at = &hash[name->serial % BUCKETS];

		*list = name->list_next;
		while (*at != name)
			at = &(*at)->hash_next;
		*at = name->hash_next;
		free(name);
	}
}
