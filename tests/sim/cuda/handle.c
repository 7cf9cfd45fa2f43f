/* SPDX-License-Identifier: Apache-2.0 */
#include "handle.h"

#include <stdint.h>

static struct sim_handle **bucket_of(struct sim_handle_set *set, const void *handle)
{
	/* Heap addresses differ above their lowest four bits. */
	uint64_t mixed = ((uint64_t)(uintptr_t)handle >> 4) * 0x9e3779b97f4a7c15u;

	return &set->bucket[(mixed >> 32) % SIM_HANDLE_BUCKETS];
}

/* The link that points at HANDLE, so that it can be taken out; the end of the chain if none
 * does. */
static struct sim_handle **find_link(struct sim_handle_set *set, const void *handle)
{
	struct sim_handle **link = bucket_of(set, handle);

	while (*link && (const void *)*link != handle)
		link = &(*link)->next;
	return link;
}

void sim_handle_add(struct sim_handle_set *set, struct sim_handle *h)
{
	struct sim_handle **link;

	pthread_mutex_lock(&set->lock);
	link = bucket_of(set, h);
	h->next = *link;
	*link = h;
	pthread_mutex_unlock(&set->lock);
}

bool sim_handle_live(struct sim_handle_set *set, const void *handle)
{
	bool live;

	pthread_mutex_lock(&set->lock);
	live = handle && *find_link(set, handle);
	pthread_mutex_unlock(&set->lock);
	return live;
}

bool sim_handle_remove(struct sim_handle_set *set, const void *handle)
{
	struct sim_handle **link;
	bool live;

	pthread_mutex_lock(&set->lock);
	link = find_link(set, handle);
	live = handle && *link;
	if (live)
		*link = (*link)->next;
	pthread_mutex_unlock(&set->lock);
	return live;
}

struct sim_handle *sim_handle_pick(struct sim_handle_set *set,
				   bool (*match)(const struct sim_handle *h,
						 const void *what),
				   const void *what)
{
	struct sim_handle *found = NULL;

	pthread_mutex_lock(&set->lock);
	for (size_t i = 0; i < SIM_HANDLE_BUCKETS && !found; i++) {
		struct sim_handle **link = &set->bucket[i];

		while (*link && !match(*link, what))
			link = &(*link)->next;
		found = *link;
		if (found)
			*link = found->next;
	}
	pthread_mutex_unlock(&set->lock);
	return found;
}
