/* SPDX-License-Identifier: Apache-2.0 */
#include "marks.h"

#include <string.h>

#include "events.h"
#include "pace.h"
#include "rt/file.h"
#include "rt/sat.h"
#include "runs.h"
#include "try_lock.h"

#define CONTEXTS    16u
#define RUNS        64u
#define LANES       32u
#define MISSES      3u /* of pairs not done, then the rest is not asked for */
#define RUN_NS      UINT64_C(2000000)
#define RUN_COUNT   256u
#define RUN_HOST_NS UINT64_C(5000000)
#define POLL_NS     UINT64_C(200000)
#define REST_NS     UINT64_C(1000000000) /* after an event call that failed */
#define OWN_MAX     (UINT64_MAX >> 16)   /* `taken` while 48 or less are */
#define MANY_NS     UINT64_C(1000000000)
#define LOOK_NS     UINT64_C(20000000) /* so long after a look nothing is known */
#define NO_RUN      RUNS

struct lane {
	const void *id; /* the stream; of a thread's own one the thread */
	CUstream stream;
	uint8_t run; /* the open one, or NO_RUN */
	bool is_fed; /* something was submitted and not waited for */
	uint64_t used_ns;
};

struct tr_marks {
	_Atomic(CUcontext) ctx;
	struct tr_try_lock lock;
	tr_dev dev;
	struct tr_told told;
	uint64_t rest_until_ns, polled_ns;
	uint64_t taken; /* runs in use, a bit each */
	_Atomic uint8_t pending_count;
	uint8_t pending[RUNS]; /* closed, oldest first */
	struct tr_run runs[RUNS];
	struct lane lanes[LANES];
	/* Without events, as somebody captured: the stream of an unmeasured submission, from 1 on, when
	 * that went, and when it was last seen at work. */
	_Atomic uint8_t unseen;
	uint64_t unseen_ns, looked_ns;
};
_Static_assert(RUNS == 64, "a bit each, and NO_RUN is none of them");

static struct tr_marks all[CONTEXTS];

/* ---- which, and one at a time -------------------------------------------------------- */

static void clear(struct tr_marks *m)
{
	memset(m->runs, 0, sizeof(m->runs));
	memset(m->lanes, 0, sizeof(m->lanes));
	m->told = (struct tr_told){ 0 };
	m->rest_until_ns = m->polled_ns = m->taken = 0;
	atomic_store(&m->pending_count, 0);
	atomic_store(&m->unseen, 0);
}

struct tr_marks *tr_marks_of(CUcontext ctx, tr_dev dev)
{
	CUcontext none;

	for (unsigned i = 0; i < CONTEXTS; i++)
		if (atomic_load_explicit(&all[i].ctx, memory_order_acquire) == ctx)
			return &all[i];
	for (unsigned i = 0; i < CONTEXTS; i++) {
		uint64_t nobody = 0;

		none = NULL;
		if (atomic_load(&all[i].ctx) ||
		    !atomic_compare_exchange_strong(&all[i].lock.held_ns, &nobody,
						    tr_clock_ns() | 1))
			continue;
		if (atomic_compare_exchange_strong(&all[i].ctx, &none, ctx)) {
			clear(&all[i]);
			all[i].dev = dev;
		}
		atomic_store(&all[i].lock.held_ns, 0);
		if (atomic_load(&all[i].ctx) == ctx)
			return &all[i];
	}
	return NULL;
}

static bool try_hold(struct tr_marks *m, uint64_t now_ns)
{
	return tr_try_hold(&m->lock, now_ns);
}

static void let_go(struct tr_marks *m)
{
	tr_let_go(&m->lock);
}

/* ---- events -------------------------------------------------------------------------- */

static bool can_mark(const struct tr_marks *m, uint64_t now_ns)
{
	return now_ns >= m->rest_until_ns && tr_real.cuEventCreate &&
	       tr_real.cuEventRecord && tr_real.cuEventQuery &&
	       tr_real.cuEventElapsedTime && !tr_captures_any();
}

static bool rest(struct tr_marks *m, uint64_t now_ns)
{
	m->rest_until_ns = now_ns + REST_NS;
	return false;
}

static bool record(struct tr_marks *m, CUevent *event, CUstream stream, uint64_t now_ns)
{
	if (tr_is_stream_capturing(stream))
		return false;
	if (!*event && tr_real.cuEventCreate(event, CU_EVENT_DEFAULT) != CUDA_SUCCESS) {
		*event = NULL;
		return rest(m, now_ns);
	}
	if (tr_real.cuEventRecord(*event, stream) != CUDA_SUCCESS)
		return rest(m, now_ns);
	return true;
}

/* ---- runs ---------------------------------------------------------------------------- */

static void free_run(struct tr_marks *m, unsigned i)
{
	struct tr_run *r = &m->runs[i];

	if (r->is_unmeasured)
		tr_pace_seen(m->dev);
	r->is_unmeasured = false;
	m->taken &= ~(UINT64_C(1) << i);
}

/* Without its second event. */
static void give_up_run(struct tr_marks *m, unsigned i)
{
	tr_pace_stands(m->dev, m->runs[i].predicted_ns);
	free_run(m, i);
}

/* What is not known took the GPU at most from BEGIN to END. */
static void tell_most(struct tr_marks *m, uint64_t begin_ns, uint64_t end_ns,
		      uint64_t predicted_ns, uint64_t now_ns)
{
	uint64_t span_ns = tr_sat_sub(end_ns, begin_ns);
	const struct tr_busy busy = { .begin_ns = begin_ns,
				      .end_ns = end_ns,
				      .sure_ns = span_ns,
				      .busy_ns = span_ns,
				      .is_span = true };

	(void)tr_pace_measured(m->dev, &busy, predicted_ns, now_ns);
}

/* The unseen one is done, or its stream goes. */
static void end_unseen(struct tr_marks *m, uint64_t now_ns)
{
	uint64_t end_ns = m->looked_ns + LOOK_NS;

	tell_most(m, m->unseen_ns, end_ns < now_ns ? end_ns : now_ns, 0, now_ns);
	atomic_store(&m->unseen, 0);
	tr_pace_seen(m->dev);
}

static const void *id_of(CUstream stream)
{
	return stream == CU_STREAM_PER_THREAD ? (const void *)&tr_pace_here
					      : (const void *)stream;
}

static void look_at_unseen(struct tr_marks *m, uint64_t now_ns)
{
	const struct lane *lane = &m->lanes[m->unseen - 1];
	CUresult res = CUDA_ERROR_NOT_READY;
	CUstreamCaptureMode mode;

	mode = tr_capture_relax();
	if (lane->id == id_of(lane->stream) && !tr_is_stream_capturing(lane->stream))
		res = tr_real.cuStreamQuery(lane->stream);
	tr_capture_unrelax(mode);
	if (res != CUDA_ERROR_NOT_READY)
		end_unseen(m, now_ns);
	else
		m->looked_ns = now_ns;
}

/* LANE becomes another stream's. */
static void vacate(struct tr_marks *m, struct lane *lane, uint64_t now_ns)
{
	if (m->unseen && lane == &m->lanes[m->unseen - 1])
		end_unseen(m, now_ns);
	memset(lane, 0, sizeof(*lane));
}

/* The lane of STREAM, made when there is none: in the place of the one that was not used for
 * longest. */
static struct lane *lane_of(struct tr_marks *m, CUstream stream, uint64_t now_ns)
{
	const void *id = id_of(stream);
	struct lane *oldest = &m->lanes[0];

	for (unsigned i = 0; i < LANES; i++) {
		struct lane *lane = &m->lanes[i];

		if (lane->id == id) {
			lane->used_ns = now_ns;
			return lane;
		}
		if (oldest->id && (!lane->id || lane->used_ns < oldest->used_ns))
			oldest = lane;
	}
	if (oldest->id && oldest->run != NO_RUN)
		give_up_run(m, oldest->run);
	vacate(m, oldest, now_ns);
	oldest->id = id;
	oldest->stream = stream;
	oldest->run = NO_RUN;
	oldest->used_ns = now_ns;
	return oldest;
}

static struct lane *lane_find(struct tr_marks *m, CUstream stream)
{
	for (unsigned i = 0; i < LANES; i++)
		if (m->lanes[i].id == id_of(stream))
			return &m->lanes[i];
	return NULL;
}

static void open_run(struct tr_marks *m, struct lane *lane, uint64_t now_ns)
{
	unsigned i = ~m->taken ? (unsigned)__builtin_ctzll(~m->taken) : NO_RUN;
	CUstreamCaptureMode mode;
	struct tr_run *r;
	bool is_done;

	if (i == NO_RUN || !can_mark(m, now_ns))
		return;
	r = &m->runs[i];
	*r = (struct tr_run){ .begin = r->begin, .end = r->end, .begun_ns = now_ns };
	mode = tr_capture_relax();
	is_done = record(m, &r->begin, lane->stream, now_ns);
	tr_capture_unrelax(mode);
	if (!is_done)
		return;
	m->taken |= UINT64_C(1) << i;
	lane->run = (uint8_t)i;
}

static void close_run(struct tr_marks *m, struct lane *lane, uint64_t now_ns)
{
	unsigned i = lane->run;
	CUstreamCaptureMode mode;
	bool is_done = false;

	if (i == NO_RUN)
		return;
	lane->run = NO_RUN;
	if (m->runs[i].count && can_mark(m, now_ns)) {
		mode = tr_capture_relax();
		is_done = record(m, &m->runs[i].end, lane->stream, now_ns);
		tr_capture_unrelax(mode);
	}
	if (!is_done) {
		give_up_run(m, i);
		return;
	}
	m->runs[i].closed_ns = now_ns;
	m->pending[atomic_fetch_add(&m->pending_count, 1)] = (uint8_t)i;
}

static void poll(struct tr_marks *m, uint64_t now_ns)
{
	unsigned n = m->pending_count, kept = 0, misses = 0;
	uint64_t patience_ns = tr_pace_patience_ns(m->dev);
	CUstreamCaptureMode mode = tr_capture_relax();

	m->polled_ns = now_ns;
	for (unsigned at = 0; at < n; at++) {
		unsigned i = m->pending[at];
		CUresult res = CUDA_ERROR_NOT_READY;

		if (misses < MISSES)
			res = tr_real.cuEventQuery(m->runs[i].end);
		if (res == CUDA_ERROR_NOT_READY)
			misses++;
		else if (res != CUDA_SUCCESS ||
			 !tr_run_tell(&m->told, &m->runs[i], m->dev, now_ns))
			(void)rest(m, now_ns);
		if (res == CUDA_ERROR_NOT_READY &&
		    tr_sat_sub(now_ns, m->runs[i].closed_ns) < patience_ns)
			m->pending[kept++] = (uint8_t)i;
		else if (res == CUDA_SUCCESS)
			free_run(m, i);
		else
			give_up_run(m, i);
	}
	atomic_store(&m->pending_count, (uint8_t)kept);
	tr_capture_unrelax(mode);
}

/* ---- what launches call -------------------------------------------------------------- */

bool tr_marks_are_idle(const struct tr_marks *m)
{
	return !atomic_load_explicit(&m->pending_count, memory_order_relaxed) &&
	       !atomic_load_explicit(&m->unseen, memory_order_relaxed);
}

void tr_marks_poll(struct tr_marks *m, uint64_t now_ns, bool is_urgent)
{
	if (tr_marks_are_idle(m) || !try_hold(m, now_ns))
		return;
	if (is_urgent || now_ns - m->polled_ns >= POLL_NS) {
		if (m->unseen)
			look_at_unseen(m, now_ns);
		if (can_mark(m, now_ns))
			poll(m, now_ns);
	}
	let_go(m);
}

static bool is_full(const struct tr_run *r, uint64_t now_ns)
{
	return r->predicted_ns >= RUN_NS || r->count >= RUN_COUNT ||
	       tr_sat_sub(now_ns, r->begun_ns) >= RUN_HOST_NS;
}

static unsigned others_fed(const struct tr_marks *m, const struct lane *lane)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LANES; i++)
		n += m->lanes[i].is_fed && &m->lanes[i] != lane;
	return n;
}

/* A program of several streams: what it submits first after a wait shares the GPU with what follows
 * on the others, and unmeasured it would be charged besides. */
static bool is_one_of_many(const struct tr_marks *m, uint64_t now_ns)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LANES; i++)
		n += m->lanes[i].id && now_ns - m->lanes[i].used_ns < MANY_NS;
	return n > 1;
}

/*
 * An event that an idle GPU comes to ends this process' turn at once where others wait for theirs,
 * and what follows it comes in the next one: their time would lie within the run. So the run
 * begins behind the first submission, unless that must be measured itself, or nobody else is there.
 */
bool tr_marks_before(struct tr_marks *m, CUstream stream, enum tr_mark_want want,
		     uint64_t now_ns)
{
	struct lane *lane;
	unsigned others;
	bool is_own, is_first;

	if (!try_hold(m, now_ns))
		return false;
	lane = lane_of(m, stream, now_ns);
	/* Another stream's work would lie within it too. */
	others = others_fed(m, lane);
	is_own = (want == TR_MARK_ALONE && m->taken <= OWN_MAX) ||
		 (want == TR_MARK_SINGLE && lane->is_fed && !others);
	if (lane->run != NO_RUN &&
	    (is_own || m->runs[lane->run].key || is_full(&m->runs[lane->run], now_ns)))
		close_run(m, lane, now_ns);
	is_first = !is_own && !others && !lane->is_fed &&
		   (tr_pace_turns(m->dev).sharers || !is_one_of_many(m, now_ns));
	if (lane->run == NO_RUN && !is_first)
		open_run(m, lane, now_ns);
	if (lane->run != NO_RUN && m->runs[lane->run].others < others)
		m->runs[lane->run].others = others;
	let_go(m);
	return is_own;
}

static void add(struct tr_marks *m, const struct lane *lane, uint64_t predicted_ns,
		uint32_t count)
{
	struct tr_run *r;

	if (!lane || lane->run == NO_RUN) {
		tr_pace_stands(m->dev, predicted_ns);
		return;
	}
	r = &m->runs[lane->run];
	r->predicted_ns = tr_sat_add(r->predicted_ns, predicted_ns);
	r->count += count;
	if (!predicted_ns)
		r->unknown += count;
}

bool tr_marks_after(struct tr_marks *m, CUstream stream, uint64_t key,
		    uint64_t predicted_ns, bool is_own, uint64_t at_ns)
{
	bool is_taken = false;
	struct lane *lane;
	struct tr_run *r;

	if (!try_hold(m, at_ns)) {
		tr_pace_stands(m->dev, predicted_ns);
		return false;
	}
	lane = lane_find(m, stream);
	add(m, lane, predicted_ns, 1);
	if (lane && lane->run != NO_RUN && is_own && m->runs[lane->run].count == 1) {
		r = &m->runs[lane->run];
		r->key = key;
		r->at_ns = at_ns;
		r->is_unmeasured = !predicted_ns;
		is_taken = true;
		close_run(m, lane, tr_clock_ns());
	} else if (lane && lane->run != NO_RUN) {
		m->runs[lane->run].last_key = key;
		m->runs[lane->run].last_ns = predicted_ns;
	} else if (lane && is_own && !predicted_ns && !m->unseen && tr_captures_any()) {
		m->unseen = (uint8_t)(lane - m->lanes + 1);
		m->unseen_ns = m->looked_ns = at_ns;
		is_taken = true;
	} else if (lane && !lane->is_fed) {
		open_run(m, lane, tr_clock_ns());
	}
	if (lane)
		lane->is_fed = true;
	let_go(m);
	return is_taken;
}

bool tr_marks_add(struct tr_marks *m, CUstream stream, uint64_t predicted_ns,
		  uint32_t count, uint64_t at_ns)
{
	if (!try_hold(m, at_ns))
		return false;
	add(m, lane_find(m, stream), predicted_ns, count);
	let_go(m);
	return true;
}

void tr_marks_close(struct tr_marks *m, CUstream stream, uint64_t now_ns)
{
	if (!try_hold(m, now_ns))
		return;
	for (unsigned i = 0; i < LANES; i++) {
		struct lane *lane = &m->lanes[i];

		if (!lane->id || (stream && lane->id != id_of(stream)))
			continue;
		lane->is_fed = false;
		if (lane->run == NO_RUN)
			continue;
		/* Another thread's own stream has no name here. */
		if (lane->stream == CU_STREAM_PER_THREAD &&
		    lane->id != id_of(CU_STREAM_PER_THREAD))
			continue;
		close_run(m, lane, now_ns);
	}
	let_go(m);
}

void tr_marks_drop(struct tr_marks *m, CUstream stream, uint64_t now_ns)
{
	struct lane *lane;

	if (!try_hold(m, now_ns))
		return;
	lane = lane_find(m, stream);
	if (lane) {
		close_run(m, lane, now_ns);
		vacate(m, lane, now_ns);
	}
	let_go(m);
}

/* ---- ends ---------------------------------------------------------------------------- */

struct tr_marks *tr_marks_leave(CUcontext ctx)
{
	CUcontext now = NULL;

	for (unsigned i = 0; i < CONTEXTS && ctx; i++) {
		CUcontext want = ctx;

		if (atomic_load(&all[i].ctx) != ctx)
			continue;
		if (tr_real.cuCtxGetCurrent &&
		    tr_real.cuCtxGetCurrent(&now) == CUDA_SUCCESS && now == ctx)
			tr_marks_poll(&all[i], tr_clock_ns(), true);
		if (atomic_compare_exchange_strong(&all[i].ctx, &want,
						   (CUcontext)(void *)&all[i]))
			return &all[i];
	}
	return NULL;
}

void tr_marks_stay(struct tr_marks *m, CUcontext ctx)
{
	if (m)
		atomic_store(&m->ctx, ctx);
}

/* The driver has waited for what was under way. What is known was predicted; the rest took at most
 * since it was submitted. */
static void end_run(struct tr_marks *m, unsigned i, uint64_t now_ns)
{
	struct tr_run *r = &m->runs[i];

	if (!r->unknown) {
		give_up_run(m, i);
		return;
	}
	tell_most(m, r->key ? r->at_ns : r->begun_ns, now_ns, r->predicted_ns, now_ns);
	free_run(m, i);
}

/* Its events went with it. */
static void release(struct tr_marks *m)
{
	clear(m);
	atomic_store(&m->lock.held_ns, 0);
	atomic_store(&m->ctx, NULL);
}

void tr_marks_gone(struct tr_marks *m)
{
	if (!m)
		return;
	if (m->unseen)
		end_unseen(m, tr_clock_ns());
	while (m->taken)
		end_run(m, (unsigned)__builtin_ctzll(m->taken), tr_clock_ns());
	release(m);
}

void tr_marks_end(void)
{
	for (unsigned i = 0; i < CONTEXTS; i++) {
		CUcontext ctx = atomic_load(&all[i].ctx);

		/* Another thread is at it, or ends it. */
		if (!ctx || ctx == (CUcontext)(void *)&all[i] ||
		    atomic_load(&all[i].lock.held_ns))
			continue;
		if (tr_real.cuCtxPushCurrent_v2 &&
		    tr_real.cuCtxPushCurrent_v2(ctx) == CUDA_SUCCESS) {
			tr_marks_gone(tr_marks_leave(ctx));
			(void)tr_real.cuCtxPopCurrent_v2(&ctx);
		}
	}
}

void tr_marks_forget(void)
{
	for (unsigned i = 0; i < CONTEXTS; i++)
		if (atomic_load(&all[i].ctx))
			release(&all[i]);
}
