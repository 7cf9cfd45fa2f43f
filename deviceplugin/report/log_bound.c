/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/report/log_bound.h"

#define ONE (UINT64_C(1) << 20)

/* Two lines that share a row take it from each other: too much is written rather than too little. */
static struct tr_log_same *same_of(struct tr_log_bound *bound, uint64_t line,
				   uint64_t now_ns)
{
	struct tr_log_same *same = &bound->same[line % 256];

	if (same->line != line)
		*same = (struct tr_log_same){ .line = line, .since_ns = now_ns };
	if (now_ns - same->since_ns >= TR_LOG_REPEAT_NS) {
		same->since_ns = now_ns;
		same->count = 0;
	}
	return same;
}

static struct tr_log_event *event_of(struct tr_log_bound *bound, uint64_t event,
				     uint64_t now_ns)
{
	struct tr_log_event *row = &bound->events[event % 64];
	uint64_t gone_ns, back;

	if (row->event != event)
		*row = (struct tr_log_event){ .event = event, .at_ns = now_ns };
	gone_ns = now_ns - row->at_ns;
	/* Beyond that all is back; no product below can then overflow. */
	if (gone_ns > (TR_LOG_BURST / TR_LOG_RATE + 1) * UINT64_C(1000000000))
		gone_ns = (TR_LOG_BURST / TR_LOG_RATE + 1) * UINT64_C(1000000000);
	back = gone_ns * TR_LOG_RATE / 1000 * ONE / 1000000;
	row->spent = row->spent > back ? row->spent - back : 0;
	row->at_ns = now_ns;
	return row;
}

enum tr_log_verdict tr_log_admit(struct tr_log_bound *bound, uint64_t line, uint64_t event,
				 bool must, uint64_t now_ns, uint64_t *repeats,
				 uint64_t *dropped)
{
	struct tr_log_same *same = same_of(bound, line, now_ns);
	struct tr_log_event *row = event_of(bound, event, now_ns);

	*repeats = *dropped = 0;
	if (same->count >= TR_LOG_REPEATS) {
		same->left_out++;
		return TR_LOG_REPEAT;
	}
	if (!must && row->spent + ONE > TR_LOG_BURST * ONE) {
		row->dropped++;
		return TR_LOG_DROP;
	}
	if (row->spent < TR_LOG_BURST * ONE)
		row->spent += ONE;
	same->count++;
	*repeats = same->left_out;
	*dropped = row->dropped;
	same->left_out = row->dropped = 0;
	return TR_LOG_WRITE;
}
