/* SPDX-License-Identifier: Apache-2.0 */
#include "deviceplugin/agent/config_key.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kube/words.h"

const struct tr_config_key tr_config_keys[TR_CONFIG_KEYS] = {
#define TR_GROUP(heading)
#define TR_KEY(kind_, name_, fallback_, min_, max_, words_, flags_, env_, hami_, live_, \
	       help_)                                                                   \
	[TR_INDEX_##name_] = { .kind = TR_KIND_##kind_,                                 \
			       .name = #name_,                                          \
			       .fallback = (fallback_),                                 \
			       .min = (min_),                                           \
			       .max = (max_),                                           \
			       .words = (words_),                                       \
			       .flags = (flags_),                                       \
			       .env = (env_),                                           \
			       .hami = (hami_),                                         \
			       .is_live = (live_),                                      \
			       .help = (help_),                                         \
			       .offset = offsetof(struct tr_config, name_),             \
			       .bytes = sizeof(((struct tr_config *)NULL)->name_) },
#include "deviceplugin/agent/config.def"
#undef TR_KEY
#undef TR_GROUP
};

union value {
	char *text;
	bool flag;
	unsigned whole;
	double real;
	struct tr_config_list list;
	struct tr_config_numbers numbers;
};

static void *member(const struct tr_config *config, const struct tr_config_key *k)
{
	return (char *)(uintptr_t)config + k->offset;
}

static void free_list(struct tr_config_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->at[i]);
	free(list->at);
}

static void free_value(const struct tr_config_key *k, void *at)
{
	if (k->kind == TR_KIND_TEXT || k->kind == TR_KIND_PATH)
		free(*(char **)at);
	else if (k->kind == TR_KIND_LIST)
		free_list(at);
	else if (k->kind == TR_KIND_NUMBERS)
		free(((struct tr_config_numbers *)at)->at);
	memset(at, 0, k->bytes);
}

void tr_config_free_value(struct tr_config *config, size_t key)
{
	free_value(&tr_config_keys[key], member(config, &tr_config_keys[key]));
}

int tr_config_place(const char *list, char by, const char *word, size_t n)
{
	const char ends[] = { by, '\0' };

	for (int place = 0; *list; place++) {
		size_t length = strcspn(list, ends);

		if (length == n && memcmp(list, word, n) == 0)
			return place;
		list += length + (list[length] ? 1 : 0);
	}
	return -1;
}

/* ---- values ---- */

/* What goes into CDI files and annotations must be. */
static bool is_utf8(const char *text)
{
	json_t *value = json_string(text);

	json_decref(value);
	return value != NULL;
}

/* Also those beyond ASCII, and ends of lines: YAML cannot hold them, and what is printed must be read again. */
static bool has_control(const char *text)
{
	static const char *const others[] = {
		"\xe2\x80\xa8", "\xe2\x80\xa9", "\xef\xbb\xbf",
		"\xef\xbf\xbe", "\xef\xbf\xbf",
	}; /* U+2028, U+2029, U+FEFF, U+FFFE, U+FFFF */

	for (const unsigned char *at = (const unsigned char *)text; *at; at++)
		if (*at < ' ' || *at == 0x7f ||
		    (*at == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0))
			return true;
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (strstr(text, others[i]))
			return true;
	return false;
}

static int check_text(const struct tr_config_key *k, const char *text, struct tr_err *err)
{
	size_t n = strlen(text);

	if (has_control(text))
		return tr_fail(err, EINVAL, "%s: a control character in it", k->name);
	if (!is_utf8(text))
		return tr_fail(err, EINVAL, "%s: not UTF-8", k->name);
	if (k->kind == TR_KIND_PATH) {
		if (n && *text != '/')
			return tr_fail(err, EINVAL, "%s: \"%.200s\" is no absolute path",
				       k->name, text);
		if (n >= PATH_MAX)
			return tr_fail(err, EINVAL, "%s: the path is too long", k->name);
	}
	if ((double)n < k->min)
		return tr_fail(err, EINVAL, "%s: must not be empty", k->name);
	if (k->kind == TR_KIND_TEXT && (double)n > k->max)
		return tr_fail(err, EINVAL, "%s: longer than %g bytes", k->name, k->max);
	return 0;
}

static int make_text(const struct tr_config_key *k, const char *text, union value *out,
		     struct tr_err *err)
{
	size_t n = strlen(text);
	int r = check_text(k, text, err);

	if (r < 0)
		return r;
	while (k->kind == TR_KIND_PATH && n > 1 && text[n - 1] == '/')
		n--; /* one way to write a directory */
	out->text = tr_xstrndup(text, n);
	return 0;
}

static int make_number(const struct tr_config_key *k, double number, union value *out,
		       struct tr_err *err)
{
	bool is_whole = k->kind == TR_KIND_WHOLE;

	if (!(number >= k->min && number <= k->max))
		return tr_fail(err, EINVAL, "%s: %.17g is not between %.10g and %.10g",
			       k->name, number, k->min, k->max);
	if (is_whole)
		out->whole = (unsigned)number;
	else
		out->real = number;
	return 0;
}

static int make_word(const struct tr_config_key *k, const char *text, union value *out,
		     struct tr_err *err)
{
	int place = tr_config_place(k->words, '|', text, strlen(text));

	if (place < 0)
		return tr_fail(err, EINVAL, "%s: \"%.64s\" is not one of %s", k->name, text,
			       k->words);
	out->whole = (unsigned)place;
	return 0;
}

/* One more entry of a list. */
static int add_entry(const struct tr_config_key *k, const char *text, union value *out,
		     struct tr_err *err)
{
	size_t count = k->kind == TR_KIND_LIST ? out->list.count : out->numbers.count;
	uint64_t number;

	if (count >= 4096)
		return tr_fail(err, EINVAL, "%s: more than 4096 entries", k->name);
	if (k->kind == TR_KIND_LIST) {
		if (!*text || strlen(text) > (size_t)k->max ||
		    !tr_word_is_printable(text, strlen(text)))
			return tr_fail(err, EINVAL, "%s: \"%.80s\" cannot be an entry",
				       k->name, text);
		out->list.at = tr_xrealloc(out->list.at,
					   (count + 1) * sizeof(*out->list.at));
		out->list.at[out->list.count++] = tr_xstrdup(text);
		return 0;
	}
	if (tr_word_number(text, strlen(text), (uint64_t)k->max, &number) < 0)
		return tr_fail(err, EINVAL, "%s: \"%.80s\" is no number up to %.0f",
			       k->name, text, k->max);
	out->numbers.at = tr_xrealloc(out->numbers.at,
				      (count + 1) * sizeof(*out->numbers.at));
	out->numbers.at[out->numbers.count++] = (unsigned)number;
	return 0;
}

static int make_entries(const struct tr_config_key *k, const char *text, union value *out,
			struct tr_err *err)
{
	const char *entry;
	size_t n;

	while (tr_list_next(&text, &entry, &n)) {
		tr_autofree char *copy = tr_xstrndup(entry, n);
		int r = add_entry(k, copy, out, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int from_text(const struct tr_config_key *k, const char *text, union value *out,
		     struct tr_err *err)
{
	char *end = NULL;
	uint64_t whole;
	double real;

	switch (k->kind) {
	case TR_KIND_TEXT:
	case TR_KIND_PATH:
		return make_text(k, text, out, err);
	case TR_KIND_BOOL:
		if (tr_word_bool(text, &out->flag) < 0)
			return tr_fail(err, EINVAL,
				       "%s: \"%.64s\" is neither true nor false", k->name,
				       text);
		return 0;
	case TR_KIND_WHOLE:
		if (tr_word_number(text, strlen(text), UINT32_MAX, &whole) < 0)
			return tr_fail(err, EINVAL, "%s: \"%.64s\" is no whole number",
				       k->name, text);
		return make_number(k, (double)whole, out, err);
	case TR_KIND_REAL:
		real = strtod(text, &end);
		if (!*text || *end || text[strspn(text, "0123456789.eE+-")])
			return tr_fail(err, EINVAL, "%s: \"%.64s\" is no number", k->name,
				       text);
		return make_number(k, real, out, err);
	case TR_KIND_WORD:
		return make_word(k, text, out, err);
	case TR_KIND_LIST:
	case TR_KIND_NUMBERS:
		break;
	}
	return make_entries(k, text, out, err);
}

static const char *type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "a mapping";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a text";
	case JSON_INTEGER:
		return "a whole number";
	case JSON_REAL:
		return "a number";
	case JSON_NULL:
		return "nothing";
	case JSON_TRUE:
	case JSON_FALSE:
		break;
	}
	return "a bool";
}

static int refuse_type(const struct tr_config_key *k, const json_t *value, const char *want,
		       struct tr_err *err)
{
	return tr_fail(err, EINVAL, "%s: %s was given, %s is wanted", k->name,
		       type_name(value), want);
}

/* An entry may be written as a number too: "xid_ignore: [13, 31]". */
static int from_entry(const struct tr_config_key *k, const json_t *entry, union value *out,
		      struct tr_err *err)
{
	char number[32];

	if (json_is_string(entry))
		return add_entry(k, json_string_value(entry), out, err);
	if (!json_is_integer(entry))
		return tr_fail(err, EINVAL, "%s: %s stands in its list", k->name,
			       type_name(entry));
	(void)snprintf(number, sizeof(number), "%lld",
		       (long long)json_integer_value(entry));
	return add_entry(k, number, out, err);
}

static int from_list(const struct tr_config_key *k, const json_t *value, union value *out,
		     struct tr_err *err)
{
	const json_t *entry;
	size_t i;

	if (json_is_string(value))
		return make_entries(k, json_string_value(value), out, err);
	if (json_is_integer(value))
		return from_entry(k, value, out, err);
	if (!json_is_array(value))
		return refuse_type(k, value, "a list", err);
	json_array_foreach (value, i, entry) {
		int r = from_entry(k, entry, out, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int from_json(const struct tr_config_key *k, const json_t *value, union value *out,
		     struct tr_err *err)
{
	switch (k->kind) {
	case TR_KIND_TEXT:
	case TR_KIND_PATH:
		if (!json_is_string(value))
			return refuse_type(k, value, "a text", err);
		return make_text(k, json_string_value(value), out, err);
	case TR_KIND_BOOL:
		if (!json_is_boolean(value))
			return refuse_type(k, value, "true or false", err);
		out->flag = json_is_true(value);
		return 0;
	case TR_KIND_WHOLE:
		if (!json_is_integer(value))
			return refuse_type(k, value, "a whole number", err);
		return make_number(k, (double)json_integer_value(value), out, err);
	case TR_KIND_REAL:
		if (!json_is_number(value))
			return refuse_type(k, value, "a number", err);
		return make_number(k, json_number_value(value), out, err);
	case TR_KIND_WORD:
		if (!json_is_string(value))
			return refuse_type(k, value, k->words, err);
		return make_word(k, json_string_value(value), out, err);
	case TR_KIND_LIST:
	case TR_KIND_NUMBERS:
		break;
	}
	return from_list(k, value, out, err);
}

/* ---- what only some of them may be ---- */

/* As the API server has it, of names of nodes. */
static int check_node(const char *key, const char *name, struct tr_err *err)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	size_t n = strlen(name);

	if (!n || (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == n &&
		   strchr(letters, name[0]) && strchr(letters, name[n - 1])))
		return 0;
	return tr_fail(
		err, EINVAL,
		"%s: \"%.64s\" is no node's name: lower-case letters, digits, '-' and "
		"'.' between two of the former",
		key, name);
}

static int check_resource(const char *key, const char *name, struct tr_err *err)
{
	const char *slash = strchr(name, '/');
	size_t n = strlen(name);

	if (!slash || slash == name || !slash[1] || strchr(slash + 1, '/') ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
			 "-._/") != n)
		return tr_fail(err, EINVAL,
			       "%s: \"%.64s\" is not a domain, a slash and a name", key,
			       name);
	return 0;
}

static int check_address(const char *key, const char *address, struct tr_err *err)
{
	const char *colon = strrchr(address, ':');
	uint64_t port;

	if (!*address ||
	    (colon && tr_word_number(colon + 1, strlen(colon + 1), 65535, &port) == 0))
		return 0;
	return tr_fail(err, EINVAL, "%s: \"%.64s\" is not HOST:PORT", key, address);
}

static int check_lease(const char *key, const char *space, struct tr_err *err)
{
	if (strcmp(space, "kube-node-lease") != 0)
		return 0;
	return tr_fail(err, EINVAL,
		       "%s: in kube-node-lease the kubelet has its own of that name", key);
}

static int check_xids(const char *key, struct tr_config_list *list, struct tr_err *err)
{
	for (size_t i = 0; i < list->count; i++) {
		const char *xid = list->at[i];
		uint64_t number;

		if (strcmp(xid, "xids") == 0) { /* NVIDIA's older word for it */
			free(list->at[i]);
			list->at[i] = tr_xstrdup("all");
		} else if (strcmp(xid, "all") != 0 &&
			   tr_word_number(xid, strlen(xid), 65535, &number) < 0) {
			return tr_fail(err, EINVAL, "%s: \"%.64s\" is no XID", key, xid);
		}
	}
	return 0;
}

static int check_value(size_t key, union value *value, struct tr_err *err)
{
	const char *name = tr_config_keys[key].name;

	switch (key) {
	case TR_INDEX_node_name:
		return check_node(name, value->text, err);
	case TR_INDEX_resource_name:
		return check_resource(name, value->text, err);
	case TR_INDEX_metrics_address:
		return check_address(name, value->text, err);
	case TR_INDEX_lease_namespace:
		return check_lease(name, value->text, err);
	case TR_INDEX_xid_ignore:
	case TR_INDEX_xid_watch:
		return check_xids(name, &value->list, err);
	default:
		return 0;
	}
}

/* The first value that is given stays; later ones were checked. */
static int settle(struct tr_config_making *m, size_t key, int r, union value *value,
		  struct tr_err *err)
{
	const struct tr_config_key *k = &tr_config_keys[key];

	if (r == 0)
		r = check_value(key, value, err);
	if (r < 0 || m->is_given[key]) {
		free_value(k, value);
		return r;
	}
	m->is_given[key] = true;
	memcpy(member(m->config, k), value, k->bytes);
	return 0;
}

int tr_config_set_text(struct tr_config_making *m, size_t key, const char *text,
		       struct tr_err *err)
{
	union value value = { 0 };

	return settle(m, key, from_text(&tr_config_keys[key], text, &value, err), &value,
		      err);
}

int tr_config_set_json(struct tr_config_making *m, size_t key, const json_t *json,
		       struct tr_err *err)
{
	union value value = { 0 };

	return settle(m, key, from_json(&tr_config_keys[key], json, &value, err), &value,
		      err);
}
