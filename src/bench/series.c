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
