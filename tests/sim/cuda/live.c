/* SPDX-License-Identifier: Apache-2.0 */
#include "live.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* A hash set with open addressing. A removed slot keeps GONE until the table is built anew.
 */
struct slot {
	const void *handle;
	enum sim_live kind;
};

static const char gone_mark;
#define GONE ((const void *)&gone_mark)

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct slot *slots;
static size_t room, used; /* room: a power of two; used: live and gone slots */

static size_t start_of(const void *handle, size_t n)
{
	return (size_t)(((uintptr_t)handle >> 4) * 0x9e3779b97f4a7c15ull >> 20) & (n - 1);
}

static struct slot *find(const void *handle)
{
	if (!room)
		return NULL;
	for (size_t i = start_of(handle, room); slots[i].handle; i = (i + 1) & (room - 1))
		if (slots[i].handle == handle)
			return &slots[i];
	return NULL;
}

static void put(struct slot *table, size_t n, struct slot s)
{
	size_t i = start_of(s.handle, n);

	while (table[i].handle)
		i = (i + 1) & (n - 1);
	table[i] = s;
}

static bool rebuild(void)
{
	size_t live = 0, n = 64;

	for (size_t i = 0; i < room; i++)
		live += slots[i].handle && slots[i].handle != GONE;
	while (n < live * 4)
		n *= 2;
	struct slot *table = calloc(n, sizeof *table);
	if (!table)
		return false;
	for (size_t i = 0; i < room; i++)
		if (slots[i].handle && slots[i].handle != GONE)
			put(table, n, slots[i]);
	free(slots);
	slots = table;
	room = n;
	used = live;
	return true;
}

bool sim_live_add(const void *handle, enum sim_live kind)
{
	pthread_rwlock_wrlock(&lock);
	bool ok = (used + 1) * 2 <= room || rebuild();
	if (ok) {
		put(slots, room, (struct slot){ handle, kind });
		used++;
	}
	pthread_rwlock_unlock(&lock);
	return ok;
}

void sim_live_remove(const void *handle)
{
	pthread_rwlock_wrlock(&lock);
	struct slot *s = find(handle);
	if (s)
		s->handle = GONE;
	pthread_rwlock_unlock(&lock);
}

bool sim_live_is(const void *handle, enum sim_live kind)
{
	if (!handle)
		return false;
	pthread_rwlock_rdlock(&lock);
	const struct slot *s = find(handle);
	bool is = s && s->kind == kind;
	pthread_rwlock_unlock(&lock);
	return is;
}
