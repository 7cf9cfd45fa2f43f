/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CARDS_NVML_H
#define TR_CARDS_NVML_H

#include <event2/event.h>
#include <stdint.h>

#include "deviceplugin/cards/card.h"
#include "deviceplugin/cards/health.h"

/*
 * The one thread that talks to NVML, and the keeper of the node's slices in it. It opens NVML (again and
 * again while that fails), looks at each card once a second, and tells the loop through a mailbox. The
 * loop never waits for it: NVML may hang, and then all cards are called unhealthy until it answers.
 *
 * Every function and callback in the loop's thread, callbacks from the loop only.
 */
struct tr_nvml_agent;

struct tr_nvml_options {
	const char *library; /* path of libnvidia-ml.so.1; NULL: as the loader finds it */
	const struct tr_card_rules *rules;    /* copied */
	const struct tr_health_rules *health; /* copied */
	bool with_scores;                     /* pair scores are found out */
	uint32_t hang_ms;                     /* silent for so long: it hangs; 0: 15000 */
	/* NVML is opened anew so often, at most, while it cannot be had or a GPU does not answer;
	 * 0: 30000 */
	uint32_t retry_ms;
	/* First soon after the start, with no card and a reason when NVML cannot be had; then whenever
	 * anything in it changed. CARDS stays until the next call. */
	void (*on_cards)(const struct tr_cards *cards, void *arg);
	/* Once a second, in the order of the cards. Optional. */
	void (*on_use)(const struct tr_card_use *use, unsigned count, void *arg);
	/* Each XID that was heard, ignored or not. Optional. */
	void (*on_xid)(const char *uuid, unsigned xid, void *arg);
	/* A sentence worth a line in the log. Optional. */
	void (*on_trouble)(const char *sentence, void *arg);
	void *arg;
};

int tr_nvml_open(struct tr_nvml_agent **out, struct event_base *base,
		 const struct tr_nvml_options *options, struct tr_err *err);

/* Ends the thread; waits for it at most WAIT_MS. -EBUSY: it hangs in the driver and is left behind: the
 * process must then end with _exit(). No callback comes after. NULL is fine. */
int tr_nvml_close(struct tr_nvml_agent *nvml, unsigned wait_ms);

/* The slice in directory PATH (ro/policy, rw/state) is kept from now on, across every new start of NVML;
 * it is not when its files cannot be opened (on_trouble). Again for the same path: opened anew. -EINVAL for a
 * path that is too long, -ENOMEM. */
int tr_nvml_keep(struct tr_nvml_agent *nvml, const char *path);
/* Not kept any more; soon after, its files are not open here. -ENOMEM. */
int tr_nvml_drop(struct tr_nvml_agent *nvml, const char *path);

/* How long the thread has not been heard of; small while it lives. */
uint64_t tr_nvml_age_ms(const struct tr_nvml_agent *nvml);
/* How late the keeper's last turn was, or how long the next has been due, if that is longer: it grows
 * while the thread hangs. 0 while there is no keeper. */
uint64_t tr_nvml_keeper_late_ns(const struct tr_nvml_agent *nvml);
/* The last cards; never NULL, at first of no card and version 0. */
const struct tr_cards *tr_nvml_cards(const struct tr_nvml_agent *nvml);
/* The text for TR_NODE_SCORES, or NULL: not wanted, or it cannot be told. New with new cards. */
const char *tr_nvml_scores(const struct tr_nvml_agent *nvml);

#endif /* TR_CARDS_NVML_H */
