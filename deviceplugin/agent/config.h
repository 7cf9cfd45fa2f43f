/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_AGENT_CONFIG_H
#define TR_AGENT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "tranche/err.h"

/*
 * The agent's settings: config.def. They come from, what is first wins: the command line, HAMi's
 * environment variables, the file of --config, the nvidia block of HAMi's device-config.yaml, the
 * defaults. Plain data, one owner.
 */

struct tr_config_list {
	char **at;
	size_t count;
};

struct tr_config_numbers {
	unsigned *at;
	size_t count;
};

/* WORDs: their places in the row's list. */
enum tr_identity_way { TR_IDENTITY_CDI, TR_IDENTITY_INFER };
enum tr_unscheduled { TR_UNSCHEDULED_REFUSE, TR_UNSCHEDULED_WHOLE_CARD };
enum tr_bypass_way { TR_BYPASS_WAY_TELL, TR_BYPASS_WAY_LOWER };
/* log_level and log_format are in the order of report/log.h. */

/* Texts and paths are never NULL; "" is none. Those with a default that depends on others (node_name,
 * dev_root, driver_root_seen, control_socket) are filled in. */
struct tr_config {
#define TR_MEMBER_TEXT    char *
#define TR_MEMBER_PATH    char *
#define TR_MEMBER_BOOL    bool
#define TR_MEMBER_WHOLE   unsigned
#define TR_MEMBER_REAL    double
#define TR_MEMBER_WORD    unsigned
#define TR_MEMBER_LIST    struct tr_config_list
#define TR_MEMBER_NUMBERS struct tr_config_numbers
#define TR_GROUP(heading)
#define TR_KEY(kind, name, ...) TR_MEMBER_##kind name;
#include "deviceplugin/agent/config.def"
#undef TR_KEY
#undef TR_GROUP
};

/* What the program was started with besides: not settings. */
struct tr_config_start {
	const char *config; /* --config, or NULL */
	bool is_help, is_version, is_check, is_reference;
};

struct tr_config_inputs {
	int argc;
	char *const *argv; /* argv[0] is passed over */
	char *const *env;  /* "NAME=VALUE", then NULL */
};

/*
 * Reads all of it. NOTES gets a line for each thing that was accepted and means nothing here. -EINVAL
 * with the key's name, and its file and line, for what is wrong or unknown; errors of reading a file.
 * On an error OUT is to be freed too. Where START says help, version or reference nothing else is read.
 */
int tr_config_load(struct tr_config *out, struct tr_config_start *start,
		   const struct tr_config_inputs *inputs, struct tr_buf *notes,
		   struct tr_err *err);
void tr_config_free(struct tr_config *config);

/* Moves what may change while the agent runs from NEW to OLD. NOTES gets a line for each other
 * setting that differs: it needs a restart. */
void tr_config_renew(struct tr_config *old, struct tr_config *new, struct tr_buf *notes);

/* --help, docs/agent-config.md, and the settings as they are. */
void tr_config_print_help(struct tr_buf *out);
void tr_config_print_reference(struct tr_buf *out);
void tr_config_print(const struct tr_config *config, struct tr_buf *out);

#endif /* TR_AGENT_CONFIG_H */
