/* SPDX-License-Identifier: Apache-2.0 */
/* Whose a container that starts is, where PodResources alone does not say it. */
#include "calls.h"
#include "pods_server.h"
#include "tr_test.h"

static void start(const struct scene_container *container)
{
	struct outcome out = { 0 };

	call_start(container, &out);
	assert_true(node_until(&out.ends, 1, NODE_SOON_MS));
	assert_string_equal(out.sentence, "");
	assert_int_equal(out.code, TR_RPC_OK);
}

/* An init container whose ids no listed one has, of a pod that has listed ones: by its UID, and by all rows. */
static void init_beside_others(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 8; round++) {
		struct scene_pod *pod = scene_pod_new("p"), *other;

		other = scene_pod("other", (const unsigned[]){ 10, 0 });
		call_admit(other);
		scene_add(pod, "one", TR_CONTAINER_INIT, 1, 100);
		scene_add(pod, "two", TR_CONTAINER_INIT, 2, 200);
		scene_add(pod, "app", TR_CONTAINER_APP, 1, 300);
		call_admit(pod);
		start(&pod->at[0]);
		for (size_t i = 0; i < pod->count; i++)
			bed_assert_armed(pod, i);
		scene_forget(pod);
		scene_forget(other);
	}
}

/* The kubelet still lists the pod that had the name before, and first. */
static void old_one_is_listed(void **state)
{
	struct scene_pod *old = scene_pod("db-0", (const unsigned[]){ 4000, 0 }),
			 *pod = scene_pod("db-0", (const unsigned[]){ 1000, 0 });

	(void)state;
	call_admit(old);
	start(&old->at[0]);
	call_admit(pod);
	gone = old;
	start(&pod->at[0]);
	bed_assert_armed(pod, 0);
	bed_assert_armed(old, 0);
}

/* The kubelet's UID of it is not the API server's. */
static void static_pod(void **state)
{
	struct scene_pod *pod = scene_pod("web-node-1", (const unsigned[]){ 1000, 0 });

	(void)state;
	pod->mirrored = "0123456789abcdef0123456789abcdef";
	call_admit(pod);
	start(&pod->at[0]);
	bed_assert_armed(pod, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, call_open_node, call_close_node)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(init_beside_others),
		TEST(old_one_is_listed),
		TEST(static_pod),
	};

	return cmocka_run_group_tests_name("owner", tests, NULL, NULL);
}
