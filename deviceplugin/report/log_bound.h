/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_REPORT_LOG_BOUND_H
#define TR_REPORT_LOG_BOUND_H

#include <stdbool.h>
#include <stdint.h>

/* How much of what repeats is written. Pure: the caller brings the clock. */

#define TR_LOG_REPEATS   4u /* of the same line in */
#define TR_LOG_REPEAT_NS UINT64_C(10000000000)
#define TR_LOG_BURST     1024u /* lines of one event at once, and then */
#define TR_LOG_RATE      64u   /* a second */

struct tr_log_bound {
	struct tr_log_same {
		uint64_t line, since_ns, left_out;
		unsigned count;
	} same[256];
	struct tr_log_event {
		uint64_t event, at_ns, dropped;
		uint64_t spent; /* 2^-20 lines */
	} events[64];
};

/* Whether a line may be written: LINE and EVENT name it (hashes). What was left out since the last one
 * that was: *REPEATS of the same line, *DROPPED of the event; 0 unless it may. MUST: it is not dropped
 * for the sake of its event. */
enum tr_log_verdict { TR_LOG_WRITE, TR_LOG_REPEAT, TR_LOG_DROP };
enum tr_log_verdict tr_log_admit(struct tr_log_bound *bound, uint64_t line, uint64_t event,
				 bool must, uint64_t now_ns, uint64_t *repeats,
				 uint64_t *dropped);

#endif /* TR_REPORT_LOG_BOUND_H */
