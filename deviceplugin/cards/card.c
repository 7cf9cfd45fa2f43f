/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/cards/card.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rt/sat.h"

#define MIB UINT64_C(1048576)

/* HAMi's annotation has signed words of 32 bits for both. */
#define SCALING_MAX 100.0
#define MIB_MAX     (uint64_t) INT32_MAX

const struct tr_card *tr_card_find(const struct tr_cards *cards, const char *uuid)
{
	for (unsigned i = 0; i < cards->count; i++)
		if (strcmp(cards->at[i].uuid, uuid) == 0)
			return &cards->at[i];
	return NULL;
}

static bool is_scaling(double x)
{
	return isfinite(x) && x > 0.0 && x <= SCALING_MAX;
}

int tr_card_rules_check(const struct tr_card_rules *rules, struct tr_err *err)
{
	if (rules->split < 1 || rules->split > 255)
		return tr_fail(err, EINVAL,
			       "a card is shared by 1 to 255 containers, not by %u",
			       rules->split);
	if (!is_scaling(rules->memory_scaling))
		return tr_fail(err, EINVAL,
			       "memory scaling is above 0 and at most %g, not %g",
			       SCALING_MAX, rules->memory_scaling);
	if (!is_scaling(rules->core_scaling))
		return tr_fail(err, EINVAL,
			       "core scaling is above 0 and at most %g, not %g",
			       SCALING_MAX, rules->core_scaling);
	return 0;
}

/* ---- the filter ---------------------------------------------------------------------- */

int tr_card_filter_add(struct tr_card_filter *filter, const char *text, struct tr_err *err)
{
	size_t n = strlen(text);
	bool is_uuid = strncmp(text, "GPU-", 4) == 0 || strncmp(text, "MIG-", 4) == 0;

	if (n == 0 || n >= sizeof(filter->uuids[0]) ||
	    (!is_uuid && strspn(text, "0123456789") != n) || (!is_uuid && n > 9))
		return tr_fail(err, EINVAL,
			       "a card is named by its UUID or its index, not \"%.60s\"",
			       text);
	if (filter->uuid_count == TR_FILTER_MAX || filter->index_count == TR_FILTER_MAX)
		return tr_fail(err, ENOSPC, "at most %d cards can be left out",
			       TR_FILTER_MAX);
	if (is_uuid)
		memcpy(filter->uuids[filter->uuid_count++], text, n + 1);
	else
		filter->indexes[filter->index_count++] = (unsigned)strtoul(text, NULL, 10);
	return 0;
}

static bool is_filtered(const struct tr_card_filter *filter,
			const struct tr_card_facts *facts)
{
	for (size_t i = 0; i < filter->uuid_count; i++)
		if (strcmp(filter->uuids[i], facts->uuid) == 0 ||
		    strcmp(filter->uuids[i], facts->parent) == 0)
			return true;
	for (size_t i = 0; i < filter->index_count; i++)
		if (filter->indexes[i] == facts->index)
			return true;
	return false;
}

/* ---- a card -------------------------------------------------------------------------- */

/* An annotation is UTF-8 text, and some readers split theirs at these. */
static void name_type(char *out, size_t room, const char *name)
{
	(void)snprintf(out, room, "%s%s", strncmp(name, "NVIDIA", 6) == 0 ? "" : "NVIDIA-",
		       name);
	for (char *at = out; *at; at++)
		if (*at < ' ' || *at > '~' || strchr(",:;\"\\", *at))
			*at = '_';
}

static uint64_t scaled_mib(uint64_t bytes, double scaling)
{
	uint64_t whole = bytes / MIB;
	double mib = floor((double)whole * scaling);

	return mib >= (double)MIB_MAX ? MIB_MAX : (uint64_t)mib;
}

static void say(struct tr_cards *out, const struct tr_card_facts *facts, const char *why)
{
	(void)snprintf(out->reason, sizeof(out->reason), "%s is not offered: %s",
		       facts->uuid, why);
}

static bool has_room(struct tr_cards *out, const struct tr_card_facts *facts)
{
	if (out->count == TR_GPUS_MAX) {
		say(out, facts, "too many cards");
		return false;
	}
	if (strlen(facts->uuid) >= sizeof(out->at[0].uuid) || !facts->uuid[0] ||
	    tr_card_find(out, facts->uuid)) {
		say(out, facts, "its UUID is empty, too long or another card's");
		return false;
	}
	return true;
}

int tr_cards_add(struct tr_cards *out, const struct tr_card_facts *facts,
		 const struct tr_card_rules *rules)
{
	bool is_instance = facts->parent[0];
	uint64_t total = facts->total_bytes ? facts->total_bytes
					    : rules->preconfigured_bytes;
	struct tr_card *card = &out->at[out->count];

	if (is_filtered(&rules->filter, facts) || !has_room(out, facts))
		return 0;
	*card = (struct tr_card){
		.index = facts->index,
		.minor = facts->minor,
		.total_bytes = total,
		/* What the hardware has cut is neither stretched nor shared. */
		.give_bytes = scaled_mib(total, is_instance ? 1.0 : rules->memory_scaling) *
			      MIB,
		.give_cores = is_instance ? 100u
					  : (unsigned)floor(100.0 * rules->core_scaling),
		.split = is_instance ? 1u : rules->split,
		.numa = facts->numa,
		.compute_major = facts->compute_major,
		.gpu_instance = facts->gpu_instance,
		.compute_instance = facts->compute_instance,
		.is_healthy = true,
	};
	if (card->give_bytes == 0) {
		say(out, facts, "it does not tell its memory, and none is configured");
		return 0;
	}
	memcpy(card->uuid, facts->uuid, strlen(facts->uuid) + 1);
	(void)snprintf(card->parent, sizeof(card->parent), "%s", facts->parent);
	(void)snprintf(card->mode, sizeof(card->mode), "%s", rules->mode);
	name_type(card->type, sizeof(card->type), facts->name);
	out->count++;
	return 1;
}
