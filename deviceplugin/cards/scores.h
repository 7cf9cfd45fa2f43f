/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CARDS_SCORES_H
#define TR_CARDS_SCORES_H

#include "base/buf.h"
#include "gpu/place.h"
#include "tranche/err.h"

/*
 * How well pairs of GPUs are linked, as HAMi counts: 10 (the way between processors), 20 (one
 * processor), 30 (host bridge), 40 (several switches), 50 (one switch) or 60 (one board) for the nearest
 * thing on the bus that they share, and 100 for each NVLink between them, also through switches. Pure.
 */

struct tr_card_links {
	const char *uuid;
	char bus_id[32];
	struct tr_gpu_link links[TR_GPU_LINKS_MAX]; /* those that are up */
	unsigned link_count;
	unsigned char near[TR_GPUS_MAX]; /* enum tr_gpu_near, to each of the others */
};

/* Adds the annotation's text to OUT. -ENODATA: a pair whose nearness is not known. A pair whose ends tell
 * different links scores 0; ODD (may be NULL) then gets a sentence about the last such, else "". */
int tr_scores_print(const struct tr_card_links *cards, unsigned count, struct tr_buf *out,
		    char *odd, size_t odd_room, struct tr_err *err);

#endif /* TR_CARDS_SCORES_H */
