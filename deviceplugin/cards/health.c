/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/cards/health.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kube/words.h"
#include "rt/sat.h"

#define SECOND_NS UINT64_C(1000000000)

/* ---- XIDs ---------------------------------------------------------------------------- */

static const struct {
	unsigned xid;
	enum tr_xid_weight weight;
	const char *says;
} xids[] = {
#define TR_XID(number, weight, says) { number, TR_XID_##weight, says },
#include "deviceplugin/cards/xid.def"
#undef TR_XID
};

static size_t find_xid(unsigned xid)
{
	size_t i = 0;

	while (i < sizeof(xids) / sizeof(*xids) && xids[i].xid != xid)
		i++;
	return i;
}

const char *tr_xid_says(unsigned xid)
{
	size_t i = find_xid(xid);

	return i < sizeof(xids) / sizeof(*xids) ? xids[i].says : "";
}

static bool has(const uint64_t *set, unsigned xid)
{
	return xid < TR_XID_MAX && set[xid / 64] >> xid % 64 & 1;
}

static void put(uint64_t *set, unsigned xid)
{
	set[xid / 64] |= UINT64_C(1) << xid % 64;
}

void tr_health_rules_init(struct tr_health_rules *rules)
{
	*rules = (struct tr_health_rules){
		.fails = 3,
		.quiet_ns = 60 * SECOND_NS,
		.quiet_most_ns = 3600 * SECOND_NS,
		.grave_ns = 600 * SECOND_NS,
		.relapse_ns = 3600 * SECOND_NS,
	};
	for (size_t i = 0; i < sizeof(xids) / sizeof(*xids); i++)
		if (xids[i].weight == TR_XID_IGNORED)
			put(rules->ignored, xids[i].xid);
}

static bool is_word(const char *entry, size_t n, const char *word)
{
	return n == strlen(word) && memcmp(entry, word, n) == 0;
}

static int put_number(uint64_t *set, const char *entry, size_t n, struct tr_err *err)
{
	uint64_t xid;

	if (tr_word_number(entry, n, TR_XID_MAX - 1, &xid) < 0)
		return tr_fail(err, EINVAL,
			       "an XID is a number below %d, or \"all\", not \"%.*s\"",
			       TR_XID_MAX, (int)(n < 40 ? n : 40), entry);
	put(set, (unsigned)xid);
	return 0;
}

int tr_health_rules_set(struct tr_health_rules *rules, const char *disable,
			const char *enable, struct tr_err *err)
{
	struct tr_health_rules next = *rules;
	const char *entry;
	size_t n;

	for (const char *at = disable ? disable : ""; tr_list_next(&at, &entry, &n);) {
		if (is_word(entry, n, "all"))
			next.is_off = true;
		else if (is_word(entry, n, "xids"))
			next.is_xid_off = true;
		else if (put_number(next.ignored, entry, n, err) < 0)
			return -EINVAL;
	}
	for (const char *at = enable ? enable : ""; tr_list_next(&at, &entry, &n);) {
		if (is_word(entry, n, "all"))
			memset(next.checked, 0xff, sizeof(next.checked));
		else if (put_number(next.checked, entry, n, err) < 0)
			return -EINVAL;
	}
	*rules = next;
	return 0;
}

enum tr_xid_weight tr_xid_weight(const struct tr_health_rules *rules, unsigned xid)
{
	size_t i = find_xid(xid);
	enum tr_xid_weight known = i < sizeof(xids) / sizeof(*xids) ? xids[i].weight
								    : TR_XID_PASSING;

	if (has(rules->checked, xid))
		return known == TR_XID_GRAVE ? TR_XID_GRAVE : TR_XID_PASSING;
	if (rules->is_off || rules->is_xid_off || has(rules->ignored, xid))
		return TR_XID_IGNORED;
	return known == TR_XID_IGNORED ? TR_XID_PASSING : known;
}

/* ---- ill and healthy ----------------------------------------------------------------- */

uint64_t tr_health_quiet_ns(const struct tr_health *h, const struct tr_health_rules *rules)
{
	uint64_t ns = rules->quiet_ns;

	for (unsigned i = 0; i < h->relapses && ns < rules->quiet_most_ns; i++)
		ns = tr_sat_mul(ns, 2);
	if (ns > rules->quiet_most_ns)
		ns = rules->quiet_most_ns;
	return h->is_grave && ns < rules->grave_ns ? rules->grave_ns : ns;
}

static bool say(struct tr_health *h, const char *reason)
{
	bool is_new = strcmp(h->reason, reason) != 0;

	(void)snprintf(h->reason, sizeof(h->reason), "%s", reason);
	return is_new;
}

/* Bad news. */
static bool fall_ill(struct tr_health *h, const struct tr_health_rules *rules,
		     bool is_grave, const char *reason, uint64_t now_ns)
{
	bool was_ill = h->is_ill;

	if (!was_ill) {
		bool is_relapse = h->healed_ns &&
				  tr_sat_sub(now_ns, h->healed_ns) < rules->relapse_ns;

		h->relapses = is_relapse ? h->relapses + (h->relapses < 32) : 0;
		h->is_grave = false;
	}
	h->is_ill = true;
	h->bad_ns = now_ns;
	/* Lesser news does not hide what is worse. */
	if (was_ill && h->is_grave && !is_grave)
		return false;
	h->is_grave = is_grave;
	return say(h, reason) || !was_ill;
}

bool tr_health_xid(struct tr_health *h, const struct tr_health_rules *rules, unsigned xid,
		   uint64_t now_ns)
{
	enum tr_xid_weight weight = tr_xid_weight(rules, xid);
	const char *says = tr_xid_says(xid);
	char reason[sizeof(h->reason)];

	if (weight == TR_XID_IGNORED)
		return false;
	(void)snprintf(reason, sizeof(reason), "XID %u%s%s", xid, says[0] ? ": " : "",
		       says);
	h->good_ns = 0; /* what is heard from now on counts */
	return fall_ill(h, rules, weight == TR_XID_GRAVE, reason, now_ns);
}

static bool is_rising(struct tr_health *h, const struct tr_health_look *look)
{
	bool rises = look->has_ecc && h->has_ecc &&
		     look->ecc_uncorrected > h->ecc_uncorrected;

	if (look->has_ecc) {
		h->has_ecc = true;
		h->ecc_uncorrected = look->ecc_uncorrected;
	}
	return rises;
}

static bool look_bad(struct tr_health *h, const struct tr_health_rules *rules,
		     const struct tr_health_look *look, uint64_t now_ns)
{
	static const char *const what[] = {
		[TR_LOOK_GOOD] = "",
		[TR_LOOK_FAILED] = "it does not answer",
		[TR_LOOK_LOST] = "it is lost",
		[TR_LOOK_NEEDS_RESET] = "it needs a reset",
	};
	const char *says = look->says ? look->says : "";
	char reason[sizeof(h->reason)];

	h->good_ns = 0;
	if (h->fails < rules->fails)
		h->fails++;
	/* By chance: of a healthy one too little, of an ill one enough. */
	if (look->answer == TR_LOOK_FAILED && h->fails < rules->fails && !h->is_ill)
		return false;
	(void)snprintf(reason, sizeof(reason), "%s%s%.120s", what[look->answer],
		       says[0] ? ": " : "", says);
	/* A lost device that is found again was reset: that it answers is proof enough. */
	return fall_ill(h, rules, false, reason, now_ns);
}

bool tr_health_look(struct tr_health *h, const struct tr_health_rules *rules,
		    const struct tr_health_look *look, uint64_t now_ns)
{
	bool rises = is_rising(h, look) && !rules->is_off;

	/* Off: an XID that is checked all the same still has to end. */
	if (look->answer != TR_LOOK_GOOD && !rules->is_off)
		return look_bad(h, rules, look, now_ns);
	h->fails = 0;
	if (rises) {
		h->good_ns = 0;
		return fall_ill(h, rules, true, "uncorrected memory errors", now_ns);
	}
	if (!h->is_ill)
		return false;
	if (h->good_ns == 0)
		h->good_ns = now_ns;
	if (tr_sat_sub(now_ns, h->bad_ns) < tr_health_quiet_ns(h, rules) ||
	    tr_sat_sub(now_ns, h->good_ns) < rules->quiet_ns)
		return false;
	h->is_ill = false;
	h->is_grave = false;
	h->healed_ns = now_ns;
	(void)say(h, "");
	return true;
}
