/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "deviceplugin/cards/worker.h"
#include "rt/file.h"
#include "rt/sat.h"

#define SECOND_NS     UINT64_C(1000000000)
#define ROUND_NS      SECOND_NS        /* every card is looked at */
#define HEAR_NS       (SECOND_NS / 5)  /* XIDs */
#define LIST_NS       (60 * SECOND_NS) /* are there other instances */
#define IDLE_PAUSE_NS (SECOND_NS / 5)

/* ---- telling the loop ---------------------------------------------------------------- */

void tr_worker_say(struct tr_worker *w, const char *format, ...)
{
	struct tr_mailbox *box = w->box;
	va_list args;

	(void)pthread_mutex_lock(&box->lock);
	if (box->sentence_count < TR_MAIL_SENTENCES) {
		va_start(args, format);
		(void)vsnprintf(box->sentences[box->sentence_count++],
				sizeof(box->sentences[0]), format, args);
		va_end(args);
	}
	(void)pthread_mutex_unlock(&box->lock);
	tr_mail_wake(box->to_loop);
}

static void tell_cards(struct tr_worker *w)
{
	struct tr_cards *copy = malloc(sizeof(*copy));
	char *scores = w->scores ? strdup(w->scores) : NULL;

	if (!copy) {
		free(scores);
		return; /* is_news stays */
	}
	*copy = w->cards;
	(void)pthread_mutex_lock(&w->box->lock);
	free(w->box->cards);
	free(w->box->scores);
	w->box->cards = copy;
	w->box->scores = scores;
	(void)pthread_mutex_unlock(&w->box->lock);
	w->is_news = false;
	tr_mail_wake(w->box->to_loop);
}

static void tell_use(struct tr_worker *w)
{
	(void)pthread_mutex_lock(&w->box->lock);
	memcpy(w->box->use, w->use, w->cards.count * sizeof(*w->use));
	w->box->use_count = w->cards.count;
	w->box->has_use = true;
	(void)pthread_mutex_unlock(&w->box->lock);
	tr_mail_wake(w->box->to_loop);
}

/* A sign of life. After a long silence the cards are ill first, so that the loop, which has called them
 * so meanwhile, goes on doing so. */
static void beat(struct tr_worker *w)
{
	uint64_t now_ns = tr_clock_ns();
	uint64_t silent_ns = tr_sat_sub(now_ns, atomic_load(&w->box->alive_ns));

	if (tr_mail_is_silent(w->box)) {
		tr_worker_was_hung(w, silent_ns, now_ns);
		tell_cards(w);
	}
	atomic_store(&w->box->alive_tick, atomic_load(&w->box->ticks));
	atomic_store(&w->box->alive_ns, now_ns);
}

/* ---- slices -------------------------------------------------------------------------- */

static void keep(struct tr_worker *w, const char *path)
{
	struct tr_slice_dir dir = { .alive_fd = -1 };
	struct tr_err err = { 0 };

	(void)snprintf(dir.path, sizeof(dir.path), "%s", path);
	(void)snprintf(dir.policy_path, sizeof(dir.policy_path), "%s/ro/policy", path);
	(void)snprintf(dir.state_path, sizeof(dir.state_path), "%s/rw/state", path);
	if (w->has_keeper && tr_keeper_add(&w->keeper, &dir, &err) < 0)
		tr_worker_say(w, "%s is not kept: %s", path, err.msg);
}

static size_t find_kept(const struct tr_worker *w, const char *path)
{
	size_t i = 0;

	while (i < w->kept_count && strcmp(w->kept[i], path) != 0)
		i++;
	return i;
}

static bool remember(struct tr_worker *w, const char *path)
{
	char *copy = strdup(path);

	if (copy && w->kept_count == w->kept_room) {
		size_t room = w->kept_room ? 2 * w->kept_room : 16;
		char **more = realloc(w->kept, room * sizeof(*more));

		if (more) {
			w->kept = more;
			w->kept_room = room;
		}
	}
	if (!copy || w->kept_count == w->kept_room) {
		free(copy);
		tr_worker_say(w, "%s is not kept: no memory", path);
		return false;
	}
	w->kept[w->kept_count++] = copy;
	return true;
}

static void obey(struct tr_worker *w, const struct tr_mail_order *order)
{
	size_t at = find_kept(w, order->path);

	if (at < w->kept_count && w->has_keeper)
		(void)tr_keeper_drop(&w->keeper, order->path);
	if (order->is_keep) {
		if (at < w->kept_count || remember(w, order->path))
			keep(w, order->path);
	} else if (at < w->kept_count) {
		free(w->kept[at]);
		w->kept[at] = w->kept[--w->kept_count];
	}
}

static void obey_all(struct tr_worker *w)
{
	struct tr_mail_order *order;

	(void)pthread_mutex_lock(&w->box->lock);
	order = w->box->orders;
	w->box->orders = NULL;
	w->box->orders_end = &w->box->orders;
	(void)pthread_mutex_unlock(&w->box->lock);
	while (order) {
		struct tr_mail_order *next = order->next;

		obey(w, order);
		free(order);
		order = next;
	}
}

/* ---- NVML opened and closed ---------------------------------------------------------- */

static bool are_same_gpus(const struct tr_gpus *a, const struct tr_gpus *b)
{
	if (a->count != b->count)
		return false;
	for (unsigned i = 0; i < a->count; i++)
		if (strcmp(a->gpus[i].uuid, b->gpus[i].uuid) != 0)
			return false;
	return true;
}

static void close_keeper(struct tr_worker *w)
{
	if (w->has_keeper)
		tr_keeper_close(&w->keeper);
	w->has_keeper = false;
}

static void close_nvml(struct tr_worker *w)
{
	tr_gpu_events_close();
	tr_gpu_close();
	w->has_events = w->is_open = false;
}

/* What the keeper has learnt of slices is kept while the GPUs are the same. */
static void renew_keeper(struct tr_worker *w, const struct tr_gpus *fresh)
{
	bool is_same = w->has_keeper && are_same_gpus(&w->gpus, fresh);

	if (!is_same)
		close_keeper(w);
	w->gpus = *fresh;
	if (is_same)
		return;
	tr_keeper_open(&w->keeper, &w->gpus);
	tr_keeper_only_added(&w->keeper);
	w->has_keeper = true;
	for (size_t i = 0; i < w->kept_count; i++)
		keep(w, w->kept[i]);
}

static void list_cards(struct tr_worker *w, uint64_t now_ns)
{
	struct tr_cards *fresh = malloc(sizeof(*fresh));

	w->listed_ns = now_ns;
	if (!fresh)
		return;
	tr_worker_list(w, fresh);
	if (tr_worker_adopt(w, fresh) && w->box->with_scores)
		tr_worker_score(w);
	free(fresh);
}

static void could_not_open(struct tr_worker *w, const struct tr_err *err)
{
	close_nvml(w);
	if (strcmp(w->why, err->msg) == 0)
		return;
	(void)snprintf(w->why, sizeof(w->why), "%.255s", err->msg);
	(void)snprintf(w->cards.reason, sizeof(w->cards.reason), "%s", w->why);
	w->is_news = true;
}

static void open_nvml(struct tr_worker *w, uint64_t now_ns)
{
	struct tr_gpus *fresh = calloc(1, sizeof(*fresh));
	struct tr_err err = { 0 };
	unsigned missing = 0;
	int r = fresh ? 0 : tr_fail(&err, ENOMEM, "no memory for a list of GPUs");

	tr_gpu_library(w->box->library);
	if (r == 0)
		r = tr_gpu_open_most(fresh, &missing, &err);
	w->try_pause_ns = r < 0 ? tr_sat_mul(w->try_pause_ns, 2) : SECOND_NS;
	if (w->try_pause_ns > w->box->retry_ns)
		w->try_pause_ns = w->box->retry_ns;
	w->try_ns = now_ns + (r < 0 ? w->try_pause_ns : w->box->retry_ns);
	if (r < 0) {
		could_not_open(w, &err);
	} else {
		w->is_open = true;
		w->missing = missing;
		w->why[0] = '\0';
		renew_keeper(w, fresh);
		w->has_events = tr_gpu_events_open(&w->gpus, &err) == 0;
		list_cards(w, now_ns);
	}
	free(fresh);
}

/* Ill with what a new start of NVML may mend: devices come back from a reset as new ones. */
static bool needs_mending(const struct tr_worker *w)
{
	for (unsigned i = 0; i < w->cards.count; i++)
		if (w->patients[i].health.fails > 0)
			return true;
	return w->missing > 0;
}

static void open_if_due(struct tr_worker *w, uint64_t now_ns)
{
	if (now_ns < w->try_ns)
		return;
	if (!w->is_open) {
		open_nvml(w, now_ns);
	} else if (needs_mending(w)) {
		close_nvml(w);
		open_nvml(w, now_ns);
	} else {
		w->try_ns = now_ns + w->box->retry_ns;
		if (!w->has_events)
			w->has_events = tr_gpu_events_open(&w->gpus, NULL) == 0;
	}
}

/* ---- the thread ---------------------------------------------------------------------- */

static void begin_round(struct tr_worker *w, uint64_t now_ns)
{
	w->round_ns = now_ns;
	w->look_at = 0;
	if (w->is_open && tr_sat_sub(now_ns, w->listed_ns) >= LIST_NS)
		list_cards(w, now_ns);
}

/* One card at a time: the keeper's leases must not wait for all of them. */
static void look(struct tr_worker *w, uint64_t now_ns)
{
	if (w->look_at >= w->cards.count) {
		if (tr_sat_sub(now_ns, w->round_ns) < ROUND_NS)
			return;
		begin_round(w, now_ns);
	}
	if (w->look_at < w->cards.count)
		tr_worker_look(w, w->look_at++, now_ns);
	if (w->look_at >= w->cards.count)
		tell_use(w);
}

static void hear(struct tr_worker *w, uint64_t now_ns)
{
	if (!w->is_open || tr_sat_sub(now_ns, w->heard_ns) < HEAR_NS)
		return;
	w->heard_ns = now_ns;
	tr_worker_hear(w, now_ns);
}

/* Answers how long the thread may sleep. */
static uint64_t turn_keeper(struct tr_worker *w)
{
	uint64_t now_ns = tr_clock_ns(), due_ns = atomic_load(&w->box->turn_due_ns),
		 pause_ns;

	if (!w->is_open || !w->has_keeper) {
		atomic_store(&w->box->turn_due_ns, 0);
		return IDLE_PAUSE_NS;
	}
	atomic_store(&w->box->turn_late_ns, due_ns ? tr_sat_sub(now_ns, due_ns) : 0);
	/* Due until it has ended: it may hang in the driver too. */
	pause_ns = tr_keeper_turn(&w->keeper);
	atomic_store(&w->box->turn_due_ns, tr_clock_ns() + pause_ns);
	return pause_ns;
}

static void wait_for_orders(struct tr_worker *w, uint64_t pause_ns)
{
	struct pollfd fd = { .fd = w->box->to_thread, .events = POLLIN };
	const struct timespec pause = { (time_t)(pause_ns / SECOND_NS),
					(long)(pause_ns % SECOND_NS) };
	uint64_t count;

	if (ppoll(&fd, 1, &pause, NULL) > 0)
		(void)!read(fd.fd, &count, sizeof(count));
}

static void turn(struct tr_worker *w)
{
	uint64_t pause_ns, now_ns = tr_clock_ns();

	obey_all(w);
	open_if_due(w, now_ns);
	beat(w);
	hear(w, now_ns);
	look(w, now_ns);
	pause_ns = turn_keeper(w);
	if (w->is_news)
		tell_cards(w);
	beat(w);
	if (w->look_at < w->cards.count)
		pause_ns = 0;
	wait_for_orders(w, pause_ns);
}

void *tr_nvml_thread(void *arg)
{
	struct tr_worker *w = calloc(1, sizeof(*w));

	if (!w)
		abort();
	w->box = arg;
	w->is_news = true;
	w->try_pause_ns = SECOND_NS / 2;
	while (!atomic_load(&w->box->is_stopping))
		turn(w);
	close_keeper(w);
	close_nvml(w);
	for (size_t i = 0; i < w->kept_count; i++)
		free(w->kept[i]);
	free(w->kept);
	free(w->scores);
	atomic_store(&w->box->is_ended, true);
	tr_mail_wake(w->box->to_loop);
	tr_mail_let_go(w->box);
	free(w);
	return NULL;
}
