/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BASE_YAML_H
#define TR_BASE_YAML_H

#include <jansson.h>
#include <stddef.h>

#include "tranche/err.h"

/*
 * One document of YAML (of which JSON is a part) as jansson values. Plain scalars are null, bool,
 * integer or real as YAML 1.2's core schema says (a decimal integer beyond 64 bits is a real);
 * quoted ones are text. Refused: anchors and aliases, tags, keys that are not text, a key twice,
 * more than one document, nesting deeper than 64, text that is not UTF-8 or holds a NUL. An empty
 * document is null.
 *
 * 0 or -EBADMSG with the line. The value is the caller's. Pure.
 */
int tr_yaml_parse(const char *text, size_t n, json_t **out, struct tr_err *err);

#endif /* TR_BASE_YAML_H */
