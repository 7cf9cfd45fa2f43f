/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

/* 100 -> 5 -> 100 and more while graphs run, by `tranche set`. */
void claim_limit_changes(void)
{
	static const unsigned steps[] = { 5, 100, 5, 60, 5, 33, 100 };
	struct tenant *t = stage_start(&(struct play){ "--cores 100", "graphs 100 50" });
	char words[96];

	stage_warm();
	NEAR(stage_share(t, 2 * S), 100, 1.5);
	for (unsigned i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		stage_forget(t);
		(void)snprintf(words, sizeof(words), "set %s --cores %u", t->name,
			       steps[i]);
		stage_command(words);
		/* What was owed at 5 % is paid at the new rate: soon. */
		stage_sleep(500 * MS);
		NEAR(stage_share(t, 5 * S), steps[i], 1.5);
		/* twice a graph of 5 ms, at 5 % */
		AT_MOST(stage_longest(t), 250 * MS);
	}
}

/* The same beside another, and with long kernels, whose debt is large: raising the limit ends a wait
 * that was begun at the old one. */
void claim_limit_raised_in_debt(void)
{
	struct tenant *t = stage_start(&(struct play){ "--cores 5", "kernels 200000" });
	_Atomic uint64_t *inside_ns = &t->page->workers[0].inside_ns;
	char words[96];
	uint64_t launches, since_ns;

	stage_sleep(20 * S);
	/* one that has just begun, of about 4 s */
	do {
		stage_sleep(20 * MS);
		since_ns = atomic_load(inside_ns);
	} while (!since_ns || stage_now() < since_ns + 100 * MS ||
		 stage_now() > since_ns + S);
	launches = stage_submitted(t);
	(void)snprintf(words, sizeof(words), "set %s --cores 100", t->name);
	stage_command(words);
	stage_sleep(500 * MS);
	CHECK(stage_submitted(t) > launches);
	stage_forget(t);
	launches = stage_launches(t);
	stage_sleep(6 * S);
	CHECK(stage_launches(t) > launches + 20);
	NEAR(stage_share(t, 10 * S), 100, 2);
}

/* I6: over any window L the GPU's own books show at most rate * (L + window) + one submission, and
 * what no marker has told yet: that is 5 ms of a run here, before and after. */
static void rate_bound(const char *options, double percent, const char *workload,
		       uint64_t submission_ns, unsigned processes)
{
	enum { STEPS = 4000 };
	static uint64_t at[STEPS], busy[STEPS];
	struct tenant *t =
		stage_start(&(struct play){ options, workload, .processes = processes });
	double rate = percent / 100, worst = 0;
	double slack = rate * (double)TR_WINDOW_NS +
		       (double)processes * (double)submission_ns + 5e6;

	stage_warm();
	for (unsigned i = 0; i < STEPS; i++) {
		at[i] = stage_now();
		busy[i] = stage_busy(t, 0);
		stage_sleep(5 * MS);
	}
	for (unsigned i = 0; i < STEPS; i++)
		for (unsigned j = i + 1; j < STEPS; j++) {
			double over = (double)(busy[j] - busy[i]) -
				      rate * (double)(at[j] - at[i]);

			worst = over > worst ? over : worst;
		}
	(void)printf("%s, %u processes: %.1f ms beyond the rate, %.1f are allowed\n",
		     workload, processes, worst / 1e6, slack / 1e6);
	if (worst > slack)
		FAIL("%.1f ms beyond the rate", worst / 1e6);
	CHECK(stage_launches(t) > 50);
}

void claim_I6_bursts(void)
{
	rate_bound("--cores 30", 30, "bursts 500 300", 500 * US, 1);
}

void claim_I6_saturating(void)
{
	rate_bound("--cores 20", 20, "mixed 5000", 5 * MS, 1);
}

void claim_I6_graphs(void)
{
	rate_bound("--cores 50", 50, "graphs 100 20", 2 * MS, 1);
}

void claim_I6_long(void)
{
	rate_bound("--cores 10", 10, "kernels 20000", 20 * MS, 1);
}

/* I7: in the slice's own words, what bench.F12 measures in many cells. */
void claim_I7_share(void)
{
	struct tenant *const t[] = {
		stage_start(&(struct play){ "--cores 10", "kernels 50" }),
		stage_start(&(struct play){ "--cores 20", "mixed 2000", .device = 1 }),
		stage_start(&(struct play){ "--cores 33", "graphs 50 40", .device = 2 }),
	};
	static const double want[] = { 10, 20, 33 };
	double got[3];

	stage_warm();
	stage_shares((const struct tenant *const *)t, 3, 20 * S, got);
	for (unsigned i = 0; i < 3; i++)
		NEAR(got[i], want[i], 1);
}

/* Nothing of ours comes into a capture of any mode, no capture is spoiled, and none waits. */
void claim_captures(void)
{
	struct tenant *t =
		stage_start(&(struct play){ "--cores 20", "captures 200", .threads = 3 });
	uint64_t rounds;

	stage_warm();
	rounds = stage_rounds(t);
	stage_sleep(20 * S);
	CHECK(stage_rounds(t) > rounds + 30);
	/* somebody always captures here: what was learned before stands */
	NEAR(stage_share(t, 10 * S), 20, TURNS);
}

/* Its kernels were told to take longer: what it cost before is not believed. */
void claim_graph_gets_longer(void)
{
	struct tenant *t = stage_start(&(struct play){ "--cores 20", "steps 200" });

	(void)stage_start(&(struct play){ "--cores 80", "kernels 1000" });
	stage_warm();
	stage_sleep(5 * S);
	for (unsigned i = 0; i < 15; i++)
		NEAR(stage_share(t, S), 20, 10);
}

/* Nobody has measured its kernels before somebody captures, and nobody may then. */
void claim_unknown_while_captured(void)
{
	struct tenant *t =
		stage_start(&(struct play){ "--cores 20", "captured 1000", .threads = 2 });
	uint64_t rounds;

	stage_warm();
	rounds = stage_rounds(t);
	NEAR(stage_share(t, 20 * S), 20, TURNS);
	CHECK(stage_rounds(t) > rounds + 100);
}

/* What a program measures of its own kernels by events is not the gate's sleep. */
void claim_grace(void)
{
	struct tenant *t = stage_start(&(struct play){ "--cores 20", "timed 1000" });
	double worst_ms;

	stage_warm();
	atomic_store(&t->page->workers[0].rounds, 0);
	NEAR(stage_share(t, 20 * S), 20, 1);
	worst_ms = (double)stage_rounds(t) / 1e6;
	NEAR(worst_ms, 1, 0.1);
}

/* Peers of a collective would spin: its kernels are charged and never held; the next others pay. */
void claim_collectives(void)
{
	struct tenant *t = stage_start(&(struct play){ "--cores 20", "collective 2000" });

	stage_warm();
	stage_forget(t);
	NEAR(stage_share(t, 5 * S), 99, 2);
	AT_MOST(stage_longest(t), MS);
	atomic_store(&t->page->order, 1);
	stage_sleep(100 * MS);
	/* five times what ran is owed, up to the bound */
	NEAR(stage_share(t, 5 * S), 0, 1);
	AT_MOST(stage_longest(t), TR_DEBT_MAX_NS + 100 * MS);
	stage_sleep(TR_DEBT_MAX_NS);
	NEAR(stage_share(t, 10 * S), 20, 1);
}
