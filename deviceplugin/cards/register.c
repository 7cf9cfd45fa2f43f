/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/cards/register.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "deviceplugin/cards/register_text.h"
#include "kube/backoff.h"
#include "kube/watch.h"
#include "kube/write.h"
#include "tranche/names.h"

#define LEASE_S         40u
#define NOTES_MAX       32
#define ANNOTATIONS_MAX 262144u /* bytes of an object's, names and values */
#define PAUSE_MS        1000u   /* between two looks at the node, at least */
#define PAUSE_MAX       60000u

struct note {
	bool is_warning;
	const char *reason;
	char message[256];
};

struct tr_register {
	struct tr_kube *kube;
	struct tr_register_options options;
	char *node, *component, *lease_space, *mem_name, *cores_name;
	const char *keep_resources[3];
	struct tr_keep keep;
	struct tr_watch *watch;

	struct tr_cards *cards; /* as they should be told; NULL: not yet */
	char *text, *scores;    /* annotations */
	bool is_scores_held;    /* for want of room on the node */

	/* One request of these at a time: look at the node, then write what differs. */
	struct tr_kube_call *call;
	json_t *status; /* still to be written, after the annotations */
	struct event *timer;
	struct tr_backoff backoff;
	bool is_due;
	char *uid; /* the node's */

	struct note notes[NOTES_MAX]; /* a ring */
	unsigned note_first, note_count;
	struct tr_kube_call *note_call;

	struct tr_lease_write *lease;
	struct event *lease_timer;
	int64_t acquired_us;
	struct tr_register_state state;
};

static int64_t unix_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void trouble(struct tr_register *reg, const char *sentence)
{
	reg->state.troubles++;
	if (reg->options.on_trouble)
		reg->options.on_trouble(sentence, reg->options.arg);
}

/* ---- the node ------------------------------------------------------------------------ */

static void look(struct tr_register *reg);
static void write_status(struct tr_register *reg);

static void wait_ms(struct tr_register *reg, uint32_t ms)
{
	const struct timeval wait = { ms / 1000, (long)(ms % 1000) * 1000 };

	if (!evtimer_pending(reg->timer, NULL))
		(void)event_add(reg->timer, &wait);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct tr_register *reg = arg;

	(void)fd;
	(void)what;
	if (reg->is_due)
		look(reg);
}

/* Looks soon; after a look that has just been, a second later. */
static void look_soon(struct tr_register *reg)
{
	reg->state.is_registered = false;
	reg->is_due = true;
	if (!reg->call && !evtimer_pending(reg->timer, NULL))
		look(reg);
}

static bool failed(struct tr_register *reg, int r, const struct tr_err *err)
{
	if (r == 0)
		return false;
	trouble(reg, err->msg);
	json_decref(reg->status);
	reg->status = NULL;
	reg->is_due = true;
	wait_ms(reg, tr_backoff_next(&reg->backoff));
	return true;
}

static void all_is_said(struct tr_register *reg)
{
	tr_backoff_reset(&reg->backoff);
	reg->state.is_registered = !reg->is_due;
	/* Whoever undoes each write is answered once a second, not at once. */
	wait_ms(reg, PAUSE_MS);
}

static void on_status(void *arg, int r, const struct tr_kube_reply *reply,
		      const struct tr_err *err)
{
	struct tr_register *reg = arg;

	(void)reply;
	reg->call = NULL;
	if (failed(reg, r, err))
		return;
	json_decref(reg->status);
	reg->status = NULL;
	all_is_said(reg);
}

static void write_status(struct tr_register *reg)
{
	char path[TR_KUBE_PATH];
	struct tr_kube_ask ask = { .verb = TR_KUBE_PATCH_STRATEGIC,
				   .path = path,
				   .body = reg->status };

	if (!reg->status ||
	    tr_kube_path(path, &tr_kube_nodes, NULL, reg->node, "status", NULL) < 0) {
		all_is_said(reg);
		return;
	}
	reg->call = tr_kube_start(reg->kube, &ask, on_status, reg);
}

static void on_annotated(void *arg, int r, const struct tr_kube_reply *reply,
			 const struct tr_err *err)
{
	struct tr_register *reg = arg;

	(void)reply;
	reg->call = NULL;
	if (failed(reg, r, err))
		return;
	reg->state.writes++;
	write_status(reg);
}

/* What is wanted of one annotation, when the live one is LIVE: true if it is to be written. */
static bool differs(const char *live, const char *wanted)
{
	if (!live)
		return wanted && strcmp(wanted, "[]") != 0; /* no card: nothing to say */
	return wanted && strcmp(live, wanted) != 0;
}

/* The server refuses all of a patch by which an object's annotations get too long. Cards can be given out
 * without scores, and not without the other one. */
static void weigh_scores(struct tr_register *reg, const json_t *annotations)
{
	size_t bytes = strlen(TR_NODE_REGISTER) + (reg->text ? strlen(reg->text) : 0) +
		       strlen(TR_NODE_SCORES) + (reg->scores ? strlen(reg->scores) : 0);
	bool was_held = reg->is_scores_held;
	const char *name;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)annotations, name, value)
		if (strcmp(name, TR_NODE_REGISTER) != 0 &&
		    strcmp(name, TR_NODE_SCORES) != 0)
			bytes += strlen(name) + json_string_length(value);
	reg->is_scores_held = reg->scores && bytes > ANNOTATIONS_MAX;
	if (reg->is_scores_held && !was_held)
		trouble(reg, "the node's annotations have no room for the pair scores");
}

static void annotate(struct tr_register *reg, const char *text, const char *scores)
{
	struct tr_named named[2];
	struct tr_annotating a = { .kind = &tr_kube_nodes,
				   .name = reg->node,
				   .annotations = { named, 0 } };
	struct tr_err err = { 0 };

	if (differs(text, reg->text))
		named[a.annotations.count++] = (struct tr_named){ TR_NODE_REGISTER,
								  reg->text };
	if (!reg->is_scores_held && differs(scores, reg->scores))
		named[a.annotations.count++] = (struct tr_named){ TR_NODE_SCORES,
								  reg->scores };
	if (!a.annotations.count) {
		write_status(reg);
		return;
	}
	if (tr_kube_annotate(reg->kube, &a, on_annotated, reg, &reg->call, &err) < 0)
		(void)failed(reg, -EINVAL, &err);
}

static void on_node(void *arg, int r, const struct tr_kube_reply *reply,
		    const struct tr_err *err)
{
	struct tr_register *reg = arg;
	const json_t *meta, *annotations;
	const struct tr_register_names names = { reg->mem_name, reg->cores_name };
	const char *uid;

	reg->call = NULL;
	if (failed(reg, r, err))
		return;
	meta = json_object_get(reply->body, "metadata");
	annotations = json_object_get(meta, "annotations");
	uid = json_string_value(json_object_get(meta, "uid"));
	free(reg->uid);
	reg->uid = tr_xstrdup(uid ? uid : "");
	json_decref(reg->status);
	reg->status = tr_register_status_change(reply->body, reg->cards,
						reg->options.with_capacity ? &names : NULL,
						unix_us() / 1000000);
	weigh_scores(reg, annotations);
	annotate(reg, json_string_value(json_object_get(annotations, TR_NODE_REGISTER)),
		 json_string_value(json_object_get(annotations, TR_NODE_SCORES)));
}

static void look(struct tr_register *reg)
{
	char path[TR_KUBE_PATH];
	struct tr_kube_ask ask = { .verb = TR_KUBE_GET, .path = path };

	if (reg->call || !reg->cards ||
	    tr_kube_path(path, &tr_kube_nodes, NULL, reg->node, NULL, NULL) < 0)
		return;
	reg->is_due = false;
	reg->call = tr_kube_start(reg->kube, &ask, on_node, reg);
}

static bool lacks_amount(const struct tr_register *reg, const struct tr_node *node,
			 const char *name)
{
	return reg->options.with_capacity && reg->cards->count &&
	       !tr_amount_find(&node->allocatable, name);
}

static void on_changed(void *arg, const struct tr_object *old, const struct tr_object *now)
{
	struct tr_register *reg = arg;
	const struct tr_node *node = (const struct tr_node *)now;

	(void)old;
	if (!reg->cards || !now || strcmp(now->name, reg->node) != 0)
		return;
	if (reg->is_scores_held ||
	    differs(tr_named_find(&now->annotations, TR_NODE_REGISTER), reg->text) ||
	    differs(tr_named_find(&now->annotations, TR_NODE_SCORES), reg->scores) ||
	    lacks_amount(reg, node, reg->mem_name) ||
	    lacks_amount(reg, node, reg->cores_name))
		look_soon(reg);
}

static void on_watch_trouble(void *arg, int r, const struct tr_err *err)
{
	(void)r;
	trouble(arg, err->msg);
}

/* ---- events -------------------------------------------------------------------------- */

static void send_notes(struct tr_register *reg);

static void on_noted(void *arg, int r, const struct tr_kube_reply *reply,
		     const struct tr_err *err)
{
	struct tr_register *reg = arg;

	(void)reply;
	reg->note_call = NULL;
	if (r < 0)
		trouble(reg, err->msg); /* it is in the node's condition too */
	send_notes(reg);
}

static void send_notes(struct tr_register *reg)
{
	while (!reg->note_call && reg->note_count) {
		const struct note *note = &reg->notes[reg->note_first];
		const struct tr_event_note event = {
			.api_version = "v1",
			.kind = "Node",
			.space = "",
			.name = reg->node,
			.uid = reg->node, /* where kubectl looks for a node's events */
			.is_warning = note->is_warning,
			.reason = note->reason,
			.message = note->message,
			.component = reg->component,
			.host = reg->node,
			.unix_us = unix_us(),
		};

		reg->note_first = (reg->note_first + 1) % NOTES_MAX;
		reg->note_count--;
		(void)tr_kube_event(reg->kube, &event, on_noted, reg, &reg->note_call,
				    NULL);
	}
}

static struct note *add_note(struct tr_register *reg, bool is_warning, const char *reason)
{
	struct note *note;

	if (reg->note_count == NOTES_MAX) { /* the oldest goes */
		reg->note_first = (reg->note_first + 1) % NOTES_MAX;
		reg->note_count--;
	}
	note = &reg->notes[(reg->note_first + reg->note_count++) % NOTES_MAX];
	note->is_warning = is_warning;
	note->reason = reason;
	return note;
}

static void note_health(struct tr_register *reg, const struct tr_card *card)
{
	bool is_healthy = card->is_healthy;
	struct note *note = add_note(reg, !is_healthy,
				     is_healthy ? "GPUHealthy" : "GPUUnhealthy");

	(void)snprintf(note->message, sizeof(note->message), "GPU %u (%s) is %s%s%s",
		       card->index, card->uuid, is_healthy ? "healthy again" : "unhealthy",
		       is_healthy ? "" : ": ", card->reason);
}

/* A card that was not known was healthy. */
static void note_changes(struct tr_register *reg, const struct tr_cards *now)
{
	for (unsigned i = 0; i < now->count; i++) {
		const struct tr_card *old =
			reg->cards ? tr_card_find(reg->cards, now->at[i].uuid) : NULL;

		if (now->at[i].is_healthy != (!old || old->is_healthy))
			note_health(reg, &now->at[i]);
	}
	if (*now->odd_links &&
	    (!reg->cards || strcmp(now->odd_links, reg->cards->odd_links) != 0))
		(void)snprintf(add_note(reg, true, "GPULinksDiffer")->message,
			       sizeof(reg->notes[0].message), "%s", now->odd_links);
}

/* ---- the lease ----------------------------------------------------------------------- */

static void on_lease(void *arg, int r, const struct tr_kube_reply *reply,
		     const struct tr_err *err)
{
	struct tr_register *reg = arg;

	(void)reply;
	reg->lease = NULL;
	if (r < 0)
		trouble(reg, err->msg);
	else
		reg->state.lease_unix_us = unix_us();
}

static void renew(struct tr_register *reg)
{
	bool has_uid = reg->uid && reg->uid[0];
	struct tr_lease lease = {
		.space = reg->lease_space,
		.name = reg->node,
		.holder = reg->node,
		.duration_s = reg->options.lease_s,
		.acquired_us = reg->acquired_us,
		.renewed_us = unix_us(),
		.owner_kind = "Node",
		.owner_name = has_uid ? reg->node : NULL,
		.owner_uid = reg->uid,
	};
	struct tr_err err = { 0 };

	if (reg->lease || !reg->cards)
		return;
	if (tr_lease_write(reg->kube, &lease, reg->options.lease_s * 250, on_lease, reg,
			   &reg->lease, &err) < 0)
		trouble(reg, err.msg);
}

static void on_lease_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	renew(arg);
}

/* ---- open, set, close ---------------------------------------------------------------- */

static const char *const kept_annotations[] = { TR_NODE_REGISTER, TR_NODE_SCORES, NULL };

static int open_watch(struct tr_register *reg, struct tr_err *err)
{
	tr_autofree char *selector = tr_xprintf("metadata.name=%s", reg->node);
	const struct tr_watch_options options = {
		.kind = &tr_watch_nodes,
		.field_selector = selector,
		.keep = &reg->keep,
		.changed = on_changed,
		.trouble = on_watch_trouble,
		.arg = reg,
	};

	reg->keep_resources[0] = reg->mem_name;
	reg->keep_resources[1] = reg->cores_name;
	reg->keep = (struct tr_keep){ .annotations = kept_annotations,
				      .resources = reg->keep_resources };
	return tr_watch_open(&reg->watch, reg->kube, &options, err);
}

static int open_lease(struct tr_register *reg, struct event_base *base)
{
	uint32_t ms = reg->options.lease_s * 250;
	const struct timeval every = { ms / 1000, (long)(ms % 1000) * 1000 };

	if (!reg->lease_space[0])
		return 0;
	reg->lease_timer = event_new(base, -1, EV_PERSIST, on_lease_timer, reg);
	return reg->lease_timer && event_add(reg->lease_timer, &every) == 0 ? 0 : -ENOMEM;
}

static struct tr_register *make(struct tr_kube *kube,
				const struct tr_register_options *options)
{
	struct tr_register *reg = tr_xcalloc(1, sizeof(*reg));

	reg->kube = kube;
	reg->options = *options;
	reg->options.lease_s = options->lease_s ? options->lease_s : LEASE_S;
	reg->node = tr_xstrdup(options->node);
	reg->component = tr_xstrdup(options->component);
	reg->lease_space = tr_xstrdup(options->lease_space ? options->lease_space : "");
	reg->mem_name = tr_xstrdup(options->mem_name ? options->mem_name : TR_RESOURCE_MEM);
	reg->cores_name = tr_xstrdup(options->cores_name ? options->cores_name
							 : TR_RESOURCE_CORES);
	reg->backoff = (struct tr_backoff){ .first_ms = PAUSE_MS, .max_ms = PAUSE_MAX };
	reg->acquired_us = unix_us();
	return reg;
}

int tr_register_open(struct tr_register **out, struct tr_kube *kube,
		     struct event_base *base, const struct tr_register_options *options,
		     struct tr_err *err)
{
	struct tr_register *reg = make(kube, options);
	char path[TR_KUBE_PATH];
	int r = tr_kube_path(path, &tr_kube_nodes, NULL, reg->node, NULL, err);

	*out = NULL;
	reg->timer = evtimer_new(base, on_timer, reg);
	if (r == 0 && !reg->timer)
		r = tr_fail(err, ENOMEM, "no memory for a timer");
	if (r == 0)
		r = open_watch(reg, err);
	if (r == 0 && open_lease(reg, base) < 0)
		r = tr_fail(err, ENOMEM, "no memory for a timer");
	if (r < 0)
		tr_register_close(reg);
	else
		*out = reg;
	return r;
}

void tr_register_close(struct tr_register *reg)
{
	if (!reg)
		return;
	if (reg->watch)
		tr_watch_close(reg->watch);
	if (reg->call)
		tr_kube_cancel(reg->call);
	if (reg->note_call)
		tr_kube_cancel(reg->note_call);
	if (reg->lease)
		tr_lease_write_cancel(reg->lease);
	if (reg->timer)
		event_free(reg->timer);
	if (reg->lease_timer)
		event_free(reg->lease_timer);
	json_decref(reg->status);
	free(reg->cards);
	free(reg->text);
	free(reg->scores);
	free(reg->uid);
	free(reg->node);
	free(reg->component);
	free(reg->lease_space);
	free(reg->mem_name);
	free(reg->cores_name);
	free(reg);
}

void tr_register_set(struct tr_register *reg, const struct tr_cards *cards,
		     const char *scores)
{
	struct tr_buf text = { 0 };
	bool is_first = !reg->cards;

	note_changes(reg, cards);
	if (is_first)
		reg->cards = tr_xmalloc(sizeof(*reg->cards));
	*reg->cards = *cards;
	free(reg->text);
	free(reg->scores);
	reg->scores = scores ? tr_xstrdup(scores) : NULL;
	reg->text = tr_register_print(cards, &text) == 0 ? tr_buf_take(&text) : NULL;
	tr_buf_free(&text);
	look_soon(reg);
	send_notes(reg);
	if (is_first && reg->lease_timer)
		renew(reg);
}

struct tr_register_state tr_register_state(const struct tr_register *reg)
{
	return reg->state;
}
