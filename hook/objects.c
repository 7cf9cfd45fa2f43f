/* SPDX-License-Identifier: Apache-2.0 */
#include "objects.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "lock.h"
#include "rt/file.h"

#define SHARDS        32u
#define SHARD_BITS    5u
#define HOME_SHIFT    16u  /* which bits of a hash are the place in the shard */
#define FIRST_ENTRIES 32u  /* in the library's own data: most processes need no mapping */
#define NEXT_ENTRIES  256u /* the first mapping: one page */

/* ---- locks --------------------------------------------------------------------------- */

#define LOCK_SPINS   100u
#define LOCK_YIELDS  1000u
#define LOCK_WAIT_NS UINT64_C(2000000000)

_Thread_local struct tr_lock *tr_lock_held;

/* After many tries: true when WORD, that is held, has been the same for too long. */
static bool is_lost(unsigned word, unsigned *waited_for, uint64_t *since_ns)
{
	/* a real-time waiter must let a lesser holder run */
	const struct timespec pause = { .tv_nsec = 50000 };
	uint64_t now_ns = tr_clock_ns();

	if (!*since_ns || *waited_for != word) {
		*waited_for = word;
		*since_ns = now_ns;
	}
	(void)nanosleep(&pause, NULL);
	return now_ns - *since_ns >= LOCK_WAIT_NS;
}

TR_COLD void tr_lock_slowly(struct tr_lock *lock)
{
	unsigned waited_for = 0;
	uint64_t since_ns = 0;

	for (unsigned tries = 0;; tries++) {
		unsigned word = atomic_load_explicit(&lock->word, memory_order_relaxed);

		if (!(word & 1) &&
		    atomic_compare_exchange_strong(&lock->word, &word, word + 1))
			return;
		if (tries < LOCK_SPINS)
			continue;
		if (tries < LOCK_YIELDS)
			(void)sched_yield();
		else if (word & 1 && is_lost(word, &waited_for, &since_ns) &&
			 atomic_compare_exchange_strong(&lock->word, &word, word + 2))
			return;
	}
}

/* ---- the table ----------------------------------------------------------------------- */

/*
 * word: bytes/512 : 39 | device : 4 | kind : 4 | owner : 16 | 0. A kind is never 0, so an
 * empty place is a word of 0. Linear probing; removal moves later entries back, so there
 * are no tombstones and a table that has been busy for a year is as fast as a new one.
 */
struct entry {
	uint64_t key, word;
};

struct shard {
	struct tr_lock lock;
	uint32_t size;        /* places, a power of two; 0: still the first ones */
	uint32_t live;        /* entries */
	atomic_uint reserved; /* room of entries that were taken and may come back */
	struct entry *entries;
	uint8_t pad[40];
};
_Static_assert(sizeof(struct shard) == 64, "one cache line each");

static struct shard shards[SHARDS] __attribute__((aligned(64)));
static struct entry first[SHARDS][FIRST_ENTRIES];

/* number - 1 -> context; NULL: nobody's. */
static struct {
	_Atomic(CUcontext) ctx;
	tr_dev dev; /* these two: written while ctx is `taken` */
	bool is_own;
} contexts[TR_CONTEXTS_MAX];
static atomic_uint contexts_used;

/* Handles that no driver gives: a number that is between two states, and one whose context
 * is gone while the memory lives on in the primary one. */
static CUcontext const taken = (CUcontext)(void *)shards, orphan = (CUcontext)(void *)first;

#define KIND_SHIFT  17u
#define DEV_SHIFT   21u
#define BYTES_SHIFT 25u

static uint64_t pack(const struct tr_object *object)
{
	uint64_t amount = object->kind == TR_KIND_HANDLE ? object->bytes
							 : object->bytes / TR_UNIT_BYTES;

	return amount << BYTES_SHIFT | (uint64_t)object->dev.at << DEV_SHIFT |
	       (uint64_t)object->kind << KIND_SHIFT | (uint64_t)object->owner << 1;
}

static enum tr_kind kind_of(uint64_t word)
{
	return (enum tr_kind)(word >> KIND_SHIFT & 15);
}

static struct tr_object unpack(uint64_t word)
{
	struct tr_object object = {
		.bytes = word >> BYTES_SHIFT,
		.kind = kind_of(word),
		.dev = { (uint8_t)(word >> DEV_SHIFT & 15) },
		.owner = (uint16_t)(word >> 1),
	};

	if (object.kind != TR_KIND_HANDLE)
		object.bytes *= TR_UNIT_BYTES;
	return object;
}

/* Handles and pointers may be equal numbers: each name space is a table of its own. */
static uint64_t space_of(enum tr_kind kind)
{
	return kind == TR_KIND_POOLED ? TR_KIND_MEMORY : kind;
}

/* Neighbours within NEAR_KEYS units of 512 bytes lie beside each other: who allocates in a
 * row finds the line in the cache. Everything coarser is spread evenly, so that 2 MiB steps
 * collide no more than any others. */
#define NEAR_KEYS 4u

static uint64_t hash_of(uint64_t key, enum tr_kind kind)
{
	uint64_t near = key / TR_UNIT_BYTES % NEAR_KEYS,
		 h = key / TR_UNIT_BYTES / NEAR_KEYS;

	/* Handles are small numbers and pointers of the host: their low bits count as well.
	 */
	h = (h ^ key % TR_UNIT_BYTES << 40 ^ space_of(kind) << 56) *
	    UINT64_C(0x9e3779b97f4a7c15);
	h ^= h >> 29;
	h *= UINT64_C(0xbf58476d1ce4e5b9);
	return h ^ near << HOME_SHIFT;
}

static struct shard *shard_of(uint64_t hash)
{
	return &shards[hash >> (64 - SHARD_BITS)];
}

static struct shard *lock_shard(uint64_t hash)
{
	struct shard *shard = shard_of(hash);

	tr_lock(&shard->lock);
	if (!shard->size) {
		shard->entries = first[shard - shards];
		shard->size = FIRST_ENTRIES;
	}
	return shard;
}

static uint32_t home_of(const struct shard *shard, uint64_t hash)
{
	return (uint32_t)(hash >> HOME_SHIFT) & (shard->size - 1);
}

/* The place of KEY, or the empty one where it would go. There always is an empty one. */
static struct entry *place_of(const struct shard *shard, uint64_t key, enum tr_kind kind,
			      uint64_t hash)
{
	uint32_t mask = shard->size - 1, at = home_of(shard, hash);

	for (;; at = (at + 1) & mask) {
		struct entry *entry = &shard->entries[at];

		if (!entry->word)
			return entry;
		if (entry->key == key && space_of(kind_of(entry->word)) == space_of(kind))
			return entry;
	}
}

static void unmap_entries(const struct shard *shard, struct entry *entries, uint32_t size)
{
	if (entries != first[shard - shards])
		(void)munmap(entries, size * sizeof(*entries));
}

/* Moves the shard to SIZE places, a power of two that holds what it has. */
TR_COLD static int resize(struct shard *shard, uint32_t size)
{
	struct entry *old = shard->entries;
	uint32_t old_size = shard->size;
	void *map = mmap(NULL, size * sizeof(*old), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return -ENOMEM;
	/* In this order: a jump in between leaves no place outside the mapping. */
	if (size < old_size)
		shard->size = size;
	atomic_signal_fence(memory_order_seq_cst);
	shard->entries = map;
	atomic_signal_fence(memory_order_seq_cst);
	shard->size = size;
	for (uint32_t i = 0; i < old_size; i++) {
		enum tr_kind kind = kind_of(old[i].word);

		if (old[i].word)
			*place_of(shard, old[i].key, kind,
				  hash_of(old[i].key, kind)) = old[i];
	}
	unmap_entries(shard, old, old_size);
	return 0;
}

static uint32_t reserved_of(const struct shard *shard)
{
	return atomic_load_explicit(&shard->reserved, memory_order_relaxed);
}

/* Room for one more, at three quarters full at most. */
static int make_room(struct shard *shard)
{
	uint64_t after = (uint64_t)shard->live + reserved_of(shard) + 1;

	if (after * 4 <= (uint64_t)shard->size * 3)
		return 0;
	if (shard->size >= UINT32_C(1) << 30)
		return -ENOMEM;
	return resize(shard, shard->size < NEXT_ENTRIES ? NEXT_ENTRIES : shard->size * 2);
}

/* Memory follows the number of live allocations downwards too. No room: it stays. */
static void release_room(struct shard *shard)
{
	if (shard->size > NEXT_ENTRIES &&
	    ((uint64_t)shard->live + reserved_of(shard)) * 8 < shard->size)
		(void)resize(shard, shard->size / 2);
}

/* Empties PLACE and moves back what probed past it. */
static void remove_at(struct shard *shard, struct entry *place)
{
	uint32_t mask = shard->size - 1, hole = (uint32_t)(place - shard->entries);

	for (uint32_t at = (hole + 1) & mask; shard->entries[at].word;
	     at = (at + 1) & mask) {
		const struct entry *e = &shard->entries[at];
		uint32_t home = home_of(shard, hash_of(e->key, kind_of(e->word)));

		/* It may move when its home is not between the hole and where it stands. */
		if (((at - home) & mask) >= ((at - hole) & mask)) {
			shard->entries[hole] = *e;
			hole = at;
		}
	}
	shard->entries[hole].word = 0;
	shard->live--;
}

int tr_objects_put(uint64_t key, const struct tr_object *object, struct tr_object *old)
{
	uint64_t hash = hash_of(key, object->kind);
	struct shard *shard = lock_shard(hash);
	struct entry *place;
	int r = make_room(shard);

	if (object->kind != TR_KIND_HANDLE && object->bytes >= TR_BYTES_MAX)
		r = -ENOMEM;
	if (r == 0) {
		place = place_of(shard, key, object->kind, hash);
		if (place->word) {
			*old = unpack(place->word);
			r = 1;
		} else {
			shard->live++;
		}
		*place = (struct entry){ key, pack(object) };
	}
	tr_unlock(&shard->lock);
	return r;
}

TR_COLD bool tr_objects_find(uint64_t key, enum tr_kind kind, struct tr_object *out)
{
	uint64_t hash = hash_of(key, kind);
	struct shard *shard = lock_shard(hash);
	uint64_t word = place_of(shard, key, kind, hash)->word;

	tr_unlock(&shard->lock);
	*out = unpack(word);
	return word != 0;
}

bool tr_objects_take(uint64_t key, enum tr_kind kind, struct tr_object *out)
{
	uint64_t hash = hash_of(key, kind);
	struct shard *shard = lock_shard(hash);
	struct entry *place = place_of(shard, key, kind, hash);
	bool found = place->word != 0;

	if (found) {
		*out = unpack(place->word);
		remove_at(shard, place);
		atomic_fetch_add_explicit(&shard->reserved, 1, memory_order_relaxed);
		release_room(shard);
	}
	tr_unlock(&shard->lock);
	return found;
}

TR_COLD void tr_objects_put_back(uint64_t key, const struct tr_object *object)
{
	uint64_t hash = hash_of(key, object->kind);
	struct shard *shard = lock_shard(hash);
	struct entry *place = place_of(shard, key, object->kind, hash);

	atomic_fetch_sub_explicit(&shard->reserved, 1, memory_order_relaxed);
	if (!place->word)
		shard->live++;
	*place = (struct entry){ key, pack(object) };
	tr_unlock(&shard->lock);
}

void tr_objects_drop(uint64_t key, enum tr_kind kind)
{
	/* No lock: nobody needs to see at once that there is more room. */
	atomic_fetch_sub_explicit(&shard_of(hash_of(key, kind))->reserved, 1,
				  memory_order_relaxed);
}

TR_COLD void tr_objects_sweep(bool (*doomed)(uint64_t key, const struct tr_object *object,
					     void *arg),
			      void *arg)
{
	for (uint64_t s = 0; s < SHARDS; s++) {
		struct shard *shard = lock_shard(s << (64 - SHARD_BITS));

		for (uint32_t at = 0; at < shard->size;) {
			struct entry *entry = &shard->entries[at];
			struct tr_object object = unpack(entry->word);

			/* After a removal another entry may stand here. */
			if (entry->word && doomed(entry->key, &object, arg))
				remove_at(shard, entry);
			else
				at++;
		}
		release_room(shard);
		tr_unlock(&shard->lock);
	}
}

/* ---- whose they are ------------------------------------------------------------------ */

uint16_t tr_context_find(CUcontext ctx)
{
	unsigned used = atomic_load_explicit(&contexts_used, memory_order_acquire);

	for (unsigned i = 0; ctx && i < used; i++)
		if (atomic_load_explicit(&contexts[i].ctx, memory_order_relaxed) == ctx)
			return (uint16_t)(i + 1);
	return 0;
}

/* Two threads at once may each make a number for the same context: whoever ends it looks
 * for all of them. */
TR_COLD uint16_t tr_context_number(CUcontext ctx, tr_dev dev, bool is_own)
{
	uint16_t known = tr_context_find(ctx);
	unsigned used;

	if (known || !ctx)
		return known;
	for (unsigned i = 0; i < TR_CONTEXTS_MAX; i++) {
		CUcontext none = NULL;

		if (!atomic_compare_exchange_strong(&contexts[i].ctx, &none, taken))
			continue;
		contexts[i].dev = dev;
		contexts[i].is_own = is_own;
		atomic_store(&contexts[i].ctx, ctx);
		used = atomic_load(&contexts_used);
		while (used < i + 1 &&
		       !atomic_compare_exchange_weak(&contexts_used, &used, i + 1))
			;
		return (uint16_t)(i + 1);
	}
	return 0;
}

static bool is_of(unsigned i, CUcontext seen, CUcontext ctx, const tr_dev *primary_of)
{
	if (!seen || seen == taken)
		return false;
	return primary_of ? !contexts[i].is_own && contexts[i].dev.at == primary_of->at
			  : seen == ctx;
}

TR_COLD void tr_leaving_begin(struct tr_leaving *leaving, CUcontext ctx,
			      const tr_dev *primary_of)
{
	unsigned used = atomic_load(&contexts_used);

	leaving->count = 0;
	if (!ctx && !primary_of)
		return;
	for (unsigned i = 0; i < used && leaving->count < TR_LEAVING_MAX; i++) {
		CUcontext seen = atomic_load(&contexts[i].ctx);

		if (!is_of(i, seen, ctx, primary_of) ||
		    !atomic_compare_exchange_strong(&contexts[i].ctx, &seen, taken))
			continue;
		leaving->rows[leaving->count].number = (uint16_t)(i + 1);
		leaving->rows[leaving->count++].ctx = seen;
	}
}

/* What bears the number FROM bears TO from now on. */
TR_COLD static void renumber(uint16_t from, uint16_t to)
{
	for (uint64_t s = 0; s < SHARDS; s++) {
		struct shard *shard = lock_shard(s << (64 - SHARD_BITS));

		for (uint32_t at = 0; at < shard->size; at++) {
			struct tr_object object = unpack(shard->entries[at].word);

			if (!shard->entries[at].word || !tr_is_of_context(object.kind) ||
			    object.owner != from)
				continue;
			object.owner = to;
			shard->entries[at].word = pack(&object);
		}
		tr_unlock(&shard->lock);
	}
}

TR_COLD void tr_leaving_stays(const struct tr_leaving *leaving)
{
	for (unsigned i = 0; i < leaving->count; i++) {
		uint16_t number = leaving->rows[i].number, other = 0;
		CUcontext ctx = leaving->rows[i].ctx;

		/* Who allocated meanwhile made another number: one is enough. */
		if (ctx != orphan)
			other = tr_context_find(ctx);
		if (other)
			renumber(number, other);
		atomic_store(&contexts[number - 1].ctx, other ? NULL : ctx);
	}
}

/* Another context of the same device that is not the program's own. */
TR_COLD static uint16_t relative_of(uint16_t number)
{
	unsigned used = atomic_load(&contexts_used);

	for (unsigned i = 0; i < used; i++)
		if (i + 1u != number && is_of(i, atomic_load(&contexts[i].ctx), NULL,
					      &contexts[number - 1].dev))
			return (uint16_t)(i + 1);
	return 0;
}

TR_COLD void tr_leaving_orphans(const struct tr_leaving *leaving)
{
	for (unsigned i = 0; i < leaving->count; i++) {
		uint16_t number = leaving->rows[i].number, other = relative_of(number);

		if (other)
			renumber(number, other);
		atomic_store(&contexts[number - 1].ctx, other ? NULL : orphan);
	}
}

TR_COLD void tr_leaving_gone(const struct tr_leaving *leaving)
{
	for (unsigned i = 0; i < leaving->count; i++)
		atomic_store(&contexts[leaving->rows[i].number - 1].ctx, NULL);
}

TR_COLD void tr_table_forget(void)
{
	for (unsigned s = 0; s < SHARDS; s++) {
		if (shards[s].size)
			unmap_entries(&shards[s], shards[s].entries, shards[s].size);
		shards[s].entries = NULL;
		shards[s].size = shards[s].live = 0;
		atomic_store(&shards[s].reserved, 0);
		tr_unlock(&shards[s].lock);
	}
	memset(first, 0, sizeof(first));
	for (unsigned i = 0; i < atomic_load(&contexts_used); i++)
		atomic_store(&contexts[i].ctx, NULL);
	atomic_store(&contexts_used, 0);
}
