/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every message that the agent takes from the kubelet's sockets. First byte: which one; the
 * rest: its bytes. What the check lets through must decode into the memory it foretold, say the same when
 * it is packed and read again, and be fit for what uses it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/devices.h"
#include "deviceplugin/pods.h"
#include "fuzz.h"
#include "naive.h"
#include "proto/deviceplugin.pb-c.h"
#include "proto/podresources.pb-c.h"
#include "rpc/message.h"

#define ROOM_MOST (8u << 20)

static const ProtobufCMessageDescriptor *const types[] = {
	&v1beta1__empty__descriptor,
	&v1beta1__allocate_request__descriptor,
	&v1beta1__preferred_allocation_request__descriptor,
	&v1beta1__pre_start_container_request__descriptor,
	&v1__list_pod_resources_response__descriptor,
	&v1beta1__register_request__descriptor,
	&v1beta1__list_and_watch_response__descriptor,
	&v1beta1__allocate_response__descriptor,
};
enum { ALLOCATE = 1, PREFERRED = 2, PRESTART = 3, PODS = 4 };

/* ---- how much protobuf-c really takes ---- */

struct meter {
	size_t now, peak;
};

static void *metered_alloc(void *arg, size_t n)
{
	struct meter *meter = arg;
	size_t *block = malloc(n + 16);

	CHECK(block);
	*block = n;
	meter->now += n;
	if (meter->now > meter->peak)
		meter->peak = meter->now;
	return (char *)block + 16;
}

static void metered_free(void *arg, void *at)
{
	struct meter *meter = arg;
	size_t *block = at ? (size_t *)(void *)((char *)at - 16) : NULL;

	if (!block)
		return;
	meter->now -= *block;
	free(block);
}

static void try_room(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n,
		     size_t room)
{
	struct meter meter = { 0 };
	ProtobufCAllocator allocator = { metered_alloc, metered_free, &meter };
	ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, n, bytes);

	CHECK(meter.peak <= room);
	if (message)
		protobuf_c_message_free_unpacked(message, &allocator);
	CHECK(meter.now == 0);
}

/* ---- what is done with it ---- */

static void try_pods(const ProtobufCMessage *message)
{
	struct tr_pod_list list;
	size_t ids = 0;

	CHECK(tr_pod_list_make(message, "nvidia.com/gpu", &list) == 0);
	for (size_t i = 0; i < list.count; i++) {
		CHECK(list.rows[i].count > 0);
		CHECK(list.rows[i].ids == list.ids + ids);
		for (size_t k = 0; k < list.rows[i].count; k++)
			CHECK(strlen(list.rows[i].ids[k]) < ROOM_MOST);
		CHECK(strlen(list.rows[i].namespace) + strlen(list.rows[i].pod) +
			      strlen(list.rows[i].container) <
		      ROOM_MOST);
		ids += list.rows[i].count;
	}
	tr_pod_list_free(&list);
}

static bool is_offered(const char *id)
{
	return strcmp(id, "GPU-0-0") == 0 || strcmp(id, "GPU-0-1") == 0 ||
	       strcmp(id, "GPU-1-0") == 0;
}

static bool naive_look(char **ids, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!is_offered(ids[i]) || i >= 3)
			return false;
		for (size_t k = 0; k < i; k++)
			if (strcmp(ids[i], ids[k]) == 0)
				return false;
	}
	return true;
}

static void try_ids(char **ids, size_t n)
{
	static struct tr_device_set set;
	struct tr_plugin_device devices[] = { { .id = "GPU-1-0" },
					      { .id = "GPU-0-1" },
					      { .id = "GPU-0-0" } };
	struct tr_err err = { 0 };
	int r;

	if (!set.count)
		CHECK(tr_device_set_fill(&set, devices, 3, &err) == 1);
	tr_device_look_begin(&set);
	r = tr_device_look_at(&set, (const char *const *)ids, n, &err);
	CHECK((r == 0) == naive_look(ids, n));
	CHECK(r == 0 || (r == -EINVAL && err.msg[0]));
}

static void use(size_t which, const ProtobufCMessage *message)
{
	const V1beta1__AllocateRequest *allocate = (const void *)message;
	const V1beta1__PreferredAllocationRequest *preferred = (const void *)message;
	const V1beta1__PreStartContainerRequest *prestart = (const void *)message;

	if (which == PODS)
		try_pods(message);
	if (which == PRESTART)
		try_ids(prestart->devices_ids, prestart->n_devices_ids);
	for (size_t i = 0; which == ALLOCATE && i < allocate->n_container_requests; i++)
		try_ids(allocate->container_requests[i]->devices_ids,
			allocate->container_requests[i]->n_devices_ids);
	for (size_t i = 0; which == PREFERRED && i < preferred->n_container_requests; i++)
		try_ids(preferred->container_requests[i]->available_deviceids,
			preferred->container_requests[i]->n_available_deviceids);
}

/* Packed, read again, packed: the same bytes. */
static void try_again(const ProtobufCMessageDescriptor *type,
		      const ProtobufCMessage *message)
{
	size_t n = protobuf_c_message_get_packed_size(message);
	uint8_t *first = malloc(n + 1), *second = malloc(n + 1);
	ProtobufCMessage *again;
	struct tr_err err = { 0 };

	CHECK(first && second);
	CHECK(protobuf_c_message_pack(message, first) == n);
	CHECK(tr_message_read(type, first, n, 2 * ROOM_MOST, &again, &err) == 0);
	CHECK(protobuf_c_message_get_packed_size(again) == n);
	CHECK(protobuf_c_message_pack(again, second) == n);
	CHECK(memcmp(first, second, n) == 0);
	tr_message_free(again);
	free(first);
	free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	size_t which = n ? bytes[0] % (sizeof(types) / sizeof(*types)) : 0, room = 0;
	ProtobufCMessage *message = NULL;
	struct tr_err err = { 0 };
	int r;

	if (!n)
		return 0;
	bytes++;
	n--;
	r = tr_message_check(types[which], bytes, n, &room, &err);
	CHECK(r == 0 || (r == -EBADMSG && err.msg[0]));
	if (r == 0)
		try_room(types[which], bytes, n, room);
	r = tr_message_read(types[which], bytes, n, ROOM_MOST, &message, &err);
	CHECK((r == 0) == (message != NULL));
	CHECK(r == 0 || r == -EBADMSG || (r == -EMSGSIZE && room > ROOM_MOST));
	if (message) {
		use(which, message);
		try_again(types[which], message);
	}
	tr_message_free(message);
	return 0;
}
