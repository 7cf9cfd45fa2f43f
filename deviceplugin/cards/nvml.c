/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/cards/nvml.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "deviceplugin/cards/mailbox.h"
#include "rt/file.h"
#include "rt/sat.h"

/* The loop's side. */

#define MS               UINT64_C(1000000)
#define HANG_MS_DEFAULT  15000u
#define RETRY_MS_DEFAULT 30000u
#define HANG_TICKS       15

struct tr_nvml_agent {
	struct tr_mailbox *box;
	pthread_t thread;
	struct event *told, *clock;
	struct tr_nvml_options options;
	struct tr_cards *cards;  /* as the callers see them */
	struct tr_cards *latest; /* as the thread last told; NULL: nothing yet */
	char *scores;
	uint64_t version;
	bool is_hung;
};

/* ---- what the thread told ------------------------------------------------------------ */

static void publish(struct tr_nvml_agent *nvml)
{
	*nvml->cards = *nvml->latest;
	if (nvml->is_hung) {
		for (unsigned i = 0; i < nvml->cards->count; i++) {
			struct tr_card *card = &nvml->cards->at[i];

			card->is_healthy = false;
			(void)snprintf(card->reason, sizeof(card->reason),
				       "NVML does not answer");
		}
		(void)snprintf(nvml->cards->reason, sizeof(nvml->cards->reason),
			       "NVML does not answer");
	}
	nvml->cards->version = ++nvml->version;
	nvml->options.on_cards(nvml->cards, nvml->options.arg);
}

struct delivery {
	struct tr_cards *cards;
	char *scores;
	struct tr_card_use use[TR_GPUS_MAX];
	unsigned use_count, xid_count, sentence_count;
	bool has_use;
	struct tr_mail_xid xids[TR_MAIL_XIDS];
	char sentences[TR_MAIL_SENTENCES][256];
};

static void take(struct tr_mailbox *box, struct delivery *out)
{
	(void)pthread_mutex_lock(&box->lock);
	out->cards = tr_take_ptr(box->cards);
	out->scores = tr_take_ptr(box->scores);
	memcpy(out->use, box->use, box->use_count * sizeof(*out->use));
	out->use_count = box->use_count;
	out->has_use = box->has_use;
	memcpy(out->xids, box->xids, box->xid_count * sizeof(*out->xids));
	out->xid_count = box->xid_count;
	memcpy(out->sentences, box->sentences,
	       box->sentence_count * sizeof(*out->sentences));
	out->sentence_count = box->sentence_count;
	box->has_use = false;
	box->xid_count = box->sentence_count = 0;
	(void)pthread_mutex_unlock(&box->lock);
}

static void deliver(struct tr_nvml_agent *nvml, struct delivery *d)
{
	const struct tr_nvml_options *o = &nvml->options;
	bool was_hung = nvml->is_hung;

	for (unsigned i = 0; o->on_trouble && i < d->sentence_count; i++)
		o->on_trouble(d->sentences[i], o->arg);
	for (unsigned i = 0; o->on_xid && i < d->xid_count; i++)
		o->on_xid(d->xids[i].uuid, d->xids[i].xid, o->arg);
	nvml->is_hung = tr_mail_is_silent(nvml->box);
	if (d->cards) {
		free(nvml->latest);
		nvml->latest = d->cards;
		free(nvml->scores);
		nvml->scores = d->scores;
	}
	if (nvml->latest && (d->cards || was_hung != nvml->is_hung))
		publish(nvml);
	if (d->has_use && o->on_use)
		o->on_use(d->use, d->use_count, o->arg);
}

static void on_told(evutil_socket_t fd, short what, void *arg)
{
	struct tr_nvml_agent *nvml = arg;
	struct delivery *d = tr_xmalloc(sizeof(*d));
	uint64_t count;

	(void)what;
	(void)!read(fd, &count, sizeof(count));
	take(nvml->box, d);
	deliver(nvml, d);
	free(d);
}

static void on_clock(evutil_socket_t fd, short what, void *arg)
{
	struct tr_nvml_agent *nvml = arg;
	bool was_hung = nvml->is_hung;

	(void)fd;
	(void)what;
	(void)atomic_fetch_add(&nvml->box->ticks, 1);
	nvml->is_hung = tr_mail_is_silent(nvml->box);
	if (nvml->is_hung == was_hung)
		return;
	if (nvml->is_hung && nvml->options.on_trouble)
		nvml->options.on_trouble(
			"NVML does not answer: no card is healthy until it "
			"does",
			nvml->options.arg);
	if (!nvml->latest) /* it hung in its very first call */
		nvml->latest = tr_xcalloc(1, sizeof(*nvml->latest));
	publish(nvml);
}

/* ---- open and close ------------------------------------------------------------------ */

static void free_box(struct tr_mailbox *box)
{
	while (box->orders) {
		struct tr_mail_order *order = box->orders;

		box->orders = order->next;
		free(order);
	}
	if (box->to_thread >= 0)
		(void)close(box->to_thread);
	if (box->to_loop >= 0)
		(void)close(box->to_loop);
	(void)pthread_mutex_destroy(&box->lock);
	free(box->library);
	free(box->cards);
	free(box->scores);
	free(box);
}

void tr_mail_let_go(struct tr_mailbox *box)
{
	if (atomic_fetch_sub(&box->owners, 1) == 1)
		free_box(box);
}

static struct tr_mailbox *make_box(const struct tr_nvml_options *options,
				   struct tr_err *err)
{
	struct tr_mailbox *box = tr_xcalloc(1, sizeof(*box));

	box->rules = *options->rules;
	box->health = *options->health;
	box->library = options->library ? tr_xstrdup(options->library) : NULL;
	box->with_scores = options->with_scores;
	box->hang_ticks = HANG_TICKS;
	box->retry_ns = (options->retry_ms ? options->retry_ms : RETRY_MS_DEFAULT) * MS;
	atomic_store(&box->owners, 2);
	box->orders_end = &box->orders;
	(void)pthread_mutex_init(&box->lock, NULL);
	atomic_store(&box->alive_ns, tr_clock_ns());
	box->to_thread = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	box->to_loop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (box->to_thread >= 0 && box->to_loop >= 0)
		return box;
	(void)tr_fail_errno(err, "eventfd");
	free_box(box);
	return NULL;
}

static int start(struct tr_nvml_agent *nvml, struct tr_err *err)
{
	sigset_t all, before;
	int r;

	/* Signals are the loop's. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&nvml->thread, NULL, tr_nvml_thread, nvml->box);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r ? tr_fail(err, r, "NVML's thread: %s", strerror(r)) : 0;
}

static void free_agent(struct tr_nvml_agent *nvml)
{
	if (nvml->told)
		event_free(nvml->told);
	if (nvml->clock)
		event_free(nvml->clock);
	free(nvml->cards);
	free(nvml->latest);
	free(nvml->scores);
	free(nvml);
}

int tr_nvml_open(struct tr_nvml_agent **out, struct event_base *base,
		 const struct tr_nvml_options *options, struct tr_err *err)
{
	uint32_t tick_ms = (options->hang_ms ? options->hang_ms : HANG_MS_DEFAULT) /
			   HANG_TICKS;
	const struct timeval tick = { tick_ms / 1000, (long)(tick_ms % 1000) * 1000 };
	struct tr_nvml_agent *nvml;
	int r = tr_card_rules_check(options->rules, err);

	*out = NULL;
	if (r < 0)
		return r;
	nvml = tr_xcalloc(1, sizeof(*nvml));
	nvml->options = *options;
	nvml->cards = tr_xcalloc(1, sizeof(*nvml->cards));
	nvml->box = make_box(options, err);
	if (nvml->box) {
		nvml->told = event_new(base, nvml->box->to_loop, EV_READ | EV_PERSIST,
				       on_told, nvml);
		nvml->clock = event_new(base, -1, EV_PERSIST, on_clock, nvml);
	}
	if (!nvml->told || !nvml->clock || event_add(nvml->told, NULL) < 0 ||
	    event_add(nvml->clock, &tick) < 0)
		r = err && err->code ? -err->code : tr_fail(err, ENOMEM, "no memory");
	if (r == 0)
		r = start(nvml, err);
	if (r < 0) {
		if (nvml->box)
			free_box(nvml->box);
		free_agent(nvml);
		return r;
	}
	*out = nvml;
	return 0;
}

static bool wait_for_end(struct tr_mailbox *box, unsigned wait_ms)
{
	uint64_t until_ns = tr_clock_ns() + wait_ms * MS, now_ns;
	struct pollfd fd = { .fd = box->to_loop, .events = POLLIN };
	uint64_t count;

	while (!atomic_load(&box->is_ended)) {
		now_ns = tr_clock_ns();
		if (now_ns >= until_ns)
			return false;
		if (poll(&fd, 1, (int)((until_ns - now_ns) / MS) + 1) > 0)
			(void)!read(fd.fd, &count, sizeof(count));
	}
	return true;
}

int tr_nvml_close(struct tr_nvml_agent *nvml, unsigned wait_ms)
{
	struct tr_mailbox *box;
	bool has_ended;

	if (!nvml)
		return 0;
	box = nvml->box;
	atomic_store(&box->is_stopping, true);
	tr_mail_wake(box->to_thread);
	has_ended = wait_for_end(box, wait_ms);
	if (has_ended)
		(void)pthread_join(nvml->thread, NULL);
	else
		(void)pthread_detach(nvml->thread);
	free_agent(nvml); /* its events look at the box */
	tr_mail_let_go(box);
	return has_ended ? 0 : -EBUSY;
}

/* ---- orders -------------------------------------------------------------------------- */

static int order(struct tr_nvml_agent *nvml, bool is_keep, const char *path)
{
	struct tr_mail_order *made;

	if (!path[0] || strlen(path) >= sizeof(made->path))
		return -EINVAL;
	made = calloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	made->is_keep = is_keep;
	memcpy(made->path, path, strlen(path) + 1);
	(void)pthread_mutex_lock(&nvml->box->lock);
	*nvml->box->orders_end = made;
	nvml->box->orders_end = &made->next;
	(void)pthread_mutex_unlock(&nvml->box->lock);
	tr_mail_wake(nvml->box->to_thread);
	return 0;
}

int tr_nvml_keep(struct tr_nvml_agent *nvml, const char *path)
{
	return order(nvml, true, path);
}

int tr_nvml_drop(struct tr_nvml_agent *nvml, const char *path)
{
	return order(nvml, false, path);
}

void tr_mail_wake(int fd)
{
	const uint64_t one = 1;

	(void)!write(fd, &one, sizeof(one));
}

uint64_t tr_nvml_age_ms(const struct tr_nvml_agent *nvml)
{
	return tr_sat_sub(tr_clock_ns(), atomic_load(&nvml->box->alive_ns)) / MS;
}

uint64_t tr_nvml_keeper_late_ns(const struct tr_nvml_agent *nvml)
{
	uint64_t due_ns = atomic_load(&nvml->box->turn_due_ns);
	uint64_t late_ns = atomic_load(&nvml->box->turn_late_ns), waited_ns;

	if (!due_ns)
		return 0;
	waited_ns = tr_sat_sub(tr_clock_ns(), due_ns);
	return waited_ns > late_ns ? waited_ns : late_ns;
}

const struct tr_cards *tr_nvml_cards(const struct tr_nvml_agent *nvml)
{
	return nvml->cards;
}

const char *tr_nvml_scores(const struct tr_nvml_agent *nvml)
{
	return nvml->scores;
}
