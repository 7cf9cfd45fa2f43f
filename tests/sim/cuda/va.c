/* SPDX-License-Identifier: Apache-2.0 */
#include "va.h"

#include <errno.h>
#include <sys/mman.h>

#include "tree.h"

#define MIB        ((size_t)1 << 20)
#define GIB        ((size_t)1 << 30)
#define RESERVES   64 /* pieces of address space that all windows together may reserve */
#define STEP_BYTES (256 * GIB)

static const struct window_rule {
	size_t unit, first_bytes, least_bytes;
	int flags;
} rules[SIM_WINDOWS] = {
	[SIM_WINDOW_DEVICE] = { 2 * MIB, STEP_BYTES, 64 * MIB, 0 },
	[SIM_WINDOW_HOST] = { 4096, 64 * GIB, 64 * MIB, 0 },
	[SIM_WINDOW_LOW] = { 2 * MIB, GIB / 2, 16 * MIB, MAP_32BIT },
};

static struct sim_gaps gaps[SIM_WINDOWS];
static struct {
	uint64_t base, bytes;
	bool is_device;
} reserves[RESERVES];
static unsigned reserve_count;

static void *map_nothing(void *at, size_t bytes, int flags)
{
	return mmap(at, bytes, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

/* Reserves enough for BYTES; smaller pieces where the address space is limited (RLIMIT_AS).
 */
static bool grow_window(enum sim_window w, size_t bytes)
{
	const struct window_rule *rule = &rules[w];
	size_t want = rule->first_bytes > bytes ? rule->first_bytes : bytes;
	uint64_t base, unit = rule->unit;
	void *p = MAP_FAILED;

	if (reserve_count == RESERVES || bytes > SIZE_MAX / 2)
		return false;
	for (; want >= bytes && want >= rule->least_bytes; want /= 2) {
		p = map_nothing(NULL, want + unit, rule->flags);
		if (p != MAP_FAILED || want == bytes)
			break;
		if (want / 2 < bytes)
			want = bytes * 2;
	}
	if (p == MAP_FAILED)
		return false;
	base = ((uint64_t)(uintptr_t)p + unit - 1) & ~(unit - 1);
	want = want / unit * unit;
	if (sim_gaps_give(&gaps[w], base, want, NULL, NULL) != 0) {
		munmap(p, want + unit);
		return false;
	}
	reserves[reserve_count].base = base;
	reserves[reserve_count].bytes = want;
	reserves[reserve_count].is_device = w != SIM_WINDOW_HOST;
	reserve_count++;
	return true;
}

static size_t round_to_unit(enum sim_window w, size_t bytes)
{
	size_t unit = rules[w].unit;

	return bytes > SIZE_MAX - unit ? SIZE_MAX / unit * unit
				       : (bytes + unit - 1) / unit * unit;
}

uint64_t sim_va_take(enum sim_window w, size_t bytes, size_t align)
{
	size_t rounded = round_to_unit(w, bytes), unit = rules[w].unit, need;
	uint64_t base;

	if (align < unit)
		align = unit;
	if (rounded > SIZE_MAX - align)
		return 0;
	need = rounded + align - unit;
	base = sim_gaps_take(&gaps[w], rounded, align);
	if (base == 0 && grow_window(w, round_to_unit(w, need)))
		base = sim_gaps_take(&gaps[w], rounded, align);
	return base;
}

bool sim_va_take_at(enum sim_window w, uint64_t base, size_t bytes)
{
	if (base % rules[w].unit != 0)
		return false;
	return sim_gaps_take_at(&gaps[w], base, round_to_unit(w, bytes));
}

void sim_va_give(enum sim_window w, uint64_t base, size_t bytes)
{
	size_t rounded = round_to_unit(w, bytes);

	sim_va_unmap(base, rounded);
	/* no memory for the note: these addresses are lost to this process, nothing else */
	(void)sim_gaps_give(&gaps[w], base, rounded, NULL, NULL);
}

bool sim_va_is_device(uint64_t p)
{
	for (unsigned i = 0; i < reserve_count; i++)
		if (reserves[i].is_device && p - reserves[i].base < reserves[i].bytes)
			return true;
	return false;
}

int sim_va_map(uint64_t base, size_t bytes, int fd, uint64_t offset)
{
	void *at = (void *)(uintptr_t)base;

	if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
		 fd, (off_t)offset) == MAP_FAILED)
		return -errno;
	/* as with the real driver, a forked child has none of it */
	(void)madvise(at, bytes, MADV_DONTFORK);
	return 0;
}

int sim_va_map_anonymous(uint64_t base, size_t bytes)
{
	void *p = mmap((void *)(uintptr_t)base, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? -errno : 0;
}

void sim_va_unmap(uint64_t base, size_t bytes)
{
	void *at = (void *)(uintptr_t)base;

	/* out of mappings (vm.max_map_count): the bytes at least are to go */
	if (map_nothing(at, bytes, MAP_FIXED) == MAP_FAILED)
		(void)madvise(at, bytes, MADV_DONTNEED);
}
