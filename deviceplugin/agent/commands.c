/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "deviceplugin/agent/agent.h"
#include "deviceplugin/arm/identify.h"
#include "deviceplugin/report/slices_json.h"
#include "kube/fields.h"
#include "rt/bytes.h"
#include "rt/file.h"

/* What `tranche node` asks for. */

/* ---- status ---- */

static json_t *lines(const struct tr_buf *text)
{
	json_t *out = json_array();
	const char *at = text->p ? text->p : "";

	while (*at) {
		size_t n = strcspn(at, "\n");

		json_array_append_new(out, json_stringn(at, n));
		at += n + (at[n] ? 1 : 0);
	}
	return out;
}

static json_t *card_row(const struct tr_agent *a, const struct tr_card *card)
{
	struct tr_room taken;

	tr_room_taken(tr_arm_book(a->arm), card->uuid, &taken);
	return json_pack(
		"{s:s, s:s, s:i, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:i}", "uuid",
		card->uuid, "type", card->type, "index", (int)card->index, "healthy",
		card->is_healthy, "reason", card->reason, "total_bytes",
		(json_int_t)card->total_bytes, "give_bytes", (json_int_t)card->give_bytes,
		"given_bytes", (json_int_t)taken.bytes, "give_cores",
		(json_int_t)card->give_cores, "given_cores", (json_int_t)taken.cores,
		"containers", (json_int_t)taken.containers, "split", (int)card->split);
}

static json_t *api_row(const struct tr_agent *a)
{
	struct tr_watch_state state = { 0 };
	struct tr_register_state node = { 0 };

	if (a->watch)
		state = tr_watch_state(a->watch);
	if (a->reg)
		node = tr_register_state(a->reg);
	return json_pack("{s:b, s:b, s:b, s:s}", "synced", state.is_synced, "watching",
			 state.is_watching, "node_registered", node.is_registered, "reason",
			 !a->watch           ? a->kube_says
			 : state.is_watching ? ""
					     : a->watch_says);
}

static int status(struct tr_agent *a, json_t *reply)
{
	static const char *const states[] = {
		[TR_KUBELET_ABSENT] = "absent",
		[TR_KUBELET_REGISTERED] = "registered",
		[TR_KUBELET_REFUSED] = "refused",
		[TR_KUBELET_NO_SOCKET] = "no socket",
	};
	const struct tr_cards *cards = tr_nvml_cards(a->nvml);
	tr_auto_buf struct tr_buf reasons = { 0 };
	json_t *rows = json_array();
	uint64_t now_ns = tr_clock_ns();
	const char *state = !a->kubelet ? "not yet" : states[a->kubelet_state];

	if (a->kubelet_state == TR_KUBELET_REGISTERED && !tr_agent_is_listened_to(a))
		state = "not listening";
	tr_agent_unready(a, &reasons);
	for (unsigned i = 0; i < cards->count; i++)
		json_array_append_new(rows, card_row(a, &cards->at[i]));
	return json_object_update_new(
		reply,
		json_pack(
			"{s:s, s:s, s:i, s:I, s:b, s:o, s:b, s:s, s:s, s:{s:s, s:s, s:I, "
			"s:I}, "
			"s:o, s:{s:s, s:s}, s:I, s:I, s:o}",
			"node", a->config.node_name, "version", TR_VERSION, "pid",
			(int)getpid(), "uptime_s",
			(json_int_t)((now_ns - a->started_ns) / 1000000000), "ready",
			reasons.n == 0, "reasons", lines(&reasons), "draining",
			a->is_draining, "driver", a->has_driver ? a->driver.version : "",
			"library", *a->library_trouble ? "" : a->installed.hook, "kubelet",
			"state", state, "reason", a->kubelet_says, "registrations",
			(json_int_t)a->registrations, "first_after_ms",
			(json_int_t)(a->registered_ns
					     ? (a->registered_ns - a->started_ns) / 1000000
					     : 0),
			"api", api_row(a), "metrics", "address", a->config.metrics_address,
			"reason", a->report_says, "slices",
			(json_int_t)tr_arm_book(a->arm)->count, "nvml_silent_ms",
			(json_int_t)tr_nvml_age_ms(a->nvml), "cards", rows));
}

static int slices(struct tr_agent *a, json_t *reply, struct tr_err *err)
{
	tr_auto_buf struct tr_buf text = { 0 };
	json_t *all;

	tr_slices_json(tr_agent_view(a), &text);
	all = json_loadb(text.p ? text.p : "", text.n, 0, NULL);
	if (!all)
		return tr_fail(err, EIO, "the slices could not be written down");
	return json_object_update_new(reply, all);
}

/* ---- set ---- */

/* By its own name, or by "NAMESPACE/POD/CONTAINER"; without the last when it has one. */
static bool is_named(const struct tr_alloc *alloc, const char *name)
{
	tr_autofree char *pod = tr_xprintf("%s/%s", alloc->space, alloc->pod);
	tr_autofree char *full = tr_xprintf("%s/%s", pod, alloc->container);

	return alloc->state == TR_ALLOC_ARMED &&
	       (strcmp(name, alloc->name) == 0 || strcmp(name, pod) == 0 ||
		strcmp(name, full) == 0);
}

/* The latest of that name counts: of a pod that was made anew, and of a container that was allocated anew. */
static int find_alloc(struct tr_agent *a, const char *name, struct tr_alloc **out,
		      struct tr_err *err)
{
	const struct tr_book *book = tr_arm_book(a->arm);
	struct tr_alloc *alloc = NULL;

	*out = NULL;
	while ((alloc = tr_book_next(book, alloc)))
		if (is_named(alloc, name))
			*out = alloc;
	if (!*out)
		return tr_fail(err, ENOENT,
			       "no container of this node has the slice \"%.200s\"", name);
	while ((alloc = tr_book_next(book, alloc)))
		if (strcmp(alloc->uid, (*out)->uid) == 0 && is_named(alloc, name) &&
		    strcmp(alloc->container, (*out)->container) != 0)
			return tr_fail(err, EINVAL,
				       "\"%.200s\" has several containers: name one as "
				       "NAMESPACE/POD/CONTAINER",
				       name);
	return 0;
}

struct change {
	const char *memory, *device; /* NULL: as it is; all */
	int64_t cores, cores_max;    /* -1: as it is */
};

static int read_change(const json_t *request, struct change *out, struct tr_err *err)
{
	struct tr_fields f = { request, "set", err, 0 };

	*out = (struct change){ .cores = -1, .cores_max = -1 };
	if (tr_field_is_given(&f, "memory"))
		out->memory = tr_field_text(&f, "memory", 32, true);
	if (tr_field_is_given(&f, "device"))
		out->device = tr_field_text(&f, "device", 64, true);
	if (tr_field_is_given(&f, "cores"))
		out->cores = tr_field_number(&f, "cores", 0, 100);
	if (tr_field_is_given(&f, "cores_max"))
		out->cores_max = tr_field_number(&f, "cores_max", 0, 100);
	if (f.r < 0)
		return f.r;
	if (!out->memory && out->cores < 0 && out->cores_max < 0)
		return tr_fail(err, EINVAL, "set: nothing to change");
	return 0;
}

/* "4Gi", or "25%" of what the card gives. */
static int read_size(struct tr_agent *a, const char *text, const char *uuid, uint64_t *out,
		     struct tr_err *err)
{
	const struct tr_card *card = tr_card_find(tr_nvml_cards(a->nvml), uuid);
	tr_autofree char *number = tr_xstrdup(text);
	char *percent = strchr(number, '%');
	uint64_t amount = 0;

	if (percent && !percent[1])
		*percent = '\0';
	if (tr_bytes_parse(number, &amount) < 0 || (percent && amount > 100))
		return tr_fail(err, EINVAL, "\"%.32s\" is neither a size nor a percentage",
			       text);
	if (percent && !card)
		return tr_fail(err, ENODEV, "%s is not on this node", uuid);
	*out = percent ? (uint64_t)((unsigned __int128)card->give_bytes * amount / 100)
		       : amount;
	return *out ? 0 : tr_fail(err, EINVAL, "a slice has at least one byte");
}

static unsigned whole_if_0(uint32_t cores)
{
	return cores ? cores : 100; /* no limit */
}

static int change_part(struct tr_agent *a, const struct change *change,
		       struct tr_alloc_part *part, struct tr_err *err)
{
	int r = 0;

	if (change->memory)
		r = read_size(a, change->memory, part->uuid, &part->limit_bytes, err);
	if (change->cores >= 0)
		part->cores = (uint32_t)change->cores;
	if (change->cores_max >= 0)
		part->cores_max = (uint32_t)change->cores_max;
	else if (part->cores_max && part->cores_max < part->cores)
		part->cores_max = part->cores;
	if (r == 0 && change->cores_max > 0 && part->cores_max < whole_if_0(part->cores))
		r = tr_fail(err, EINVAL,
			    "cores_max %u is below cores %u, which it gets in any case",
			    part->cores_max, whole_if_0(part->cores));
	return r;
}

static json_t *part_row(const struct tr_alloc_part *part)
{
	return json_pack("{s:s, s:I, s:i, s:i}", "device", part->uuid, "limit_bytes",
			 (json_int_t)part->limit_bytes, "cores", (int)part->cores,
			 "cores_max", (int)part->cores_max);
}

static int resize(struct tr_agent *a, const struct change *change, struct tr_alloc *alloc,
		  json_t *reply, struct tr_err *err)
{
	tr_autofree struct tr_alloc_part *parts = tr_xcalloc(alloc->part_count + 1,
							     sizeof(*parts));
	json_t *before = json_array(), *after = json_array();
	size_t changed = 0;
	int r = 0;

	json_object_set_new(reply, "before", before);
	json_object_set_new(reply, "after", after);
	json_object_set_new(reply, "slice", json_string(alloc->name));
	for (size_t i = 0; r == 0 && i < alloc->part_count; i++) {
		parts[i] = alloc->parts[i];
		if (change->device && strcmp(change->device, parts[i].uuid) != 0)
			continue;
		r = change_part(a, change, &parts[i], err);
		changed++;
		json_array_append_new(before, part_row(&alloc->parts[i]));
		json_array_append_new(after, part_row(&parts[i]));
	}
	if (r < 0)
		return r;
	if (!changed)
		return tr_fail(err, EINVAL, "the slice has no device %.64s",
			       change->device);
	return tr_arm_resize(a->arm, alloc, parts, alloc->part_count, 0, err);
}

static int set(struct tr_agent *a, const json_t *request, json_t *reply, struct tr_err *err)
{
	const char *name = json_string_value(json_object_get(request, "slice"));
	struct tr_alloc *alloc = NULL;
	struct change change;
	int r;

	if (!name)
		return tr_fail(err, EINVAL, "set: which slice?");
	r = read_change(request, &change, err);
	if (r == 0)
		r = find_alloc(a, name, &alloc, err);
	return r < 0 || !alloc ? r : resize(a, &change, alloc, reply, err);
}

static int drain(struct tr_agent *a, const json_t *request, json_t *reply,
		 struct tr_err *err)
{
	bool is_off = json_is_true(json_object_get(request, "off"));
	int r = tr_agent_drain(a, !is_off, err);

	json_object_set_new(reply, "draining", json_boolean(a->is_draining));
	json_object_set_new(reply, "slices",
			    json_integer((json_int_t)tr_arm_book(a->arm)->count));
	return r;
}

int tr_agent_command(const char *what, const json_t *request, json_t *reply, void *arg,
		     struct tr_err *err)
{
	struct tr_agent *a = arg;

	if (strcmp(what, "status") == 0)
		return status(a, reply);
	if (strcmp(what, "slices") == 0)
		return slices(a, reply, err);
	if (strcmp(what, "set") == 0)
		return set(a, request, reply, err);
	if (strcmp(what, "drain") == 0)
		return drain(a, request, reply, err);
	return tr_fail(err, EINVAL, "\"%.64s\" is not known to this agent (%s)", what,
		       TR_VERSION);
}
