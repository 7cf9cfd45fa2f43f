/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <signal.h>

/* Contexts that end with markers pending. A device's books go on when processes end. */
static void check_rounds(struct tenant *t, double want, double off, uint64_t least)
{
	uint64_t rounds, busy, from;

	stage_warm();
	rounds = stage_rounds(t);
	busy = stage_device_busy(0);
	from = stage_now();
	stage_sleep(20 * S);
	NEAR(100.0 * (double)(stage_device_busy(0) - busy) / (double)(stage_now() - from),
	     want, off);
	CHECK(stage_rounds(t) >= rounds + least);
	AT_MOST(stage_longest(t), 500 * MS);
}

void claim_context_destroyed(void)
{
	check_rounds(stage_start(&(struct play){ "--cores 30", "contexts 1000" }), 30, 1,
		     100);
}

/* Others launch in theirs meanwhile. */
void claim_context_destroyed_beside_threads(void)
{
	check_rounds(
		stage_start(&(struct play){ "--cores 30", "contexts 1000", .threads = 4 }),
		30, 1, 100);
}

/* Before anything of it was measured. */
void claim_context_destroyed_at_once(void)
{
	check_rounds(stage_start(&(struct play){ "--cores 30", "fresh 5000" }), 30, 1, 100);
}

/* On a busy machine the GPU idles for a while before a program that starts takes part in its time. */
static void shots(const char *workload)
{
	check_rounds(stage_start(&(struct play){ "--cores 20", workload }), 16, 5, 100);
}

/* Programs that launch one kernel, which nobody measured before, ask until it is done, and end. */
void claim_ends_when_stream_is_done(void)
{
	shots("shots 5000 1");
}

void claim_ends_when_event_is_done(void)
{
	shots("shots 5000 2");
}

/* Or do not ask. */
void claim_ends_unasked(void)
{
	shots("shots 5000 3");
}

/* Or are killed before it is over. */
void claim_ends_killed(void)
{
	shots("shots 20000 4");
}

void claim_primary_context_reset(void)
{
	check_rounds(stage_start(&(struct play){ "--cores 30", "resets 1000" }), 30, 1,
		     100);
}

/* A child that ends, one that tries the driver, one that becomes another program of the slice. */
static void forks(unsigned threads)
{
	struct tenant *t = stage_start(
		&(struct play){ "--cores 30", "forks 500", .threads = threads });
	uint64_t busy, from;

	stage_warm();
	busy = stage_device_busy(0);
	from = stage_now();
	stage_sleep(20 * S);
	/* a parent that waits for its child does not launch */
	AT_MOST(stage_device_busy(0) - busy, (stage_now() - from) / 100 * 33);
	CHECK(stage_rounds(t) >= 10);
	atomic_store(&t->page->order, 1);
	stage_sleep(S);
	stage_forget(t);
	NEAR(stage_share(t, 10 * S), 30, 1);
	AT_MOST(stage_longest(t), 400 * MS);
}

void claim_fork_in_the_middle(void)
{
	forks(1);
}

void claim_fork_beside_threads(void)
{
	forks(4);
}

/* SIGKILL at any moment: in a gate, between an event and a launch, with the marks held. The others of
 * the slice have its share from then on, its words block nobody, and its neighbour sees nothing. */
static void killed(const char *workload, unsigned threads)
{
	struct tenant *a = stage_start(&(struct play){
		"--cores 30", workload, .processes = 8 / threads, .threads = threads });
	struct tenant *b = stage_start(&(struct play){ "--cores 40", "kernels 700" });

	stage_warm();
	for (unsigned i = a->workers - threads; i > 0; i -= threads) {
		pid_t pid = (pid_t)atomic_load(&a->page->workers[i].pid);
		uint64_t at = stage_now() + 7 * MS;

		/* In a call that submits: the gate, as good as always. */
		while (!atomic_load(&a->page->workers[i].inside_ns) && stage_now() < at)
			stage_sleep(20 * US);
		CHECK(kill(pid, SIGKILL) == 0);
		a->workers = i;
		for (unsigned n = 0; n < threads; n++)
			atomic_store(&a->page->workers[i + n].inside_ns, 0);
		stage_forget(a);
		stage_sleep(500 * MS);
		NEAR(stage_share(a, 4 * S), 30, TURNS);
		AT_MOST(stage_longest(a), S);
		NEAR(stage_share(b, 2 * S), 40, TURNS);
	}
	/* alone on its device, what is left of it has all of its share and no more */
	stage_stop(b);
	stage_sleep(10 * S);
	NEAR(stage_share(a, 8 * S), 30, threads > 1 ? TURNS : 1.5);
}

void claim_killed_in_a_gate(void)
{
	killed("kernels 500", 1);
}

void claim_killed_with_threads(void)
{
	killed("kernels 500", 2);
}

void claim_killed_with_graphs(void)
{
	killed("graphs 50 20", 1);
}
