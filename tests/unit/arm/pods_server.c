/* SPDX-License-Identifier: Apache-2.0 */
#include "pods_server.h"

#include <stdlib.h>

#include "proto/podresources.pb-c.h"
#include "scene.h"

unsigned pods_lists;

static void on_list(struct tr_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
	static char resource[] = "nvidia.com/gpu";
	const struct tr_pod_list *rows = scene_rows();
	V1__ContainerDevices *devices = calloc(rows->count + 1, sizeof(*devices));
	V1__ContainerResources *containers = calloc(rows->count + 1, sizeof(*containers));
	V1__PodResources *each = calloc(rows->count + 1, sizeof(*each));
	void **lists_of = calloc(3 * rows->count + 3, sizeof(void *));
	V1__ListPodResourcesResponse response;

	(void)request;
	(void)arg;
	pods_lists++;
	v1__list_pod_resources_response__init(&response);
	response.pod_resources = (V1__PodResources **)&lists_of[2 * rows->count];
	for (size_t i = 0; i < rows->count; i++) {
		const struct tr_pod_row *row = &rows->rows[i];

		v1__container_devices__init(&devices[i]);
		devices[i].resource_name = resource;
		devices[i].device_ids = (char **)(uintptr_t)row->ids;
		devices[i].n_device_ids = row->count;
		lists_of[i] = &devices[i];
		v1__container_resources__init(&containers[i]);
		containers[i].name = (char *)(uintptr_t)row->container;
		containers[i].devices = (V1__ContainerDevices **)&lists_of[i];
		containers[i].n_devices = 1;
		lists_of[rows->count + i] = &containers[i];
		v1__pod_resources__init(&each[i]);
		each[i].name = (char *)(uintptr_t)row->pod;
		each[i].namespace_ = (char *)(uintptr_t)row->namespace;
		each[i].containers = (V1__ContainerResources **)&lists_of[rows->count + i];
		each[i].n_containers = 1;
		response.pod_resources[response.n_pod_resources++] = &each[i];
	}
	(void)tr_rpc_reply(call, &response.base);
	free(devices);
	free(containers);
	free(each);
	free(lists_of);
}

const struct tr_rpc_method pods_method = {
	"/v1.PodResourcesLister/List",
	&v1__list_pod_resources_request__descriptor,
	on_list,
	false,
};
