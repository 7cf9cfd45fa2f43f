/* SPDX-License-Identifier: Apache-2.0 */
#include "tr_test.h"

#include <stdio.h>
#include <string.h>

#include "deviceplugin/cards/health.h"

#define S UINT64_C(1000000000)

static struct tr_health_rules rules;

static int set_up(void **state)
{
	(void)state;
	tr_health_rules_init(&rules);
	return 0;
}

static bool look(struct tr_health *h, enum tr_look_answer answer, uint64_t now)
{
	const struct tr_health_look one = { .answer = answer, .says = "in a test" };

	return tr_health_look(h, &rules, &one, now);
}

static bool errors(struct tr_health *h, uint64_t uncorrected, uint64_t now)
{
	const struct tr_health_look one = { .has_ecc = true,
					    .ecc_uncorrected = uncorrected };

	return tr_health_look(h, &rules, &one, now);
}

/* Good looks, one a second, from FROM on until it is healthy: at which second. */
static uint64_t healed_at(struct tr_health *h, uint64_t from, uint64_t until)
{
	uint64_t at = from;

	while (at < until && h->is_ill) {
		(void)look(h, TR_LOOK_GOOD, at * S);
		at++;
	}
	return at - 1;
}

/* ---- one thing at a time ------------------------------------------------------------- */

static void F35_comes_back(void **state)
{
	struct tr_health h = { 0 };

	(void)state;
	assert_false(look(&h, TR_LOOK_GOOD, 1 * S));
	assert_true(look(&h, TR_LOOK_LOST, 2 * S));
	assert_true(h.is_ill);
	assert_string_equal(h.reason, "it is lost: in a test");
	assert_int_equal(healed_at(&h, 3, 1000),
			 63); /* quiet from the first good look on */
	assert_false(h.is_ill);
	assert_string_equal(h.reason, "");
}

static void test_fails_must_repeat(void **state)
{
	struct tr_health h = { 0 };

	(void)state;
	for (uint64_t i = 1; i < 100; i++)
		assert_false(look(&h, i % 3 ? TR_LOOK_FAILED : TR_LOOK_GOOD, i * S));
	assert_false(look(&h, TR_LOOK_FAILED, 100 * S));
	assert_false(look(&h, TR_LOOK_FAILED, 101 * S));
	assert_true(look(&h, TR_LOOK_FAILED, 102 * S));
	assert_string_equal(h.reason, "it does not answer: in a test");
	/* Said once. */
	assert_false(look(&h, TR_LOOK_FAILED, 103 * S));
}

static void test_needs_reset(void **state)
{
	struct tr_health h = { 0 };

	(void)state;
	assert_true(look(&h, TR_LOOK_NEEDS_RESET, 1 * S));
	for (uint64_t i = 2; i < 2000; i++)
		assert_false(look(&h, TR_LOOK_NEEDS_RESET, i * S));
	assert_int_equal(healed_at(&h, 2000, 9000), 2060);
}

static void test_memory_errors(void **state)
{
	struct tr_health h = { 0 };

	(void)state;
	/* What was there before is nobody's news. */
	assert_false(errors(&h, 7, 1 * S));
	assert_false(errors(&h, 7, 2 * S));
	assert_true(errors(&h, 8, 3 * S));
	assert_string_equal(h.reason, "uncorrected memory errors");
	for (uint64_t i = 4; i < 603; i++)
		assert_false(errors(&h, 8, i * S));
	assert_true(errors(&h, 8, 603 * S));
	/* A driver that was loaded anew counts from zero. */
	assert_false(errors(&h, 0, 604 * S));
	assert_true(errors(&h, 1, 605 * S));
}

static void test_xids(void **state)
{
	static const unsigned by_applications[] = { 13, 31, 43, 45, 68, 109 };
	struct tr_health h = { 0 };

	(void)state;
	for (size_t i = 0; i < TR_COUNT(by_applications); i++)
		assert_false(tr_health_xid(&h, &rules, by_applications[i], 1 * S));
	assert_false(h.is_ill);
	assert_true(tr_health_xid(&h, &rules, 32, 2 * S));
	assert_string_equal(h.reason, "XID 32: a bad command stream");
	assert_true(tr_health_xid(&h, &rules, 79, 3 * S));
	assert_string_equal(h.reason, "XID 79: it has fallen off the bus");
	/* Less grave news does not hide it. */
	assert_false(tr_health_xid(&h, &rules, 999, 4 * S));
	assert_string_equal(h.reason, "XID 79: it has fallen off the bus");
	assert_int_equal(healed_at(&h, 5, 9000), 604);
	/* One that nobody knows passes sooner. */
	h = (struct tr_health){ 0 };
	assert_true(tr_health_xid(&h, &rules, 4000000000u, 1 * S));
	assert_string_equal(h.reason, "XID 4000000000");
	assert_int_equal(healed_at(&h, 2, 9000), 62);
}

static void test_lists(void **state)
{
	static const struct {
		const char *disable, *enable;
		unsigned xid;
		enum tr_xid_weight want;
	} rows[] = {
		{ NULL, NULL, 31, TR_XID_IGNORED },
		{ NULL, NULL, 48, TR_XID_GRAVE },
		{ NULL, NULL, 1023, TR_XID_PASSING },
		{ "", "", 48, TR_XID_GRAVE },
		{ "48, 94", NULL, 48, TR_XID_IGNORED },
		{ "48, 94", NULL, 94, TR_XID_IGNORED },
		{ "48, 94", NULL, 95, TR_XID_GRAVE },
		{ "48", "48", 48, TR_XID_GRAVE },
		{ NULL, "31", 31, TR_XID_PASSING },
		{ NULL, "all", 13, TR_XID_PASSING },
		{ "all", NULL, 79, TR_XID_IGNORED },
		{ "xids", NULL, 79, TR_XID_IGNORED },
		{ "all", "79", 79, TR_XID_GRAVE },
		{ "all", "79", 48, TR_XID_IGNORED },
		{ "xids,13", "13", 13, TR_XID_PASSING },
		{ "all", "all", 31, TR_XID_PASSING },
	};
	struct tr_err err = { 0 };

	(void)state;
	for (size_t i = 0; i < TR_COUNT(rows); i++) {
		tr_health_rules_init(&rules);
		assert_int_equal(
			tr_health_rules_set(&rules, rows[i].disable, rows[i].enable, &err),
			0);
		if (tr_xid_weight(&rules, rows[i].xid) != rows[i].want)
			fail_msg("row %zu", i);
	}
	assert_int_equal(tr_health_rules_set(&rules, "31,x", NULL, &err), -22);
	assert_non_null(strstr(err.msg, "\"x\""));
	assert_int_equal(tr_health_rules_set(&rules, NULL, "1024", &err), -22);
	assert_int_equal(tr_health_rules_set(&rules, NULL, "xids", &err), -22);
}

static void test_off(void **state)
{
	struct tr_health h = { 0 };

	(void)state;
	assert_int_equal(tr_health_rules_set(&rules, "all", "79", NULL), 0);
	assert_false(look(&h, TR_LOOK_LOST, 1 * S));
	assert_false(errors(&h, 1, 2 * S));
	assert_false(errors(&h, 9, 3 * S));
	assert_false(tr_health_xid(&h, &rules, 48, 4 * S));
	assert_false(h.is_ill);
	/* What is checked all the same ends too. */
	assert_true(tr_health_xid(&h, &rules, 79, 5 * S));
	for (uint64_t i = 6; i < 5000 && h.is_ill; i++)
		(void)look(&h, TR_LOOK_LOST, i * S);
	assert_false(h.is_ill);
}

/* ---- any order of events ------------------------------------------------------------- */

static uint64_t chance;

static uint64_t draw(uint64_t below)
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return chance % below;
}

struct story {
	uint64_t now, bad; /* seconds; of the last bad news */
	uint64_t ecc;
	unsigned turns; /* times it became healthy */
};

static void some_event(struct tr_health *h, struct story *s)
{
	static const unsigned grave_or_not[] = { 48, 79, 32, 94, 777 };
	bool was_ill = h->is_ill;
	uint64_t quiet = tr_health_quiet_ns(h, &rules);
	enum tr_look_answer answer = TR_LOOK_GOOD;

	switch (draw(40)) {
	case 0:
		(void)tr_health_xid(h, &rules, grave_or_not[draw(5)], s->now * S);
		assert_true(h->is_ill);
		s->bad = s->now;
		return;
	case 1:
		(void)tr_health_xid(h, &rules, 31, s->now * S);
		assert_int_equal(h->is_ill, was_ill);
		return;
	case 2:
		answer = TR_LOOK_LOST;
		break;
	case 3:
		answer = TR_LOOK_NEEDS_RESET;
		break;
	case 4:
		s->ecc++;
		break;
	case 5:
	case 6:
		answer = TR_LOOK_FAILED;
		break;
	default:
		break;
	}
	const struct tr_health_look look_now = { .answer = answer,
						 .has_ecc = true,
						 .ecc_uncorrected = s->ecc };
	bool is_news = tr_health_look(h, &rules, &look_now, s->now * S);

	if (answer == TR_LOOK_LOST || answer == TR_LOOK_NEEDS_RESET)
		assert_true(h->is_ill);
	if (was_ill && !h->is_ill) {
		/* Never sooner than it has been quiet, and never without being told. */
		assert_true((s->now - s->bad) * S >= quiet);
		assert_true(quiet >= rules.quiet_ns && answer == TR_LOOK_GOOD);
		assert_true(is_news);
		s->turns++;
	}
	if (h->is_ill && answer != TR_LOOK_GOOD)
		s->bad = s->now;
	assert_int_equal(h->is_ill, h->reason[0] != '\0');
}

static void F35_any_story_ends_well(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct tr_health h = { 0 };
		struct story s = { .now = 1 };

		chance = seed * 0x9e3779b97f4a7c15u;
		for (unsigned i = 0; i < 3000; i++, s.now += draw(10) ? 1 : draw(900))
			some_event(&h, &s);
		/* Whatever it was: an hour of good answers ends it. */
		for (unsigned i = 0; i <= 3601; i++)
			(void)errors(&h, s.ecc, s.now++ * S);
		assert_false(h.is_ill);
	}
}

/* A card that falls ill whenever it is healthy again changes ever more rarely. */
static void test_flickering_is_damped(void **state)
{
	struct tr_health h = { 0 };
	unsigned changes = 0;

	(void)state;
	for (uint64_t now = 1; now < 24 * 3600; now++)
		changes += look(&h, h.is_ill ? TR_LOOK_GOOD : TR_LOOK_LOST, now * S);
	/* 60 s doubled to an hour is 6 steps of 2 changes; then 2 an hour. */
	assert_in_range(changes, 24, 2 * 6 + 2 * 24);
	/* A good day is forgiven. */
	(void)healed_at(&h, 24 * 3600, 28 * 3600);
	assert_true(look(&h, TR_LOOK_LOST, 48 * 3600 * S));
	assert_int_equal(tr_health_quiet_ns(&h, &rules), 60 * S);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(F35_comes_back, set_up),
		cmocka_unit_test_setup(test_fails_must_repeat, set_up),
		cmocka_unit_test_setup(test_needs_reset, set_up),
		cmocka_unit_test_setup(test_memory_errors, set_up),
		cmocka_unit_test_setup(test_xids, set_up),
		cmocka_unit_test_setup(test_lists, set_up),
		cmocka_unit_test_setup(test_off, set_up),
		cmocka_unit_test_setup(F35_any_story_ends_well, set_up),
		cmocka_unit_test_setup(test_flickering_is_damped, set_up),
	};

	return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
