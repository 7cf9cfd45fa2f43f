/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/mem.h"
#include "deviceplugin/agent/config_key.h"

/* Help and reference of the settings, and their values. */

/* Every row of the table in order, headings among them. */
static const struct row {
	const char *heading; /* or NULL */
	enum tr_config_index key;
} rows[] = {
#define TR_GROUP(heading)       { heading, TR_CONFIG_KEYS },
#define TR_KEY(kind, name, ...) { NULL, TR_INDEX_##name },
#include "deviceplugin/agent/config.def"
#undef TR_KEY
#undef TR_GROUP
};

#define ROWS (sizeof(rows) / sizeof(*rows))

static const char *const kinds[] = {
	[TR_KIND_TEXT] = "text",   [TR_KIND_PATH] = "path",
	[TR_KIND_BOOL] = "bool",   [TR_KIND_WHOLE] = "integer",
	[TR_KIND_REAL] = "number", [TR_KIND_WORD] = "word",
	[TR_KIND_LIST] = "list",   [TR_KIND_NUMBERS] = "list of integers",
};

static const void *member(const struct tr_config *config, size_t key)
{
	return (const char *)config + tr_config_keys[key].offset;
}

/* In double quotes, as YAML and JSON have it. */
static void print_text(const char *text, struct tr_buf *out)
{
	tr_buf_text(out, "\"");
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			tr_buf_text(out, "\\");
		tr_buf_add(out, text, 1);
	}
	tr_buf_text(out, "\"");
}

static void print_word(const char *words, unsigned place, struct tr_buf *out)
{
	while (place-- && *words)
		words += strcspn(words, "|") + 1;
	tr_buf_add(out, words, strcspn(words, "|"));
}

static void print_list(const struct tr_config_list *list, struct tr_buf *out)
{
	tr_buf_text(out, "[");
	for (size_t i = 0; i < list->count; i++) {
		tr_buf_text(out, i ? ", " : "");
		print_text(list->at[i], out);
	}
	tr_buf_text(out, "]");
}

static void print_numbers(const struct tr_config_numbers *list, struct tr_buf *out)
{
	tr_buf_text(out, "[");
	for (size_t i = 0; i < list->count; i++)
		tr_buf_print(out, "%s%u", i ? ", " : "", list->at[i]);
	tr_buf_text(out, "]");
}

void tr_config_print_value(const struct tr_config *config, size_t key, struct tr_buf *out)
{
	const struct tr_config_key *k = &tr_config_keys[key];
	const void *at = member(config, key);
	const char *text;

	switch (k->kind) {
	case TR_KIND_TEXT:
	case TR_KIND_PATH:
		text = *(char *const *)at;
		print_text(text ? text : "", out);
		break;
	case TR_KIND_BOOL:
		tr_buf_text(out, *(const bool *)at ? "true" : "false");
		break;
	case TR_KIND_WHOLE:
		tr_buf_print(out, "%u", *(const unsigned *)at);
		break;
	case TR_KIND_REAL:
		tr_buf_print(out, "%.10g", *(const double *)at);
		break;
	case TR_KIND_WORD:
		print_word(k->words, *(const unsigned *)at, out);
		break;
	case TR_KIND_LIST:
		print_list(at, out);
		break;
	case TR_KIND_NUMBERS:
		print_numbers(at, out);
		break;
	}
}

void tr_config_print(const struct tr_config *config, struct tr_buf *out)
{
	for (size_t k = 0; k < TR_CONFIG_KEYS; k++) {
		tr_buf_print(out, "%s: ", tr_config_keys[k].name);
		tr_config_print_value(config, k, out);
		tr_buf_text(out, "\n");
	}
}

/* What a value may be: "1 to 1000", "a|b", or the kind's name. */
static void print_range(const struct tr_config_key *k, struct tr_buf *out)
{
	if (k->kind == TR_KIND_WORD)
		tr_buf_text(out, k->words);
	else if (k->kind == TR_KIND_WHOLE || k->kind == TR_KIND_REAL)
		tr_buf_print(out, "%s, %.10g to %.10g", kinds[k->kind], k->min, k->max);
	else
		tr_buf_text(out, kinds[k->kind]);
}

/* TEXT in lines of 78 columns, each after 8 blanks. */
static void print_wrapped(const char *text, struct tr_buf *out)
{
	size_t column = 0;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (column && column + 1 + n > 70) {
			tr_buf_text(out, "\n");
			column = 0;
		}
		tr_buf_print(out, "%s%.*s", column ? " " : "        ", (int)n, text);
		column += n + 1;
		text += n + strspn(text + n, " ");
	}
	tr_buf_text(out, "\n");
}

static void print_flag(const char *name, struct tr_buf *out)
{
	tr_buf_text(out, "--");
	for (; *name; name++)
		tr_buf_add(out, *name == '_' ? "-" : name, 1);
}

void tr_config_print_help(struct tr_buf *out)
{
	tr_buf_text(
		out,
		"tranched [--config FILE] [--SETTING VALUE]...\n\n"
		"The node agent: offers slices of this node's GPUs to the kubelet, and "
		"makes\n"
		"and keeps those that containers are given. Settings stand in FILE (YAML), "
		"with\n"
		"'_' where a flag has '-'; the command line comes before HAMi's "
		"environment\n"
		"variables, those before FILE, FILE before HAMi's device-config.yaml.\n\n"
		"  --config FILE\n"
		"        the settings\n"
		"  --check\n"
		"        read them, print them as they come out, and end\n"
		"  --version\n");
	for (size_t i = 0; i < ROWS; i++) {
		const struct tr_config_key *k;

		if (rows[i].heading) {
			tr_buf_print(out, "\n%s\n", rows[i].heading);
			continue;
		}
		k = &tr_config_keys[rows[i].key];
		tr_buf_text(out, "  ");
		print_flag(k->name, out);
		tr_buf_text(out, " (");
		print_range(k, out);
		tr_buf_print(out, "%s%s)\n", *k->fallback ? ", default " : "", k->fallback);
		print_wrapped(k->help, out);
	}
	tr_buf_text(
		out,
		"\nSIGHUP reads again what may change. SIGTERM and SIGINT end it; slices "
		"stay.\n");
}

/* NAMES, parted by blanks, as code; BEFORE precedes each. */
static void print_names(const char *names, const char *before, bool *has_any,
			struct tr_buf *out)
{
	while (*names) {
		size_t n = strcspn(names, " ");

		tr_buf_print(out, "%s`%s%.*s`", *has_any ? ", " : "", before, (int)n,
			     names);
		*has_any = true;
		names += n + strspn(names + n, " ");
	}
}

/* '|' parts the cells of a table. */
static void print_cell(const char *text, struct tr_buf *out)
{
	for (; *text; text++)
		if (*text == '|')
			tr_buf_text(out, " \\| ");
		else
			tr_buf_add(out, text, 1);
}

static void print_reference_row(const struct tr_config_key *k, struct tr_buf *out)
{
	tr_auto_buf struct tr_buf range = { 0 };
	bool has_any = false;

	print_range(k, &range);
	tr_buf_print(out, "| `%s` | ", k->name);
	print_cell(range.p, out);
	tr_buf_print(out, *k->fallback ? " | `%s` | " : " | %s | ", k->fallback);
	print_names(k->flags, "--", &has_any, out);
	print_names(k->env, "", &has_any, out);
	print_names(k->hami, "nvidia.", &has_any, out);
	tr_buf_print(out, " | %s | ", k->is_live ? "yes" : "no");
	print_cell(k->help, out);
	tr_buf_text(out, " |\n");
}

static void print_foreign(struct tr_buf *out)
{
	static const struct {
		const char *flags, *env, *harmless;
		bool is_refused;
		const char *why;
	} foreigns[] = {
#define TR_FOREIGN(...) { __VA_ARGS__ },
#define TR_FOREIGN_KEY(key)
#include "deviceplugin/agent/config_hami.def"
#undef TR_FOREIGN
#undef TR_FOREIGN_KEY
	};

	tr_buf_text(
		out,
		"\n## HAMi's that mean nothing here\n\n"
		"A value other than the harmless ones is noted in the log, or refused.\n\n"
		"| Name | Harmless | Else | Why |\n|---|---|---|---|\n");
	for (size_t i = 0; i < sizeof(foreigns) / sizeof(*foreigns); i++) {
		bool has_any = false;

		tr_buf_text(out, "| ");
		print_names(foreigns[i].flags, "--", &has_any, out);
		print_names(foreigns[i].env, "", &has_any, out);
		tr_buf_text(out, " | ");
		print_cell(foreigns[i].harmless, out);
		tr_buf_print(out, " | %s | %s |\n",
			     foreigns[i].is_refused ? "refused" : "noted", foreigns[i].why);
	}
}

void tr_config_print_reference(struct tr_buf *out)
{
	tr_buf_text(
		out,
		"# Settings of the node agent\n\n"
		"Generated by `scripts/docs.py` from `deviceplugin/agent/config.def`.\n\n"
		"`tranched --config FILE` reads them from YAML, one key a line. Each is a "
		"flag too, with `-` "
		"for `_`. HAMi's\nnames are flags, environment variables, and keys of the "
		"block `nvidia` of its "
		"device-config.yaml\n(`device_config`). What comes first wins: flags, "
		"environment, FILE, "
		"device-config.yaml, default.\nA key of FILE that is not listed here is "
		"refused with its line. "
		"`tranched --config FILE --check`\nprints what comes out.\n\n"
		"On SIGHUP all of it is read again. *Live* ones take effect then. Of each "
		"other that has changed the log says that it\nneeds a restart "
		"(`event=settings`), of what `node_config` says too; until then it is as "
		"it was. With a mistake in FILE\nnothing is taken "
		"(`event=settings_refused`).\n");
	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].heading)
			tr_buf_print(out,
				     "\n## %s\n\n| Key | Value | Default | HAMi's names | "
				     "Live | What |\n"
				     "|---|---|---|---|---|---|\n",
				     rows[i].heading);
		else
			print_reference_row(&tr_config_keys[rows[i].key], out);
	tr_buf_text(out, "\n## HAMi's in other words\n\n| Name | Sets |\n|---|---|\n"
			 "| `--kubelet-socket`, `KUBELET_SOCKET` | `kubelet_dir`, the "
			 "directory it is in |\n"
			 "| `HOOK_PATH` | `lib_dir` to `HOOK_PATH/tranche` |\n"
			 "| `--v` | `log_level`: debug from 4 on, else info |\n"
			 "| `nvidia.gpuCorePolicy: disable` | `disable_core_limit` |\n");
	print_foreign(out);
}
