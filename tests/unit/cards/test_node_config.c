/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <errno.h>
#include <string.h>

#include "deviceplugin/cards/node_config.h"

#define IN_NODE(entry) "{\"nodeconfig\":[{\"name\":\"a\"," entry "}]}"

static const struct row {
	const char *name, *text;
	const char *says; /* of what is refused; NULL: it is taken */
	unsigned entries;
} rows[] = {
	{ "empty", "{}", NULL, 0 },
	{ "null", "{\"nodeconfig\":null}", NULL, 0 },
	{ "another node", "{\"nodeconfig\":[{\"name\":\"b\",\"devicesplitcount\":0}]}",
	  NULL, 0 },
	{ "unknown keys", IN_NODE("\"future\":[{}]"), NULL, 1 },
	{ "ignored strategy", IN_NODE("\"migstrategy\":\"mixed\""), NULL, 1 },
	{ "nulls", IN_NODE("\"devicesplitcount\":null,\"filterdevices\":null"), NULL, 1 },
	{ "not JSON", "{\"nodeconfig\":[", "line 1", 0 },
	{ "not an object", "[]", "nodeconfig", 0 },
	{ "not a list", "{\"nodeconfig\":{}}", "nodeconfig", 0 },
	{ "no name", "{\"nodeconfig\":[{}]}", "nodeconfig[0]: name", 0 },
	{ "entry is a number", "{\"nodeconfig\":[1]}", "nodeconfig[0]: name", 0 },
	{ "split is a text", IN_NODE("\"devicesplitcount\":\"3\""), "devicesplitcount", 0 },
	{ "split of none", IN_NODE("\"devicesplitcount\":0"), "not by 0", 0 },
	{ "split too large", IN_NODE("\"devicesplitcount\":1000"), "devicesplitcount", 0 },
	{ "split with a fraction", IN_NODE("\"devicesplitcount\":1.5"), "devicesplitcount",
	  0 },
	{ "scaling is negative", IN_NODE("\"devicememoryscaling\":-1"), "memory scaling",
	  0 },
	{ "scaling is huge", IN_NODE("\"devicecorescaling\":1e300"), "core scaling", 0 },
	{ "unknown mode", IN_NODE("\"operatingmode\":\"mig\""), "operatingmode", 0 },
	{ "filter is a list", IN_NODE("\"filterdevices\":[]"), "filterdevices", 0 },
	{ "filter of a bad index", IN_NODE("\"filterdevices\":{\"index\":[-1]}"),
	  "filterdevices", 0 },
	{ "filter of a bad uuid", IN_NODE("\"filterdevices\":{\"uuid\":[\"x\"]}"),
	  "filterdevices", 0 },
	{ "an index as a uuid", IN_NODE("\"filterdevices\":{\"uuid\":[\"0\"]}"),
	  "filterdevices", 0 },
	{ "a key twice", IN_NODE("\"x\":1,\"x\":2"), "line 1", 0 },
	{ "the second entry is bad",
	  "{\"nodeconfig\":[{\"name\":\"a\",\"devicesplitcount\":4},"
	  "{\"name\":\"a\",\"enablenumatopology\":1}]}",
	  "nodeconfig[1]: enablenumatopology", 0 },
};

static void test_row(void **state)
{
	const struct row *row = *state;
	struct tr_card_rules rules = TR_CARD_RULES_DEFAULT;
	struct tr_node_settings settings = { .rules = &rules };
	struct tr_err err = { 0 };
	int r = tr_node_config_parse(row->text, strlen(row->text), "a", &settings, &err);

	assert_int_equal(r, row->says ? -EBADMSG : 0);
	if (row->says && !strstr(err.msg, row->says))
		fail_msg("%s", err.msg);
	assert_int_equal(settings.entries, row->entries);
	assert_int_equal(rules.split, 10); /* nothing changed */
	assert_string_equal(rules.mode, "hami-core");
}

static void test_all(void **state)
{
	static const char text[] =
		"{\"nodeconfig\":[{\"name\":\"a\",\"operatingmode\":\"hami-core\","
		"\"devicememoryscaling\":1.5,\"devicecorescaling\":2,\"devicesplitcount\":"
		"5,"
		"\"preconfigureddevicememory\":8192,\"libcudaloglevel\":\"1\","
		"\"enablenumatopology\":true,\"migstrategy\":\"none\","
		"\"filterdevices\":{\"uuid\":[\"GPU-1\"],\"index\":[0,7]},"
		"\"enablegetpreferredallocation\":true},"
		"{\"name\":\"a\",\"devicesplitcount\":6,\"filterdevices\":{}}]}";
	struct tr_card_rules rules = TR_CARD_RULES_DEFAULT;
	struct tr_node_settings settings = { .rules = &rules };
	struct tr_err err = { 0 };

	(void)state;
	assert_int_equal(tr_node_config_parse(text, sizeof(text) - 1, "a", &settings, &err),
			 0);
	assert_int_equal(settings.entries, 2);
	assert_true(settings.is_prefer_given && settings.is_preferred);
	assert_true(settings.is_log_given);
	assert_string_equal(settings.log_level, "1");
	assert_true(rules.memory_scaling > 1.49 && rules.memory_scaling < 1.51);
	assert_true(rules.core_scaling > 1.99 && rules.core_scaling < 2.01);
	assert_int_equal(rules.split, 6);
	assert_int_equal(rules.preconfigured_bytes, UINT64_C(8) << 30);
	assert_true(rules.is_numa_told);
	assert_int_equal(rules.filter.uuid_count, 1);
	assert_string_equal(rules.filter.uuids[0], "GPU-1");
	assert_int_equal(rules.filter.index_count, 2);
	assert_int_equal(rules.filter.indexes[1], 7);
	assert_int_equal(
		tr_node_config_read("/nonexistent/config.json", "a", &settings, &err),
		-ENOENT);
}

int main(void)
{
	struct CMUnitTest tests[TR_COUNT(rows) + 1] = { { 0 } };

	for (size_t i = 0; i < TR_COUNT(rows); i++)
		tests[i] = (struct CMUnitTest){ rows[i].name, test_row, NULL, NULL,
						(void *)(uintptr_t)&rows[i] };
	tests[TR_COUNT(rows)] = (struct CMUnitTest)cmocka_unit_test(test_all);
	return cmocka_run_group_tests_name("node config", tests, NULL, NULL);
}
