/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CARDS_SCORES_H
#define TR_CARDS_SCORES_H

#include <stdbool.h>

#include "base/buf.h"
#include "gpu/gpu.h"
#include "tranche/err.h"

/* How well pairs of GPUs are linked, as HAMi counts: by the nearest thing on the bus that they share, and
 * 100 for each NVLink between them. Pure. */

enum tr_near {
	TR_NEAR_UNKNOWN,
	TR_NEAR_SYSTEM,     /* the way leads from one processor to another: 10 */
	TR_NEAR_NODE,       /* within one processor: 20 */
	TR_NEAR_HOSTBRIDGE, /* 30 */
	TR_NEAR_SWITCHES,   /* several PCIe switches: 40 */
	TR_NEAR_SWITCH,     /* one: 50 */
	TR_NEAR_BOARD,      /* 60 */
};

#define TR_LINKS_MAX 36

struct tr_card_links {
	const char *uuid;
	char bus_id[32];
	struct {
		char remote[32]; /* bus id at the other end */
		bool is_switch;
	} links[TR_LINKS_MAX]; /* those that are up */
	unsigned link_count;
	unsigned char near[TR_GPUS_MAX]; /* enum tr_near to each of the others */
};

/* Adds the annotation's text to OUT. -ENODATA: a pair whose nearness is not known. A pair whose ends tell
 * different links scores 0; ODD (may be NULL) then gets a sentence about the last such, else "". */
int tr_scores_print(const struct tr_card_links *cards, unsigned count, struct tr_buf *out,
		    char *odd, size_t odd_room, struct tr_err *err);

#endif /* TR_CARDS_SCORES_H */
