/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_KERNEL_CTL_H
#define SIM_KERNEL_CTL_H

#include <stdbool.h>

#include "rm/inspect.h"
#include "rm/rm.h"

/* Inside sim-ctl: what a command that only looks was asked for. */
struct ctl_look {
	bool as_json, each_object;
	int pid; /* 0: all */
};

/* The function of command NAME, or NULL. Each returns an exit status. */
typedef int (*ctl_command)(const struct ctl_look *look);
ctl_command ctl_find(const char *name);

/* Prints why and returns the exit status. */
int ctl_fail(int r);

/* TEXT as a JSON string, quotes included. */
void ctl_json_text(const char *text);

/* Every connection; the caller frees *CLIENTS, also after an error. */
int ctl_clients(struct rm_client **clients, size_t *n);
/* Is row AT the one by which its process is shown? PID: only that one is asked for; 0: any. */
bool ctl_is_shown(const struct rm_client *clients, size_t at, int pid);

int ctl_busy(const struct ctl_look *look);
int ctl_live(const struct ctl_look *look);
int ctl_phys(const struct ctl_look *look);

#endif /* SIM_KERNEL_CTL_H */
