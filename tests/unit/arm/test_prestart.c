/* SPDX-License-Identifier: Apache-2.0 */
/* Allocate and PreStartContainer as the kubelet calls them, over gRPC. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"
#include "deviceplugin/arm/inside.h"
#include "pods_server.h"
#include "rt/file.h"
#include "tr_test.h"

static void one_pod(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 5000, 0 });
	struct outcome out = { 0 };

	(void)state;
	call_admit(pod);
	call_start(&pod->at[1], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_OK);
	bed_assert_armed(pod, 0);
	bed_assert_armed(pod, 1);
	assert_int_equal(pods_lists, 1);
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
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
	call_admit(pod);
	pod->decision = "";
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_FAILED_PRECONDITION);
	assert_string_equal(out.sentence,
			    "no GPU scheduler has decided on pod default/p: its annotation "
			    "hami.io/vgpu-devices-allocated is missing");
	assert_int_equal(asked_fresh, 1); /* what the store has may be old */
	pod_r = -EIO;
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_string_equal(out.sentence, "pod default/p: not there");
	bed_assert_closed(pod->at[0].alloc);
	pod_r = 0;
	pod->decision = NULL;
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_OK);
}

/* What the kubelet has written down is read before the container starts. */
static void read_ahead(void **state)
{
	const struct tr_checkpoint *read = &bed.arm->checkpoint;
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 0 });

	(void)state;
	call_admit(pod);
	assert_int_equal(read->count, 0);
	for (unsigned i = 0; i < 100 && !read->count; i++)
		node_run_ms(50);
	assert_int_equal(read->count, 1);
	assert_true(read->is_settled);
}

/* PodResources knows names only. What is held of a name is of the pod that had it before. */
static void held_of_its_name(void **state)
{
	struct scene_pod *old = scene_pod("db-0", (const unsigned[]){ 4000, 0 }),
			 *pod = scene_pod("db-0", (const unsigned[]){ 1000, 0 });
	struct outcome out = { 0 };

	(void)state;
	call_admit(old);
	old->is_admitted = false;
	call_admit(pod);
	stored = gone = old;
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_OK);
	assert_int_equal(asked_fresh, 1);
	bed_assert_armed(pod, 0);
	bed_assert_closed(old->at[0].alloc);

	/* Without a checkpoint only the API server can tell. */
	stored = NULL;
	pod = scene_pod("other", (const unsigned[]){ 2000, 0 });
	call_admit(pod);
	unlink(checkpoint);
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_OK);
	assert_int_equal(asked_fresh, 2);
}

/* The other way about: the API server has the next pod of the name while the one before starts. */
static void next_of_its_name(void **state)
{
	struct scene_pod *old = scene_pod("db-0", (const unsigned[]){ 4000, 0 }),
			 *pod = scene_pod("db-0", (const unsigned[]){ 1000, 0 });
	struct outcome out = { 0 };
	char sentence[300];

	(void)state;
	call_admit(old);
	gone = old;
	call_start(&old->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_UNAVAILABLE);
	snprintf(sentence, sizeof(sentence),
		 "pod default/db-0 is another one (UID %s) than the one that starts (UID "
		 "%s)",
		 pod->uid, old->uid);
	assert_string_equal(out.sentence, sentence);
	assert_int_equal(asked_fresh, 1);
	bed_assert_closed(old->at[0].alloc);
}

static void not_listed(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 0 });
	struct outcome out = { 0 };
	FILE *file;

	(void)state;
	call_admit(pod);
	pod->is_admitted = false;
	fclose(fopen(checkpoint, "w"));
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_FAILED_PRECONDITION);
	assert_non_null(strstr(out.sentence, "checkpoint has another form"));
	file = fopen(checkpoint, "w");
	fputs("{\"Data\":{\"PodDeviceEntries\":[]}}", file);
	fclose(file);
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_UNAVAILABLE);
	assert_non_null(strstr(out.sentence, "the kubelet does not say which pod"));
	pod->is_admitted = true;
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_OK);
}

/* The devices of init containers are nowhere in PodResources; the kubelet has written down whose. */
static void only_init(void **state)
{
	struct scene_pod *pod = scene_pod_new("p");
	struct outcome out = { 0 };
	FILE *file;

	(void)state;
	scene_add(pod, "init", TR_CONTAINER_INIT, 1, 100);
	scene_add(pod, "app", TR_CONTAINER_APP, 0, 0);
	call_admit(pod);
	unlink(checkpoint);
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_not_equal(out.code, TR_RPC_OK); /* no such file */
	file = fopen(checkpoint, "w");
	fprintf(file,
		"{\"Data\":{\"PodDeviceEntries\":[{\"PodUID\":\"other\",\"ContainerName\":"
		"\"c\","
		"\"ResourceName\":\"x\",\"DeviceIDs\":{\"-1\":[\"%s\"]},\"AllocResp\":\"\"}"
		","
		"{\"PodUID\":\"%s\",\"ContainerName\":\"init\",\"ResourceName\":"
		"\"nvidia.com/"
		"gpu\",\"DeviceIDs\":{\"0\":[\"y\"],\"1\":[\"%s\"]},\"AllocResp\":\"\"}],"
		"\"RegisteredDevices\":{}},\"Checksum\":1}",
		pod->at[0].ids[0], pod->uid, pod->at[0].ids[0]);
	fclose(file);
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_OK);
	bed_assert_armed(pod, 0);
	/* The kubelet lists nobody who has it, and runs it again at any time in the pod's life. */
	pod->phase = "Running";
	for (int64_t now = 0; now < 30000; now += 6000)
		assert_int_equal(bed_sweep(now), 0);
	scene_forget(pod);
	assert_int_equal(bed_sweep(60000), 0);
	assert_int_equal(bed_sweep(66000), 1);
}

/* Pods that start together share the writing of their files: no answer before it, and none when it failed. */
static void flushed_together(void **state)
{
	struct scene_pod *a = scene_pod("a", (const unsigned[]){ 3000, 5000, 0 }),
			 *b = scene_pod("b", (const unsigned[]){ 3000, 0 });
	struct outcome outs[3] = { { 0 } };

	(void)state;
	call_admit(a);
	call_admit(b);
	bed.flushes = 0;
	for (unsigned tries = 0; tries < 2; tries++) {
		/* However many turns of the loop the calls arrive in. */
		bed.flush_fails = tries ? 0 : 3;
		memset(outs, 0, sizeof(outs));
		call_start(&a->at[0], &outs[0]);
		call_start(&b->at[0], &outs[1]);
		call_start(&a->at[1], &outs[2]);
		for (size_t i = 0; i < 3; i++) {
			assert_true(node_until(&outs[i].ends, 1, NODE_SOON_MS));
			if (tries)
				assert_int_equal(outs[i].code, TR_RPC_OK);
			else
				assert_string_equal(outs[i].sentence,
						    "no room for the CDI files");
		}
		/* Told a moment later. */
		assert_true(
			node_until(&bed.events[TR_ARM_ARMED], tries ? 3 : 0, NODE_SOON_MS));
		assert_int_equal(bed.events[TR_ARM_ARMED], tries ? 3 : 0);
		assert_int_equal(bed.events[TR_ARM_REFUSED], 3);
	}
	bed_assert_armed(a, 0);
	bed_assert_armed(a, 1);
	bed_assert_armed(b, 0);
}

static unsigned answered[3], answer_count;

static void on_armed(void *arg, int r, const struct tr_err *err)
{
	(void)err;
	assert_int_equal(r, 0);
	answered[answer_count++] = *(unsigned *)arg;
}

/* Who waits longest is answered first. */
static void oldest_first(void **state)
{
	static unsigned numbers[] = { 0, 1, 2 };
	struct scene_pod *pods[] = { scene_pod("a", scene_one), scene_pod("b", scene_one),
				     scene_pod("c", scene_one) };

	(void)state;
	for (size_t i = 0; i < 3; i++)
		call_admit(pods[i]);
	answer_count = 0;
	bed.flushes = 0;
	for (size_t i = 0; i < 3; i++) {
		struct tr_ids ids = scene_ids(&pods[i]->at[0]);

		tr_arm_start(bed.arm, &ids, on_armed, &numbers[i]);
	}
	while (answer_count < 3)
		node_turn(EVLOOP_ONCE);
	assert_int_equal(bed.flushes, 1);
	assert_memory_equal(answered, numbers, sizeof(numbers));
}

/* Ids change hands by Allocate alone, but the names of pods do not: a List that is a moment old may call by the name
 * of a pod that is there now what one of the same name has that was deleted. */
static void name_passed_on(void **state)
{
	struct scene_pod *first = scene_pod("p", (const unsigned[]){ 3000, 0 }),
			 *other = scene_pod("q", (const unsigned[]){ 5000, 0 });
	struct outcome out = { 0 };

	(void)state;
	call_admit(first);
	call_admit(other);
	call_start(&other->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(pods_lists, 1); /* shows both */
	call_start(&first->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(pods_lists, 2); /* and is asked for anew */
}

/* Calls under way when the agent stops are answered. */
static void stops(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 0 });
	struct outcome out = { 0 };

	(void)state;
	call_admit(pod);
	answers_later = true;
	call_start(&pod->at[0], &out);
	assert_true(node_until(&asked, 1, NODE_SOON_MS));
	bed_stop();
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
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
	call_admit(a);
	call_admit(b);
	call_admit(c);
	write_r = -ESTALE;
	call_start(&a->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_FAILED_PRECONDITION);
	assert_string_equal(out.sentence,
			    "write to pod default/a which GPUs it gets: it was changed");
	write_r = 0;
	call_start(&a->at[0], &out);
	call_start(&b->at[0], &other);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS) &&
		    node_until(&other.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_OK);
	assert_int_equal(other.code, TR_RPC_OK);
	assert_int_equal(written, 2);
	assert_string_not_equal(a->decision, b->decision);
	a->at[0].cores = b->at[0].cores = 100;
	a->at[0].card = strncmp(a->decision, scene_uuid(0), 40) != 0;
	b->at[0].card = !a->at[0].card;
	bed_assert_armed(a, 0);
	bed_assert_armed(b, 0);
	call_start(&c->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_FAILED_PRECONDITION);
	assert_non_null(strstr(out.sentence, "of the 1 whole GPUs that it would get 0"));
}

/* A scheduler decided on it a moment ago, and the watch has not told yet. */
static void whole_cards_late_news(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 0 });
	struct outcome out = { 0 };

	(void)state;
	call_admit(pod);
	lacks_news = true;
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_OK);
	assert_int_equal(written, 0);
	assert_int_equal(asked_fresh, 1);
	bed_assert_armed(pod, 0);
}

/* ---- without CDI ---- */

static void inferred(void **state)
{
	struct scene_pod *pod = scene_pod("p", (const unsigned[]){ 3000, 5000, 0 });
	struct outcome out = { 0 };

	(void)state;
	pod->at[1].card = 1;
	call_admit(pod);
	/* Marks are written after the answer; the lock goes with the last, a moment later. */
	assert_true(node_until(&unlocked, 1, NODE_SOON_MS));
	assert_string_equal(phase, "success");
	assert_string_equal(left, ";;");
	assert_string_equal(lock, "");
	for (size_t i = 0; i < 2; i++) {
		assert_string_equal(bed_alloc(&pod->at[i])->container, pod->at[i].name);
		assert_int_equal(bed_alloc(&pod->at[i])->parts[0].limit_bytes,
				 (uint64_t)pod->at[i].mib << 20);
		call_start(&pod->at[i], &out);
		assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
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
	call_admit(other);
	assert_string_equal(bed_alloc(&other->at[0])->pod, pod->name);
	call_start(&other->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_FAILED_PRECONDITION);
	assert_string_equal(
		out.sentence,
		"the devices of container a of pod default/q were taken for those of "
		"container a of pod default/p: delete the pod");
}

static void inferred_of_its_name(void **state)
{
	struct scene_pod *old = scene_pod("p", (const unsigned[]){ 3000, 0 }),
			 *pod = scene_pod("p", (const unsigned[]){ 5000, 0 });
	struct outcome out = { 0 };
	char sentence[300];

	(void)state;
	call_admit(pod);
	assert_string_equal(bed_alloc(&pod->at[0])->uid, old->uid);
	call_start(&pod->at[0], &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_int_equal(out.code, TR_RPC_FAILED_PRECONDITION);
	snprintf(sentence, sizeof(sentence),
		 "the devices of the pod with UID %s were taken for those of pod default/p "
		 "with UID %s: delete the pod",
		 pod->uid, old->uid);
	assert_string_equal(out.sentence, sentence);
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

static void F33_at_once(void **state)
{
	double loop, all;

	(void)state;
	scene_cards(8, UINT64_C(80) << 30);
	tr_arm_set_cards(bed.arm, &scene.cards);
	call_offer();
	longest_allocate_ns = 0;
	for (unsigned p = 0; p < PODS; p++) {
		char name[16];
		struct scene_pod *pod;

		snprintf(name, sizeof(name), "pod-%u", p);
		pod = scene_pod(name, (const unsigned[]){ 1 + 2 * p, 2 + 2 * p, 0 });
		pod->at[0].card = p % 8;
		pod->at[1].card = (p + 3) % 8;
		call_admit(pod);
	}
	ended = bed.flushes = 0;
	loop = cpu_ms(CLOCK_THREAD_CPUTIME_ID);
	all = cpu_ms(CLOCK_PROCESS_CPUTIME_ID);
	begun_ns = tr_clock_ns();
	for (unsigned p = PODS; p--;) {
		start_at_once(&scene.pods[p].at[p & 1]);
		start_at_once(&scene.pods[p].at[!(p & 1)]);
	}
	while (ended < 2 * PODS && tr_clock_ns() - begun_ns < UINT64_C(20000000000))
		node_turn(EVLOOP_ONCE);
	assert_int_equal(ended, 2 * PODS);
	assert_in_range(bed.flushes, 1, PODS); /* not one for each */
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, call_open_node, call_close_node)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_pod),
		cmocka_unit_test_setup_teardown(refused, call_open_strict, call_close_node),
		TEST(read_ahead),
		TEST(held_of_its_name),
		TEST(next_of_its_name),
		TEST(not_listed),
		TEST(only_init),
		TEST(flushed_together),
		TEST(oldest_first),
		TEST(name_passed_on),
		TEST(stops),
		TEST(whole_cards),
		TEST(whole_cards_late_news),
		cmocka_unit_test_setup_teardown(inferred, call_open_infers,
						call_close_node),
		cmocka_unit_test_setup_teardown(inferred_wrongly, call_open_infers,
						call_close_node),
		cmocka_unit_test_setup_teardown(inferred_of_its_name, call_open_infers,
						call_close_node),
		TEST(F33_at_once),
	};

	return cmocka_run_group_tests_name("prestart", tests, NULL, NULL);
}
