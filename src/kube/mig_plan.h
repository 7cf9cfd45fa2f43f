/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_MIG_PLAN_H
#define TR_KUBE_MIG_PLAN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "kube/node_devices.h"
#include "tranche/err.h"

/*
 * Which MIG instances a pod is given (TR_POD_MIG): a JSON array. The scheduler says which GPU, profile
 * and place; the agent adds the instance it made, all three fields of it or none.
 */
struct tr_mig_part {
	uint32_t container, device; /* absolute index of the container; its device */
	const char *gpu, *profile;
	struct tr_mig_place place;
	bool is_made;
	const char *mig_id; /* "MIG-..." when it is made, else "" */
	uint32_t gpu_instance, compute_instance;
};

struct tr_mig_plan {
	struct tr_mig_part *at;
	size_t count;
	json_t *json; /* private */
};

/* -EBADMSG with the place; also for a (container, device) twice. */
int tr_mig_plan_parse(struct tr_mig_plan *out, const char *text, struct tr_err *err);
/* -EINVAL for a text that is not UTF-8. */
int tr_mig_plan_print(const struct tr_mig_part *at, size_t count, struct tr_buf *out);
void tr_mig_plan_free(struct tr_mig_plan *p);

#endif /* TR_KUBE_MIG_PLAN_H */
