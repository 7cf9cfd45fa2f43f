/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocate without CDI: what a container gets must be in the answer, so its pod is inferred as HAMi's plugin
 * does: the one that the node's lock names, else the first that waits for its devices here. One Allocate at a
 * time, each after the last one's marks are written. PreStartContainer verifies it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/arm/inside.h"
#include "kube/marks.h"
#include "kube/pod_devices.h"
#include "tranche/names.h"

struct request {
	struct tr_arm *arm;
	struct tr_rpc_call *call; /* NULL: answered */
	struct tr_ids *containers;
	size_t count;
	bool is_asked;            /* it is at work */
	char space[64], pod[254]; /* of the pod, once it is known */
	struct request *next;
};

static void work(struct tr_arm *arm);

static void free_request(struct request *request)
{
	for (size_t c = 0; c < request->count; c++)
		tr_texts_free(request->containers[c].ids, request->containers[c].count);
	free(request->containers);
	free(request);
}

/* The first one is through. */
static void next(struct tr_arm *arm)
{
	struct request *request = arm->requests;

	arm->requests = request->next;
	if (!arm->requests)
		arm->last_request = &arm->requests;
	free_request(request);
	tr_hami_poke(arm);
	work(arm);
}

static void on_written(void *arg, int r, const struct tr_err *told)
{
	struct request *request = arg;
	struct tr_err err = { 0 };

	if (r < 0) {
		(void)tr_fail(&err, -r, "HAMi's marks on pod %s/%s: %s", request->space,
			      request->pod,
			      told && told->msg[0] ? told->msg : strerror(-r));
		tr_arm_tell(request->arm, TR_ARM_ODD, NULL, err.msg);
	}
	next(request->arm);
}

static void write_marks(struct request *request, const char *left, const char *phase)
{
	const struct tr_arm_ports *ports = &request->arm->options.ports;
	struct tr_named marks[2];
	size_t n = 0;

	if (left)
		marks[n++] = (struct tr_named){ TR_POD_TO_ALLOCATE, left };
	if (phase)
		marks[n++] = (struct tr_named){ TR_POD_BIND_PHASE, phase };
	if (ports->annotate && n)
		ports->annotate(request->space, request->pod, NULL,
				&(struct tr_named_list){ marks, n }, on_written, request,
				ports->arg);
	else
		next(request->arm);
}

static void refuse(struct request *request, int r, const struct tr_err *err)
{
	struct tr_pod_row row = { request->space, request->pod, "", NULL, 0 };
	struct tr_pod_list rows = { .rows = &row, .count = request->pod[0] ? 1 : 0 };

	tr_allocate_refuse(request->arm, request->call, request->containers, &rows, r, err);
	request->call = NULL;
	write_marks(request, NULL,
		    request->pod[0] ? tr_bind_phase_name(TR_BIND_FAILED) : NULL);
}

/* What of the decision is still to be allocated; true: nothing. */
static bool print_left(const struct tr_arm *arm, const struct tr_pod *pod,
		       struct tr_buf *out)
{
	const char *text = tr_named_find(&pod->object.annotations, TR_POD_ALLOCATED);
	tr_autofree uint32_t *wanted = tr_xcalloc(pod->container_count + 1,
						  sizeof(*wanted));
	struct tr_pod_devices devices = { 0 };
	bool is_all;

	for (size_t i = 0; i < pod->container_count; i++)
		(void)tr_wanted(pod, i, arm->options.rules.resource, &wanted[i], NULL);
	if (!text || tr_pod_devices_parse(&devices, text, NULL) < 0)
		return true;
	(void)tr_pod_devices_align(&devices, wanted, pod->container_count, NULL);
	for (size_t i = 0; i < pod->container_count; i++)
		if (tr_book_of(&arm->book, pod->object.uid, pod->containers[i].name))
			tr_pod_devices_clear(&devices, i);
	is_all = devices.container_count == 0;
	tr_pod_devices_print(&devices, pod->container_count, out);
	tr_pod_devices_free(&devices);
	return is_all;
}

/* Allocations for all of the request, or none. */
static int give(struct request *request, const struct tr_pod *pod, struct tr_err *err)
{
	struct tr_arm *arm = request->arm;
	struct tr_alloc *made[TR_PLUGIN_CONTAINERS];
	struct tr_injection injections[TR_PLUGIN_CONTAINERS];
	tr_autofree struct tr_answer *answers = tr_xcalloc(request->count + 1,
							   sizeof(*answers));
	size_t n = 0;
	int r = 0;

	while (r == 0 && n < request->count) {
		r = tr_arm_infer(arm, pod, &request->containers[n], &made[n], err);
		if (r == 0) {
			tr_answer_fill(arm, made[n], &answers[n], &injections[n]);
			n++;
		}
	}
	if (r == 0)
		(void)tr_plugin_allocated(request->call, injections, request->count);
	while (r < 0 && n--)
		(void)tr_arm_drop(arm, made[n]);
	return r;
}

static void on_pod(void *arg, int r, const struct tr_pod *pod, const struct tr_err *told)
{
	struct request *request = arg;
	tr_auto_buf struct tr_buf left = { 0 };
	struct tr_err err = { 0 };
	bool is_all;

	if (r < 0) {
		r = tr_fail(&err, -r, "no pod waits for GPUs of this node: %s",
			    told && told->msg[0] ? told->msg : strerror(-r));
	} else {
		(void)snprintf(request->space, sizeof(request->space), "%s",
			       pod->object.space);
		(void)snprintf(request->pod, sizeof(request->pod), "%s", pod->object.name);
		r = give(request, pod, &err);
	}
	if (r < 0) {
		refuse(request, r, &err);
		return;
	}
	request->call = NULL;
	is_all = print_left(request->arm, pod, &left);
	write_marks(request, left.p ? left.p : "",
		    is_all ? tr_bind_phase_name(TR_BIND_SUCCESS) : NULL);
}

static void on_node(void *arg, int r, const struct tr_node *node, const struct tr_err *told)
{
	struct request *request = arg;
	const struct tr_arm_ports *ports = &request->arm->options.ports;
	const char *text = r < 0 ? NULL
				 : tr_named_find(&node->object.annotations, TR_NODE_LOCK);
	struct tr_node_lock lock;
	struct tr_err err = { 0 };

	if (text && tr_node_lock_parse(&lock, text, NULL) == 0 && lock.pod[0])
		ports->pod_of(lock.space, lock.pod, true, on_pod, request, ports->arg);
	else if (r == 0 && ports->pending_pod)
		ports->pending_pod(on_pod, request, ports->arg);
	else
		refuse(request,
		       tr_fail(&err, r < 0 ? -r : ENOENT, "this node's object: %s",
			       told ? told->msg : "it has no lock"),
		       &err);
}

static void work(struct tr_arm *arm)
{
	struct request *request = arm->requests;
	const struct tr_arm_ports *ports = &arm->options.ports;

	if (!request || request->is_asked)
		return;
	request->is_asked = true;
	ports->node_of(on_node, request, ports->arg);
}

static struct tr_ids *copy_containers(const struct tr_ids *from, size_t count)
{
	struct tr_ids *to = tr_xcalloc(count + 1, sizeof(*to));

	for (size_t c = 0; c < count; c++)
		to[c] = (struct tr_ids){
			(const char *const *)tr_texts_copy(from[c].ids, from[c].count),
			from[c].count,
		};
	return to;
}

void tr_infer_allocate(struct tr_arm *arm, struct tr_rpc_call *call,
		       const struct tr_ids *containers, size_t count)
{
	struct request *request;
	struct tr_err err = { 0 };

	if (!arm->options.ports.node_of) {
		tr_allocate_refuse(arm, call, count ? containers : NULL, NULL,
				   tr_fail(&err, ENOTSUP,
					   "the API server is not there to say which pod "
					   "this is"),
				   &err);
		return;
	}
	request = tr_xcalloc(1, sizeof(*request));
	*request = (struct request){ .arm = arm,
				     .call = call,
				     .containers = copy_containers(containers, count),
				     .count = count };
	if (!arm->requests)
		arm->last_request = &arm->requests;
	*arm->last_request = request;
	arm->last_request = &request->next;
	work(arm);
}

static int check_owner(const struct tr_alloc *alloc, const char *owner, struct tr_err *err)
{
	if (!owner[0] || strcmp(alloc->uid, owner) == 0)
		return 0;
	return tr_fail(
		err, EBADMSG,
		"the devices of the pod with UID %s were taken for those of pod %s/%s "
		"with UID %s: delete the pod",
		owner, alloc->space, alloc->pod, alloc->uid);
}

/* Init containers' ids are others', of the same pod. OWNER: the pod's UID, if that is known. */
int tr_infer_verify(const struct tr_arm *arm, const struct tr_pod_list *list,
		    const struct tr_ids *ids, const char *owner, struct tr_err *err)
{
	const struct tr_alloc *newest = tr_book_newest(&arm->book, ids);
	const struct tr_pod_row *row;
	int r = tr_owner_find(list, ids, &row, err);

	for (size_t i = 0; r == 0 && newest && i < list->count; i++) {
		struct tr_ids of = { list->rows[i].ids, list->rows[i].count };

		if (tr_alloc_has_ids(newest, &of))
			row = &list->rows[i];
	}
	/* Devices of init containers only are listed nowhere. */
	if (r == -EAGAIN && newest && newest->kind == TR_CONTAINER_INIT)
		return check_owner(newest, owner, err);
	if (r < 0 || !newest || newest->state == TR_ALLOC_WAITING)
		return r;
	if (strcmp(row->namespace, newest->space) == 0 &&
	    strcmp(row->pod, newest->pod) == 0 &&
	    (newest->kind == TR_CONTAINER_INIT ||
	     strcmp(row->container, newest->container) == 0))
		return check_owner(newest, owner, err);
	return tr_fail(err, EBADMSG,
		       "the devices of container %s of pod %s/%s were taken for those of "
		       "container %s of pod %s/%s: delete the pod",
		       row->container, row->namespace, row->pod, newest->container,
		       newest->space, newest->pod);
}

void tr_infer_close(struct tr_arm *arm)
{
	struct tr_err err = { 0 };

	while (arm->requests) {
		struct request *request = arm->requests;

		arm->requests = request->next;
		if (request->call)
			tr_allocate_refuse(
				arm, request->call, request->containers, NULL,
				tr_fail(&err, ECANCELED, "the node agent is stopping"),
				&err);
		free_request(request);
	}
}
