/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_map.h"

#include <errno.h>

#include "engine_memory.h"

static size_t home(const struct engine_map *m, uint64_t client, uint64_t id)
{
	uint64_t x = (client * 0x9e3779b97f4a7c15u) ^ (id + 0x7f4a7c15u);

	x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
	x ^= x >> 32;
	return (size_t)x & (m->room - 1);
}

/* The place of the key, or the empty one where it would go. */
static size_t seek(const struct engine_map *m, uint64_t client, uint64_t id)
{
	size_t i = home(m, client, id);

	while (m->entries[i].thing &&
	       (m->entries[i].id != id || m->entries[i].client != client))
		i = (i + 1) & (m->room - 1);
	return i;
}

void *engine_map_find(const struct engine_map *m, uint64_t client, uint64_t id)
{
	return m->room ? m->entries[seek(m, client, id)].thing : NULL;
}

static int grow(struct engine_map *m)
{
	struct engine_map bigger = { .count = m->count,
				     .room = m->room ? 2 * m->room : 64 };

	bigger.entries = engine_alloc(bigger.room, sizeof(*bigger.entries));
	if (!bigger.entries)
		return -ENOMEM;
	for (size_t i = 0; i < m->room; i++) {
		const struct engine_entry *e = &m->entries[i];

		if (e->thing)
			bigger.entries[seek(&bigger, e->client, e->id)] = *e;
	}
	engine_release(m->entries);
	*m = bigger;
	return 0;
}

int engine_map_add(struct engine_map *m, uint64_t client, uint64_t id, void *thing)
{
	int r = 2 * (m->count + 1) > m->room ? grow(m) : 0;

	if (r)
		return r;
	m->entries[seek(m, client, id)] =
		(struct engine_entry){ .client = client, .id = id, .thing = thing };
	m->count++;
	return 0;
}

void engine_map_remove(struct engine_map *m, uint64_t client, uint64_t id)
{
	size_t hole, i;

	if (!engine_map_find(m, client, id))
		return;
	m->count--;
	hole = seek(m, client, id);
	/* Those behind that were pushed on by the one that leaves move up, so that no search
	 * ends at the hole too early. */
	for (i = (hole + 1) & (m->room - 1); m->entries[i].thing;
	     i = (i + 1) & (m->room - 1)) {
		size_t h = home(m, m->entries[i].client, m->entries[i].id);

		if (((i - h) & (m->room - 1)) >= ((i - hole) & (m->room - 1))) {
			m->entries[hole] = m->entries[i];
			hole = i;
		}
	}
	m->entries[hole] = (struct engine_entry){ 0 };
}

void engine_map_free(struct engine_map *m)
{
	engine_release(m->entries);
	*m = (struct engine_map){ 0 };
}
