/* SPDX-License-Identifier: Apache-2.0 */
#include "states.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t size;
static unsigned char *seen; /* open addressing; `filled` says which places hold a state */
static unsigned char *filled;
static size_t room, count;
static unsigned char *queue; /* depth first */
static size_t queue_room, queue_count;

static uint64_t hash_of(const unsigned char *state)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

	for (size_t i = 0; i < size; i++)
		h = (h ^ state[i]) * 0x100000001b3u;
	return h ^ h >> 29;
}

static void *checked(void *p)
{
	if (!p) {
		(void)fprintf(stderr, "no memory for the states\n");
		exit(2);
	}
	return p;
}

static bool insert(const unsigned char *state)
{
	size_t at = hash_of(state) & (room - 1);

	for (; filled[at]; at = (at + 1) & (room - 1))
		if (memcmp(seen + at * size, state, size) == 0)
			return false;
	memcpy(seen + at * size, state, size);
	filled[at] = 1;
	count++;
	return true;
}

static void make_room(size_t places)
{
	room = places;
	count = 0;
	seen = checked(calloc(room, size));
	filled = checked(calloc(room, 1));
}

static void grow(void)
{
	unsigned char *old = seen, *old_filled = filled;
	size_t old_room = room;

	make_room(room * 2);
	for (size_t i = 0; i < old_room; i++)
		if (old_filled[i])
			(void)insert(old + i * size);
	free(old);
	free(old_filled);
}

void states_begin(size_t state_bytes)
{
	size = state_bytes;
	make_room(1 << 16);
	queue_count = 0;
}

void states_visit(const void *state)
{
	if (count * 2 > room)
		grow();
	if (!insert(state))
		return;
	if (queue_count == queue_room) {
		queue_room = queue_room ? queue_room * 2 : 1024;
		queue = checked(realloc(queue, queue_room * size));
	}
	memcpy(queue + queue_count++ * size, state, size);
}

bool states_next(void *out)
{
	if (queue_count == 0)
		return false;
	memcpy(out, queue + --queue_count * size, size);
	return true;
}

size_t states_end(void)
{
	free(seen);
	free(filled);
	free(queue);
	queue = NULL;
	queue_room = 0;
	return count;
}
