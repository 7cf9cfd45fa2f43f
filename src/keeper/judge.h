/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KEEPER_JUDGE_H
#define TR_KEEPER_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu/gpu.h"

/*
 * What a slice was charged, held against what NVML saw. Pure arithmetic: no clock, no file.
 *
 * gamma = busy time by NVML / time charged by the slice's own measurement. It differs from 1 where
 * processes take turns: a kernel's span then holds the others' turns too. Two things bound it: what
 * is too much in the charges is at most what the others were busy; and NVML tells whole percents,
 * so every sum carries what it may be wrong by (doubt), and gamma leaves 1 only when the doubt
 * cannot explain the difference.
 */

/* One look, as long as NVML's samples: of one slice on one device. */
struct tr_look {
	uint64_t wall_ns;    /* since the last look */
	uint64_t busy_ns;    /* NVML, all processes of the slice */
	uint64_t charged_ns; /* by the slice, before gamma */
	uint64_t paid_ns;    /* the same with the gammas of its time applied */
	uint64_t
		spanned_ns; /* from begin to end of what was charged, one after the other */
	uint64_t doubt_ns;  /* rounding: half a percent of each sample */
	uint64_t others_ns, others_doubt_ns; /* the same of all other processes */
	unsigned samples;                    /* of its processes */
	uint64_t longest_ns; /* longest submission: busy long before it is charged */
	unsigned sharers;    /* processes with a context on the device; 0: not known */
	uint64_t launches;   /* since the last look */
	/* All processes are known and stayed the same: only then the two numbers are of the same
	 * work. The watchdog looks anyway. */
	bool is_whole;
};

/* Of two processes' roundings, which know nothing of each other: not their sum. And without B. */
uint64_t tr_doubt_and(uint64_t a_ns, uint64_t b_ns);
uint64_t tr_doubt_without(uint64_t all_ns, uint64_t b_ns);

/* SUM and then LOOK; SUM 0: LOOK alone. */
void tr_look_add(struct tr_look *sum, const struct tr_look *look);

struct tr_ratio { /* sums that fade */
	double busy_ns, charged_ns, spanned_ns, doubt_ns, others_ns, wall_ns, samples;
};

struct tr_gamma {
	struct tr_ratio brief, steady; /* brief: notices that the neighbours changed */
	struct tr_look block;          /* looks not judged yet */
	unsigned sharers;
	bool is_off; /* from 1: then VALUE holds, and by this part more */
	double value, by;
	bool is_shared;   /* others were busy in a good part of the time */
	bool is_varied;   /* and still NVML saw more than was charged */
	double late_ns;   /* taken for charged although it was not yet */
	double unpaid_ns; /* NVML's busy time less what was paid while gamma was off */
};

#define TR_GAMMA_ONE_Q16 (UINT64_C(1) << 16)
/* Feeds a look and answers gamma in 2^-16, in [1/64, 1.25], and not below 1/(2n - 1) with n
 * sharers: among n that take turns a span holds n turns to one of its own, and as many again where
 * it begins and ends in the others'. So alone it is never below 1, whatever the numbers say. */
uint64_t tr_gamma_feed(struct tr_gamma *gamma, const struct tr_look *look);

/* Bypass: the GPU works for processes of the slice and nobody is charged. */
#define TR_WATCH_PERIODS 3u
/* A kernel that was never measured is charged when it ends: it gets this long. */
#define TR_WATCH_PATIENCE 30u
struct tr_watch {
	unsigned periods;   /* in a row, of much more busy time than charges */
	bool is_pending;    /* launched, and nothing charged since */
	bool is_bypassed;   /* found, and not over yet */
	uint64_t excess_ns; /* busy beyond charges, of these periods */
	uint64_t periods_busy_ns, periods_charged_ns;
};
/* True each time TR_WATCH_PERIODS have gone by in which the slice was not charged for what it did. */
bool tr_watch_feed(struct tr_watch *watch, const struct tr_look *look);
/* GAMMA_Q16, raised as far as bypassed work was not charged: at most fourfold. */
uint64_t tr_watch_lowered_q16(const struct tr_watch *watch, uint64_t gamma_q16);

/* One process' samples of one device, from poll to poll. */
struct tr_samples {
	uint64_t last_us; /* end of the last one; 0: none yet */
};
/* ROWS, of one process, told when asked for those after AFTER_US: their time goes into LOOK. A row
 * is of the time since the row before it; a process that was idle has none, and its next one
 * counts from AFTER_US. */
void tr_samples_feed(struct tr_samples *samples, const struct tr_gpu_sample *rows,
		     size_t count, uint64_t after_us, struct tr_look *look);
/* The same process had none until UNTIL_US: what NVML rounds to nothing is in doubt. */
void tr_samples_silent(struct tr_samples *samples, uint64_t after_us, uint64_t until_us,
		       struct tr_look *look);

#endif /* TR_KEEPER_JUDGE_H */
