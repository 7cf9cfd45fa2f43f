/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_INJECT_PROBE_H
#define TR_INJECT_PROBE_H

#include <stdbool.h>

#include "tranche/err.h"

/*
 * Would every program of a container fail because of this library? A preloaded object that the loader does not
 * like is a complaint on each command; one that is cut short or lacks a dependency ends each of them.
 *
 * Two looks: at the file, which says what loaders older than ours would say (image.h), and with a
 * program that is started with it preloaded and says that it is there.
 */

/*
 * CALLED: LIBRARY's name in sentences; NULL: its own. PROGRAM: who is started, with TR_PROBE_WORD as its one argument, and calls tr_probe_answer() first; NULL: this
 * program once more, which must not be built with sanitizers. Waits TIMEOUT_MS at most, then ends it.
 * 0; -EBADMSG the library is not fit; -EACCES not everybody may read it; -ETIMEDOUT; else it could not be read or the
 * program not be started. ERR has the loader's own words. Starts a process and waits: before the loop
 * runs, or in a thread.
 */
int tr_probe(const char *library, const char *called, const char *program,
	     unsigned timeout_ms, struct tr_err *err);

/* In main(), before anything else: true when this process was started as a probe; *STATUS is then
 * what main() has to return. */
#define TR_PROBE_WORD "--probe-preloaded"
bool tr_probe_answer(int argc, char **argv, int *status);

#endif /* TR_INJECT_PROBE_H */
