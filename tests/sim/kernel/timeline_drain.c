/* SPDX-License-Identifier: Apache-2.0 */
#include "timeline.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What goes from clients to the engine and back. Runs in the machine's process, and with a virtual clock
 * in every process that passes it on (timeline_pass.c). */

#define AHEAD_NS 1000000u

static struct timeline alone = { .lock = PTHREAD_MUTEX_INITIALIZER,
				 .record_ns = UINT64_MAX };
struct timeline *timeline = &alone;
void (*timeline_torn)(void);

bool timeline_lock(void)
{
	if (pthread_mutex_lock(&timeline->lock) == EOWNERDEAD) {
		timeline->is_torn = true;
		pthread_mutex_consistent(&timeline->lock);
	}
	if (timeline->is_torn && timeline_torn)
		timeline_torn();
	if (timeline->engine)
		engine_hear(timeline->engine, &timeline_hears);
	return !timeline->is_torn;
}

void timeline_unlock(void)
{
	pthread_mutex_unlock(&timeline->lock);
}

void timeline_wake_word(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

static _Atomic uint32_t *low_word(_Atomic uint64_t *value)
{
	return (_Atomic uint32_t *)value;
}

/* ---- what the engine tells ------------------------------------------------------------ */

static void hear_done(void *arg, uint64_t key, uint64_t channel, uint64_t ticket,
		      uint64_t at_ns)
{
	struct timeline_client *c = timeline_client_of(key);
	uint32_t slot = channel % WIRE_CHANNELS;
	struct wire_channel *out;
	uint64_t want;

	(void)arg;
	(void)at_ns;
	if (!c)
		return;
	out = &c->region->channels[slot];
	ticket += c->bases[slot];
	atomic_store(&out->done, ticket);
	want = atomic_load(&out->want);
	if (want && want <= ticket) {
		atomic_store(&out->want, 0);
		timeline_wake_word(low_word(&out->done));
	}
}

static void hear_stamped(void *arg, uint64_t key, uint32_t stamp, uint64_t generation,
			 uint64_t at_ns)
{
	struct timeline_client *c = timeline_client_of(key);
	struct wire_stamp *out;
	uint32_t seq;

	(void)arg;
	if (!c || stamp >= WIRE_STAMPS)
		return;
	out = &c->region->stamps[stamp];
	seq = atomic_load_explicit(&out->seq, memory_order_relaxed) | 1u;
	atomic_store_explicit(&out->seq, seq, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&out->generation, generation, memory_order_relaxed);
	atomic_store_explicit(&out->ns, at_ns, memory_order_relaxed);
	atomic_store(&out->seq, seq + 1);
	if (atomic_load(&out->waiters)) {
		atomic_store(&out->waiters, 0);
		timeline_wake_word(&out->seq);
	}
}

/* ---- what clients wrote --------------------------------------------------------------- */

static void break_client(struct timeline_client *c)
{
	c->is_broken = true;
	atomic_store(&c->region->is_broken, 1);
}

static int apply(struct timeline_client *c, const struct wire_work *w)
{
	struct rm_work work = { .kind = (enum rm_work_kind)w->op,
				.sms = w->sms,
				.ns = w->ns,
				.stamp = w->stamp,
				.generation = w->generation,
				.channel = w->other,
				.ticket = w->generation };

	if (w->op == WIRE_CHANNEL_OPEN) {
		if (w->device >= timeline->device_count || w->channel == 0)
			return -EINVAL;
		c->bases[w->channel % WIRE_CHANNELS] = w->ns;
		return engine_channel_open(timeline->engine, c->key, w->channel, w->device,
					   (int)w->sms);
	}
	if (w->op == WIRE_CHANNEL_CLOSE) {
		engine_channel_close(timeline->engine, c->key, w->channel);
		return 0;
	}
	if (w->op > RM_WORK_WAIT_CHANNEL || w->ns > WIRE_WORK_MAX_NS ||
	    w->stamp >= WIRE_STAMPS)
		return -EINVAL;
	return engine_submit(timeline->engine, c->key, w->channel, &work);
}

/* The client's next entry, or NULL. */
static const struct wire_work *peek(struct timeline_client *c)
{
	uint32_t tail = atomic_load_explicit(&c->region->tail, memory_order_acquire);

	if (tail == c->head || c->is_broken)
		return NULL;
	if (tail - c->head > WIRE_RING) {
		break_client(c);
		return NULL;
	}
	return &c->region->ring[c->head % WIRE_RING];
}

static void consume(struct timeline_client *c)
{
	atomic_store(&c->region->head, ++c->head);
	if (atomic_load_explicit(&c->region->wants_room, memory_order_relaxed) &&
	    atomic_load(&c->region->tail) - c->head < WIRE_RING / 2) {
		atomic_store(&c->region->wants_room, 0);
		timeline_wake_word(&c->region->head);
	}
}

/* The client of PENDING whose first entry comes first; *W: the entry. Who has none leaves. */
static struct timeline_client *first_of(struct timeline_client **pending, uint64_t *n,
					struct wire_work *w)
{
	struct timeline_client *first = NULL;
	uint64_t kept = 0, first_ns = 0;

	for (uint64_t i = 0; i < *n; i++) {
		struct timeline_client *c = pending[i];
		const struct wire_work *next = peek(c);
		uint64_t at_ns;

		if (!next)
			continue;
		pending[kept++] = c;
		at_ns = next->at_ns;
		if (!first || at_ns < first_ns ||
		    (at_ns == first_ns && timeline_is_earlier(c, first))) {
			first = c;
			first_ns = at_ns;
			*w = *next;
		}
	}
	*n = kept;
	return first;
}

/* Those that wrote, by the bell's bits. */
static uint64_t find_written(struct timeline_client **out)
{
	_Atomic uint64_t *words = timeline->bell->written;
	uint64_t n = 0;

	for (uint64_t first = 1; first <= timeline->client_count; first += 64, words++) {
		uint64_t bits = atomic_load(words);

		for (; bits; bits &= bits - 1) {
			uint64_t key = first + (uint64_t)__builtin_ctzll(bits);
			struct timeline_client *c = timeline_client_of(key);

			if (c && peek(c)) {
				out[n++] = c;
				continue;
			}
			/* it may write just now */
			wire_bit_clear(timeline->bell->written, key);
			if (c && peek(c)) {
				wire_bit_set(timeline->bell->written, key);
				out[n++] = c;
			}
		}
	}
	return n;
}

uint64_t timeline_drain(uint64_t now_ns)
{
	struct timeline_client **pending = timeline->pending, *c;
	uint64_t n = 0;
	struct wire_work w = { 0 };

	if (timeline->is_virtual) {
		n = find_written(pending);
	} else {
		for (uint64_t i = 0; i < timeline->live_count; i++)
			if (peek(timeline->live[i]))
				pending[n++] = timeline->live[i];
	}
	while ((c = first_of(pending, &n, &w))) {
		timeline->drained_any = true;
		/* a thread may be ahead of the virtual clock by what it has spent */
		if (w.at_ns > now_ns) {
			if (timeline->is_virtual && w.at_ns < now_ns + AHEAD_NS)
				return w.at_ns;
			w.at_ns = now_ns;
		}
		if (w.at_ns > engine_now_ns(timeline->engine))
			engine_advance(timeline->engine, w.at_ns);
		if (apply(c, &w) != 0)
			break_client(c);
		consume(c);
	}
	return UINT64_MAX;
}

bool timeline_is_written(uint64_t until_ns)
{
	for (uint64_t i = 0; i < timeline->live_count; i++) {
		const struct wire_work *w = peek(timeline->live[i]);

		if (w && w->at_ns <= until_ns)
			return true;
	}
	return false;
}

const struct engine_hears timeline_hears = { .done = hear_done, .stamped = hear_stamped };
