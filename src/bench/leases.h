/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_LEASES_H
#define TR_BENCH_LEASES_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/scene.h"

/* What borrowing and priorities do to a neighbour, as numbers with bounds. */

struct tr_leases {
	uint64_t seed;
	bool is_json, is_quick; /* quick: 40 returns of a neighbour, not 200 */
};

struct tr_leases_sum {
	unsigned rows, missed, failed;
};

/* Measures and tells row by row. */
void tr_leases_run(const struct tr_stage *stage, const struct tr_leases *leases,
		   struct tr_leases_sum *out);

#endif /* TR_BENCH_LEASES_H */
