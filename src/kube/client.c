/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "kube/backoff.h"
#include "kube/server_json.h"
#include "rt/file.h"

#define MS UINT64_C(1000000)
/* A try that may be repeated gets at most this part of what is left, so that a server that hangs is
 * asked a second time; but never less than this. */
#define TRY_PART   2u
#define TRY_MIN_MS 1000u

struct tr_kube {
	struct tr_wire *wire;
	struct tr_kube_call *calls;
	struct tr_kube_counts counts;
};

struct tr_kube_call {
	struct tr_kube *kube;
	struct tr_kube_call *next, **at;
	enum tr_kube_verb verb;
	char *path, *body;
	uint32_t reply_max;
	bool may_repeat, has_refreshed;
	unsigned tries;
	uint64_t deadline_ns;
	struct tr_backoff pause;
	struct event *again;
	struct tr_wire_job *job; /* NULL: waiting */
	struct tr_buf reply;
	tr_kube_done *done;
	void *arg;
};

static const struct {
	const char *method, *type;
	bool may_repeat;
} verbs[] = {
	[TR_KUBE_GET] = { "GET", NULL, true },
	[TR_KUBE_CREATE] = { "POST", "application/json", false },
	[TR_KUBE_REPLACE] = { "PUT", "application/json", true },
	[TR_KUBE_PATCH_MERGE] = { "PATCH", "application/merge-patch+json", true },
	[TR_KUBE_PATCH_STRATEGIC] = { "PATCH", "application/strategic-merge-patch+json",
				      true },
	[TR_KUBE_PATCH_JSON] = { "PATCH", "application/json-patch+json", false },
	[TR_KUBE_DELETE] = { "DELETE", "application/json", true },
};

static void free_call(struct tr_kube_call *call)
{
	*call->at = call->next;
	if (call->next)
		call->next->at = call->at;
	if (call->job)
		tr_wire_cancel(call->job);
	event_free(call->again);
	tr_buf_free(&call->reply);
	free(call->path);
	free(call->body);
	free(call);
}

static uint32_t left_ms(const struct tr_kube_call *call)
{
	uint64_t now = tr_clock_ns();

	return now < call->deadline_ns ? (uint32_t)((call->deadline_ns - now) / MS) : 0;
}

static int on_bytes(void *arg, const char *bytes, size_t n)
{
	struct tr_kube_call *call = arg;

	tr_buf_add(&call->reply, bytes, n);
	return 0;
}

static void on_end(void *arg, const struct tr_wire_end *end);

static void start_try(struct tr_kube_call *call)
{
	static const struct tr_wire_events events = { NULL, on_bytes, on_end };
	struct tr_wire_ask ask = {
		.method = verbs[call->verb].method,
		.path = call->path,
		.content_type = verbs[call->verb].type,
		.body = call->body,
		.body_bytes = call->body ? strlen(call->body) : 0,
		.reply_max = call->reply_max,
	};

	ask.timeout_ms = left_ms(call);
	if (call->may_repeat && ask.timeout_ms / TRY_PART > TRY_MIN_MS)
		ask.timeout_ms /= TRY_PART;
	if (!ask.timeout_ms)
		ask.timeout_ms = 1;
	tr_buf_clear(&call->reply);
	call->tries++;
	call->kube->counts.requests++;
	call->job = tr_wire_start(call->kube->wire, &ask, &events, call);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	start_try(arg);
}

/* Whether the server may have acted on what it was sent. */
static bool is_taken_on(const struct tr_wire_end *end, const struct tr_kube_status *status)
{
	if (end->r < 0 && !end->status)
		return end->was_sent;
	return status->code != 429 && !(status->code >= 500 && status->retry_after_s);
}

static bool is_worth_repeating(const struct tr_wire_end *end,
			       const struct tr_kube_status *status)
{
	if (end->r < 0)
		return end->r != -EMSGSIZE && end->r != -EPROTO;
	return tr_kube_status_errno(status) == EAGAIN;
}

/* Plans another try. False: this was the last. */
static bool try_again(struct tr_kube_call *call, const struct tr_wire_end *end,
		      const struct tr_kube_status *status)
{
	uint32_t pause_ms, asked_ms = status->retry_after_s * 1000;
	struct timeval wait;

	if (end->r == 0 && status->code == 401 && !call->has_refreshed) {
		call->has_refreshed = true;
		if (tr_wire_refresh(call->kube->wire)) {
			start_try(call);
			return true;
		}
	}
	if (end->r == 0 && status->code < 300)
		return false;
	if (!is_worth_repeating(end, status) ||
	    (!call->may_repeat && is_taken_on(end, status)))
		return false;
	pause_ms = tr_backoff_next(&call->pause);
	if (asked_ms > pause_ms)
		/* Not all who were told the same second at that very second. */
		pause_ms = asked_ms + pause_ms % 1000;
	if (pause_ms >= left_ms(call))
		return false;
	if (status->code == 429)
		call->kube->counts.throttled++;
	call->kube->counts.retries++;
	wait = tr_wire_ms(pause_ms);
	(void)evtimer_add(call->again, &wait);
	return true;
}

static int judge(const struct tr_kube_call *call, const struct tr_wire_end *end,
		 const struct tr_kube_reply *reply, struct tr_err *err)
{
	const struct tr_kube_status *s = &reply->status;
	const char *method = verbs[call->verb].method;

	if (end->r < 0)
		return tr_fail(err, -end->r, "%s %.200s: %.200s", method, call->path,
			       end->why);
	if (s->code < 200 || s->code >= 300)
		return tr_fail(err, tr_kube_status_errno(s), "%s %.120s: %d%s%s%s%.240s",
			       method, call->path, s->code, s->reason[0] ? " " : "",
			       s->reason, s->message[0] ? ": " : "", s->message);
	if (reply->bytes && !reply->body)
		return tr_fail(err, EBADMSG, "%s %.200s: the reply is not JSON", method,
			       call->path);
	return 0;
}

static void on_end(void *arg, const struct tr_wire_end *end)
{
	struct tr_kube_call *call = arg;
	struct tr_kube_reply reply = { .text = call->reply.p ? call->reply.p : "",
				       .bytes = call->reply.n };
	struct tr_err err = { 0 };
	json_t *body = NULL;
	int r;

	call->job = NULL;
	if (end->r == 0)
		body = tr_server_json(reply.text, reply.bytes, JSON_DECODE_ANY, NULL);
	tr_kube_status_read(&reply.status, end->status, body, reply.text,
			    end->status >= 300 ? reply.bytes : 0);
	if (end->retry_after_s > reply.status.retry_after_s)
		reply.status.retry_after_s = end->retry_after_s;
	if (try_again(call, end, &reply.status)) {
		json_decref(body);
		return;
	}
	reply.body = body;
	reply.tries = call->tries;
	r = judge(call, end, &reply, &err);
	if (r < 0)
		call->kube->counts.failed++;
	if (call->done) {
		tr_kube_done *done = call->done;
		void *done_arg = call->arg;
		struct tr_buf text = call->reply;

		call->reply = (struct tr_buf){ 0 };
		free_call(call);
		done(done_arg, r, &reply, &err);
		tr_buf_free(&text);
	} else {
		free_call(call);
	}
	json_decref(body);
}

struct tr_kube_call *tr_kube_start(struct tr_kube *k, const struct tr_kube_ask *ask,
				   tr_kube_done *done, void *arg)
{
	struct tr_kube_call *call = tr_xcalloc(1, sizeof(*call));
	uint32_t deadline_ms = ask->deadline_ms ? ask->deadline_ms : TR_KUBE_DEADLINE_MS;

	call->kube = k;
	call->verb = ask->verb;
	call->path = tr_xstrdup(ask->path);
	if (ask->body) {
		call->body = json_dumps(ask->body, JSON_COMPACT | JSON_ENCODE_ANY);
		if (!call->body)
			abort();
	}
	call->reply_max = ask->reply_max ? ask->reply_max : TR_KUBE_REPLY_MAX;
	call->may_repeat = verbs[ask->verb].may_repeat || ask->may_repeat;
	call->deadline_ns = tr_clock_ns() + deadline_ms * MS;
	call->pause = (struct tr_backoff){ .first_ms = 200, .max_ms = 5000 };
	call->again = evtimer_new(tr_wire_base(k->wire), on_again, call);
	if (!call->again)
		abort();
	call->done = done;
	call->arg = arg;
	call->at = &k->calls;
	call->next = k->calls;
	if (k->calls)
		k->calls->at = &call->next;
	k->calls = call;
	start_try(call);
	return call;
}

void tr_kube_cancel(struct tr_kube_call *call)
{
	free_call(call);
}

const struct tr_kube_counts *tr_kube_counts(const struct tr_kube *k)
{
	return &k->counts;
}

struct tr_wire *tr_kube_wire(const struct tr_kube *k)
{
	return k->wire;
}

int tr_kube_open(struct tr_kube **out, struct event_base *base,
		 struct tr_kube_access *access, struct tr_err *err)
{
	struct tr_kube *k = tr_xcalloc(1, sizeof(*k));
	int r = tr_wire_open(&k->wire, base, access, err);

	if (r < 0)
		free(k);
	else
		*out = k;
	return r;
}

void tr_kube_close(struct tr_kube *k)
{
	if (!k)
		return;
	for (struct tr_kube_call *call = k->calls, *next; call; call = next) {
		next = call->next;
		free_call(call);
	}
	tr_wire_close(k->wire);
	free(k);
}
