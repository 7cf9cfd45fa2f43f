/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_KERNEL_ENGINE_MAP_H
#define SIM_KERNEL_ENGINE_MAP_H

#include <stddef.h>
#include <stdint.h>

/* From a client and one of its ids to what has that id. Open addressing, at most half full. */
struct engine_entry {
	uint64_t client, id;
	void *thing; /* NULL: an empty place */
};

struct engine_map {
	struct engine_entry *entries;
	size_t count, room; /* room: a power of two, or 0 */
};

/* NULL: there is none. */
void *engine_map_find(const struct engine_map *m, uint64_t client, uint64_t id);
/* 0 or -ENOMEM. The key must not be there yet. */
int engine_map_add(struct engine_map *m, uint64_t client, uint64_t id, void *thing);
void engine_map_remove(struct engine_map *m, uint64_t client, uint64_t id);
void engine_map_free(struct engine_map *m);

#endif /* SIM_KERNEL_ENGINE_MAP_H */
