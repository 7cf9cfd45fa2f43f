/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_TEST_FAKE_H
#define TR_TEST_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "hook.h"

/*
 * What the memory half of the hook stands on, for tests that hold it in their hand: a
 * driver that only counts, and a process that is attached to a state file of its own.
 * Addresses are reused as soon as they are free, as a driver may.
 */
struct fake {
	uint64_t limit_bytes;
	unsigned calls;   /* of the driver's functions that can fail */
	unsigned fail_at; /* the number of the one that does; 0: none */
	CUresult fail_with;
	int device_errors; /* what tr_device_of says: a CUresult */
	bool asks_arrays;  /* the driver tells what arrays need */
	bool tells_pools;  /* ... and what pools hold in reserve */
	CUcontext ctx;
	void (*after_free)(void); /* another thread, as early as one can be */
};
extern struct fake fake;

void fake_start(void); /* fresh driver, fresh state file */
void fake_end(void);

/* What the driver holds: pointers, arrays, objects and pool reserves, each as the ledger
 * rounds. */
uint64_t fake_live_bytes(void);
/* What the process is charged. */
uint64_t fake_used_bytes(void);
/* Everything that lives in the driver's context goes, without a word to the hook. */
void fake_drop_context(void);

#endif /* TR_TEST_FAKE_H */
