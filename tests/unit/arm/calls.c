/* SPDX-License-Identifier: Apache-2.0 */
#include "calls.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pods_server.h"
#include "rt/file.h"
#include "tr_test.h"

#define ALLOCATED (&v1beta1__allocate_response__descriptor)

static struct tr_pods *pods;
char checkpoint[100];
struct scene_pod *stored, *gone;
unsigned asked, asked_fresh;
int pod_r; /* what pod_of tells instead of a pod */
static struct {
	tr_pod_told *told;
	void *arg;
} later; /* one that pod_of has not answered yet */
bool answers_later, lacks_news;

static void pod_of(const char *space, const char *name, bool is_fresh, tr_pod_told *told,
		   void *told_arg, void *arg)
{
	struct tr_err err = { 0 };

	(void)arg;
	assert_string_equal(space, "default");
	asked++;
	asked_fresh += is_fresh;
	if (answers_later) {
		later.told = told;
		later.arg = told_arg;
		return;
	}
	if (!is_fresh && stored && strcmp(stored->name, name) == 0) {
		told(told_arg, 0, scene_object(stored), NULL);
		return;
	}
	for (size_t i = 0; pod_r == 0 && i < scene.pod_count; i++)
		if (&scene.pods[i] != gone && strcmp(scene.pods[i].name, name) == 0) {
			struct tr_pod pod = *scene_object(&scene.pods[i]);

			if (lacks_news && !is_fresh)
				pod.object.annotations.count = 0;
			told(told_arg, 0, &pod, NULL);
			return;
		}
	told(told_arg, tr_fail(&err, pod_r ? -pod_r : ENOENT, "not there"), NULL, &err);
}

static void pod_with(const char *uid, tr_pod_told *told, void *told_arg, void *arg)
{
	(void)arg;
	for (size_t i = 0; i < scene.pod_count; i++)
		if (strcmp(scene.pods[i].uid, uid) == 0) {
			told(told_arg, 0, scene_object(&scene.pods[i]), NULL);
			return;
		}
	told(told_arg, -ENOENT, NULL, NULL);
}

static bool infers;
char phase[16], left[400], lock[100]; /* HAMi's marks, and its lock on the node */
unsigned written, unlocked;
int write_r;
static char decisions[4][400];

static void annotate(const char *space, const char *name, const char *version,
		     const struct tr_named_list *annotations, tr_pod_written *done,
		     void *done_arg, void *arg)
{
	const char *marks = tr_named_find(annotations, "hami.io/bind-phase");
	struct tr_err err = { 0 };

	(void)arg;
	assert_string_equal(space, "default");
	if (infers) {
		snprintf(phase, sizeof(phase), "%s", marks ? marks : "allocating");
		marks = tr_named_find(annotations, "hami.io/vgpu-devices-to-allocate");
		snprintf(left, sizeof(left), "%s", marks ? marks : "");
		scene.pods[0].bind_phase = phase;
		done(done_arg, 0, NULL);
		return;
	}
	assert_string_equal(version, "1");
	assert_string_equal(tr_named_find(annotations, "hami.io/vgpu-node"), "node-1");
	for (size_t i = 0; write_r == 0 && i < scene.pod_count; i++)
		if (strcmp(scene.pods[i].name, name) == 0) {
			snprintf(decisions[written % 4], sizeof(decisions[0]), "%s",
				 tr_named_find(annotations,
					       "hami.io/vgpu-devices-allocated"));
			scene.pods[i].decision = decisions[written % 4];
			written++;
		}
	if (write_r < 0)
		(void)tr_fail(&err, -write_r, "it was changed");
	done(done_arg, write_r, &err);
}

static void node_of(tr_node_told *told, void *told_arg, void *arg)
{
	struct tr_named notes[] = { { "hami.io/mutex.lock", lock } };
	struct tr_node it = { .object = { .version = "1",
					  .annotations = { notes, lock[0] != '\0' } } };

	(void)arg;
	told(told_arg, 0, &it, NULL);
}

static void annotate_node(const char *version, const struct tr_named_list *annotations,
			  tr_pod_written *done, void *done_arg, void *arg)
{
	(void)version;
	(void)annotations;
	(void)arg;
	lock[0] = '\0';
	unlocked++;
	done(done_arg, 0, NULL);
}

static void pending_pod(tr_pod_told *told, void *told_arg, void *arg)
{
	pod_of("default", "p", true, told, told_arg, arg);
}

void call_offer(void)
{
	struct tr_plugin_device *devices = calloc(scene.id_count, sizeof(*devices));

	for (size_t i = 0; i < scene.id_count; i++) {
		devices[i].is_healthy = true;
		snprintf(devices[i].id, TR_DEVICE_ID, "%s", scene.ids[i]);
		devices[i].numa_node = -1;
	}
	assert_int_equal(tr_plugin_offer(node.plugin, devices, scene.id_count, NULL), 0);
	free(devices);
}

static bool takes_whole_cards = true;

int call_open_node(void **state)
{
	struct tr_plugin_actions actions = { .allocate = tr_arm_allocate,
					     .prestart = tr_arm_prestart };
	struct tr_rpc_service service = { .mode = 0600,
					  .methods = &pods_method,
					  .count = 1,
					  .limits = { 1u << 20, 16u << 20, 64u << 20 },
					  .calls_max = 100 };

	node_open(state);
	assert_int_equal(bed_open(state), 0);
	bed_stop();
	service.path = node.pods_socket;
	assert_int_equal(tr_rpc_server_open(node.rpc, &service, &node.pod_resources, NULL),
			 0);
	assert_int_equal(tr_pods_open(node.rpc, node.base, node.pods_socket,
				      "nvidia.com/gpu", &pods, NULL),
			 0);
	bed.options.ports.pod_of = pod_of;
	bed.options.ports.pod_with = pod_with;
	bed.options.checkpoint = checkpoint;
	snprintf(checkpoint, sizeof(checkpoint), "%s/checkpoint", bed.dir);
	bed.options.ports.annotate = annotate;
	if (infers) {
		bed.options.infers = true;
		bed.options.ports.node_of = node_of;
		bed.options.ports.annotate_node = annotate_node;
		bed.options.ports.pending_pod = pending_pod;
		bed.options.ports.inject = NULL;
	}
	bed.options.takes_whole_cards = takes_whole_cards;
	assert_int_equal(
		tr_arm_open(node.base, pods, &bed.options, &scene.cards, &bed.arm, NULL),
		0);
	actions.arg = bed.arm;
	assert_int_equal(
		tr_plugin_open(node.rpc, node.plugin_socket, &actions, &node.plugin, NULL),
		0);
	call_offer();
	node_dial();
	assert_true(node_until(&node.lists, 1, NODE_SOON_MS));
	asked = asked_fresh = pods_lists = written = unlocked = 0;
	pod_r = write_r = 0;
	answers_later = lacks_news = false;
	stored = gone = NULL;
	return 0;
}

int call_open_strict(void **state)
{
	int r;

	takes_whole_cards = false;
	r = call_open_node(state);
	takes_whole_cards = true;
	return r;
}

int call_open_infers(void **state)
{
	int r;

	infers = true;
	r = call_open_node(state);
	strcpy(lock, "2026-11-21T10:00:00Z,default,p");
	phase[0] = left[0] = '\0';
	return r;
}

int call_close_node(void **state)
{
	infers = false;
	if (node.is_turning)
		return node_close(state);
	bed_stop();
	tr_pods_close(pods);
	assert_int_equal(bed_close(state), 0);
	return node_close(state);
}

/* ---- calls ---- */

static struct scene_container *answered; /* whose Allocate it is */

static void look_inferred(const V1beta1__ContainerAllocateResponse *one)
{
	assert_int_equal(one->n_cdi_devices, 0);
	assert_int_equal(one->n_mounts, 4);
	assert_string_equal(one->envs[0]->key, "NVIDIA_VISIBLE_DEVICES");
	assert_string_equal(one->envs[0]->value, scene_uuid(answered->card));
	snprintf(answered->alloc, TR_ALLOC_NAME, "%.17s",
		 strstr(one->mounts[0]->host_path, "/s0") + 1);
}

static void look_allocated(const ProtobufCMessage *reply)
{
	const V1beta1__AllocateResponse *all = (const void *)reply;
	const V1beta1__ContainerAllocateResponse *one = all->container_responses[0];
	const char *name;
	char path[256];

	assert_int_equal(all->n_container_responses, 1);
	if (infers) {
		look_inferred(one);
		return;
	}
	name = strchr(one->cdi_devices[1]->name, '=');
	/* What fails closed: no device, everything of ours, one name. */
	assert_int_equal(one->n_devices, 0);
	assert_int_equal(one->n_envs, 1);
	assert_string_equal(one->envs[0]->key, "NVIDIA_VISIBLE_DEVICES");
	assert_string_equal(one->envs[0]->value, "void");
	assert_int_equal(one->n_cdi_devices, 2);
	assert_string_equal(one->cdi_devices[0]->name, "tranche.io/driver=all");
	snprintf(answered->alloc, TR_ALLOC_NAME, "%s", name + 1);
	assert_int_equal(one->n_mounts, 4);
	snprintf(path, sizeof(path), "%s/%s/ro", bed.slices, answered->alloc);
	assert_string_equal(one->mounts[0]->host_path, path);
	assert_string_equal(one->mounts[0]->container_path, "/run/tranche/slice/ro");
	assert_true(one->mounts[0]->read_only);
	snprintf(path, sizeof(path), "%s/%s/rw", bed.slices, answered->alloc);
	assert_string_equal(one->mounts[1]->host_path, path);
	assert_string_equal(one->mounts[1]->container_path, "/run/tranche/slice/rw");
	assert_false(one->mounts[1]->read_only);
	assert_string_equal(one->mounts[2]->host_path, "/lib/hook");
	assert_string_equal(one->mounts[2]->container_path,
			    "/run/tranche/slice/libvgpu.so");
	assert_string_equal(one->mounts[3]->container_path, "/etc/ld.so.preload");
	assert_true(one->mounts[2]->read_only && one->mounts[3]->read_only);
	bed_assert_closed(answered->alloc);
}

uint64_t longest_allocate_ns;

static int allocate(const struct tr_ids *ids, char name[TR_ALLOC_NAME], void *arg)
{
	V1beta1__ContainerAllocateRequest one, *list[] = { &one };
	V1beta1__AllocateRequest request;
	struct outcome out = { .look = look_allocated };
	uint64_t before;

	(void)arg;
	answered =
		(struct scene_container *)(void *)(name -
						   offsetof(struct scene_container, alloc));
	v1beta1__container_allocate_request__init(&one);
	one.devices_ids = (char **)(uintptr_t)ids->ids;
	one.n_devices_ids = ids->count;
	v1beta1__allocate_request__init(&request);
	request.container_requests = list;
	request.n_container_requests = 1;
	before = tr_clock_ns();
	node_call("Allocate", &request.base, ALLOCATED, &out);
	while (!out.ends && tr_clock_ns() - before < NODE_SOON_MS * UINT64_C(1000000))
		node_turn(EVLOOP_ONCE);
	assert_int_equal(out.ends, 1);
	assert_int_equal(out.code, TR_RPC_OK);
	if (tr_clock_ns() - before > longest_allocate_ns)
		longest_allocate_ns = tr_clock_ns() - before;
	return 0;
}

void call_start(const struct scene_container *container, struct outcome *out)
{
	V1beta1__PreStartContainerRequest request;

	v1beta1__pre_start_container_request__init(&request);
	request.devices_ids = (char **)(uintptr_t)container->ids;
	request.n_devices_ids = container->wanted;
	node_call("PreStartContainer", &request.base, STARTED, out);
}

void call_write_checkpoint(void)
{
	json_t *entries = json_array(), *all;

	for (size_t p = 0; p < scene.pod_count; p++)
		for (size_t c = 0; c < scene.pods[p].count; c++) {
			const struct scene_pod *pod = &scene.pods[p];
			const struct scene_container *at = &pod->at[c];
			json_t *ids = json_array();

			for (size_t i = 0; at->alloc[0] && i < at->wanted; i++)
				json_array_append_new(ids, json_string(at->ids[i]));
			json_array_append_new(
				entries,
				json_pack("{s:s, s:s, s:s, s:{s:o}, s:s}", "PodUID",
					  pod->mirrored ? pod->mirrored : pod->uid,
					  "ContainerName", at->name, "ResourceName",
					  "nvidia.com/gpu", "DeviceIDs", "-1", ids,
					  "AllocResp", ""));
		}
	all = json_pack("{s:{s:o, s:{}}, s:i}", "Data", "PodDeviceEntries", entries,
			"RegisteredDevices", "Checksum", 1);
	assert_int_equal(json_dump_file(all, checkpoint, 0), 0);
	json_decref(all);
}

void call_admit(struct scene_pod *pod)
{
	assert_int_equal(scene_admit(pod, allocate, NULL), 0);
	call_write_checkpoint();
}
