/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_BACKOFF_H
#define TR_KUBE_BACKOFF_H

#include <stdint.h>

/* How long to wait before the next try: doubling from FIRST_MS to MAX_MS, each between half and all
 * of that by chance, so that many clients that failed together do not come back together. */
struct tr_backoff {
	uint32_t first_ms, max_ms;
	uint32_t tries;
	uint64_t chance; /* state of the generator; 0: seeded by the kernel at first use */
};

uint32_t tr_backoff_next(struct tr_backoff *b);
void tr_backoff_reset(struct tr_backoff *b);
/* From LOW to HIGH, both included. */
uint32_t tr_backoff_between(struct tr_backoff *b, uint32_t low, uint32_t high);

#endif /* TR_KUBE_BACKOFF_H */
