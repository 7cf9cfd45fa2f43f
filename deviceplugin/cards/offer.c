/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/cards/offer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t tr_offer_count(const struct tr_cards *cards)
{
	size_t n = 0;

	for (unsigned i = 0; i < cards->count; i++)
		n += cards->at[i].split;
	return n;
}

size_t tr_offer_list(const struct tr_cards *cards, bool is_numa_told,
		     struct tr_plugin_device *out, size_t room)
{
	size_t n = 0;

	for (unsigned i = 0; i < cards->count; i++) {
		const struct tr_card *card = &cards->at[i];

		for (unsigned k = 0; k < card->split; k++, n++) {
			if (n >= room)
				continue;
			out[n].is_healthy = card->is_healthy;
			out[n].numa_node = is_numa_told ? card->numa : -1;
			if (card->parent[0])
				(void)snprintf(out[n].id, sizeof(out[n].id), "%s",
					       card->uuid);
			else
				(void)snprintf(out[n].id, sizeof(out[n].id), "%s-%u",
					       card->uuid, k);
		}
	}
	return n;
}

/* ID is CARD's, with or without a number behind it. */
static bool is_of(const struct tr_card *card, const char *id)
{
	size_t n = strlen(card->uuid);

	if (strncmp(id, card->uuid, n) != 0)
		return false;
	if (card->parent[0])
		return id[n] == '\0';
	return id[n] == '-' && id[n + 1] &&
	       strspn(id + n + 1, "0123456789") == strlen(id + n + 1);
}

const struct tr_card *tr_offer_card(const struct tr_cards *cards, const char *id)
{
	for (unsigned i = 0; i < cards->count; i++)
		if (is_of(&cards->at[i], id))
			return &cards->at[i];
	return NULL;
}

bool tr_offer_has(const struct tr_cards *cards, const char *id)
{
	const struct tr_card *card = tr_offer_card(cards, id);

	if (!card)
		return false;
	return card->parent[0] ||
	       strtoul(id + strlen(card->uuid) + 1, NULL, 10) < card->split;
}

/* ---- a preference -------------------------------------------------------------------- */

struct choice {
	const struct tr_cards *cards;
	const struct tr_preference *p;
	int card_of[TR_DEVICES_MOST]; /* of each available id; -1: taken, or nobody's */
	unsigned left[TR_GPUS_MAX];   /* available ids */
	unsigned taken[TR_GPUS_MAX];  /* chosen ones */
	const char **out;
	size_t count;
};

static void take(struct choice *c, size_t at)
{
	int card = c->card_of[at];

	c->out[c->count++] = c->p->available.ids[at];
	c->card_of[at] = -1;
	if (card >= 0) {
		c->left[card]--;
		c->taken[card]++;
	}
}

/* The first id of CARD that is left. */
static bool take_of(struct choice *c, unsigned card)
{
	for (size_t i = 0; i < c->p->available.count; i++) {
		if (c->card_of[i] != (int)card)
			continue;
		take(c, i);
		return true;
	}
	return false;
}

static int take_needed(struct choice *c, struct tr_err *err)
{
	for (size_t n = 0; n < c->p->needed.count; n++) {
		size_t i = 0;

		while (i < c->p->available.count &&
		       (c->card_of[i] < 0 ||
			strcmp(c->p->available.ids[i], c->p->needed.ids[n]) != 0))
			i++;
		if (i == c->p->available.count)
			return tr_fail(err, EINVAL, "%s is needed and not available",
				       c->p->needed.ids[n]);
		take(c, i);
	}
	return 0;
}

static int begin(struct choice *c, struct tr_err *err)
{
	if (c->p->available.count > TR_DEVICES_MOST || c->p->size > c->p->available.count ||
	    c->p->needed.count > c->p->size)
		return tr_fail(err, EINVAL, "%zu of %zu ids cannot be chosen", c->p->size,
			       c->p->available.count);
	for (size_t i = 0; i < c->p->available.count; i++) {
		const struct tr_card *card = tr_offer_card(c->cards,
							   c->p->available.ids[i]);

		if (!card)
			return tr_fail(err, EINVAL, "%.*s is no id of a card here",
				       TR_DEVICE_ID, c->p->available.ids[i]);
		c->card_of[i] = (int)(card - c->cards->at);
		c->left[c->card_of[i]]++;
	}
	return 0;
}

/* By the scheduler's decision: of each wanted card as many as it was wanted, needed ids included. */
static int take_wanted(struct choice *c, const char *const *wanted, size_t count,
		       struct tr_err *err)
{
	unsigned used[TR_GPUS_MAX] = { 0 };

	if (count != c->p->size)
		return tr_fail(err, EINVAL, "%zu ids asked for, %zu cards decided",
			       c->p->size, count);
	for (size_t k = 0; k < count; k++) {
		const struct tr_card *card = tr_card_find(c->cards, wanted[k]);
		unsigned at = card ? (unsigned)(card - c->cards->at) : 0;

		if (!card)
			return tr_fail(err, ENOENT, "%s is no card here", wanted[k]);
		if (++used[at] <= c->taken[at])
			continue;
		if (!take_of(c, at))
			return tr_fail(err, ENOENT, "%s has no id left", wanted[k]);
	}
	return c->count == c->p->size
		       ? 0
		       : tr_fail(err, ENOENT, "needed ids are of other cards");
}

/* How good the next id from card I is: few taken of it, then near, then many left. */
static bool is_better(const struct choice *c, unsigned i, unsigned than, int numa)
{
	bool near = c->cards->at[i].numa == numa,
	     than_near = c->cards->at[than].numa == numa;

	if (numa >= 0 && near != than_near)
		return near;
	if (c->taken[i] != c->taken[than])
		return c->taken[i] < c->taken[than];
	return c->left[i] > c->left[than];
}

/* A NUMA node whose cards are enough for one each, the one with most ids left; -1: none. */
static int find_numa(const struct choice *c)
{
	size_t best_left = 0;
	int best = -1;

	if (c->p->size < 2)
		return -1;
	for (unsigned i = 0; i < c->cards->count; i++) {
		int numa = c->cards->at[i].numa;
		size_t cards = 0, left = 0;

		for (unsigned k = 0; k < c->cards->count; k++) {
			if (c->cards->at[k].numa != numa || !c->left[k])
				continue;
			cards++;
			left += c->left[k];
		}
		if (numa < 0 || cards < c->p->size - c->count || left <= best_left)
			continue;
		best = numa;
		best_left = left;
	}
	return best;
}

static void take_spread(struct choice *c)
{
	int numa = find_numa(c);

	while (c->count < c->p->size) {
		int best = -1;

		for (unsigned i = 0; i < c->cards->count; i++)
			if (c->left[i] &&
			    (best < 0 || is_better(c, i, (unsigned)best, numa)))
				best = (int)i;
		if (best < 0 || !take_of(c, (unsigned)best))
			return; /* cannot be: begin() has counted */
	}
}

int tr_offer_prefer(const struct tr_cards *cards, const struct tr_preference *p,
		    const char *const *wanted, size_t wanted_count, const char **out,
		    struct tr_err *err)
{
	struct choice *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return tr_fail(err, ENOMEM, "no memory for a preference");
	c->cards = cards;
	c->p = p;
	c->out = out;
	r = begin(c, err);
	if (r == 0)
		r = take_needed(c, err);
	if (r == 0 && wanted)
		r = take_wanted(c, wanted, wanted_count, err);
	else if (r == 0)
		take_spread(c);
	free(c);
	return r;
}
