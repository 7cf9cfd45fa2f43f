/* SPDX-License-Identifier: Apache-2.0 */
#include "pace.h"

#include <stdlib.h>
#include <string.h>

#include "attach.h"
#include "marks.h"
#include "rt/file.h"
#include "rt/sat.h"
#include "slice/parts.h"
#include "slice/rate.h"

/* What a thread may submit without looking again. */
#define GIVEN_NS         UINT64_C(100000)
#define GIVEN_COUNT      32u
#define GIVEN_FREE_NS    UINT64_C(1000000)
#define GIVEN_FREE_COUNT 256u

#define LONG_NS      UINT64_C(1000000) /* such submissions have a run of their own */
#define SINGLE_EVERY 32u
#define SLEEP_NS     UINT64_C(20000000)
#define SLEEP_MIN_NS UINT64_C(50000)
#define YIELD_NS     UINT64_C(1000000)
#define UNKNOWN_NS   UINT64_C(1000000000) /* the longest wait for one that is unmeasured */
#define AGAIN_NS     UINT64_C(10000000)   /* who waited goes on when this much is free */

_Thread_local struct tr_pace_here tr_pace_here;
_Atomic uint32_t tr_pace_epoch = 1;
_Atomic bool tr_pace_is_armed;

/* Of a device, in this process. */
static struct device {
	_Atomic(struct tr_state_usage *) usage;
	/* When the unmeasured submission went that is in flight; 0: none is. */
	_Atomic uint64_t unmeasured_ns;
} devices[TR_DEVICES_MAX];
static struct tr_parts parts;

/* One look: what is known when the slow way begins. */
struct look {
	tr_dev dev;
	CUcontext ctx;
	struct device *device;
	struct tr_state_pace *pace;
	struct tr_state_usage *usage; /* NULL: not counted by process */
	struct tr_marks *marks;
	struct tr_rate rate;
	uint64_t now_ns;
};

void tr_pace_forget(void)
{
	memset(devices, 0, sizeof(devices));
	tr_parts_forget(&parts);
	tr_marks_forget();
	tr_keys_forget();
	tr_captures_forget();
	atomic_fetch_add(&tr_pace_epoch, TR_PACE_LIFE);
}

/* ---- looking ------------------------------------------------------------------------- */

static struct tr_state_usage *usage_of(struct device *device, tr_dev dev)
{
	struct tr_state_usage *row = atomic_load_explicit(&device->usage,
							  memory_order_relaxed);

	if (!row) {
		row = tr_usage_row(tr_self.ledger.state, tr_self.ledger.slot.at, dev.at);
		atomic_store_explicit(&device->usage, row, memory_order_relaxed);
	}
	return row;
}

static void read_rate(struct tr_rate *rate, tr_dev dev)
{
	tr_rate_read(rate, tr_self.has_page ? &tr_self.page.map->devices[dev.at] : NULL,
		     tr_attach_env_cores(dev));
}

static void look_at(struct look *l, tr_dev dev, CUcontext ctx)
{
	l->dev = dev;
	l->ctx = ctx;
	l->device = &devices[dev.at];
	l->pace = &tr_self.ledger.state->pace[dev.at];
	l->usage = usage_of(l->device, dev);
	l->marks = ctx ? tr_marks_of(ctx, dev) : NULL;
	l->now_ns = tr_clock_ns();
	read_rate(&l->rate, dev);
}

/* False: no context, or not a device of this slice. The driver says so itself. */
static bool look(struct look *l)
{
	CUcontext ctx = NULL;
	tr_dev dev;

	if (tr_device_current(&dev, &ctx) != CUDA_SUCCESS)
		return false;
	look_at(l, dev, ctx);
	return true;
}

/* ---- counting ------------------------------------------------------------------------ */

static void count(_Atomic uint64_t *word, uint64_t by)
{
	if (by)
		atomic_fetch_add_explicit(word, by, memory_order_relaxed);
}

static void count_launches(const struct look *l, uint32_t n)
{
	count(&l->pace->launches, n);
	if (!l->usage)
		return;
	tr_parts_begin(&parts, tr_self.ledger.state, l->usage, l->now_ns);
	count(&l->usage->launches, n);
	atomic_store_explicit(&l->usage->seen_ns, l->now_ns, memory_order_relaxed);
}

static void charge(const struct look *l, uint64_t predicted_ns)
{
	tr_rate_charge(&l->rate, l->pace, l->now_ns, predicted_ns);
}

static void advance(const struct look *l, uint64_t predicted_ns)
{
	if (l->usage && predicted_ns)
		tr_usage_advance(l->usage, predicted_ns);
}

/* What this thread has submitted the fast way since it last looked. */
static void flush(const struct look *now)
{
	struct tr_pace_here *here = &tr_pace_here;
	uint32_t n = here->given - here->left;
	uint64_t predicted_ns = here->given_ns - here->left_ns;
	uint32_t changed = here->epoch ^ atomic_load(&tr_pace_epoch);
	struct look then;

	here->given = here->left = 0;
	here->given_ns = here->left_ns = 0;
	if (!n || changed >= TR_PACE_LIFE)
		return;
	if (!now || now->ctx != here->ctx) {
		look_at(&then, here->dev, here->ctx);
		now = &then;
	}
	charge(now, predicted_ns);
	advance(now, predicted_ns);
	count_launches(now, n);
	if (!now->marks || changed ||
	    !tr_marks_add(now->marks, (CUstream)(uintptr_t)here->stream, predicted_ns, n,
			  now->now_ns))
		tr_pace_stands(here->dev, predicted_ns);
}

/* A span holds others' turns too: of what takes long, and of what is not known. */
static void tell(struct tr_state_pace *pace, struct tr_state_usage *usage,
		 const struct tr_busy *busy, uint64_t predicted_ns, uint64_t real_ns)
{
	uint64_t known_ns = busy->busy_ns, wanted_ns = 0;

	if (busy->is_span && (!predicted_ns || predicted_ns >= LONG_NS)) {
		wanted_ns = tr_sat_sub(busy->end_ns, busy->begin_ns);
		known_ns = 0;
	} else if (busy->is_span && predicted_ns < known_ns) {
		known_ns = predicted_ns;
	}
	tr_parts_add(&parts, pace, usage, known_ns, wanted_ns, real_ns);
}

uint64_t tr_pace_measured(tr_dev dev, const struct tr_busy *busy, uint64_t predicted_ns,
			  uint64_t now_ns)
{
	struct tr_state_usage *usage = usage_of(&devices[dev.at], dev);
	struct tr_state_pace *pace = &tr_self.ledger.state->pace[dev.at];
	uint64_t ours_ns, real_ns;
	struct tr_rate rate;

	read_rate(&rate, dev);
	ours_ns = tr_rate_cover(tr_self.ledger.state, dev.at, busy, now_ns);
	tr_rate_settle(&rate, pace, now_ns, predicted_ns, ours_ns);
	real_ns = tr_rate_gamma(&rate, ours_ns);
	count(&pace->charged_ns, ours_ns);
	count(&pace->spanned_ns, busy->end_ns - busy->begin_ns);
	count(&pace->gpu_ns, real_ns);
	if (usage) {
		tell(pace, usage, busy, predicted_ns, real_ns);
		tr_parts_share(&parts, tr_self.ledger.state, usage, now_ns);
		tr_usage_settle(usage, predicted_ns, busy->busy_ns);
	}
	return ours_ns;
}

void tr_pace_stands(tr_dev dev, uint64_t predicted_ns)
{
	struct tr_state_usage *usage = usage_of(&devices[dev.at], dev);
	struct tr_state_pace *pace = &tr_self.ledger.state->pace[dev.at];
	uint64_t real_ns;
	struct tr_rate rate;

	if (!predicted_ns)
		return;
	read_rate(&rate, dev);
	count(&pace->charged_ns, predicted_ns);
	real_ns = tr_rate_gamma(&rate, predicted_ns);
	count(&pace->gpu_ns, real_ns);
	if (usage)
		tr_parts_add(&parts, pace, usage, predicted_ns, 0, real_ns);
}

static _Atomic uint64_t *own_unmeasured(void)
{
	return &tr_self.ledger.state->slots[tr_self.ledger.slot.at].unmeasured;
}

void tr_pace_seen(tr_dev dev)
{
	atomic_store(own_unmeasured(), 0);
	atomic_store(&devices[dev.at].unmeasured_ns, 0);
}

bool tr_pace_is_awaited(void)
{
	for (unsigned i = 0; i < TR_DEVICES_MAX; i++)
		if (atomic_load_explicit(&devices[i].unmeasured_ns, memory_order_relaxed))
			return true;
	return false;
}

struct tr_turns tr_pace_turns(tr_dev dev)
{
	struct tr_rate rate;

	read_rate(&rate, dev);
	return (struct tr_turns){ .sharers = rate.sharers, .is_varied = rate.is_varied };
}

uint64_t tr_pace_patience_ns(tr_dev dev)
{
	struct tr_rate rate;

	read_rate(&rate, dev);
	return tr_rate_debt_max_ns(&rate, &tr_self.ledger.state->pace[dev.at]);
}

/* ---- waiting ------------------------------------------------------------------------- */

struct gate {
	uint64_t until_ns;
	bool has_waited;
};

static struct gate gate_at(const struct look *l)
{
	return (struct gate){
		.until_ns = tr_sat_add(l->now_ns, tr_rate_debt_max_ns(&l->rate, l->pace)),
	};
}

/* While it waits, and not at the end: who looks meanwhile sees a slice that is held back. */
static void count_wait(const struct look *l, uint64_t ns)
{
	count(&l->pace->throttled_ns, ns);
	if (l->usage)
		count(&l->usage->throttled_ns, ns);
}

/* One slice of a wait. What the GPU has done meanwhile is taken in, and the limit may be
 * another. */
static void wait_a_little(struct look *l, struct gate *g, uint64_t ns)
{
	uint64_t since_ns = l->now_ns;

	if (!g->has_waited) {
		g->has_waited = true;
		count(&l->pace->gate_waits, 1);
		if (l->marks)
			tr_marks_close(l->marks, NULL, l->now_ns);
	}
	if (ns > SLEEP_NS)
		ns = SLEEP_NS;
	tr_sleep_ns(ns < SLEEP_MIN_NS ? SLEEP_MIN_NS : ns);
	l->now_ns = tr_clock_ns();
	count_wait(l, tr_sat_sub(l->now_ns, since_ns));
	if (l->marks)
		tr_marks_poll(l->marks, l->now_ns, true);
	read_rate(&l->rate, l->dev);
}

/* A gate that has closed opens again when there is room for more than one launch, so that the
 * GPU works in runs and idles in between: then a run is what its two events say. */
static struct tr_rate rate_after_wait(const struct tr_rate *rate)
{
	struct tr_rate asked = *rate;
	uint64_t least_ns = asked.window_ns / 4;

	asked.window_ns -= least_ns < AGAIN_NS ? least_ns : AGAIN_NS;
	asked.ahead_ns -= asked.ahead_ns / 4;
	return asked;
}

/* How long to yield: until half of the window is free, since who yields beyond that leaves the GPU
 * idle. 0: not at all. */
static uint64_t yield_ns(const struct look *l)
{
	uint64_t ns = 0;

	if (l->usage && tr_usage_must_yield(tr_self.ledger.state, l->usage, l->now_ns))
		ns = tr_rate_pressed_ns(&l->rate, l->pace, l->now_ns);
	return ns && ns < YIELD_NS ? YIELD_NS : ns;
}

/* Waits until PREDICTED may be charged, and charges it. Ends at the debt bound whatever
 * happens. MORE_NS: how much further than the window the slice may be ahead this time. */
static void pass(struct look *l, uint64_t predicted_ns, uint64_t more_ns)
{
	struct gate g = gate_at(l);
	struct tr_rate asked;
	uint64_t ns;

	if (tr_rate_is_free(&l->rate, l->now_ns)) {
		charge(l, predicted_ns);
		return;
	}
	for (;;) {
		asked = g.has_waited ? rate_after_wait(&l->rate) : l->rate;
		asked.window_ns = tr_sat_add(asked.window_ns, more_ns);
		ns = more_ns ? 0 : yield_ns(l);
		if (!ns)
			ns = tr_rate_pass(&asked, l->pace, l->now_ns, predicted_ns);
		if (!ns)
			break;
		if (l->now_ns >= g.until_ns) {
			charge(l, predicted_ns);
			break;
		}
		wait_a_little(l, &g, ns);
	}
}

/* What processes had under way when they were killed. */
static void take_over_lost(const struct look *l)
{
	uint64_t lost_ns = atomic_exchange(&l->pace->lost_ns, 0);

	if (!lost_ns)
		return;
	charge(l, lost_ns);
	tr_pace_stands(l->dev, lost_ns);
}

/* While the driver is there: its own handlers are older. */
static void at_exit(void)
{
	if (!tr_pace_is_awaited() || !tr_enter())
		return;
	tr_marks_end();
	tr_leave();
}

/* Nobody knows yet how long it takes: of such submissions one at a time, so that what is
 * queued unseen is never more than one. True: this is the one. */
static bool take_unmeasured(struct look *l)
{
	static atomic_flag has_exit = ATOMIC_FLAG_INIT;
	_Atomic uint64_t *in_flight = &l->device->unmeasured_ns;
	uint64_t since = 0;

	if (!atomic_flag_test_and_set(&has_exit))
		(void)atexit(at_exit);
	/* Or nobody will ever tell about that one. */
	return atomic_compare_exchange_strong(in_flight, &since, l->now_ns) ||
	       (tr_sat_sub(l->now_ns, since) > TR_DEBT_MAX_NS &&
		atomic_compare_exchange_strong(in_flight, &since, l->now_ns));
}

static bool wait_unmeasured(struct look *l)
{
	struct gate g = gate_at(l);
	uint64_t ns = SLEEP_MIN_NS;
	bool is_taken = false;

	if (g.until_ns > l->now_ns + UNKNOWN_NS)
		g.until_ns = l->now_ns + UNKNOWN_NS;
	while (!is_taken && l->now_ns < g.until_ns) {
		wait_a_little(l, &g, ns);
		if (ns < 2 * YIELD_NS)
			ns += ns / 4;
		is_taken = take_unmeasured(l);
	}
	return is_taken;
}

/* ---- a submission -------------------------------------------------------------------- */

static struct tr_key known(const struct tr_submission *s)
{
	struct tr_key key = tr_key_find(s->key);

	if (!key.is_known) {
		key.is_collective = tr_is_collective(s->function);
		tr_key_meet(s->key, key.is_collective);
	}
	return key;
}

/* One in SINGLE_EVERY, at no period that a program could have. */
static bool is_singles_turn(void)
{
	static atomic_uint turn;
	uint32_t n = atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed);

	n *= UINT32_C(0x9e3779b9);
	n = (n ^ n >> 15) * UINT32_C(0x846ca68b);
	return n < UINT32_MAX / SINGLE_EVERY;
}

static enum tr_mark_want want_of(const struct tr_submission *s)
{

	if (!s->known.samples || s->known.cost_ns >= LONG_NS)
		return TR_MARK_ALONE;
	if (s->known.samples < TR_KEY_SETTLED || is_singles_turn())
		return TR_MARK_SINGLE;
	return TR_MARK_RUN;
}

static void let_pass(struct tr_submission *s, struct look *l)
{
	struct tr_pace_here *here = &tr_pace_here;
	bool is_graced = here->recorded == s->stream;
	bool is_free = tr_rate_is_free(&l->rate, l->now_ns);

	here->recorded = NULL;
	if (!s->known.samples) {
		take_over_lost(l);
		s->is_unmeasured = take_unmeasured(l);
	}
	if (s->known.is_collective) {
		charge(l, s->known.cost_ns);
		return;
	}
	if (!s->known.samples && !s->is_unmeasured && !is_free)
		s->is_unmeasured = wait_unmeasured(l);
	pass(l, s->known.cost_ns, is_graced ? l->rate.window_ns : 0);
}

void tr_pace_begin(struct tr_submission *s)
{
	struct tr_pace_here *here = &tr_pace_here;
	struct look l;

	s->is_counted = s->is_unmeasured = false;
	if (tr_is_captured(s->stream) || !look(&l)) {
		tr_pace_stop();
		return;
	}
	flush(&l);
	s->is_counted = true;
	s->known = known(s);
	if (l.marks)
		tr_marks_poll(l.marks, l.now_ns, false);
	let_pass(s, &l);
	if (s->is_unmeasured)
		atomic_store(own_unmeasured(), (l.now_ns & ~UINT64_C(15)) | l.dev.at);
	s->is_single = l.marks && tr_marks_before(l.marks, s->stream, want_of(s), l.now_ns);
	s->at_ns = s->is_single ? tr_clock_ns() : l.now_ns;
	here->stream = s->stream;
	here->launched = s->stream;
	here->ctx = l.ctx;
	here->dev = l.dev;
	here->epoch = atomic_load_explicit(&tr_pace_epoch, memory_order_relaxed);
	if (tr_rate_is_free(&l.rate, l.now_ns)) {
		here->given = GIVEN_FREE_COUNT;
		here->given_ns = GIVEN_FREE_NS;
	} else {
		here->given = GIVEN_COUNT;
		here->given_ns = GIVEN_NS;
	}
	count_launches(&l, 1);
	advance(&l, s->known.cost_ns);
}

void tr_pace_end(struct tr_submission *s, CUresult res)
{
	struct tr_pace_here *here = &tr_pace_here;
	struct tr_marks *marks;
	bool is_told = false;

	if (!s->is_counted)
		return;
	marks = tr_marks_of(here->ctx, here->dev);
	if (res == CUDA_SUCCESS && marks)
		is_told = tr_marks_after(marks, s->stream, s->key, s->known.cost_ns,
					 s->is_single, s->at_ns);
	else if (res == CUDA_SUCCESS)
		tr_pace_stands(here->dev, s->known.cost_ns);
	if (s->is_unmeasured && !is_told)
		tr_pace_seen(here->dev);
	/* Only now: what the driver called meanwhile came here the slow way. */
	if (!tr_captures_any()) {
		here->left = here->given;
		here->left_ns = here->given_ns;
	} else {
		here->given = 0;
		here->given_ns = 0;
	}
}

void tr_pace_also_begin(void)
{
	struct look l;

	if (look(&l))
		pass(&l, 0, 0);
}

void tr_pace_also(const struct tr_submission *s)
{
	struct look l;

	if (!s->is_counted || !look(&l) || l.dev.at == tr_pace_here.dev.at)
		return;
	charge(&l, s->known.cost_ns);
	advance(&l, s->known.cost_ns);
	tr_pace_stands(l.dev, s->known.cost_ns);
	count_launches(&l, 1);
}

/* ---- other calls --------------------------------------------------------------------- */

void tr_pace_wait_begin(CUstream stream)
{
	struct look l;

	tr_pace_here.launched = NULL;
	if (tr_captures_any() || !look(&l))
		return;
	flush(&l);
	if (l.marks)
		tr_marks_close(l.marks, stream, l.now_ns);
}

void tr_pace_wait_end(void)
{
	struct look l;

	if (!look(&l) || !l.marks)
		return;
	tr_marks_poll(l.marks, l.now_ns, true);
}

/*
 * Between the program's event and its next launch nothing should wait: the program may be
 * timing it. So the launch after a record may go further ahead than others, and where the
 * record begins something, the wait is taken before it.
 */
void tr_pace_recording(CUstream stream)
{
	struct tr_pace_here *here = &tr_pace_here;
	struct look l;

	if (tr_captures_any() || !look(&l))
		return;
	flush(&l);
	if (here->launched != stream)
		pass(&l, 0, 0);
	here->launched = NULL;
	here->recorded = stream;
}

void tr_pace_stream_ends(CUstream stream)
{
	struct look l;

	if (!look(&l))
		return;
	flush(&l);
	if (l.marks)
		tr_marks_drop(l.marks, stream, l.now_ns);
}
