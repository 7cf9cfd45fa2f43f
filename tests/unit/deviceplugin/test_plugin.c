/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node.h"
#include "rt/file.h"
#include "tr_test.h"

#define ALLOCATED (&v1beta1__allocate_response__descriptor)
#define STARTED   (&v1beta1__pre_start_container_response__descriptor)
#define PREFERRED (&v1beta1__preferred_allocation_response__descriptor)
#define OPTIONS   (&v1beta1__device_plugin_options__descriptor)

static char id0[] = "GPU-0-0", id1[] = "GPU-0-1", id2[] = "GPU-0-2", none[] = "GPU-9-0";

static int open_plugin(void **state)
{
	node_open(state);
	node_plugin_start();
	node_offer(3, 1);
	node_dial();
	assert_true(node_until(&node.lists, 1, 2000));
	return 0;
}

static void list(void **state)
{
	(void)state;
	assert_int_equal(node.devices, 4);
	assert_int_equal(node.healthy, 3);
	assert_int_equal(node.with_numa, 2); /* of -1, 0, 1, -1 */
	assert_string_equal(node.first_id, "GPU-0-0");
	assert_int_equal(tr_plugin_streams(node.plugin), 1);
	node_offer(3, 1); /* the same */
	node_run_ms(100);
	assert_int_equal(node.lists, 1);
	node_offer(4, 0); /* recovered */
	assert_true(node_until(&node.lists, 2, 2000));
	assert_int_equal(node.healthy, 4);
	node_offer(0, 0);
	assert_true(node_until(&node.lists, 3, 2000));
	assert_int_equal(node.devices, 0);
}

/* Many changes at once: fewer messages, and the last one is what is. */
static void many_changes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 500; i++)
		node_offer(i % 7, i % 5);
	node_offer(2, 9);
	node_run_ms(300);
	assert_int_equal(node.devices, 11);
	assert_int_equal(node.healthy, 2);
	assert_in_range(node.lists, 2, 100);
}

static void large_list(void **state)
{
	(void)state;
	node_offer(TR_DEVICES_MOST, 0);
	assert_true(node_until(&node.lists, 2, 5000));
	assert_int_equal(node.devices, TR_DEVICES_MOST);
}

static void bad_devices(void **state)
{
	static struct tr_plugin_device devices[TR_DEVICES_MOST + 1];
	struct tr_err err = { 0 };

	(void)state;
	assert_int_equal(tr_plugin_offer(node.plugin, devices, TR_DEVICES_MOST + 1, &err),
			 -E2BIG);
	assert_int_equal(tr_plugin_offer(node.plugin, devices, 1, &err), -EINVAL); /* "" */
	strcpy(devices[0].id, "a");
	strcpy(devices[1].id, "b");
	strcpy(devices[2].id, "a");
	assert_int_equal(tr_plugin_offer(node.plugin, devices, 3, &err), -EINVAL);
	assert_string_equal(err.msg, "device id a twice");
	memset(devices[0].id, 'x', TR_DEVICE_ID);
	assert_int_equal(tr_plugin_offer(node.plugin, devices, 1, &err), -EINVAL);
	node_run_ms(50);
	assert_int_equal(node.lists, 1); /* the set is as before */
}

static void look_options(const ProtobufCMessage *reply)
{
	const V1beta1__DevicePluginOptions *options = (const void *)reply;

	assert_true(options->pre_start_required);
	assert_true(options->get_preferred_allocation_available);
}

static void options(void **state)
{
	struct outcome out = { .look = look_options };
	V1beta1__Empty empty;

	(void)state;
	v1beta1__empty__init(&empty);
	node_call("GetDevicePluginOptions", &empty.base, OPTIONS, &out);
	assert_true(node_until(&out.ends, 1, 2000));
	assert_int_equal(out.code, TR_RPC_OK);
}

/* ---- Allocate ---- */

static void allocate(char **ids, size_t count, size_t containers, struct outcome *out)
{
	V1beta1__ContainerAllocateRequest each[100], *list_of[100];
	V1beta1__AllocateRequest request;

	for (size_t i = 0; i < containers; i++) {
		v1beta1__container_allocate_request__init(&each[i]);
		each[i].devices_ids = ids;
		each[i].n_devices_ids = i == 0 ? count : 0;
		list_of[i] = &each[i];
	}
	v1beta1__allocate_request__init(&request);
	request.container_requests = list_of;
	request.n_container_requests = containers;
	node_call("Allocate", &request.base, ALLOCATED, out);
}

static void look_injection(const ProtobufCMessage *reply)
{
	const V1beta1__AllocateResponse *all = (const void *)reply;
	const V1beta1__ContainerAllocateResponse *r;

	assert_int_equal(all->n_container_responses, 2);
	r = all->container_responses[1];
	assert_int_equal(r->n_envs, 2);
	assert_string_equal(r->envs[0]->key, "NVIDIA_VISIBLE_DEVICES");
	assert_string_equal(r->envs[0]->value, "void");
	assert_string_equal(r->envs[1]->value, "");
	assert_int_equal(r->n_annotations, 1);
	assert_string_equal(r->annotations[0]->key, "k");
	assert_int_equal(r->n_mounts, 2);
	assert_string_equal(r->mounts[0]->host_path, "/h");
	assert_string_equal(r->mounts[0]->container_path, "/etc/ld.so.preload");
	assert_true(r->mounts[0]->read_only);
	assert_false(r->mounts[1]->read_only);
	assert_int_equal(r->n_devices, 1);
	assert_string_equal(r->devices[0]->permissions, "rw");
	assert_int_equal(r->n_cdi_devices, 1);
	assert_string_equal(r->cdi_devices[0]->name, "tranche.io/slice=7");
}

static void injection(void **state)
{
	static const struct tr_pair envs[] = { { "NVIDIA_VISIBLE_DEVICES", "void" },
					       { "EMPTY", "" } },
				    annotations[] = { { "k", "v" } };
	static const struct tr_mount mounts[] = { { "/h", "/etc/ld.so.preload", true },
						  { "/i", "/run/tranche/rw", false } };
	static const struct tr_device_node nodes[] = { { "/dev/nvidia0", "/dev/nvidia0",
							 "rw" } };
	static const char *const cdi[] = { "tranche.io/slice=7" };
	struct outcome out = { .look = look_injection };
	char *ids[] = { id0, id2 };

	(void)state;
	node.injection = (struct tr_injection){ envs, annotations, mounts, nodes, cdi,
						2,    1,           2,      1,     1 };
	allocate(ids, 2, 2, &out);
	assert_true(node_until(&out.ends, 1, 2000));
	assert_int_equal(out.code, TR_RPC_OK);
	assert_int_equal(node.allocations, 1);
}

static const struct refusal {
	const char *name;
	char *ids[3];
	size_t count, containers;
	const char *says;
} refusals[] = {
	{ "never offered",
	  { id0, none },
	  2,
	  1,
	  "device id \"GPU-9-0\" is not offered here" },
	{ "twice", { id0, id1, id0 }, 3, 1, "device id GPU-0-0 twice" },
	{ "too many containers", { id0 }, 1, 65, "too many containers" },
};

static void refused(void **state)
{
	const struct refusal *c = *state;
	struct outcome out = { 0 };
	char *ids[3];

	open_plugin(NULL);
	memcpy(ids, c->ids, sizeof(ids));
	allocate(ids, c->count, c->containers, &out);
	assert_true(node_until(&out.ends, 1, 2000));
	assert_int_equal(out.code, TR_RPC_INVALID_ARGUMENT);
	assert_non_null(strstr(out.sentence, c->says));
	assert_int_equal(node.allocations, 0);
	node_close(NULL);
}

/* ---- PreStartContainer, GetPreferredAllocation ---- */

static void prestart(char **ids, size_t count, struct outcome *out)
{
	V1beta1__PreStartContainerRequest request;

	v1beta1__pre_start_container_request__init(&request);
	request.devices_ids = ids;
	request.n_devices_ids = count;
	node_call("PreStartContainer", &request.base, STARTED, out);
}

static void prestarts(void **state)
{
	struct outcome out = { 0 };
	char *ids[] = { id1 }, *bad[] = { none };

	(void)state;
	prestart(ids, 1, &out);
	assert_true(node_until(&out.ends, 1, 2000));
	assert_int_equal(out.code, TR_RPC_OK);
	node.refusal = "pod default/train: its slice is 6 GiB, GPU-0 has 5 GiB left";
	prestart(ids, 1, &out);
	assert_true(node_until(&out.ends, 1, 2000));
	assert_int_equal(out.code, TR_RPC_FAILED_PRECONDITION);
	assert_string_equal(out.sentence, node.refusal); /* word for word */
	prestart(bad, 1, &out);
	assert_true(node_until(&out.ends, 1, 2000));
	assert_int_equal(out.code, TR_RPC_INVALID_ARGUMENT);
	assert_int_equal(node.prestarts, 2);
}

static void prefer(char **available, size_t n, char **needed, size_t m, int size,
		   struct outcome *out)
{
	V1beta1__ContainerPreferredAllocationRequest one, *list_of[] = { &one };
	V1beta1__PreferredAllocationRequest request;

	v1beta1__container_preferred_allocation_request__init(&one);
	one.available_deviceids = available;
	one.n_available_deviceids = n;
	one.must_include_deviceids = needed;
	one.n_must_include_deviceids = m;
	one.allocation_size = size;
	v1beta1__preferred_allocation_request__init(&request);
	request.container_requests = list_of;
	request.n_container_requests = 1;
	node_call("GetPreferredAllocation", &request.base, PREFERRED, out);
	assert_true(node_until(&out->ends, 1, 2000));
}

static void look_preferred(const ProtobufCMessage *reply)
{
	const V1beta1__PreferredAllocationResponse *all = (const void *)reply;

	assert_int_equal(all->n_container_responses, 1);
	assert_int_equal(all->container_responses[0]->n_deviceids, 2);
	assert_string_equal(all->container_responses[0]->deviceids[0], "GPU-0-2");
}

static void preferences(void **state)
{
	struct outcome good = { .look = look_preferred }, bad = { 0 };
	char *available[] = { id2, id0, id1 }, *needed[] = { id0 };

	(void)state;
	prefer(available, 3, needed, 1, 2, &good);
	assert_int_equal(good.code, TR_RPC_OK);
	prefer(available, 3, needed, 1, 0, &bad);
	assert_int_equal(bad.code, TR_RPC_INVALID_ARGUMENT);
	prefer(available, 3, needed, 1, 4, &bad);
	assert_int_equal(bad.code, TR_RPC_INVALID_ARGUMENT);
	prefer(available, 3, needed, 1, -1, &bad);
	assert_int_equal(bad.code, TR_RPC_INVALID_ARGUMENT);
	assert_int_equal(node.preferences, 1);
}

/* ---- load ---- */

static void two_hundred_at_once(void **state)
{
	static struct outcome out[400];
	static char names[200][16];
	uint64_t start;

	(void)state;
	node_offer(200, 0);
	start = tr_clock_ns();
	for (unsigned i = 0; i < 200; i++) {
		char *ids[] = { names[i] };

		snprintf(names[i], sizeof(names[i]), "GPU-0-%u", i);
		allocate(ids, 1, 1, &out[2 * i]);
		prestart(ids, 1, &out[2 * i + 1]);
	}
	for (unsigned i = 0; i < TR_COUNT(out); i++) {
		assert_true(node_until(&out[i].ends, 1, 10000));
		assert_int_equal(out[i].code, TR_RPC_OK);
	}
	assert_int_equal(node.allocations, 200);
	assert_int_equal(node.prestarts, 200);
	print_message("400 calls at once: %.1f ms\n",
		      (double)(tr_clock_ns() - start) / 1e6);
}

static void too_many_streams(void **state)
{
	struct tr_rpc_channel *channels[12];
	struct tr_rpc_channel *first = node.dialled;

	(void)state;
	for (unsigned i = 0; i < TR_COUNT(channels); i++) {
		node.dialled = NULL;
		node.listening = NULL;
		node_dial();
		channels[i] = node.dialled;
	}
	node_run_ms(200);
	assert_int_equal(tr_plugin_streams(node.plugin), 8);
	for (unsigned i = 0; i < TR_COUNT(channels); i++)
		tr_rpc_channel_close(channels[i]);
	node.listening = NULL;
	node.dialled = first;
	node_run_ms(200);
	assert_int_equal(tr_plugin_streams(node.plugin), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_plugin, node_close)

int main(void)
{
	struct CMUnitTest tests[10 + TR_COUNT(refusals)] = {
		TEST(list),
		TEST(many_changes),
		TEST(large_list),
		TEST(bad_devices),
		TEST(options),
		TEST(injection),
		TEST(prestarts),
		TEST(preferences),
		TEST(two_hundred_at_once),
		TEST(too_many_streams),
	};

	for (size_t i = 0; i < TR_COUNT(refusals); i++)
		tests[10 + i] = (struct CMUnitTest){
			.name = refusals[i].name,
			.test_func = refused,
			.initial_state = (void *)(uintptr_t)&refusals[i],
		};
	return cmocka_run_group_tests_name("device plugin", tests, NULL, NULL);
}
