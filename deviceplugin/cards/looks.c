/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/cards/worker.h"

/* How the cards do: what NVML's thread sees and hears becomes health and use. */

static void show_health(struct tr_worker *w, unsigned at)
{
	struct tr_card *card = &w->cards.at[at];
	const struct tr_health *h = &w->patients[at].health;

	card->is_healthy = !h->is_ill;
	memcpy(card->reason, h->reason, sizeof(card->reason));
	w->is_news = true;
}

static enum tr_look_answer answer_of(enum tr_gpu_answer answer)
{
	switch (answer) {
	case TR_GPU_WELL:
		return TR_LOOK_GOOD;
	case TR_GPU_FAILS:
		return TR_LOOK_FAILED;
	case TR_GPU_LOST:
		return TR_LOOK_LOST;
	case TR_GPU_NEEDS_RESET:
		return TR_LOOK_NEEDS_RESET;
	}
	return TR_LOOK_FAILED;
}

/* What the two enums say is the same. */
_Static_assert((int)TR_CARD_HAS_MEMORY == (int)TR_GPU_HAS_MEMORY &&
		       (int)TR_CARD_HAS_GPU_RATE == (int)TR_GPU_HAS_GPU_RATE &&
		       (int)TR_CARD_HAS_MEMORY_RATE == (int)TR_GPU_HAS_MEMORY_RATE &&
		       (int)TR_CARD_HAS_TEMPERATURE == (int)TR_GPU_HAS_TEMPERATURE &&
		       (int)TR_CARD_HAS_POWER == (int)TR_GPU_HAS_POWER &&
		       (int)TR_CARD_HAS_ECC == (int)TR_GPU_HAS_ECC &&
		       (int)TR_CARD_HAS_ENERGY == (int)TR_GPU_HAS_ENERGY,
	       "the same bits");

static void read_live(const struct tr_worker *w, const struct tr_card *card,
		      struct tr_gpu_live *out)
{
	struct tr_gpu_live own;

	if (!w->is_open) {
		*out = (struct tr_gpu_live){ .answer = TR_GPU_FAILS };
		(void)snprintf(out->says, sizeof(out->says), "%.90s", w->why);
		return;
	}
	tr_gpu_live(card->parent[0] ? card->parent : card->uuid, out);
	if (!card->parent[0])
		return;
	/* Of an instance only the memory is its own. */
	tr_gpu_live(card->uuid, &own);
	out->used_bytes = own.used_bytes;
	out->has = (out->has & ~(unsigned)TR_GPU_HAS_MEMORY) | own.has;
	if (own.answer > out->answer) {
		out->answer = own.answer;
		memcpy(out->says, own.says, sizeof(out->says));
	}
}

void tr_worker_look(struct tr_worker *w, unsigned at, uint64_t now_ns)
{
	const struct tr_card *card = &w->cards.at[at];
	struct tr_patient *patient = &w->patients[at];
	struct tr_gpu_live live;
	struct tr_health_look look;

	read_live(w, card, &live);
	look = (struct tr_health_look){
		.answer = answer_of(live.answer),
		.has_ecc = live.has & TR_GPU_HAS_ECC,
		.ecc_uncorrected = live.ecc_uncorrected,
		.says = live.says,
	};
	w->use[at] = (struct tr_card_use){
		.has = live.has,
		.used_bytes = live.used_bytes,
		.gpu_percent = live.gpu_percent,
		.memory_percent = live.memory_percent,
		.celsius = live.celsius,
		.power_mw = live.power_mw,
		.energy_mj = live.energy_mj,
		.ecc_corrected = live.ecc_corrected,
		.ecc_uncorrected = live.ecc_uncorrected,
		.xids = patient->xids,
		.last_xid = patient->last_xid,
	};
	memcpy(w->use[at].uuid, card->uuid, sizeof(card->uuid));
	if (tr_health_look(&patient->health, &w->box->health, &look, now_ns))
		show_health(w, at);
}

void tr_worker_was_hung(struct tr_worker *w, uint64_t ns, uint64_t now_ns)
{
	char says[64];
	const struct tr_health_look look = { .answer = TR_LOOK_FAILED, .says = says };

	(void)snprintf(says, sizeof(says), "NVML hung for %llu s",
		       (unsigned long long)(ns / 1000000000u));
	for (unsigned i = 0; i < w->cards.count; i++) {
		bool is_news = false;

		for (unsigned n = 0; n < w->box->health.fails; n++)
			is_news |= tr_health_look(&w->patients[i].health, &w->box->health,
						  &look, now_ns);
		if (is_news)
			show_health(w, i);
	}
}

/* ---- XIDs ---------------------------------------------------------------------------- */

/* An event that names nobody may be anybody's. */
static bool concerns(const struct tr_gpu_event *event, const struct tr_card *card)
{
	if (!event->uuid[0] || strcmp(event->uuid, card->uuid) == 0)
		return true;
	if (strcmp(event->uuid, card->parent) != 0)
		return false;
	return event->gpu_instance < 0 ||
	       ((unsigned)event->gpu_instance == card->gpu_instance &&
		(event->compute_instance < 0 ||
		 (unsigned)event->compute_instance == card->compute_instance));
}

static void tell_xid(struct tr_mailbox *box, const char *uuid, unsigned xid)
{
	(void)pthread_mutex_lock(&box->lock);
	if (box->xid_count < TR_MAIL_XIDS) {
		struct tr_mail_xid *mail = &box->xids[box->xid_count++];

		(void)snprintf(mail->uuid, sizeof(mail->uuid), "%s", uuid);
		mail->xid = xid;
	}
	(void)pthread_mutex_unlock(&box->lock);
	tr_mail_wake(box->to_loop);
}

static void take_event(struct tr_worker *w, const struct tr_gpu_event *event,
		       uint64_t now_ns)
{
	for (unsigned i = 0; i < w->cards.count; i++) {
		struct tr_patient *patient = &w->patients[i];

		if (!concerns(event, &w->cards.at[i]))
			continue;
		patient->xids++;
		patient->last_xid = event->xid;
		if (tr_health_xid(&patient->health, &w->box->health, event->xid, now_ns))
			show_health(w, i);
	}
	tell_xid(w->box, event->uuid, event->xid);
}

void tr_worker_hear(struct tr_worker *w, uint64_t now_ns)
{
	struct tr_gpu_event event;
	struct tr_err err = { 0 };
	int r = 0;

	/* Bounded: a device that reports without end must not keep the others waiting. */
	for (unsigned n = 0; w->has_events && n < 256; n++) {
		r = tr_gpu_events_wait(0, &event, &err);
		if (r <= 0)
			break;
		take_event(w, &event, now_ns);
	}
	if (r < 0) {
		tr_worker_say(w, "%s", err.msg);
		tr_gpu_events_close();
		w->has_events = false;
	}
}
