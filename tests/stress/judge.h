/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STRESS_JUDGE_H
#define STRESS_JUDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "crowd.h"
#include "keeper/keeper.h"

/*
 * Two accounts of one machine: the ledger of the slice and what the keeper published,
 * against the simulated driver's own lists. They share no code.
 */
struct judge {
	struct tr_slice_dir dir;
	struct tr_keeper keeper;
	struct tr_page page;
	struct tr_state *state;
	bool has_swept;         /* overhead stands instead of floors */
	uint64_t highest_bytes; /* of all samples */
	uint64_t samples, compared, overheads;
};

void judge_open(struct judge *judge, const char *dir);
void judge_close(struct judge *judge);

/* What the keeper does once a second. */
void judge_sweep(struct judge *judge);

/* While every tenant rests: for each of them and each device, the ledger is what the driver
 * lists. WITH_KEEPER: after a sweep, overhead is what the driver took beyond that; else it is
 * the floors of its contexts. */
void judge_compare(struct judge *judge, const struct crowd *crowd, bool with_keeper);

/* While every process is frozen: all that the driver lists is within the limit. */
void judge_sample(struct judge *judge, const struct crowd *crowd);

/* After all have died: nothing is left anywhere, and after the next look not a word. */
void judge_end(struct judge *judge);

#endif /* STRESS_JUDGE_H */
