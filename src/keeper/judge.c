/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/judge.h"

#include "rt/sat.h"

#define MS_NS 1000000.0

/* Charged time that the sums remember; and how little is too little to say anything. */
#define BRIEF_NS    (2000.0 * MS_NS)
#define STEADY_NS   (20000.0 * MS_NS)
#define ENOUGH_NS   (1000.0 * MS_NS)
#define ENOUGH_ROWS 3.0
/* In units of the longest submission: what is under way blurs the ends of the sums. */
#define BRIEF_LONGEST  6.0
#define STEADY_LONGEST 40.0
/* Work that NVML has told and the slice has not, or the other way round: one sample. */
#define EDGE_NS (1000.0 / 6.0 * MS_NS)

#define GAMMA_MIN (1.0 / 64.0)
#define GAMMA_MAX 1.25

#define PERIOD_MIN_US UINT64_C(100000)
#define PERIOD_MAX_US UINT64_C(1000000)

/* ---- gamma --------------------------------------------------------------------------- */

static double larger(double a, double b)
{
	return a > b ? a : b;
}

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static void fade(struct tr_ratio *sums, double charged_ns, double memory_ns)
{
	double keep = memory_ns / (memory_ns + charged_ns);

	sums->busy_ns *= keep;
	sums->charged_ns *= keep;
	sums->doubt_ns *= keep;
	sums->wall_ns *= keep;
	sums->samples *= keep;
}

static void add(struct tr_ratio *sums, const struct tr_look *look, double memory_ns)
{
	/* By the true time, where there is one: what is stretched is not more work. */
	fade(sums, larger((double)look->charged_ns / 8, (double)look->busy_ns), memory_ns);
	sums->busy_ns += (double)look->busy_ns;
	sums->charged_ns += (double)look->charged_ns;
	sums->doubt_ns += (double)look->doubt_ns;
	sums->wall_ns += (double)look->wall_ns;
	sums->samples += look->samples;
}

struct interval {
	double low, middle, high;
};

static struct interval bounds(const struct tr_ratio *sums, double longest_ns)
{
	/* Half a percent of each sample, however many: a load that repeats is rounded alike. */
	double share = smaller(1.0, sums->busy_ns / larger(sums->wall_ns, 1.0));
	double doubt = sums->doubt_ns + longest_ns + EDGE_NS * share;

	return (struct interval){
		.low = larger(0.0, sums->busy_ns - doubt) / sums->charged_ns,
		.middle = sums->busy_ns / sums->charged_ns,
		.high = (sums->busy_ns + doubt) / sums->charged_ns,
	};
}

/* Leaves 1 when the whole doubt cannot hold it, comes back when half of it can: no swinging at the
 * border. */
static void settle(struct tr_gamma *gamma, const struct interval *in)
{
	double low = gamma->is_off ? (in->low + in->middle) / 2 : in->low;
	double high = gamma->is_off ? (in->high + in->middle) / 2 : in->high;

	gamma->is_off = low > 1.0 || high < 1.0;
	gamma->value = larger(GAMMA_MIN, smaller(GAMMA_MAX, in->middle));
}

static uint64_t value_q16(const struct tr_gamma *gamma, unsigned sharers)
{
	double least = sharers ? 1.0 / (2.0 * sharers - 1.0) : 0.0;

	return gamma->is_off
		       ? (uint64_t)(larger(least, gamma->value) * (double)TR_GAMMA_ONE_Q16)
		       : TR_GAMMA_ONE_Q16;
}

uint64_t tr_gamma_feed(struct tr_gamma *gamma, const struct tr_look *look)
{
	double longest_ns = smaller((double)look->longest_ns, 1e12);
	struct interval brief, steady;

	if (!look->is_whole || (look->charged_ns == 0 && look->busy_ns == 0))
		return value_q16(gamma, look->sharers);
	add(&gamma->brief, look, larger(BRIEF_NS, BRIEF_LONGEST * longest_ns));
	add(&gamma->steady, look, larger(STEADY_NS, STEADY_LONGEST * longest_ns));
	/* Of the steady sums: brief ones forget as fast as NVML tells, at a sample a second. */
	if (gamma->steady.samples < ENOUGH_ROWS ||
	    gamma->brief.charged_ns < larger(ENOUGH_NS, 3.0 * longest_ns))
		return value_q16(gamma, look->sharers);
	brief = bounds(&gamma->brief, longest_ns);
	steady = bounds(&gamma->steady, longest_ns);
	if (brief.low > steady.high || brief.high < steady.low) {
		/* Something else than before: both begin anew, so that nothing old is in them. */
		gamma->steady = gamma->brief = (struct tr_ratio){ 0 };
		steady = brief;
	}
	settle(gamma, &steady);
	return value_q16(gamma, look->sharers);
}

/* ---- watchdog ------------------------------------------------------------------------ */

bool tr_watch_feed(struct tr_watch *watch, const struct tr_look *look)
{
	/* What no gamma could explain, and not a trifle. */
	uint64_t explained = tr_sat_add(look->charged_ns, look->charged_ns / 4);
	uint64_t margin = tr_sat_add(look->wall_ns / 10, look->doubt_ns);

	if (look->charged_ns)
		watch->is_pending = false;
	else if (look->is_launching)
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

static void add_sample(const struct tr_gpu_sample *row, uint64_t span_us,
		       struct tr_look *look)
{
	unsigned percent = row->sm_percent < 100 ? row->sm_percent : 100;

	look->busy_ns = tr_sat_add(look->busy_ns, span_us * percent * 10);
	look->doubt_ns = tr_sat_add(look->doubt_ns, span_us * 5);
	look->samples++;
}

void tr_samples_feed(struct tr_samples *samples, const struct tr_gpu_sample *rows,
		     size_t count, uint64_t base_us, uint64_t *period_us,
		     struct tr_look *look)
{
	const struct tr_gpu_sample *row;

	if (samples->last_us < base_us)
		samples->last_us = base_us;
	while ((row = next_sample(rows, count, samples->last_us))) {
		uint64_t span_us = row->end_us - samples->last_us;

		/* Idle processes have no rows: the distance may hold many samples. */
		if (samples->last_us != base_us && span_us >= PERIOD_MIN_US &&
		    (*period_us == 0 || span_us < *period_us))
			*period_us = span_us < PERIOD_MAX_US ? span_us : PERIOD_MAX_US;
		if (*period_us && span_us > *period_us)
			span_us = *period_us;
		if (span_us > PERIOD_MAX_US)
			span_us = PERIOD_MAX_US;
		samples->last_us = row->end_us;
		add_sample(row, span_us, look);
	}
}
