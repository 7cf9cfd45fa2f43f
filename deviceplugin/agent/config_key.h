/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_AGENT_CONFIG_KEY_H
#define TR_AGENT_CONFIG_KEY_H

#include <jansson.h>
#include <stddef.h>

#include "deviceplugin/agent/config.h"

/* Inside config*.c: the rows of config.def as data, and how one is set. */

enum tr_config_kind {
	TR_KIND_TEXT,
	TR_KIND_PATH,
	TR_KIND_BOOL,
	TR_KIND_WHOLE,
	TR_KIND_REAL,
	TR_KIND_WORD,
	TR_KIND_LIST,
	TR_KIND_NUMBERS,
};

struct tr_config_key {
	enum tr_config_kind kind;
	const char *name, *fallback;
	double min, max; /* of a number's value, of a text's bytes, of a list's entries */
	const char *words, *flags, *env, *hami;
	bool is_live;
	const char *help;
	size_t offset, bytes; /* in struct tr_config */
};

enum tr_config_index {
#define TR_GROUP(heading)
#define TR_KEY(kind, name, ...) TR_INDEX_##name,
#include "deviceplugin/agent/config.def"
#undef TR_KEY
#undef TR_GROUP
	TR_CONFIG_KEYS
};

extern const struct tr_config_key tr_config_keys[TR_CONFIG_KEYS];

/* What is being made: a key that was given stays as it is, a later value of it is only checked. */
struct tr_config_making {
	struct tr_config *config;
	bool is_given[TR_CONFIG_KEYS];
	struct tr_buf *notes;
};

/* The value as it is written on a command line, and as a file has it. -EINVAL: "NAME: ..." */
int tr_config_set_text(struct tr_config_making *m, size_t key, const char *text,
		       struct tr_err *err);
int tr_config_set_json(struct tr_config_making *m, size_t key, const json_t *value,
		       struct tr_err *err);
/* Puts the value as a file may have it. */
void tr_config_print_value(const struct tr_config *config, size_t key, struct tr_buf *out);
void tr_config_free_value(struct tr_config *config, size_t key);

/* WORD of N bytes stands in LIST, whose entries are parted by BY. The place, or -1. */
int tr_config_place(const char *list, char by, const char *word, size_t n);

/* The three places they come from. */
int tr_config_read_words(struct tr_config_making *m, struct tr_config_start *start,
			 const struct tr_config_inputs *inputs, struct tr_err *err);
int tr_config_read_env(struct tr_config_making *m, char *const *env, struct tr_err *err);
/* WHERE is the file's name, for sentences. Pure. */
int tr_config_read_file(struct tr_config_making *m, const char *where, const char *text,
			size_t n, struct tr_err *err);
int tr_config_read_hami(struct tr_config_making *m, const char *where, const char *text,
			size_t n, struct tr_err *err);
/* After all of them: defaults, those that depend on others, what must fit together. */
int tr_config_finish(struct tr_config_making *m, struct tr_err *err);

#endif /* TR_AGENT_CONFIG_KEY_H */
