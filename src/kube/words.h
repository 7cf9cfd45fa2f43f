/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KUBE_WORDS_H
#define TR_KUBE_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The small values of annotations. Pure. */

/* All N bytes are printable ASCII and none is a blank. */
bool tr_word_is_printable(const char *text, size_t n);

/* N decimal digits, nothing else, at most MAX. 0, -EINVAL or -ERANGE. */
int tr_word_number(const char *text, size_t n, uint64_t max, uint64_t *out);

/* A bool as Go reads it: 1 t T TRUE true True, 0 f F FALSE false False. 0 or -EINVAL. */
int tr_word_bool(const char *text, bool *out);

/* The next entry of a comma list at *AT, without the blanks around it; empty ones are passed over.
 * False at the end. Start with *AT at the list. */
bool tr_list_next(const char **at, const char **entry, size_t *n);
/* An entry is exactly WORD. */
bool tr_list_has(const char *list, const char *word);
/* Nothing but blanks and commas: no constraint. */
bool tr_list_is_empty(const char *list);

#endif /* TR_KUBE_WORDS_H */
