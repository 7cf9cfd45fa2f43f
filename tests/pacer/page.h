/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_PACER_PAGE_H
#define TESTS_PACER_PAGE_H

#include <stdatomic.h>
#include <stdint.h>

/* What a tenant and the test that started it tell each other while it runs: a file that both map. */
#define PAGE_WORKERS 8u
#define PAGE_DEVICES 2u

struct page_worker { /* a process, or a thread of the first one */
	_Atomic int32_t pid;
	_Atomic uint32_t is_ready;
	_Atomic uint32_t error; /* what the driver answered; the worker has ended */
	char what[60];
	/* Calls that submit, all since the last `epoch`: how many, the longest, their sum, and since
	 * when the present one lasts. CLOCK_MONOTONIC. */
	_Atomic uint64_t launches, longest_ns, sum_ns, inside_ns;
	_Atomic uint64_t device_launches[PAGE_DEVICES]; /* for ever */
	_Atomic uint64_t rounds; /* of what the workload does again and again */
};

struct page {
	_Atomic uint32_t is_paused;
	_Atomic uint32_t epoch;
	_Atomic uint32_t order; /* of the workload: see there */
	struct page_worker workers[PAGE_WORKERS];
};

#endif /* TESTS_PACER_PAGE_H */
