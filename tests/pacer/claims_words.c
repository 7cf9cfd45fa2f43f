/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <time.h>

static uint64_t clock_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * S + (uint64_t)now.tv_nsec;
}

static uint64_t value_of(unsigned v)
{
	const uint64_t values[] = { 0,
				    1,
				    clock_ns() - 3 * S,
				    clock_ns() + 3 * S,
				    clock_ns() + 5 * 3600 * S,
				    UINT64_MAX / 2,
				    UINT64_MAX };

	return values[v];
}
#define VALUES 7u

/* Over and over for a second, while the slice and another one work. */
static void scribble(_Atomic uint64_t *word, unsigned v)
{
	for (unsigned i = 0; i < 100; i++) {
		atomic_store(word, value_of(v));
		stage_sleep(10 * MS);
	}
}

static void words(_Atomic uint64_t *const *all, unsigned n, unsigned step, struct tenant *a,
		  struct tenant *b)
{
	double got[2];

	stage_warm();
	for (unsigned w = 0; w < n; w++)
		for (unsigned v = w % step; v < VALUES; v += step) {
			stage_forget(a);
			stage_forget(b);
			scribble(all[w], v);
			stage_sleep(TR_DEBT_MAX_NS);
			AT_MOST(stage_longest(a), TR_DEBT_MAX_NS + S + 100 * MS);
			AT_MOST(stage_longest(b), 200 * MS);
			stage_shares((const struct tenant *const[]){ a, b }, 2, 4 * S, got);
			if (got[0] < 39 || got[0] > 41 || got[1] < 39 || got[1] > 41)
				FAIL("word %u, value %u: %.2f and %.2f, not 40", w, v,
				     got[0], got[1]);
		}
}

static struct tenant *start_scribbled(void)
{
	return stage_start(&(struct play){ "--cores 40", "kernels 2000" });
}

static struct tenant *start_other(void)
{
	return stage_start(&(struct play){ "--cores 40", "kernels 5000", .device = 1 });
}

/* A garbage tat, and its neighbour. */
void claim_garbage_tat(void)
{
	struct tenant *a = start_scribbled(), *b = start_other();

	words((_Atomic uint64_t *const[]){ &a->state->pace[0].tat_ns,
					   &a->state->pace[0].tat_max_ns },
	      2, 1, a, b);
}

/* Somebody scribbles all the time, so that no gate ever sees its slice on its rate: a gate's own end
 * is the bound then. */
void claim_garbage_tat_without_end(void)
{
	struct tenant *t = start_scribbled();

	stage_warm();
	stage_forget(t);
	for (unsigned i = 0; i < 7000; i++) {
		atomic_store(&t->state->pace[0].tat_ns, UINT64_MAX);
		stage_sleep(5 * MS);
	}
	CHECK(stage_launches(t) >= 2);
	AT_MOST(stage_longest(t), TR_DEBT_MAX_NS + 100 * MS);
	stage_sleep(TR_DEBT_MAX_NS);
	NEAR(stage_share(t, 5 * S), 40, 1);
}

void claim_garbage_counters(void)
{
	struct tenant *a = start_scribbled(), *b = start_other();

	words(
		(_Atomic uint64_t *const[]){
			&a->state->pace[0].covered_ns, &a->state->pace[0].charged_ns,
			&a->state->pace[0].gate_waits, &a->state->pace[0].gpu_ns,
			&a->state->pace[0].launches, &a->state->pace[0].throttled_ns },
		6, 3, a, b);
}

static struct tr_state_usage *usage_of(const struct tenant *t)
{
	for (unsigned i = 0; i < TR_USAGE_ROWS; i++)
		if (atomic_load(&t->state->usage[i].owner))
			return &t->state->usage[i];
	FAIL("no usage row");
	exit(1);
}

/* One process' words of fairness: it and the other one of the slice go on. */
void claim_garbage_usage(void)
{
	struct tenant *a =
		stage_start(&(struct play){ "--cores 40", "kernels 2000", .processes = 2 });
	struct tr_state_usage *row = usage_of(a);
	_Atomic uint64_t *const all[] = { &row->vtime_ns, &row->seen_ns, &row->gpu_ns,
					  &row->told };

	stage_warm();
	for (unsigned w = 0; w < 4; w++)
		for (unsigned v = 0; v < VALUES; v++) {
			stage_forget(a);
			scribble(all[w], v);
			stage_sleep(TR_DEBT_MAX_NS);
			AT_MOST(stage_longest(a), TR_DEBT_MAX_NS + S + 100 * MS);
			stage_forget(a);
			NEAR(stage_share(a, 4 * S), 40, TURNS);
			/* neither waits for the other for ever */
			for (unsigned i = 0; i < 2; i++)
				if (atomic_load(&a->page->workers[i].launches) < 100)
					FAIL("word %u, value %u: process %u launched "
					     "%llu times",
					     w, v, i,
					     (unsigned long long)atomic_load(
						     &a->page->workers[i].launches));
		}
}

/* All of the line at once, the bound of the debt too: an hour at most then, however often. */
void claim_garbage_line(void)
{
	static const unsigned values[] = { 0, 3, 6 };
	struct tenant *a = start_scribbled();
	_Atomic uint64_t *line = (_Atomic uint64_t *)(void *)&a->state->pace[0];

	stage_warm();
	for (unsigned v = 0; v < sizeof(values) / sizeof(*values); v++) {
		uint64_t value = value_of(values[v]), until = stage_now() + 3605 * S;

		stage_forget(a);
		for (unsigned i = 0; i < sizeof(a->state->pace[0]) / sizeof(*line); i++)
			atomic_store(&line[i], value);
		while (stage_launches(a) < 100 && stage_now() < until)
			stage_sleep(10 * S);
		AT_MOST(stage_longest(a), 3601 * S);
		CHECK(stage_launches(a) >= 100);
		stage_sleep(5 * S);
		NEAR(stage_share(a, 10 * S), 40, 1);
	}
}

/* The GPU time that counts as charged: whatever the ring says, it is right half a second later. */
void claim_garbage_covered(void)
{
	struct tenant *a = start_scribbled(), *b = start_other();
	double got[2];

	stage_warm();
	for (unsigned v = 0; v < VALUES; v++) {
		for (unsigned i = 0; i < TR_COVER_CELLS; i++)
			atomic_store(&a->state->covered[0][i], value_of(v));
		stage_sleep(2 * S);
		stage_shares((const struct tenant *const[]){ a, b }, 2, 4 * S, got);
		if (got[0] < 39 || got[0] > 41 || got[1] < 39 || got[1] > 41)
			FAIL("value %u: %.2f and %.2f, not 40", v, got[0], got[1]);
	}
}
