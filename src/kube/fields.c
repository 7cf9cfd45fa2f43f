/* SPDX-License-Identifier: Apache-2.0 */
#include "kube/fields.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tranche/names.h"

int tr_json_parse(const char *text, json_t **out, struct tr_err *err)
{
	size_t n = strnlen(text, TR_ANNOTATION_MAX + 1);
	json_error_t problem;

	if (n > TR_ANNOTATION_MAX)
		return tr_fail(err, EBADMSG, "more than %zu bytes", TR_ANNOTATION_MAX);
	*out = json_loadb(text, n, JSON_REJECT_DUPLICATES, &problem);
	return *out ? 0 : tr_fail(err, EBADMSG, "not JSON: %s", problem.text);
}

int tr_json_print(json_t *value, struct tr_buf *out)
{
	char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;

	json_decref(value);
	if (!text)
		return -EINVAL;
	tr_buf_text(out, text);
	free(text);
	return 0;
}

static const json_t *get(const struct tr_fields *f, const char *key)
{
	const json_t *value = f->r == 0 ? json_object_get(f->object, key) : NULL;

	return json_is_null(value) ? NULL : value;
}

static void refuse(struct tr_fields *f, const char *key, const char *what)
{
	f->r = tr_fail(f->err, EBADMSG, "%s: %s is not %s", f->what, key, what);
}

bool tr_field_is_given(const struct tr_fields *f, const char *key)
{
	return get(f, key) != NULL;
}

int64_t tr_field_number(struct tr_fields *f, const char *key, int64_t min, int64_t max)
{
	const json_t *value = get(f, key);

	if (!value)
		return 0;
	if (json_is_integer(value) && json_integer_value(value) >= min &&
	    json_integer_value(value) <= max)
		return json_integer_value(value);
	f->r = tr_fail(f->err, EBADMSG,
		       "%s: %s is not a whole number from %" PRId64 " to %" PRId64, f->what,
		       key, min, max);
	return 0;
}

const char *tr_field_text(struct tr_fields *f, const char *key, size_t max, bool must)
{
	const json_t *value = get(f, key);

	if (f->r < 0)
		return "";
	if (json_is_string(value) && json_string_length(value) <= max &&
	    (!must || json_string_length(value)))
		return json_string_value(value);
	if (value || must)
		refuse(f, key, must ? "a text" : "a text, or is too long");
	return "";
}

bool tr_field_bool(struct tr_fields *f, const char *key)
{
	const json_t *value = get(f, key);

	if (value && !json_is_boolean(value))
		refuse(f, key, "true or false");
	return json_is_true(value);
}

const json_t *tr_field_array(struct tr_fields *f, const char *key, size_t max)
{
	const json_t *value = get(f, key);

	if (!value || (json_is_array(value) && json_array_size(value) <= max))
		return value;
	refuse(f, key, "an array, or is too long");
	return NULL;
}

const json_t *tr_field_object(struct tr_fields *f, const char *key)
{
	const json_t *value = get(f, key);

	if (value && !json_is_object(value))
		refuse(f, key, "an object");
	return f->r == 0 ? value : NULL;
}
