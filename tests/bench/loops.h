/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_LOOPS_H
#define TR_BENCH_LOOPS_H

#include <stdint.h>

/* One measured loop: what has to be there before, and the calls themselves, N times. Both
 * end the process with a sentence when a call fails. */
struct bench_loop {
	const char *name;
	void (*prepare)(void);
	void (*run)(unsigned long n);
};

/* The loop NAME; ends the process where there is none. */
const struct bench_loop *bench_loop_find(const char *name);

/* The driver's start and a current context on device 0; for further threads only the
 * latter. */
void bench_driver_start(void);
void bench_driver_join(void);
/* So many allocations of 512 B that stay. */
void bench_live_make(unsigned long n);
/* "GPU-..." of device 0. */
void bench_uuid_print(void);

uint64_t bench_now_ns(void);
_Noreturn void bench_fail(const char *what, int code);

#endif /* TR_BENCH_LOOPS_H */
