/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/pods.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/podresources.pb-c.h"
#include "rt/file.h"

#define LIST_S        5u
#define WAIT_FIRST_MS 20 /* the kubelet lets one call pass every 10 ms */
#define WAIT_MOST_MS  320

/* The kubelet's own clients take 16 MiB. */
static const struct tr_rpc_limits limits = { 16u << 20, 65536, 128u << 20 };

struct tr_pods_waiter {
	struct tr_pods *pods;
	unsigned deadline_ms;
	struct event *on_deadline;
	tr_pods_answer *answer;
	void *arg;
	struct tr_pods_waiter *next, **link;
};

struct tr_pods {
	struct tr_rpc *rpc;
	struct event_base *base;
	const char *socket, *resource;
	struct tr_rpc_channel *channel;
	struct event *on_again; /* sends a List: at once, or after a wait */
	struct tr_pods_waiter *waiting,
		*flying;        /* flying: the List under way is for them */
	bool is_flying, is_due; /* due: ON_AGAIN will send one */
	unsigned wait_ms;
	char sentence[512]; /* of the last failure */
};

static void unlink_waiter(struct tr_pods_waiter *waiter)
{
	if (!waiter->link)
		return;
	*waiter->link = waiter->next;
	if (waiter->next)
		waiter->next->link = waiter->link;
}

static void link_waiter(struct tr_pods_waiter *waiter, struct tr_pods_waiter **head)
{
	waiter->next = *head;
	if (waiter->next)
		waiter->next->link = &waiter->next;
	waiter->link = head;
	*head = waiter;
}

/* The first of a list that is not empty. */
static struct tr_pods_waiter *pop(struct tr_pods_waiter **head)
{
	struct tr_pods_waiter *waiter = *head;

	*head = waiter->next;
	if (waiter->next)
		waiter->next->link = head;
	waiter->link = NULL;
	return waiter;
}

void tr_pods_forget(struct tr_pods_waiter *waiter)
{
	unlink_waiter(waiter);
	event_free(waiter->on_deadline);
	free(waiter);
}

static void answer(struct tr_pods_waiter *waiter, int r, const struct tr_pod_list *list,
		   const char *sentence)
{
	tr_pods_answer *say = waiter->answer;
	void *arg = waiter->arg;

	tr_pods_forget(waiter);
	say(r, list, sentence, arg);
}

/* Socket, seconds. */
#define SILENT "the kubelet's PodResources (%s) did not answer within %g s"

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct tr_pods_waiter *waiter = arg;
	struct tr_pods *pods = waiter->pods;
	char sentence[1200];

	(void)fd;
	(void)what;
	(void)snprintf(sentence, sizeof(sentence), SILENT "%s%s", pods->socket,
		       waiter->deadline_ms / 1000.0, pods->sentence[0] ? ": " : "",
		       pods->sentence);
	answer(waiter, -ETIMEDOUT, NULL, sentence);
}

static void send_after(struct tr_pods *pods, unsigned ms)
{
	struct timeval wait = { .tv_sec = ms / 1000,
				.tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	if (pods->is_flying || pods->is_due)
		return;
	pods->is_due = true;
	(void)event_add(pods->on_again, &wait);
}

/* Everybody the List was for; a callback may forget others of them. */
static void answer_flying(struct tr_pods *pods, int r, const struct tr_pod_list *list,
			  const char *sentence)
{
	while (pods->flying)
		answer(pop(&pods->flying), r, list, sentence);
}

static void take_list(struct tr_pods *pods, const ProtobufCMessage *reply)
{
	struct tr_pod_list list;
	int r = tr_pod_list_make(reply, pods->resource, &list);

	pods->wait_ms = WAIT_FIRST_MS;
	pods->sentence[0] = '\0';
	answer_flying(pods, r, r < 0 ? NULL : &list, r < 0 ? "no memory for the pods" : "");
	if (r == 0)
		tr_pod_list_free(&list);
}

/* It is not there, or takes calls and says nothing: a later one may be answered. */
static void end_silent(struct tr_pods *pods)
{
	char sentence[600];

	(void)snprintf(sentence, sizeof(sentence), SILENT, pods->socket, (double)LIST_S);
	answer_flying(pods, -ETIMEDOUT, NULL, sentence);
}

static void on_end(const struct tr_rpc_end *end, void *arg)
{
	struct tr_pods *pods = arg;
	unsigned wait = 0;

	pods->is_flying = false;
	if (end->code == TR_RPC_OK) {
		take_list(pods, end->reply);
	} else if (end->code == TR_RPC_DEADLINE_EXCEEDED) {
		end_silent(pods);
	} else {
		(void)snprintf(pods->sentence, sizeof(pods->sentence), "%s (%d)",
			       end->sentence, (int)end->code);
		if (end->code == TR_RPC_RESOURCE_EXHAUSTED) {
			/* Some of it by chance, so that agents of one node do not march in step. */
			wait = pods->wait_ms + (unsigned)(tr_clock_ns() % pods->wait_ms);
			if (pods->wait_ms < WAIT_MOST_MS)
				pods->wait_ms *= 2;
		} else {
			answer_flying(pods, -EIO, NULL, pods->sentence);
		}
	}
	if (pods->flying || pods->waiting)
		send_after(pods, wait);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	struct tr_pods *pods = arg;
	V1__ListPodResourcesRequest request;
	struct tr_rpc_question question = {
		.method = "/v1.PodResourcesLister/List",
		.request = &request.base,
		.reply = &v1__list_pod_resources_response__descriptor,
		.deadline_ms = LIST_S * 1000,
		.waits = true,
		.on_end = on_end,
		.arg = pods,
	};
	struct tr_err err = { 0 };

	(void)fd;
	(void)what;
	pods->is_due = false;
	while (pods->waiting)
		link_waiter(pop(&pods->waiting), &pods->flying);
	if (!pods->flying)
		return; /* their deadlines came first */
	v1__list_pod_resources_request__init(&request);
	pods->is_flying = true;
	if (tr_rpc_ask(pods->channel, &question, NULL, &err) < 0) {
		pods->is_flying = false;
		answer_flying(pods, -ENOMEM, NULL, err.msg);
	}
}

int tr_pods_open(struct tr_rpc *rpc, struct event_base *base, const char *socket,
		 const char *resource, struct tr_pods **out, struct tr_err *err)
{
	struct tr_pods *pods = calloc(1, sizeof(*pods));
	int r;

	if (!pods)
		return tr_fail(err, ENOMEM, "no memory for PodResources");
	pods->rpc = rpc;
	pods->base = base;
	pods->socket = socket;
	pods->resource = resource;
	pods->wait_ms = WAIT_FIRST_MS;
	pods->on_again = event_new(base, -1, 0, on_again, pods);
	r = pods->on_again ? tr_rpc_channel_open(rpc, socket, &limits, &pods->channel, err)
			   : tr_fail(err, ENOMEM, "no memory for PodResources");
	if (r < 0) {
		tr_pods_close(pods);
		return r;
	}
	*out = pods;
	return 0;
}

void tr_pods_close(struct tr_pods *pods)
{
	if (!pods)
		return;
	while (pods->waiting)
		tr_pods_forget(pop(&pods->waiting));
	while (pods->flying)
		tr_pods_forget(pop(&pods->flying));
	tr_rpc_channel_close(pods->channel);
	if (pods->on_again)
		event_free(pods->on_again);
	free(pods);
}

int tr_pods_ask(struct tr_pods *pods, unsigned deadline_ms, tr_pods_answer *say, void *arg,
		struct tr_pods_waiter **out, struct tr_err *err)
{
	struct tr_pods_waiter *waiter = calloc(1, sizeof(*waiter));
	struct timeval deadline = { .tv_sec = deadline_ms / 1000,
				    .tv_usec = (suseconds_t)(deadline_ms % 1000) * 1000 };

	if (!waiter)
		return tr_fail(err, ENOMEM, "no memory to ask the kubelet");
	waiter->on_deadline = event_new(pods->base, -1, 0, on_deadline, waiter);
	if (!waiter->on_deadline || event_add(waiter->on_deadline, &deadline) < 0) {
		if (waiter->on_deadline)
			event_free(waiter->on_deadline);
		free(waiter);
		return tr_fail(err, ENOMEM, "no memory to ask the kubelet");
	}
	waiter->pods = pods;
	waiter->deadline_ms = deadline_ms;
	waiter->answer = say;
	waiter->arg = arg;
	link_waiter(waiter, &pods->waiting);
	send_after(pods, 0);
	if (out)
		*out = waiter;
	return 0;
}
