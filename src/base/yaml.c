/* SPDX-License-Identifier: Apache-2.0 */
#include "base/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/mem.h"

#define DEPTH_MAX 64

struct reader {
	yaml_parser_t parser;
	struct tr_yaml_lines *lines; /* or NULL */
	struct tr_err *err;
};

static int next_event(struct reader *r, yaml_event_t *e)
{
	if (yaml_parser_parse(&r->parser, e))
		return 0;
	return tr_fail(r->err, EBADMSG, "line %zu: %s",
		       (r->parser.problem_mark.line ? r->parser.problem_mark.line
						    : r->parser.mark.line) +
			       1,
		       r->parser.problem ? r->parser.problem : "not YAML");
}

static int refuse(struct reader *r, const yaml_event_t *e, const char *what)
{
	return tr_fail(r->err, EBADMSG, "line %zu: %s", e->start_mark.line + 1, what);
}

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(text, *words) == 0)
			return true;
	return false;
}

static json_t *plain_number(const char *text)
{
	const char *digits = text + strspn(text, "+-");
	char *end = NULL;
	long long whole;
	double real;

	if (digits > text + 1 || !*digits)
		return NULL;
	errno = 0;
	if (digits[strspn(digits, "0123456789")] == '\0') {
		whole = strtoll(text, &end, 10);
		if (errno == 0)
			return json_integer(whole);
	}
	if (digits[strspn(digits, "0123456789.eE+-")] != '\0' ||
	    !strpbrk(digits, "0123456789"))
		return NULL;
	real = strtod(text, &end);
	return *end || !isfinite(real) ? NULL : json_real(real);
}

static json_t *plain_value(const char *text)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
	static const char *const trues[] = { "true", "True", "TRUE", NULL };
	static const char *const falses[] = { "false", "False", "FALSE", NULL };
	json_t *number;

	if (is_one_of(text, nulls))
		return json_null();
	if (is_one_of(text, trues))
		return json_true();
	if (is_one_of(text, falses))
		return json_false();
	number = plain_number(text);
	return number ? number : json_string(text);
}

static int read_scalar(struct reader *r, const yaml_event_t *e, json_t **out)
{
	const char *text = (const char *)e->data.scalar.value;
	size_t n = e->data.scalar.length;

	if (e->data.scalar.anchor || e->data.scalar.tag)
		return refuse(r, e, "anchors and tags are not supported");
	if (memchr(text, '\0', n))
		return refuse(r, e, "a NUL in a text");
	*out = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? plain_value(text)
							       : json_stringn(text, n);
	return *out ? 0 : refuse(r, e, "text that is not UTF-8");
}

static int read_value(struct reader *r, const yaml_event_t *e, int depth, json_t **out);

static int read_sequence(struct reader *r, int depth, json_t *array)
{
	for (;;) {
		yaml_event_t e;
		json_t *item = NULL;
		int res = next_event(r, &e);
		bool is_end;

		if (res < 0)
			return res;
		is_end = e.type == YAML_SEQUENCE_END_EVENT;
		if (!is_end)
			res = read_value(r, &e, depth, &item);
		yaml_event_delete(&e);
		if (is_end || res < 0)
			return res;
		if (json_array_append_new(array, item) < 0)
			return tr_fail(r->err, ENOMEM, "out of memory");
	}
}

static void note_line(struct reader *r, json_t *object, const char *key, size_t line)
{
	struct tr_yaml_lines *l = r->lines;

	if (!l)
		return;
	if (l->count == l->room) {
		l->room = l->room ? l->room * 2 : 32;
		l->at = tr_xrealloc(l->at, l->room * sizeof(*l->at));
	}
	l->at[l->count++] = (struct tr_yaml_key){
		object, json_object_iter_key(json_object_iter_at(object, key)), line
	};
}

/* KEY_EVENT names a key of OBJECT; what follows is its value. */
static int read_member(struct reader *r, const yaml_event_t *key_event, int depth,
		       json_t *object)
{
	const char *key = (const char *)key_event->data.scalar.value;
	json_t *value = NULL;
	yaml_event_t e;
	int res;

	if (key_event->type != YAML_SCALAR_EVENT || key_event->data.scalar.anchor ||
	    key_event->data.scalar.tag || strlen(key) != key_event->data.scalar.length)
		return refuse(r, key_event, "a key must be a text");
	if (json_object_get(object, key))
		return tr_fail(r->err, EBADMSG, "line %zu: \"%.64s\" is given twice",
			       key_event->start_mark.line + 1, key);
	res = next_event(r, &e);
	if (res < 0)
		return res;
	res = read_value(r, &e, depth, &value);
	yaml_event_delete(&e);
	if (res < 0)
		return res;
	if (json_object_set_new(object, key, value) < 0)
		return refuse(r, key_event, "text that is not UTF-8");
	note_line(r, object, key, key_event->start_mark.line + 1);
	return 0;
}

static int read_mapping(struct reader *r, int depth, json_t *object)
{
	for (;;) {
		yaml_event_t e;
		int res = next_event(r, &e);
		bool is_end;

		if (res < 0)
			return res;
		is_end = e.type == YAML_MAPPING_END_EVENT;
		if (!is_end)
			res = read_member(r, &e, depth, object);
		yaml_event_delete(&e);
		if (is_end || res < 0)
			return res;
	}
}

static int read_value(struct reader *r, const yaml_event_t *e, int depth, json_t **out)
{
	json_t *value;
	int res;

	if (depth >= DEPTH_MAX)
		return refuse(r, e, "nested too deep");
	if (e->type == YAML_SCALAR_EVENT)
		return read_scalar(r, e, out);
	if (e->type == YAML_SEQUENCE_START_EVENT) {
		if (e->data.sequence_start.anchor || e->data.sequence_start.tag)
			return refuse(r, e, "anchors and tags are not supported");
		value = json_array();
		res = read_sequence(r, depth + 1, value);
	} else if (e->type == YAML_MAPPING_START_EVENT) {
		if (e->data.mapping_start.anchor || e->data.mapping_start.tag)
			return refuse(r, e, "anchors and tags are not supported");
		value = json_object();
		res = read_mapping(r, depth + 1, value);
	} else {
		return refuse(r, e, "aliases are not supported");
	}
	if (res < 0)
		json_decref(value);
	else
		*out = value;
	return res;
}

/* The events of one document, from after its start to the end of the stream. */
static int read_document(struct reader *r, json_t **out)
{
	yaml_event_t e;
	int res = next_event(r, &e);

	if (res < 0)
		return res;
	res = read_value(r, &e, 0, out);
	yaml_event_delete(&e);
	for (int i = 0; i < 2 && res == 0; i++) {
		res = next_event(r, &e);
		if (res < 0)
			break;
		if (i == 1 && e.type != YAML_STREAM_END_EVENT)
			res = refuse(r, &e, "a second document");
		yaml_event_delete(&e);
	}
	return res;
}

static int read_stream(struct reader *r, json_t **out)
{
	for (;;) {
		yaml_event_t e;
		yaml_event_type_t type;
		int res = next_event(r, &e);

		if (res < 0)
			return res;
		type = e.type;
		yaml_event_delete(&e);
		if (type == YAML_DOCUMENT_START_EVENT)
			return read_document(r, out);
		if (type == YAML_STREAM_END_EVENT) {
			*out = json_null();
			return 0;
		}
	}
}

int tr_yaml_parse_lines(const char *text, size_t n, json_t **out,
			struct tr_yaml_lines *lines, struct tr_err *err)
{
	struct reader r = { .lines = lines, .err = err };
	json_t *value = NULL;
	int res;

	if (!yaml_parser_initialize(&r.parser))
		return tr_fail(err, ENOMEM, "out of memory");
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
	res = read_stream(&r, &value);
	yaml_parser_delete(&r.parser);
	if (res == 0) {
		*out = value;
		return 0;
	}
	json_decref(value);
	if (lines)
		tr_yaml_lines_free(lines);
	return res;
}

int tr_yaml_parse(const char *text, size_t n, json_t **out, struct tr_err *err)
{
	return tr_yaml_parse_lines(text, n, out, NULL, err);
}

size_t tr_yaml_line(const struct tr_yaml_lines *lines, const json_t *object,
		    const char *key)
{
	for (size_t i = 0; i < lines->count; i++)
		if (lines->at[i].object == object && strcmp(lines->at[i].key, key) == 0)
			return lines->at[i].line;
	return 0;
}

void tr_yaml_lines_free(struct tr_yaml_lines *lines)
{
	free(lines->at);
	*lines = (struct tr_yaml_lines){ 0 };
}
