/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_MODEL_MODEL_H
#define TR_MODEL_MODEL_H

#include <stddef.h>

/* A protocol that is checked in several settings, and then with one step of it left out or moved:
 * each such mutation must break a property in one of them. Mutation 0 is the protocol itself. */
struct model {
	size_t settings;
	unsigned mutations;
	const char *const *mutation_names; /* from 1 */
	/* Visits all states (states.h) of a setting. The property that breaks, or NULL. */
	const char *(*explore)(size_t setting, unsigned mutation);
	/* Prints, in a few words, the setting that was explored last. */
	void (*describe)(void);
};

/* Prints what was found; 0 when the protocol holds and every mutation is caught, as a program's
 * exit status. */
int model_check(const struct model *model);

#endif /* TR_MODEL_MODEL_H */
