/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CARDS_NODE_CONFIG_H
#define TR_CARDS_NODE_CONFIG_H

#include "deviceplugin/cards/card.h"

/*
 * HAMi's file of settings by node (its plugin reads /config/config.json):
 *   {"nodeconfig": [{"name": "node-a", "devicesplitcount": 10, ...}, ...]}
 * Every entry of this node's name is applied in order. Keys that are not known are passed over; a known
 * one of the wrong type or range is refused, and then nothing is changed. Pure.
 */
struct tr_node_settings {
	struct tr_card_rules *rules;        /* changed where the file says so */
	bool is_prefer_given, is_preferred; /* enablegetpreferredallocation */
	bool is_log_given;
	char log_level[16]; /* libcudaloglevel */
	unsigned entries;   /* of this node */
};

/* TEXT is N bytes. -EBADMSG with the entry and key. */
int tr_node_config_parse(const char *text, size_t n, const char *node,
			 struct tr_node_settings *settings, struct tr_err *err);
/* The same from a file. -ENOENT and others when it cannot be read. */
int tr_node_config_read(const char *path, const char *node,
			struct tr_node_settings *settings, struct tr_err *err);

#endif /* TR_CARDS_NODE_CONFIG_H */
