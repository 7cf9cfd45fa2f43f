/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/agent/config_key.h"
#include "kube/words.h"

/* Settings from the command line and from HAMi's environment. */

struct foreign {
	const char *flags, *env, *harmless;
	bool is_refused;
	const char *why;
};

static const struct foreign foreigns[] = {
#define TR_FOREIGN(...) { __VA_ARGS__ },
#define TR_FOREIGN_KEY(key)
#include "deviceplugin/agent/config_hami.def"
#undef TR_FOREIGN
#undef TR_FOREIGN_KEY
};

#define FOREIGNS (sizeof(foreigns) / sizeof(*foreigns))

/* HAMi's that say one of our settings in other words. */
static const struct translated {
	const char *flag, *env;
	size_t key;
} translations[] = {
	{ "kubelet-socket", "KUBELET_SOCKET", TR_INDEX_kubelet_dir },
	{ "", "HOOK_PATH", TR_INDEX_lib_dir },
	{ "v", "", TR_INDEX_log_level },
};

#define TRANSLATIONS (sizeof(translations) / sizeof(*translations))

/* NAME before the sentence of an error. */
static int told(int r, const char *name, struct tr_err *err)
{
	return r < 0 ? tr_wrap(err, r, "%s", name) : 0;
}

static int set_translated(struct tr_config_making *m, const struct translated *t,
			  const char *text, struct tr_err *err)
{
	static const char socket[] = "/kubelet.sock";
	tr_autofree char *value = NULL;
	uint64_t level;

	if (t->key == TR_INDEX_lib_dir) {
		value = tr_xprintf("%s/tranche", text);
	} else if (t->key == TR_INDEX_log_level) {
		if (tr_word_number(text, strlen(text), 99, &level) < 0)
			return tr_fail(err, EINVAL, "\"%.64s\" is no level", text);
		value = tr_xstrdup(level >= 4 ? "debug" : "info");
	} else {
		size_t n = strlen(text);

		if (n < sizeof(socket) ||
		    strcmp(text + n + 1 - sizeof(socket), socket) != 0)
			return tr_fail(
				err, EINVAL,
				"\"%.200s\" is no path of a kubelet.sock: an agent that "
				"does not register is of no use",
				text);
		value = tr_xstrndup(text, n + 1 - sizeof(socket));
	}
	return tr_config_set_text(m, t->key, value, err);
}

/* NAME is "--flag" or "VARIABLE". */
static int set_foreign(struct tr_config_making *m, const struct foreign *f,
		       const char *name, const char *text, struct tr_err *err)
{
	bool flag, is_harmless = tr_config_place(f->harmless, '|', text, strlen(text)) >= 0;

	if (tr_word_bool(text, &flag) == 0 && !flag &&
	    tr_config_place(f->harmless, '|', "false", 5) >= 0)
		is_harmless = true;
	if (is_harmless)
		return 0;
	if (f->is_refused)
		return tr_fail(err, EINVAL, "%s: \"%.64s\" cannot be done: %s", name, text,
			       f->why);
	tr_buf_print(m->notes, "%s means nothing here: %s\n", name, f->why);
	return 0;
}

/* The key whose own flag or HAMi's name is the N bytes at FLAG, or TR_CONFIG_KEYS. */
static size_t key_of_flag(const char *flag, size_t n)
{
	tr_autofree char *name = tr_xstrndup(flag, n);

	for (char *at = name; *at; at++)
		if (*at == '-')
			*at = '_';
		else if (*at == '_')
			return TR_CONFIG_KEYS; /* a flag has dashes */
	for (size_t k = 0; k < TR_CONFIG_KEYS; k++)
		if (strcmp(tr_config_keys[k].name, name) == 0 ||
		    tr_config_place(tr_config_keys[k].flags, ' ', flag, n) >= 0)
			return k;
	return TR_CONFIG_KEYS;
}

static bool is_bool_flag(const char *flag, size_t n)
{
	size_t key = key_of_flag(flag, n);

	if (key < TR_CONFIG_KEYS)
		return tr_config_keys[key].kind == TR_KIND_BOOL;
	for (size_t i = 0; i < FOREIGNS; i++)
		if (tr_config_place(foreigns[i].flags, ' ', flag, n) >= 0)
			return tr_config_place(foreigns[i].harmless, '|', "false", 5) >=
				       0 ||
			       strcmp(foreigns[i].flags, "fail-on-init-error") == 0;
	return false;
}

/* Of ours, or of HAMi's; "--config" too. */
static bool is_flag(const char *flag)
{
	size_t n = strlen(flag);

	if (strcmp(flag, "config") == 0 || key_of_flag(flag, n) < TR_CONFIG_KEYS)
		return true;
	for (size_t i = 0; i < TRANSLATIONS; i++)
		if (tr_config_place(translations[i].flag, ' ', flag, n) >= 0)
			return true;
	for (size_t i = 0; i < FOREIGNS; i++)
		if (tr_config_place(foreigns[i].flags, ' ', flag, n) >= 0)
			return true;
	return false;
}

/* WORD is "--flag" or "--flag=value". */
static int set_flag(struct tr_config_making *m, struct tr_config_start *start,
		    const char *word, const char *value, struct tr_err *err)
{
	const char *flag = word + 2;
	size_t n = strcspn(flag, "="), key = key_of_flag(flag, n);
	tr_autofree char *name = tr_xstrndup(word, n + 2);

	if (strcmp(name, "--config") == 0) {
		if (start->config)
			return tr_fail(err, EINVAL, "--config is given twice");
		start->config = value;
		return 0;
	}
	if (key < TR_CONFIG_KEYS) {
		if (m->is_given[key])
			return tr_fail(err, EINVAL, "%s: %s is given twice", name,
				       tr_config_keys[key].name);
		return told(tr_config_set_text(m, key, value, err), name, err);
	}
	for (size_t i = 0; i < TRANSLATIONS; i++)
		if (tr_config_place(translations[i].flag, ' ', flag, n) >= 0)
			return told(set_translated(m, &translations[i], value, err), name,
				    err);
	for (size_t i = 0; i < FOREIGNS; i++)
		if (tr_config_place(foreigns[i].flags, ' ', flag, n) >= 0)
			return set_foreign(m, &foreigns[i], name, value, err);
	return tr_fail(err, EINVAL, "\"%.64s\" is no option; see tranched --help", name);
}

/* Words that say what to do instead of running. */
static bool take_mode(struct tr_config_start *start, const char *word)
{
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		start->is_help = true;
	else if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0)
		start->is_version = true;
	else if (strcmp(word, "--config-reference") == 0)
		start->is_reference = true;
	else if (strcmp(word, "--check") == 0)
		start->is_check = true;
	else
		return false;
	return true;
}

int tr_config_read_words(struct tr_config_making *m, struct tr_config_start *start,
			 const struct tr_config_inputs *inputs, struct tr_err *err)
{
	for (int i = 1; i < inputs->argc; i++) {
		const char *word = inputs->argv[i], *value = strchr(word, '=');
		int r;

		if (take_mode(start, word))
			continue;
		if (strncmp(word, "--", 2) != 0 || !word[2] ||
		    (!value && !is_flag(word + 2)))
			return tr_fail(err, EINVAL,
				       "\"%.64s\" is no option; see tranched --help", word);
		if (value)
			value++;
		else if (is_bool_flag(word + 2, strlen(word + 2)))
			value = "true";
		else if (i + 1 < inputs->argc && strncmp(inputs->argv[i + 1], "--", 2) != 0)
			value = inputs->argv[++i];
		else
			return tr_fail(err, EINVAL, "%.64s needs a value", word);
		r = set_flag(m, start, word, value, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The value of the variable that is the N bytes at NAME; NULL: not set, or empty. */
static const char *find_env(char *const *env, const char *name, size_t n)
{
	for (; *env; env++)
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return (*env)[n + 1] ? *env + n + 1 : NULL;
	return NULL;
}

/* Calls for each of NAMES that is set until one errs. */
struct visit {
	struct tr_config_making *m;
	size_t key;
	const struct translated *translated;
	const struct foreign *foreign;
};

static int visit_env(const struct visit *v, const char *names, char *const *env,
		     struct tr_err *err)
{
	while (*names) {
		size_t n = strcspn(names, " ");
		const char *value = find_env(env, names, n);
		tr_autofree char *name = tr_xstrndup(names, n);
		int r = 0;

		if (value && v->foreign)
			r = set_foreign(v->m, v->foreign, name, value, err);
		else if (value && v->translated)
			r = told(set_translated(v->m, v->translated, value, err), name,
				 err);
		else if (value)
			r = told(tr_config_set_text(v->m, v->key, value, err), name, err);
		if (r < 0)
			return r;
		names += n + (names[n] ? 1 : 0);
	}
	return 0;
}

int tr_config_read_env(struct tr_config_making *m, char *const *env, struct tr_err *err)
{
	struct visit v = { .m = m };
	int r = 0;

	for (v.key = 0; r == 0 && v.key < TR_CONFIG_KEYS; v.key++)
		r = visit_env(&v, tr_config_keys[v.key].env, env, err);
	for (size_t i = 0; r == 0 && i < TRANSLATIONS; i++) {
		v.translated = &translations[i];
		r = visit_env(&v, translations[i].env, env, err);
	}
	for (size_t i = 0; r == 0 && i < FOREIGNS; i++) {
		v.foreign = &foreigns[i];
		r = visit_env(&v, foreigns[i].env, env, err);
	}
	return r;
}
