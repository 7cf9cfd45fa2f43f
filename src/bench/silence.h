/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_SILENCE_H
#define TR_BENCH_SILENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/*
 * How long to wait for a simulated machine that says nothing. A computer may have no processor for it, for a
 * minute and more; so time counts in which all of its threads sleep, and only much more of any.
 */
struct tr_silence {
	uint64_t asleep_ms, all_ms;
};
/* MS more have passed. True: there is nothing to wait for any more. */
bool tr_silence_is_over(struct tr_silence *s, unsigned ms, bool is_runnable);

/* Threads of the processes that have NAME in their environment or command line, but the calling one, that are on a
 * processor or wait for one. OUT, which may be NULL: a line for each thread, what it does. */
unsigned tr_runnable_threads(const char *name, FILE *out);

#endif /* TR_BENCH_SILENCE_H */
