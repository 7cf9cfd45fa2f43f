/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_TEST_DRIVER_H
#define TR_TEST_DRIVER_H

#include <stdint.h>

#include "hook.h"

/*
 * A driver for many threads, under the whole hook but its loader door: contexts with handles
 * that are reused at once, pointers, objects, one pool. It only counts. The process is
 * attached as any other, by cuInit, to a page and a state file of its own.
 */
struct driver {
	/* Run inside the call, after it has taken effect and without any lock. */
	void (*in_alloc)(void);
	void (*in_create)(void);
	void (*in_destroy)(void); /* of a context, or the end of the primary one */
	void (*before_destroy)(void);
};
extern struct driver driver;

#define DRIVER_FLOOR_BYTES (UINT64_C(64) << 20) /* of a context, in the page */

void driver_start(uint64_t limit_bytes);
void driver_end(void);

/* What the driver holds in pointers, objects and the pool's reserve. */
uint64_t driver_live_bytes(void);
unsigned driver_contexts(void);
/* What the process is charged. */
uint64_t driver_used_bytes(void);
uint64_t driver_floor_bytes(void);

#endif /* TR_TEST_DRIVER_H */
