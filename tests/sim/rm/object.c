/* SPDX-License-Identifier: Apache-2.0 */
#include "rm/client.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * The list of live objects. The slots lie in memory shared with the kernel process; which
 * slot an object has is known only here, in a private index: open addressing, deletions
 * shift back.
 */
#define INDEX_FIRST 4096u

static struct {
	struct wire_table *table;
	uint32_t *index; /* slot + 1, or 0 */
	uint32_t index_room, live;
	uint32_t *free_slots; /* a stack, as large as the index */
	uint32_t free_count;
} objects;

static void *take_pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	return p == MAP_FAILED ? NULL : p;
}

static void drop_index(void)
{
	if (objects.index)
		munmap(objects.index, objects.index_room * sizeof(uint32_t));
	if (objects.free_slots)
		munmap(objects.free_slots, objects.index_room * sizeof(uint32_t));
}

void rm_objects_reset(void)
{
	drop_index();
	if (objects.table)
		munmap(objects.table, WIRE_TABLE_BYTES);
	memset(&objects, 0, sizeof(objects));
}

static uint32_t hash_of(uint32_t kind, uint64_t handle)
{
	uint64_t h = (handle ^ ((uint64_t)kind << 56)) * 0x9e3779b97f4a7c15u;

	return (uint32_t)(h >> 32);
}

static bool slot_is(uint32_t slot, uint32_t kind, uint64_t handle)
{
	const struct wire_slot *s = &objects.table->slots[slot];

	return s->kind == kind &&
	       atomic_load_explicit(&s->handle, memory_order_relaxed) == handle;
}

/* The place in the index that holds (KIND, HANDLE), or the empty one where it belongs. */
static uint32_t find_place(uint32_t kind, uint64_t handle)
{
	uint32_t mask = objects.index_room - 1, i = hash_of(kind, handle) & mask;

	while (objects.index[i] && !slot_is(objects.index[i] - 1, kind, handle))
		i = (i + 1) & mask;
	return i;
}

static int resize_index(uint32_t room)
{
	uint32_t *index = take_pages(room * sizeof(uint32_t));
	uint32_t *free_slots = take_pages(room * sizeof(uint32_t));
	uint32_t old_room = objects.index_room, *old = objects.index;

	if (!index || !free_slots) {
		if (index)
			munmap(index, room * sizeof(uint32_t));
		if (free_slots)
			munmap(free_slots, room * sizeof(uint32_t));
		return -ENOMEM;
	}
	if (objects.free_count)
		memcpy(free_slots, objects.free_slots,
		       objects.free_count * sizeof(uint32_t));
	objects.index = index;
	objects.index_room = room;
	for (uint32_t i = 0; i < old_room; i++) {
		const struct wire_slot *s;

		if (!old[i])
			continue;
		s = &objects.table->slots[old[i] - 1];
		index[find_place(s->kind, atomic_load(&s->handle))] = old[i];
	}
	if (old)
		munmap(old, old_room * sizeof(uint32_t));
	if (objects.free_slots)
		munmap(objects.free_slots, old_room * sizeof(uint32_t));
	objects.free_slots = free_slots;
	return 0;
}

static void remove_place(uint32_t hole)
{
	uint32_t mask = objects.index_room - 1, i = hole;

	for (;;) {
		const struct wire_slot *s;
		uint32_t home;

		i = (i + 1) & mask;
		if (!objects.index[i])
			break;
		s = &objects.table->slots[objects.index[i] - 1];
		home = hash_of(s->kind, atomic_load(&s->handle)) & mask;
		/* may it move into the hole? only if its home is not between the two */
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		objects.index[hole] = objects.index[i];
		hole = i;
	}
	objects.index[hole] = 0;
}

/* The first object of a process: the kernel process makes the table, so that a client's
 * limits on file sizes do not apply and the kernel's own mapping cannot be cut short. */
static int attach_table(void)
{
	struct wire_request req = { .op = WIRE_TABLE };
	struct wire_reply reply;
	struct wire_table *table;
	int r, fd;

	r = rm_call(&req, offsetof(struct wire_request, hello), -1, &reply, &fd);
	if (r != 0)
		return r;
	if (fd < 0)
		return -EMFILE;
	table = mmap(NULL, WIRE_TABLE_BYTES, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_NORESERVE, fd, 0);
	close(fd);
	if (table == MAP_FAILED)
		return -ENOMEM;
	rm_lock();
	if (objects.table)
		munmap(table,
		       WIRE_TABLE_BYTES); /* another thread was first: the same table */
	else
		objects.table = table;
	r = objects.index ? 0 : resize_index(INDEX_FIRST);
	rm_unlock();
	return r;
}

static int add_locked(uint32_t kind, uint32_t device, uint64_t handle, uint64_t bytes)
{
	struct wire_slot *s;
	uint32_t place, slot;
	int r;

	if ((uint64_t)objects.live * 2 >= objects.index_room) {
		r = resize_index(objects.index_room * 2);
		if (r != 0)
			return r;
	}
	place = find_place(kind, handle);
	if (objects.index[place])
		return -EEXIST;
	if (objects.free_count)
		slot = objects.free_slots[--objects.free_count];
	else
		slot = atomic_load_explicit(&objects.table->high, memory_order_relaxed);
	if (slot >= WIRE_SLOTS_MAX)
		return -ENOSPC;
	s = &objects.table->slots[slot];
	s->kind = (uint16_t)kind;
	s->device = (uint16_t)device;
	atomic_store_explicit(&s->handle, handle, memory_order_relaxed);
	atomic_store_explicit(&s->bytes, bytes, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->seq, 1, memory_order_release);
	if (slot == atomic_load_explicit(&objects.table->high, memory_order_relaxed))
		atomic_store_explicit(&objects.table->high, slot + 1, memory_order_release);
	objects.index[place] = slot + 1;
	objects.live++;
	return 0;
}

int rm_object_add(enum rm_kind kind, uint32_t device, uint64_t handle, uint64_t bytes)
{
	bool attached;
	int r;

	r = rm_check_mine();
	if (r != 0)
		return r;
	rm_lock();
	attached = objects.table && objects.index;
	rm_unlock();
	if (!attached) {
		r = attach_table();
		if (r != 0)
			return r;
	}
	rm_lock();
	r = add_locked((uint32_t)kind, device, handle, bytes);
	rm_unlock();
	return r;
}

/* The place of a live object, or -1; under the lock. */
static int64_t place_of(uint32_t kind, uint64_t handle)
{
	uint32_t place;

	if (!objects.table || !objects.index)
		return -1;
	place = find_place(kind, handle);
	return objects.index[place] ? (int64_t)place : -1;
}

void rm_object_resize(enum rm_kind kind, uint64_t handle, uint64_t bytes)
{
	int64_t place;

	if (!rm_is_mine())
		return;
	rm_lock();
	place = place_of((uint32_t)kind, handle);
	if (place >= 0)
		atomic_store_explicit(&objects.table->slots[objects.index[place] - 1].bytes,
				      bytes, memory_order_relaxed);
	rm_unlock();
}

void rm_object_remove(enum rm_kind kind, uint64_t handle)
{
	int64_t place;
	uint32_t slot;

	if (!rm_is_mine())
		return;
	rm_lock();
	place = place_of((uint32_t)kind, handle);
	if (place >= 0) {
		slot = objects.index[place] - 1;
		remove_place((uint32_t)place);
		atomic_fetch_add_explicit(&objects.table->slots[slot].seq, 1,
					  memory_order_release);
		objects.free_slots[objects.free_count++] = slot;
		objects.live--;
	}
	rm_unlock();
}
