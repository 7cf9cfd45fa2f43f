/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CARDS_HEALTH_H
#define TR_CARDS_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "tranche/err.h"

/*
 * When a card is healthy. Bad news makes it unhealthy at once; it is healthy again when it has answered
 * well, and had no more bad news, for a while, which is doubled each time it comes back and falls ill
 * again. So nothing that passes is for ever, and nothing that flickers makes the kubelet flicker.
 * Pure: time comes in, nothing goes out.
 */

#define TR_XID_MAX 1024

struct tr_health_rules {
	bool is_off;     /* nothing is judged: always healthy */
	bool is_xid_off; /* no XID is judged but those of CHECKED */
	uint64_t ignored[TR_XID_MAX / 64], checked[TR_XID_MAX / 64]; /* sets of XIDs */
	unsigned fails;         /* looks in a row that must fail */
	uint64_t quiet_ns;      /* without bad news before it is healthy again */
	uint64_t quiet_most_ns; /* what that grows to */
	uint64_t grave_ns;      /* the same after what only a reset mends, at least */
	uint64_t relapse_ns;    /* ill again sooner than this: the quiet time is doubled */
};

/* What applications cause is ignored (13, 31, 43, 45, 68, 109); 3 fails; 60 s, up to an hour; 10 minutes
 * after grave ones; an hour. */
void tr_health_rules_init(struct tr_health_rules *rules);

/* As HAMi's DP_DISABLE_HEALTHCHECKS and DP_ENABLE_HEALTHCHECKS: comma lists of XIDs. Disabling "xids"
 * means all XIDs, "all" everything; what is enabled wins ("all": every XID). NULL: not given. -EINVAL
 * for what is neither. */
int tr_health_rules_set(struct tr_health_rules *rules, const char *disable,
			const char *enable, struct tr_err *err);

enum tr_xid_weight {
	TR_XID_IGNORED,
	TR_XID_PASSING, /* may be over by itself; so are those nobody knows */
	TR_XID_GRAVE,   /* the card needs a reset, or is broken */
};
enum tr_xid_weight tr_xid_weight(const struct tr_health_rules *rules, unsigned xid);
/* A few words on what XID means; "" when they are not known. */
const char *tr_xid_says(unsigned xid);

enum tr_look_answer {
	TR_LOOK_GOOD,
	TR_LOOK_FAILED,      /* a call failed: it may be by chance */
	TR_LOOK_LOST,        /* the driver says it is gone */
	TR_LOOK_NEEDS_RESET, /* the driver says it does, or memory could not be repaired */
};

struct tr_health_look {
	enum tr_look_answer answer;
	bool has_ecc;
	uint64_t ecc_uncorrected; /* since the driver was loaded */
	const char *says;         /* of what is not good: the driver's words; may be "" */
};

struct tr_health {
	bool is_ill;
	bool is_grave;
	unsigned fails;     /* looks that failed in a row */
	unsigned relapses;  /* times the quiet time is doubled */
	uint64_t bad_ns;    /* the last bad news */
	uint64_t healed_ns; /* when it was last healthy again; 0: it never was ill */
	uint64_t good_ns;   /* answers well since; 0: it does not */
	uint64_t ecc_uncorrected;
	bool has_ecc;
	char reason[160];
};

/* Zeroed is healthy. NOW_NS never goes back. Each answers true when is_ill or the reason changed. */
bool tr_health_xid(struct tr_health *h, const struct tr_health_rules *rules, unsigned xid,
		   uint64_t now_ns);
bool tr_health_look(struct tr_health *h, const struct tr_health_rules *rules,
		    const struct tr_health_look *look, uint64_t now_ns);
/* How long it has to stay quiet now to be healthy. */
uint64_t tr_health_quiet_ns(const struct tr_health *h, const struct tr_health_rules *rules);

#endif /* TR_CARDS_HEALTH_H */
