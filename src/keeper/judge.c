/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/judge.h"

#include <math.h>

#include "rt/sat.h"

#define MS_NS 1000000.0

/* Wall time that the sums remember, and in units of the longest submission at the slice's share:
 * what is under way blurs the ends of the sums. */
#define BRIEF_NS       (500.0 * MS_NS)
#define BRIEF_LONGEST  6.0
#define STEADY_NS      (4000.0 * MS_NS)
#define STEADY_LONGEST 40.0
#define SHARE_MIN      0.01
/* So much that was right is believed from the start; and how few rows say nothing. */
#define PRIOR_NS    (20.0 * MS_NS)
#define ENOUGH_ROWS 3.0
/* Charged time that is judged at once: gamma stands still while a submission runs, which is charged
 * by it before and after. */
#define BLOCK_NS    UINT64_C(50000000)
#define BLOCK_COUNT 4u
#define LUMP_TIMES  2.0
/* Work that NVML has told and the slice has not, or the other way round: one sample; less where each
 * sample is read by itself. */
#define EDGE_NS        (1000.0 / 6.0 * MS_NS)
#define EDGE_SHARED_NS (50.0 * MS_NS)

/* What was paid wrongly is made good within so much time, by at most this part of gamma. */
#define REPAY_NS      (1500.0 * MS_NS)
#define REPAY_LONGEST 3.0
#define REPAY_PART    0.25
#define UNPAID_MAX_NS (200.0 * MS_NS)

#define GAMMA_MIN (1.0 / 64.0)
#define GAMMA_MAX 1.25
/* Where the spans of what was charged have room for it: kernels of one key differ. */
#define GAMMA_VARIED_MAX 4.0

/* Others that are busy for less of the time hardly lengthen a span. */
#define SHARED_PART 0.03
/* Beside others a slice charges what its kernels took without them. NVML's busy time is so many times
 * that: then kernels of one key differ, and gamma alone will not mend it for long. */
#define VARIED 1.2
/* Charges below this part of the usual, while NVML sees not more than that many times the usual, are
 * late. At most this part of the steady sums is; what never comes is forgotten within four of their
 * memories. */
#define LATE_BELOW  0.75
#define LATE_WITHIN 1.25
#define LATE_PART   0.25
#define LATE_TIMES  4.0

#define SPAN_MAX_US UINT64_C(5000000)

/* ---- gamma --------------------------------------------------------------------------- */

static double larger(double a, double b)
{
	return a > b ? a : b;
}

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

uint64_t tr_doubt_and(uint64_t a_ns, uint64_t b_ns)
{
	double a = (double)a_ns, b = (double)b_ns;

	return (uint64_t)sqrt(a * a + b * b); /* hypot() has a new version in glibc 2.35 */
}

uint64_t tr_doubt_without(uint64_t all_ns, uint64_t b_ns)
{
	double all = (double)all_ns, b = (double)b_ns;

	return all > b ? (uint64_t)sqrt((all - b) * (all + b)) : 0;
}

static double share_of(const struct tr_ratio *sums)
{
	return larger(SHARE_MIN, smaller(1.0, sums->busy_ns / larger(sums->wall_ns, 1.0)));
}

static void add(struct tr_ratio *sums, const struct tr_look *look, double memory_ns)
{
	double keep = memory_ns / (memory_ns + (double)look->wall_ns);

	sums->busy_ns = sums->busy_ns * keep + (double)look->busy_ns;
	sums->charged_ns = sums->charged_ns * keep + (double)look->charged_ns;
	sums->spanned_ns = sums->spanned_ns * keep + (double)look->spanned_ns;
	sums->doubt_ns = sums->doubt_ns * keep + (double)look->doubt_ns;
	sums->others_ns = sums->others_ns * keep + (double)look->others_ns +
			  (double)look->others_doubt_ns;
	sums->wall_ns = sums->wall_ns * keep + (double)look->wall_ns;
	sums->samples = sums->samples * keep + look->samples;
}

struct interval {
	double low, middle, high;
};

static struct interval bounds(const struct tr_ratio *sums, double doubt_ns)
{
	double charged_ns = sums->charged_ns + PRIOR_NS, busy_ns = sums->busy_ns + PRIOR_NS;

	return (struct interval){
		.low = larger(0.0, busy_ns - doubt_ns) / charged_ns,
		.middle = busy_ns / charged_ns,
		.high = (busy_ns + doubt_ns) / charged_ns,
	};
}

/* The neighbours came, went or changed their ways: nothing old may be in the sums. */
static bool is_other_than(const struct tr_ratio *brief, const struct tr_ratio *steady,
			  double longest_ns)
{
	double blur_ns = longest_ns + EDGE_NS * share_of(steady);
	struct interval a = bounds(brief, brief->doubt_ns + blur_ns);
	struct interval b = bounds(steady, steady->doubt_ns + blur_ns);

	return a.low > b.high || a.high < b.low;
}

/* What is busy beside all that was submitted through the hook is for the watchdog. */
static double most_of(const struct tr_gamma *gamma)
{
	const struct tr_ratio *sums = &gamma->steady;
	double room = sums->spanned_ns / larger(sums->charged_ns, PRIOR_NS);

	if (!gamma->is_shared)
		return GAMMA_MAX;
	return larger(GAMMA_MAX, smaller(GAMMA_VARIED_MAX, room));
}

/* Leaves 1 when the whole doubt cannot hold it, comes back when half of it can: no swinging at the
 * border. Above 1 nothing else bounds it, so there all that is under way is in doubt. */
static void settle(struct tr_gamma *gamma, double lump_ns, double longest_ns)
{
	const struct tr_ratio *sums = &gamma->steady;
	double part = gamma->is_off ? 0.5 : 1.0;
	double low_ns = sums->doubt_ns + lump_ns;
	double edge_ns = gamma->sharers > 1 ? EDGE_SHARED_NS : EDGE_NS;
	double high_ns = sums->doubt_ns + 2 * longest_ns + edge_ns * share_of(sums);
	/* Spans of its own processes that lie in each other's: of long ones no union is made. Alone they
	 * are few, and gamma is not to be below 1. */
	double own_ns = gamma->is_shared ? sums->charged_ns - sums->wall_ns : 0;
	double least = 1.0 - (sums->others_ns + larger(0, own_ns)) /
				     larger(sums->charged_ns, lump_ns + PRIOR_NS);

	gamma->is_off = bounds(sums, part * low_ns).high < 1.0 ||
			bounds(sums, part * high_ns).low > 1.0;
	gamma->value = larger(larger(GAMMA_MIN, least),
			      smaller(most_of(gamma), bounds(sums, 0).middle));
}

/* A ratio is learned slowly, and while it is learned the slice pays wrongly: that is made good by
 * paying a little more or less than the ratio. */
static void repay(struct tr_gamma *gamma, const struct tr_look *block, double lump_ns)
{
	double most_ns = larger(UNPAID_MAX_NS, lump_ns), share = share_of(&gamma->steady);
	double within_ns = larger(REPAY_NS, REPAY_LONGEST * lump_ns / share);

	gamma->by = 0;
	if (!gamma->is_off) {
		gamma->unpaid_ns = 0;
		return;
	}
	gamma->unpaid_ns += (double)block->busy_ns - (double)block->paid_ns;
	gamma->unpaid_ns = larger(-most_ns, smaller(most_ns, gamma->unpaid_ns));
	gamma->by = gamma->unpaid_ns / (within_ns * share);
	gamma->by = larger(-REPAY_PART, smaller(REPAY_PART, gamma->by));
}

static uint64_t value_q16(const struct tr_gamma *gamma)
{
	double least = gamma->sharers ? 1.0 / (2.0 * gamma->sharers - 1.0) : GAMMA_MIN;

	if (!gamma->is_off)
		return TR_GAMMA_ONE_Q16;
	return (uint64_t)(smaller(most_of(gamma),
				  larger(least, gamma->value * (1.0 + gamma->by))) *
			  (double)TR_GAMMA_ONE_Q16);
}

void tr_look_add(struct tr_look *sum, const struct tr_look *look)
{
	if (sum->wall_ns == 0)
		sum->is_whole = true;
	sum->wall_ns = tr_sat_add(sum->wall_ns, look->wall_ns);
	sum->busy_ns = tr_sat_add(sum->busy_ns, look->busy_ns);
	sum->charged_ns = tr_sat_add(sum->charged_ns, look->charged_ns);
	sum->paid_ns = tr_sat_add(sum->paid_ns, look->paid_ns);
	sum->spanned_ns = tr_sat_add(sum->spanned_ns, look->spanned_ns);
	sum->doubt_ns = tr_sat_add(sum->doubt_ns, look->doubt_ns);
	sum->others_ns = tr_sat_add(sum->others_ns, look->others_ns);
	sum->others_doubt_ns = tr_sat_add(sum->others_doubt_ns, look->others_doubt_ns);
	sum->launches = tr_sat_add(sum->launches, look->launches);
	sum->samples += look->samples;
	sum->sharers = look->sharers;
	sum->longest_ns = look->longest_ns;
	sum->is_whole &= look->is_whole;
}

/* What is charged at once: of many processes each waits long for its own, and one ends often. */
static double lump_of(const struct tr_look *block)
{
	return LUMP_TIMES * (double)block->charged_ns /
	       larger((double)block->launches, LUMP_TIMES);
}

/*
 * Where all its processes wait for what they have queued, nobody looks at what is done: it is charged
 * later, at once. Charges that stay away while NVML sees the slice as busy as before are taken for
 * made, till they come.
 */
static void even_out(struct tr_gamma *gamma, struct tr_look *block, double lump_ns,
		     double memory_ns)
{
	const struct tr_ratio *usual = &gamma->steady;
	double wall_ns = (double)block->wall_ns, busy_ns = (double)block->busy_ns;
	double part = wall_ns / larger(usual->wall_ns, 1.0);
	double charged_ns = (double)block->charged_ns, usual_ns = usual->charged_ns * part;
	double ratio = smaller(1.0, usual->charged_ns / larger(usual->busy_ns, 1.0));
	double due_ns = smaller(usual_ns, busy_ns * ratio), by_ns = 0;

	gamma->late_ns *= memory_ns / (memory_ns + wall_ns / LATE_TIMES);
	if (!gamma->is_shared || gamma->is_varied || usual->samples < ENOUGH_ROWS)
		return;
	if (charged_ns > usual_ns)
		by_ns = -smaller(gamma->late_ns, charged_ns - usual_ns);
	else if (charged_ns + lump_ns < LATE_BELOW * due_ns &&
		 busy_ns < LATE_WITHIN * usual->busy_ns * part)
		by_ns = smaller(due_ns - charged_ns,
				larger(0, LATE_PART * usual->charged_ns - gamma->late_ns));
	gamma->late_ns += by_ns;
	ratio = 1 + by_ns / charged_ns;
	block->paid_ns = (uint64_t)smaller(1e18, (double)block->paid_ns * ratio);
	block->charged_ns = (uint64_t)smaller(1e18, charged_ns * ratio);
}

static bool is_block(const struct tr_look *block)
{
	return block->charged_ns >= BLOCK_NS &&
	       (block->launches >= BLOCK_COUNT ||
		block->charged_ns / BLOCK_COUNT >= block->longest_ns);
}

uint64_t tr_gamma_feed(struct tr_gamma *gamma, const struct tr_look *look)
{
	struct tr_look block;
	double longest_ns, lump_ns, slow_ns, memory_ns;

	if (!look->is_whole) {
		gamma->block = (struct tr_look){ 0 };
		return value_q16(gamma);
	}
	tr_look_add(&gamma->block, look);
	if (!is_block(&gamma->block))
		return value_q16(gamma);
	block = gamma->block;
	gamma->block = (struct tr_look){ 0 };
	longest_ns = smaller((double)block.longest_ns, 1e12);
	lump_ns = smaller(longest_ns, lump_of(&block));
	slow_ns = lump_ns / share_of(&gamma->steady);
	memory_ns = larger(STEADY_NS, STEADY_LONGEST * slow_ns);
	even_out(gamma, &block, lump_ns, memory_ns);
	add(&gamma->brief, &block, larger(BRIEF_NS, BRIEF_LONGEST * slow_ns));
	add(&gamma->steady, &block, memory_ns);
	gamma->sharers = block.sharers;
	if (gamma->steady.samples < ENOUGH_ROWS)
		return value_q16(gamma);
	if (is_other_than(&gamma->brief, &gamma->steady, lump_ns)) {
		gamma->steady = gamma->brief;
		gamma->late_ns = 0;
	}
	settle(gamma, lump_ns, longest_ns);
	gamma->is_shared = gamma->brief.others_ns > SHARED_PART * gamma->brief.wall_ns;
	gamma->is_varied = gamma->is_shared &&
			   (gamma->is_varied || (gamma->is_off && gamma->value > VARIED));
	repay(gamma, &block, lump_ns);
	return value_q16(gamma);
}

/* ---- watchdog ------------------------------------------------------------------------ */

bool tr_watch_feed(struct tr_watch *watch, const struct tr_look *look)
{
	/* What no gamma could explain, and not a trifle. */
	uint64_t explained = tr_sat_add(look->charged_ns, look->charged_ns / 4);
	uint64_t margin = tr_sat_add(look->wall_ns / 10, look->doubt_ns);

	if (explained < look->spanned_ns)
		explained = look->spanned_ns;
	if (look->charged_ns)
		watch->is_pending = false;
	else if (look->launches)
		watch->is_pending = true;
	if (look->busy_ns <= tr_sat_add(explained, margin)) {
		*watch = (struct tr_watch){ .is_pending = watch->is_pending };
		return false;
	}
	watch->periods++;
	watch->periods_busy_ns = tr_sat_add(watch->periods_busy_ns, look->busy_ns);
	watch->periods_charged_ns = tr_sat_add(watch->periods_charged_ns, look->charged_ns);
	watch->excess_ns = tr_sat_add(watch->excess_ns,
				      tr_sat_sub(look->busy_ns, explained));
	if (watch->periods < (watch->is_pending ? TR_WATCH_PATIENCE : TR_WATCH_PERIODS) ||
	    watch->excess_ns <= look->longest_ns)
		return false;
	watch->is_bypassed = true;
	return watch->periods % TR_WATCH_PERIODS == 0;
}

uint64_t tr_watch_lowered_q16(const struct tr_watch *watch, uint64_t gamma_q16)
{
	double ratio;

	if (!watch->is_bypassed)
		return gamma_q16;
	ratio = (double)watch->periods_busy_ns /
		larger((double)watch->periods_charged_ns, 1.0);
	ratio = larger(ratio, (double)gamma_q16 / (double)TR_GAMMA_ONE_Q16);
	return (uint64_t)(smaller(ratio, 4.0) * (double)TR_GAMMA_ONE_Q16);
}

/* ---- NVML's samples ------------------------------------------------------------------ */

/* The earliest sample that ended after AFTER_US; NULL: none. */
static const struct tr_gpu_sample *next_sample(const struct tr_gpu_sample *rows,
					       size_t count, uint64_t after_us)
{
	const struct tr_gpu_sample *found = NULL;

	for (size_t i = 0; i < count; i++)
		if (rows[i].end_us > after_us && (!found || rows[i].end_us < found->end_us))
			found = &rows[i];
	return found;
}

void tr_samples_feed(struct tr_samples *samples, const struct tr_gpu_sample *rows,
		     size_t count, uint64_t after_us, struct tr_look *look)
{
	const struct tr_gpu_sample *row;

	if (samples->last_us < after_us)
		samples->last_us = after_us;
	while ((row = next_sample(rows, count, samples->last_us))) {
		uint64_t span_us = row->end_us - samples->last_us;
		unsigned percent = row->sm_percent < 100 ? row->sm_percent : 100;

		if (span_us > SPAN_MAX_US)
			span_us = SPAN_MAX_US;
		samples->last_us = row->end_us;
		look->busy_ns = tr_sat_add(look->busy_ns, span_us * percent * 10);
		look->doubt_ns = tr_sat_add(look->doubt_ns, span_us * 5);
		look->samples++;
	}
}

void tr_samples_silent(struct tr_samples *samples, uint64_t after_us, uint64_t until_us,
		       struct tr_look *look)
{
	uint64_t from_us = samples->last_us > after_us ? samples->last_us : after_us;
	uint64_t span_us = tr_sat_sub(until_us, from_us);

	if (span_us > SPAN_MAX_US)
		span_us = SPAN_MAX_US;
	look->doubt_ns = tr_sat_add(look->doubt_ns, span_us * 5);
	if (samples->last_us < until_us)
		samples->last_us = until_us;
}
