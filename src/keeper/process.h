/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_KEEPER_PROCESS_H
#define TR_KEEPER_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

/* What names a process of this machine beyond its pid, from /proc. */
struct tr_process_name {
	uint64_t start_ticks; /* field 22 of stat */
	pid_t inner_pid;      /* in its own (innermost) pid namespace: last of NSpid */
};

/* 0, or -errno (-ESRCH: gone). */
int tr_process_name(pid_t pid, struct tr_process_name *out);

#endif /* TR_KEEPER_PROCESS_H */
