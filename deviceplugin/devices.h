/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_DEVICEPLUGIN_DEVICES_H
#define TR_DEVICEPLUGIN_DEVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tranche/err.h"

/* What is offered to the kubelet, and ids that come back from it. Pure; not thread safe. */

#define TR_DEVICE_ID    64    /* with the NUL: the protocol allows 63 bytes */
#define TR_DEVICES_MOST 16384 /* one message of them has some 1 MiB */

struct tr_plugin_device {
	char id[TR_DEVICE_ID];
	bool is_healthy;
	int numa_node; /* -1: none is told */
};

struct tr_device_set {
	struct tr_plugin_device *devices; /* sorted by id */
	uint32_t *seen;                   /* the last look that met each */
	size_t count;
	uint32_t look;
};

/* Copies. 1: they differ from before, 0: the same. -EINVAL: an id empty or twice; -E2BIG; -ENOMEM.
 * On an error the set is as before. */
int tr_device_set_fill(struct tr_device_set *set, const struct tr_plugin_device *devices,
		       size_t count, struct tr_err *err);
void tr_device_set_free(struct tr_device_set *set);

/* One look at ids of a request: begin, then every id once. -EINVAL: never offered, or twice since the
 * look began. */
void tr_device_look_begin(struct tr_device_set *set);
int tr_device_look_at(struct tr_device_set *set, const char *const *ids, size_t count,
		      struct tr_err *err);

#endif /* TR_DEVICEPLUGIN_DEVICES_H */
