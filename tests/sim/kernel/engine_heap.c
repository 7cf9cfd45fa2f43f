/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_heap.h"

#include <errno.h>
#include <stdbool.h>

#include "engine_memory.h"

int engine_heap_reserve(struct engine_heap *h, size_t count)
{
	size_t room = h->room ? h->room : 16;
	struct engine_place *places;

	if (count <= h->room)
		return 0;
	while (room < count)
		room *= 2;
	places = engine_regrow(h->places, room, sizeof(*places));
	if (!places)
		return -ENOMEM;
	h->places = places;
	h->room = room;
	return 0;
}

static bool is_before(const struct engine_place *a, const struct engine_place *b)
{
	return a->major != b->major ? a->major < b->major : a->minor < b->minor;
}

static void put(struct engine_heap *h, size_t i, struct engine_place p)
{
	h->places[i] = p;
	p.node->place = i + 1;
}

static void sift_up(struct engine_heap *h, size_t i, struct engine_place p)
{
	while (i > 0 && is_before(&p, &h->places[(i - 1) / 2])) {
		put(h, i, h->places[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	put(h, i, p);
}

static void sift_down(struct engine_heap *h, size_t i, struct engine_place p)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < h->count &&
		    is_before(&h->places[child + 1], &h->places[child]))
			child++;
		if (child >= h->count || !is_before(&h->places[child], &p))
			break;
		put(h, i, h->places[child]);
		i = child;
	}
	put(h, i, p);
}

void engine_heap_push(struct engine_heap *h, struct engine_node *node, uint64_t major,
		      uint64_t minor)
{
	struct engine_place p = { .major = major, .minor = minor, .node = node };

	sift_up(h, h->count++, p);
}

void engine_heap_remove(struct engine_heap *h, struct engine_node *node)
{
	struct engine_place last;
	size_t i;

	if (!node->place)
		return;
	i = node->place - 1;
	node->place = 0;
	last = h->places[--h->count];
	if (i == h->count)
		return;
	if (i > 0 && is_before(&last, &h->places[(i - 1) / 2]))
		sift_up(h, i, last);
	else
		sift_down(h, i, last);
}

void engine_heap_free(struct engine_heap *h)
{
	engine_release(h->places);
	*h = (struct engine_heap){ 0 };
}
