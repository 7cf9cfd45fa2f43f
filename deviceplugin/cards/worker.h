/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CARDS_WORKER_H
#define TR_CARDS_WORKER_H

#include "deviceplugin/cards/mailbox.h"
#include "gpu/live.h"
#include "keeper/keeper.h"

/* Inside NVML's thread. */

struct tr_patient { /* of the card at the same place */
	struct tr_health health;
	uint64_t xids;
	unsigned last_xid;
};

struct tr_worker {
	struct tr_mailbox *box;
	struct tr_gpus gpus;
	unsigned missing; /* GPUs that did not answer when they were listed */
	bool is_open, has_events, has_keeper;
	char why[256]; /* it is not open */
	struct tr_cards cards;
	struct tr_patient patients[TR_GPUS_MAX];
	struct tr_card_use use[TR_GPUS_MAX];
	struct tr_keeper keeper;
	char **kept; /* paths */
	size_t kept_count, kept_room;
	uint64_t try_ns, try_pause_ns; /* when NVML is opened next */
	uint64_t round_ns;             /* when this round of looks began */
	uint64_t listed_ns;            /* when the cards were last listed */
	uint64_t heard_ns;             /* when XIDs were last asked for */
	unsigned look_at;              /* the next card of this round */
	char *scores;                  /* the pair scores' text, of these GPUs, or NULL */
	bool is_news;                  /* the cards changed and nobody was told */
};

/* The cards as NVML has them now, by the mailbox's rules. */
void tr_worker_list(struct tr_worker *w, struct tr_cards *out);
/* Finds the pair scores out; without an answer a sentence is told. */
void tr_worker_score(struct tr_worker *w);
/* Puts FRESH in the place of the cards; what is known of those that stay is kept. True: they differ. */
bool tr_worker_adopt(struct tr_worker *w, const struct tr_cards *fresh);

/* A sentence for whoever reads the log. */
void tr_worker_say(struct tr_worker *w, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* One card's look, or all of XIDs that came. */
void tr_worker_look(struct tr_worker *w, unsigned at, uint64_t now_ns);
void tr_worker_hear(struct tr_worker *w, uint64_t now_ns);
/* All cards at once: NVML was silent for so long. */
void tr_worker_was_hung(struct tr_worker *w, uint64_t ns, uint64_t now_ns);

#endif /* TR_CARDS_WORKER_H */
