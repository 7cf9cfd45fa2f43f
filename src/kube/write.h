/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_WRITE_H
#define TR_KUBE_WRITE_H

#include "kube/client.h"
#include "kube/object.h"

/*
 * What our programs write to the API server. The same rules as client.h: one thread, DONE (or NULL) from
 * the loop. -EINVAL at once, without DONE, for what is no name of an object or not UTF-8. *CALL, unless
 * CALL is NULL, is for tr_kube_cancel().
 */

/*
 * Binds a pod to a node and sets annotations on it, in one write: the scheduler's decision. A pod of
 * another UID is not touched: -ESTALE, as for one that is bound already.
 */
struct tr_binding {
	const char *space, *pod, *uid, *node;
	struct tr_named_list annotations;
};
int tr_kube_bind(struct tr_kube *k, const struct tr_binding *b, tr_kube_done *done,
		 void *arg, struct tr_kube_call **call, struct tr_err *err);

/* Sets annotations of an object, and removes those whose value is NULL. With a VERSION only if the
 * object is still the one that was read: else -ESTALE. */
struct tr_annotating {
	const struct tr_kube_kind *kind;
	const char *space, *name;
	const char *version; /* resourceVersion, or NULL */
	struct tr_named_list annotations;
};
int tr_kube_annotate(struct tr_kube *k, const struct tr_annotating *a, tr_kube_done *done,
		     void *arg, struct tr_kube_call **call, struct tr_err *err);

/*
 * A Lease: a node's sign of life, or who leads. Times in microseconds since 1970; 0: not set. The
 * texts of one that was read lie in the JSON it was read from.
 */
struct tr_lease {
	const char *space, *name;
	const char *holder; /* "" when nobody holds it */
	/* resourceVersion. In a write: only if it is still that, else -ESTALE; "": only if there is no
	 * such lease, else -EEXIST; NULL: however it is, and made if it is not there. */
	const char *version;
	uint32_t duration_s, transitions;
	int64_t acquired_us, renewed_us;
	/* Of the object that owns it, so that it goes with it; `owner_name` NULL: none. */
	const char *owner_kind, *owner_name, *owner_uid;
};
/* -EBADMSG. */
int tr_lease_read(const json_t *json, struct tr_lease *out, struct tr_err *err);
/* DEADLINE_MS bounds each of up to three requests. Cancel it before the client is closed. */
struct tr_lease_write;
int tr_lease_write(struct tr_kube *k, const struct tr_lease *lease, uint32_t deadline_ms,
		   tr_kube_done *done, void *arg, struct tr_lease_write **out,
		   struct tr_err *err);
void tr_lease_write_cancel(struct tr_lease_write *w);

/*
 * An event about an object, for `kubectl describe`. A message longer than the server takes is cut.
 * SPACE "" (about nodes) goes to "default", where kubectl looks for them.
 */
struct tr_event_note {
	const char *api_version, *kind; /* "v1", "Pod" */
	const char *space, *name, *uid;
	bool is_warning;
	const char *reason;           /* "SliceRefused": one word */
	const char *message;          /* a sentence */
	const char *component, *host; /* who says it */
	int64_t unix_us;
	uint32_t count; /* how often it happened; 0: once */
};
int tr_kube_event(struct tr_kube *k, const struct tr_event_note *e, tr_kube_done *done,
		  void *arg, struct tr_kube_call **call, struct tr_err *err);

#endif /* TR_KUBE_WRITE_H */
