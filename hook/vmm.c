/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "lock.h"
#include "objects.h"
#include "rt/sat.h"

/* Handles are entries of the object table: bytes = index of the object, owner = references.
 */

struct object {
	uint64_t bytes;
	uint32_t references, maps; /* both 0: the place is free */
	uint32_t next_free;
	tr_dev dev;
};

/* One mapping. Sorted by space, then start. Two may overlap: in a multicast space, where
 * each device binds its own, and for a moment when the driver reuses addresses before the
 * unmap is recorded. */
struct range {
	uint64_t space, start, bytes;
	uint32_t object;
	uint32_t serial; /* when it was made; of a pending one, which mapping it belongs to
			  */
};

#define PENDING      (UINT32_C(1) << 31) /* in `object`: the driver has not answered yet */
#define NONE         UINT32_MAX
#define FIRST_BYTES  4096u
#define SPACE_ARRAYS (UINT64_C(1) << 63)
#define SPACE_CASTS  (UINT64_C(1) << 62)

static struct tr_lock lock;
static struct object *objects;
static struct range *ranges;
static size_t objects_bytes, ranges_bytes; /* mapped */
static uint32_t object_count, range_count;
static uint32_t free_object = NONE;
static uint32_t serial; /* of the last mapping made */

/* Makes room for COUNT elements of SIZE bytes at *AT. */
static int make_room(void **at, size_t *mapped_bytes, size_t count, size_t size)
{
	size_t bytes = *mapped_bytes ? *mapped_bytes : FIRST_BYTES;
	void *map;

	if (count * size <= *mapped_bytes)
		return 0;
	while (bytes < count * size)
		bytes *= 2;
	map = *at ? mremap(*at, *mapped_bytes, bytes, MREMAP_MAYMOVE)
		  : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (map == MAP_FAILED)
		return -ENOMEM;
	*at = map;
	*mapped_bytes = bytes;
	return 0;
}

static int make_range_room(uint32_t more)
{
	void *at = ranges;
	int r = make_room(&at, &ranges_bytes, (size_t)range_count + more, sizeof(*ranges));

	ranges = at;
	return r;
}

static int new_object(tr_dev dev, uint64_t bytes, uint32_t *out)
{
	void *at = objects;

	if (free_object != NONE) {
		*out = free_object;
		free_object = objects[*out].next_free;
	} else {
		if (make_room(&at, &objects_bytes, (size_t)object_count + 1,
			      sizeof(*objects)) < 0)
			return -ENOMEM;
		objects = at;
		*out = object_count++;
	}
	objects[*out] = (struct object){ .bytes = bytes, .dev = dev, .references = 1 };
	return 0;
}

static void drop_space(uint64_t space, uint32_t until);

static void free_if_unused(uint32_t index)
{
	struct object *object = &objects[index];

	if (object->references || object->maps)
		return;
	if (object->bytes)
		tr_ledger_refund(&tr_self.ledger, object->dev, TR_USED, object->bytes);
	object->next_free = free_object;
	free_object = index;
	/* Whatever was bound to a multicast object is not any more. */
	drop_space(SPACE_CASTS | index, serial);
}

static void unmap_object(uint32_t index)
{
	objects[index].maps--;
	free_if_unused(index);
}

static int add_handle(CUmemGenericAllocationHandle handle, uint32_t index)
{
	struct tr_object old,
		entry = { .kind = TR_KIND_HANDLE, .bytes = index, .owner = 1 };
	int r = tr_objects_put(handle, &entry, &old);

	/* The driver gave a handle that we took for live: its references are gone. */
	if (r > 0) {
		uint32_t stale = (uint32_t)old.bytes;

		objects[stale].references -= old.owner;
		free_if_unused(stale);
	}
	return r < 0 ? r : 0;
}

/* One more reference through a handle that is known. False: it is not. */
static bool add_reference(CUmemGenericAllocationHandle handle, int *r)
{
	struct tr_object entry, old;

	if (!tr_objects_find(handle, TR_KIND_HANDLE, &entry))
		return false;
	*r = -ENOMEM;
	if (entry.owner < UINT16_MAX) {
		entry.owner++;
		*r = tr_objects_put(handle, &entry, &old) < 0 ? -ENOMEM : 0;
		if (*r == 0)
			objects[entry.bytes].references++;
	}
	return true;
}

static int add_object(CUmemGenericAllocationHandle handle, tr_dev dev, uint64_t bytes)
{
	uint32_t index;
	int r = new_object(dev, bytes, &index);

	if (r == 0)
		r = add_handle(handle, index);
	else
		return r;
	if (r < 0) {
		objects[index] = (struct object){ 0 }; /* the caller refunds */
		free_if_unused(index);
	}
	return r;
}

int tr_vmm_add(CUmemGenericAllocationHandle handle, tr_dev dev, uint64_t bytes)
{
	int r;

	tr_lock(&lock);
	r = add_object(handle, dev, bytes);
	tr_unlock(&lock);
	return r;
}

int tr_vmm_add_import(CUmemGenericAllocationHandle handle)
{
	int r = 0;

	tr_lock(&lock);
	if (!add_reference(handle, &r))
		r = add_object(handle, (tr_dev){ 0 }, 0);
	tr_unlock(&lock);
	return r;
}

/* First range of SPACE that does not start before START. */
static uint32_t lower_bound(uint64_t space, uint64_t start)
{
	uint32_t low = 0, high = range_count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		const struct range *r = &ranges[mid];

		if (r->space < space || (r->space == space && r->start < start))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* First range that may reach into PLACE. */
static uint32_t first_overlap(const struct tr_place *place)
{
	uint32_t at = lower_bound(place->space, place->start);

	while (at > 0 && ranges[at - 1].space == place->space &&
	       tr_sat_add(ranges[at - 1].start, ranges[at - 1].bytes) > place->start)
		at--;
	return at;
}

static bool starts_within(uint32_t at, const struct tr_place *place)
{
	return at < range_count && ranges[at].space == place->space &&
	       ranges[at].start < tr_sat_add(place->start, place->bytes);
}

static bool ends_after_start(uint32_t at, const struct tr_place *place)
{
	return tr_sat_add(ranges[at].start, ranges[at].bytes) > place->start;
}

int tr_vmm_retained(CUmemGenericAllocationHandle handle, uint64_t addr)
{
	const struct tr_place place = { TR_SPACE_ADDRESSES, addr, 1 };
	int r = 0;

	tr_lock(&lock);
	if (!add_reference(handle, &r)) {
		for (uint32_t at = first_overlap(&place); starts_within(at, &place); at++) {
			uint32_t index = ranges[at].object & ~PENDING;

			if (!ends_after_start(at, &place))
				continue;
			r = add_handle(handle, index);
			objects[index].references += r == 0;
			break;
		}
	}
	tr_unlock(&lock);
	return r;
}

void tr_vmm_release_begin(struct tr_vmm_release *release,
			  CUmemGenericAllocationHandle handle)
{
	struct tr_object entry;

	*release = (struct tr_vmm_release){ .handle = handle };
	tr_lock(&lock);
	if (tr_objects_take(handle, TR_KIND_HANDLE, &entry)) {
		release->is_known = true;
		release->is_last = entry.owner <= 1;
		release->object = (uint32_t)entry.bytes;
		/* The last one stays out: the driver may give the same handle to another
		 * thread at once. The object itself keeps its count until the driver has
		 * answered. */
		if (!release->is_last) {
			entry.owner--;
			tr_objects_put_back(handle, &entry);
		}
	}
	tr_unlock(&lock);
}

void tr_vmm_release_end(const struct tr_vmm_release *release, bool is_released)
{
	struct tr_object entry = { .kind = TR_KIND_HANDLE,
				   .bytes = release->object,
				   .owner = 1 };

	if (!release->is_known)
		return;
	tr_lock(&lock);
	if (is_released) {
		if (release->is_last)
			tr_objects_drop(release->handle, TR_KIND_HANDLE);
		objects[release->object].references--;
		free_if_unused(release->object);
	} else if (release->is_last) {
		tr_objects_put_back(release->handle, &entry);
	} else if (tr_objects_take(release->handle, TR_KIND_HANDLE, &entry)) {
		entry.owner++;
		tr_objects_put_back(release->handle, &entry);
	}
	tr_unlock(&lock);
}

bool tr_vmm_space_of_multicast(CUmemGenericAllocationHandle handle, uint64_t *space)
{
	struct tr_object entry;

	if (!tr_objects_find(handle, TR_KIND_HANDLE, &entry))
		return false;
	*space = SPACE_CASTS | entry.bytes;
	return true;
}

uint64_t tr_vmm_space_of_array(const void *array)
{
	return SPACE_ARRAYS | (uint64_t)(uintptr_t)array;
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 32;
}

struct tr_place tr_vmm_place_in_array(const CUarrayMapInfo *info)
{
	const void *array = info->resourceType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY
				    ? (const void *)info->resource.mipmap
				    : (const void *)info->resource.array;
	uint64_t name = mix(1, info->subresourceType);

	/* A part is known by its exact description; unmapping something else leaves it
	 * mapped until the array goes, which counts too much, never too little. */
	if (info->subresourceType == CU_ARRAY_SPARSE_SUBRESOURCE_TYPE_MIPTAIL) {
		name = mix(name, info->subresource.miptail.layer);
		name = mix(name, info->subresource.miptail.offset);
		name = mix(name, info->subresource.miptail.size);
	} else {
		name = mix(name, info->subresource.sparseLevel.level);
		name = mix(name, info->subresource.sparseLevel.layer);
		name = mix(name, info->subresource.sparseLevel.offsetX);
		name = mix(name, info->subresource.sparseLevel.offsetY);
		name = mix(name, info->subresource.sparseLevel.offsetZ);
		name = mix(name, info->subresource.sparseLevel.extentWidth);
		name = mix(name, info->subresource.sparseLevel.extentHeight);
		name = mix(name, info->subresource.sparseLevel.extentDepth);
	}
	return (struct tr_place){ tr_vmm_space_of_array(array), name >> 1, 1 };
}

/* There is room. */
static void insert(const struct tr_place *place, uint32_t object, uint32_t number)
{
	uint32_t at = lower_bound(place->space, place->start);

	memmove(&ranges[at + 1], &ranges[at], (range_count - at) * sizeof(*ranges));
	ranges[at] = (struct range){ place->space, place->start, place->bytes, object,
				     number };
	range_count++;
}

static uint32_t new_ticket(void)
{
	static uint32_t last;

	last = last >= INT32_MAX ? 1 : last + 1;
	return last;
}

int64_t tr_vmm_map_begin(CUmemGenericAllocationHandle handle, const struct tr_place *place)
{
	struct tr_object entry;
	int64_t number = 0;

	tr_lock(&lock);
	if (tr_objects_find(handle, TR_KIND_HANDLE, &entry)) {
		number = make_range_room(1);
		if (number == 0) {
			number = new_ticket();
			objects[entry.bytes].maps++;
			insert(place, (uint32_t)entry.bytes | PENDING, (uint32_t)number);
		}
	}
	tr_unlock(&lock);
	return number;
}

int64_t tr_vmm_map_address_begin(uint64_t addr, const struct tr_place *place)
{
	const struct tr_place source = { TR_SPACE_ADDRESSES, addr, place->bytes };
	uint32_t count = 0, first;
	int64_t number = 0;

	tr_lock(&lock);
	first = first_overlap(&source);
	for (uint32_t at = first; starts_within(at, &source); at++)
		count++;
	if (count) {
		number = make_range_room(count);
		if (number == 0)
			number = new_ticket();
	}
	/* Address ranges sort before every other space, so inserting does not move them. */
	for (uint32_t at = first; number > 0 && at < first + count; at++) {
		uint32_t object = ranges[at].object & ~PENDING;

		if (!ends_after_start(at, &source))
			continue;
		objects[object].maps++;
		insert(place, object | PENDING, (uint32_t)number);
	}
	tr_unlock(&lock);
	return number;
}

static void remove_range(uint32_t at)
{
	memmove(&ranges[at], &ranges[at + 1], (range_count - at - 1) * sizeof(*ranges));
	range_count--;
}

void tr_vmm_map_end(int64_t number, const struct tr_place *place, bool is_mapped)
{
	uint32_t at;

	if (number <= 0)
		return;
	tr_lock(&lock);
	serial += is_mapped;
	for (at = lower_bound(place->space, place->start);
	     at < range_count && ranges[at].space == place->space &&
	     ranges[at].start == place->start;) {
		uint32_t object = ranges[at].object;

		if (!(object & PENDING) || ranges[at].serial != (uint32_t)number) {
			at++;
		} else if (is_mapped) {
			ranges[at].object = object & ~PENDING;
			ranges[at].serial = serial;
			at++;
		} else {
			remove_range(at);
			unmap_object(object & ~PENDING);
		}
	}
	tr_unlock(&lock);
}

uint32_t tr_vmm_unmap_begin(void)
{
	uint32_t now;

	tr_lock(&lock);
	now = serial;
	tr_unlock(&lock);
	return now;
}

static bool is_kept(const struct range *range, const struct tr_place *place, uint32_t until,
		    const tr_dev *only_dev)
{
	if (range->object & PENDING || (int32_t)(range->serial - until) > 0)
		return true;
	if (only_dev && objects[range->object].dev.at != only_dev->at)
		return true;
	return tr_sat_add(range->start, range->bytes) <= place->start;
}

/* Takes PLACE out of RANGE; what is left goes to KEPT[0..2]. How many pieces. */
static unsigned cut(const struct range *range, const struct tr_place *place,
		    struct range kept[static 2])
{
	uint64_t end = tr_sat_add(range->start, range->bytes);
	uint64_t place_end = tr_sat_add(place->start, place->bytes);
	unsigned pieces = 0;

	if (range->start < place->start) {
		kept[pieces] = *range;
		kept[pieces++].bytes = place->start - range->start;
	}
	if (end > place_end) {
		kept[pieces] = *range;
		kept[pieces].start = place_end;
		kept[pieces++].bytes = end - place_end;
	}
	return pieces;
}

/* Removes what was mapped in PLACE up to UNTIL. Objects are freed after the ranges are
 * whole again: the end of a multicast object removes ranges too. */
static void remove_place(uint32_t until, const struct tr_place *place,
			 const tr_dev *only_dev)
{
	uint32_t out = first_overlap(place), at = out, unused = NONE;
	struct range tail = { .object = NONE };

	for (; starts_within(at, place); at++) {
		struct range kept[2], range = ranges[at];
		struct object *object = &objects[range.object & ~PENDING];
		unsigned pieces;

		if (is_kept(&range, place, until, only_dev)) {
			ranges[out++] = range;
			continue;
		}
		pieces = cut(&range, place, kept);
		if (pieces && kept[0].start == range.start)
			ranges[out++] = kept[0];
		if (pieces && kept[pieces - 1].start != range.start)
			tail = kept[pieces - 1];
		object->maps += pieces;
		if (--object->maps == 0 && !object->references) {
			object->next_free = unused;
			unused = range.object;
		}
	}
	if (at != out)
		memmove(&ranges[out], &ranges[at], (range_count - at) * sizeof(*ranges));
	range_count -= at - out;
	if (tail.object != NONE) {
		const struct tr_place rest = { tail.space, tail.start, tail.bytes };

		/* No memory to say that the rest is mapped: it then counts for ever. */
		if (make_range_room(1) == 0)
			insert(&rest, tail.object, tail.serial);
	}
	while (unused != NONE) {
		uint32_t index = unused;

		unused = objects[index].next_free;
		free_if_unused(index);
	}
}

static void drop_space(uint64_t space, uint32_t until)
{
	const struct tr_place all = { space, 0, UINT64_MAX };

	remove_place(until, &all, NULL);
}

void tr_vmm_unmap_end(uint32_t began, const struct tr_place *place, const tr_dev *only_dev)
{
	tr_lock(&lock);
	remove_place(began, place, only_dev);
	tr_unlock(&lock);
}

void tr_vmm_space_gone(uint32_t began, uint64_t space)
{
	tr_lock(&lock);
	drop_space(space, began);
	tr_unlock(&lock);
}

void tr_vmm_forget(void)
{
	if (objects)
		(void)munmap(objects, objects_bytes);
	if (ranges)
		(void)munmap(ranges, ranges_bytes);
	objects = NULL;
	ranges = NULL;
	objects_bytes = ranges_bytes = 0;
	object_count = range_count = serial = 0;
	free_object = NONE;
	tr_unlock(&lock);
}
