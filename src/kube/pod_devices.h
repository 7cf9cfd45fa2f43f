/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_POD_DEVICES_H
#define TR_KUBE_POD_DEVICES_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "tranche/err.h"

/*
 * The scheduler's decision on a pod (TR_POD_ALLOCATED, TR_POD_TO_ALLOCATE): which devices each of its
 * containers gets, how much memory and time of each.
 *
 *   pod = *container      init containers in order, then app containers: the absolute index
 *   container = *device ";"
 *   device = ID "," VENDOR "," MIB "," PERCENT ":"
 *
 * Read strictly: IDs and vendors are printable and without separators, numbers decimal and within 31
 * bits; what follows a fourth field is ignored, as HAMi does. Empty containers at the end of the text
 * count like absent ones: HAMi's plugin adds one with each rewrite.
 *
 * Plain data, pure functions.
 */
#define TR_DEVICE_ID_MAX         95u
#define TR_VENDOR_MAX            31u
#define TR_POD_CONTAINERS_MAX    1024u
#define TR_CONTAINER_DEVICES_MAX 64u

struct tr_device_part {
	const char *id, *vendor;
	uint32_t mem_mib, cores; /* both below 2^31; cores in percent, 0: no limit */
};

struct tr_container_parts {
	uint32_t first, count; /* of `parts` */
};

struct tr_pod_devices {
	struct tr_device_part *parts;
	struct tr_container_parts *containers;
	uint32_t part_count, container_count; /* the last container, if any, has a device */
	char *text;
};

/* -EBADMSG with the place. */
int tr_pod_devices_parse(struct tr_pod_devices *out, const char *text, struct tr_err *err);
void tr_pod_devices_free(struct tr_pod_devices *d);

/* Adds the annotation's text to OUT, with a ";" for each of CONTAINERS, or of the decision's own when
 * those are more: placeholders hold the places of containers that have none. */
void tr_pod_devices_print(const struct tr_pod_devices *d, size_t containers,
			  struct tr_buf *out);

/* The parts of the container at the absolute INDEX, *COUNT of them (0: it has none). */
const struct tr_device_part *tr_pod_devices_of(const struct tr_pod_devices *d, size_t index,
					       size_t *count);

/* Takes the devices of container INDEX away, as HAMi's plugin does when it has allocated them. */
void tr_pod_devices_clear(struct tr_pod_devices *d, size_t index);
/* The first container that still has devices, or -ENOENT. */
int tr_pod_devices_first(const struct tr_pod_devices *d, size_t *index);

/*
 * HAMi 2.10 leaves placeholders out, so that a container's devices stand at a smaller index. WANTED
 * says how many devices each of N containers asks for. Where the decision's containers have just these
 * counts at their own places nothing changes; where they have them in that order but earlier they are
 * moved to their places; else -EBADMSG.
 */
int tr_pod_devices_align(struct tr_pod_devices *d, const uint32_t *wanted, size_t n,
			 struct tr_err *err);

/*
 * What a running pod has been granted instead of its decision (TR_POD_GRANTED):
 *
 *   "v1 UID SERIAL DECISION"
 *
 * UID is the pod's, so that a grant that was copied to another pod grants nothing; SERIAL grows with
 * each grant, so that an old one is known as such. -EPROTONOSUPPORT for another version.
 */
struct tr_grant {
	char uid[64];
	uint64_t serial;
	struct tr_pod_devices devices;
};

int tr_grant_parse(struct tr_grant *out, const char *text, struct tr_err *err);
void tr_grant_print(const struct tr_grant *g, size_t containers, struct tr_buf *out);
void tr_grant_free(struct tr_grant *g);

#endif /* TR_KUBE_POD_DEVICES_H */
