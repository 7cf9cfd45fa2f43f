/* SPDX-License-Identifier: Apache-2.0 */
#include "slice/rate.h"

#include "rt/sat.h"

#define HOUR_NS       UINT64_C(3600000000000)
#define WINDOW_MIN_NS UINT64_C(100000)
#define WINDOW_MAX_NS UINT64_C(10000000000)
#define WINDOW_TIMES  3u /* of what a submission takes beyond the window */
#define GAMMA_ONE     (UINT64_C(1) << 16)
#define GAMMA_MIN     (GAMMA_ONE / 64)
#define GAMMA_MAX     (GAMMA_ONE * 4)

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* NS / rate, exact up to rounding down: the remainder is below 2^32, so its shift fits. */
static uint64_t stretch(uint64_t ns, uint64_t rate_q32)
{
	uint64_t whole, rest;

	if (rate_q32 == TR_RATE_ALL)
		return ns;
	whole = ns / rate_q32;
	rest = ns % rate_q32;
	return tr_sat_add(tr_sat_mul(whole, TR_RATE_ALL), (rest << 32) / rate_q32);
}

uint64_t tr_rate_gamma(const struct tr_rate *rate, uint64_t ns)
{
	uint64_t whole = tr_sat_mul(ns >> 16, rate->gamma_q16);

	return tr_sat_add(whole, ((ns & 0xffff) * rate->gamma_q16) >> 16);
}

/* ---- policy -------------------------------------------------------------------------- */

static uint64_t share(uint64_t rate_q32)
{
	return !rate_q32 || rate_q32 > TR_RATE_ALL ? TR_RATE_ALL : rate_q32;
}

static uint64_t within(uint64_t value, uint64_t unset, uint64_t low, uint64_t high)
{
	return !value ? unset : most(low, least(value, high));
}

void tr_rate_read(struct tr_rate *out, const struct tr_policy_device *page_row,
		  unsigned cores_percent)
{
	uint64_t environment = TR_RATE_ALL, rate_max;

	*out = (struct tr_rate){
		.rate_q32 = TR_RATE_ALL,
		.rate_max_q32 = TR_RATE_ALL,
		.window_ns = TR_WINDOW_NS,
		.debt_max_ns = TR_DEBT_MAX_NS,
		.ahead_ns = TR_AHEAD_NS,
		.gamma_q16 = GAMMA_ONE,
	};
	if (cores_percent && cores_percent < 100)
		environment = TR_RATE_ALL * cores_percent / 100;
	if (page_row) {
		out->rate_q32 = share(load(&page_row->rate_q32));
		rate_max = load(&page_row->rate_max_q32);
		out->rate_max_q32 = rate_max ? share(rate_max) : out->rate_q32;
		out->window_ns = within(load(&page_row->window_ns), TR_WINDOW_NS,
					WINDOW_MIN_NS, WINDOW_MAX_NS);
		out->debt_max_ns = within(load(&page_row->debt_max_ns), TR_DEBT_MAX_NS,
					  out->window_ns, HOUR_NS);
		out->gamma_q16 = within(load(&page_row->gamma_q16), GAMMA_ONE, GAMMA_MIN,
					GAMMA_MAX);
		out->sharers = atomic_load_explicit(&page_row->sharers,
						    memory_order_relaxed);
		if (!out->sharers && out->gamma_q16 < GAMMA_ONE)
			out->sharers = 2;
		out->is_varied = atomic_load_explicit(&page_row->is_varied,
						      memory_order_relaxed);
		out->lease_until_ns = load(&page_row->lease_until_ns);
		out->block_until_ns = load(&page_row->block_until_ns);
		out->is_low = atomic_load_explicit(&page_row->priority,
						   memory_order_relaxed) == TR_PRIORITY_LOW;
		if (out->is_low)
			out->ahead_ns = TR_AHEAD_LOW_NS;
	}
	out->rate_q32 = least(out->rate_q32, environment);
	out->rate_max_q32 = most(least(out->rate_max_q32, environment), out->rate_q32);
}

/* Till when a short promise holds: 0 when it is over, or no keeper can have meant it. */
static uint64_t left(uint64_t until_ns, uint64_t now_ns)
{
	uint64_t ns = tr_sat_sub(until_ns, now_ns);

	return ns > TR_LEASE_MAX_NS ? 0 : ns;
}

bool tr_rate_is_borrowing(const struct tr_rate *rate, uint64_t now_ns)
{
	return rate->rate_max_q32 > rate->rate_q32 && left(rate->lease_until_ns, now_ns);
}

bool tr_rate_is_free(const struct tr_rate *rate, uint64_t now_ns)
{
	return rate->rate_q32 == TR_RATE_ALL && !rate->is_low &&
	       !left(rate->block_until_ns, now_ns);
}

uint64_t tr_rate_debt_max_ns(const struct tr_rate *rate, const struct tr_state_pace *pace)
{
	uint64_t longest = stretch(tr_sat_mul(load(&pace->longest_ns), 2), rate->rate_q32);

	return least(most(rate->debt_max_ns, longest), HOUR_NS);
}

/* ---- the two words ------------------------------------------------------------------- */

/* How far WORD lies ahead of now, as anybody may take it. */
static uint64_t ahead_of(uint64_t word, uint64_t now_ns, uint64_t bound_ns)
{
	return least(tr_sat_sub(word, now_ns), bound_ns);
}

static uint64_t excess(uint64_t word, uint64_t now_ns, uint64_t bound_ns,
		       uint64_t window_ns)
{
	return tr_sat_sub(ahead_of(word, now_ns, bound_ns), window_ns);
}

static void add(_Atomic uint64_t *word, uint64_t now_ns, uint64_t bound_ns,
		uint64_t cost_ns)
{
	uint64_t seen = load(word), next;

	do {
		next = tr_sat_add(ahead_of(seen, now_ns, bound_ns), cost_ns);
		next = tr_sat_add(now_ns, least(next, bound_ns));
	} while (!atomic_compare_exchange_weak(word, &seen, next));
}

/* The difference belongs to a submission that was charged when it went, so it is added to the
 * word as it is and not to now: what was submitted while the GPU idled has been waited for
 * already. A word that falls behind now counts as now at the next charge. */
static void correct(_Atomic uint64_t *word, uint64_t now_ns, uint64_t bound_ns,
		    uint64_t more_ns, uint64_t less_ns)
{
	uint64_t seen = load(word), next;

	do {
		next = least(seen, tr_sat_add(now_ns, bound_ns));
		next = tr_sat_sub(tr_sat_add(next, more_ns), less_ns);
		next = least(next, tr_sat_add(now_ns, bound_ns));
		if (next == seen)
			return;
	} while (!atomic_compare_exchange_weak(word, &seen, next));
}

/* The word that decides, the one that is looked at besides, and what they are charged. */
struct plan {
	uint64_t bound_ns, window_ns;         /* of tat */
	uint64_t bound_max_ns, window_max_ns; /* of tat_max */
	uint64_t cost_ns, cost_max_ns;
	bool is_tat_charged, is_tat_asked, is_max_asked;
};

/* tat_max stands for queued work where rate_max is all of the GPU, and that takes as long as it
 * takes: gamma corrects a share, not a queue. */
static uint64_t gamma_max(const struct tr_rate *rate, uint64_t ns)
{
	return rate->rate_max_q32 == TR_RATE_ALL ? ns : tr_rate_gamma(rate, ns);
}

/*
 * What a long submission took too much or too little would be lost beyond the window, always to the
 * slice's cost: a refund that comes when it idles already is none. So the window has room for it. And
 * while others' long submissions hold the GPU the slice falls behind by some of them: there, for a few.
 */
static uint64_t window_for(const struct tr_rate *rate, uint64_t ns)
{
	if (rate->sharers)
		ns = WINDOW_TIMES * tr_sat_sub(ns, rate->window_ns);
	return most(rate->window_ns, tr_rate_gamma(rate, ns));
}

static struct plan plan_for(const struct tr_rate *rate, const struct tr_state_pace *pace,
			    uint64_t now_ns, uint64_t ns)
{
	bool is_borrowing = tr_rate_is_borrowing(rate, now_ns);
	uint64_t bound_ns = tr_rate_debt_max_ns(rate, pace);

	return (struct plan){
		.bound_ns = bound_ns,
		.bound_max_ns = bound_ns,
		.window_ns = window_for(rate, ns),
		.window_max_ns = rate->ahead_ns,
		.cost_ns = stretch(tr_rate_gamma(rate, ns), rate->rate_q32),
		.cost_max_ns = stretch(gamma_max(rate, ns), rate->rate_max_q32),
		.is_tat_charged = !is_borrowing,
		.is_tat_asked = !is_borrowing && rate->rate_q32 < TR_RATE_ALL,
		.is_max_asked = is_borrowing || rate->is_low,
	};
}

static uint64_t wait_for(const struct plan *plan, const struct tr_rate *rate,
			 const struct tr_state_pace *pace, uint64_t now_ns)
{
	uint64_t wait_ns = least(left(rate->block_until_ns, now_ns), plan->bound_ns);

	if (plan->is_tat_asked)
		wait_ns = most(wait_ns, excess(load(&pace->tat_ns), now_ns, plan->bound_ns,
					       plan->window_ns));
	if (plan->is_max_asked)
		wait_ns = most(wait_ns, excess(load(&pace->tat_max_ns), now_ns,
					       plan->bound_max_ns, plan->window_max_ns));
	return wait_ns;
}

uint64_t tr_rate_wait_ns(const struct tr_rate *rate, const struct tr_state_pace *pace,
			 uint64_t now_ns)
{
	struct plan plan = plan_for(rate, pace, now_ns, 0);

	return wait_for(&plan, rate, pace, now_ns);
}

uint64_t tr_rate_pressed_ns(const struct tr_rate *rate, const struct tr_state_pace *pace,
			    uint64_t now_ns)
{
	struct plan plan = plan_for(rate, pace, now_ns, 0);

	plan.window_ns /= 2;
	plan.window_max_ns /= 2;
	return wait_for(&plan, rate, pace, now_ns);
}

/* A word beyond the bound would keep its distance from now for ever: it is brought to the bound
 * once, and from then on time brings it nearer. */
static void mend(_Atomic uint64_t *word, uint64_t now_ns, uint64_t bound_ns)
{
	correct(word, now_ns, bound_ns, 0, 0);
}

/* Adds COST unless WORD is further ahead than the window: of two that see room for one, one. */
static bool take(_Atomic uint64_t *word, uint64_t now_ns, uint64_t bound_ns,
		 uint64_t window_ns, uint64_t cost_ns)
{
	uint64_t seen = load(word), next;

	do {
		if (excess(seen, now_ns, bound_ns, window_ns))
			return false;
		next = tr_sat_add(ahead_of(seen, now_ns, bound_ns), cost_ns);
		next = tr_sat_add(now_ns, least(next, bound_ns));
	} while (!atomic_compare_exchange_weak(word, &seen, next));
	return true;
}

static void raise(_Atomic uint64_t *word, uint64_t to_ns)
{
	uint64_t seen = load(word);

	while (seen < to_ns && !atomic_compare_exchange_weak(word, &seen, to_ns))
		;
}

/*
 * A lease may end at any time, and then its owner has come back: there is no credit for a burst,
 * and what is still queued is paid at the guaranteed rate.
 */
static void owe_queue(const struct tr_rate *rate, struct tr_state_pace *pace,
		      uint64_t now_ns, uint64_t bound_ns)
{
	uint64_t ahead_ns = ahead_of(load(&pace->tat_max_ns), now_ns, bound_ns);
	uint64_t queued_ns = (uint64_t)((unsigned __int128)ahead_ns * rate->rate_max_q32 >>
					32);

	if (rate->rate_max_q32 == TR_RATE_ALL) /* gamma_max() */
		queued_ns = tr_rate_gamma(rate, queued_ns);
	ahead_ns = tr_sat_add(rate->window_ns, stretch(queued_ns, rate->rate_q32));
	raise(&pace->tat_ns, tr_sat_add(now_ns, least(ahead_ns, bound_ns)));
}

uint64_t tr_rate_pass(const struct tr_rate *rate, struct tr_state_pace *pace,
		      uint64_t now_ns, uint64_t predicted_ns)
{
	struct plan plan = plan_for(rate, pace, now_ns, predicted_ns);
	uint64_t wait_ns = wait_for(&plan, rate, pace, now_ns);
	bool is_taken = true;

	/* One word decides between racers; the other was looked at, and is charged after. */
	if (!wait_ns && plan.is_tat_asked)
		is_taken = take(&pace->tat_ns, now_ns, plan.bound_ns, plan.window_ns,
				plan.cost_ns);
	else if (!wait_ns && plan.is_max_asked)
		is_taken = take(&pace->tat_max_ns, now_ns, plan.bound_max_ns,
				plan.window_max_ns, plan.cost_max_ns);
	if (!is_taken)
		wait_ns = most(1, wait_for(&plan, rate, pace, now_ns));
	if (wait_ns) {
		mend(&pace->tat_ns, now_ns, plan.bound_ns);
		mend(&pace->tat_max_ns, now_ns, plan.bound_max_ns);
		return wait_ns;
	}
	if (plan.is_tat_charged && !plan.is_tat_asked)
		add(&pace->tat_ns, now_ns, plan.bound_ns, plan.cost_ns);
	if (plan.is_tat_asked || !plan.is_max_asked)
		add(&pace->tat_max_ns, now_ns, plan.bound_max_ns, plan.cost_max_ns);
	if (!plan.is_tat_charged)
		owe_queue(rate, pace, now_ns, plan.bound_ns);
	return 0;
}

void tr_rate_charge(const struct tr_rate *rate, struct tr_state_pace *pace, uint64_t now_ns,
		    uint64_t predicted_ns)
{
	struct plan plan = plan_for(rate, pace, now_ns, predicted_ns);

	if (plan.is_tat_charged)
		add(&pace->tat_ns, now_ns, plan.bound_ns, plan.cost_ns);
	add(&pace->tat_max_ns, now_ns, plan.bound_max_ns, plan.cost_max_ns);
	if (!plan.is_tat_charged)
		owe_queue(rate, pace, now_ns, plan.bound_ns);
}

void tr_rate_settle(const struct tr_rate *rate, struct tr_state_pace *pace, uint64_t now_ns,
		    uint64_t predicted_ns, uint64_t measured_ns)
{
	bool is_more = measured_ns > predicted_ns;
	uint64_t by_ns = is_more ? measured_ns - predicted_ns : predicted_ns - measured_ns;
	struct plan plan;

	raise(&pace->longest_ns, least(measured_ns, HOUR_NS));
	plan = plan_for(rate, pace, now_ns, by_ns);
	if (plan.is_tat_charged)
		correct(&pace->tat_ns, now_ns, plan.bound_ns, is_more ? plan.cost_ns : 0,
			is_more ? 0 : plan.cost_ns);
	correct(&pace->tat_max_ns, now_ns, plan.bound_max_ns,
		is_more ? plan.cost_max_ns : 0, is_more ? 0 : plan.cost_max_ns);
}

/* ---- fairness ------------------------------------------------------------------------ */

struct tr_state_usage *tr_usage_row(struct tr_state *state, uint32_t slot, uint32_t dev)
{
	uint64_t key = ((uint64_t)slot + 1) << 8 | dev;
	uint32_t first = tr_usage_first(slot);
	struct tr_state_usage *row;

	for (uint32_t i = 0; i < TR_USAGE_WINDOW; i++) {
		row = &state->usage[(first + i) % TR_USAGE_ROWS];
		if (atomic_load(&row->owner) == key)
			return row;
	}
	for (uint32_t i = 0; i < TR_USAGE_WINDOW; i++) {
		uint64_t nobody = 0;

		row = &state->usage[(first + i) % TR_USAGE_ROWS];
		if (atomic_compare_exchange_strong(&row->owner, &nobody, key) ||
		    nobody == key) /* another thread of this process came first */
			return row;
	}
	return NULL;
}

static bool is_active(const struct tr_state_usage *row, uint64_t now_ns)
{
	uint64_t seen_ns = load(&row->seen_ns);

	/* Another's clock reading may be a little newer than ours, garbage is far off. */
	return seen_ns && tr_sat_sub(now_ns, seen_ns) <= TR_USAGE_ACTIVE_NS &&
	       tr_sat_sub(seen_ns, now_ns) <= TR_USAGE_ACTIVE_NS;
}

/* The least virtual time of the active rows of ROW's device but its own; false: there is none. */
static bool slowest_of(const struct tr_state *state, const struct tr_state_usage *row,
		       uint64_t now_ns, uint64_t *out)
{
	uint64_t dev = load(&row->owner) & 0xff;
	uint32_t rows = tr_usage_rows(atomic_load(&state->high_water));
	bool is_any = false;

	for (uint32_t i = 0; i < rows; i++) {
		const struct tr_state_usage *other = &state->usage[i];
		uint64_t owner = load(&other->owner), vtime_ns;

		if (!owner || (owner & 0xff) != dev || other == row ||
		    !is_active(other, now_ns))
			continue;
		vtime_ns = load(&other->vtime_ns);
		if (!is_any || vtime_ns < *out)
			*out = vtime_ns;
		is_any = true;
	}
	return is_any;
}

bool tr_usage_must_yield(struct tr_state *state, struct tr_state_usage *row,
			 uint64_t now_ns)
{
	bool was_active = is_active(row, now_ns), is_any;
	uint64_t slowest_ns = 0;

	is_any = slowest_of(state, row, now_ns, &slowest_ns);
	if (is_any && !was_active)
		atomic_store(&row->vtime_ns, slowest_ns);
	atomic_store_explicit(&row->seen_ns, now_ns, memory_order_relaxed);
	if (!is_any)
		return false;
	/* Further ahead than one submission takes it: somebody scribbled over one of the two. */
	if (tr_sat_sub(load(&row->vtime_ns), slowest_ns) > TR_USAGE_AHEAD_NS)
		atomic_store(&row->vtime_ns, tr_sat_add(slowest_ns, TR_USAGE_QUANTUM_NS));
	return tr_sat_sub(load(&row->vtime_ns), slowest_ns) > TR_USAGE_QUANTUM_NS;
}

void tr_usage_advance(struct tr_state_usage *row, uint64_t predicted_ns)
{
	tr_usage_settle(row, 0, predicted_ns);
}

void tr_usage_settle(struct tr_state_usage *row, uint64_t predicted_ns,
		     uint64_t measured_ns)
{
	uint64_t seen = load(&row->vtime_ns), next;

	do {
		next = tr_sat_sub(tr_sat_add(seen, measured_ns), predicted_ns);
	} while (!atomic_compare_exchange_weak(&row->vtime_ns, &seen, next));
}
