/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger's protocol (src/slice/ledger.c, seat.c), checked over every interleaving of
 * its atomic steps, with a crash possible before each one.
 *
 * Actors are processes. One takes a slot (the kernel's lock, then zero, mark, label),
 * allocates N units (add, scan to the mark, decide; on refusal the slow path with its lock,
 * reaping and more tries), frees them, and may die anywhere; whoever dies is born again
 * once as a new process. The driver frees a dead process' memory at once; the kernel its
 * locks.
 *
 *   safe      what the driver holds never passes the limit
 *   covered   the own word is never below what the own process holds
 *   exact     between calls the own word is what the process holds
 *   kept      nobody but the owner changes a live owner's word
 *   progress  when all asked and nobody died, not all who would fit alone were refused; and
 * who is left alone with the words of the dead is not refused because of them
 *
 * Mutations leave out or move one step each; each must break a property. Run without
 * arguments it checks the protocol and then every mutation.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "states.h"

#define ACTORS_MAX 4
#define SLOTS_MAX  4
#define NOBODY     0xff
#define SLOW_TRIES 2

enum mutation {
	NONE,
	CHECK_THEN_ADD,    /* the sum is taken before the add */
	NO_MARK,           /* a new slot does not raise the mark */
	MARK_AFTER_READY,  /* ... raises it only after its first reservation */
	MARK_READ_EARLY,   /* the mark is read before the add */
	NO_ZERO,           /* a slot is taken over with what its last owner left */
	REAP_WITHOUT_LOCK, /* a slot that looks dead is zeroed without its lock */
	FREE_AFTER_REFUND, /* the word is lowered before the driver has freed */
	NO_WITHDRAW,       /* a refused reservation stays */
	CALL_BEFORE_ADD,   /* the driver is called before the reservation is counted */
	NO_SLOW_LOCK,      /* the deciding attempt does not queue */
	NO_SLOW_PATH,      /* a refusal on the fast path is final */
	NO_REAP,           /* dead slots are never zeroed */
	MUTATIONS
};

static const char *const mutation_names[] = {
	[CHECK_THEN_ADD] = "check-then-add",
	[NO_MARK] = "no-mark",
	[MARK_AFTER_READY] = "mark-after-ready",
	[MARK_READ_EARLY] = "mark-read-early",
	[NO_ZERO] = "no-zero",
	[REAP_WITHOUT_LOCK] = "reap-without-lock",
	[FREE_AFTER_REFUND] = "free-after-refund",
	[NO_WITHDRAW] = "no-withdraw",
	[CALL_BEFORE_ADD] = "call-before-add",
	[NO_SLOW_LOCK] = "no-slow-lock",
	[NO_SLOW_PATH] = "no-slow-path",
	[NO_REAP] = "no-reap",
};

enum step {
	TAKE_LOCK,
	ZERO,
	MARK,
	LABEL, /* a seat */
	EARLY_MARK,
	EARLY_CALL,
	ADD,
	READ_MARK,
	SCAN,
	DECIDE,
	WITHDRAW,
	CALL, /* allocate */
	SLOW_LOCK,
	REAP_LOOK,
	REAP_LOCK,
	REAP_ZERO,
	REAP_UNLOCK,
	SLOW_UNLOCK, /* decide slowly */
	FREE_CALL,
	FREE_REFUND,
	LATE_MARK,
	DONE_HELD,
	DONE_FREED,
	DONE_REFUSED,
	GONE,
};

struct actor {
	uint8_t step, slot, at /* slot looked at */, mark, sum, held, is_slow, tries,
		deaths;
	uint8_t is_alone; /* every other process was dead when this one took the slow lock
			   */
};

/* Everything, in bytes: compared and hashed as a block. */
struct state {
	uint8_t used[SLOTS_MAX], label[SLOTS_MAX], owner[SLOTS_MAX];
	uint8_t mark, slow_owner;
	struct actor actors[ACTORS_MAX];
};

struct setting {
	unsigned actors, slots, deaths;
	uint8_t units[ACTORS_MAX], limit;
	bool frees;   /* actors free what they got */
	bool is_last; /* the dead are not born again */
};

static struct setting setting;
static enum mutation mutation;

/* ---- one atomic step of one actor ---------------------------------------------------- */

static uint8_t units_of(unsigned a)
{
	return setting.units[a];
}

/* Where an allocation begins. */
static uint8_t first_step(void)
{
	if (mutation == CALL_BEFORE_ADD)
		return EARLY_CALL;
	return mutation == CHECK_THEN_ADD || mutation == MARK_READ_EARLY ? EARLY_MARK : ADD;
}

static void step_seat(struct state *s, struct actor *me, unsigned a)
{
	switch (me->step) {
	case TAKE_LOCK:
		if (s->owner[me->at] == NOBODY) {
			s->owner[me->at] = (uint8_t)a;
			me->slot = me->at;
			me->step = ZERO;
		} else if (++me->at == setting.slots) {
			me->step = GONE; /* all taken: this process is refused */
		}
		break;
	case ZERO:
		if (mutation != NO_ZERO)
			s->used[me->slot] = 0;
		s->label[me->slot] = 0;
		me->step = MARK;
		break;
	case MARK:
		if (mutation != NO_MARK && mutation != MARK_AFTER_READY &&
		    s->mark <= me->slot)
			s->mark = (uint8_t)(me->slot + 1);
		me->step = LABEL;
		break;
	default: /* LABEL */
		s->label[me->slot] = 1;
		me->step = first_step();
		break;
	}
	me->at = me->step == TAKE_LOCK ? me->at : 0;
}

static void begin_scan(struct state *s, struct actor *me)
{
	me->mark = s->mark;
	me->at = 0;
	me->sum = 0;
	me->step = SCAN;
}

/* After a refusal was withdrawn. */
static void after_refusal(struct actor *me)
{
	if (mutation == NO_SLOW_PATH)
		me->step = DONE_REFUSED;
	else if (!me->is_slow)
		me->step = SLOW_LOCK;
	else if (++me->tries < SLOW_TRIES)
		me->step = first_step();
	else
		me->step = SLOW_UNLOCK;
}

static void step_decide(struct state *s, struct actor *me, unsigned a)
{
	unsigned sum = me->sum;

	if (mutation == CHECK_THEN_ADD)
		sum += units_of(a); /* looked without the own request */
	if (sum > setting.limit) {
		me->step = mutation == CHECK_THEN_ADD ? DECIDE : WITHDRAW;
		if (mutation == CHECK_THEN_ADD)
			after_refusal(me);
		return;
	}
	if (mutation == CHECK_THEN_ADD) {
		me->step = ADD;
		me->sum = 0;
	} else {
		me->step = CALL;
	}
	(void)s;
}

static void step_allocate(struct state *s, struct actor *me, unsigned a)
{
	uint8_t n = units_of(a);

	switch (me->step) {
	case EARLY_CALL:
		me->held = (uint8_t)(me->held + n);
		me->step = ADD;
		break;
	case EARLY_MARK:
		begin_scan(s, me);
		if (mutation == MARK_READ_EARLY)
			me->step = ADD;
		break;
	case ADD:
		s->used[me->slot] = (uint8_t)(s->used[me->slot] + n);
		me->step = mutation == CHECK_THEN_ADD    ? CALL
			   : mutation == MARK_READ_EARLY ? SCAN
							 : READ_MARK;
		break;
	case READ_MARK:
		begin_scan(s, me);
		break;
	case SCAN: /* one word at a time */
		if (me->at < me->mark) {
			me->sum = (uint8_t)(me->sum + s->used[me->at]);
			me->at++;
		}
		if (me->at >= me->mark)
			me->step = DECIDE;
		break;
	case DECIDE:
		step_decide(s, me, a);
		break;
	case WITHDRAW:
		if (mutation != NO_WITHDRAW)
			s->used[me->slot] = (uint8_t)(s->used[me->slot] - n);
		if (mutation == CALL_BEFORE_ADD)
			me->held = (uint8_t)(me->held - n);
		after_refusal(me);
		break;
	default: /* CALL: the driver gives the memory */
		if (mutation != CALL_BEFORE_ADD)
			me->held = (uint8_t)(me->held + n);
		me->step = me->is_slow ? SLOW_UNLOCK : DONE_HELD;
		break;
	}
}

static bool others_are_gone(const struct state *s, unsigned a)
{
	for (unsigned i = 0; i < setting.actors; i++)
		if (i != a && s->actors[i].step != GONE)
			return false;
	return true;
}

static void step_slow(struct state *s, struct actor *me, unsigned a)
{
	switch (me->step) {
	case SLOW_LOCK: /* waits; the real one gives up after 50 ms and refuses */
		if (mutation != NO_SLOW_LOCK)
			s->slow_owner = (uint8_t)a;
		me->is_slow = 1;
		me->is_alone = setting.is_last && others_are_gone(s, a);
		me->tries = 0;
		me->at = 0;
		me->step = mutation == NO_REAP ? first_step() : REAP_LOOK;
		break;
	case REAP_LOOK:
		if (me->at >= s->mark)
			me->step = first_step();
		else if (!s->label[me->at])
			me->at++;
		else
			me->step = REAP_LOCK;
		break;
	case REAP_LOCK:
		if (mutation == REAP_WITHOUT_LOCK && s->owner[me->at] == NOBODY) {
			me->step = REAP_ZERO; /* it looked dead; its next owner may move in
						 now */
		} else if (mutation != REAP_WITHOUT_LOCK && s->owner[me->at] == NOBODY) {
			s->owner[me->at] = (uint8_t)(a | 0x80); /* held by a reaper */
			me->step = REAP_ZERO;
		} else {
			me->at++;
			me->step = REAP_LOOK;
		}
		break;
	case REAP_ZERO:
		s->used[me->at] = 0;
		s->label[me->at] = 0;
		me->step = REAP_UNLOCK;
		break;
	case REAP_UNLOCK:
		if (s->owner[me->at] == (uint8_t)(a | 0x80))
			s->owner[me->at] = NOBODY;
		me->at++;
		me->step = REAP_LOOK;
		break;
	default: /* SLOW_UNLOCK */
		if (s->slow_owner == (uint8_t)a)
			s->slow_owner = NOBODY;
		me->is_slow = 0;
		me->step = me->held ? DONE_HELD : DONE_REFUSED;
		break;
	}
}

static void step_free(struct state *s, struct actor *me, unsigned a)
{
	uint8_t n = units_of(a);

	if (me->step == LATE_MARK) {
		if (s->mark <= me->slot)
			s->mark = (uint8_t)(me->slot + 1);
		me->step = FREE_CALL;
		return;
	}
	if ((me->step == FREE_CALL) == (mutation != FREE_AFTER_REFUND))
		me->held = (uint8_t)(me->held - n);
	else
		s->used[me->slot] = (uint8_t)(s->used[me->slot] - n);
	me->step = me->step == FREE_CALL ? FREE_REFUND : DONE_FREED;
}

/* False when the actor cannot move now. */
static bool advance(struct state *s, unsigned a)
{
	struct actor *me = &s->actors[a];

	switch (me->step) {
	case TAKE_LOCK:
	case ZERO:
	case MARK:
	case LABEL:
		step_seat(s, me, a);
		return true;
	case EARLY_MARK:
	case EARLY_CALL:
	case ADD:
	case READ_MARK:
	case SCAN:
	case DECIDE:
	case WITHDRAW:
	case CALL:
		step_allocate(s, me, a);
		return true;
	case SLOW_LOCK:
		if (s->slow_owner != NOBODY)
			return false;
		step_slow(s, me, a);
		return true;
	case REAP_LOOK:
	case REAP_LOCK:
	case REAP_ZERO:
	case REAP_UNLOCK:
	case SLOW_UNLOCK:
		step_slow(s, me, a);
		return true;
	case DONE_HELD:
		if (!setting.frees)
			return false;
		me->step = mutation == MARK_AFTER_READY ? LATE_MARK : FREE_CALL;
		return true;
	case LATE_MARK:
	case FREE_CALL:
	case FREE_REFUND:
		step_free(s, me, a);
		return true;
	case DONE_FREED:
	case DONE_REFUSED:
	case GONE:
		break;
	}
	return false;
}

/* SIGKILL: the kernel drops its locks, the driver its memory; its words stay. Born again as
 * new. */
static void kill_actor(struct state *s, unsigned a)
{
	uint8_t deaths = (uint8_t)(s->actors[a].deaths + 1);

	for (unsigned i = 0; i < setting.slots; i++)
		if (s->owner[i] == (uint8_t)a || s->owner[i] == (uint8_t)(a | 0x80))
			s->owner[i] = NOBODY;
	if (s->slow_owner == (uint8_t)a)
		s->slow_owner = NOBODY;
	s->actors[a] = (struct actor){ .deaths = deaths,
				       .step = setting.is_last ? GONE : TAKE_LOCK };
}

/* ---- the properties ------------------------------------------------------------------ */

static bool is_seated(const struct actor *me)
{
	return me->step > LABEL && me->step != GONE;
}

static const char *check_words(const struct state *s)
{
	unsigned held = 0;

	for (unsigned a = 0; a < setting.actors; a++) {
		const struct actor *me = &s->actors[a];

		held += me->held;
		if (!is_seated(me))
			continue;
		if (s->used[me->slot] < me->held)
			return "covered";
		if ((me->step == DONE_HELD || me->step == DONE_FREED ||
		     me->step == DONE_REFUSED) &&
		    s->used[me->slot] != me->held)
			return "exact";
		if (s->owner[me->slot] != (uint8_t)a || !s->label[me->slot])
			return "kept";
		if (me->step == DONE_REFUSED && me->is_alone &&
		    units_of(a) <= setting.limit)
			return "progress";
	}
	return held > setting.limit ? "safe" : NULL;
}

/* Only asked where nobody can move any more. */
static const char *check_progress(const struct state *s)
{
	unsigned held = 0, largest_refused = 0;

	for (unsigned a = 0; a < setting.actors; a++) {
		held += s->actors[a].held;
		if (s->actors[a].step == DONE_REFUSED && units_of(a) > largest_refused)
			largest_refused = units_of(a);
	}
	/* Somebody was refused though nobody holds anything: it would have fitted. */
	return !setting.frees && held == 0 && largest_refused ? "progress" : NULL;
}

/* ---- settings ------------------------------------------------------------------------ */

static const struct setting settings[] = {
	/* two race for the last units; progress */
	{ .actors = 2,
	  .slots = 2,
	  .deaths = 0,
	  .units = { 2, 2 },
	  .limit = 2,
	  .frees = false },
	{ .actors = 3,
	  .slots = 3,
	  .deaths = 0,
	  .units = { 1, 2, 2 },
	  .limit = 3,
	  .frees = false },
	/* every crash; with freeing, slots taken over */
	{ .actors = 2,
	  .slots = 2,
	  .deaths = 2,
	  .units = { 1, 2 },
	  .limit = 2,
	  .frees = true },
	{ .actors = 2,
	  .slots = 3,
	  .deaths = 2,
	  .units = { 2, 2 },
	  .limit = 2,
	  .frees = false },
	{ .actors = 3,
	  .slots = 3,
	  .deaths = 1,
	  .units = { 1, 2, 2 },
	  .limit = 2,
	  .is_last = true },
	{ .actors = 3,
	  .slots = 3,
	  .deaths = 1,
	  .units = { 1, 1, 2 },
	  .limit = 2,
	  .frees = true },
};

/* The property that breaks, or NULL after all states were visited. */
static const char *explore(size_t at, unsigned broken_how)
{
	struct state start = { .slow_owner = NOBODY }, now;
	const char *broken = NULL;

	setting = settings[at];
	mutation = (enum mutation)broken_how;
	memset(start.owner, NOBODY, sizeof(start.owner));
	states_begin(sizeof(start));
	states_visit(&start);
	while (!broken && states_next(&now)) {
		bool moved = false;

		broken = check_words(&now);
		for (unsigned a = 0; a < setting.actors && !broken; a++) {
			struct state next = now;

			if (advance(&next, a)) {
				states_visit(&next);
				moved = true;
			}
			if (now.actors[a].deaths < setting.deaths) {
				next = now;
				kill_actor(&next, a);
				states_visit(&next);
				moved = true;
			}
		}
		if (!broken && !moved)
			broken = check_progress(&now);
	}
	return broken;
}

static void describe(void)
{
	(void)printf("%u actors, %u slots, %u deaths each", setting.actors, setting.slots,
		     setting.deaths);
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
