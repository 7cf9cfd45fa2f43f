/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Toward HAMi's scheduler, which locks a node from a pod's binding to its last Allocate, and waits for a word on
 * the pod. Who an Allocate is for is not known by then; but the lock names the pod, and when the newest
 * allocations are as many and as large as that pod asks for, they are taken for its. If that is wrong, the lock
 * goes a moment early, and nothing else: what a container gets is decided in PreStartContainer. An Allocate that is
 * refused is told only when the kubelet has said of the pod itself that it has failed, as it then does at once:
 * the word is about that pod, and it is final.
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

#define CLOCKS_DIFFER_S 60
#define WAIT_MS         50 /* after an Allocate: the pod's next one is some ms away */
#define AGAIN_MS        200
#define AGAIN_MAX_MS    30000

/* One turn: the node, its pod, the pod written, the lock written. */
struct handover {
	struct tr_arm *arm;
	char version[64]; /* of the node when the lock was read */
	char space[64], pod[254];
};

static bool is_pods(const struct tr_alloc *alloc, const struct tr_pod *pod, size_t index,
		    uint32_t wanted)
{
	if (alloc->id_count != wanted)
		return false;
	return alloc->state == TR_ALLOC_WAITING ||
	       (strcmp(alloc->uid, pod->object.uid) == 0 && alloc->index == index);
}

bool tr_hami_is_allocated(const struct tr_book *book, const struct tr_pod *pod,
			  const char *resource, int64_t since_unix_s)
{
	tr_autofree struct tr_alloc **all = tr_xcalloc(book->count + 1, sizeof(void *));
	size_t n = 0;

	for (struct tr_alloc *a = book->first; a; a = a->next)
		if (a->made_unix_s >= since_unix_s && !a->is_retired)
			all[n++] = a;
	for (size_t i = pod->container_count; i--;) {
		uint32_t wanted;

		if (tr_wanted(pod, i, resource, &wanted, NULL) < 0)
			return false;
		if (wanted && (n == 0 || !is_pods(all[--n], pod, i, wanted)))
			return false;
	}
	return true;
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	tr_arm_handover(arg);
}

static void wait_ms(struct tr_arm *arm, uint32_t ms)
{
	const struct timeval wait = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000L };

	if (!arm->base || !arm->options.ports.node_of)
		return;
	if (!arm->on_hami)
		arm->on_hami = event_new(arm->base, -1, 0, on_time, arm);
	if (arm->on_hami)
		(void)event_add(arm->on_hami, &wait);
}

static void end(struct handover *handover)
{
	struct tr_arm *arm = handover->arm;

	free(handover);
	arm->handover = NULL;
	tr_backoff_reset(&arm->hami_pause);
	if (arm->is_due)
		tr_hami_poke(arm);
	arm->is_due = false;
}

/* No pod is bound to the node while the lock is there: it is tried until it is done, and said once. */
static void fail(struct handover *handover, const char *what, int r,
		 const struct tr_err *told)
{
	const char *why = told && told->msg[0] ? told->msg : strerror(-r);
	struct tr_arm *arm = handover->arm;
	struct tr_err err = { 0 };

	if (handover->pod[0])
		(void)tr_fail(&err, -r, "%s for pod %s/%s: %s", what, handover->space,
			      handover->pod, why);
	else
		(void)tr_fail(&err, -r, "%s: %s", what, why);
	if (!arm->hami_pause.tries)
		tr_arm_tell(arm, TR_ARM_ODD, NULL, err.msg);
	free(handover);
	arm->handover = NULL;
	arm->is_due = false;
	wait_ms(arm, tr_backoff_next(&arm->hami_pause));
}

static void on_unlocked(void *arg, int r, const struct tr_err *told)
{
	struct handover *handover = arg;

	/* The node changed meanwhile: looked at again. */
	if (r == -ESTALE)
		handover->arm->is_due = true;
	if (r < 0 && r != -ESTALE)
		fail(handover, "HAMi's lock on the node", r, told);
	else
		end(handover);
}

/* The word that the scheduler has, or waits for, on this pod. -ENOENT: it is not for us to say one. */
static int read_phase(const struct tr_arm *arm, const struct tr_pod *pod,
		      enum tr_bind_phase *phase, int64_t *since_unix_s)
{
	const struct tr_named_list *notes = &pod->object.annotations;
	const char *text = tr_named_find(notes, TR_POD_BIND_PHASE),
		   *time = tr_named_find(notes, TR_POD_BIND_TIME);
	int64_t now_s = tr_unix_us() / 1000000;
	size_t all = pod->asked;
	uint32_t wanted;

	*since_unix_s = 0;
	/* By its clock, and made is by ours: where ours is behind, what was just allocated is not older. */
	if (time && tr_unix_time_parse(time, since_unix_s) == 0)
		*since_unix_s = (*since_unix_s < now_s ? *since_unix_s : now_s) -
				CLOCKS_DIFFER_S;
	/* Other vendors' plugins have the same lock. */
	for (size_t i = 0; i < pod->container_count; i++)
		if (tr_wanted(pod, i, arm->options.rules.resource, &wanted, NULL) == 0)
			all += wanted;
	if (!all || !text || tr_bind_phase_parse(text, phase) < 0 ||
	    (arm->options.node_name && strcmp(pod->node, arm->options.node_name) != 0))
		return -ENOENT;
	return 0;
}

static void unlock(struct handover *handover)
{
	static const struct tr_named unlocked[] = { { TR_NODE_LOCK, NULL } };
	const struct tr_arm_ports *ports = &handover->arm->options.ports;

	ports->annotate_node(handover->version, &(struct tr_named_list){ unlocked, 1 },
			     on_unlocked, handover, ports->arg);
}

static void on_written(void *arg, int r, const struct tr_err *told)
{
	struct handover *handover = arg;

	if (r == -ESTALE) {
		handover->arm->is_due = true;
		end(handover);
	} else if (r < 0) {
		fail(handover, "HAMi's marks", r, told);
	} else {
		unlock(handover);
	}
}

/* Of the very pod that was read, and not of one that has its name by now. */
static void write_failed(struct handover *handover, const struct tr_pod *pod)
{
	const struct tr_arm_ports *ports = &handover->arm->options.ports;
	const struct tr_named failed[] = {
		{ TR_POD_BIND_PHASE, tr_bind_phase_name(TR_BIND_FAILED) },
	};

	ports->annotate(pod->object.space, pod->object.name, pod->object.version,
			&(struct tr_named_list){ failed, 1 }, on_written, handover,
			ports->arg);
}

static void write_success(struct handover *handover, const struct tr_pod *pod)
{
	const struct tr_arm_ports *ports = &handover->arm->options.ports;
	const struct tr_pod_devices none = { 0 };
	tr_auto_buf struct tr_buf left = { 0 };

	tr_pod_devices_print(&none, pod->container_count, &left);
	ports->annotate(
		pod->object.space, pod->object.name, NULL,
		&(struct tr_named_list){
			(const struct tr_named[]){
				{ TR_POD_TO_ALLOCATE, left.p },
				{ TR_POD_BIND_PHASE, tr_bind_phase_name(TR_BIND_SUCCESS) },
			},
			2 },
		on_written, handover, ports->arg);
}

static void on_pod(void *arg, int r, const struct tr_pod *pod, const struct tr_err *told)
{
	struct handover *handover = arg;
	struct tr_arm *arm = handover->arm;
	enum tr_bind_phase phase;
	int64_t since;
	bool has_ended;

	if (r < 0 && r != -ENOENT) {
		fail(handover, "what HAMi waits for", r, told);
		return;
	}
	if (r < 0 || read_phase(arm, pod, &phase, &since) < 0) {
		end(handover);
		return;
	}
	has_ended = pod->phase == TR_POD_FAILED || pod->phase == TR_POD_SUCCEEDED;
	if (has_ended && phase == TR_BIND_ALLOCATING)
		write_failed(handover, pod);
	else if (has_ended || phase == TR_BIND_FAILED)
		unlock(handover); /* nothing more is waited for */
	else if (tr_hami_is_allocated(&arm->book, pod, arm->options.rules.resource, since))
		write_success(handover, pod);
	else
		end(handover);
}

static void on_node(void *arg, int r, const struct tr_node *node, const struct tr_err *told)
{
	struct handover *handover = arg;
	const struct tr_arm_ports *ports = &handover->arm->options.ports;
	struct tr_node_lock lock;
	const char *text;

	if (r < 0) {
		fail(handover, "HAMi's lock on the node", r, told);
		return;
	}
	text = tr_named_find(&node->object.annotations, TR_NODE_LOCK);
	if (!text || tr_node_lock_parse(&lock, text, NULL) < 0 || !lock.pod[0]) {
		end(handover);
		return;
	}
	(void)snprintf(handover->version, sizeof(handover->version), "%s",
		       node->object.version);
	memcpy(handover->space, lock.space, sizeof(lock.space));
	memcpy(handover->pod, lock.pod, sizeof(lock.pod));
	ports->pod_of(lock.space, lock.pod, true, on_pod, handover, ports->arg);
}

void tr_arm_handover(struct tr_arm *arm)
{
	const struct tr_arm_ports *ports = &arm->options.ports;

	if (arm->is_closing || !ports->node_of || !ports->annotate || !ports->annotate_node)
		return;
	if (arm->handover) {
		arm->is_due = true;
		return;
	}
	arm->hami_pause.first_ms = AGAIN_MS;
	arm->hami_pause.max_ms = AGAIN_MAX_MS;
	arm->handover = tr_xcalloc(1, sizeof(*arm->handover));
	arm->handover->arm = arm;
	ports->node_of(on_node, arm->handover, ports->arg);
}

void tr_hami_poke(struct tr_arm *arm)
{
	wait_ms(arm, WAIT_MS);
}

void tr_hami_close(struct tr_arm *arm)
{
	if (arm->on_hami)
		event_free(arm->on_hami);
	free(arm->handover);
}
