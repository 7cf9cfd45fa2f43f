/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <signal.h>
#include <sys/wait.h>

/* Each call that markers are made of fails for a while: what was predicted stands, no gate waits
 * for what will not come, and after it the share is exact. In the end they are measured again: of kernels
 * that take another time from then on too. */
void claim_event_calls_fail(void)
{
	static const char *const rules[] = {
		"cuEventCreate=2",
		"cuEventRecord=999",
		"cuEventQuery=719",
		"cuEventElapsedTime*=400",
		"cuEvent*=999",
		"cuStreamIsCapturing=1",
		"cuThreadExchangeStreamCaptureMode=1",
		"cuEventQuery=600", /* not ready, for ever */
		"cuEventRecord:7=999 cuEventQuery:3=1 cuEventElapsedTime:5=999",
	};
	struct tenant *a = stage_start(&(struct play){ "--cores 40", "changing 500" });
	struct tenant *b =
		stage_start(&(struct play){ "--cores 40", "changing 3000", .device = 1 });

	stage_warm();
	for (unsigned i = 0; i < sizeof(rules) / sizeof(*rules); i++) {
		double got[2];

		stage_forget(a);
		stage_forget(b);
		stage_fault(rules[i]);
		stage_shares((const struct tenant *const[]){ a, b }, 2, 5 * S, got);
		stage_fault("");
		/* the lengths are known: predictions are good */
		if (got[0] < 30 || got[0] > 50 || got[1] < 30 || got[1] > 50)
			FAIL("%s: %.2f and %.2f meanwhile, not 40", rules[i], got[0],
			     got[1]);
		stage_sleep(3 * S);
		AT_MOST(stage_longest(a), 200 * MS);
		AT_MOST(stage_longest(b), 500 * MS);
		stage_shares((const struct tenant *const[]){ a, b }, 2, 8 * S, got);
		if (got[0] < 39 || got[0] > 41 || got[1] < 39 || got[1] > 41)
			FAIL("%s: %.2f and %.2f after it, not 40", rules[i], got[0],
			     got[1]);
	}
	atomic_store(&a->page->order, 1);
	atomic_store(&b->page->order, 1);
	stage_sleep(10 * S);
	NEAR(stage_share(a, 8 * S), 40, 1);
	NEAR(stage_share(b, 8 * S), 40, 1);
}

/* From the first call on: nothing was ever measured. Nothing hangs, though nobody can limit it. */
void claim_events_never_worked(void)
{
	struct tenant *t = stage_start(
		&(struct play){ "--cores 40", "kernels 500", .fault = "cuEvent*=999" });

	stage_warm();
	stage_forget(t);
	stage_sleep(10 * S);
	CHECK(stage_launches(t) > 10);
	AT_MOST(stage_longest(t), 1100 * MS);
}

/* A marker call of one thread hangs, with the marks held: the others go on, unmarked at worst. */
void claim_event_call_hangs(void)
{
	struct tenant *t = stage_start(&(struct play){ "--cores 40", "kernels 500",
						       .threads = 3,
						       .fault = "cuEventRecord:900=hang" });
	uint64_t launches;

	stage_sleep(25 * S);
	stage_forget(t);
	launches = stage_launches(t);
	stage_sleep(10 * S);
	CHECK(stage_launches(t) > launches + 1000);
	NEAR(stage_share(t, 10 * S), 40, 2);
}

/* I4: a kernel that never ends. Its own slice's gates are bounded, its neighbours have their shares,
 * and when it is killed everything is free again. */
void claim_I4_kernel_hangs(void)
{
	struct tenant *a = stage_start(&(struct play){ "--cores 50", "hang 500" });
	struct tenant *b = stage_start(&(struct play){ "--cores 30", "kernels 500" });

	stage_warm();
	stage_forget(a);
	atomic_store(&a->page->order, 1);
	stage_sleep(S);
	stage_forget(b);
	NEAR(stage_share(b, 10 * S), 30, TURNS);
	AT_MOST(stage_longest(b), 200 * MS);
	/* What it was to launch behind the one that hangs has been launched, each within the bound. */
	for (unsigned i = 0; i < 300 && !stage_rounds(a); i++) {
		stage_sleep(2 * S);
		AT_MOST(stage_longest(a), TR_DEBT_MAX_NS + 100 * MS);
	}
	CHECK(stage_rounds(a) > 0);
	AT_MOST(stage_rounds(a), S + 100 * MS); /* of one that nobody knows */
	CHECK(kill((pid_t)atomic_load(&a->page->workers[0].pid), SIGKILL) == 0);
	CHECK(waitpid(a->pid, NULL, 0) == a->pid);
	a->pid = 0;
	stage_sleep(5 * S);
	stage_forget(b);
	NEAR(stage_share(b, 5 * S), 30, TURNS);
	AT_MOST(stage_longest(b), 100 * MS);
	/* and the GPU is free: another one there has it all beside b */
	a = stage_start(&(struct play){ "--cores 100", "kernels 500" });
	atomic_store(&b->page->is_paused, 1);
	stage_sleep(S);
	NEAR(stage_share(a, 5 * S), 100, 2);
}

/* I4: a gate ends at the debt bound, whatever others of its slice do meanwhile. What never waits itself is
 * charged again and again, so that as much as may be owed always is. */
void claim_I4_gate_ends(void)
{
	struct tenant *t =
		stage_start(&(struct play){ "--cores 10", "beside 2000", .processes = 2 });
	uint64_t rounds;

	stage_warm();
	stage_sleep(5 * S);
	rounds = stage_rounds(t);
	for (unsigned i = 0; i < 12; i++) {
		stage_sleep(5 * S);
		AT_MOST(stage_longest(t), TR_DEBT_MAX_NS + 100 * MS);
	}
	/* one at a time, after each such wait */
	NEAR((double)(stage_rounds(t) - rounds), 6, 1);
}

/* Kernels that nobody measured before: of a thousand that follow each other, what is queued unseen
 * is one, and the share is right in the end. */
static void unknown(const char *workload)
{
	struct tenant *t = stage_start(&(struct play){ "--cores 20", workload });
	uint64_t launches, worst_ns = 0;

	launches = stage_launches(t);
	for (unsigned i = 0; i < 500; i++) {
		uint64_t ahead_ns;

		stage_sleep(20 * MS);
		ahead_ns = (stage_launches(t) - launches) * 20 * MS;
		ahead_ns -= ahead_ns < stage_busy(t, 0) ? ahead_ns : stage_busy(t, 0);
		worst_ns = ahead_ns > worst_ns ? ahead_ns : worst_ns;
	}
	AT_MOST(worst_ns, 100 * MS);
	NEAR(stage_share(t, 40 * S), 20, 2);
}

void claim_unknown_kernels(void)
{
	unknown("unknown 20000");
}

/* As an auto-tuner does. The grace of a program's own event is for kernels whose price is known. */
void claim_unknown_kernels_recorded(void)
{
	unknown("recorded 20000");
}

/* Short ones wait for each other hardly longer than they take. */
void claim_unknown_short(void)
{
	struct tenant *t = stage_start(&(struct play){ "--cores 80", "throwaway 1000" });

	stage_warm();
	NEAR(stage_share(t, 10 * S), 80, 1);
}
