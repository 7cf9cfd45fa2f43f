/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_WATCH_H
#define TR_BENCH_WATCH_H

#include "bench/scene.h"

/* Fills SERIES with samples of the whole scene, one each step. */

/* From the lines that `sim-watch` writes into FD: one object each step, `now_ns` and
 * `processes`: [{"device", "pid", "busy_ns"}]. Pids are known by the end, from the pages. MACHINE: its
 * folder; -ETIMEDOUT when it stands still (bench/silence.h). */
int tr_watch_simulator(int fd, const char *machine, const struct tr_scene *scene,
		       struct tr_series *series, struct tr_err *err);
/* By this machine's clock, from what its GPU has written. */
int tr_watch_pages(const struct tr_scene *scene, struct tr_series *series,
		   struct tr_err *err);

#endif /* TR_BENCH_WATCH_H */
