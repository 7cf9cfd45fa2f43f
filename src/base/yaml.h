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

/* Where the keys of a document stand, for sentences about their values. Zeroed is empty; it is of use as
 * long as the document lives. */
struct tr_yaml_key {
	const json_t *object; /* that has the key */
	const char *key;      /* the document's */
	size_t line;          /* from 1 */
};

struct tr_yaml_lines {
	struct tr_yaml_key *at;
	size_t count, room;
};

/* The same, and LINES of all keys. On an error LINES is empty. */
int tr_yaml_parse_lines(const char *text, size_t n, json_t **out,
			struct tr_yaml_lines *lines, struct tr_err *err);
/* 0: OBJECT has no such key. */
size_t tr_yaml_line(const struct tr_yaml_lines *lines, const json_t *object,
		    const char *key);
void tr_yaml_lines_free(struct tr_yaml_lines *lines);

#endif /* TR_BASE_YAML_H */
