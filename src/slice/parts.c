/* SPDX-License-Identifier: Apache-2.0 */
#include "slice/parts.h"

#include "rt/sat.h"

#define UNIT_NS     64u /* of what rows tell: 4.5 minutes until it is 0 again */
#define WALL_MAX_NS UINT64_C(100000000000)

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void count(_Atomic uint64_t *word, uint64_t by)
{
	atomic_fetch_add_explicit(word, by, memory_order_relaxed);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static unsigned device_of(const struct tr_state_usage *row)
{
	return (unsigned)(load(&row->owner) & 0xff) % TR_DEVICES_MAX;
}

/* Counts what it has to its credit. */
static void publish(struct tr_parts_device *here, struct tr_state_pace *pace,
		    struct tr_state_usage *row)
{
	int64_t credit_ns = atomic_load(&here->credit_ns);

	while (credit_ns > 0 &&
	       !atomic_compare_exchange_weak(&here->credit_ns, &credit_ns, 0))
		;
	if (credit_ns <= 0)
		return;
	count(&row->gpu_ns, (uint64_t)credit_ns);
	count(&pace->parts_ns, (uint64_t)credit_ns);
}

static uint64_t units(uint64_t ns)
{
	return ns >= UINT64_C(1) << 37 ? UINT32_MAX / 2 : (ns + UNIT_NS / 2) / UNIT_NS;
}

void tr_parts_add(struct tr_parts *parts, struct tr_state_pace *pace,
		  struct tr_state_usage *row, uint64_t known_ns, uint64_t wanted_ns,
		  uint64_t ours_ns)
{
	struct tr_parts_device *here = &parts->devices[device_of(row)];

	count(&row->told, units(known_ns) + (units(wanted_ns) << 32));
	count(&here->counted_ns, ours_ns);
	atomic_store_explicit(&here->has_told, 1, memory_order_relaxed);
	atomic_fetch_add(&here->credit_ns, (int64_t)ours_ns);
	publish(here, pace, row);
}

static double least_of(double a, double b)
{
	return a < b ? a : b;
}

static double most_of(double a, double b)
{
	return a > b ? a : b;
}

/* Far more than it can be: another process has the row and began at 0. */
static double told_since(uint64_t now, uint64_t then)
{
	uint32_t more = (uint32_t)now - (uint32_t)then;

	return (double)(more >> 31 ? (uint32_t)now : more) * UNIT_NS;
}

/* What each process on the device has told in the last WALL. Returns how many rows to look at. */
static uint32_t look(struct tr_parts *parts, const struct tr_state *state, unsigned dev,
		     double wall_ns)
{
	uint32_t rows = tr_usage_rows(atomic_load(&state->high_water));

	for (uint32_t i = 0; i < rows; i++) {
		const struct tr_state_usage *row = &state->usage[i];
		uint64_t owner = load(&row->owner), told = load(&row->told);
		double known_ns = told_since(told, parts->told[i]);
		double wanted_ns = told_since(told >> 32, parts->told[i] >> 32);

		parts->since[i] = (struct tr_told_since){ 0 };
		if (!owner || (owner & 0xff) != dev)
			continue;
		parts->told[i] = told;
		parts->since[i].known_ns = least_of(known_ns, wall_ns);
		parts->since[i].wanted = least_of(wanted_ns / wall_ns, 1);
	}
	return rows;
}

/* Of six points between 0 and 1, where to look at a function (how far from 1; they lie evenly about the
 * middle) and how much that counts (Gauss). */
#define POINTS 6
static const float away[POINTS] = { 0.033765243f, 0.169395307f, 0.380690407f,
				    0.619309593f, 0.830604693f, 0.966234757f };
static const float weight[POINTS] = { 0.085662246f, 0.180380787f, 0.233956967f,
				      0.233956967f, 0.180380787f, 0.085662246f };

/* All wants at x = 1 - away[k]: the product of (1 - w + w x). */
static void wants_of(const struct tr_parts *parts, uint32_t rows, double *all)
{
	for (unsigned k = 0; k < POINTS; k++) {
		all[k] = 1;
		for (uint32_t i = 0; i < rows; i++)
			if (parts->since[i].wanted > 0)
				all[k] *= 1 - parts->since[i].wanted * (double)away[k];
	}
}

/* What one that wants the GPU for this part of the time has of it when the others want it at any time and
 * those who want it at once take turns: w * E(1 / (1 + how many others)). */
static double turns_of(double wanted, const double *all)
{
	double sum = 0;

	for (unsigned k = 0; k < POINTS; k++)
		sum += (double)weight[k] * all[k] / (1 - wanted * (double)away[k]);
	return wanted * sum;
}

/* Up to this everybody has what it told, so that all together have GPU: equal turns. */
static double level_of(const struct tr_parts *parts, uint32_t rows, double gpu_ns,
		       double wall_ns)
{
	uint32_t above, before = UINT32_MAX;
	double level_ns = 0, rest_ns;

	for (;; before = above) {
		above = 0;
		rest_ns = gpu_ns;
		for (uint32_t i = 0; i < rows; i++) {
			const struct tr_told_since *it = &parts->since[i];
			double ns = it->known_ns + it->wanted * wall_ns;

			if (ns <= level_ns)
				rest_ns -= ns;
			else
				above++;
		}
		if (!above || above == before)
			return above ? level_ns : wall_ns;
		level_ns = most_of(rest_ns, 0) / above;
	}
}

/* Where somebody always wants the GPU nobody has more than the level. */
static void bound_known(struct tr_parts *parts, uint32_t rows, double gpu_ns,
			double wall_ns)
{
	double level_ns = level_of(parts, rows, gpu_ns, wall_ns), nobody = 1, over_ns;

	for (uint32_t i = 0; i < rows; i++)
		nobody *= 1 - parts->since[i].wanted;
	for (uint32_t i = 0; i < rows; i++) {
		over_ns = most_of(parts->since[i].known_ns - level_ns, 0);
		parts->since[i].known_ns -= over_ns * (1 - nobody);
	}
}

/* The part of row MINE in the GPU, which was charged in WALL. */
static double part_of(const struct tr_parts *parts, uint32_t rows, size_t mine,
		      double gpu_ns, double wall_ns)
{
	const struct tr_told_since *own = &parts->since[mine];
	double all[POINTS], known_ns = 0, wanted = 0, turns = 0, wants_ns, part_ns = 0;

	wants_of(parts, rows, all);
	for (uint32_t i = 0; i < rows; i++) {
		known_ns += parts->since[i].known_ns;
		wanted += parts->since[i].wanted;
		turns += turns_of(parts->since[i].wanted, all);
	}
	/* What is known is believed, but not so far that nothing is left to the others. */
	wants_ns = wanted * wall_ns;
	wants_ns = least_of(
		wants_ns, most_of(gpu_ns - known_ns,
				  gpu_ns * wants_ns / 2 / most_of(known_ns + wants_ns, 1)));
	if (known_ns > 0)
		part_ns = own->known_ns * least_of(1, (gpu_ns - wants_ns) / known_ns);
	if (turns > 0)
		part_ns += least_of(own->wanted * wall_ns,
				    wants_ns * turns_of(own->wanted, all) / turns);
	return part_ns;
}

static void share(struct tr_parts *parts, struct tr_state *state,
		  struct tr_state_usage *row, uint64_t now_ns, bool is_counted)
{
	unsigned dev = device_of(row);
	struct tr_parts_device *here = &parts->devices[dev];
	uint64_t gpu_ns = load(&state->pace[dev].gpu_ns);
	uint64_t charge_ns = tr_sat_sub(gpu_ns, load(&here->gpu_ns)), part_ns;
	uint64_t wall_ns = tr_sat_sub(now_ns, load(&here->since_ns)), counted_ns;
	uint32_t rows = look(parts, state, dev, (double)wall_ns);

	atomic_store(&here->gpu_ns, gpu_ns);
	atomic_store(&here->since_ns, now_ns);
	counted_ns = atomic_exchange(&here->counted_ns, 0);
	atomic_store(&here->has_told, 0);
	if (!is_counted || wall_ns > WALL_MAX_NS)
		return;
	bound_known(parts, rows, (double)charge_ns, (double)wall_ns);
	part_ns = (uint64_t)part_of(parts, rows, (size_t)(row - state->usage),
				    (double)charge_ns, (double)wall_ns);
	atomic_fetch_add(&here->credit_ns, (int64_t)(part_ns - counted_ns));
	publish(here, &state->pace[dev], row);
}

static bool is_long_ago(const struct tr_parts_device *here,
			const struct tr_state_pace *pace, uint64_t now_ns)
{
	uint64_t ns = least(tr_sat_mul(load(&pace->longest_ns), 4), TR_PARTS_MAX_NS);

	return tr_sat_sub(now_ns, load(&here->since_ns)) >=
	       (ns > TR_PARTS_NS ? ns : TR_PARTS_NS);
}

static bool try_hold(struct tr_parts *parts)
{
	return !atomic_exchange_explicit(&parts->is_held, 1, memory_order_acquire);
}

static void let_go(struct tr_parts *parts)
{
	atomic_store_explicit(&parts->is_held, 0, memory_order_release);
}

void tr_parts_share(struct tr_parts *parts, struct tr_state *state,
		    struct tr_state_usage *row, uint64_t now_ns)
{
	unsigned dev = device_of(row);

	if (!is_long_ago(&parts->devices[dev], &state->pace[dev], now_ns) ||
	    !try_hold(parts))
		return;
	share(parts, state, row, now_ns, true);
	let_go(parts);
}

void tr_parts_begin(struct tr_parts *parts, struct tr_state *state,
		    struct tr_state_usage *row, uint64_t now_ns)
{
	unsigned dev = device_of(row);
	struct tr_parts_device *here = &parts->devices[dev];

	if (atomic_load_explicit(&here->has_told, memory_order_relaxed) ||
	    !is_long_ago(here, &state->pace[dev], now_ns) || !try_hold(parts))
		return;
	share(parts, state, row, now_ns, false);
	let_go(parts);
}

void tr_parts_forget(struct tr_parts *parts)
{
	for (unsigned d = 0; d < TR_DEVICES_MAX; d++) {
		atomic_store(&parts->devices[d].since_ns, 0);
		atomic_store(&parts->devices[d].counted_ns, 0);
		atomic_store(&parts->devices[d].credit_ns, 0);
	}
	let_go(parts);
}

uint64_t tr_parts_gpu_ns(const struct tr_state_pace *pace, const struct tr_state_usage *row)
{
	uint64_t part_ns = load(&row->gpu_ns), all_ns = load(&pace->parts_ns);

	return all_ns ? tr_sat_part(load(&pace->gpu_ns), part_ns, all_ns) : part_ns;
}
