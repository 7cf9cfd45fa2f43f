/* SPDX-License-Identifier: Apache-2.0 */
/* What the book asks the API server for, and writes there: struct tr_arm_ports. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/agent/agent.h"
#include "deviceplugin/arm/identify.h"
#include "kube/marks.h"
#include "kube/write.h"
#include "tranche/names.h"

#define DEADLINE_MS 5000 /* a container waits for it */

/* One request under way; one of its answers is wanted. */
struct tr_agent_ask {
	struct tr_agent *agent;
	tr_pod_told *pod_told;
	tr_node_told *node_told;
	tr_pod_written *written;
	void *arg;
	struct tr_kube_call *call;
	struct tr_agent_ask *next;
};

static struct tr_agent_ask *new_ask(struct tr_agent *a, void *arg)
{
	struct tr_agent_ask *ask = tr_xcalloc(1, sizeof(*ask));

	ask->agent = a;
	ask->arg = arg;
	ask->next = a->asks;
	a->asks = ask;
	return ask;
}

/* Its content, the rest of it is gone. */
static struct tr_agent_ask take_ask(struct tr_agent_ask *ask)
{
	struct tr_agent_ask **at = &ask->agent->asks, taken = *ask;

	while (*at != ask)
		at = &(*at)->next;
	*at = ask->next;
	free(ask);
	return taken;
}

void tr_agent_forget_asks(struct tr_agent *a)
{
	while (a->asks) {
		struct tr_agent_ask *ask = a->asks;

		a->asks = ask->next;
		if (ask->call)
			tr_kube_cancel(ask->call);
		free(ask);
	}
}

/* Whoever reads is told about the object; the other one is not. */
static void on_reply(void *arg, int r, const struct tr_kube_reply *reply,
		     const struct tr_err *problem)
{
	struct tr_agent_ask ask = take_ask(arg);
	const struct tr_keep *keep = &ask.agent->keep;
	struct tr_object *object = NULL;
	struct tr_err err = { 0 };

	if (r < 0 && problem)
		err = *problem;
	if (r == 0 && ask.pod_told)
		r = tr_pod_extract(reply->body, keep, &object, &err);
	if (r == 0 && ask.node_told)
		r = tr_node_extract(reply->body, keep, &object, &err);
	if (ask.pod_told)
		ask.pod_told(ask.arg, r, (const struct tr_pod *)(const void *)object, &err);
	else if (ask.node_told)
		ask.node_told(ask.arg, r, (const struct tr_node *)(const void *)object,
			      &err);
	else
		ask.written(ask.arg, r, &err);
	free(object);
}

static int away(const struct tr_agent *a, struct tr_err *err)
{
	return tr_fail(err, ENOTCONN, "the API server cannot be asked: %s", a->kube_says);
}

static void get(struct tr_agent_ask *ask, const char *path)
{
	const struct tr_kube_ask question = { .verb = TR_KUBE_GET,
					      .path = path,
					      .deadline_ms = DEADLINE_MS };

	ask->call = tr_kube_start(ask->agent->kube, &question, on_reply, ask);
}

/* ---- reading ---- */

void tr_agent_pod_of(const char *space, const char *name, bool is_fresh, tr_pod_told *told,
		     void *told_arg, void *arg)
{
	struct tr_agent *a = arg;
	const struct tr_pod *pod = is_fresh ? NULL : tr_agent_find_pod(a, space, name);
	char path[TR_KUBE_PATH];
	struct tr_agent_ask *ask;
	struct tr_err err = { 0 };
	int r = 0;

	if (!pod)
		r = a->kube ? tr_kube_path(path, &tr_kube_pods, space, name, NULL, &err)
			    : tr_wrap(&err, away(a, &err), "pod %s/%s", space, name);
	if (pod || r < 0) {
		told(told_arg, r, pod, &err);
		return;
	}
	ask = new_ask(a, told_arg);
	ask->pod_told = told;
	get(ask, path);
}

void tr_agent_node_of(tr_node_told *told, void *told_arg, void *arg)
{
	struct tr_agent *a = arg;
	char path[TR_KUBE_PATH];
	struct tr_agent_ask *ask;
	struct tr_err err = { 0 };
	int r = a->kube ? tr_kube_path(path, &tr_kube_nodes, NULL, a->config.node_name,
				       NULL, &err)
			: away(a, &err);

	if (r < 0) {
		told(told_arg, r, NULL, &err);
		return;
	}
	ask = new_ask(a, told_arg);
	ask->node_told = told;
	get(ask, path);
}

struct promise {
	const struct tr_pod *but;
	const char *resource, *uuid;
	bool is_made;
};

static void look_at(void *arg, const struct tr_object *object)
{
	struct promise *p = arg;
	const struct tr_pod *pod = (const struct tr_pod *)(const void *)object;

	if (strcmp(pod->object.uid, p->but->object.uid) != 0 &&
	    tr_pod_is_on(pod, p->resource, p->uuid))
		p->is_made = true;
}

bool tr_agent_is_promised(const struct tr_pod *pod, const char *uuid, void *arg)
{
	struct tr_agent *a = arg;
	struct promise p = { pod, a->config.resource_name, uuid, false };

	if (a->watch)
		tr_watch_each(a->watch, look_at, &p);
	return p.is_made;
}

struct search {
	const char *uid; /* NULL: one that is being allocated by HAMi's marks */
	const char *node;
	const struct tr_pod *found;
};

/* HAMi's rule for whose an Allocate is, where nobody can know. */
static bool is_allocating(const struct tr_pod *pod, const char *node)
{
	const struct tr_named_list *notes = &pod->object.annotations;
	const char *phase = tr_named_find(notes, TR_POD_BIND_PHASE);
	const char *of = tr_named_find(notes, TR_POD_NODE);
	enum tr_bind_phase bind;

	return pod->phase == TR_POD_PENDING && tr_named_find(notes, TR_POD_BIND_TIME) &&
	       phase && tr_bind_phase_parse(phase, &bind) == 0 && bind != TR_BIND_FAILED &&
	       of && strcmp(of, node) == 0;
}

static void look_for(void *arg, const struct tr_object *object)
{
	struct search *s = arg;
	const struct tr_pod *pod = (const struct tr_pod *)(const void *)object;

	if (s->uid ? strcmp(object->uid, s->uid) != 0 : !is_allocating(pod, s->node))
		return;
	/* The watch knows no order; names do. */
	if (!s->found || strcmp(object->name, s->found->object.name) < 0)
		s->found = pod;
}

static void tell_found(struct tr_agent *a, struct search *s, tr_pod_told *told,
		       void *told_arg)
{
	struct tr_err err = { 0 };

	if (a->watch)
		tr_watch_each(a->watch, look_for, s);
	told(told_arg,
	     s->found ? 0
		      : tr_fail(&err, ENOENT,
				a->watch ? "no such pod is known of this node"
					 : "the API server is not watched"),
	     s->found, &err);
}

void tr_agent_pod_with(const char *uid, tr_pod_told *told, void *told_arg, void *arg)
{
	tell_found(arg, &(struct search){ .uid = uid }, told, told_arg);
}

/* The same in a list of the API server's, for the watch may be behind the kubelet's. */
static void on_list(void *arg, int r, const struct tr_kube_reply *reply,
		    const struct tr_err *problem)
{
	struct tr_agent_ask ask = take_ask(arg);
	const struct tr_agent *a = ask.agent;
	const json_t *items = r == 0 ? json_object_get(reply->body, "items") : NULL;
	struct search s = { .node = a->config.node_name };
	struct tr_object *best = NULL, *object;
	struct tr_err err = { 0 };

	for (size_t i = 0; i < json_array_size(items); i++) {
		const struct tr_pod *before = s.found;

		if (tr_pod_extract(json_array_get(items, i), &a->keep, &object, NULL) < 0)
			continue;
		look_for(&s, object);
		free(s.found == before ? object : best);
		if (s.found != before)
			best = object;
	}
	if (r < 0)
		err = *problem;
	else if (!best)
		r = tr_fail(&err, ENOENT, "no such pod is known of this node");
	ask.pod_told(ask.arg, r, (const struct tr_pod *)(const void *)best, &err);
	free(best);
}

void tr_agent_pending_pod(tr_pod_told *told, void *told_arg, void *arg)
{
	struct tr_agent *a = arg;
	struct search s = { .node = a->config.node_name };
	tr_autofree char *path = tr_xprintf(
		"/api/v1/pods?fieldSelector=spec.nodeName%%3D%s", a->config.node_name);
	const struct tr_kube_ask list = { .verb = TR_KUBE_GET,
					  .path = path,
					  .deadline_ms = DEADLINE_MS };
	struct tr_agent_ask *ask;

	/* Where nobody watches, what is held may be of pods that are gone. */
	if (a->watch && tr_watch_state(a->watch).is_watching)
		tr_watch_each(a->watch, look_for, &s);
	if (s.found || !a->kube) {
		tell_found(a, &s, told, told_arg);
		return;
	}
	ask = new_ask(a, told_arg);
	ask->pod_told = told;
	ask->call = tr_kube_start(a->kube, &list, on_list, ask);
}

/* ---- writing ---- */

static void write_it(struct tr_agent *a, const struct tr_annotating *writing,
		     tr_pod_written *written, void *written_arg)
{
	struct tr_agent_ask *ask = new_ask(a, written_arg);
	struct tr_err err = { 0 };
	int r;

	ask->written = written;
	r = a->kube ? tr_kube_annotate(a->kube, writing, on_reply, ask, &ask->call, &err)
		    : away(a, &err);
	if (r < 0)
		on_reply(ask, r, NULL, &err);
}

void tr_agent_annotate(const char *space, const char *name, const char *version,
		       const struct tr_named_list *annotations, tr_pod_written *written,
		       void *written_arg, void *arg)
{
	write_it(arg,
		 &(struct tr_annotating){ &tr_kube_pods, space, name, version,
					  *annotations },
		 written, written_arg);
}

void tr_agent_annotate_node(const char *version, const struct tr_named_list *annotations,
			    tr_pod_written *written, void *written_arg, void *arg)
{
	struct tr_agent *a = arg;

	write_it(a,
		 &(struct tr_annotating){ &tr_kube_nodes, NULL, a->config.node_name,
					  version, *annotations },
		 written, written_arg);
}
