/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/agent/agent.h"
#include "deviceplugin/report/log.h"
#include "kube/marks.h"
#include "rt/file.h"
#include "tranche/names.h"
#include "tranche/paths.h"

#define AGAIN_S 10 /* credentials that were not there may come */
#define AWAY_S  5  /* a watch that ends is opened again within less */

/* Of a pod that asks for as much: 64 containers with 16 devices each, a device in 64 bytes. */
#define ANNOTATION_MAX (64u * TR_DEVICES_MAX * 64u)
#define CONTAINERS_MAX 256u
/* Of a pod that has ended only HAMi's marks are read: a word, a time, the name of a node. */
#define MARK_MAX 253u

/* ---- pods that are known ---- */

const struct tr_pod *tr_agent_find_pod(const struct tr_agent *a, const char *space,
				       const char *name)
{
	return a->watch ? (const struct tr_pod *)(const void *)tr_watch_find(a->watch,
									     space, name)
			: NULL;
}

struct gathering {
	const struct tr_pod **at;
	size_t count, room;
};

static void gather(void *arg, const struct tr_object *object)
{
	struct gathering *g = arg;

	if (g->count < g->room)
		g->at[g->count++] = (const struct tr_pod *)(const void *)object;
}

/* Only a watch that is open knows that a pod is gone. */
const struct tr_pod **tr_agent_pods(struct tr_agent *a, size_t *count)
{
	struct tr_watch_state state = { 0 };
	struct gathering g = { 0 };

	if (a->watch)
		state = tr_watch_state(a->watch);
	if (!state.is_synced || !state.is_watching)
		return NULL;
	g.room = state.objects;
	g.at = tr_xcalloc(g.room + 1, sizeof(const struct tr_pod *));
	tr_watch_each(a->watch, gather, &g);
	*count = g.count;
	return g.at;
}

/* ---- the watch ---- */

static bool has_ended(const struct tr_pod *pod)
{
	return pod->phase == TR_POD_SUCCEEDED || pod->phase == TR_POD_FAILED;
}

static uint64_t hash_of(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */

	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
	return hash;
}

/* It is tried again every few seconds: told when it is another reason than the last time. "": none. */
static bool is_news(struct tr_agent *a, const struct tr_pod *pod, const char *reason)
{
	uint64_t of = hash_of(pod->object.uid), says = *reason ? hash_of(reason) : 0;
	size_t i = 0;

	while (i < TR_AGENT_REFUSALS && a->refusals[i].pod != of)
		i++;
	if (i == TR_AGENT_REFUSALS) {
		if (!says)
			return false;
		i = a->next_refusal++ % TR_AGENT_REFUSALS;
		a->refusals[i].pod = of;
		a->refusals[i].reason = 0;
	}
	if (a->refusals[i].reason == says)
		return false;
	a->refusals[i].reason = says;
	return true;
}

static void obey_grant(struct tr_agent *a, const struct tr_pod *pod)
{
	struct tr_err err = { 0 };
	const char *grant;
	int r;

	if (has_ended(pod))
		return;
	r = tr_pod_annotation(pod, TR_POD_GRANTED, &grant, &err);
	if (r == 0)
		r = tr_arm_grant(a->arm, pod, grant, &err);
	else if (r == -ENOENT)
		r = 0;
	if (is_news(a, pod, r < 0 ? err.msg : "") && r < 0)
		tr_log(TR_LOG_WARN, "grant_refused", "namespace", pod->object.space, "pod",
		       pod->object.name, "reason", err.msg, NULL);
}

static void obey_each(void *arg, const struct tr_object *object)
{
	obey_grant(arg, (const struct tr_pod *)(const void *)object);
}

/* One that there was no room for is tried again when there may be. */
void tr_agent_obey_grants(struct tr_agent *a)
{
	if (a->watch)
		tr_watch_each(a->watch, obey_each, a);
}

/* Refused by the kubelet, perhaps for an Allocate of ours. */
static bool is_waited_for(const struct tr_pod *pod)
{
	const char *text = tr_named_find(&pod->object.annotations, TR_POD_BIND_PHASE);
	enum tr_bind_phase phase;

	return pod->phase == TR_POD_FAILED && text &&
	       tr_bind_phase_parse(text, &phase) == 0 && phase == TR_BIND_ALLOCATING;
}

static void on_pod_changed(void *arg, const struct tr_object *old,
			   const struct tr_object *now)
{
	struct tr_agent *a = arg;
	const struct tr_pod *pod = (const struct tr_pod *)(const void *)now;

	(void)old;
	if (pod && is_waited_for(pod))
		tr_arm_handover(a->arm);
	if (!pod || has_ended(pod))
		tr_agent_sweep_soon(a);
	else
		obey_grant(a, pod);
}

static void on_watch_trouble(void *arg, int r, const struct tr_err *err)
{
	struct tr_agent *a = arg;

	(void)r;
	(void)snprintf(a->watch_says, sizeof(a->watch_says), "%s", err->msg);
	tr_log(TR_LOG_WARN, "api_server", "reason", err->msg, NULL);
}

static void on_register_trouble(const char *sentence, void *arg)
{
	(void)arg;
	tr_log(TR_LOG_WARN, "api_server", "reason", sentence, NULL);
}

void tr_agent_cluster_unready(const struct tr_agent *a, struct tr_buf *reasons)
{
	static const char so[] = "new pods are refused, containers that ran start again";
	uint64_t away_s, since_ns;

	if (!a->watch) {
		tr_buf_print(reasons, "API server: %s (%s)\n", a->kube_says, so);
		return;
	}
	since_ns = tr_watch_state(a->watch).away_ns;
	away_s = since_ns ? (tr_clock_ns() - since_ns) / 1000000000 : 0;
	if (away_s >= AWAY_S)
		tr_buf_print(reasons, "API server: away for %llu s%s%s (%s)\n",
			     (unsigned long long)away_s, *a->watch_says ? ": " : "",
			     a->watch_says, so);
}

/* ---- its life ---- */

static void set_keep(struct tr_agent *a)
{
	static const char *const annotations[] = {
		TR_POD_ALLOCATED, TR_POD_GRANTED, TR_POD_BIND_PHASE, TR_POD_BIND_TIME,
		TR_POD_NODE,      TR_POD_MIRROR,  TR_NODE_LOCK,      NULL,
	};
	const struct tr_config *c = &a->config;

	a->kept_resources[0] = c->resource_name;
	a->kept_resources[1] = c->resource_priority;
	a->keep = (struct tr_keep){ .annotations = annotations,
				    .resources = a->kept_resources,
				    .asks_for = c->resource_name,
				    .annotation_max = ANNOTATION_MAX,
				    .ended_annotation_max = MARK_MAX,
				    .containers_max = CONTAINERS_MAX };
}

static int open_watch(struct tr_agent *a, struct tr_err *err)
{
	const struct tr_watch_options options = {
		.kind = &tr_watch_pods,
		.field_selector = a->selector,
		.keep = &a->keep,
		.changed = on_pod_changed,
		.trouble = on_watch_trouble,
		.arg = a,
	};

	return tr_watch_open(&a->watch, a->kube, &options, err);
}

static int open_register(struct tr_agent *a, struct tr_err *err)
{
	const struct tr_config *c = &a->config;
	const struct tr_register_options options = {
		.node = c->node_name,
		.component = TR_AGENT_NAME,
		.lease_space = c->lease_namespace,
		.lease_s = c->lease_seconds,
		.with_capacity = c->capacity_mock,
		.mem_name = c->resource_memory,
		.cores_name = c->resource_cores,
		.on_trouble = on_register_trouble,
		.arg = a,
	};

	return tr_register_open(&a->reg, a->kube, a->base, &options, err);
}

static int open_all(struct tr_agent *a, struct tr_err *err)
{
	const char *path = *a->config.kubeconfig ? a->config.kubeconfig : NULL;
	struct tr_kube_access access = { 0 };
	int r = tr_kube_access_find(&access, path, err);

	if (r < 0)
		return r;
	r = tr_kube_open(&a->kube, a->base, &access, err);
	tr_kube_access_free(&access); /* nothing of it is left when it was taken over */
	if (r == 0)
		r = open_watch(a, err);
	if (r == 0)
		r = open_register(a, err);
	if (r == 0 && tr_nvml_cards(a->nvml)->version)
		tr_agent_offer(a);
	return r;
}

static void close_all(struct tr_agent *a)
{
	tr_agent_forget_asks(a);
	tr_register_close(a->reg);
	if (a->watch)
		tr_watch_close(a->watch);
	if (a->kube)
		tr_kube_close(a->kube);
	a->reg = NULL;
	a->watch = NULL;
	a->kube = NULL;
}

static void try_open(struct tr_agent *a)
{
	struct tr_err err = { 0 };

	if (open_all(a, &err) == 0) {
		*a->kube_says = '\0';
		return;
	}
	close_all(a);
	(void)snprintf(a->kube_says, sizeof(a->kube_says), "%s", err.msg);
	tr_log(TR_LOG_WARN, "no_api_server", "reason", err.msg, NULL);
	(void)event_add(a->kube_timer, &(struct timeval){ .tv_sec = AGAIN_S });
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	try_open(arg);
}

void tr_agent_cluster_open(struct tr_agent *a)
{
	a->selector = tr_xprintf("spec.nodeName=%s", a->config.node_name);
	a->kube_timer = evtimer_new(a->base, on_again, a);
	set_keep(a);
	if (a->kube_timer)
		try_open(a);
}

void tr_agent_cluster_close(struct tr_agent *a)
{
	close_all(a);
	if (a->kube_timer)
		event_free(a->kube_timer);
	free(a->selector);
}
