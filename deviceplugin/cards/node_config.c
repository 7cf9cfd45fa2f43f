/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/cards/node_config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/slurp.h"

#define FILE_MAX ((size_t)1 << 20)

struct reading {
	struct tr_card_rules rules; /* a copy, until all is read */
	struct tr_node_settings settings;
	const json_t *entry;
	size_t at; /* which entry */
	struct tr_err *err;
	int r;
};

static void wrong(struct reading *in, const char *key, const char *should)
{
	if (in->r == 0)
		in->r = tr_fail(in->err, EBADMSG, "nodeconfig[%zu]: %s %s", in->at, key,
				should);
}

/* NULL: not given. JSON's null is none either, as in Go. */
static const json_t *find(const struct reading *in, const char *key)
{
	const json_t *value = json_object_get(in->entry, key);

	return json_is_null(value) ? NULL : value;
}

static void read_scaling(struct reading *in, const char *key, double *out)
{
	const json_t *value = find(in, key);

	if (value && !json_is_number(value))
		wrong(in, key, "must be a number");
	else if (value)
		*out = json_number_value(value);
}

static void read_count(struct reading *in, const char *key, json_int_t most,
		       json_int_t *out)
{
	const json_t *value = find(in, key);

	if (value && (!json_is_integer(value) || json_integer_value(value) < 0 ||
		      json_integer_value(value) > most))
		wrong(in, key, "must be a whole number that is not too large");
	else if (value)
		*out = json_integer_value(value);
}

static bool read_bool(struct reading *in, const char *key, bool *out)
{
	const json_t *value = find(in, key);

	if (value && !json_is_boolean(value))
		wrong(in, key, "must be true or false");
	else if (value)
		*out = json_is_true(value);
	return value;
}

static bool read_text(struct reading *in, const char *key, char *out, size_t room)
{
	const json_t *value = find(in, key);

	if (value && (!json_is_string(value) || json_string_length(value) >= room ||
		      strlen(json_string_value(value)) != json_string_length(value)))
		wrong(in, key, "must be a short text");
	else if (value)
		(void)snprintf(out, room, "%s", json_string_value(value));
	return value;
}

static void read_mode(struct reading *in)
{
	char mode[sizeof(in->rules.mode)] = "";

	if (!read_text(in, "operatingmode", mode, sizeof(mode)) || in->r < 0)
		return;
	/* In HAMi too, "mps" and the empty one behave like the first. */
	if (strcmp(mode, "hami-core") != 0 && strcmp(mode, "mps") != 0 && mode[0])
		wrong(in, "operatingmode",
		      "must be \"hami-core\": MIG instances are made by their "
		      "administrator");
	else
		(void)snprintf(in->rules.mode, sizeof(in->rules.mode), "hami-core");
}

static void read_filter_entry(struct reading *in, const json_t *value, bool is_uuid,
			      struct tr_card_filter *filter)
{
	char text[64];

	if (is_uuid && json_is_string(value) && json_string_length(value) < sizeof(text))
		(void)snprintf(text, sizeof(text), "%s", json_string_value(value));
	else if (!is_uuid && json_is_integer(value) && json_integer_value(value) >= 0)
		(void)snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT,
			       json_integer_value(value));
	else
		text[0] = '\0';
	if ((is_uuid && text[0] >= '0' && text[0] <= '9') ||
	    tr_card_filter_add(filter, text, NULL) < 0)
		wrong(in, "filterdevices",
		      "must list UUIDs in \"uuid\", indexes in \"index\"");
}

static void read_filter(struct reading *in)
{
	const json_t *value = find(in, "filterdevices");
	struct tr_card_filter filter = { 0 };

	if (!value)
		return;
	if (!json_is_object(value)) {
		wrong(in, "filterdevices", "must be an object");
		return;
	}
	for (int is_uuid = 0; is_uuid < 2; is_uuid++) {
		const json_t *list = json_object_get(value, is_uuid ? "uuid" : "index");

		if (list && !json_is_array(list) && !json_is_null(list))
			wrong(in, "filterdevices", "must hold lists");
		for (size_t i = 0; i < json_array_size(list); i++)
			read_filter_entry(in, json_array_get(list, i), is_uuid, &filter);
	}
	if (filter.uuid_count || filter.index_count)
		in->rules.filter = filter;
}

static void read_entry(struct reading *in)
{
	json_int_t split = in->rules.split;
	json_int_t mib = (json_int_t)(in->rules.preconfigured_bytes >> 20);

	read_scaling(in, "devicememoryscaling", &in->rules.memory_scaling);
	read_scaling(in, "devicecorescaling", &in->rules.core_scaling);
	read_count(in, "devicesplitcount", 255, &split);
	read_count(in, "preconfigureddevicememory", INT32_MAX, &mib);
	(void)read_bool(in, "enablenumatopology", &in->rules.is_numa_told);
	in->settings.is_prefer_given |= read_bool(in, "enablegetpreferredallocation",
						  &in->settings.is_preferred);
	in->settings.is_log_given |= read_text(in, "libcudaloglevel",
					       in->settings.log_level,
					       sizeof(in->settings.log_level));
	read_mode(in);
	read_filter(in);
	in->rules.split = (unsigned)split;
	in->rules.preconfigured_bytes = (uint64_t)mib << 20;
	in->settings.entries++;
	if (in->r == 0) {
		in->r = tr_card_rules_check(&in->rules, in->err);
		if (in->r < 0)
			in->r = -EBADMSG;
	}
}

static void read_entries(struct reading *in, const json_t *list, const char *node)
{
	for (in->at = 0; in->r == 0 && in->at < json_array_size(list); in->at++) {
		const char *name;

		in->entry = json_array_get(list, in->at);
		name = json_string_value(json_object_get(in->entry, "name"));
		if (!json_is_object(in->entry) || !name)
			wrong(in, "name", "must be there, and a text");
		else if (strcmp(name, node) == 0)
			read_entry(in);
	}
}

int tr_node_config_parse(const char *text, size_t n, const char *node,
			 struct tr_node_settings *settings, struct tr_err *err)
{
	struct reading in = { .rules = *settings->rules,
			      .settings = *settings,
			      .err = err };
	json_error_t why;
	json_t *json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
	const json_t *list = json_object_get(json, "nodeconfig");

	if (!json)
		return tr_fail(err, EBADMSG, "line %d: %s", why.line, why.text);
	if (!json_is_object(json) || (list && !json_is_array(list) && !json_is_null(list)))
		in.r = tr_fail(err, EBADMSG, "nodeconfig must be a list in an object");
	else
		read_entries(&in, list, node);
	json_decref(json);
	if (in.r < 0)
		return in.r;
	*settings->rules = in.rules;
	in.settings.rules = settings->rules;
	*settings = in.settings;
	return 0;
}

int tr_node_config_read(const char *path, const char *node,
			struct tr_node_settings *settings, struct tr_err *err)
{
	tr_autofree char *text = NULL;
	size_t n;
	int r = tr_slurp(path, FILE_MAX, &text, &n, err);

	if (r < 0)
		return r;
	r = tr_node_config_parse(text, n, node, settings, err);
	return r < 0 ? tr_wrap(err, r, "%s", path) : 0;
}
