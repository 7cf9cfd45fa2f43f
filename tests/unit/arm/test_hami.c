/* SPDX-License-Identifier: Apache-2.0 */
/* What HAMi's scheduler is told, and when its lock on the node goes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bed.h"
#include "tr_test.h"
#include "tranche/names.h"

static char lock[200]; /* of the node; "": none */
static unsigned node_version, asked, written, unlocked, stale;
static int write_r;
static unsigned node_fails, pod_fails,
	unlock_fails; /* as often as that, the API server does not answer */
static char phase[16], left[64];

static void node_of(tr_node_told *told, void *told_arg, void *arg)
{
	struct tr_named notes[] = { { TR_NODE_LOCK, lock } };
	char version[16];
	struct tr_node node = { .object = { .version = version,
					    .annotations = { notes, lock[0] != '\0' } } };

	(void)arg;
	asked++;
	if (node_fails) {
		node_fails--;
		told(told_arg, -ETIMEDOUT, NULL, NULL);
		return;
	}
	snprintf(version, sizeof(version), "%u", node_version);
	told(told_arg, 0, &node, NULL);
}

static void annotate_node(const char *version, const struct tr_named_list *annotations,
			  tr_pod_written *done, void *done_arg, void *arg)
{
	char now[16];

	(void)arg;
	snprintf(now, sizeof(now), "%u", node_version);
	assert_string_equal(version, now);
	assert_int_equal(annotations->count, 1);
	assert_string_equal(annotations->at[0].name, TR_NODE_LOCK);
	assert_null(annotations->at[0].value);
	if (stale) {
		stale--;
		node_version++;
		done(done_arg, -ESTALE, NULL);
		return;
	}
	if (unlock_fails) {
		unlock_fails--;
		done(done_arg, -ETIMEDOUT, NULL);
		return;
	}
	unlocked++;
	lock[0] = '\0';
	done(done_arg, 0, NULL);
}

/* The scene's pods, with HAMi's marks. */
static void pod_of(const char *space, const char *name, bool is_fresh, tr_pod_told *told,
		   void *told_arg, void *arg)
{
	struct tr_named notes[] = { { TR_POD_BIND_PHASE, phase },
				    { TR_POD_BIND_TIME, "1" } };

	(void)arg;
	assert_true(is_fresh);
	assert_string_equal(space, "default");
	if (pod_fails) {
		pod_fails--;
		told(told_arg, -ETIMEDOUT, NULL, NULL);
		return;
	}
	for (size_t i = 0; i < scene.pod_count; i++)
		if (strcmp(scene.pods[i].name, name) == 0) {
			struct tr_pod pod = *scene_object(&scene.pods[i]);

			pod.object.annotations = (struct tr_named_list){ notes, 2 };
			told(told_arg, 0, &pod, NULL);
			return;
		}
	told(told_arg, -ENOENT, NULL, NULL);
}

static void annotate(const char *space, const char *name, const char *version,
		     const struct tr_named_list *annotations, tr_pod_written *done,
		     void *done_arg, void *arg)
{
	(void)space;
	(void)name;
	(void)arg;
	if (!tr_named_find(annotations, TR_POD_TO_ALLOCATE))
		assert_string_equal(version, "1"); /* final: of this pod only */
	else
		assert_null(version);
	if (write_r == 0) {
		written++;
		snprintf(phase, sizeof(phase), "%s",
			 tr_named_find(annotations, TR_POD_BIND_PHASE));
		if (version == NULL)
			snprintf(left, sizeof(left), "%s",
				 tr_named_find(annotations, TR_POD_TO_ALLOCATE));
	}
	done(done_arg, write_r, NULL);
}

static int open_bed(void **state)
{
	int r = bed_open(state);

	bed_stop();
	bed.options.ports.node_of = node_of;
	bed.options.ports.annotate_node = annotate_node;
	bed.options.ports.pod_of = pod_of;
	bed.options.ports.annotate = annotate;
	bed.base = event_base_new();
	bed_start();
	asked = written = unlocked = stale = 0;
	node_fails = pod_fails = unlock_fails = 0;
	write_r = 0;
	strcpy(phase, "allocating");
	strcpy(lock, "2026-11-21T10:00:00Z,default,p");
	return r;
}

static int close_bed(void **state)
{
	struct event_base *base = bed.base;
	int r = bed_close(state);

	event_base_free(base);
	return r;
}

static void at_the_last(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_two);

	(void)state;
	tr_arm_handover(bed.arm);
	assert_int_equal(asked, 1);
	assert_int_equal(written, 0);
	pod->is_admitted = true;
	for (size_t i = 0; i < 2; i++) {
		pod->at[i].ids[0] = scene.ids[i];
		assert_int_equal(unlocked, 0);
		assert_int_equal(bed_allocate(&(struct tr_ids){ pod->at[i].ids, 1 },
					      pod->at[i].alloc, NULL),
				 0);
		tr_arm_handover(bed.arm);
	}
	assert_int_equal(written, 1);
	assert_int_equal(unlocked, 1);
	assert_string_equal(phase, "success");
	assert_string_equal(left, ";;");
	tr_arm_handover(bed.arm);
	assert_int_equal(written, 1); /* no lock, nothing to say */
	assert_int_equal(bed_arm(pod, 0), 0);
	bed_assert_armed(pod, 1);
}

/* Pods that were here before are not taken for it. */
static void others(void **state)
{
	struct scene_pod *other = scene_pod("q", scene_two),
			 *pod = scene_pod("p", scene_two);

	(void)state;
	bed_admit(other);
	assert_int_equal(bed_arm(other, 0), 0);
	tr_arm_handover(bed.arm);
	assert_int_equal(written, 0);
	bed_admit(pod);
	assert_int_equal(bed_arm(pod, 0), 0); /* armed before it was looked at */
	tr_arm_handover(bed.arm);
	assert_int_equal(unlocked, 1);
}

static void no_word(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_two);

	(void)state;
	bed_admit(pod);
	scene_add(scene_pod_new("vendor"), "a", TR_CONTAINER_APP, 0, 0);
	strcpy(lock, "2026-11-21T10:00:00Z,default,vendor"); /* another's devices */
	tr_arm_handover(bed.arm);
	strcpy(phase, "what");
	strcpy(lock, "2026-11-21T10:00:00Z,default,p");
	tr_arm_handover(bed.arm);
	strcpy(phase, "allocating");
	strcpy(lock, "2026-11-21T10:00:00Z,default,other");
	tr_arm_handover(bed.arm);
	strcpy(lock, "2026-11-21T10:00:00Z"); /* nobody knows whose */
	tr_arm_handover(bed.arm);
	strcpy(lock, "garbage,,,");
	tr_arm_handover(bed.arm);
	assert_int_equal(written, 0);
	assert_int_equal(unlocked, 0);
}

/* One whose allocation failed is not waited for. */
static void failed(void **state)
{
	scene_pod("p", scene_two);
	(void)state;
	strcpy(phase, "failed");
	tr_arm_handover(bed.arm);
	assert_int_equal(written, 0);
	assert_int_equal(unlocked, 1);
}

/* An Allocate was refused, and the kubelet says so of the pod. */
static void refused(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_two);

	(void)state;
	tr_arm_block(bed.arm, "the node is being drained");
	assert_int_equal(scene_admit(pod, bed_allocate, NULL), -EPERM);
	tr_arm_handover(bed.arm);
	assert_int_equal(written, 0); /* it may have been another's */
	pod->phase = "Failed";
	write_r = -ESTALE; /* another of its name by now */
	tr_arm_handover(bed.arm);
	assert_int_equal(unlocked, 0);
	assert_int_equal(bed.events[TR_ARM_ODD], 0);
	write_r = 0;
	tr_arm_handover(bed.arm);
	assert_string_equal(phase, "failed");
	assert_int_equal(written, 1);
	assert_int_equal(unlocked, 1);
	/* One that had all its devices, and failed later. */
	strcpy(phase, "success");
	strcpy(lock, "2026-11-21T10:00:00Z,default,p");
	tr_arm_handover(bed.arm);
	assert_string_equal(phase, "success");
	assert_int_equal(unlocked, 2);
}

static void fails(void **state)
{
	struct scene_pod *pod = scene_pod("p", scene_two);

	(void)state;
	bed_admit(pod);
	write_r = -EACCES;
	tr_arm_handover(bed.arm);
	assert_int_equal(bed.events[TR_ARM_ODD], 1);
	assert_non_null(strstr(bed.odd, "HAMi's marks for pod default/p"));
	assert_int_equal(unlocked, 0);
	write_r = 0;
	stale = 1; /* the node's object changed between */
	tr_arm_handover(bed.arm);
	assert_int_equal(unlocked, 0);
	tr_arm_handover(bed.arm);
	assert_int_equal(unlocked, 1);
}

static void wait_unlocked(void)
{
	struct timeval most = { .tv_sec = 5 };

	event_base_loopexit(bed.base, &most);
	while (!unlocked && !event_base_got_exit(bed.base))
		assert_int_equal(event_base_loop(bed.base, EVLOOP_ONCE), 0);
	assert_int_equal(unlocked, 1);
}

/* Nobody calls again: no pod is bound to the node while the lock is there. */
static void again(void **state)
{
	(void)state;
	node_fails = 2;
	pod_fails = unlock_fails = 1;
	bed_admit(scene_pod("p", scene_two));
	wait_unlocked();
	assert_int_equal(asked, 5);
	assert_int_equal(bed.events[TR_ARM_ODD],
			 1); /* of what is tried again once is told */
	assert_string_equal(phase, "success");
}

/* The agent ended between the last Allocate and the word on it. */
static void after_restart(void **state)
{
	(void)state;
	bed_admit(scene_pod("p", scene_two));
	bed_stop();
	assert_int_equal(unlocked, 0);
	bed_start();
	wait_unlocked();
	assert_string_equal(phase, "success");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_bed, close_bed)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(at_the_last), TEST(others), TEST(no_word), TEST(failed),
		TEST(refused),     TEST(fails),  TEST(again),   TEST(after_restart),
	};

	return cmocka_run_group_tests_name("hami", tests, NULL, NULL);
}
