/* SPDX-License-Identifier: Apache-2.0 */
#include "scene.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "tr_test.h"
#include "tranche/names.h"

struct scene scene;
const unsigned scene_one[] = { 3000, 0 }, scene_two[] = { 3000, 5000, 0 };

unsigned scene_random(unsigned below)
{
	scene.seed = scene.seed * 1103515245u + 12345u;
	return (scene.seed >> 8) % below;
}

const char *scene_uuid(unsigned card)
{
	return scene.cards.at[card].uuid;
}

void scene_cards(unsigned count, uint64_t give_bytes)
{
	scene.cards = (struct tr_cards){ .count = count, .version = 1 };
	scene.id_count = 0;
	free(scene.ids);
	scene.ids = tr_xcalloc((size_t)count * SCENE_SPLIT, sizeof(*scene.ids));
	for (unsigned c = 0; c < count; c++) {
		struct tr_card *card = &scene.cards.at[c];

		snprintf(card->uuid, sizeof(card->uuid),
			 "GPU-%08x-0000-0000-0000-000000000000", c + 1);
		card->index = c;
		card->minor = (int)c;
		card->total_bytes = card->give_bytes = give_bytes;
		card->give_cores = 100;
		card->split = SCENE_SPLIT;
		card->compute_major = 9;
		card->is_healthy = true;
		for (unsigned i = 0; i < SCENE_SPLIT; i++)
			snprintf(scene.ids[scene.id_count++], 64, "%s-%u", card->uuid, i);
	}
}

int scene_open(void **state)
{
	(void)state;
	scene = (struct scene){ .seed = 1 };
	scene_cards(2, UINT64_C(16) << 30);
	return 0;
}

static void free_rows(void)
{
	for (size_t i = 0; i < scene.rows.count; i++)
		free((void *)(uintptr_t)scene.rows.rows[i].ids);
	free(scene.rows.rows);
	scene.rows = (struct tr_pod_list){ 0 };
}

int scene_close(void **state)
{
	(void)state;
	free_rows();
	for (size_t i = 0; i < scene.pod_count; i++)
		free(scene.pods[i].object);
	free(scene.ids);
	return 0;
}

/* ---- pods ---- */

struct scene_pod *scene_pod_new(const char *name)
{
	struct scene_pod *pod = NULL;

	for (size_t i = 0; i < scene.pod_count && !pod; i++)
		if (!scene.pods[i].name[0])
			pod = &scene.pods[i];
	if (!pod) {
		assert_true(scene.pod_count < SCENE_PODS);
		pod = &scene.pods[scene.pod_count++];
	}
	*pod = (struct scene_pod){ .phase = "Pending" };
	snprintf(pod->name, sizeof(pod->name), "%s", name);
	snprintf(pod->uid, sizeof(pod->uid), "uid-%s-%u", name, scene_random(1000000));
	return pod;
}

struct scene_container *scene_add(struct scene_pod *pod, const char *name,
				  enum tr_container_kind kind, unsigned wanted,
				  unsigned mib)
{
	struct scene_container *container = &pod->at[pod->count++];

	assert_true(pod->count <= SCENE_CONTAINERS);
	*container = (struct scene_container){
		.name = name, .kind = kind, .wanted = wanted, .mib = mib, .priority = -1
	};
	return container;
}

struct scene_pod *scene_three_kinds(const char *name)
{
	struct scene_pod *pod = scene_pod_new(name);

	scene_add(pod, "init", TR_CONTAINER_INIT, 2, 100);
	scene_add(pod, "side", TR_CONTAINER_SIDECAR, 1, 200);
	scene_add(pod, "none", TR_CONTAINER_APP, 0, 0);
	scene_add(pod, "a", TR_CONTAINER_APP, 1, 300);
	scene_add(pod, "b", TR_CONTAINER_APP, 1, 400)->cores = 20;
	return pod;
}

struct scene_pod *scene_pod(const char *name, const unsigned *mib)
{
	static const char *const names[] = { "a", "b", "c", "d", "e", "f" };
	struct scene_pod *pod = scene_pod_new(name);

	for (size_t i = 0; mib[i]; i++)
		scene_add(pod, names[i], TR_CONTAINER_APP, 1, mib[i]);
	return pod;
}

static void print_decision(const struct scene_pod *pod, struct tr_buf *out)
{
	for (size_t i = 0; i < pod->count; i++) {
		const struct scene_container *c = &pod->at[i];

		for (unsigned k = 0; k < c->wanted; k++)
			tr_buf_print(out, "%s,NVIDIA,%u,%u:",
				     scene_uuid((c->card + k) % scene.cards.count), c->mib,
				     c->cores);
		tr_buf_text(out, ";");
	}
}

static json_t *print_container(const struct scene_container *c)
{
	json_t *limits = json_object();
	char amount[16];

	if (c->wanted) {
		snprintf(amount, sizeof(amount), "%u", c->wanted);
		json_object_set_new(limits, "nvidia.com/gpu", json_string(amount));
	}
	if (c->priority >= 0) {
		snprintf(amount, sizeof(amount), "%d", c->priority);
		json_object_set_new(limits, "nvidia.com/priority", json_string(amount));
	}
	return json_pack("{s:s, s:{s:o}, s:s*}", "name", c->name, "resources", "limits",
			 limits, "restartPolicy",
			 c->kind == TR_CONTAINER_SIDECAR ? "Always" : NULL);
}

const struct tr_pod *scene_object(struct scene_pod *pod)
{
	static const char *const any[] = { "*", NULL };
	static const struct tr_keep keep = { any, any, any, any };
	json_t *inits = json_array(), *apps = json_array(), *notes = json_object(), *json;
	tr_auto_buf struct tr_buf decision = { 0 };
	struct tr_err err = { 0 };

	for (size_t i = 0; i < pod->count; i++)
		json_array_append_new(pod->at[i].kind == TR_CONTAINER_APP ? apps : inits,
				      print_container(&pod->at[i]));
	print_decision(pod, &decision);
	if (!pod->decision || pod->decision[0])
		json_object_set_new(
			notes, TR_POD_ALLOCATED,
			json_string(pod->decision ? pod->decision : decision.p));
	if (pod->bind_phase)
		json_object_set_new(notes, TR_POD_BIND_PHASE, json_string(pod->bind_phase));
	if (pod->mirrored)
		json_object_set_new(notes, TR_POD_MIRROR, json_string(pod->mirrored));
	if (pod->granted)
		json_object_set_new(notes, TR_POD_GRANTED, json_string(pod->granted));
	json = json_pack("{s:{s:s,s:s,s:s,s:s,s:o,s:s*}, s:{s:s,s:o,s:o}, s:{s:s}}",
			 "metadata", "namespace", "default", "name", pod->name, "uid",
			 pod->uid, "resourceVersion", "1", "annotations", notes,
			 "deletionTimestamp",
			 pod->is_deleting ? "2026-01-01T00:00:00Z" : NULL, "spec",
			 "nodeName", "node-1", "initContainers", inits, "containers", apps,
			 "status", "phase", pod->phase);
	assert_non_null(json);
	free(pod->object);
	pod->object = NULL;
	assert_int_equal(tr_pod_extract(json, &keep, &pod->object, &err), 0);
	json_decref(json);
	return (const struct tr_pod *)(const void *)pod->object;
}

/* ---- the kubelet ---- */

struct tr_ids scene_ids(const struct scene_container *container)
{
	return (struct tr_ids){ container->ids, container->wanted };
}

static bool is_taken(const char *id)
{
	for (size_t p = 0; p < scene.pod_count; p++)
		for (size_t c = 0; scene.pods[p].is_admitted && c < scene.pods[p].count;
		     c++)
			for (unsigned i = 0; i < scene.pods[p].at[c].wanted; i++)
				if (scene.pods[p].at[c].ids[i] == id)
					return true;
	return false;
}

static const char *take_free(void)
{
	size_t from = scene_random((unsigned)scene.id_count);

	for (size_t i = 0; i < scene.id_count; i++) {
		const char *id = scene.ids[(from + i) % scene.id_count];

		if (!is_taken(id))
			return id;
	}
	fail_msg("no ids left");
	return NULL;
}

/* As Go's maps: in no order of ours. */
static void shuffle(const char **ids, size_t count)
{
	for (unsigned i = 1; i < count; i++) {
		unsigned k = scene_random(i + 1);
		const char *swap = ids[i];

		ids[i] = ids[k];
		ids[k] = swap;
	}
}

int scene_admit(struct scene_pod *pod, scene_allocate *allocate, void *arg)
{
	const char *reuse[64];
	size_t reusable = 0;

	pod->is_admitted = true;
	for (size_t c = 0; c < pod->count; c++) {
		struct scene_container *container = &pod->at[c];
		struct tr_ids ids = scene_ids(container);
		unsigned n = 0;
		int r;

		if (!container->wanted)
			continue;
		shuffle(reuse, reusable);
		while (n < container->wanted && n < reusable) {
			container->ids[n] = reuse[n];
			n++;
		}
		if (container->kind != TR_CONTAINER_INIT) {
			/* No longer for others. */
			memmove(reuse, reuse + n, (reusable - n) * sizeof(*reuse));
			reusable -= n;
		}
		for (; n < container->wanted; n++) {
			container->ids[n] = take_free();
			if (container->kind == TR_CONTAINER_INIT)
				reuse[reusable++] = container->ids[n];
		}
		r = allocate ? allocate(&ids, container->alloc, arg) : 0;
		if (r < 0) {
			pod->is_admitted = false;
			return r;
		}
	}
	return 0;
}

void scene_forget(struct scene_pod *pod)
{
	free(pod->object);
	*pod = (struct scene_pod){ 0 };
}

const struct tr_pod_list *scene_rows(void)
{
	free_rows();
	scene.rows.rows = tr_xcalloc(SCENE_PODS * SCENE_CONTAINERS,
				     sizeof(struct tr_pod_row));
	for (size_t p = 0; p < scene.pod_count; p++)
		for (size_t c = 0; scene.pods[p].is_admitted && c < scene.pods[p].count;
		     c++) {
			const struct scene_container *container = &scene.pods[p].at[c];
			const char **ids;

			if (!container->wanted || container->kind == TR_CONTAINER_INIT)
				continue;
			ids = tr_xcalloc(container->wanted, sizeof(*ids));
			memcpy(ids, container->ids, container->wanted * sizeof(*ids));
			shuffle(ids, container->wanted);
			scene.rows.rows[scene.rows.count++] = (struct tr_pod_row){
				.namespace = "default",
				.pod = scene.pods[p].name,
				.container = container->name,
				.ids = ids,
				.count = container->wanted,
			};
		}
	return &scene.rows;
}
