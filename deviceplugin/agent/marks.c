/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/agent/agent.h"
#include "deviceplugin/report/log.h"
#include "kube/marks.h"
#include "kube/pod_devices.h"
#include "kube/write.h"
#include "tranche/names.h"

/* How many of RESOURCE the container asks for. */
static int64_t asked_for(const struct tr_pod_container *container, const char *resource)
{
	const struct tr_amount *amount = tr_amount_find(&container->limits, resource);

	return amount && !amount->is_bad ? amount->value : 0;
}

static bool is_all_armed(const struct tr_agent *a, const struct tr_pod *pod)
{
	bool has_any = false;

	for (size_t i = 0; i < pod->container_count; i++) {
		const struct tr_pod_container *container = &pod->containers[i];

		if (!asked_for(container, a->config.resource_name))
			continue;
		has_any = true;
		if (!tr_book_of(tr_arm_book(a->arm), pod->object.uid, container->name))
			return false;
	}
	return has_any;
}

static void on_written(void *arg, int r, const struct tr_kube_reply *reply,
		       const struct tr_err *err)
{
	(void)arg;
	(void)reply;
	if (r < 0)
		tr_log(TR_LOG_WARN, "mark_not_written", "reason", err->msg, NULL);
}

static void annotate(struct tr_agent *a, const struct tr_pod *pod,
		     const struct tr_named *marks, size_t count)
{
	const struct tr_annotating writing = {
		.kind = &tr_kube_pods,
		.space = pod->object.space,
		.name = pod->object.name,
		/* Another pod of that name, or another word of its scheduler meanwhile: the watch will
		 * tell, and this is looked at again. */
		.version = pod->object.version,
		.annotations = { marks, count },
	};
	struct tr_err err = { 0 };

	if (tr_kube_annotate(a->kube, &writing, on_written, a, NULL, &err) < 0)
		on_written(a, -EINVAL, NULL, &err);
}

/* ---- HAMi's lock of the node ---- */

struct unlocking {
	struct tr_agent *agent;
	char space[64], pod[254];
};

static void on_node(void *arg, int r, const struct tr_kube_reply *reply,
		    const struct tr_err *problem)
{
	tr_autofree struct unlocking *u = arg;
	const struct tr_named gone = { TR_NODE_LOCK, NULL };
	const json_t *meta;
	const char *text;
	struct tr_node_lock lock;
	struct tr_err err = { 0 };
	struct tr_annotating writing = { .kind = &tr_kube_nodes,
					 .name = u->agent->config.node_name,
					 .annotations = { &gone, 1 } };

	if (r < 0) {
		on_written(u->agent, r, reply, problem);
		return;
	}
	meta = json_object_get(reply->body, "metadata");
	writing.version = json_string_value(json_object_get(meta, "resourceVersion"));
	text = json_string_value(
		json_object_get(json_object_get(meta, "annotations"), TR_NODE_LOCK));
	if (!text || !writing.version || tr_node_lock_parse(&lock, text, &err) < 0 ||
	    strcmp(lock.space, u->space) != 0 || strcmp(lock.pod, u->pod) != 0)
		return; /* not this pod's */
	if (tr_kube_annotate(u->agent->kube, &writing, on_written, u->agent, NULL, &err) <
	    0)
		on_written(u->agent, -EINVAL, NULL, &err);
}

static void release_lock(struct tr_agent *a, const struct tr_pod *pod)
{
	char path[TR_KUBE_PATH];
	struct unlocking *u;
	struct tr_err err = { 0 };

	if (tr_kube_path(path, &tr_kube_nodes, NULL, a->config.node_name, NULL, &err) < 0)
		return;
	u = tr_xcalloc(1, sizeof(*u));
	u->agent = a;
	(void)snprintf(u->space, sizeof(u->space), "%s", pod->object.space);
	(void)snprintf(u->pod, sizeof(u->pod), "%s", pod->object.name);
	(void)tr_kube_start(a->kube,
			    &(struct tr_kube_ask){ .verb = TR_KUBE_GET, .path = path },
			    on_node, u);
}

/* What HAMi's plugin leaves when it has allocated all of a pod. */
static void finish_for_hami(struct tr_agent *a, const struct tr_pod *pod)
{
	tr_auto_buf struct tr_buf rest = { 0 };
	struct tr_named marks[] = {
		{ TR_POD_BIND_PHASE, tr_bind_phase_name(TR_BIND_SUCCESS) },
		{ TR_POD_TO_ALLOCATE, NULL },
	};
	bool has_list = tr_named_find(&pod->object.annotations, TR_POD_TO_ALLOCATE) != NULL;

	for (size_t i = 0; i < pod->container_count; i++)
		tr_buf_text(&rest, ";");
	marks[1].value = rest.p;
	annotate(a, pod, marks, has_list ? 2 : 1);
	release_lock(a, pod);
}

/* ---- a pod that nobody had decided on ---- */

/* What it got, in the scheduler's form: so that a scheduler counts it. */
static void tell_decision(struct tr_agent *a, const struct tr_pod *pod)
{
	tr_auto_buf struct tr_buf text = { 0 };
	struct tr_named mark = { TR_POD_ALLOCATED, NULL };

	for (size_t i = 0; i < pod->container_count; i++) {
		const struct tr_pod_container *container = &pod->containers[i];
		const struct tr_alloc *alloc = tr_book_of(tr_arm_book(a->arm),
							  pod->object.uid, container->name);

		for (size_t p = 0; alloc && p < alloc->part_count; p++)
			tr_buf_print(
				&text, "%s,NVIDIA,%" PRIu64 ",%u:", alloc->parts[p].uuid,
				alloc->parts[p].limit_bytes >> 20, alloc->parts[p].cores);
		tr_buf_text(&text, ";");
	}
	mark.value = text.p;
	annotate(a, pod, &mark, 1);
}

void tr_agent_mark_pod(struct tr_agent *a, const struct tr_pod *pod)
{
	const struct tr_named_list *marks = &pod->object.annotations;
	const char *phase = tr_named_find(marks, TR_POD_BIND_PHASE);
	enum tr_bind_phase now;

	if (!a->kube || !is_all_armed(a, pod))
		return;
	if (!tr_named_find(marks, TR_POD_ALLOCATED))
		tell_decision(a, pod);
	else if (a->config.hami_protocol && phase &&
		 tr_bind_phase_parse(phase, &now) == 0 && now == TR_BIND_ALLOCATING)
		finish_for_hami(a, pod);
}
