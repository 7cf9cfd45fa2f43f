/* SPDX-License-Identifier: Apache-2.0 */
/*
 * binder NODE SCHEDULER: binds the pods that name SCHEDULER to NODE, each container's slices on the first
 * cards of the node's register that have room, until it is killed. Not a scheduler: what a test needs
 * of one, on the client that the scheduler will have.
 */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "kube/node_devices.h"
#include "kube/pod_devices.h"
#include "kube/watch.h"
#include "kube/write.h"
#include "tranche/names.h"

static const struct tr_keep keep = {
	.annotations = (const char *const[]){ TR_POD_ALLOCATED, TR_NODE_REGISTER, NULL },
	.resources = (const char *const[]){ "nvidia.com/*", NULL },
};

struct use {
	uint64_t mib, cores, slices;
};

static struct {
	const char *node, *scheduler;
	struct tr_kube *kube;
	struct tr_watch *pods, *nodes;
	struct tr_node_devices cards;
	struct use use[TR_NODE_DEVICES_MAX];
	char bound[64]; /* the uid of the pod whose binding is not seen yet; "": none */
} b;

static uint64_t limit_of(const struct tr_pod_container *c, const char *name)
{
	const struct tr_amount *a = tr_amount_find(&c->limits, name);

	return a && !a->is_bad ? (uint64_t)a->value : 0;
}

static void count_one(void *arg, const struct tr_object *o)
{
	const struct tr_pod *pod = (const struct tr_pod *)o;
	const char *text = tr_named_find(&o->annotations, TR_POD_ALLOCATED);
	struct tr_pod_devices d;

	(void)arg;
	if (!strcmp(o->uid, b.bound) && *pod->node)
		b.bound[0] = '\0';
	if (strcmp(pod->node, b.node) || pod->phase == TR_POD_SUCCEEDED ||
	    pod->phase == TR_POD_FAILED || !text || tr_pod_devices_parse(&d, text, NULL))
		return;
	for (uint32_t p = 0; p < d.part_count; p++)
		for (size_t c = 0; c < b.cards.count; c++)
			if (!strcmp(b.cards.at[c].id, d.parts[p].id)) {
				b.use[c].mib += d.parts[p].mem_mib;
				b.use[c].cores += d.parts[p].cores;
				b.use[c].slices++;
			}
	tr_pod_devices_free(&d);
}

/* The cards of one container; false when there is no room. */
static bool place(const struct tr_pod_container *c, struct tr_buf *out)
{
	uint64_t wanted = limit_of(c, TR_RESOURCE_COUNT);

	for (size_t i = 0; wanted && i < b.cards.count; i++) {
		const struct tr_node_device *card = &b.cards.at[i];
		uint64_t mib = limit_of(c, TR_RESOURCE_MEM),
			 cores = limit_of(c, TR_RESOURCE_CORES);
		uint64_t percent = limit_of(c, TR_RESOURCE_MEM_PERCENT);

		if (!mib)
			mib = (uint64_t)card->mem_mib * (percent ? percent : 100) / 100;
		if (!card->is_healthy || b.use[i].slices >= card->count ||
		    b.use[i].mib + mib > card->mem_mib ||
		    b.use[i].cores + cores > card->cores)
			continue;
		b.use[i].mib += mib;
		b.use[i].cores += cores;
		b.use[i].slices++;
		tr_buf_print(out, "%s,NVIDIA,%llu,%llu:", card->id, (unsigned long long)mib,
			     (unsigned long long)cores);
		wanted--;
	}
	tr_buf_text(out, ";");
	return !wanted;
}

static void on_bound(void *arg, int r, const struct tr_kube_reply *reply,
		     const struct tr_err *err)
{
	(void)arg;
	(void)reply;
	if (!r)
		return;
	fprintf(stderr, "binder: %s\n", err->msg);
	b.bound[0] = '\0'; /* gone, or another's: the next change looks again */
}

static void bind_one(void *arg, const struct tr_object *o)
{
	const struct tr_pod *pod = (const struct tr_pod *)o;
	struct use before[TR_NODE_DEVICES_MAX];
	tr_auto_buf struct tr_buf text = { 0 };
	bool fits = true;
	struct tr_err err = { 0 };

	(void)arg;
	if (b.bound[0] || *pod->node || pod->is_deleting ||
	    strcmp(pod->scheduler, b.scheduler) != 0)
		return;
	memcpy(before, b.use, sizeof(before));
	for (size_t i = 0; i < pod->container_count; i++)
		fits &= place(&pod->containers[i], &text);
	if (!fits) {
		memcpy(b.use, before, sizeof(before));
		return;
	}
	const struct tr_named notes[] = { { TR_POD_ALLOCATED, text.p },
					  { TR_POD_TO_ALLOCATE, text.p },
					  { TR_POD_NODE, b.node } };
	const struct tr_binding binding = {
		o->space, o->name, o->uid, b.node, { notes, 3 }
	};

	snprintf(b.bound, sizeof(b.bound), "%s", o->uid);
	if (tr_kube_bind(b.kube, &binding, on_bound, NULL, NULL, &err))
		fprintf(stderr, "binder: %s/%s: %s\n", o->space, o->name, err.msg);
}

static void look(void)
{
	const struct tr_object *node = tr_watch_find(b.nodes, "", b.node);
	const char *text = node ? tr_named_find(&node->annotations, TR_NODE_REGISTER)
				: NULL;
	struct tr_err err = { 0 };

	if (!text || !tr_watch_state(b.pods).is_synced)
		return;
	tr_node_devices_free(&b.cards);
	memset(&b.cards, 0, sizeof(b.cards));
	if (tr_node_devices_parse(&b.cards, text, &err))
		fprintf(stderr, "binder: %s\n", err.msg);
	memset(b.use, 0, sizeof(b.use));
	tr_watch_each(b.pods, count_one, NULL);
	tr_watch_each(b.pods, bind_one, NULL);
}

static void on_change(void *arg, const struct tr_object *old, const struct tr_object *now)
{
	(void)arg;
	/* A pod whose binding was under way is gone: that of its name is another one. */
	if (old && !now && !strcmp(old->uid, b.bound))
		b.bound[0] = '\0';
	look();
}

static void on_sync(void *arg)
{
	(void)arg;
	look();
}

int main(int argc, char **argv)
{
	struct event_base *base = event_base_new();
	struct tr_kube_access access;
	struct tr_err err = { 0 };
	struct tr_watch_options pods = { .kind = &tr_watch_pods,
					 .keep = &keep,
					 .changed = on_change,
					 .synced = on_sync };
	struct tr_watch_options nodes = pods;

	if (argc != 3 || !base) {
		fprintf(stderr, "usage: binder NODE SCHEDULER\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	b.node = argv[1];
	b.scheduler = argv[2];
	nodes.kind = &tr_watch_nodes;
	if (tr_kube_access_find(&access, NULL, &err) ||
	    tr_kube_open(&b.kube, base, &access, &err) ||
	    tr_watch_open(&b.nodes, b.kube, &nodes, &err) ||
	    tr_watch_open(&b.pods, b.kube, &pods, &err)) {
		fprintf(stderr, "binder: %s\n", err.msg);
		return 1;
	}
	event_base_dispatch(base);
	return 1;
}
