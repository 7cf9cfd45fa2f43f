/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_PACER_STAGE_H
#define TESTS_PACER_STAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include "page.h"
#include "tranche/policy.h"
#include "tranche/state.h"

/*
 * A claim about the pacer is a program that takes part in the virtual clock of a simulated machine. It
 * starts tenants there in slices of their own (the real command, keeper and library), does to them
 * what the claim is about, and asks the machine itself how much of its GPUs they had. Times are the
 * machine's, which nothing here moves but its own sleeps.
 */
#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

#define TENANTS 4u

/* Points (of counted time: percent) that a share may be off where processes take turns on a device, in
 * claims that are about something else: how exact it is there the matrix says (bench.F12). A process
 * that is alone on its device gets what it was promised. */
#define TURNS 4

struct tenant {
	pid_t pid; /* of `tranche run` */
	struct page *page;
	unsigned workers, device; /* of the machine */
	char name[32];            /* of its slice */
	struct tr_state *state;   /* its files, mapped */
	const struct tr_policy *policy;
};

/* What a tenant does. The workload's words are those of tenant.c, blanks between them. */
struct play {
	const char *options; /* of `tranche run`, blanks between them */
	const char *workload;
	unsigned processes, threads; /* 0: one */
	unsigned device;             /* of the machine, unless the options name one */
	const char *fault;           /* TRANCHE_SIM_FAULT */
};
struct tenant *stage_start(const struct play *play);
void stage_stop(struct tenant *t); /* SIGTERM to its run, and its end */
void stage_clear(void);            /* all that still run */
/* Everybody that was started works; the first second is over. */
void stage_warm(void);
void stage_sleep(uint64_t ns);
/* `tranche WORDS`: it must succeed. */
void stage_command(const char *words);

/* ---- the machine's books --------------------------------------------------------------- */

uint64_t stage_now(void);
uint64_t stage_busy(const struct tenant *t,
		    unsigned device); /* of those processes that live */
uint64_t stage_device_busy(unsigned device);
/* Percent of its device from now on for NS. */
double stage_share(const struct tenant *t, uint64_t ns);
/* The same of several at once. */
void stage_shares(const struct tenant *const *t, unsigned n, uint64_t ns, double *out);
/* rm_clock_step() */
void stage_jump(uint64_t ns);
void stage_set_wall(int64_t ns);
void stage_fault(const char *rules); /* of the whole machine; "": none */

/* ---- what tenants tell ----------------------------------------------------------------- */

/* The longest submitting call since stage_forget(), the present ones as far as they have come. */
uint64_t stage_longest(const struct tenant *t);
void stage_forget(struct tenant *t);
uint64_t stage_launches(const struct tenant *t);
/* For ever, on its first device, whatever was forgotten. */
uint64_t stage_submitted(const struct tenant *t);
uint64_t stage_rounds(const struct tenant *t);

/* ---- what must hold ---------------------------------------------------------------------- */

/* The first that does not hold ends the program; with PACER_LOOK in the environment it tells all
 * of them, and what it measured. */
void stage_failed(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
#define FAIL(...) stage_failed(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(truth)                                \
	do {                                        \
		if (!(truth))                       \
			FAIL("not so: %s", #truth); \
	} while (0)
/* VALUE is within OFF of WANT. */
#define NEAR(value, want, off)                                                             \
	do {                                                                               \
		double value_ = (value), want_ = (want), off_ = (off);                     \
		if (!(value_ >= want_ - off_ && value_ <= want_ + off_))                   \
			FAIL("%s is %.3f, not %.3f +- %.3f", #value, value_, want_, off_); \
	} while (0)
#define AT_MOST(value, most)                                             \
	do {                                                             \
		uint64_t value_ = (value), most_ = (most);               \
		if (value_ > most_)                                      \
			FAIL("%s is %.3f ms, more than %.3f", #value,    \
			     (double)value_ / 1e6, (double)most_ / 1e6); \
	} while (0)

#define CLAIM(name) void claim_##name(void);
#include "claims.def"
#undef CLAIM

#endif /* TESTS_PACER_STAGE_H */
