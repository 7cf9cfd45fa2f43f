/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_WATCH_H
#define TR_KUBE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "kube/client.h"
#include "kube/object.h"

/*
 * A copy of the API server's objects of one kind, kept up to date: a list in pages, then a watch from
 * its resourceVersion on, with bookmarks; lists again when the server no longer has that version
 * (410). Whatever breaks is begun again after a growing and random pause; meanwhile the copy stays as
 * it was. Replies are cut into objects as they arrive, and of each only what tr_keep names is kept.
 *
 * One thread: the one that runs the client's event base. `changed`, `synced` and `trouble` are called
 * from its loop; they may start requests, and must not close the watch.
 */
struct tr_watch;

struct tr_watch_kind {
	const struct tr_kube_kind *kind;
	int (*extract)(const json_t *json, const struct tr_keep *keep,
		       struct tr_object **out, struct tr_err *err);
};
extern const struct tr_watch_kind tr_watch_pods,
	tr_watch_nodes; /* struct tr_pod, tr_node */

struct tr_watch_options {
	const struct tr_watch_kind *kind;
	const char *space;          /* NULL: all */
	const char *field_selector; /* "spec.nodeName=a", or NULL */
	const char *label_selector; /* or NULL */
	const struct tr_keep *keep; /* stays valid */
	uint32_t page;              /* objects in a page; 0: 500 */
	uint32_t watch_s;  /* a watch is asked for between this and twice this; 0: 300 */
	size_t object_max; /* bytes of one object; 0: 4 MiB. Larger ones are not seen */
	/* OLD NULL: it is new. NOW NULL: it is gone. Not called for what a list has unchanged. An object
	 * that was deleted and made again under its name is reported as gone, then as new. OLD is gone
	 * after the call. Optional. */
	void (*changed)(void *arg, const struct tr_object *old,
			const struct tr_object *now);
	/* The copy is whole: after each list. Optional. */
	void (*synced)(void *arg);
	/* Something to log; it is being dealt with. Optional. */
	void (*trouble)(void *arg, int r, const struct tr_err *err);
	void *arg;
};

/* OPTIONS' texts are copied. -EINVAL for a namespace that is none. */
int tr_watch_open(struct tr_watch **out, struct tr_kube *k,
		  const struct tr_watch_options *options, struct tr_err *err);
void tr_watch_close(struct tr_watch *w);

/* The copy; SPACE "" for kinds without. What is returned stays until the loop runs again. */
const struct tr_object *tr_watch_find(const struct tr_watch *w, const char *space,
				      const char *name);
void tr_watch_each(const struct tr_watch *w,
		   void (*f)(void *arg, const struct tr_object *o), void *arg);

struct tr_watch_state {
	bool is_synced;    /* a whole list has been seen */
	bool is_watching;  /* a watch is open now: nothing is known to be missed */
	uint64_t heard_ns; /* CLOCK_MONOTONIC: the last list, event or bookmark; 0: never */
	uint64_t away_ns;  /* since when no watch is open; 0: one is */
	size_t objects;
	/* since it was opened */
	uint64_t lists, watches, events, bookmarks, expired, troubles, too_large,
		unreadable;
};
struct tr_watch_state tr_watch_state(const struct tr_watch *w);

#endif /* TR_KUBE_WATCH_H */
