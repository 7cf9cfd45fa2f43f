/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CARDS_OFFER_H
#define TR_CARDS_OFFER_H

#include "deviceplugin/cards/card.h"
#include "deviceplugin/plugin.h"

/* Cards as the ids that the kubelet counts: "UUID-N" from 0 on, `split` of each card; an instance is
 * one id, its uuid. Pure. */

/* Fills OUT; returns how many there are, also beyond ROOM. NUMA nodes only if IS_NUMA_TOLD. */
size_t tr_offer_list(const struct tr_cards *cards, bool is_numa_told,
		     struct tr_plugin_device *out, size_t room);
size_t tr_offer_count(const struct tr_cards *cards);

/* The card that ID is of; NULL: of none of these. */
const struct tr_card *tr_offer_card(const struct tr_cards *cards, const char *id);
/* It is one of tr_offer_list()'s: not one of a time when the card was split for more. */
bool tr_offer_has(const struct tr_cards *cards, const char *id);

/*
 * GetPreferredAllocation for one container: OUT gets P->size ids, the needed ones first.
 * WANTED: the cards that a scheduler chose, in order, and then only theirs: -ENOENT when one of them
 * has no id left; or NULL. Without it: each from another card as far as there are, those with the most
 * ids left first (the least used), and all from one NUMA node if one has enough.
 * -EINVAL: P asks for what cannot be.
 */
int tr_offer_prefer(const struct tr_cards *cards, const struct tr_preference *p,
		    const char *const *wanted, size_t wanted_count, const char **out,
		    struct tr_err *err);

#endif /* TR_CARDS_OFFER_H */
