/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_MODEL_STATES_H
#define TR_MODEL_STATES_H

#include <stdbool.h>
#include <stddef.h>

/* The states a model check has seen and those it has still to visit; each is a block of
 * bytes. */

void states_begin(size_t state_bytes);
/* Puts STATE among those to visit unless it was seen before. */
void states_visit(const void *state);
/* Takes one to visit; false when none is left. */
bool states_next(void *out);
/* Forgets all; returns how many there were. */
size_t states_end(void);

#endif /* TR_MODEL_STATES_H */
