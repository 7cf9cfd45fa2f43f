/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "bench/cell.h"

double tr_series_share(const struct tr_series *s, unsigned party, unsigned device,
		       unsigned from, unsigned to)
{
	const struct tr_sample *a = &s->samples[from], *b = &s->samples[to];
	uint64_t busy_a = a->busy_ns[party][device], busy_b = b->busy_ns[party][device];

	/* A process that has ended is not counted any more: nothing can be said. */
	if (b->at_ns <= a->at_ns || busy_b < busy_a)
		return 0;
	return 100.0 * (double)(busy_b - busy_a) / (double)(b->at_ns - a->at_ns);
}

double tr_series_worst_window(const struct tr_series *s, unsigned party, unsigned device,
			      uint64_t span_ns, double target)
{
	unsigned from = s->first;
	double worst = 0;

	for (unsigned to = from + 1; to < s->count; to++) {
		double off;

		if (s->samples[to].at_ns - s->samples[from].at_ns < span_ns)
			continue;
		while (from + 1 < to &&
		       s->samples[to].at_ns - s->samples[from + 1].at_ns >= span_ns)
			from++;
		off = fabs(tr_series_share(s, party, device, from, to) - target);
		worst = off > worst ? off : worst;
	}
	return worst;
}

uint64_t tr_series_stall_ns(const struct tr_series *s, unsigned party, unsigned device)
{
	uint64_t worst = 0, last_ns = s->samples[s->first].at_ns;

	for (unsigned i = s->first + 1; i < s->count; i++) {
		uint64_t gone_ns = s->samples[i].at_ns - last_ns;

		if (s->samples[i].busy_ns[party][device] ==
		    s->samples[i - 1].busy_ns[party][device]) {
			worst = gone_ns > worst ? gone_ns : worst;
			continue;
		}
		last_ns = s->samples[i].at_ns;
	}
	return worst;
}

uint64_t tr_series_lag_ns(const struct tr_series *s, unsigned party, unsigned device,
			  uint64_t at_ns, uint64_t span_ns, double rate)
{
	unsigned from = 0;
	double worst = 0;

	while (from < s->count && s->samples[from].at_ns < at_ns)
		from++;
	for (unsigned i = from; i < s->count && s->samples[i].at_ns <= at_ns + span_ns;
	     i++) {
		double had = (double)(s->samples[i].busy_ns[party][device] -
				      s->samples[from].busy_ns[party][device]);
		double lag = (double)(s->samples[i].at_ns - at_ns) - had / rate;

		worst = lag > worst ? lag : worst;
	}
	return (uint64_t)worst;
}

/* busy - rate x time, as a walk: the highest that it rises above what was its lowest before. */
struct tr_beyond tr_series_beyond(const struct tr_series *s, unsigned party,
				  unsigned device, unsigned from, double rate)
{
	const struct tr_sample *first = &s->samples[from];
	struct tr_beyond worst = { 0, first->at_ns, first->at_ns };
	uint64_t low_at_ns = first->at_ns, step_ns = 0;
	double low = 0;

	for (unsigned i = from + 1; i < s->count; i++) {
		const struct tr_sample *at = &s->samples[i];
		uint64_t gone_ns = at->at_ns - at[-1].at_ns;
		double had = (double)(at->busy_ns[party][device] -
				      first->busy_ns[party][device]);
		double walk = had - rate * (double)(at->at_ns - first->at_ns);

		step_ns = gone_ns > step_ns ? gone_ns : step_ns;
		if (walk - low > worst.ns)
			worst = (struct tr_beyond){ walk - low, low_at_ns, at->at_ns };
		if (walk < low) {
			low = walk;
			low_at_ns = at->at_ns;
		}
	}
	/* At most a step at each end, in which it had what it has. */
	worst.ns += 2 * rate * (double)step_ns;
	return worst;
}
