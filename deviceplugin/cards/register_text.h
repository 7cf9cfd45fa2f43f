/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_CARDS_REGISTER_TEXT_H
#define TR_CARDS_REGISTER_TEXT_H

#include <jansson.h>

#include "deviceplugin/cards/register.h"

/* What a node should say of its cards, against what it does say. Pure. */

unsigned tr_register_healthy(const struct tr_cards *cards);

struct tr_register_names {
	const char *mem, *cores; /* resources */
};
/* A patch of NODE's status, or NULL: it says all of it. NAMES NULL: no capacity. */
json_t *tr_register_status_change(const json_t *node, const struct tr_cards *cards,
				  const struct tr_register_names *names, int64_t unix_s);

#endif /* TR_CARDS_REGISTER_TEXT_H */
