/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RM_PROCESS_H
#define SIM_RM_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What the computer says of a process, and how long to wait for one. */

/* The letter of a thread's state in /proc, 'X' when there is none; its processor time and parent
 * where they are asked for. */
char rm_state_of(pid_t pid, int tid, uint64_t *cpu_ticks, pid_t *parent);
/* Neither on a processor nor waiting for one; nor is one that is not there. */
bool rm_is_asleep(char state);

/*
 * Waiting for a process by real time, on a computer that may have no processor for it, for minutes even: only
 * the time counts in which it slept, between looks of somebody who had a processor himself.
 */
struct rm_patience {
	uint64_t asleep_ns; /* in all */
	uint64_t row_ns;    /* ... without a break */
};
/* It was STATE, GONE_NS after the last look. */
void rm_patience_look(struct rm_patience *p, char state, uint64_t gone_ns);

#endif /* SIM_RM_PROCESS_H */
