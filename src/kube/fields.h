/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_FIELDS_H
#define TR_KUBE_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "tranche/err.h"

/* Fields of an annotation that is JSON: absent is zero, of another type is an error that names it. */

/* An array or object of at most TR_ANNOTATION_MAX bytes; no key twice. -EBADMSG. */
int tr_json_parse(const char *text, json_t **out, struct tr_err *err);
/* Adds VALUE's compact text to OUT and lets it go. -EINVAL when VALUE is NULL: what it was to be made
 * of was not UTF-8. */
int tr_json_print(json_t *value, struct tr_buf *out);

struct tr_fields {
	const json_t *object;
	const char *what; /* for the sentence: "device 3" */
	struct tr_err *err;
	int r; /* the first error; then nothing is read any more */
};

/* MIN <= value <= MAX. */
int64_t tr_field_number(struct tr_fields *f, const char *key, int64_t min, int64_t max);
/* Printable-or-UTF-8 text of at most MAX bytes; "" when absent. Not empty when MUST. */
const char *tr_field_text(struct tr_fields *f, const char *key, size_t max, bool must);
bool tr_field_bool(struct tr_fields *f, const char *key);
/* NULL when absent. */
const json_t *tr_field_array(struct tr_fields *f, const char *key, size_t max);
const json_t *tr_field_object(struct tr_fields *f, const char *key);
bool tr_field_is_given(const struct tr_fields *f, const char *key);

#endif /* TR_KUBE_FIELDS_H */
