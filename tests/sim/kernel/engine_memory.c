/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_memory.h"

#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES 16u /* in front of a block: which power of two it is */
#define LEAST      5u

static struct engine_memory *memory;

void engine_memory_init(struct engine_memory *m, void *next, void *end)
{
	memset(m, 0, sizeof(*m));
	m->next = next;
	m->end = end;
}

void engine_memory_use(struct engine_memory *m)
{
	memory = m;
}

static unsigned power_of(const void *p)
{
	unsigned power;

	memcpy(&power, (const char *)p - HEAD_BYTES, sizeof(power));
	return power;
}

static size_t room_of(unsigned power)
{
	return ((size_t)1 << power) - HEAD_BYTES;
}

static void *take(unsigned power)
{
	char *block = memory->freed[power];

	if (block) {
		memcpy(&memory->freed[power], block, sizeof(void *));
		memset(block, 0, room_of(power));
		return block;
	}
	if ((size_t)(memory->end - memory->next) < (size_t)1 << power)
		return NULL;
	block = memory->next + HEAD_BYTES;
	memory->next += (size_t)1 << power;
	memcpy(block - HEAD_BYTES, &power, sizeof(power));
	return block;
}

void *engine_alloc(size_t count, size_t size)
{
	unsigned power = LEAST;
	size_t bytes;

	if (!memory)
		return calloc(count, size);
	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	while (power < ENGINE_MEMORY_SIZES && room_of(power) < bytes)
		power++;
	return power < ENGINE_MEMORY_SIZES ? take(power) : NULL;
}

void *engine_regrow(void *p, size_t count, size_t size)
{
	size_t bytes;
	void *grown;

	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	if (!memory)
		return realloc(p, bytes);
	if (p && room_of(power_of(p)) >= bytes)
		return p;
	grown = engine_alloc(count, size);
	if (grown && p) {
		memcpy(grown, p, room_of(power_of(p)));
		engine_release(p);
	}
	return grown;
}

void engine_release(void *p)
{
	unsigned power;

	if (!memory || !p) {
		free(p);
		return;
	}
	power = power_of(p);
	memcpy(p, &memory->freed[power], sizeof(void *));
	memory->freed[power] = p;
}
