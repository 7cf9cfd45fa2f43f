/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <stdbool.h>
#include <stdio.h>

#include "states.h"

/* The property that breaks in one of the settings, or NULL. STATES grows by those visited. */
static const char *explore_all(const struct model *model, unsigned mutation, size_t *states)
{
	for (size_t i = 0; i < model->settings; i++) {
		const char *broken = model->explore(i, mutation);
		size_t seen = states_end();

		*states += seen;
		if (broken)
			return broken;
		if (mutation == 0) {
			model->describe();
			(void)printf(": %zu states, every property holds\n", seen);
		}
	}
	return NULL;
}

int model_check(const struct model *model)
{
	bool failed = false;

	for (unsigned m = 0; m < model->mutations; m++) {
		const char *name = m ? model->mutation_names[m] : "none";
		size_t states = 0;
		const char *broken = explore_all(model, m, &states);

		if (broken)
			(void)printf("%-18s breaks \"%s\" after %zu states\n", name, broken,
				     states);
		else if (m)
			(void)printf("%-18s is NOT caught in %zu states\n", name, states);
		failed |= m ? !broken : broken != NULL;
	}
	return failed ? 1 : 0;
}
