/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "kube/backoff.h"
#include "kube/server_json.h"
#include "kube/split.h"
#include "kube/store.h"
#include "rt/file.h"

#define PAGE_DEFAULT    500u
#define WATCH_DEFAULT_S 300u
#define OBJECT_MAX      ((size_t)4 << 20)
#define PAGE_MS         60000u
#define HEAD_MS         30000u
#define WATCH_SLACK_MS  30000u /* what a watch may be longer than it was asked to be */
#define SOUND_NS        UINT64_C(1000000000) /* a watch that lived so long was one */
#define REFUSALS_MAX    5u
#define ERROR_TEXT_MAX  ((size_t)8 << 10)

enum phase { LISTING, WATCHING };
enum next { WATCH_AGAIN, LIST_AGAIN };

struct tr_watch {
	struct tr_kube *kube;
	struct tr_watch_options o;
	char base_path[TR_KUBE_PATH];
	char *field_selector, *label_selector;
	enum phase phase;
	enum next next;
	struct tr_store store;
	struct tr_watch_state state;
	struct tr_wire_job *job;
	struct event *timer;
	struct tr_backoff pause;
	struct tr_split split;
	struct tr_buf error_text; /* the body of a reply that is not 200 */
	int status;
	uint32_t error_wait_s;
	char *version,
		*more; /* resourceVersion; the token of the next page, NULL: the last */
	uint32_t round;
	bool is_partial; /* the list had objects that could not be read: nothing is swept */
	bool is_one_page;  /* pages expired before they were all read */
	unsigned refusals; /* watches refused in a row */
	uint64_t began_ns;
	bool has_heard;
	struct tr_err err; /* of the exchange under way */
};

const struct tr_watch_kind tr_watch_pods = { &tr_kube_pods, tr_pod_extract };
const struct tr_watch_kind tr_watch_nodes = { &tr_kube_nodes, tr_node_extract };

static void start_page(struct tr_watch *w);
static void start_watch(struct tr_watch *w);

static void tell_trouble(struct tr_watch *w, int r, const struct tr_err *err)
{
	w->state.troubles++;
	if (w->o.trouble)
		w->o.trouble(w->o.arg, r, err);
}

static void hear(struct tr_watch *w)
{
	w->state.heard_ns = tr_clock_ns();
	w->has_heard = true;
}

/* ---- the copy ---- */

static void tell_change(struct tr_watch *w, const struct tr_object *old,
			const struct tr_object *now)
{
	if (!w->o.changed)
		return;
	if (old && now && strcmp(old->uid, now->uid) != 0) {
		w->o.changed(w->o.arg, old, NULL);
		old = NULL;
	}
	w->o.changed(w->o.arg, old, now);
}

static void put_object(struct tr_watch *w, struct tr_object *o)
{
	struct tr_object *old;

	o->round = w->round;
	old = tr_store_put(&w->store, o);
	if (!old || strcmp(old->version, o->version) != 0 || !*o->version ||
	    strcmp(old->uid, o->uid) != 0)
		tell_change(w, old, o);
	free(old);
}

static void drop_object(struct tr_watch *w, const struct tr_object *o)
{
	struct tr_object *old = tr_store_take(&w->store, o->space, o->name);

	if (old)
		tell_change(w, old, NULL);
	free(old);
}

/* What the list no longer has. A list of which a part could not be read says nothing about that. */
static void sweep(struct tr_watch *w)
{
	struct tr_object *gone;
	size_t at = 0;

	while (!w->is_partial && (gone = tr_store_take_older(&w->store, w->round, &at))) {
		tell_change(w, gone, NULL);
		free(gone);
	}
}

/* ---- what arrives ---- */

static void set_text(char **to, const json_t *value)
{
	free(*to);
	*to = json_string_length(value) ? tr_xstrdup(json_string_value(value)) : NULL;
}

static int take_metadata(struct tr_watch *w, const json_t *meta)
{
	set_text(&w->version, json_object_get(meta, "resourceVersion"));
	set_text(&w->more, json_object_get(meta, "continue"));
	return 0;
}

static int extract(struct tr_watch *w, const json_t *json, struct tr_object **out)
{
	struct tr_err err = { 0 };
	int r = w->o.kind->extract(json, w->o.keep, out, &err);

	if (r == 0)
		return 0;
	w->state.unreadable++;
	w->is_partial = true;
	(void)tr_wrap(&err, r, "%s", w->base_path);
	tell_trouble(w, r, &err);
	return r;
}

static int take_item(struct tr_watch *w, const json_t *json)
{
	struct tr_object *o;

	if (extract(w, json, &o) == 0)
		put_object(w, o);
	return 0;
}

/* The server ends the watch with a Status. */
static int take_error(struct tr_watch *w, const json_t *object)
{
	struct tr_kube_status s;
	int code;

	tr_kube_status_read(&s, 0, object, NULL, 0);
	/* By its reason too: not every server gives a code here. */
	code = strcmp(s.reason, "Expired") == 0 || strcmp(s.reason, "Gone") == 0
		       ? EKEYEXPIRED
		       : tr_kube_status_errno(&s);
	w->error_wait_s = s.retry_after_s;
	return tr_fail(&w->err, code, "watch %s: %d %s: %s", w->base_path, s.code, s.reason,
		       s.message);
}

static int take_event(struct tr_watch *w, const json_t *event)
{
	const char *type = json_string_value(json_object_get(event, "type"));
	const json_t *object = json_object_get(event, "object");
	const json_t *version = json_object_get(json_object_get(object, "metadata"),
						"resourceVersion");
	struct tr_object *o = NULL;

	if (type && strcmp(type, "ERROR") == 0)
		return take_error(w, object);
	if (!type || !json_is_object(object))
		return tr_fail(&w->err, EBADMSG,
			       "watch %s: an event without type or object", w->base_path);
	hear(w);
	w->refusals = 0;
	if (strcmp(type, "BOOKMARK") == 0) {
		w->state.bookmarks++;
	} else {
		w->state.events++;
		/* Unreadable is not a reason to end: the next one may be fine. */
		if (extract(w, object, &o) == 0 && strcmp(type, "DELETED") == 0) {
			drop_object(w, o);
			free(o);
		} else if (o) {
			put_object(w, o);
		}
	}
	if (json_string_length(version))
		set_text(&w->version, version);
	return 0;
}

static int take_too_large(struct tr_watch *w, const char *head)
{
	struct tr_err err = { 0 };
	int r = tr_fail(&err, EMSGSIZE,
			"%s: an object of more than %zu bytes is passed over: "
			"%.200s",
			w->base_path, w->o.object_max, head);

	w->state.too_large++;
	w->is_partial = true;
	tell_trouble(w, r, &err);
	return 0;
}

static int take_piece(void *arg, enum tr_split_piece what, const char *bytes, size_t n)
{
	struct tr_watch *w = arg;
	json_error_t problem;
	json_t *json;
	int r;

	if (what == TR_SPLIT_TOO_LARGE)
		return take_too_large(w, bytes);
	json = tr_server_json(bytes, n, 0, &problem);
	if (!json)
		return tr_fail(&w->err, EBADMSG, "%s: not JSON: %s", w->base_path,
			       problem.text);
	r = what == TR_SPLIT_METADATA ? take_metadata(w, json)
	    : what == TR_SPLIT_ITEM   ? take_item(w, json)
				      : take_event(w, json);
	json_decref(json);
	return r;
}

/* ---- the exchanges ---- */

static void on_head(void *arg, int status)
{
	struct tr_watch *w = arg;

	w->status = status;
	w->state.is_watching = w->phase == WATCHING && status == 200;
	if (w->state.is_watching)
		w->state.away_ns = 0;
}

static int on_bytes(void *arg, const char *bytes, size_t n)
{
	struct tr_watch *w = arg;
	size_t room = ERROR_TEXT_MAX - w->error_text.n;
	int r;

	if (w->status != 200) {
		tr_buf_add(&w->error_text, bytes, n < room ? n : room);
		return 0;
	}
	r = tr_split_feed(&w->split, bytes, n);
	if (r < 0 && !w->err.code)
		(void)tr_fail(&w->err, -r, "%s: not a reply of an API server",
			      w->base_path);
	return r;
}

static void on_end(void *arg, const struct tr_wire_end *end);

static void start(struct tr_watch *w, const char *path, uint32_t timeout_ms)
{
	static const struct tr_wire_events events = { on_head, on_bytes, on_end };
	struct tr_wire_ask ask = {
		.method = "GET", .path = path, .timeout_ms = timeout_ms, .head_ms = HEAD_MS
	};

	tr_split_free(&w->split);
	tr_split_init(&w->split, w->phase == LISTING, w->o.object_max, take_piece, w);
	tr_buf_clear(&w->error_text);
	w->err = (struct tr_err){ 0 };
	w->status = 0;
	w->error_wait_s = 0;
	w->has_heard = false;
	w->began_ns = tr_clock_ns();
	w->job = tr_wire_start(tr_kube_wire(w->kube), &ask, &events, w);
}

/* What stands in a query as itself. */
static void add_escaped(struct tr_buf *b, const char *text)
{
	for (; *text; text++) {
		char c = *text;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9') || strchr("-._~", c))
			tr_buf_add(b, &c, 1);
		else
			tr_buf_print(b, "%%%02X", (unsigned)(unsigned char)c);
	}
}

static void add_query(struct tr_buf *b, const char *key, const char *value)
{
	if (!value)
		return;
	tr_buf_print(b, "%s%s=", strchr(b->p, '?') ? "&" : "?", key);
	add_escaped(b, value);
}

static void begin_path(struct tr_watch *w, struct tr_buf *b)
{
	tr_buf_text(b, w->base_path);
	add_query(b, "fieldSelector", w->field_selector);
	add_query(b, "labelSelector", w->label_selector);
}

static void start_page(struct tr_watch *w)
{
	tr_auto_buf struct tr_buf path = { 0 };
	char limit[16];

	w->phase = LISTING;
	begin_path(w, &path);
	(void)snprintf(limit, sizeof(limit), "%u", w->o.page);
	add_query(&path, "limit", w->is_one_page ? NULL : limit);
	add_query(&path, "continue", w->more);
	start(w, path.p, PAGE_MS);
}

static void start_list(struct tr_watch *w)
{
	w->round++;
	w->is_partial = false;
	free(w->more);
	w->more = NULL;
	w->state.lists++;
	start_page(w);
}

static void start_watch(struct tr_watch *w)
{
	tr_auto_buf struct tr_buf path = { 0 };
	uint32_t seconds = tr_backoff_between(&w->pause, w->o.watch_s, 2 * w->o.watch_s);
	char timeout[16];

	w->phase = WATCHING;
	w->state.watches++;
	begin_path(w, &path);
	(void)snprintf(timeout, sizeof(timeout), "%u", seconds);
	add_query(&path, "watch", "1");
	add_query(&path, "allowWatchBookmarks", "true");
	add_query(&path, "resourceVersion", w->version);
	add_query(&path, "timeoutSeconds", timeout);
	start(w, path.p, seconds * 1000 + WATCH_SLACK_MS);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct tr_watch *w = arg;

	(void)fd;
	(void)what;
	if (w->next == LIST_AGAIN || !w->version)
		start_list(w);
	else
		start_watch(w);
}

static void plan(struct tr_watch *w, enum next next, uint32_t least_s)
{
	uint32_t ms = tr_backoff_next(&w->pause);
	struct timeval wait;

	if (least_s * 1000 > ms)
		ms = least_s * 1000 + ms % 1000;
	wait = tr_wire_ms(ms);
	w->next = next;
	(void)evtimer_add(w->timer, &wait);
}

/* Fills w->err and returns the exchange's result; 0 for a whole 200. */
static int judge(struct tr_watch *w, const struct tr_wire_end *end, uint32_t *least_s)
{
	struct tr_kube_status s;
	json_t *body;

	*least_s = end->retry_after_s > w->error_wait_s ? end->retry_after_s
							: w->error_wait_s;
	if (w->err.code)
		return -w->err.code;
	if (end->r < 0)
		return tr_fail(&w->err, -end->r, "%s: %s", w->base_path, end->why);
	if (end->status == 200)
		return tr_split_is_whole(&w->split)
			       ? 0
			       : tr_fail(&w->err, ECONNRESET, "%s: it ended in the middle",
					 w->base_path);
	body = tr_server_json(w->error_text.p ? w->error_text.p : "", w->error_text.n, 0,
			      NULL);
	tr_kube_status_read(&s, end->status, body, w->error_text.p, w->error_text.n);
	json_decref(body);
	if (s.retry_after_s > *least_s)
		*least_s = s.retry_after_s;
	return tr_fail(&w->err, tr_kube_status_errno(&s), "%s: %d %s: %s", w->base_path,
		       s.code, s.reason, s.message);
}

static void end_page(struct tr_watch *w, int r, uint32_t least_s)
{
	if (r == 0 && !w->version)
		r = tr_fail(&w->err, EBADMSG, "%s: a list without a resourceVersion",
			    w->base_path);
	if (r < 0) {
		if (r == -EKEYEXPIRED && w->more) {
			w->state.expired++;
			w->is_one_page = true;
		}
		free(w->version);
		w->version = NULL;
		tell_trouble(w, r, &w->err);
		plan(w, LIST_AGAIN, least_s);
		return;
	}
	hear(w);
	if (w->more) {
		start_page(w);
		return;
	}
	sweep(w);
	w->is_one_page = false;
	w->state.is_synced = true;
	w->refusals = 0;
	if (w->o.synced)
		w->o.synced(w->o.arg);
	start_watch(w);
}

static void end_watch(struct tr_watch *w, int r, uint32_t least_s)
{
	bool was_sound = w->has_heard || tr_clock_ns() - w->began_ns > SOUND_NS;
	enum next next = WATCH_AGAIN;

	if (r == -EKEYEXPIRED) {
		w->state.expired++;
		next = LIST_AGAIN;
	}
	/* A version that the server will never reach (its store was restored from a backup) is
	 * refused for ever; so is one that a page of garbage gave us. */
	if ((r == -EAGAIN || r == -EINVAL || r == -EBADMSG) &&
	    ++w->refusals >= REFUSALS_MAX)
		next = LIST_AGAIN;
	if (was_sound &&
	    (r == 0 || r == -ECONNRESET || r == -ETIMEDOUT || r == -EKEYEXPIRED))
		tr_backoff_reset(&w->pause);
	if (r < 0)
		tell_trouble(w, r, &w->err);
	plan(w, next, least_s);
}

static void on_end(void *arg, const struct tr_wire_end *end)
{
	struct tr_watch *w = arg;
	uint32_t least_s;
	int r;

	w->job = NULL;
	w->state.is_watching = false;
	if (!w->state.away_ns)
		w->state.away_ns = tr_clock_ns();
	r = judge(w, end, &least_s);
	tr_split_free(&w->split);
	tr_buf_free(&w->error_text);
	if (w->phase == LISTING)
		end_page(w, r, least_s);
	else
		end_watch(w, r, least_s);
}

/* ---- the outside ---- */

int tr_watch_open(struct tr_watch **out, struct tr_kube *k,
		  const struct tr_watch_options *options, struct tr_err *err)
{
	struct tr_watch *w = tr_xcalloc(1, sizeof(*w));
	int r = tr_kube_path(w->base_path, options->kind->kind, options->space, NULL, NULL,
			     err);

	if (r < 0) {
		free(w);
		return r;
	}
	w->kube = k;
	w->o = *options;
	w->state.away_ns = tr_clock_ns();
	w->o.page = w->o.page ? w->o.page : PAGE_DEFAULT;
	w->o.watch_s = w->o.watch_s ? w->o.watch_s : WATCH_DEFAULT_S;
	w->o.object_max = w->o.object_max ? w->o.object_max : OBJECT_MAX;
	w->field_selector = options->field_selector ? tr_xstrdup(options->field_selector)
						    : NULL;
	w->label_selector = options->label_selector ? tr_xstrdup(options->label_selector)
						    : NULL;
	w->pause = (struct tr_backoff){ .first_ms = 200, .max_ms = 30000 };
	w->timer = evtimer_new(tr_wire_base(tr_kube_wire(k)), on_timer, w);
	if (!w->timer)
		abort();
	start_list(w);
	*out = w;
	return 0;
}

void tr_watch_close(struct tr_watch *w)
{
	if (!w)
		return;
	if (w->job)
		tr_wire_cancel(w->job);
	event_free(w->timer);
	tr_split_free(&w->split);
	tr_buf_free(&w->error_text);
	tr_store_free(&w->store);
	free(w->field_selector);
	free(w->label_selector);
	free(w->version);
	free(w->more);
	free(w);
}

const struct tr_object *tr_watch_find(const struct tr_watch *w, const char *space,
				      const char *name)
{
	return tr_store_find(&w->store, space, name);
}

void tr_watch_each(const struct tr_watch *w,
		   void (*f)(void *arg, const struct tr_object *o), void *arg)
{
	const struct tr_object *o = NULL;
	size_t at = 0;

	while ((o = tr_store_next(&w->store, o, &at)))
		f(arg, o);
}

struct tr_watch_state tr_watch_state(const struct tr_watch *w)
{
	struct tr_watch_state s = w->state;

	s.objects = w->store.count;
	return s;
}
