/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/object.h"

#include <errno.h>
#include <stdalign.h>
#include <string.h>

#include "base/mem.h"
#include "kube/quantity.h"
#include "tranche/limits.h"

#define CONTAINERS_MAX 1024u
#define NAME_MAX       253u /* of anything of Kubernetes' */

/*
 * A block is made by running the same code twice: first without memory, to learn how much it takes,
 * then with it. `at` grows alike in both.
 */
struct block {
	char *base; /* NULL the first time */
	size_t at;
	const struct tr_keep *keep;
	struct tr_err *err;
};

static void *take(struct block *b, size_t bytes, size_t align)
{
	size_t at = (b->at + align - 1) & ~(align - 1);

	b->at = at + bytes;
	return b->base ? b->base + at : NULL;
}

#define TAKE(block, type, count) \
	((type *)take(block, (count) * sizeof(type), alignof(type)))

/* Of VALUE when it is a text, else "". */
static const char *put_text(struct block *b, const json_t *value)
{
	size_t n = json_string_length(value);
	char *to;

	if (!n)
		return "";
	to = take(b, n + 1, 1);
	if (to) /* jansson refuses a NUL inside, unless asked not to */
		memcpy(to, json_string_value(value), n + 1);
	return to;
}

/* A name that the API server takes at any length: none of that length is one. */
static const char *put_short(struct block *b, const json_t *value)
{
	return json_string_length(value) <= NAME_MAX ? put_text(b, value) : "";
}

static const char *put_name(struct block *b, const char *name)
{
	size_t n = strlen(name) + 1;
	char *to = take(b, n, 1);

	if (to)
		memcpy(to, name, n);
	return to;
}

static bool is_wanted(const char *const *list, const char *name)
{
	for (; list && *list; list++) {
		size_t n = strlen(*list);

		if (strcmp(*list, name) == 0 ||
		    (n && (*list)[n - 1] == '*' && strncmp(*list, name, n - 1) == 0))
			return true;
	}
	return false;
}

static json_t *member(const json_t *object, const char *key)
{
	return json_object_get(object, key);
}

/* MOST 0: of any length. */
static bool is_kept(const json_t *value, size_t most)
{
	return json_is_string(value) && (!most || json_string_length(value) <= most);
}

static struct tr_named_list put_named(struct block *b, const json_t *map,
				      const char *const *wanted, size_t most)
{
	json_t *all = (json_t *)(uintptr_t)map;
	struct tr_named_list list = { 0 };
	struct tr_named *rows;
	const char *name;
	json_t *value;
	size_t n = 0;

	json_object_foreach (all, name, value)
		n += is_kept(value, most) && is_wanted(wanted, name);
	if (!n)
		return list;
	rows = TAKE(b, struct tr_named, n);
	json_object_foreach (all, name, value) {
		struct tr_named row;

		if (!is_kept(value, most) || !is_wanted(wanted, name))
			continue;
		row = (struct tr_named){ put_name(b, name), put_text(b, value) };
		if (rows)
			rows[list.count] = row;
		list.count++;
	}
	list.at = rows;
	return list;
}

static void put_too_long(struct block *b, const json_t *map, size_t most,
			 struct tr_object *o)
{
	const char *const *wanted = b->keep->annotations;
	json_t *all = (json_t *)(uintptr_t)map, *value;
	struct tr_too_long *rows;
	const char *name;
	size_t n = 0;

	json_object_foreach (all, name, value)
		n += json_is_string(value) && !is_kept(value, most) &&
		     is_wanted(wanted, name);
	if (!n)
		return;
	rows = TAKE(b, struct tr_too_long, n);
	json_object_foreach (all, name, value) {
		struct tr_too_long row = { NULL, json_string_length(value), most };

		if (!json_is_string(value) || is_kept(value, most) ||
		    !is_wanted(wanted, name))
			continue;
		row.name = put_name(b, name);
		if (rows)
			rows[o->too_long_count++] = row;
	}
	o->too_long = rows;
}

static struct tr_amount read_amount(const json_t *value)
{
	struct tr_amount a = { 0 };
	int r = -EINVAL;

	/* The server writes quantities as text, and reads numbers too. */
	if (json_is_string(value))
		r = tr_quantity_parse(json_string_value(value), &a.value);
	if (json_is_integer(value)) {
		r = 0;
		a.value = json_integer_value(value);
	}
	a.is_bad = r < 0 || a.value < 0;
	return a;
}

static struct tr_amount put_amount(struct block *b, const char *name, const json_t *value)
{
	struct tr_amount a = read_amount(value);

	a.name = put_name(b, name);
	return a;
}

static struct tr_amount_list put_amounts(struct block *b, const json_t *map)
{
	json_t *all = (json_t *)(uintptr_t)map;
	struct tr_amount_list list = { 0 };
	struct tr_amount *rows;
	const char *name;
	json_t *value;
	size_t n = 0;

	json_object_foreach (all, name, value)
		n += is_wanted(b->keep->resources, name);
	if (!n)
		return list;
	rows = TAKE(b, struct tr_amount, n);
	json_object_foreach (all, name, value) {
		struct tr_amount row;

		if (!is_wanted(b->keep->resources, name))
			continue;
		row = put_amount(b, name, value);
		if (rows)
			rows[list.count] = row;
		list.count++;
	}
	list.at = rows;
	return list;
}

static struct tr_named_list put_env(struct block *b, const json_t *vars)
{
	json_t *all = (json_t *)(uintptr_t)vars, *var;
	struct tr_named_list list = { 0 };
	struct tr_named *rows = NULL;
	size_t i, n = 0;

	json_array_foreach (all, i, var) {
		const char *name = json_string_value(member(var, "name"));

		n += name && is_wanted(b->keep->env, name);
	}
	if (!n)
		return list;
	rows = TAKE(b, struct tr_named, n);
	json_array_foreach (all, i, var) {
		const char *name = json_string_value(member(var, "name"));
		struct tr_named row;

		if (!name || !is_wanted(b->keep->env, name))
			continue;
		row = (struct tr_named){ put_name(b, name),
					 put_text(b, member(var, "value")) };
		if (rows)
			rows[list.count] = row;
		list.count++;
	}
	list.at = rows;
	return list;
}

static int put_object(struct block *b, const json_t *json, struct tr_object *o,
		      bool is_namespaced)
{
	const json_t *meta = member(json, "metadata");

	if (!json_string_length(member(meta, "name")) ||
	    !json_string_length(member(meta, "uid")) ||
	    (is_namespaced && !json_string_length(member(meta, "namespace"))))
		return tr_fail(b->err, EBADMSG,
			       "an object without metadata.name, uid or namespace");
	o->space = is_namespaced ? put_text(b, member(meta, "namespace")) : "";
	o->name = put_text(b, member(meta, "name"));
	o->uid = put_text(b, member(meta, "uid"));
	o->version = put_text(b, member(meta, "resourceVersion"));
	o->labels = put_named(b, member(meta, "labels"), b->keep->labels, 0);
	return 0;
}

/* How many of KEEP's resource all containers ask for, each at most what one can have. */
static size_t count_asked(const json_t *containers, const struct tr_keep *keep)
{
	size_t all = 0;

	for (size_t i = 0; i < json_array_size(containers); i++) {
		const json_t *one = json_array_get(containers, i);
		const json_t *limits = member(member(one, "resources"), "limits");
		struct tr_amount amount = read_amount(member(limits, keep->asks_for));

		if (!amount.is_bad)
			all += amount.value < TR_DEVICES_MAX ? (size_t)amount.value
							     : TR_DEVICES_MAX;
	}
	return all;
}

/* No decision on so many devices and containers is longer. */
static size_t decision_max(size_t devices, size_t containers)
{
	return 256 + 128 * devices + 16 * containers;
}

static bool has_ended(const struct tr_pod *pod)
{
	return pod->phase == TR_POD_SUCCEEDED || pod->phase == TR_POD_FAILED;
}

static void put_pod_annotations(struct block *b, const json_t *json, struct tr_pod *pod,
				size_t containers)
{
	const json_t *all = member(member(json, "metadata"), "annotations");
	const struct tr_keep *keep = b->keep;
	size_t most = has_ended(pod) ? keep->ended_annotation_max : keep->annotation_max;

	if (keep->asks_for && most > decision_max(pod->asked, containers))
		most = decision_max(pod->asked, containers);
	pod->object.annotations = put_named(b, all, keep->annotations, most);
	put_too_long(b, all, most, &pod->object);
}

static struct tr_pod_container put_container(struct block *b, const json_t *json,
					     bool is_init)
{
	const char *restart = json_string_value(member(json, "restartPolicy"));
	const json_t *resources = member(json, "resources");
	const json_t *limits = member(resources, "limits");
	struct tr_pod_container c = { .kind = TR_CONTAINER_APP };

	if (is_init)
		c.kind = restart && strcmp(restart, "Always") == 0 ? TR_CONTAINER_SIDECAR
								   : TR_CONTAINER_INIT;
	c.name = put_text(b, member(json, "name"));
	c.limits = put_amounts(b, limits);
	c.env = put_env(b, member(json, "env"));
	return c;
}

static int put_containers(struct block *b, const json_t *const lists[2], struct tr_pod *pod)
{
	struct tr_pod_container *rows;
	size_t n = 0;

	pod->init_count = json_array_size(lists[0]);
	pod->container_count = pod->init_count + json_array_size(lists[1]);
	rows = TAKE(b, struct tr_pod_container, pod->container_count);
	pod->containers = rows;
	for (int l = 0; l < 2; l++)
		for (size_t i = 0; i < json_array_size(lists[l]); i++, n++) {
			const json_t *json = json_array_get(lists[l], i);
			struct tr_pod_container row;

			if (!json_string_length(member(json, "name")))
				return tr_fail(b->err, EBADMSG,
					       "a container without a name");
			row = put_container(b, json, l == 0);
			if (rows)
				rows[n] = row;
		}
	return 0;
}

/* What only those are asked about that have, or may get, what we give. */
static int put_rest(struct block *b, const json_t *json, struct tr_pod *pod)
{
	const json_t *spec = member(json, "spec");
	const json_t *const lists[] = { member(spec, "initContainers"),
					member(spec, "containers") };
	size_t n = json_array_size(lists[0]) + json_array_size(lists[1]);
	const struct tr_keep *keep = b->keep;
	size_t most = keep->containers_max ? keep->containers_max : CONTAINERS_MAX;

	if (keep->asks_for) {
		pod->asked = count_asked(lists[0], keep) + count_asked(lists[1], keep);
		if (!pod->asked)
			return 0;
	}
	if (n > most) {
		pod->unread_count = n;
		return 0;
	}
	put_pod_annotations(b, json, pod, n);
	return keep->asks_for && has_ended(pod) ? 0 : put_containers(b, lists, pod);
}

static enum tr_pod_phase phase_of(const json_t *status)
{
	static const char *const phases[] = { "Pending", "Running", "Succeeded", "Failed" };
	const char *phase = json_string_value(member(status, "phase"));

	for (unsigned i = 0; phase && i < sizeof(phases) / sizeof(*phases); i++)
		if (strcmp(phase, phases[i]) == 0)
			return (enum tr_pod_phase)i;
	return phase ? TR_POD_UNKNOWN : TR_POD_PENDING;
}

static int put_pod(struct block *b, const json_t *json)
{
	struct tr_pod unplaced = { 0 }, *pod = TAKE(b, struct tr_pod, 1);
	const json_t *meta = member(json, "metadata"), *spec = member(json, "spec");
	const json_t *deletion = member(meta, "deletionTimestamp");
	int r;

	pod = pod ? pod : &unplaced;
	r = put_object(b, json, &pod->object, true);
	if (r < 0)
		return r;
	pod->node = put_text(b, member(spec, "nodeName"));
	pod->scheduler = put_short(b, member(spec, "schedulerName"));
	pod->phase = phase_of(member(json, "status"));
	pod->is_deleting = deletion && !json_is_null(deletion);
	return put_rest(b, json, pod);
}

static bool is_ready(const json_t *status)
{
	const json_t *conditions = member(status, "conditions");

	for (size_t i = 0; i < json_array_size(conditions); i++) {
		const json_t *c = json_array_get(conditions, i);
		const char *type = json_string_value(member(c, "type"));
		const char *value = json_string_value(member(c, "status"));

		if (type && value && strcmp(type, "Ready") == 0)
			return strcmp(value, "True") == 0;
	}
	return false;
}

static int put_node(struct block *b, const json_t *json)
{
	struct tr_node unplaced = { 0 }, *node = TAKE(b, struct tr_node, 1);
	const json_t *meta = member(json, "metadata");
	int r;

	node = node ? node : &unplaced;
	r = put_object(b, json, &node->object, false);
	node->object.annotations = put_named(b, member(meta, "annotations"),
					     b->keep->annotations, 0);
	node->allocatable = put_amounts(b, member(member(json, "status"), "allocatable"));
	node->is_ready = is_ready(member(json, "status"));
	node->is_unschedulable =
		json_is_true(member(member(json, "spec"), "unschedulable"));
	return r;
}

static int extract(int (*put)(struct block *, const json_t *), const json_t *json,
		   const struct tr_keep *keep, struct tr_object **out, struct tr_err *err)
{
	struct block b = { .keep = keep, .err = err };
	int r = put(&b, json);

	if (r < 0)
		return r;
	b.base = tr_xcalloc(1, b.at);
	b.at = 0;
	(void)put(&b, json);
	*out = (struct tr_object *)(void *)b.base;
	return 0;
}

int tr_pod_extract(const json_t *json, const struct tr_keep *keep, struct tr_object **out,
		   struct tr_err *err)
{
	return extract(put_pod, json, keep, out, err);
}

int tr_node_extract(const json_t *json, const struct tr_keep *keep, struct tr_object **out,
		    struct tr_err *err)
{
	return extract(put_node, json, keep, out, err);
}

int tr_pod_annotation(const struct tr_pod *pod, const char *name, const char **out,
		      struct tr_err *err)
{
	const struct tr_object *o = &pod->object;

	*out = tr_named_find(&o->annotations, name);
	for (size_t i = 0; !*out && i < o->too_long_count; i++)
		if (strcmp(o->too_long[i].name, name) == 0)
			return tr_fail(err, EFBIG,
				       "annotation %s of pod %s/%s has %zu bytes: more "
				       "than %zu are not read",
				       name, o->space, o->name, o->too_long[i].length,
				       o->too_long[i].most);
	return *out ? 0 : -ENOENT;
}

const char *tr_named_find(const struct tr_named_list *list, const char *name)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->at[i].name, name) == 0)
			return list->at[i].value;
	return NULL;
}

const struct tr_amount *tr_amount_find(const struct tr_amount_list *list, const char *name)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->at[i].name, name) == 0)
			return &list->at[i];
	return NULL;
}
