/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of the device plugin, from our words into the protocol's. */
#include <errno.h>
#include <stdlib.h>

#include "deviceplugin/plugin.h"
#include "proto/deviceplugin.pb-c.h"

typedef V1beta1__ContainerAllocateResponse response;
typedef V1beta1__ContainerAllocateResponse__EnvsEntry env_entry;
typedef V1beta1__ContainerAllocateResponse__AnnotationsEntry annotation_entry;

/* Pieces of one answer, freed together. */
struct pieces {
	void *at[2 * 6 * TR_PLUGIN_CONTAINERS + 2];
	size_t count;
	bool is_short; /* of memory */
};

static void *piece(struct pieces *p, size_t count, size_t bytes)
{
	void *got = p->is_short ? NULL : calloc(count + 1, bytes);

	if (got)
		p->at[p->count++] = got;
	else
		p->is_short = true;
	return got;
}

static void free_pieces(struct pieces *p)
{
	while (p->count)
		free(p->at[--p->count]);
}

/* protobuf-c wants char *, and writes nothing when it packs. */
static char *text(const char *text)
{
	return (char *)(uintptr_t)text;
}

/* An array of FIELD's messages and the array of pointers that the message has. */
#define ROWS(p, message, field, type, count)              \
	type *field = piece(p, count, sizeof(*field));    \
	message->field = piece(p, count, sizeof(void *)); \
	message->n_##field = (p)->is_short ? 0 : (count)

static void put_texts(struct pieces *p, response *out, const struct tr_injection *in)
{
	ROWS(p, out, envs, env_entry, in->env_count);
	for (size_t i = 0; i < out->n_envs; i++) {
		v1beta1__container_allocate_response__envs_entry__init(&envs[i]);
		envs[i].key = text(in->envs[i].key);
		envs[i].value = text(in->envs[i].value);
		out->envs[i] = &envs[i];
	}
	ROWS(p, out, annotations, annotation_entry, in->annotation_count);
	for (size_t i = 0; i < out->n_annotations; i++) {
		v1beta1__container_allocate_response__annotations_entry__init(
			&annotations[i]);
		annotations[i].key = text(in->annotations[i].key);
		annotations[i].value = text(in->annotations[i].value);
		out->annotations[i] = &annotations[i];
	}
	ROWS(p, out, cdi_devices, V1beta1__CDIDevice, in->cdi_count);
	for (size_t i = 0; i < out->n_cdi_devices; i++) {
		v1beta1__cdidevice__init(&cdi_devices[i]);
		cdi_devices[i].name = text(in->cdi[i]);
		out->cdi_devices[i] = &cdi_devices[i];
	}
}

static void put_paths(struct pieces *p, response *out, const struct tr_injection *in)
{
	ROWS(p, out, mounts, V1beta1__Mount, in->mount_count);
	for (size_t i = 0; i < out->n_mounts; i++) {
		v1beta1__mount__init(&mounts[i]);
		mounts[i].host_path = text(in->mounts[i].host);
		mounts[i].container_path = text(in->mounts[i].container);
		mounts[i].read_only = in->mounts[i].read_only;
		out->mounts[i] = &mounts[i];
	}
	ROWS(p, out, devices, V1beta1__DeviceSpec, in->node_count);
	for (size_t i = 0; i < out->n_devices; i++) {
		v1beta1__device_spec__init(&devices[i]);
		devices[i].host_path = text(in->nodes[i].host);
		devices[i].container_path = text(in->nodes[i].container);
		devices[i].permissions = text(in->nodes[i].permissions);
		out->devices[i] = &devices[i];
	}
}

static int refuse_all(struct tr_rpc_call *call, int code)
{
	tr_rpc_refuse(call, TR_RPC_INTERNAL,
		      code == ENOMEM ? "no memory for the answer" : "too many containers");
	return -code;
}

int tr_plugin_allocated(struct tr_rpc_call *call, const struct tr_injection *injections,
			size_t count)
{
	response containers[TR_PLUGIN_CONTAINERS], *list[TR_PLUGIN_CONTAINERS];
	V1beta1__AllocateResponse message;
	struct pieces pieces = { .count = 0 };
	int r;

	if (count > TR_PLUGIN_CONTAINERS)
		return refuse_all(call, E2BIG);
	for (size_t i = 0; i < count; i++) {
		v1beta1__container_allocate_response__init(&containers[i]);
		put_texts(&pieces, &containers[i], &injections[i]);
		put_paths(&pieces, &containers[i], &injections[i]);
		list[i] = &containers[i];
	}
	v1beta1__allocate_response__init(&message);
	message.container_responses = list;
	message.n_container_responses = count;
	r = pieces.is_short ? refuse_all(call, ENOMEM) : tr_rpc_reply(call, &message.base);
	free_pieces(&pieces);
	return r;
}

int tr_plugin_preferred(struct tr_rpc_call *call, const struct tr_ids *choices,
			size_t count)
{
	V1beta1__ContainerPreferredAllocationResponse containers[TR_PLUGIN_CONTAINERS],
		*list[TR_PLUGIN_CONTAINERS];
	V1beta1__PreferredAllocationResponse message;

	if (count > TR_PLUGIN_CONTAINERS)
		return refuse_all(call, E2BIG);
	for (size_t i = 0; i < count; i++) {
		v1beta1__container_preferred_allocation_response__init(&containers[i]);
		containers[i].deviceids = (char **)(uintptr_t)choices[i].ids;
		containers[i].n_deviceids = choices[i].count;
		list[i] = &containers[i];
	}
	v1beta1__preferred_allocation_response__init(&message);
	message.container_responses = list;
	message.n_container_responses = count;
	return tr_rpc_reply(call, &message.base);
}

int tr_plugin_prestarted(struct tr_rpc_call *call)
{
	V1beta1__PreStartContainerResponse message;

	v1beta1__pre_start_container_response__init(&message);
	return tr_rpc_reply(call, &message.base);
}
