/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_KERNEL_ENGINE_MEMORY_H
#define SIM_KERNEL_ENGINE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Where the engine's things lie: with libc's malloc(), or in a range that several processes have at the
 * same address, so that each of them can run the engine, one at a time. */

#define ENGINE_MEMORY_SIZES 48u

struct engine_memory {
	char *next, *end;                 /* what was never used: it is zero */
	void *freed[ENGINE_MEMORY_SIZES]; /* by the power of two */
};

/* The range from NEXT to END, which must be aligned for everything; M lies anywhere that is shared. */
void engine_memory_init(struct engine_memory *m, void *next, void *end);
/* From now on in this process; NULL: libc's. */
void engine_memory_use(struct engine_memory *m);

void *engine_alloc(size_t count, size_t size); /* zeroed; or NULL */
void *engine_regrow(void *p, size_t count, size_t size);
void engine_release(void *p);

#endif /* SIM_KERNEL_ENGINE_MEMORY_H */
