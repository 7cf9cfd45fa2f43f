/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/mig_plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kube/fields.h"
#include "kube/pod_devices.h"

#define PARTS_MAX   4096u
#define PROFILE_MAX 63u
#define INT31       INT64_C(0x7fffffff)

static int read_part(const json_t *json, const char *what, struct tr_mig_part *out,
		     struct tr_err *err)
{
	struct tr_fields f = { .object = json, .what = what, .err = err };
	struct tr_fields place = { .what = what, .err = err };
	struct tr_mig_part p = { 0 };
	int given;

	p.container = (uint32_t)tr_field_number(&f, "containerIndex", 0, INT31);
	p.device = (uint32_t)tr_field_number(&f, "deviceIndex", 0, INT31);
	p.gpu = tr_field_text(&f, "gpuUUID", TR_DEVICE_ID_MAX, true);
	p.profile = tr_field_text(&f, "profile", PROFILE_MAX, true);
	place.object = tr_field_object(&f, "placement");
	given = tr_field_is_given(&f, "migUUID") + tr_field_is_given(&f, "gpuInstanceID") +
		tr_field_is_given(&f, "computeInstanceID");
	p.is_made = given == 3;
	p.mig_id = tr_field_text(&f, "migUUID", TR_DEVICE_ID_MAX, p.is_made);
	p.gpu_instance = (uint32_t)tr_field_number(&f, "gpuInstanceID", 0, INT31);
	p.compute_instance = (uint32_t)tr_field_number(&f, "computeInstanceID", 0, INT31);
	if (f.r < 0)
		return f.r;
	if (given != 0 && given != 3)
		return tr_fail(err, EBADMSG, "%s: only a part of an instance is given",
			       what);
	p.place.start = (uint32_t)tr_field_number(&place, "start", 0, INT31);
	p.place.size = (uint32_t)tr_field_number(&place, "size", 1, INT31);
	if (place.r == 0 && !p.place.size)
		return tr_fail(err, EBADMSG, "%s: a placement without a size", what);
	*out = p;
	return place.r;
}

static int check_twice(const struct tr_mig_plan *plan, struct tr_err *err)
{
	for (size_t i = 0; i < plan->count; i++)
		for (size_t j = 0; j < i; j++)
			if (plan->at[i].container == plan->at[j].container &&
			    plan->at[i].device == plan->at[j].device)
				return tr_fail(err, EBADMSG,
					       "device %u of container %u is planned twice",
					       plan->at[i].device, plan->at[i].container);
	return 0;
}

int tr_mig_plan_parse(struct tr_mig_plan *out, const char *text, struct tr_err *err)
{
	struct tr_mig_plan plan = { 0 };
	int r = tr_json_parse(text, &plan.json, err);

	if (r == 0 && (!json_is_array(plan.json) || json_array_size(plan.json) > PARTS_MAX))
		r = tr_fail(err, EBADMSG, "not an array of at most %u instances",
			    PARTS_MAX);
	if (r == 0) {
		plan.count = json_array_size(plan.json);
		plan.at = tr_xcalloc(plan.count, sizeof(*plan.at));
	}
	for (size_t i = 0; r == 0 && i < plan.count; i++) {
		char what[32];

		(void)snprintf(what, sizeof(what), "instance %zu", i);
		r = read_part(json_array_get(plan.json, i), what, &plan.at[i], err);
	}
	if (r == 0)
		r = check_twice(&plan, err);
	if (r < 0)
		tr_mig_plan_free(&plan);
	else
		*out = plan;
	return r;
}

static json_t *part_json(const struct tr_mig_part *p)
{
	json_t *json =
		json_pack("{s:I,s:I,s:s,s:s,s:{s:I,s:I}}", "containerIndex",
			  (json_int_t)p->container, "deviceIndex", (json_int_t)p->device,
			  "gpuUUID", p->gpu, "profile", p->profile, "placement", "start",
			  (json_int_t)p->place.start, "size", (json_int_t)p->place.size);
	json_t *made;

	if (!json || !p->is_made)
		return json;
	made = json_pack("{s:s,s:I,s:I}", "migUUID", p->mig_id, "gpuInstanceID",
			 (json_int_t)p->gpu_instance, "computeInstanceID",
			 (json_int_t)p->compute_instance);
	if (!made || json_object_update_new(json, made) < 0) {
		json_decref(json);
		return NULL;
	}
	return json;
}

int tr_mig_plan_print(const struct tr_mig_part *at, size_t count, struct tr_buf *out)
{
	json_t *json = json_array();
	bool is_good = true;

	for (size_t i = 0; i < count; i++)
		is_good &= json_array_append_new(json, part_json(&at[i])) == 0;
	if (is_good)
		return tr_json_print(json, out);
	json_decref(json);
	return -EINVAL;
}

void tr_mig_plan_free(struct tr_mig_plan *p)
{
	free(p->at);
	json_decref(p->json);
	*p = (struct tr_mig_plan){ 0 };
}
