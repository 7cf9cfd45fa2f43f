/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int by_id(const void *a, const void *b)
{
	const struct tr_plugin_device *left = a, *right = b;

	return strcmp(left->id, right->id);
}

static int id_against(const void *id, const void *device)
{
	return strcmp(id, ((const struct tr_plugin_device *)device)->id);
}

static bool is_same(const struct tr_plugin_device *a, const struct tr_plugin_device *b)
{
	return strcmp(a->id, b->id) == 0 && a->is_healthy == b->is_healthy &&
	       a->numa_node == b->numa_node;
}

static bool are_same(const struct tr_device_set *set, const struct tr_plugin_device *sorted,
		     size_t count)
{
	if (set->count != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (!is_same(&set->devices[i], &sorted[i]))
			return false;
	return true;
}

static int check_sorted(const struct tr_plugin_device *sorted, size_t count,
			struct tr_err *err)
{
	for (size_t i = 0; i < count; i++) {
		if (!sorted[i].id[0] || !memchr(sorted[i].id, '\0', TR_DEVICE_ID))
			return tr_fail(err, EINVAL, "a device's id has 1 to %d bytes",
				       TR_DEVICE_ID - 1);
		if (i && strcmp(sorted[i - 1].id, sorted[i].id) == 0)
			return tr_fail(err, EINVAL, "device id %s twice", sorted[i].id);
	}
	return 0;
}

int tr_device_set_fill(struct tr_device_set *set, const struct tr_plugin_device *devices,
		       size_t count, struct tr_err *err)
{
	struct tr_device_set young = { .count = count };
	int r;

	if (count > TR_DEVICES_MOST)
		return tr_fail(err, E2BIG, "%zu devices, at most %d", count,
			       TR_DEVICES_MOST);
	young.devices = calloc(count + 1, sizeof(*young.devices));
	young.seen = calloc(count + 1, sizeof(*young.seen));
	if (!young.devices || !young.seen) {
		tr_device_set_free(&young);
		return tr_fail(err, ENOMEM, "no memory for %zu devices", count);
	}
	if (count)
		memcpy(young.devices, devices, count * sizeof(*devices));
	qsort(young.devices, count, sizeof(*young.devices), by_id);
	r = check_sorted(young.devices, count, err);
	if (r < 0 || are_same(set, young.devices, count)) {
		tr_device_set_free(&young);
		return r;
	}
	tr_device_set_free(set);
	*set = young;
	return 1;
}

void tr_device_set_free(struct tr_device_set *set)
{
	free(set->devices);
	free(set->seen);
	*set = (struct tr_device_set){ 0 };
}

void tr_device_look_begin(struct tr_device_set *set)
{
	set->look++;
}

int tr_device_look_at(struct tr_device_set *set, const char *const *ids, size_t count,
		      struct tr_err *err)
{
	for (size_t i = 0; i < count; i++) {
		const struct tr_plugin_device *found =
			set->count ? bsearch(ids[i], set->devices, set->count,
					     sizeof(*set->devices), id_against)
				   : NULL;
		size_t at = found ? (size_t)(found - set->devices) : 0;

		if (!found)
			return tr_fail(err, EINVAL,
				       "device id \"%.*s\" is not offered here",
				       TR_DEVICE_ID, ids[i]);
		if (set->seen[at] == set->look)
			return tr_fail(err, EINVAL, "device id %s twice", found->id);
		set->seen[at] = set->look;
	}
	return 0;
}
