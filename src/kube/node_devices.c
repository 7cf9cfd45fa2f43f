/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/node_devices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kube/fields.h"
#include "kube/pod_devices.h"
#include "kube/words.h"
#include "tranche/names.h"

#define TYPE_MAX 127u
#define MODE_MAX 31u
#define INT31    INT64_C(0x7fffffff)
#define NUMA_MAX 4095

/* Profiles and places of all devices, counted first, then filled. */
struct shelf {
	struct tr_mig_profile *profiles;
	struct tr_mig_place *places;
	size_t profile_count, place_count;
};

static int read_place(const json_t *json, struct tr_mig_place *out, struct tr_err *err)
{
	struct tr_fields f = { .object = json, .what = "a placement", .err = err };

	out->start = (uint32_t)tr_field_number(&f, "start", 0, INT31);
	out->size = (uint32_t)tr_field_number(&f, "size", 1, INT31);
	if (f.r == 0 && !out->size)
		f.r = tr_fail(err, EBADMSG, "a placement of no size");
	return f.r;
}

static int read_profile(const json_t *json, struct shelf *shelf, struct tr_err *err)
{
	struct tr_fields f = { .object = json, .what = "a profile", .err = err };
	struct tr_mig_profile p = { .name = tr_field_text(&f, "name", TYPE_MAX, true) };
	const json_t *places;

	p.mem_mib = (uint32_t)tr_field_number(&f, "memoryMB", 0, INT31);
	p.cores = (uint32_t)tr_field_number(&f, "core", 0, INT31);
	p.slices = (uint32_t)tr_field_number(&f, "sliceCount", 0, INT31);
	places = tr_field_array(&f, "placements", TR_MIG_PLACES_MAX);
	p.places = &shelf->places[shelf->place_count];
	p.place_count = json_array_size(places);
	for (size_t i = 0; i < p.place_count && f.r == 0; i++)
		f.r = read_place(json_array_get(places, i),
				 &shelf->places[shelf->place_count++], err);
	shelf->profiles[shelf->profile_count++] = p;
	return f.r;
}

static int read_device(const json_t *json, const char *what, struct tr_node_device *out,
		       struct shelf *shelf, struct tr_err *err)
{
	struct tr_fields f = { .object = json, .what = what, .err = err };
	struct tr_node_device d = { .id = tr_field_text(&f, "id", TR_DEVICE_ID_MAX, true) };
	const json_t *profiles;

	if (f.r == 0 && (!tr_word_is_printable(d.id, strlen(d.id)) || strpbrk(d.id, ",;:")))
		return tr_fail(err, EBADMSG, "%s: id is not an identifier", what);
	d.index = (uint32_t)tr_field_number(&f, "index", 0, INT31);
	d.count = (uint32_t)tr_field_number(&f, "count", 0, INT31);
	d.mem_mib = (uint32_t)tr_field_number(&f, "devmem", 0, INT31);
	d.cores = (uint32_t)tr_field_number(&f, "devcore", 0, INT31);
	d.type = tr_field_text(&f, "type", TYPE_MAX, false);
	d.numa = (int32_t)tr_field_number(&f, "numa", -1, NUMA_MAX);
	d.mode = tr_field_text(&f, "mode", MODE_MAX, false);
	d.is_healthy = tr_field_bool(&f, "health");
	profiles = tr_field_array(&f, "migProfiles", TR_MIG_PROFILES_MAX);
	d.profiles = &shelf->profiles[shelf->profile_count];
	d.profile_count = json_array_size(profiles);
	for (size_t i = 0; i < d.profile_count && f.r == 0; i++) {
		f.r = read_profile(json_array_get(profiles, i), shelf, err);
		if (f.r < 0)
			return tr_wrap(err, f.r, "%s", what);
	}
	*out = d;
	return f.r;
}

/* Upper bounds; what is of the wrong type counts nothing here and is refused later. */
static void count_shelf(const json_t *devices, struct shelf *shelf)
{
	for (size_t i = 0; i < json_array_size(devices); i++) {
		const json_t *profiles = json_object_get(json_array_get(devices, i),
							 "migProfiles");

		shelf->profile_count += json_array_size(profiles);
		for (size_t p = 0; p < json_array_size(profiles); p++)
			shelf->place_count += json_array_size(
				json_object_get(json_array_get(profiles, p), "placements"));
	}
}

static int check_ids(const struct tr_node_devices *d, struct tr_err *err)
{
	for (size_t i = 0; i < d->count; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(d->at[i].id, d->at[j].id) == 0)
				return tr_fail(err, EBADMSG, "device %.95s is listed twice",
					       d->at[i].id);
	return 0;
}

static int read_devices(struct tr_node_devices *d, struct tr_err *err)
{
	struct shelf shelf = { 0 };
	int r = 0;

	if (!json_is_array(d->json) || json_array_size(d->json) > TR_NODE_DEVICES_MAX)
		return tr_fail(err, EBADMSG, "not an array of at most %u devices",
			       TR_NODE_DEVICES_MAX);
	d->count = json_array_size(d->json);
	d->at = tr_xcalloc(d->count, sizeof(*d->at));
	count_shelf(d->json, &shelf);
	/* One block for both; profiles have the stricter alignment. */
	d->block = tr_xcalloc(1, shelf.profile_count * sizeof(*shelf.profiles) +
					 shelf.place_count * sizeof(*shelf.places));
	shelf.profiles = d->block;
	shelf.places =
		(struct tr_mig_place *)(void *)(shelf.profiles + shelf.profile_count);
	shelf.profile_count = shelf.place_count = 0;
	for (size_t i = 0; i < d->count && r == 0; i++) {
		char what[32];

		(void)snprintf(what, sizeof(what), "device %zu", i);
		r = read_device(json_array_get(d->json, i), what, &d->at[i], &shelf, err);
	}
	return r < 0 ? r : check_ids(d, err);
}

int tr_node_devices_parse(struct tr_node_devices *out, const char *text, struct tr_err *err)
{
	struct tr_node_devices d = { 0 };
	int r = tr_json_parse(text, &d.json, err);

	if (r == 0)
		r = read_devices(&d, err);
	if (r < 0)
		tr_node_devices_free(&d);
	else
		*out = d;
	return r;
}

void tr_node_devices_free(struct tr_node_devices *d)
{
	free(d->at);
	free(d->block);
	json_decref(d->json);
	*d = (struct tr_node_devices){ 0 };
}

static int read_legacy_device(char *text, struct tr_node_device *out, struct tr_err *err)
{
	char *field[10], *rest = text;
	uint64_t number[4] = { 0 }; /* count, memory, cores, numa */
	uint64_t index = 0;
	unsigned n = 0;
	bool is_good = true;

	while (n < 10 && (field[n] = strsep(&rest, ",")))
		n++;
	if (n != 7 && n != 9)
		return tr_fail(err, EBADMSG, "a device of %u fields, not 7 or 9", n);
	for (unsigned i = 0; i < 4; i++) {
		const char *digits = field[i < 3 ? i + 1 : 5];

		is_good &= tr_word_number(digits, strlen(digits), i < 3 ? INT31 : NUMA_MAX,
					  &number[i]) == 0;
	}
	if (n == 9)
		is_good &= tr_word_number(field[7], strlen(field[7]), INT31, &index) == 0;
	is_good &= tr_word_bool(field[6], &out->is_healthy) == 0;
	if (!is_good || !*field[0] || strlen(field[0]) > TR_DEVICE_ID_MAX ||
	    !tr_word_is_printable(field[0], strlen(field[0])) || strchr(field[0], ';'))
		return tr_fail(err, EBADMSG,
			       "device \"%.95s\": a field that makes no sense", field[0]);
	out->id = field[0];
	out->count = (uint32_t)number[0];
	out->mem_mib = (uint32_t)number[1];
	out->cores = (uint32_t)number[2];
	out->type = field[4];
	out->numa = (int32_t)number[3];
	out->index = (uint32_t)index;
	out->mode = n == 9 ? field[8] : "hami-core";
	return 0;
}

int tr_node_devices_parse_legacy(struct tr_node_devices *out, const char *text,
				 struct tr_err *err)
{
	struct tr_node_devices d = { 0 };
	size_t n = strnlen(text, TR_ANNOTATION_MAX + 1), devices = 0;
	char *rest, *one;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		devices += text[i] == ':';
	if (n > TR_ANNOTATION_MAX || !devices || devices > TR_NODE_DEVICES_MAX)
		return tr_fail(err, EBADMSG, "not a list of at most %u devices",
			       TR_NODE_DEVICES_MAX);
	d.block = rest = tr_xstrndup(text, n);
	d.at = tr_xcalloc(devices + 1, sizeof(*d.at));
	while (r == 0 && (one = strsep(&rest, ":")))
		if (*one || rest) /* nothing stands after the last colon */
			r = read_legacy_device(one, &d.at[d.count++], err);
	if (r == 0)
		r = check_ids(&d, err);
	if (r < 0)
		tr_node_devices_free(&d);
	else
		*out = d;
	return r;
}

/* ---- printing ---- */

static void set_number(json_t *object, const char *key, int64_t value)
{
	if (value)
		(void)json_object_set_new(object, key, json_integer(value));
}

/* False when VALUE is not UTF-8. */
static bool set_text(json_t *object, const char *key, const char *value)
{
	return !*value || json_object_set_new(object, key, json_string(value)) == 0;
}

static json_t *profile_json(const struct tr_mig_profile *p)
{
	json_t *json = json_object(), *places = json_array();
	bool is_good = set_text(json, "name", p->name);

	set_number(json, "memoryMB", p->mem_mib);
	set_number(json, "core", p->cores);
	set_number(json, "sliceCount", p->slices);
	for (size_t i = 0; i < p->place_count; i++)
		(void)json_array_append_new(
			places,
			json_pack("{s:I,s:I}", "start", (json_int_t)p->places[i].start,
				  "size", (json_int_t)p->places[i].size));
	(void)json_object_set_new(json, "placements", places);
	if (is_good)
		return json;
	json_decref(json);
	return NULL;
}

static json_t *device_json(const struct tr_node_device *d)
{
	json_t *json = json_object(), *profiles = d->profile_count ? json_array() : NULL;
	bool is_good = set_text(json, "id", d->id);

	set_number(json, "index", d->index);
	set_number(json, "count", d->count);
	set_number(json, "devmem", d->mem_mib);
	set_number(json, "devcore", d->cores);
	is_good &= set_text(json, "type", d->type);
	set_number(json, "numa", d->numa);
	is_good &= set_text(json, "mode", d->mode);
	for (size_t i = 0; i < d->profile_count; i++)
		is_good &= json_array_append_new(profiles, profile_json(&d->profiles[i])) ==
			   0;
	if (profiles)
		(void)json_object_set_new(json, "migProfiles", profiles);
	if (d->is_healthy)
		(void)json_object_set_new(json, "health", json_true());
	if (is_good)
		return json;
	json_decref(json);
	return NULL;
}

static int by_index(const void *a, const void *b)
{
	const struct tr_node_device *x = *(const struct tr_node_device *const *)a;
	const struct tr_node_device *y = *(const struct tr_node_device *const *)b;

	if (x->index != y->index)
		return x->index < y->index ? -1 : 1;
	return strcmp(x->id, y->id);
}

int tr_node_devices_print(const struct tr_node_device *at, size_t count, struct tr_buf *out)
{
	tr_autofree const struct tr_node_device **sorted = tr_xcalloc(count,
								      sizeof(void *));
	json_t *json = json_array();
	bool is_good = true;

	for (size_t i = 0; i < count; i++)
		sorted[i] = &at[i];
	qsort(sorted, count, sizeof(void *), by_index);
	for (size_t i = 0; i < count; i++)
		is_good &= json_array_append_new(json, device_json(sorted[i])) == 0;
	if (!is_good) {
		json_decref(json);
		return -EINVAL;
	}
	return tr_json_print(json, out);
}
