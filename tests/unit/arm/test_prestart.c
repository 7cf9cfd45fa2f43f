/* SPDX-License-Identifier: Apache-2.0 */
/* Allocate and PreStartContainer as the kubelet calls them, over gRPC. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bed.h"
#include "node.h"
#include "pods_server.h"
#include "rt/file.h"
#include "tr_test.h"

#define ALLOCATED (&v1beta1__allocate_response__descriptor)
#define STARTED   (&v1beta1__pre_start_container_response__descriptor)

static struct tr_pods *pods;
static unsigned asked, asked_fresh;
static int pod_r; /* what pod_of tells instead of a pod */
static struct {
	tr_pod_told *told;
	void *arg;
} later; /* one that pod_of has not answered yet */
static bool answers_later;

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
	for (size_t i = 0; pod_r == 0 && i < scene.pod_count; i++)
		if (strcmp(scene.pods[i].name, name) == 0) {
			told(told_arg, 0, scene_object(&scene.pods[i]), NULL);
			return;
		}
	told(told_arg, tr_fail(&err, pod_r ? -pod_r : ENOENT, "not there"), NULL, &err);
}

static bool infers;
static char phase[16], left[400], lock[100]; /* HAMi's marks, and its lock on the node */
static unsigned written;
static int write_r;
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
	done(done_arg, 0, NULL);
}

static void pending_pod(tr_pod_told *told, void *told_arg, void *arg)
{
	pod_of("default", "p", true, told, told_arg, arg);
}

static void offer(void)
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

static int open_node(void **state)
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
	offer();
	node_dial();
	assert_true(node_until(&node.lists, 1, 5000));
	asked = asked_fresh = pods_lists = written = 0;
	pod_r = write_r = 0;
	answers_later = false;
	return 0;
}

static int open_strict(void **state)
{
	int r;

	takes_whole_cards = false;
	r = open_node(state);
	takes_whole_cards = true;
	return r;
}

static int open_infers(void **state)
{
	int r;

	infers = true;
	r = open_node(state);
	strcpy(lock, "2026-11-21T10:00:00Z,default,p");
	phase[0] = left[0] = '\0';
	return r;
}

static int close_node(void **state)
{
	infers = false;
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

static uint64_t longest_allocate_ns;

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
	while (!out.ends && tr_clock_ns() - before < UINT64_C(5000000000))
		event_base_loop(node.base, EVLOOP_ONCE);
	assert_int_equal(out.code, TR_RPC_OK);
	if (tr_clock_ns() - before > longest_allocate_ns)
		longest_allocate_ns = tr_clock_ns() - before;
	return 0;
}

static void start(const struct scene_container *container, struct outcome *out)
{
	V1beta1__PreStartContainerRequest request;

	v1beta1__pre_start_container_request__init(&request);
	request.devices_ids = (char **)(uintptr_t)container->ids;
	request.n_devices_ids = container->wanted;
	node_call("PreStartContainer", &request.base, STARTED, out);
}

static void admit(struct scene_pod *pod)
{
	assert_int_equal(scene_admit(pod, allocate, NULL), 0);
}

static void one_pod(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 5000, 0 });
	struct outcome out = { 0 };

	(void)state;
	admit(pod);
	start(&pod->at[1], &out);
	assert_true(node_until(&out.ends, 1, 5000));
	assert_int_equal(out.code, TR_RPC_OK);
	bed_assert_armed(pod, 0);
	bed_assert_armed(pod, 1);
	assert_int_equal(pods_lists, 1);
	start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, 5000));
	assert_int_equal(out.code, TR_RPC_OK);
	assert_int_equal(pods_lists, 1); /* known already */
	assert_int_equal(asked, 1);
	assert_int_equal(asked_fresh, 0);
}

/* The sentence is what `kubectl describe pod` shows. */
static void refused(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 0 });
	struct outcome out = { 0 };

	(void)state;
	admit(pod);
	pod->decision = "";
	start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, 5000));
	assert_int_equal(out.code, TR_RPC_FAILED_PRECONDITION);
	assert_string_equal(out.sentence,
			    "no GPU scheduler has decided on pod default/p: its annotation "
			    "hami.io/vgpu-devices-allocated is missing");
	assert_int_equal(asked_fresh, 1); /* what the store has may be old */
	pod_r = -EIO;
	start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, 5000));
	assert_string_equal(out.sentence, "pod default/p: not there");
	bed_assert_closed(pod->at[0].alloc);
	pod_r = 0;
	pod->decision = NULL;
	start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, 5000));
	assert_int_equal(out.code, TR_RPC_OK);
}

static void not_listed(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 0 });
	struct outcome out = { 0 };

	(void)state;
	admit(pod);
	pod->is_admitted = false;
	start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, 5000));
	assert_int_equal(out.code, TR_RPC_UNAVAILABLE);
	assert_non_null(strstr(out.sentence, "the kubelet does not say which pod"));
	pod->is_admitted = true;
	start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, 5000));
	assert_int_equal(out.code, TR_RPC_OK);
}

/* Calls under way when the agent stops are answered. */
static void stops(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 0 });
	struct outcome out = { 0 };

	(void)state;
	admit(pod);
	answers_later = true;
	start(&pod->at[0], &out);
	assert_true(node_until(&asked, 1, 5000));
	bed_stop();
	assert_true(node_until(&out.ends, 1, 5000));
	assert_int_equal(out.code, TR_RPC_UNAVAILABLE);
	assert_string_equal(out.sentence, "the node agent is stopping");
}

/* Written to the pod first, so that a scheduler counts it. */
static void whole_cards(void **state)
{
	struct scene_pod *a = scene_pod("a", (const unsigned[]){ 16384, 0 }),
			 *b = scene_pod("b", (const unsigned[]){ 16384, 0 }),
			 *c = scene_pod("c", (const unsigned[]){ 16384, 0 });
	struct outcome out = { 0 }, other = { 0 };

	(void)state;
	a->decision = b->decision = c->decision = "";
	admit(a);
	admit(b);
	admit(c);
	write_r = -ESTALE;
	start(&a->at[0], &out);
	assert_true(node_until(&out.ends, 1, 5000));
	assert_int_equal(out.code, TR_RPC_FAILED_PRECONDITION);
	assert_string_equal(out.sentence,
			    "write to pod default/a which GPUs it gets: it was changed");
	write_r = 0;
	start(&a->at[0], &out);
	start(&b->at[0], &other);
	assert_true(node_until(&out.ends, 1, 5000) && node_until(&other.ends, 1, 5000));
	assert_int_equal(out.code, TR_RPC_OK);
	assert_int_equal(other.code, TR_RPC_OK);
	assert_int_equal(written, 2);
	assert_string_not_equal(a->decision, b->decision);
	a->at[0].cores = b->at[0].cores = 100;
	a->at[0].card = strncmp(a->decision, scene_uuid(0), 40) != 0;
	b->at[0].card = !a->at[0].card;
	bed_assert_armed(a, 0);
	bed_assert_armed(b, 0);
	start(&c->at[0], &out);
	assert_true(node_until(&out.ends, 1, 5000));
	assert_int_equal(out.code, TR_RPC_FAILED_PRECONDITION);
	assert_non_null(strstr(out.sentence, "of the 1 whole GPUs that it would get 0"));
}

/* ---- without CDI ---- */

static void inferred(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 5000, 0 });
	struct outcome out = { 0 };

	(void)state;
	pod->at[1].card = 1;
	admit(pod);
	/* Marks are written after the answer; the lock goes with the last. */
	node_run_ms(300);
	assert_string_equal(phase, "success");
	assert_string_equal(left, ";;");
	assert_string_equal(lock, "");
	for (size_t i = 0; i < 2; i++) {
		assert_string_equal(bed_alloc(&pod->at[i])->container, pod->at[i].name);
		assert_int_equal(bed_alloc(&pod->at[i])->parts[0].limit_bytes,
				 (uint64_t)pod->at[i].mib << 20);
		start(&pod->at[i], &out);
		assert_true(node_until(&out.ends, 1, 5000));
		assert_int_equal(out.code, TR_RPC_OK);
	}
}

/* Two pods wait, and the wrong one was taken: it does not start with the other's. */
static void inferred_wrongly(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 0 }),
			 *other = scene_pod("q", (const unsigned[]){ 5000, 0 });
	struct outcome out = { 0 };

	(void)state;
	lock[0] = '\0'; /* then the first that is pending */
	admit(other);
	assert_string_equal(bed_alloc(&other->at[0])->pod, pod->name);
	start(&other->at[0], &out);
	assert_true(node_until(&out.ends, 1, 5000));
	assert_int_equal(out.code, TR_RPC_FAILED_PRECONDITION);
	assert_string_equal(
		out.sentence,
		"the devices of container a of pod default/q were taken for those of "
		"container a of pod default/p: delete the pod");
}

/* ---- F33: 100 pods of 2 containers, all of other sizes, at once ---- */

#define PODS 100

static uint64_t begun_ns, took_ns[2 * PODS];
static unsigned ended;

static void on_started(const struct tr_rpc_end *end, void *arg)
{
	(void)arg;
	assert_int_equal(end->code, TR_RPC_OK);
	took_ns[ended++] = tr_clock_ns() - begun_ns;
}

static void start_at_once(const struct scene_container *container)
{
	V1beta1__PreStartContainerRequest request;
	struct tr_rpc_question question = {
		.method = "/v1beta1.DevicePlugin/PreStartContainer",
		.request = &request.base,
		.reply = STARTED,
		.deadline_ms = 20000,
		.on_end = on_started,
	};

	v1beta1__pre_start_container_request__init(&request);
	request.devices_ids = (char **)(uintptr_t)container->ids;
	request.n_devices_ids = container->wanted;
	assert_int_equal(tr_rpc_ask(node.dialled, &question, NULL, NULL), 0);
}

static double cpu_ms(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int by_time(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void at_once(void **state)
{
	double loop, all;

	(void)state;
	scene_cards(8, UINT64_C(80) << 30);
	tr_arm_set_cards(bed.arm, &scene.cards);
	offer();
	longest_allocate_ns = 0;
	for (unsigned p = 0; p < PODS; p++) {
		char name[16];
		struct scene_pod *pod;

		snprintf(name, sizeof(name), "pod-%u", p);
		pod = scene_pod(name, (const unsigned[]){ 1 + 2 * p, 2 + 2 * p, 0 });
		pod->at[0].card = p % 8;
		pod->at[1].card = (p + 3) % 8;
		admit(pod);
	}
	ended = 0;
	loop = cpu_ms(CLOCK_THREAD_CPUTIME_ID);
	all = cpu_ms(CLOCK_PROCESS_CPUTIME_ID);
	begun_ns = tr_clock_ns();
	for (unsigned p = PODS; p--;) {
		start_at_once(&scene.pods[p].at[p & 1]);
		start_at_once(&scene.pods[p].at[!(p & 1)]);
	}
	while (ended < 2 * PODS && tr_clock_ns() - begun_ns < UINT64_C(20000000000))
		event_base_loop(node.base, EVLOOP_ONCE);
	assert_int_equal(ended, 2 * PODS);
	loop = cpu_ms(CLOCK_THREAD_CPUTIME_ID) - loop;
	all = cpu_ms(CLOCK_PROCESS_CPUTIME_ID) - all;
	for (unsigned p = 0; p < PODS; p++)
		for (size_t c = 0; c < 2; c++)
			bed_assert_armed(&scene.pods[p], c);
	qsort(took_ns, 2 * PODS, sizeof(*took_ns), by_time);
	print_message(
		"Allocate: at most %.1f ms. 200 at once: p50 %.1f ms, p99 %.1f ms; %u "
		"lists of PodResources; processor: %.1f ms in the loop (both sides), "
		"%.1f ms in all\n",
		(double)longest_allocate_ns / 1e6, (double)took_ns[PODS] / 1e6,
		(double)took_ns[2 * PODS - 3] / 1e6, pods_lists, loop, all);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_node, close_node)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_pod),
		cmocka_unit_test_setup_teardown(refused, open_strict, close_node),
		TEST(not_listed),
		TEST(stops),
		TEST(whole_cards),
		cmocka_unit_test_setup_teardown(inferred, open_infers, close_node),
		cmocka_unit_test_setup_teardown(inferred_wrongly, open_infers, close_node),
		TEST(at_once),
	};

	return cmocka_run_group_tests_name("prestart", tests, NULL, NULL);
}
