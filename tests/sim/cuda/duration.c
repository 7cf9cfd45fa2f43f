/* SPDX-License-Identifier: Apache-2.0 */
#include "duration.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "init.h"
#include "lane.h"
#include "launch.h"
#include "module.h"

#define LOOP          "tranche_loop" /* begins the names of kernels that are told their time */
#define HANG          "_hang"
#define WAVE_NS       2000u
#define KERNEL_NS     2000u          /* before the first wave */
#define COPY_NS       1500u          /* before the first byte */
#define LONGEST_NS    RM_WORK_MAX_NS /* a kernel that hangs */
#define PERCENT       100u
#define SCRAMBLE_STEP 0x9e3779b97f4a7c15u

/* ---- noise --------------------------------------------------------------------------- */

static uint64_t scramble(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* The process' own sequence: equal seeds and ranks see equal times. */
static uint64_t next_random(uint64_t seed)
{
	static _Atomic uint64_t start, count;
	uint64_t s = atomic_load_explicit(&start, memory_order_relaxed);

	if (s == 0) {
		const char *rank = getenv("TRANCHE_SIM_RANK");

		s = scramble(seed +
			     SCRAMBLE_STEP * (1 + strtoull(rank ? rank : "0", NULL, 10))) |
		    1;
		atomic_store_explicit(&start, s, memory_order_relaxed);
	}
	return scramble(s + SCRAMBLE_STEP * atomic_fetch_add_explicit(
						    &count, 1, memory_order_relaxed));
}

/* NS, more or less by up to the machine's percentage. */
static uint64_t with_noise(uint64_t ns)
{
	const struct rm_machine *machine = sim_machine();
	double part;

	if (!machine || !machine->noise_percent || ns >= LONGEST_NS)
		return ns;
	/* 53 bits: from -1 to 1 */
	part = (double)(next_random(machine->seed) >> 11) / (double)(1ull << 52) - 1.0;
	ns += (uint64_t)(int64_t)((double)ns * part * machine->noise_percent / PERCENT);
	return ns < LONGEST_NS ? ns : LONGEST_NS;
}

/* ---- kernels ------------------------------------------------------------------------- */

static uint64_t unit_ns(const char *unit)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = { { "ns", 1 }, { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 } };

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(unit, units[i].name) == 0)
			return units[i].ns;
	return 0;
}

/* What a name ends with: "_200us"; 0 where it tells nothing. */
static uint64_t named_ns(const char *name)
{
	const char *tail = strrchr(name, '_');
	unsigned long long number;
	uint64_t ns;
	char *unit;

	if (!tail || tail[1] < '0' || tail[1] > '9')
		return 0;
	number = strtoull(tail + 1, &unit, 10);
	if (__builtin_mul_overflow(number, unit_ns(unit), &ns) || ns > LONGEST_NS)
		return 0;
	return ns;
}

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n >= m && strcmp(name + n - m, end) == 0;
}

static uint64_t waves_ns(uint64_t blocks, uint64_t at_once)
{
	uint64_t waves = (blocks + at_once - 1) / at_once;

	return waves < LONGEST_NS / WAVE_NS - 1 ? waves * WAVE_NS + KERNEL_NS : LONGEST_NS;
}

void sim_kernel_work(const struct sim_function *f, const struct sim_grid *grid,
		     struct rm_work *out)
{
	const char *name = f->decl->name;
	struct sim_limits limits;
	uint64_t per_sm, sms, ns;
	int fit = 0;

	sim_limits_of(f->module->ctx, &limits);
	sim_occupancy(f, grid->threads, grid->dynamic_bytes, &fit);
	per_sm = fit > 0 ? (uint64_t)fit : 1;
	sms = (grid->blocks + per_sm - 1) / per_sm;
	if (sms > limits.sm_count)
		sms = limits.sm_count;
	if (strncmp(name, LOOP, sizeof(LOOP) - 1) == 0)
		ns = grid->first < LONGEST_NS ? grid->first : LONGEST_NS;
	else if (ends_with(name, HANG))
		ns = LONGEST_NS;
	else
		ns = named_ns(name);
	if (ns == 0)
		ns = waves_ns(grid->blocks, per_sm * limits.sm_count);
	*out = (struct rm_work){
		.kind = RM_WORK_KERNEL,
		.sms = (uint32_t)(sms ? sms : 1),
		.ns = with_noise(ns),
	};
}

/* ---- copies -------------------------------------------------------------------------- */

/* Bytes a microsecond (which is MB/s) between host and device: what x16 of the generation that
 * the architecture has reaches. */
static uint64_t bus_rate(const struct rm_device *d)
{
	if (d->cc_major >= 9)
		return 50000;
	return d->cc_major == 8 ? 24000 : 12000;
}

/* Within the device every byte is read and written. */
static uint64_t local_rate(const struct rm_device *d)
{
	uint64_t rate = (uint64_t)d->memory_clock_khz / 1000 * 2 * d->bus_width_bits / 8 /
			2;

	return rate ? rate : 1;
}

CUresult sim_copy_time(uint32_t machine, enum sim_direction direction, uint64_t bytes)
{
	static const enum rm_work_kind kinds[] = {
		[SIM_COPY_IN] = RM_WORK_COPY_IN,
		[SIM_COPY_OUT] = RM_WORK_COPY_OUT,
		[SIM_COPY_LOCAL] = RM_WORK_COPY_LOCAL,
		[SIM_COPY_PEER] = RM_WORK_COPY_OUT,
	};
	const struct rm_device *facts = sim_device_facts(machine);
	uint64_t rate = direction == SIM_COPY_LOCAL ? local_rate(facts) : bus_rate(facts);
	const struct rm_work work = {
		.kind = kinds[direction],
		.ns = COPY_NS + (uint64_t)((double)bytes * 1000.0 / (double)rate),
	};

	return sim_lane_do(machine, &work);
}
