/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_KERNEL_ENGINE_HEAP_H
#define SIM_KERNEL_ENGINE_HEAP_H

#include <stddef.h>
#include <stdint.h>

/* A heap of nodes that live in what they belong to: the smallest (major, minor) is on top. Room is
 * made ahead, so that pushing cannot fail. */
struct engine_node {
	size_t place; /* in the heap, from 1; 0: in none */
};

struct engine_place {
	uint64_t major, minor;
	struct engine_node *node;
};

struct engine_heap {
	struct engine_place *places;
	size_t count, room;
};

/* 0 or -ENOMEM: room for COUNT nodes. */
int engine_heap_reserve(struct engine_heap *h, size_t count);
void engine_heap_push(struct engine_heap *h, struct engine_node *node, uint64_t major,
		      uint64_t minor);
/* A node that is in no heap is left alone. */
void engine_heap_remove(struct engine_heap *h, struct engine_node *node);
void engine_heap_free(struct engine_heap *h);

#endif /* SIM_KERNEL_ENGINE_HEAP_H */
