/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/write.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/rfc3339.h"

#define MESSAGE_MAX 1024u
#define REASON_MAX  128u
/* An event's own name: the object's, a dot and what makes it unique; 253 in all. */
#define EVENT_NAME_MAX 210

/* Takes BODY over; NULL: something of it was not UTF-8. */
static int start_write(struct tr_kube *k, struct tr_kube_ask *ask, json_t *body,
		       tr_kube_done *done, void *arg, struct tr_kube_call **call,
		       struct tr_err *err)
{
	struct tr_kube_call *started;

	if (!body)
		return tr_fail(err, EINVAL, "%s: a text is not UTF-8", ask->path);
	ask->body = body;
	started = tr_kube_start(k, ask, done, arg);
	json_decref(body);
	if (call)
		*call = started;
	return 0;
}

/* NULL when something is not UTF-8. */
static json_t *named_json(const struct tr_named_list *list)
{
	json_t *json = json_object();

	for (size_t i = 0; json && i < list->count; i++) {
		const char *value = list->at[i].value;

		if (json_object_set_new(json, list->at[i].name,
					value ? json_string(value) : json_null()) < 0) {
			json_decref(json);
			json = NULL;
		}
	}
	return json;
}

int tr_kube_bind(struct tr_kube *k, const struct tr_binding *b, tr_kube_done *done,
		 void *arg, struct tr_kube_call **call, struct tr_err *err)
{
	char path[TR_KUBE_PATH];
	struct tr_kube_ask ask = { .verb = TR_KUBE_CREATE, .path = path };
	int r = tr_kube_path(path, &tr_kube_pods, b->space, b->pod, "binding", err);

	if (r < 0)
		return r;
	return start_write(k, &ask,
			   json_pack("{s:s,s:s,s:{s:s,s:s,s:s,s:o},s:{s:s,s:s,s:s}}",
				     "apiVersion", "v1", "kind", "Binding", "metadata",
				     "name", b->pod, "namespace", b->space, "uid", b->uid,
				     "annotations", named_json(&b->annotations), "target",
				     "apiVersion", "v1", "kind", "Node", "name", b->node),
			   done, arg, call, err);
}

int tr_kube_annotate(struct tr_kube *k, const struct tr_annotating *a, tr_kube_done *done,
		     void *arg, struct tr_kube_call **call, struct tr_err *err)
{
	char path[TR_KUBE_PATH];
	struct tr_kube_ask ask = { .verb = TR_KUBE_PATCH_MERGE, .path = path };
	int r = tr_kube_path(path, a->kind, a->space, a->name, NULL, err);

	if (r < 0)
		return r;
	return start_write(k, &ask,
			   json_pack("{s:{s:o,s:s*}}", "metadata", "annotations",
				     named_json(&a->annotations), "resourceVersion",
				     a->version),
			   done, arg, call, err);
}

/* MESSAGE as a text of at most MAX bytes; what is not UTF-8 is replaced. */
static json_t *message_json(const char *message, size_t max)
{
	size_t n = strnlen(message, max);
	tr_autofree char *copy = tr_xstrndup(message, n);
	json_t *json;

	while (message[n] && n && ((unsigned char)message[n] & 0xc0) == 0x80)
		n--;
	json = json_stringn(copy, n);
	if (json)
		return json;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)copy[i] >= 0x80)
			copy[i] = '?';
	return json_stringn(copy, n);
}

static json_t *event_json(const struct tr_event_note *e, const char *space)
{
	static unsigned serial;
	tr_autofree char *name = tr_xprintf("%.*s.%" PRIx64 "%04x", EVENT_NAME_MAX, e->name,
					    (uint64_t)e->unix_us, serial++ & 0xffff);
	char when[TR_RFC3339_TEXT];

	tr_rfc3339_print(when, e->unix_us / 1000000);
	return json_pack("{s:s,s:s,s:{s:s,s:s},s:{s:s,s:s,s:s,s:s*,s:s*},s:o,s:o,s:s,s:s,s:"
			 "s,s:i,s:{s:s,s:s},"
			 "s:s,s:s}",
			 "apiVersion", "v1", "kind", "Event", "metadata", "name", name,
			 "namespace", space, "involvedObject", "apiVersion", e->api_version,
			 "kind", e->kind, "name", e->name, "namespace",
			 *e->space ? e->space : NULL, "uid", e->uid, "reason",
			 message_json(e->reason, REASON_MAX), "message",
			 message_json(e->message, MESSAGE_MAX), "type",
			 e->is_warning ? "Warning" : "Normal", "firstTimestamp", when,
			 "lastTimestamp", when, "count", (int)(e->count ? e->count : 1),
			 "source", "component", e->component, "host", e->host,
			 "reportingComponent", e->component, "reportingInstance", e->host);
}

int tr_kube_event(struct tr_kube *k, const struct tr_event_note *e, tr_kube_done *done,
		  void *arg, struct tr_kube_call **call, struct tr_err *err)
{
	const char *space = *e->space ? e->space : "default";
	char path[TR_KUBE_PATH];
	/* Its name is its own: sent twice, it is still there once. */
	struct tr_kube_ask ask = { .verb = TR_KUBE_CREATE,
				   .path = path,
				   .may_repeat = true };
	int r = tr_kube_path(path, &tr_kube_events, space, NULL, NULL, err);

	return r < 0 ? r : start_write(k, &ask, event_json(e, space), done, arg, call, err);
}
