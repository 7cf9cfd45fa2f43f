/* SPDX-License-Identifier: Apache-2.0 */
#include "runs.h"

#include "events.h"
#include "rt/sat.h"

#define PROMPT_NS    UINT64_C(20000) /* an event that an idle GPU ran at once */
#define TURNS        4u
#define TURN_NS      UINT64_C(100000)
#define SHARER_TURNS 2u                /* to each that it needs itself, at most */
#define SHARER_NS    UINT64_C(4000000) /* and where it begins and ends in another's */
#define SHARED_RUNS  16u

/*
 * When the run began on our clock. The GPU's is known against the anchor only, and what is
 * certain corrects it: no event is done before it was recorded, nor after it was seen done.
 */
static uint64_t begin_of(const struct tr_told *told, const struct tr_run *r,
			 uint64_t span_ns, uint64_t now_ns)
{
	uint64_t begin_ns = r->begun_ns;
	int64_t since;

	if (told->anchor_ns && tr_event_elapsed_ns(told->anchor, r->begin, &since))
		begin_ns = tr_sat_shift(told->anchor_ns, since);
	if (begin_ns < r->begun_ns)
		begin_ns = r->begun_ns;
	if (begin_ns + span_ns < r->closed_ns)
		begin_ns = r->closed_ns - span_ns;
	if (begin_ns + span_ns > now_ns)
		begin_ns = tr_sat_sub(now_ns, span_ns);
	return begin_ns;
}

/*
 * How long the GPU was at it, in a span that may hold idle time as well. A single one: the
 * span, less the time until it was submitted where the GPU waited for that. A run: what was
 * predicted, but not less than what it still had to do after the host had closed it.
 */
static struct tr_busy busy_of(const struct tr_run *r, uint64_t begin_ns, uint64_t span_ns,
			      bool is_turns)
{
	uint64_t end_ns = begin_ns + span_ns, late_ns;
	struct tr_busy busy;

	if (r->key && begin_ns <= r->begun_ns + PROMPT_NS) {
		late_ns = tr_sat_sub(r->at_ns, r->begun_ns);
		begin_ns += late_ns < span_ns / 4 * 3 ? late_ns : span_ns / 4 * 3;
	}
	if (r->key || r->unknown * 2 > r->count)
		return (struct tr_busy){ .begin_ns = begin_ns,
					 .end_ns = end_ns,
					 .sure_ns = end_ns - begin_ns,
					 .busy_ns = end_ns - begin_ns,
					 .is_span = true };
	/* The GPU worked as long for each of the streams. */
	busy = tr_busy_of(begin_ns, end_ns, r->closed_ns,
			  tr_sat_mul(r->predicted_ns, r->others + 1));
	if (r->unknown ||
	    busy.busy_ns <= r->predicted_ns + r->predicted_ns / TURNS + TURN_NS)
		return busy;
	/* Much longer than its parts take by themselves: others had their turns in between, nobody
	 * knows where. Where there are no others the kernels vary, or processes of its own slice had. */
	if (is_turns) {
		busy.busy_ns = r->predicted_ns;
		busy.sure_ns = 0;
	}
	busy.is_span |= !is_turns && !r->others;
	return busy;
}

/*
 * What its submissions cost: their part of its span, whoever was charged for it. Of streams that share
 * the GPU each has as much of it; there those of many runs together tell.
 */
static void learn(struct tr_told *told, const struct tr_run *r, uint64_t busy_ns,
		  struct tr_turns turns)
{
	enum tr_learn how = !turns.sharers    ? TR_LEARN_FAST
			    : turns.is_varied ? TR_LEARN_MEAN
					      : TR_LEARN_SLOW;

	busy_ns /= r->others + 1;
	if (r->key) {
		tr_key_learn(r->key, busy_ns, how);
		return;
	}
	if (!r->others || r->unknown || !r->last_ns || !r->predicted_ns || turns.sharers)
		return;
	told->shared_busy_ns += busy_ns;
	told->shared_predicted_ns += r->predicted_ns;
	if (++told->shared_runs < SHARED_RUNS)
		return;
	tr_key_learn(
		r->last_key,
		tr_sat_part(r->last_ns, told->shared_busy_ns, told->shared_predicted_ns),
		TR_LEARN_FAST);
	told->shared_busy_ns = told->shared_predicted_ns = told->shared_runs = 0;
}

/*
 * Where others take turns the span of one submission says when its turns came and not what it took:
 * one of 1 ms among 32 processes spans 1 or 60. So it is charged what its key costs, as it was when
 * it went; a span that held a few would be a debt all at once, for work that is long admitted.
 * Only what no turns explain is taken as it is.
 */
static bool is_by_turns(const struct tr_run *r, uint64_t busy_ns, unsigned sharers)
{
	return sharers && r->key && r->predicted_ns &&
	       busy_ns / sharers <= SHARER_NS + SHARER_TURNS * r->predicted_ns;
}

bool tr_run_tell(struct tr_told *told, struct tr_run *r, tr_dev dev, uint64_t now_ns)
{
	struct tr_turns turns = tr_pace_turns(dev);
	uint64_t begin_ns, span_ns, told_ns;
	CUevent anchor = told->anchor;
	struct tr_busy busy;
	int64_t span;

	if (!tr_event_elapsed_ns(r->begin, r->end, &span)) {
		tr_pace_stands(dev, r->predicted_ns);
		return false;
	}
	span_ns = span > 0 ? (uint64_t)span : 0;
	begin_ns = begin_of(told, r, span_ns, now_ns);
	told->has_shared |= r->others > 0;
	busy = busy_of(r, begin_ns, span_ns,
		       turns.sharers || (told->has_shared && !r->others));
	told_ns = busy.busy_ns;
	if (is_by_turns(r, told_ns, turns.sharers)) {
		busy.busy_ns = r->predicted_ns;
		busy.sure_ns = 0; /* when is not known */
	}
	(void)tr_pace_measured(dev, &busy, r->predicted_ns, now_ns);
	learn(told, r, told_ns, turns);
	if (busy.end_ns > told->anchor_ns) {
		told->anchor_ns = busy.end_ns;
		told->anchor = r->end;
		r->end = anchor;
	}
	return true;
}
