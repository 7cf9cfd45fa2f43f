/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CARDS_MAILBOX_H
#define TR_CARDS_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "deviceplugin/cards/card.h"
#include "deviceplugin/cards/health.h"
#include "keeper/slices.h"

/* Between the loop and NVML's thread. Nobody holds the lock while calling anything that could wait. */

#define TR_MAIL_XIDS      64
#define TR_MAIL_SENTENCES 16

struct tr_mail_order { /* to the thread */
	bool is_keep;  /* else: drop */
	char path[sizeof(((struct tr_slice_dir *)0)->path)];
	struct tr_mail_order *next;
};

struct tr_mail_xid {
	char uuid[48];
	unsigned xid;
};

struct tr_mailbox {
	/* as it was opened */
	struct tr_card_rules rules;
	struct tr_health_rules health;
	char *library;
	bool with_scores;
	uint64_t hang_ticks, retry_ns;
	_Atomic int owners; /* the loop and the thread: the last one frees it */

	/* Silence is counted in ticks of the loop: when the whole process was stopped there are none. */
	_Atomic uint64_t ticks;
	_Atomic uint64_t alive_tick, alive_ns; /* the thread's last sign of life */
	/* The keeper's turns: when the next is due, 0 while there is no keeper, and how late the last
	 * one was. */
	_Atomic uint64_t turn_due_ns, turn_late_ns;
	_Atomic bool is_stopping,
		is_ended;       /* shall end; does not touch anything of ours any more */
	int to_thread, to_loop; /* eventfds */

	pthread_mutex_t lock; /* of what follows */
	struct tr_mail_order *orders, **orders_end;
	struct tr_cards *cards; /* new ones, or NULL; the taker's to free */
	char *scores;           /* of these cards, or NULL */
	struct tr_card_use use[TR_GPUS_MAX];
	unsigned use_count;
	bool has_use;
	struct tr_mail_xid xids[TR_MAIL_XIDS];
	unsigned xid_count;
	char sentences[TR_MAIL_SENTENCES][256];
	unsigned sentence_count;
};

/* One owner less. */
void tr_mail_let_go(struct tr_mailbox *box);

/* The thread, until is_stopping. ARG: the mailbox. */
void *tr_nvml_thread(void *arg);

/* The loop's ticks since the thread's last sign of life are too many. */
static inline bool tr_mail_is_silent(struct tr_mailbox *box)
{
	return atomic_load(&box->ticks) - atomic_load(&box->alive_tick) > box->hang_ticks;
}

/* Wakes whoever reads FD. */
void tr_mail_wake(int fd);

#endif /* TR_CARDS_MAILBOX_H */
