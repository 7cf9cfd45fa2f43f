/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rt/file.h"
#include "rt/sat.h"

#define SWEEP_NS UINT64_C(1000000000)
#define IDLE_NS  UINT64_C(200000000) /* a look at the root: is there something new */
#define WHO_NS   UINT64_C(250000000) /* a program takes longer to start */
#define EARLY_NS UINT64_C(20000000)  /* a sweep that is due within */
#define STALE_NS UINT64_C(20000000)  /* what was read longer ago decides nothing */

void tr_keeper_open(struct tr_keeper *out, const struct tr_gpus *gpus)
{
	*out = (struct tr_keeper){ 0 };
	tr_fleet_open(&out->fleet, gpus);
}

void tr_keeper_close(struct tr_keeper *keeper)
{
	tr_fleet_close(&keeper->fleet);
	tr_crowd_close(&keeper->crowd);
	free(keeper->leases);
	free(keeper->lessees);
	*keeper = (struct tr_keeper){ 0 };
}

int tr_keeper_add(struct tr_keeper *keeper, const struct tr_slice_dir *dir,
		  struct tr_err *err)
{
	return tr_fleet_add(&keeper->fleet, dir, err);
}

int tr_keeper_sweep(struct tr_keeper *keeper, struct tr_err *err)
{
	int r = 0;

	for (unsigned g = 0; g < keeper->fleet.gpus->count; g++) {
		int swept = tr_sweep_memory(&keeper->fleet, &keeper->crowd, (int)g,
					    &keeper->swept[g], err);

		(void)tr_sweep_time(&keeper->fleet, &keeper->crowd, (int)g,
				    &keeper->swept[g], NULL);
		r = r < 0 ? r : swept;
	}
	return r;
}

static void forget(const struct tr_kept *kept, void *arg)
{
	tr_crowd_forget(arg, kept);
}

void tr_keeper_only_added(struct tr_keeper *keeper)
{
	keeper->fleet.is_given = true;
}

int tr_keeper_drop(struct tr_keeper *keeper, const char *path)
{
	return tr_fleet_drop(&keeper->fleet, path, forget, &keeper->crowd);
}

/* ---- leases -------------------------------------------------------------------------- */

static bool takes_part(const struct tr_kept *kept)
{
	return kept->is_occupied && kept->is_armed;
}

static unsigned rank_of(const struct tr_kept *kept, unsigned d)
{
	return tr_priority_rank(kept->devices[d].priority);
}

/* On which devices anybody could get a lease at all. */
static void find_contested(struct tr_keeper *keeper, uint64_t now_ns)
{
	uint64_t ranks[3] = { 0 }, ours = 0;

	keeper->contested = 0;
	for (size_t i = 0; i < keeper->fleet.count; i++) {
		struct tr_kept *kept = keeper->fleet.slices[i];

		tr_kept_look_in(kept, now_ns);
		for (unsigned d = 0; takes_part(kept) && d < kept->device_count; d++) {
			uint64_t bit = kept->rows[d].gpu < 0
					       ? 0
					       : UINT64_C(1) << kept->rows[d].gpu;

			ranks[rank_of(kept, d)] |= bit;
			ours |= kept->is_ours ? bit : 0;
			if (kept->is_ours && tr_can_borrow(&kept->devices[d]))
				keeper->contested |= bit;
		}
	}
	keeper->ranked = (ranks[0] & ranks[1]) | (ranks[1] & ranks[2]) |
			 (ranks[0] & ranks[2]);
	keeper->contested |= ours & keeper->ranked;
}

static bool is_due(uint64_t last_ns, uint64_t now_ns, uint64_t every_ns)
{
	return last_ns == 0 || now_ns < last_ns || now_ns - last_ns >= every_ns;
}

static bool make_room(struct tr_keeper *keeper)
{
	size_t room = keeper->fleet.room;
	struct tr_lease_row *leases;
	struct tr_kept **lessees;

	if (room <= keeper->lease_room)
		return true;
	leases = realloc(keeper->leases, room * sizeof(*leases));
	if (leases)
		keeper->leases = leases;
	lessees = realloc(keeper->lessees, room * sizeof(struct tr_kept *));
	if (lessees)
		keeper->lessees = lessees;
	if (leases && lessees)
		keeper->lease_room = room;
	return leases && lessees;
}

static bool read_activity(struct tr_kept *kept, unsigned d, uint64_t now_ns)
{
	struct tr_kept_row *row = &kept->rows[d];
	struct tr_state_pace pace;

	if (!tr_kept_read(kept, &pace, sizeof(pace),
			  offsetof(struct tr_state, pace) + d * sizeof(pace)))
		return false;
	tr_activity_look(&row->activity, &pace, now_ns);
	row->longest_ns = pace.longest_ns;
	row->rank = rank_of(kept, d);
	row->can_borrow = tr_can_borrow(&kept->devices[d]);
	row->read_ns = now_ns;
	return true;
}

/* Between two readings of its pacing line nothing else of a sleeper is looked at: of many slices each
 * would be a miss of the processor's caches. */
static bool is_active(const struct tr_kept_row *row, const struct tr_policy_device *device,
		      uint64_t now_ns)
{
	return !tr_activity_is_dozing(&row->activity, now_ns) &&
	       tr_activity_is_active(&row->activity, now_ns,
				     tr_activity_trust_ns(device, row->longest_ns));
}

static bool look_at(struct tr_keeper *keeper, struct tr_kept *kept, unsigned d,
		    uint64_t now_ns, struct tr_lease_row *out)
{
	struct tr_kept_row *row = &kept->rows[d];
	uint64_t pause_ns = tr_activity_pause_ns(
		&row->activity, now_ns, keeper->looked[row->gpu], keeper->active[row->gpu],
		keeper->ranked >> row->gpu & 1);

	/* Looks are never quite on time: half of one early is due. */
	if (is_due(row->read_ns, now_ns, tr_sat_sub(pause_ns, TR_LEASE_LOOK_NS / 2)) &&
	    !read_activity(kept, d, now_ns))
		return false;
	*out = (struct tr_lease_row){
		.rank = row->rank,
		.is_active = is_active(row, &kept->devices[d], now_ns),
		.can_borrow = row->can_borrow,
	};
	return true;
}

/* Till the next look: each wakes a core. Until somebody wakes nothing changes when of those who work
 * there is none, or one to whom it does not matter when it ends: then it is when the first sleeper is
 * due, or half of the way there, as leases are short. */
static uint64_t till_next_ns(const struct tr_keeper *keeper, unsigned gpu, uint64_t now_ns)
{
	size_t count = keeper->looked[gpu], active = keeper->active[gpu];
	bool is_ranked = keeper->ranked >> gpu & 1, is_alone = active == 1 && !is_ranked;
	uint64_t ns = UINT64_MAX;

	for (size_t i = 0; i < count; i++) {
		const struct tr_kept *kept = keeper->lessees[i];
		const struct tr_kept_row *row = &kept->rows[tr_kept_row_of(kept, (int)gpu)];
		uint64_t pause_ns = tr_activity_pause_ns(&row->activity, now_ns, count,
							 active, is_ranked);

		if (is_alone && keeper->leases[i].is_active)
			continue;
		if (pause_ns == 0)
			return TR_LEASE_LOOK_NS;
		pause_ns = tr_sat_sub(row->read_ns + pause_ns, now_ns);
		ns = pause_ns < ns ? pause_ns : ns;
	}
	return tr_leases_doze_ns(ns, is_alone);
}

/* Ends at once what does not go on: waiting for it to lapse would be felt. */
static void write_lease(_Atomic uint64_t *word, bool *is_clear, bool is_on,
			uint64_t until_ns)
{
	if (is_on)
		atomic_store_explicit(word, until_ns, memory_order_relaxed);
	else if (!*is_clear)
		atomic_store_explicit(word, 0, memory_order_relaxed);
	*is_clear = !is_on;
}

static void write_leases(struct tr_kept *kept, unsigned d, const struct tr_lease_row *lease,
			 uint64_t borrow_until_ns, uint64_t block_until_ns)
{
	struct tr_policy_device *page_row = &kept->page.writable->devices[d];
	struct tr_kept_row *row = &kept->rows[d];

	write_lease(&page_row->lease_until_ns, &row->is_unlent, lease->may_borrow,
		    borrow_until_ns);
	write_lease(&page_row->block_until_ns, &row->is_unblocked, lease->must_wait,
		    block_until_ns);
}

static void lease_gpu(struct tr_keeper *keeper, unsigned gpu)
{
	uint64_t looked_ns = tr_clock_ns(), now_ns, next_ns;
	size_t count = 0;

	for (size_t i = 0; i < keeper->fleet.count; i++) {
		struct tr_kept *kept = keeper->fleet.slices[i];
		int d = takes_part(kept) ? tr_kept_row_of(kept, (int)gpu) : -1;

		if (d >= 0 &&
		    look_at(keeper, kept, (unsigned)d, looked_ns, &keeper->leases[count]))
			keeper->lessees[count++] = kept;
	}
	keeper->looked[gpu] = count;
	keeper->active[gpu] = 0;
	for (size_t i = 0; i < count; i++)
		keeper->active[gpu] += keeper->leases[i].is_active;
	tr_leases_decide(keeper->leases, count, keeper->swept[gpu].is_foreign_busy);
	next_ns = till_next_ns(keeper, gpu, looked_ns);
	if (next_ns < keeper->look_ns)
		keeper->look_ns = next_ns;
	/* Stopped in between (a suspended machine, SIGSTOP): the next look decides. */
	now_ns = tr_clock_ns();
	if (tr_sat_sub(now_ns, looked_ns) > STALE_NS)
		return;
	for (size_t i = 0; i < count; i++) {
		struct tr_kept *kept = keeper->lessees[i];

		if (kept->is_ours)
			write_leases(kept, (unsigned)tr_kept_row_of(kept, (int)gpu),
				     &keeper->leases[i],
				     now_ns + next_ns + TR_LEASE_BORROW_NS,
				     now_ns + TR_LEASE_BLOCK_NS);
	}
}

/* ---- a turn -------------------------------------------------------------------------- */

static bool is_used(const struct tr_keeper *keeper, unsigned gpu)
{
	for (size_t i = 0; i < keeper->fleet.count; i++)
		if (tr_kept_row_of(keeper->fleet.slices[i], (int)gpu) >= 0)
			return true;
	return false;
}

/* True: NVML was asked. */
static bool sweep_due(struct tr_keeper *keeper, unsigned gpu, uint64_t now_ns)
{
	struct tr_swept *swept = &keeper->swept[gpu];
	bool is_memory = is_due(swept->listed_ns, now_ns, SWEEP_NS);

	if (!is_used(keeper, gpu))
		return false;
	if (is_memory)
		(void)tr_sweep_memory(&keeper->fleet, &keeper->crowd, (int)gpu, swept,
				      NULL);
	else if (is_due(swept->asked_ns, now_ns, tr_sweep_pause_ns(swept) - EARLY_NS))
		(void)tr_sweep_time(&keeper->fleet, &keeper->crowd, (int)gpu, swept, NULL);
	else
		return false;
	return true;
}

/* One question a turn: leases must not wait for NVML longer than one answer takes. */
static void sweep_one_due(struct tr_keeper *keeper, uint64_t now_ns)
{
	for (unsigned g = 0; g < keeper->fleet.gpus->count; g++)
		if (sweep_due(keeper, g, now_ns) && keeper->contested)
			return;
}

static uint64_t pause_ns(const struct tr_keeper *keeper)
{
	uint64_t ns = IDLE_NS;

	if (keeper->contested)
		return keeper->look_ns;
	for (unsigned g = 0; g < keeper->fleet.gpus->count; g++)
		if (is_used(keeper, g) && tr_sweep_pause_ns(&keeper->swept[g]) < ns)
			ns = tr_sweep_pause_ns(&keeper->swept[g]);
	return ns;
}

uint64_t tr_keeper_turn(struct tr_keeper *keeper)
{
	uint64_t now_ns = tr_clock_ns();

	tr_fleet_scan(&keeper->fleet, now_ns, forget, &keeper->crowd);
	if (is_due(keeper->occupied_ns, now_ns, WHO_NS)) {
		keeper->occupied_ns = now_ns;
		find_contested(keeper, now_ns);
	}
	keeper->look_ns = TR_LEASE_DOZE_MAX_NS;
	if (keeper->contested && make_room(keeper))
		for (unsigned g = 0; g < keeper->fleet.gpus->count; g++)
			if (keeper->contested >> g & 1)
				lease_gpu(keeper, g);
	sweep_one_due(keeper, now_ns);
	return pause_ns(keeper);
}
