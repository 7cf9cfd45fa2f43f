/* SPDX-License-Identifier: Apache-2.0 */
/* What cards become: amounts, ids, the register annotation, preferences, pair scores. */
#include "tr_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/cards/offer.h"
#include "deviceplugin/cards/register.h"
#include "deviceplugin/cards/scores.h"
#include "kube/node_devices.h"
#include "tranche/names.h"

static const struct tr_card_rules plain = TR_CARD_RULES_DEFAULT;

static struct tr_card_facts facts(unsigned index, char uuid[static 48])
{
	(void)snprintf(uuid, 48, "GPU-%08x-0000-0000-0000-000000000000", index);
	return (struct tr_card_facts){
		.uuid = uuid,
		.name = "NVIDIA H100 80GB HBM3",
		.parent = "",
		.index = index,
		.minor = (int)index,
		.numa = (int)index % 2,
		.compute_major = 9,
		.total_bytes = UINT64_C(81559) << 20,
	};
}

static struct tr_cards *make(unsigned count, const struct tr_card_rules *rules)
{
	struct tr_cards *cards = calloc(1, sizeof(*cards));
	char uuid[48];

	assert_non_null(cards);
	for (unsigned i = 0; i < count; i++) {
		struct tr_card_facts f = facts(i, uuid);

		(void)tr_cards_add(cards, &f, rules);
	}
	return cards;
}

/* ---- a card -------------------------------------------------------------------------- */

static void test_amounts(void **state)
{
	static const struct {
		const char *name;
		uint64_t bytes, preconfigured;
		double memory, core;
		int want;
		const char *type;
		uint64_t give_mib;
		unsigned cores;
	} rows[] = {
		{ "NVIDIA L4", 100 << 20, 0, 1.0, 1.0, 1, "NVIDIA L4", 100, 100 },
		{ "Tesla T4", (100 << 20) + 5, 0, 1.5, 2.0, 1, "NVIDIA-Tesla T4", 150,
		  200 },
		{ "Tesla T4", 3 << 20, 0, 0.5, 0.5, 1, "NVIDIA-Tesla T4", 1, 50 },
		{ "NVIDIA GB10", 0, 7 << 20, 2.0, 1.0, 1, "NVIDIA GB10", 14, 100 },
		{ "NVIDIA GB10", 0, 0, 1.0, 1.0, 0, "", 0, 0 },
		{ "NVIDIA a,b:c;d\"e\x01\xff", 1 << 20, 0, 1.0, 1.0, 1,
		  "NVIDIA a_b_c_d_e__", 1, 100 },
		{ "NVIDIA X", UINT64_MAX, 0, 100.0, 1.0, 1, "NVIDIA X", INT32_MAX, 100 },
	};

	(void)state;
	for (size_t i = 0; i < TR_COUNT(rows); i++) {
		struct tr_cards *cards = calloc(1, sizeof(*cards));
		struct tr_card_rules rules = plain;
		char uuid[48];
		struct tr_card_facts f = facts(3, uuid);

		f.name = rows[i].name;
		f.total_bytes = rows[i].bytes;
		rules.preconfigured_bytes = rows[i].preconfigured;
		rules.memory_scaling = rows[i].memory;
		rules.core_scaling = rows[i].core;
		assert_int_equal(tr_cards_add(cards, &f, &rules), rows[i].want);
		assert_string_equal(cards->at[0].type, rows[i].want ? rows[i].type : "");
		assert_int_equal(cards->count, rows[i].want);
		assert_int_equal(cards->reason[0] != '\0', !rows[i].want);
		if (rows[i].want) {
			assert_int_equal(cards->at[0].give_bytes, rows[i].give_mib << 20);
			assert_int_equal(cards->at[0].give_cores, rows[i].cores);
			assert_int_equal(cards->at[0].split, 10);
			assert_true(cards->at[0].is_healthy);
		}
		free(cards);
	}
}

static void test_filter(void **state)
{
	struct tr_card_rules rules = plain;
	struct tr_cards *cards;
	struct tr_err err = { 0 };

	(void)state;
	assert_int_equal(tr_card_filter_add(&rules.filter, "1", &err), 0);
	assert_int_equal(tr_card_filter_add(&rules.filter,
					    "GPU-00000002-0000-0000-0000-000000000000",
					    &err),
			 0);
	assert_int_equal(tr_card_filter_add(&rules.filter, "", &err), -EINVAL);
	assert_int_equal(tr_card_filter_add(&rules.filter, "-1", &err), -EINVAL);
	assert_int_equal(tr_card_filter_add(&rules.filter, "gpu0", &err), -EINVAL);
	cards = make(4, &rules);
	assert_int_equal(cards->count, 2);
	assert_int_equal(cards->at[0].index, 0);
	assert_int_equal(cards->at[1].index, 3);
	free(cards);
}

static void test_rules(void **state)
{
	static const struct {
		unsigned split;
		double memory, core;
		int want;
	} rows[] = {
		{ 10, 1.0, 1.0, 0 },      { 1, 0.01, 100.0, 0 },
		{ 0, 1.0, 1.0, -EINVAL }, { 256, 1.0, 1.0, -EINVAL },
		{ 1, 0.0, 1.0, -EINVAL }, { 1, -1.0, 1.0, -EINVAL },
		{ 1, 1.0, 1e9, -EINVAL }, { 1, 0.0 / 1.0, 1.0, -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < TR_COUNT(rows); i++) {
		struct tr_card_rules rules = { .split = rows[i].split,
					       .memory_scaling = rows[i].memory,
					       .core_scaling = rows[i].core };

		assert_int_equal(tr_card_rules_check(&rules, NULL), rows[i].want);
	}
}

static void test_instances(void **state)
{
	struct tr_card_rules rules = plain;
	struct tr_cards *cards = calloc(1, sizeof(*cards));
	struct tr_plugin_device ids[2];
	char uuid[48];
	struct tr_card_facts f = facts(0, uuid);

	(void)state;
	rules.memory_scaling = 4.0;
	f.parent = "GPU-1";
	f.uuid = "MIG-41b1ee9e-2b5f-58d5-a1f0-2d0e5d0b8a11";
	f.total_bytes = 9 << 20;
	assert_int_equal(tr_cards_add(cards, &f, &rules), 1);
	assert_int_equal(cards->at[0].give_bytes, 9 << 20);
	assert_int_equal(tr_offer_list(cards, true, ids, 2), 1);
	assert_string_equal(ids[0].id, f.uuid);
	assert_ptr_equal(tr_offer_card(cards, f.uuid), &cards->at[0]);
	assert_null(tr_offer_card(cards, "MIG-41b1ee9e-2b5f-58d5-a1f0-2d0e5d0b8a11-0"));
	free(cards);
}

/* ---- ids ----------------------------------------------------------------------------- */

static void test_ids(void **state)
{
	struct tr_cards *cards = make(2, &plain);
	struct tr_plugin_device ids[20];
	struct tr_device_set set = { 0 };

	(void)state;
	cards->at[1].is_healthy = false;
	assert_int_equal(tr_offer_count(cards), 20);
	assert_int_equal(tr_offer_list(cards, false, ids, 0), 20);
	assert_int_equal(tr_offer_list(cards, true, ids, 20), 20);
	assert_string_equal(ids[0].id, "GPU-00000000-0000-0000-0000-000000000000-0");
	assert_string_equal(ids[19].id, "GPU-00000001-0000-0000-0000-000000000000-9");
	assert_true(ids[9].is_healthy && !ids[10].is_healthy);
	assert_int_equal(ids[10].numa_node, 1);
	assert_int_equal(tr_device_set_fill(&set, ids, 20, NULL), 1);
	tr_device_set_free(&set);
	(void)tr_offer_list(cards, false, ids, 20);
	assert_int_equal(ids[10].numa_node, -1);
	for (size_t i = 0; i < 20; i++)
		assert_ptr_equal(tr_offer_card(cards, ids[i].id), &cards->at[i / 10]);
	assert_null(tr_offer_card(cards, "GPU-00000000-0000-0000-0000-000000000000"));
	assert_null(tr_offer_card(cards, "GPU-00000000-0000-0000-0000-000000000000-"));
	assert_null(tr_offer_card(cards, "GPU-00000000-0000-0000-0000-000000000000-x"));
	assert_null(tr_offer_card(cards, ""));
	assert_true(tr_offer_has(cards, ids[19].id));
	cards->at[1].split = 9;
	assert_false(tr_offer_has(cards, ids[19].id));
	assert_true(tr_offer_has(cards, ids[18].id) && tr_offer_has(cards, ids[9].id));
	assert_false(tr_offer_has(cards, "GPU-gone-0"));
	free(cards);
}

static void test_64_gpus(void **state)
{
	struct tr_card_rules rules = plain;
	struct tr_plugin_device *ids = calloc(TR_DEVICES_MOST, sizeof(*ids));
	struct tr_device_set set = { 0 };
	struct tr_cards *cards;
	char uuid[48];
	struct tr_card_facts one_more = facts(64, uuid);
	size_t n;

	(void)state;
	rules.split = 255;
	cards = make(64, &rules);
	assert_int_equal(cards->count, 64);
	n = tr_offer_list(cards, true, ids, TR_DEVICES_MOST);
	assert_int_equal(n, 64 * 255);
	assert_int_equal(tr_device_set_fill(&set, ids, n, NULL), 1);
	assert_int_equal(tr_cards_add(cards, &one_more, &rules), 0);
	assert_non_null(strstr(cards->reason, "too many"));
	tr_device_set_free(&set);
	free(cards);
	free(ids);
}

/* ---- preferences --------------------------------------------------------------------- */

#define IDS_MAX 64

/* "0:0-3 2:5" are ids 0 to 3 of card 0 and id 5 of card 2. */
static size_t parse_ids(const char *text, char ids[IDS_MAX][TR_DEVICE_ID])
{
	unsigned card, first, last;
	size_t n = 0;
	int used;

	while (sscanf(text, " %u:%u%n", &card, &first, &used) == 2) {
		last = first;
		text += used;
		if (sscanf(text, "-%u%n", &last, &used) == 1)
			text += used;
		for (; first <= last && n < IDS_MAX; first++)
			(void)snprintf(ids[n++], TR_DEVICE_ID,
				       "GPU-%08x-0000-0000-0000-000000000000-%u", card,
				       first);
	}
	return n;
}

static const struct prefer_row {
	const char *name, *available, *needed;
	size_t size;
	const char *wanted; /* cards; "": by itself */
	const char *want;   /* cards of the ids chosen, in order; "": refused */
	int r;
} prefer_rows[] = {
	{ "one: of the least used card", "0:0-1 1:0-4 2:0-2", "", 1, "", "1", 0 },
	{ "three from two cards", "0:0-1 2:0-4", "", 3, "", "2 0 2", 0 },
	{ "one NUMA node for both", "0:0-1 1:0-8 2:0-2", "", 2, "", "2 0", 0 },
	{ "none has enough", "0:0-1 1:0-8", "", 2, "", "1 0", 0 },
	{ "the needed one first", "0:0-1 1:0-8", "0:1", 2, "", "0 1", 0 },
	{ "all", "0:0-1 1:0", "", 3, "", "0 1 0", 0 },
	{ "as decided", "0:0-1 1:0-8 2:0-3", "", 2, "2 0", "2 0", 0 },
	{ "as decided, twice the same", "0:0-1 1:0-8", "", 2, "0 0", "0 0", 0 },
	{ "decided, and one of it is needed", "0:0-1 1:0-8", "0:0", 2, "1 0", "0 1", 0 },
	{ "decided, and another is needed", "0:0-1 1:0-8 2:0", "2:0", 2, "1 0", "",
	  -ENOENT },
	{ "decided, none left", "1:0-8", "", 1, "0", "", -ENOENT },
	{ "decided, no such card", "1:0-8", "", 1, "9", "", -ENOENT },
	{ "decided fewer", "1:0-8", "", 2, "1", "", -EINVAL },
	{ "too many", "0:0-1", "", 3, "", "", -EINVAL },
	{ "needs what there is not", "0:0-1", "1:0", 1, "", "", -EINVAL },
	{ "not offered", "7:0", "", 1, "", "", -EINVAL },
};

static void test_prefer(void **state)
{
	const struct prefer_row *row = *state;
	static char available[IDS_MAX][TR_DEVICE_ID], needed[IDS_MAX][TR_DEVICE_ID];
	const char *available_ids[IDS_MAX], *needed_ids[IDS_MAX], *out[IDS_MAX];
	char wanted[8][48], told[64] = "";
	const char *wanted_ids[8];
	size_t wanted_count = 0;
	struct tr_preference p = {
		.available = { available_ids, parse_ids(row->available, available) },
		.needed = { needed_ids, parse_ids(row->needed, needed) },
		.size = row->size,
	};
	struct tr_cards *cards = make(3, &plain);
	struct tr_err err = { 0 };
	int r;

	for (size_t i = 0; i < IDS_MAX; i++) {
		available_ids[i] = available[i];
		needed_ids[i] = needed[i];
	}
	for (const char *at = row->wanted; *at; at += at[1] ? 2 : 1) {
		(void)facts((unsigned)(*at - '0'), wanted[wanted_count]);
		wanted_ids[wanted_count] = wanted[wanted_count];
		wanted_count++;
	}
	r = tr_offer_prefer(cards, &p, row->wanted[0] ? wanted_ids : NULL, wanted_count,
			    out, &err);
	assert_int_equal(r, row->r);
	for (size_t i = 0; r == 0 && i < p.size; i++)
		(void)snprintf(told + strlen(told), sizeof(told) - strlen(told), "%s%u",
			       i ? " " : "", tr_offer_card(cards, out[i])->index);
	assert_string_equal(told, row->want);
	assert_int_equal(err.code, -r);
	for (size_t i = 0; r == 0 && i < p.size; i++)
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(out[i], out[k]);
	free(cards);
}

/* ---- pair scores --------------------------------------------------------------------- */

static void link_to(struct tr_card_links *card, const char *remote, unsigned count,
		    bool is_switch)
{
	for (unsigned i = 0; i < count; i++) {
		struct tr_gpu_link *link = &card->links[card->link_count++];

		(void)snprintf(link->remote, sizeof(link->remote), "%s", remote);
		link->is_switch = is_switch;
	}
}

static void test_scores(void **state)
{
	struct tr_card_links cards[3] = {
		{ .uuid = "GPU-a", .bus_id = "00000000:01:00.0" },
		{ .uuid = "GPU-b", .bus_id = "00000000:0A:00.0" },
		{ .uuid = "GPU-c", .bus_id = "00000000:03:00.0" },
	};
	struct tr_buf out = { 0 };
	struct tr_err err = { 0 };
	char odd[200];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		for (unsigned k = 0; k < 3; k++)
			cards[i].near[k] = TR_GPU_NEAR_SYSTEM;
	cards[0].near[1] = cards[1].near[0] = TR_GPU_NEAR_SWITCH;
	link_to(&cards[0], "00000000:0a:00.0", 4, false);
	link_to(&cards[1], "00000000:01:00.0", 4, false);
	link_to(&cards[1], "00000000:03:00.0", 1, false); /* c knows nothing of it */
	assert_int_equal(tr_scores_print(cards, 3, &out, odd, sizeof(odd), &err), 0);
	assert_string_equal(out.p,
			    "[{\"uuid\":\"GPU-a\",\"score\":{\"GPU-b\":450,\"GPU-c\":10}},"
			    "{\"uuid\":\"GPU-b\",\"score\":{\"GPU-a\":450,\"GPU-c\":0}},"
			    "{\"uuid\":\"GPU-c\",\"score\":{\"GPU-a\":10,\"GPU-b\":0}}]");
	assert_non_null(strstr(odd, "GPU-c"));
	/* Through switches: as many as the one with fewer has. */
	tr_buf_clear(&out);
	for (unsigned i = 0; i < 3; i++) {
		cards[i].link_count = 0;
		link_to(&cards[i], "00000000:c0:00.0", 6 * (i + 1), true);
		for (unsigned k = 0; k < 3; k++)
			cards[i].near[k] = TR_GPU_NEAR_NODE;
	}
	assert_int_equal(tr_scores_print(cards, 2, &out, odd, sizeof(odd), &err), 0);
	assert_string_equal(out.p, "[{\"uuid\":\"GPU-a\",\"score\":{\"GPU-b\":620}},"
				   "{\"uuid\":\"GPU-b\",\"score\":{\"GPU-a\":620}}]");
	assert_string_equal(odd, "");
	cards[1].near[0] = TR_GPU_NEAR_UNKNOWN;
	assert_int_equal(tr_scores_print(cards, 2, &out, odd, sizeof(odd), &err), -ENODATA);
	assert_non_null(strstr(err.msg, "how near"));
	tr_buf_free(&out);
}

#define ANNOTATIONS_MAX 262144u /* bytes of all names and values of one object */
#define LEFT_TO_OTHERS  32768u

/* The most that 64 GPUs can have to say: the best link between any two, and the longest ids. */
static void test_scores_of_64(void **state)
{
	static struct tr_card_links links[TR_GPUS_MAX];
	static char uuids[TR_GPUS_MAX][48];
	struct tr_cards *cards = make(TR_GPUS_MAX, &plain);
	struct tr_buf scores = { 0 }, rows = { 0 };
	struct tr_pair_scores back;
	struct tr_err err = { 0 };

	(void)state;
	for (unsigned i = 0; i < TR_GPUS_MAX; i++) {
		(void)facts(i, uuids[i]);
		links[i].uuid = uuids[i];
		memset(links[i].near, TR_GPU_NEAR_BOARD, sizeof(links[i].near));
		memset(cards->at[i].type, 'x', sizeof(cards->at[i].type) - 1);
		link_to(&links[i], "00000000:c0:00.0", TR_GPU_LINKS_MAX, true);
	}
	assert_int_equal(tr_scores_print(links, TR_GPUS_MAX, &scores, NULL, 0, &err), 0);
	assert_int_equal(tr_register_print(cards, &rows), 0);
	assert_in_range(scores.n + rows.n + strlen(TR_NODE_SCORES) +
				strlen(TR_NODE_REGISTER),
			0, ANNOTATIONS_MAX - LEFT_TO_OTHERS);
	assert_int_equal(tr_pair_scores_parse(&back, scores.p, &err), 0);
	assert_int_equal(back.count, TR_GPUS_MAX * (TR_GPUS_MAX - 1));
	for (size_t i = 0; i < back.count; i++) {
		size_t from = i / (TR_GPUS_MAX - 1), to = i % (TR_GPUS_MAX - 1);

		assert_string_equal(back.at[i].from, uuids[from]);
		assert_string_equal(back.at[i].to, uuids[to + (to >= from)]);
		assert_int_equal(back.at[i].score, 60 + 18 * 100);
	}
	tr_pair_scores_free(&back);
	tr_buf_free(&scores);
	tr_buf_free(&rows);
	free(cards);
}

int main(void)
{
	const struct CMUnitTest fixed[] = {
		cmocka_unit_test(test_amounts), cmocka_unit_test(test_filter),
		cmocka_unit_test(test_rules),   cmocka_unit_test(test_instances),
		cmocka_unit_test(test_ids),     cmocka_unit_test(test_64_gpus),
		cmocka_unit_test(test_scores),  cmocka_unit_test(test_scores_of_64),
	};
	struct CMUnitTest rows[TR_COUNT(prefer_rows)] = { { 0 } };
	int failed;

	for (size_t i = 0; i < TR_COUNT(prefer_rows); i++)
		rows[i] = (struct CMUnitTest){ prefer_rows[i].name, test_prefer, NULL, NULL,
					       (void *)(uintptr_t)&prefer_rows[i] };
	failed = cmocka_run_group_tests_name("cards", fixed, NULL, NULL);
	return failed + cmocka_run_group_tests_name("preferences", rows, NULL, NULL);
}
