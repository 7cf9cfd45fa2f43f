/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_MARKS_H
#define TR_KUBE_MARKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rfc3339.h"
#include "tranche/err.h"

/* Marks that HAMi's parts leave for each other on pods and nodes. Pure. */

/* TR_NODE_LOCK: "2026-08-21T10:00:00Z,NAMESPACE,POD"; a bare time is a lock whose owner nobody knows.
 * -EBADMSG for anything else. */
struct tr_node_lock {
	int64_t unix_us;
	char space[64], pod[254]; /* both "" when it does not say */
};
#define TR_NODE_LOCK_TEXT (TR_RFC3339_TEXT + 64 + 254)
int tr_node_lock_parse(struct tr_node_lock *out, const char *text, struct tr_err *err);
/* Whole seconds. */
void tr_node_lock_print(const struct tr_node_lock *lock,
			char out[static TR_NODE_LOCK_TEXT]);

/* TR_NODE_HANDSHAKE: "Requesting_2026-08-21 10:00:00" in the scheduler's zone, which it does not
 * name; old plugins answered "Reported ...", old schedulers wrote "Deleted_...". Whatever is none of
 * these is OTHER, and makes a scheduler ask anew like the other two. */
enum tr_handshake_kind {
	TR_HANDSHAKE_OTHER,
	TR_HANDSHAKE_REQUESTING,
	TR_HANDSHAKE_REPORTED,
	TR_HANDSHAKE_DELETED,
};
struct tr_handshake {
	enum tr_handshake_kind kind;
	bool has_time;
	int64_t wall_s; /* the clock on that wall, as if it were UTC's */
};
#define TR_HANDSHAKE_TEXT 40
struct tr_handshake tr_handshake_parse(const char *text);
/* "Requesting_" and WALL_S. */
void tr_handshake_print(int64_t wall_s, char out[static TR_HANDSHAKE_TEXT]);

/* TR_POD_BIND_PHASE. -EBADMSG for another word. */
enum tr_bind_phase { TR_BIND_ALLOCATING, TR_BIND_SUCCESS, TR_BIND_FAILED };
int tr_bind_phase_parse(const char *text, enum tr_bind_phase *out);
const char *tr_bind_phase_name(enum tr_bind_phase phase);

/* TR_POD_BIND_TIME, TR_POD_TIME: seconds since 1970, decimal. 0 or -EBADMSG. */
int tr_unix_time_parse(const char *text, int64_t *unix_s_out);

#endif /* TR_KUBE_MARKS_H */
