/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exchange of the pacer's shared words (src/slice/rate.c, cover.c) over every interleaving of its
 * atomic steps, with a crash possible before each one and time going on at any moment.
 *
 * Actors are processes. Each asks for one launch (load tat, look, compare-and-swap), submits it,
 * measures it (a stretch of the GPU's time, each cell by load and compare-and-swap) and settles
 * the difference (load tat, compare-and-swap). Whoever has to wait asks again when time went on.
 *
 *   exact     tat is what the same operations give one after another: no update is lost
 *   room      who passes found at most a window ahead, at the moment it was charged
 *   safe      what has been submitted has been charged before
 *   once      no bit of GPU time is charged to two
 *   whole     unless somebody died, all GPU time that was measured has been charged
 *   live      whatever tat held at first, nobody waits longer than the bound while none is charged
 *
 * Mutations leave out or move one step each; each must break a property. Run without arguments it
 * checks the exchange and then every mutation.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "model.h"
#include "states.h"

#define ACTORS_MAX 4
#define CELLS      2
#define CELL_BITS  2

enum mutation {
	NONE,
	PASS_BY_STORE,   /* the charge is stored over what another charged meanwhile */
	LOOK_ONCE,       /* a failed swap charges without looking again */
	CHARGE_LATE,     /* the launch is submitted before it is charged */
	SETTLE_BY_STORE, /* the difference is stored over what came meanwhile */
	SETTLE_AGAIN,    /* a failed swap settles with the difference and once more */
	COVER_BY_STORE,  /* a cell is stored over another's bits */
	COVER_BY_LOAD,   /* what is free is what the first load saw */
	COVER_BY_MARK,   /* time is covered up to a mark that only rises */
	NO_MEND,         /* a word beyond the bound is left there */
	MUTATIONS
};

static const char *const mutation_names[] = {
	[PASS_BY_STORE] = "pass-by-store",
	[LOOK_ONCE] = "look-once",
	[CHARGE_LATE] = "charge-late",
	[SETTLE_BY_STORE] = "settle-by-store",
	[SETTLE_AGAIN] = "settle-again",
	[COVER_BY_STORE] = "cover-by-store",
	[COVER_BY_LOAD] = "cover-by-load",
	[COVER_BY_MARK] = "cover-by-mark",
	[NO_MEND] = "no-mend",
};

enum step {
	EARLY_SUBMIT,
	LOOK,
	SWAP,
	MEND,
	WAIT,
	SUBMIT,
	COVER_LOAD,
	COVER_SWAP,
	SETTLE_LOAD,
	SETTLE_SWAP,
	DONE,
	DEAD,
};

struct actor {
	uint8_t step, now, seen, cell, got, waits /* since, + 1 */;
};

/* Everything, in bytes: compared and hashed as a block. */
struct state {
	uint8_t tat, ought, now, cells[CELLS], mark;
	uint8_t charged, submitted; /* launches */
	uint8_t given[CELLS * CELL_BITS];
	uint8_t deaths;
	uint8_t broken; /* by a step; 0: nothing */
	struct actor actors[ACTORS_MAX];
};

struct setting {
	unsigned actors, deaths, end_of_time;
	uint8_t begin[ACTORS_MAX], end[ACTORS_MAX]; /* GPU time each will have used */
	uint8_t predicted, tat, bound, window;
};

static struct setting setting;
static enum mutation mutation;

enum { FINE, NOT_ROOM, NOT_ONCE };

static uint8_t smaller(unsigned a, unsigned b)
{
	return (uint8_t)(a < b ? a : b);
}

/* rate.c: add() and correct(), on one word, with a rate of 1. */
static uint8_t added(uint8_t tat, uint8_t now, unsigned cost)
{
	unsigned ahead = tat > now ? smaller(tat - now, setting.bound) : 0;

	return (uint8_t)(now + smaller(ahead + cost, setting.bound));
}

static uint8_t corrected(uint8_t tat, uint8_t now, unsigned more, unsigned less)
{
	unsigned base = smaller(tat, (unsigned)now + setting.bound) + more;

	base = base > less ? base - less : 0;
	return smaller(base, (unsigned)now + setting.bound);
}

static bool has_room(uint8_t tat, uint8_t now)
{
	return tat <= now || smaller(tat - now, setting.bound) <= setting.window;
}

/* ---- one atomic step of one actor ---------------------------------------------------- */

static void charge(struct state *s, struct actor *me)
{
	if (!has_room(s->ought, me->now))
		s->broken = NOT_ROOM;
	s->tat = added(me->seen, me->now, setting.predicted);
	s->ought = added(s->ought, me->now, setting.predicted);
	s->charged++;
	me->step = mutation == CHARGE_LATE ? COVER_LOAD : SUBMIT;
}

static void step_pass(struct state *s, struct actor *me)
{
	switch (me->step) {
	case LOOK:
		me->now = s->now;
		me->seen = s->tat;
		me->step = has_room(me->seen, me->now) ? SWAP
			   : me->seen > me->now + setting.bound && mutation != NO_MEND
				   ? MEND
				   : WAIT;
		break;
	case SWAP:
		if (s->tat == me->seen || mutation == PASS_BY_STORE) {
			charge(s, me);
		} else {
			me->seen = s->tat;
			if (mutation != LOOK_ONCE && !has_room(me->seen, me->now))
				me->step = WAIT;
		}
		break;
	case MEND:
		if (s->tat == me->seen) {
			s->tat = corrected(s->tat, me->now, 0, 0);
			s->ought = corrected(s->ought, me->now, 0, 0);
		}
		me->step = WAIT;
		break;
	default: /* WAIT until time has gone on */
		me->step = LOOK;
		break;
	}
}

static uint8_t bits_of(unsigned a, unsigned cell)
{
	uint8_t bits = 0;

	for (unsigned b = 0; b < CELL_BITS; b++) {
		unsigned at = cell * CELL_BITS + b;

		if (at >= setting.begin[a] && at < setting.end[a])
			bits = (uint8_t)(bits | 1u << b);
	}
	return bits;
}

static void give(struct state *s, struct actor *me, unsigned cell, unsigned bits)
{
	for (unsigned b = 0; b < CELL_BITS; b++) {
		if (!(bits >> b & 1))
			continue;
		if (s->given[cell * CELL_BITS + b]++)
			s->broken = NOT_ONCE;
		me->got++;
	}
}

/* The law before: one mark; what lies behind it counts as charged. */
static void cover_by_mark(struct state *s, struct actor *me, unsigned a)
{
	for (unsigned at = setting.begin[a]; at < setting.end[a]; at++)
		if (at >= s->mark)
			give(s, me, at / CELL_BITS, 1u << at % CELL_BITS);
	if (s->mark < setting.end[a])
		s->mark = setting.end[a];
	me->step = SETTLE_LOAD;
}

static void step_cover(struct state *s, struct actor *me, unsigned a)
{
	uint8_t mine = bits_of(a, me->cell), *cell = &s->cells[me->cell];

	if (mutation == COVER_BY_MARK) {
		cover_by_mark(s, me, a);
		return;
	}
	if (me->step == COVER_LOAD) {
		me->seen = *cell;
		me->step = COVER_SWAP;
		return;
	}
	if (*cell != me->seen && mutation != COVER_BY_STORE) {
		if (mutation != COVER_BY_LOAD) {
			me->seen = *cell;
			return;
		}
		give(s, me, me->cell, mine & ~(unsigned)me->seen);
		*cell |= mine;
	} else {
		give(s, me, me->cell, mine & ~(unsigned)me->seen);
		*cell = me->seen | mine;
	}
	me->cell++;
	me->step = me->cell < CELLS ? COVER_LOAD : SETTLE_LOAD;
}

static void step_settle(struct state *s, struct actor *me)
{
	unsigned more = me->got > setting.predicted ? me->got - setting.predicted : 0;
	unsigned less = me->got < setting.predicted ? setting.predicted - me->got : 0;

	if (me->step == SETTLE_LOAD) {
		me->now = s->now;
		me->seen = s->tat;
		me->step = SETTLE_SWAP;
		return;
	}
	if (s->tat != me->seen && mutation != SETTLE_BY_STORE) {
		me->seen = s->tat;
		if (mutation == SETTLE_AGAIN)
			me->seen = s->tat = corrected(s->tat, me->now, more, less);
		return;
	}
	s->tat = corrected(me->seen, me->now, more, less);
	s->ought = corrected(s->ought, me->now, more, less);
	me->step = DONE;
}

/* False when the actor cannot move now. */
static bool advance(struct state *s, unsigned a)
{
	struct actor *me = &s->actors[a];

	switch (me->step) {
	case EARLY_SUBMIT:
		s->submitted++;
		me->step = LOOK;
		return true;
	case SUBMIT:
		s->submitted++;
		me->step = COVER_LOAD;
		return true;
	case WAIT:
		if (me->now == s->now)
			return false;
		step_pass(s, me);
		return true;
	case LOOK:
	case SWAP:
	case MEND:
		step_pass(s, me);
		if (me->step == WAIT && !me->waits)
			me->waits = (uint8_t)(s->now + 1);
		return true;
	case COVER_LOAD:
	case COVER_SWAP:
		step_cover(s, me, a);
		return true;
	case SETTLE_LOAD:
	case SETTLE_SWAP:
		step_settle(s, me);
		return true;
	default:
		return false;
	}
}

/* ---- the properties ------------------------------------------------------------------ */

static const char *check_words(const struct state *s)
{
	if (s->broken)
		return s->broken == NOT_ROOM ? "room" : "once";
	if (s->submitted > s->charged)
		return "safe";
	return s->tat != s->ought ? "exact" : NULL;
}

/* Only asked where nobody can move any more and time has ended. */
static const char *check_end(const struct state *s)
{
	bool is_used[CELLS * CELL_BITS] = { false };

	for (unsigned a = 0; a < setting.actors; a++)
		if (s->actors[a].step == WAIT && !s->charged &&
		    s->actors[a].waits - 1u + setting.bound <= s->now)
			return "live";
	for (unsigned a = 0; a < setting.actors && !s->deaths; a++)
		for (unsigned at = setting.begin[a]; at < setting.end[a]; at++)
			is_used[at] |= s->actors[a].step == DONE;
	for (unsigned at = 0; at < CELLS * CELL_BITS; at++)
		if (is_used[at] && !s->given[at])
			return "whole";
	return NULL;
}

static const char *follow(const struct state *now)
{
	bool moved = false;
	struct state next;

	for (unsigned a = 0; a < setting.actors; a++) {
		next = *now;
		if (advance(&next, a)) {
			states_visit(&next);
			moved = true;
		}
		if (now->deaths < setting.deaths && now->actors[a].step < DONE) {
			next = *now;
			next.actors[a] = (struct actor){ .step = DEAD };
			next.deaths++;
			states_visit(&next);
		}
	}
	if (now->now < setting.end_of_time) {
		next = *now;
		next.now++;
		states_visit(&next);
		moved = true;
	}
	return moved ? NULL : check_end(now);
}

/* ---- settings ------------------------------------------------------------------------ */

static const struct setting settings[] = {
	/* room for one, then for the next: reports overlap, in any order */
	{ 2, 0, 5, { 0, 1 }, { 3, 4 }, 2, 0, 8, 1 },
	{ 2, 2, 3, { 0, 2 }, { 2, 4 }, 3, 2, 8, 1 },
	{ 3, 0, 2, { 0, 1, 2 }, { 2, 3, 4 }, 1, 0, 8, 2 },
	{ 3, 2, 2, { 0, 1, 0 }, { 2, 3, 4 }, 2, 1, 8, 3 },
	/* garbage: far beyond the bound of 4 */
	{ 2, 1, 9, { 0, 1 }, { 1, 2 }, 1, 200, 4, 1 },
};

/* The property that breaks, or NULL after all states were visited. */
static const char *explore(size_t at, unsigned broken_how)
{
	struct state start = { .tat = settings[at].tat, .ought = settings[at].tat }, now;
	const char *broken = NULL;

	setting = settings[at];
	mutation = (enum mutation)broken_how;
	for (unsigned a = 0; a < setting.actors; a++)
		start.actors[a].step = mutation == CHARGE_LATE ? EARLY_SUBMIT : LOOK;
	states_begin(sizeof(start));
	states_visit(&start);
	while (!broken && states_next(&now)) {
		broken = check_words(&now);
		if (!broken)
			broken = follow(&now);
	}
	return broken;
}

static void describe(void)
{
	(void)printf("%u actors, %u deaths, %u ticks", setting.actors, setting.deaths,
		     setting.end_of_time);
}

int main(void)
{
	return model_check(&(struct model){
		.settings = sizeof(settings) / sizeof(*settings),
		.mutations = MUTATIONS,
		.mutation_names = mutation_names,
		.explore = explore,
		.describe = describe,
	});
}
