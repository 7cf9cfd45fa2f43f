/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_SLICE_PARTS_H
#define TR_SLICE_PARTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tranche/state.h"

/*
 * Whose a slice's GPU time was. What several processes report is charged once (slice/cover.c), and
 * who reports first is charged for it; this shares it out. Each process tells all that it reports, of
 * two kinds:
 *
 *   known   what it costs is known from elsewhere, so that others' turns are not in it
 *   wanted  a span of work that is only known by its span: while it lasted the process wanted the GPU,
 *           and had it by turns with whoever wanted it too
 *
 * and looks from time to time at what all have told since it last looked, and at what the slice was
 * charged. Who knows has that; those who want share the rest, by how often they want it and how many
 * others then do. Where somebody always wants it, nobody has more than the level at which all parts
 * together are the charge: a GPU gives equal turns to those who want them.
 *
 * Until it looks a process counts what it was charged; what that was too much is taken from what it
 * counts next, so its counter only rises. Lock-free but for one lock that is only tried; the caller
 * brings the clock. Any value of any word is safe: a part is at most twice the time that it is of.
 */

/* How long a process lets reports come in, at least; four times the longest submission, if that is
 * more, up to TR_PARTS_MAX_NS. */
#define TR_PARTS_NS     UINT64_C(100000000)
#define TR_PARTS_MAX_NS UINT64_C(10000000000)

/* A process' own memory of it; zeroed: nothing yet. */
struct tr_parts {
	_Atomic uint32_t is_held;
	struct tr_parts_device {
		_Atomic uint64_t since_ns,
			gpu_ns;              /* when it last looked; the slice's then */
		_Atomic uint64_t counted_ns; /* of this process since */
		_Atomic uint32_t has_told;   /* anything since */
		_Atomic int64_t credit_ns;   /* to be counted; below 0: counted too much */
	} devices[TR_DEVICES_MAX];
	uint64_t told[TR_USAGE_ROWS]; /* what each row had told then */
	struct tr_told_since {
		double known_ns, wanted; /* the latter as a part of the time */
	} since[TR_USAGE_ROWS];
};

/* The process of ROW worked for KNOWN, or wanted the GPU for WANTED; for that the slice was charged
 * OURS, gamma applied. */
void tr_parts_add(struct tr_parts *parts, struct tr_state_pace *pace,
		  struct tr_state_usage *row, uint64_t known_ns, uint64_t wanted_ns,
		  uint64_t ours_ns);
/* Shares out what was charged since it last looked, if that is long enough ago. */
void tr_parts_share(struct tr_parts *parts, struct tr_state *state,
		    struct tr_state_usage *row, uint64_t now_ns);
/* Before a submission: who has told nothing for long looks anew. */
void tr_parts_begin(struct tr_parts *parts, struct tr_state *state,
		    struct tr_state_usage *row, uint64_t now_ns);

/* This process is another one now. */
void tr_parts_forget(struct tr_parts *parts);

/* What a reader shows: the part of ROW in the slice's GPU time. All parts, those of processes that are
 * gone too, together are that. */
uint64_t tr_parts_gpu_ns(const struct tr_state_pace *pace,
			 const struct tr_state_usage *row);

#endif /* TR_SLICE_PARTS_H */
