/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_meter.h"

/* A run from FROM to TO: what is older than the ring holds is left out. */
static void deal_out(struct engine_meter *m, uint64_t from_ns, uint64_t to_ns)
{
	uint64_t last = to_ns / ENGINE_SIXTH_NS, i = from_ns / ENGINE_SIXTH_NS;

	if (last - i >= ENGINE_SIXTHS)
		i = last - ENGINE_SIXTHS + 1;
	for (; i <= last; i++) {
		uint64_t begin = i * ENGINE_SIXTH_NS, end = begin + ENGINE_SIXTH_NS;
		size_t at = (size_t)(i % ENGINE_SIXTHS);

		if (m->sixths[at].number != i) {
			m->sixths[at].number = i;
			m->sixths[at].ns = 0;
		}
		m->sixths[at].ns += (to_ns < end ? to_ns : end) -
				    (from_ns > begin ? from_ns : begin);
	}
}

void engine_meter_start(struct engine_meter *m, uint64_t now_ns)
{
	if (m->running++ == 0)
		m->since_ns = now_ns;
}

void engine_meter_stop(struct engine_meter *m, uint64_t now_ns)
{
	if (--m->running > 0)
		return;
	m->total_ns += now_ns - m->since_ns;
	deal_out(m, m->since_ns, now_ns);
}

uint64_t engine_meter_total_ns(const struct engine_meter *m, uint64_t now_ns)
{
	return m->total_ns + (m->running ? now_ns - m->since_ns : 0);
}

uint32_t engine_meter_percent(const struct engine_meter *m, uint64_t number)
{
	uint64_t begin = number * ENGINE_SIXTH_NS, end = begin + ENGINE_SIXTH_NS, ns = 0;
	size_t at = (size_t)(number % ENGINE_SIXTHS);

	if (m->sixths[at].number == number)
		ns = m->sixths[at].ns;
	if (m->running && m->since_ns < end)
		ns += end - (m->since_ns > begin ? m->since_ns : begin);
	return (uint32_t)((100 * ns + ENGINE_SIXTH_NS / 2) / ENGINE_SIXTH_NS);
}
