/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/yaml.h"
#include "deviceplugin/agent/config_key.h"

/* Settings from files: our own, where every key must be known, and HAMi's, which others read too. */

struct document {
	const char *where;
	json_t *json;
	struct tr_yaml_lines lines;
};

static void document_free(struct document *d)
{
	tr_yaml_lines_free(&d->lines);
	json_decref(d->json);
}

/* A mapping; an empty file is an empty one. */
static int document_parse(struct document *d, const char *text, size_t n,
			  struct tr_err *err)
{
	int r = tr_yaml_parse_lines(text, n, &d->json, &d->lines, err);

	if (r < 0)
		return tr_wrap(err, r, "%s", d->where);
	if (json_is_null(d->json)) {
		json_decref(d->json);
		d->json = json_object();
	}
	if (!json_is_object(d->json))
		return tr_fail(err, EINVAL, "%s: not a mapping of keys and values",
			       d->where);
	return 0;
}

static int at_line(const struct document *d, const json_t *object, const char *key, int r,
		   struct tr_err *err)
{
	return tr_wrap(err, r, "%s line %zu", d->where,
		       tr_yaml_line(&d->lines, object, key));
}

static int unknown_key(const struct document *d, const char *key, struct tr_err *err)
{
	return at_line(d, d->json, key,
		       tr_fail(err, EINVAL,
			       "\"%.64s\" is no setting; tranched --help lists them", key),
		       err);
}

static int read_own(struct tr_config_making *m, const struct document *d,
		    struct tr_err *err)
{
	const char *key;
	json_t *value;

	json_object_foreach (d->json, key, value) {
		size_t k = 0;
		int r;

		while (k < TR_CONFIG_KEYS && strcmp(tr_config_keys[k].name, key) != 0)
			k++;
		if (k == TR_CONFIG_KEYS)
			return unknown_key(d, key, err);
		r = tr_config_set_json(m, k, value, err);
		if (r < 0)
			return at_line(d, d->json, key, r, err);
	}
	return 0;
}

int tr_config_read_file(struct tr_config_making *m, const char *where, const char *text,
			size_t n, struct tr_err *err)
{
	struct document d = { .where = where };
	int r = document_parse(&d, text, n, err);

	if (r == 0)
		r = read_own(m, &d, err);
	document_free(&d);
	return r;
}

/* ---- HAMi's ---- */

/* "disable" is the only one of its policies that holds another thing than ours. */
static int set_core_policy(struct tr_config_making *m, const json_t *value,
			   struct tr_err *err)
{
	const char *policy = json_string_value(value);

	if (!policy ||
	    tr_config_place("default|force|disable|", '|', policy, strlen(policy)) < 0)
		return tr_fail(err, EINVAL,
			       "gpuCorePolicy: not one of default, force, disable");
	if (strcmp(policy, "disable") != 0)
		return 0;
	return tr_config_set_text(m, TR_INDEX_disable_core_limit, "true", err);
}

static bool is_passed_over(const char *key)
{
	static const char *const keys[] = {
#define TR_FOREIGN(...)
#define TR_FOREIGN_KEY(key) key,
#include "deviceplugin/agent/config_hami.def"
#undef TR_FOREIGN
#undef TR_FOREIGN_KEY
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		if (strcmp(keys[i], key) == 0)
			return true;
	return false;
}

static int read_block(struct tr_config_making *m, const struct document *d, json_t *block,
		      struct tr_err *err)
{
	const char *key;
	json_t *value;

	json_object_foreach (block, key, value) {
		size_t k = 0;
		int r = 0;

		while (k < TR_CONFIG_KEYS && strcmp(tr_config_keys[k].hami, key) != 0)
			k++;
		if (k < TR_CONFIG_KEYS)
			r = tr_config_set_json(m, k, value, err);
		else if (strcmp(key, "gpuCorePolicy") == 0)
			r = set_core_policy(m, value, err);
		else if (!is_passed_over(key))
			tr_buf_print(m->notes,
				     "%s line %zu: nvidia.%.64s is not known here\n",
				     d->where, tr_yaml_line(&d->lines, block, key), key);
		if (r < 0)
			return at_line(d, block, key, tr_wrap(err, r, "nvidia.%.64s", key),
				       err);
	}
	return 0;
}

int tr_config_read_hami(struct tr_config_making *m, const char *where, const char *text,
			size_t n, struct tr_err *err)
{
	/* NVIDIA's own, which HAMi's plugin reads from the same file. */
	static const char *const theirs[] = { "flags", "sharing", "resources", "imex" };
	struct document d = { .where = where };
	int r = document_parse(&d, text, n, err);
	json_t *block = r < 0 ? NULL : json_object_get(d.json, "nvidia");

	for (size_t i = 0; r == 0 && i < sizeof(theirs) / sizeof(*theirs); i++)
		if (json_object_size(json_object_get(d.json, theirs[i])) > 0)
			tr_buf_print(m->notes, "%s line %zu: %s means nothing here\n",
				     where, tr_yaml_line(&d.lines, d.json, theirs[i]),
				     theirs[i]);
	if (r == 0 && block && !json_is_object(block) && !json_is_null(block))
		r = at_line(&d, d.json, "nvidia",
			    tr_fail(err, EINVAL, "nvidia: not a mapping"), err);
	else if (r == 0 && !json_is_object(block))
		tr_buf_print(m->notes, "%s has no block nvidia\n", where);
	else if (r == 0)
		r = read_block(m, &d, block, err);
	document_free(&d);
	return r;
}
