/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_DRIVER_H
#define TR_BENCH_DRIVER_H

#include <cuda.h>

#include "tranche/err.h"

/* The driver as a program of a tenant sees it: opened by name, so that a preloaded limiter and a
 * simulated driver both stand where they would stand for anybody. */
struct tr_driver {
#define TR_DRIVER(symbol) __typeof__(symbol) *symbol;
#include "bench/driver.def"
#undef TR_DRIVER
};

/* Filled by tr_driver_open(); its calls from any thread. */
extern struct tr_driver tr_driver;
int tr_driver_open(struct tr_err *err);

/* PTX of `tranche_loop(u64 n)` and its eight namesakes _0 to _7: n rounds of one dependent
 * chain of arithmetic, so that the time does not depend on the number of blocks. */
extern const char tr_driver_ptx[];
#define TR_DRIVER_LOOPS 8u

#endif /* TR_BENCH_DRIVER_H */
