/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of a node. First byte: 'c' HAMi's file by node, 'x' lists of XIDs, 'f' a card to leave out,
 * 'i' an id that comes back from the kubelet.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/cards/health.h"
#include "deviceplugin/cards/node_config.h"
#include "deviceplugin/cards/offer.h"
#include "fuzz.h"
#include "naive.h"

#define TEXT_MAX 4096u

/* What is refused changes nothing; what is taken can be given out. */
static void try_config(const char *text, size_t n)
{
	struct tr_card_rules rules = TR_CARD_RULES_DEFAULT, before = rules;
	struct tr_node_settings settings = { .rules = &rules };
	struct tr_err err = { 0 };
	int r = tr_node_config_parse(text, n, "a", &settings, &err);

	CHECK(r == 0 || (r == -EBADMSG && err.msg[0]));
	CHECK(r == 0 || memcmp(&rules, &before, sizeof(rules)) == 0);
	CHECK(tr_card_rules_check(&rules, NULL) == 0);
	CHECK(rules.filter.uuid_count <= TR_FILTER_MAX &&
	      rules.filter.index_count <= TR_FILTER_MAX);
	CHECK(strcmp(rules.mode, "hami-core") == 0);
}

static void try_xids(const char *text)
{
	struct tr_health_rules rules, before;
	struct tr_err err = { 0 };
	int r;

	tr_health_rules_init(&rules);
	before = rules;
	r = tr_health_rules_set(&rules, text, NULL, &err);
	CHECK(r == 0 || (r == -EINVAL && err.msg[0]));
	CHECK(r == 0 || memcmp(&rules, &before, sizeof(rules)) == 0);
	tr_health_rules_init(&rules);
	r = tr_health_rules_set(&rules, NULL, text, &err);
	/* What is enabled is judged, whatever is disabled beside it. */
	for (unsigned xid = 0; r == 0 && xid < TR_XID_MAX; xid++)
		if (rules.checked[xid / 64] >> xid % 64 & 1)
			CHECK(tr_xid_weight(&rules, xid) != TR_XID_IGNORED);
}

static void try_filter(const char *text)
{
	struct tr_card_filter filter = { 0 };
	int r = tr_card_filter_add(&filter, text, NULL);

	CHECK(r == 0 || r == -EINVAL);
	CHECK(filter.uuid_count + filter.index_count == (r == 0));
	CHECK(r < 0 || !filter.uuid_count || strcmp(filter.uuids[0], text) == 0);
}

/* An id is some card's exactly when it is one that could be offered. */
static void try_id(const char *text)
{
	static const char uuid[] = "GPU-aaaaaaaa-0000-0000-0000-000000000001";
	static struct tr_cards cards;
	const struct tr_card *card;
	size_t n = strlen(uuid);

	cards.count = 1;
	memcpy(cards.at[0].uuid, uuid, sizeof(uuid));
	card = tr_offer_card(&cards, text);
	CHECK(!card == !(strncmp(text, uuid, n) == 0 && text[n] == '-' && text[n + 1] &&
			 !text[n + 1 + strspn(text + n + 1, "0123456789")]));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char text[TEXT_MAX];

	if (n < 1 || n > sizeof(text))
		return 0;
	memcpy(text, bytes + 1, n - 1);
	text[n - 1] = '\0';
	if (bytes[0] == 'c')
		try_config(text, n - 1);
	else if (bytes[0] == 'x')
		try_xids(text);
	else if (bytes[0] == 'f')
		try_filter(text);
	else if (bytes[0] == 'i')
		try_id(text);
	return 0;
}
