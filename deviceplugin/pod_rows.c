/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "deviceplugin/pods.h"
#include "proto/podresources.pb-c.h"

static size_t count_ids(const V1__ContainerResources *container, const char *resource)
{
	size_t n = 0;

	for (size_t i = 0; i < container->n_devices; i++)
		if (strcmp(container->devices[i]->resource_name, resource) == 0)
			n += container->devices[i]->n_device_ids;
	return n;
}

static void count_all(const V1__ListPodResourcesResponse *response, const char *resource,
		      size_t *rows, size_t *ids)
{
	*rows = 0;
	*ids = 0;
	for (size_t p = 0; p < response->n_pod_resources; p++)
		for (size_t c = 0; c < response->pod_resources[p]->n_containers; c++) {
			size_t n = count_ids(response->pod_resources[p]->containers[c],
					     resource);

			*rows += n > 0;
			*ids += n;
		}
}

/* The kubelet writes one entry for each device or NUMA node. */
static size_t copy_ids(const V1__ContainerResources *container, const char *resource,
		       const char **ids)
{
	size_t n = 0;

	for (size_t i = 0; i < container->n_devices; i++) {
		const V1__ContainerDevices *devices = container->devices[i];

		if (strcmp(devices->resource_name, resource) != 0)
			continue;
		for (size_t k = 0; k < devices->n_device_ids; k++)
			ids[n++] = devices->device_ids[k];
	}
	return n;
}

int tr_pod_list_make(const ProtobufCMessage *response, const char *resource,
		     struct tr_pod_list *out)
{
	const V1__ListPodResourcesResponse *from = (const void *)response;
	size_t rows, ids;
	const char **id;
	uint64_t *hashes;

	count_all(from, resource, &rows, &ids);
	*out = (struct tr_pod_list){ .rows = calloc(rows + 1, sizeof(*out->rows)),
				     .ids = calloc(ids + 1, sizeof(*out->ids)),
				     .hashes = calloc(ids + 1, sizeof(*out->hashes)) };
	if (!out->rows || !out->ids || !out->hashes) {
		tr_pod_list_free(out);
		return -ENOMEM;
	}
	id = out->ids;
	hashes = out->hashes;
	for (size_t p = 0; p < from->n_pod_resources; p++) {
		const V1__PodResources *pod = from->pod_resources[p];

		for (size_t c = 0; c < pod->n_containers; c++) {
			size_t n = copy_ids(pod->containers[c], resource, id);

			if (!n)
				continue;
			for (size_t i = 0; i < n; i++)
				hashes[i] = tr_id_hash(id[i]);
			out->rows[out->count++] =
				(struct tr_pod_row){ .namespace = pod->namespace_,
						     .pod = pod->name,
						     .container = pod->containers[c]->name,
						     .ids = id,
						     .hashes = hashes,
						     .count = n };
			id += n;
			hashes += n;
		}
	}
	return 0;
}

void tr_pod_list_free(struct tr_pod_list *list)
{
	free(list->rows);
	free((void *)(uintptr_t)list->ids);
	free(list->hashes);
	*list = (struct tr_pod_list){ 0 };
}
